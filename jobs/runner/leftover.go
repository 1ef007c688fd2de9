package runner

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

// A Tag is what tells the processes of a run from all others on the host, also
// when nobody is left who knows of them: it is the name of their cgroup and
// stands in their environment.
type Tag struct {
	Run, Incarnation string
	OnUnlord         jobs.OnUnlord
}

// Find lists the runs of this host, of any agent and any incarnation, that have
// a living process, and that match says yes to. A process that outlived a run
// which had ended in peace is not part of a run any more; where there are no
// cgroups it cannot be told apart, so match should say yes only to runs that
// are known not to have ended, or to all of a dead incarnation.
func (h *Host) Find(match func(Tag) bool) []Tag {
	var found []Tag
	for _, r := range h.remains(match) {
		if !r.empty() && !slices.Contains(found, r.Tag) {
			found = append(found, r.Tag)
		}
	}
	slices.SortFunc(found, func(a, b Tag) int { return strings.Compare(a.Run, b.Run) })
	return found
}

// Sweep kills every process of the runs that match says yes to (see Find) and
// returns the runs that had any, dead now. The error says what is not dead yet
// when ctx is done.
func (h *Host) Sweep(ctx context.Context, match func(Tag) bool) ([]Tag, error) {
	found := h.Find(match)
	tick := time.NewTicker(pollTree)
	defer tick.Stop()
	for {
		alive := ""
		for _, r := range h.remains(match) {
			if r.empty() {
				r.release()
				continue
			}
			r.kill()
			alive = r.Run
		}
		if alive == "" {
			return found, nil
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if ctx.Err() != nil {
			return found, fmt.Errorf("kill what is left of run %s: %w", alive, ctx.Err())
		}
	}
}

// remains is what is left of one run: in its cgroup, or scattered. A run may
// have both.
type remains struct {
	Tag
	tree
}

func (h *Host) remains(match func(Tag) bool) []remains {
	var left []remains
	if root := h.cgroups.Load(); root != nil {
		for _, t := range root.tags() {
			if match(t) {
				left = append(left, remains{t, root.open(t)})
			}
		}
	}
	for t, s := range h.scattered(match) {
		left = append(left, remains{t, s})
	}
	return left
}

// scattered finds processes by their environment, and the descendants of these.
func (h *Host) scattered(match func(Tag) bool) map[Tag]stray {
	all := processes()
	tagged := make(map[int]Tag)
	for _, p := range all {
		if t, ok := environTag(p.pid); ok && match(t) && h.inReach(p.pid) {
			tagged[p.pid] = t
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			t, ok := tagged[p.parent]
			if _, known := tagged[p.pid]; ok && !known && h.inReach(p.pid) {
				tagged[p.pid], grown = t, true
			}
		}
	}
	strays := make(map[Tag]stray)
	for _, p := range all {
		if t, ok := tagged[p.pid]; ok && !p.dead {
			strays[t] = append(strays[t], p)
		}
	}
	return strays
}

// inReach says no to this process itself, which may have been started by a
// run, and to what was released.
func (h *Host) inReach(pid int) bool {
	root := h.cgroups.Load()
	return pid != os.Getpid() && (root == nil || !(&cgroup{dir: filepath.Join(root.dir, releasedDir)}).holds(pid))
}

func environTag(pid int) (Tag, bool) {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil || !bytes.Contains(env, []byte(RunVar)) {
		return Tag{}, false
	}
	var t Tag
	for kv := range strings.SplitSeq(string(env), "\x00") {
		switch name, value, _ := strings.Cut(kv, "="); name {
		case RunVar:
			t.Run = value
		case IncarnationVar:
			t.Incarnation = value
		case OnUnlordVar:
			t.OnUnlord = onUnlord(jobs.OnUnlord(value))
		}
	}
	return t, t.Run != "" && t.Incarnation != ""
}

// A stray is a set of processes that were found one by one.
type stray []proc

func (s stray) signal(sig unix.Signal) {
	for _, p := range s {
		signalIf(p.pid, sig, p.same)
	}
}

func (s stray) kill()         { s.signal(unix.SIGKILL) }
func (s stray) empty() bool   { return len(s) == 0 }
func (s stray) release() bool { return true }
