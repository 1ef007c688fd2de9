package runner

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

const (
	// cgroupDir is made below the agent's own cgroup, so that what systemd
	// has delegated to the unit is enough. Each run has a directory in it.
	cgroupDir = "legion-cron"
	// releasedDir is where processes go that outlived their run in peace.
	releasedDir = "released"
)

// A cgroupRoot is a directory of the cgroup v2 tree in which we may make cgroups.
type cgroupRoot struct{ dir string }

// findCgroupRoot finds and proves it: a directory was made in it.
func findCgroupRoot() (*cgroupRoot, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	own, err := ownCgroup(mounts, self)
	if err != nil {
		return nil, err
	}
	// An agent that was itself started by a run sits in that run's cgroup, and
	// would die with it. It moves up to where its ancestor lives.
	if above, _, inside := strings.Cut(own+"/", "/"+cgroupDir+"/"); inside {
		if err := writeFile(filepath.Join(above, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
			return nil, err
		}
		own = above
	}
	root := &cgroupRoot{dir: filepath.Join(own, cgroupDir)}
	if err := root.lay(); err != nil {
		return nil, err
	}
	return root, nil
}

// lay makes the root, and clear removes it again, if nothing lives in it: an
// agent leaves nothing behind, and may share its root with another.
func (r *cgroupRoot) lay() error { return os.MkdirAll(filepath.Join(r.dir, releasedDir), 0o755) }

func (r *cgroupRoot) clear() {
	if os.Remove(filepath.Join(r.dir, releasedDir)) == nil {
		_ = os.Remove(r.dir)
	}
}

// ownCgroup is the directory of this process's cgroup v2, from the texts of
// /proc/self/mountinfo and /proc/self/cgroup.
func ownCgroup(mountinfo, cgroups []byte) (string, error) {
	path, found := "", false
	for line := range bytes.Lines(cgroups) {
		if rest, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("0::")); ok {
			path, found = string(rest), true
		}
	}
	if !found || strings.Contains(path, "/..") {
		return "", errors.New("this process has no cgroup v2 that it can see")
	}
	for line := range bytes.Lines(mountinfo) {
		before, after, _ := strings.Cut(string(line), " - ")
		mount, fstype := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(fstype) < 1 || fstype[0] != "cgroup2" {
			continue
		}
		// A container may see a part of the tree: its root is mount[3].
		if rel, err := filepath.Rel(mount[3], path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return filepath.Join(unescapeMount(mount[4]), rel), nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted")
}

func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// make makes the cgroup of a run.
func (r *cgroupRoot) make(t Tag) (*cgroup, error) {
	dir := filepath.Join(r.dir, t.cgroupName())
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, os.ErrNotExist) { // another agent that shares it has ended
		if err = r.lay(); err == nil {
			err = os.Mkdir(dir, 0o755)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	return &cgroup{dir: dir, released: filepath.Join(r.dir, releasedDir)}, nil
}

// tags are the runs that have a cgroup, dead or alive.
func (r *cgroupRoot) tags() []Tag {
	entries, _ := os.ReadDir(r.dir)
	var tags []Tag
	for _, e := range entries {
		if t, ok := parseCgroupName(e.Name()); ok && e.IsDir() {
			tags = append(tags, t)
		}
	}
	return tags
}

func (r *cgroupRoot) open(t Tag) *cgroup {
	return &cgroup{dir: filepath.Join(r.dir, t.cgroupName()), released: filepath.Join(r.dir, releasedDir)}
}

func (t Tag) cgroupName() string { return t.Incarnation + "." + t.Run + "." + string(t.OnUnlord) }

func parseCgroupName(name string) (Tag, bool) {
	part := strings.Split(name, ".")
	if len(part) != 3 || !plainName(part[0]) || !plainName(part[1]) {
		return Tag{}, false
	}
	return Tag{Incarnation: part[0], Run: part[1], OnUnlord: onUnlord(jobs.OnUnlord(part[2]))}, true
}

func onUnlord(o jobs.OnUnlord) jobs.OnUnlord {
	if o == jobs.OnUnlordKill {
		return o
	}
	return jobs.OnUnlordFinish
}

// A cgroup is the tree of a run that has one. It may have cgroups in it, made
// by the run itself.
type cgroup struct {
	dir, released string
	top           int // the direct child, whose process group it is; 0: not known, or reaped
}

// procs are the living processes of the cgroup and those below it.
func (c *cgroup) procs() []int {
	var pids []int
	_ = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // it is being taken apart while we look
		}
		b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil
		}
		for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
			if pid, err := strconv.Atoi(sc.Text()); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// holds reports whether the process is in the cgroup now.
func (c *cgroup) holds(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return false
	}
	inner := filepath.Join(cgroupDir, filepath.Base(c.dir))
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return strings.HasSuffix(path, "/"+inner) || strings.Contains(path, "/"+inner+"/")
		}
	}
	return false
}

func (c *cgroup) signal(sig unix.Signal) {
	pids := c.procs()
	signalGroup(c.top, sig)
	for _, pid := range pids {
		if p, ok := readProc(pid); ok && (c.top == 0 || p.group != c.top) {
			signalIf(pid, sig, c.holds)
		}
	}
}

// kill asks the kernel, which kills what is being forked as well; before
// Linux 5.14 it has to be done by hand, and again until nothing is left.
func (c *cgroup) kill() {
	if err := writeFile(filepath.Join(c.dir, "cgroup.kill"), "1"); err != nil {
		c.signal(unix.SIGKILL)
	}
}

func (c *cgroup) empty() bool {
	b, err := os.ReadFile(filepath.Join(c.dir, "cgroup.events"))
	return isGone(err) || err == nil && bytes.Contains(b, []byte("populated 0"))
}

// remove takes the cgroup away, with those below it. False: somebody lives in it.
func (c *cgroup) remove() bool {
	err := unix.Rmdir(c.dir)
	if err == nil || err == unix.ENOENT {
		return true
	}
	var below []string
	_ = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			below = append(below, path)
		}
		return nil
	})
	for i := len(below) - 1; i >= 0; i-- { // the deepest first
		err = unix.Rmdir(below[i])
	}
	return err == nil
}

// release takes the cgroup away, after what is left in it was moved to where
// nobody looks for runs.
func (c *cgroup) release() bool {
	c.top = 0
	if c.remove() {
		return true
	}
	for _, pid := range c.procs() {
		// The pid may be another's by now only if its process died in the last
		// microseconds; the worst is a stranger in a cgroup without limits.
		if c.holds(pid) {
			_ = os.MkdirAll(c.released, 0o755) // another agent that shares it may have ended
			_ = writeFile(filepath.Join(c.released, "cgroup.procs"), strconv.Itoa(pid))
		}
	}
	return c.remove()
}

// notForCgroups reports whether a fork may have failed for the cgroup's sake.
func notForCgroups(err error) bool {
	for _, e := range []unix.Errno{unix.ENOSYS, unix.EPERM, unix.EINVAL, unix.EOPNOTSUPP, unix.EBUSY, unix.EBADF, unix.ENODEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// writeFile writes to a file that exists; cgroup files must not be created.
func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
