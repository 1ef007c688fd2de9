package runner

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is every process of one run. None of its methods waits; a tree that
// is gone is empty. kill is repeated by the caller until empty says true.
// A signal is sent once to each process: what it forks to clean up after itself
// does not get it again.
type tree interface {
	signal(unix.Signal)
	kill()
	empty() bool
	// release lets go of what is left, after which it is nobody's. False: not
	// yet, for something is just being forked or dying.
	release() bool
}

// signalIf sends a signal to a process that still fits once a pidfd holds it:
// from then on the pid cannot mean another process to us.
func signalIf(pid int, sig unix.Signal, fits func(pid int) bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ENOSYS { // before Linux 5.3; as good as it gets
		if fits(pid) {
			_ = unix.Kill(pid, sig)
		}
		return
	}
	if err != nil {
		return // it is gone
	}
	defer unix.Close(fd)
	if fits(pid) {
		_ = unix.PidfdSendSignal(fd, sig, nil, 0) // fails only if it is gone, or not ours to signal
	}
}

// signalGroup signals a process group whose first process is not reaped.
// The kernel does it at once: what is just being forked gets the signal too.
func signalGroup(top int, sig unix.Signal) {
	if top != 0 {
		_ = unix.Kill(-top, sig) // fails only if all of it is gone
	}
}

// A session is the tree of a run without a cgroup. Its first process, whose pid
// is the id of the session and of the process group, is not reaped while the
// session is in use, so that the id cannot mean another's.
type session struct {
	top   int // 0: not known, or dead and reaped; only marks count
	marks [][]byte
}

// newSession is the session of a run that has the Tag in its environment.
func newSession(top int, t Tag) *session {
	return &session{top: top, marks: [][]byte{
		[]byte(RunVar + "=" + t.Run), []byte(IncarnationVar + "=" + t.Incarnation),
	}}
}

func (s *session) signal(sig unix.Signal) {
	signalGroup(s.top, sig)
	for _, p := range s.members() {
		if s.top == 0 || p.group != s.top {
			signalIf(p.pid, sig, p.same)
		}
	}
}

func (s *session) kill() { s.signal(unix.SIGKILL) }

func (s *session) empty() bool { return len(s.members()) == 0 }

// release forgets the id as well: it is about to be free for others.
func (s *session) release() bool {
	s.top = 0
	return true
}

// members are the living processes of the session: by session id, by process
// group, by environment, and the descendants of all these.
func (s *session) members() []proc {
	all := processes()
	in := make(map[int]bool)
	for _, p := range all {
		if s.top != 0 && (p.session == s.top || p.group == s.top) || s.marked(p.pid) {
			in[p.pid] = true
		}
	}
	delete(in, os.Getpid()) // an agent that was started by a run carries its marks
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if in[p.parent] && !in[p.pid] && p.pid != os.Getpid() {
				in[p.pid], grown = true, true
			}
		}
	}
	var members []proc
	for _, p := range all {
		if in[p.pid] && !p.dead {
			members = append(members, p)
		}
	}
	return members
}

func (s *session) marked(pid int) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil || len(env) == 0 {
		return false
	}
	env = append(append([]byte{0}, env...), 0)
	for _, m := range s.marks {
		if !bytes.Contains(env, append(append([]byte{0}, m...), 0)) {
			return false
		}
	}
	return true
}

// A proc is one process at one moment; pid and start together are its identity.
type proc struct {
	pid, parent, group, session int
	start                       uint64 // clock ticks since boot
	dead                        bool   // a zombie, and all of its threads
}

// same reports whether pid is still the process that it was.
func (p proc) same(pid int) bool {
	now, ok := readProc(pid)
	return ok && now.start == p.start
}

// processes are all processes that /proc shows.
func processes() []proc {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	procs := make([]proc, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := readProc(pid); ok {
				procs = append(procs, p)
			}
		}
	}
	return procs
}

// readProc reads /proc/PID/stat: "pid (name) state ppid pgrp session ...", the
// number of threads is field 20, the start 22. The name may hold anything,
// parentheses too. A process whose main thread has ended looks like a zombie
// while the others go on.
func readProc(pid int) (proc, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return proc{}, false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 {
		return proc{}, false
	}
	threads, _ := strconv.Atoi(f[17])
	p := proc{pid: pid, dead: (f[0] == "Z" || f[0] == "X") && threads <= 1}
	p.parent, _ = strconv.Atoi(f[1])
	p.group, _ = strconv.Atoi(f[2])
	p.session, _ = strconv.Atoi(f[3])
	p.start, err = strconv.ParseUint(f[19], 10, 64)
	return p, err == nil
}
