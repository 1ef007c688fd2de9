package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A child is the direct child of a run, just started, with our ends of its pipes.
type child struct {
	process        *os.Process
	pidfd          int // -1: the kernel has none
	stdout, stderr *os.File
	bounced        *os.File // nil: it is the program already; else land waits for that
}

// fork starts the program, born into the cgroup if there is one. What os can
// set itself it sets; for the rest the program is started by way of Trampoline.
func (l *launch) fork(group *cgroup) (_ *child, err error) {
	var open []*os.File // the child's ends, and on failure ours
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	c := &child{pidfd: -1}
	stdin, err := l.stdin()
	if err != nil {
		return nil, err
	}
	open = append(open, stdin)
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	open = append(open, outR, outW)
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	open = append(open, errR, errW)

	// A session of its own: no terminal, and Ctrl-C on the agent is for the agent.
	sys := &syscall.SysProcAttr{Setsid: true, PidFD: &c.pidfd}
	if group != nil {
		sys.CgroupFD, err = unix.Open(group.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open cgroup %s: %w", group.dir, err)
		}
		defer unix.Close(sys.CgroupFD)
		sys.UseCgroupFD = true
	}
	files := []*os.File{stdin, outW, errW}
	if l.needsTrampoline() {
		c.bounced, c.process, err = l.bounce(files, sys)
	} else {
		if l.who != nil {
			sys.Credential = &syscall.Credential{Uid: l.who.uid, Gid: l.who.gid, Groups: l.who.groups}
		}
		c.process, err = os.StartProcess(l.path, l.argv, &os.ProcAttr{Dir: l.dir, Env: l.env, Files: files, Sys: sys})
	}
	if err != nil {
		if l.who != nil && errors.Is(err, fs.ErrPermission) { // exec's, or that of the way there
			return nil, fmt.Errorf("command %s as user %s in directory %s: %w", l.argv[0], l.who.name, l.dir, cause(err))
		}
		return nil, fmt.Errorf("command %s: %w", l.argv[0], cause(err))
	}
	c.stdout, c.stderr = outR, errR
	open = []*os.File{stdin, outW, errW}
	return c, nil
}

// stdin is /dev/null, or the text in a file that exists in memory only: nobody
// has to write it into a pipe that the command may never read.
func (l *launch) stdin() (*os.File, error) {
	if l.spec.Stdin == "" {
		return os.Open(os.DevNull)
	}
	return memFile("stdin", strings.NewReader(l.spec.Stdin).WriteTo)
}

// awaitPidfd waits until the child is dead, without reaping it and without
// keeping a thread: a thousand runs need no thousand threads. False: the kernel
// cannot do it. The pidfd is closed either way.
func (c *child) awaitPidfd() bool {
	if c.pidfd < 0 {
		return false
	}
	_ = unix.SetNonblock(c.pidfd, true) // else NewFile does not give it to the poller
	f := os.NewFile(uintptr(c.pidfd), "pidfd")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	dead := false
	_ = raw.Read(func(fd uintptr) bool {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		dead = err == nil && info.Signo == int32(unix.SIGCHLD)
		return dead || err != nil && err != unix.EAGAIN && err != unix.EINTR
	})
	return dead
}
