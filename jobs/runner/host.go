package runner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// startsAtOnce is how many runs may be on their way from cgroup to fork at one
// time. Go forks one at a time anyway: more would wait with pipes open, which
// each fork has to copy, and with a thread each for the kernel's cgroup lock.
// Fewer leave a core idle. The rest of a crowd waits with nothing in its hands.
const startsAtOnce = 4

// Config is what a Host needs to know.
type Config struct {
	// Incarnation names this start of the agent: letters, digits and dashes.
	// Runs carry it in their environment and in the name of their cgroup.
	Incarnation string
	// NoCgroups makes the host do without cgroups even where it could make them.
	NoCgroups bool
}

// A Host starts runs on this machine. All methods are safe for concurrent use.
type Host struct {
	incarnation string
	cgroups     atomic.Pointer[cgroupRoot] // nil: none, or they turned out not to work
	runs        sync.WaitGroup             // one for each run whose direct child is not reaped
	children    sync.Map                   // the pids of these
	turns       chan struct{}              // one for each run that is being forked
}

// New looks whether cgroups can be made here; that they cannot is no error.
func New(c Config) (*Host, error) {
	if !plainName(c.Incarnation) {
		return nil, fmt.Errorf("make host of runs: incarnation %q is not letters, digits and dashes", c.Incarnation)
	}
	// What the agent has inherited from who started it is not for its runs: a
	// lock that a daemon started by a job holds for ever, say.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) // since Linux 5.11
	h := &Host{incarnation: c.Incarnation, turns: make(chan struct{}, startsAtOnce)}
	if !c.NoCgroups {
		if root, err := findCgroupRoot(); err == nil {
			h.cgroups.Store(root)
		}
	}
	return h, nil
}

// Cgroups is the directory in which the host makes a cgroup for each run, or
// empty if it cannot and goes by process groups and environments.
func (h *Host) Cgroups() string {
	if root := h.cgroups.Load(); root != nil {
		return root.dir
	}
	return ""
}

// Close waits until every run that was started is dead and reaped, or ctx is
// done. It stops nobody: that is for who knows why.
func (h *Host) Close(ctx context.Context) error {
	reaped := make(chan struct{})
	go func() { h.runs.Wait(); close(reaped) }() // ends with the last run
	select {
	case <-reaped:
		if root := h.cgroups.Load(); root != nil {
			root.clear()
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for runs: %w", ctx.Err())
	}
}

// plant makes the place in which a run's processes will live: a cgroup, or nil
// where there are none.
func (h *Host) plant(s *Spec) (*cgroup, error) {
	root := h.cgroups.Load()
	if root == nil {
		return nil, nil
	}
	return root.make(tag(s, h.incarnation))
}

// Start starts the run. An error means that nothing was started, and says why
// in one line; otherwise the Process must be waited for. Lines go to sink until
// Wait returns. Start blocks for as long as fork and exec do, and a few seconds
// at most where the user has to be asked from getent(1).
func (h *Host) Start(s Spec, sink Sink) (*Process, error) {
	p, err := h.start(s, sink)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Job, err)
	}
	return p, nil
}

func (h *Host) start(s Spec, sink Sink) (*Process, error) {
	if !plainName(s.Run) {
		return nil, fmt.Errorf("run id %q is not letters, digits and dashes", s.Run)
	}
	launch, err := h.resolve(&s)
	if err != nil {
		return nil, err
	}
	child, group, err := h.fork(launch, &s)
	if err != nil {
		return nil, err
	}
	if err := child.land(); err != nil {
		if group != nil {
			group.remove()
		}
		return nil, fmt.Errorf("command %s: %w", launch.argv[0], err)
	}
	p := newProcess(h, &s, launch.stop, child, group, sink)
	h.runs.Add(1)
	h.children.Store(p.PID(), nil)
	go p.supervise()
	return p, nil
}

// fork starts the run in a place of its own, when it is its turn.
func (h *Host) fork(l *launch, s *Spec) (*child, *cgroup, error) {
	h.turns <- struct{}{}
	defer func() { <-h.turns }()
	group, err := h.plant(s)
	if err != nil {
		return nil, nil, err
	}
	c, err := l.fork(group)
	if err == nil || group == nil {
		return c, group, err
	}
	group.remove()
	if notForCgroups(err) {
		// clone3 is refused (an old kernel, a seccomp filter): if it works
		// without a cgroup, it is so for every run to come.
		if c, err = l.fork(nil); err == nil {
			h.cgroups.Store(nil)
		}
	}
	return c, nil, err
}

// tag is how the processes of a run are told from all others.
func tag(s *Spec, incarnation string) Tag {
	return Tag{Run: s.Run, Incarnation: incarnation, OnUnlord: onUnlord(s.OnUnlord)}
}

// plainName reports whether a name can be part of a file name and of a cgroup's name.
func plainName(name string) bool {
	return name != "" && len(name) <= 128 && strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
	}) < 0
}

// errGone means that a process or cgroup is not there any more.
func isGone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrProcessDone)
}
