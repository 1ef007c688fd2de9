package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// trampolineName is argv[0] of this binary when it is about to become a run.
	trampolineName = "legion-cron: about to run"
	// bounceBound is how long the way from fork to exec may take by way of
	// the trampoline. Longer is a hung file system, and an error of Start.
	bounceBound = 10 * time.Second
	// maxBounceError bounds what the trampoline may say about its failure.
	maxBounceError = 4096

	// The descriptors that the trampoline inherits besides the run's own.
	bounceSpecFD, bounceStatusFD = 3, 4
)

// A bounce is what the trampoline is told.
type bounce struct {
	Path   string
	Argv   []string
	Env    []string
	Dir    string
	Nice   int
	IOPrio int
	Umask  int
	Limits []limit
	Change bool
	UID    int
	GID    int
	Groups []int
}

// needsTrampoline reports whether something is asked for that Go cannot set
// between fork and exec.
func (l *launch) needsTrampoline() bool {
	return l.spec.Umask >= 0 || l.spec.Nice != 0 || l.ioprio != 0 || len(l.limits) > 0
}

// bounce starts this very binary, which sets what is asked for and becomes the
// program; status says whether it has.
func (l *launch) bounce(files []*os.File, sys *syscall.SysProcAttr) (status *os.File, _ *os.Process, err error) {
	b := bounce{
		Path: l.path, Argv: l.argv, Env: l.env, Dir: l.dir,
		Nice: l.spec.Nice, IOPrio: l.ioprio, Umask: l.spec.Umask, Limits: l.limits,
	}
	if l.who != nil {
		b.Change, b.UID, b.GID = true, int(l.who.uid), int(l.who.gid)
		for _, g := range l.who.groups {
			b.Groups = append(b.Groups, int(g))
		}
	}
	spec, err := memFile("run", func(w io.Writer) (int64, error) { return 0, json.NewEncoder(w).Encode(b) })
	if err != nil {
		return nil, nil, err
	}
	defer spec.Close()
	status, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	// Until it is the program it has nothing of the job's in its environment
	// that could change what a Go program does.
	process, err := os.StartProcess("/proc/self/exe", []string{trampolineName},
		&os.ProcAttr{Dir: "/", Env: l.set, Files: append(files, spec, theirs), Sys: sys})
	if err != nil {
		status.Close()
		return nil, nil, err
	}
	return status, process, nil
}

// land waits until the trampoline has become the program. Where that fails
// nothing is left of the child.
func (c *child) land() error {
	if c.bounced == nil {
		return nil
	}
	defer c.bounced.Close()
	err := c.bounced.SetReadDeadline(time.Now().Add(bounceBound))
	if err == nil {
		var failure []byte
		failure, err = io.ReadAll(io.LimitReader(c.bounced, maxBounceError)) // closed by a successful exec
		switch {
		case err != nil:
			err = fmt.Errorf("not started within %s", bounceBound)
		case len(failure) > 0:
			err = errors.New(string(failure))
		default:
			return nil
		}
	}
	_ = c.process.Kill()
	_, _ = c.process.Wait()
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
	}
	c.stdout.Close()
	c.stderr.Close()
	return err
}

// Trampoline must be called first thing in main, and in TestMain of what starts
// runs: it returns at once unless this process was started to become a run. It
// exists because umask, nice, ionice and rlimits cannot be set between fork and
// exec of a Go program, and must not be set in the agent itself.
func Trampoline() {
	if len(os.Args) != 1 || os.Args[0] != trampolineName {
		return
	}
	debug.SetGCPercent(-1) // little memory is needed, and limits may forbid more
	runtime.LockOSThread() // priorities belong to a thread, and exec keeps the caller's
	unix.CloseOnExec(bounceStatusFD)
	err := jump(bounceSpecFD) // returns only to say why it failed
	_, _ = unix.Write(bounceStatusFD, []byte(err.Error()))
	os.Exit(127)
}

func jump(specFD int) error {
	unix.CloseOnExec(specFD)
	var b bounce
	if err := json.NewDecoder(os.NewFile(uintptr(specFD), "run")).Decode(&b); err != nil {
		return fmt.Errorf("read what to run: %w", err)
	}
	// What needs privileges comes before they are dropped.
	if b.Nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, b.Nice); err != nil {
			return fmt.Errorf("nice %d: %w", b.Nice, err)
		}
	}
	if b.IOPrio != 0 {
		const whoProcess = 1
		if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, uintptr(b.IOPrio)); errno != 0 {
			return fmt.Errorf("ionice: %w", errno)
		}
	}
	if b.Umask >= 0 {
		unix.Umask(b.Umask)
	}
	for _, l := range b.Limits {
		if err := syscall.Setrlimit(l.Resource, &syscall.Rlimit{Cur: l.Cur, Max: l.Max}); err != nil {
			return fmt.Errorf("limit %s: %w", l.name(), err)
		}
	}
	if b.Change {
		if err := syscall.Setgroups(b.Groups); err != nil {
			return fmt.Errorf("set groups: %w", err)
		}
		if err := syscall.Setgid(b.GID); err != nil {
			return fmt.Errorf("set group: %w", err)
		}
		if err := syscall.Setuid(b.UID); err != nil {
			return fmt.Errorf("set user: %w", err)
		}
	}
	if err := unix.Chdir(b.Dir); err != nil {
		return fmt.Errorf("directory %s: %w", b.Dir, err)
	}
	return syscall.Exec(b.Path, b.Argv, b.Env)
}

// memFile is a file without a name, with what write writes in it, at its start.
func memFile(name string, write func(io.Writer) (int64, error)) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = write(f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	return f, nil
}
