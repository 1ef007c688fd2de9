package guardian

import (
	"bufio"
	"context"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/runner"
	"github.com/legion-cron/legion-cron/legion"
)

const (
	// killTimeout is how long a certificate waits for runs that do not die.
	killTimeout = 10 * time.Second
	// frozenTimeout is the same while the agent lives: the pipe must be read.
	frozenTimeout = lookAgain
)

// A host kills what is left of runs; a *runner.Host.
type host interface {
	Sweep(ctx context.Context, match func(runner.Tag) bool) ([]runner.Tag, error)
	Cgroups() string
}

// An alarm rings once, after a time that counts suspend.
type alarm interface {
	set(after time.Duration)
	rings() <-chan struct{}
}

// A guard is the guardian at work, on one goroutine.
type guard struct {
	incarnation string
	clock       func() legion.Now
	alarm       alarm
	host        host
	deliver     func(context.Context, Certificate) (int, error)
	occupy      func() (release func())        // while hooks are called
	call        func([]hooks.Hook, hooks.Call) // returns when they have ended
	log         *zap.Logger

	calls sync.WaitGroup // of call
}

// watch follows the agent to its end, from what it said first. It returns what
// is to be done then, or nil if the guardian is dismissed. Hooks may still run.
func (g *guard) watch(first frame, in *bufio.Reader) *watch {
	frames := make(chan frame)
	go func() { // ends with the agent, or with this process
		defer close(frames)
		for {
			f, err := readFrame(in)
			if err != nil {
				if err != io.EOF {
					g.log.Error("what the agent says makes no sense; waiting for its end", zap.Error(err))
					_, _ = io.Copy(io.Discard, in)
				}
				return
			}
			frames <- f
		}
	}()
	w := newWatch()
	w.take(first)
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return w
			}
			w.take(f)
			if w.dismissed {
				return nil
			}
		case <-g.alarm.rings():
		}
		g.killOverdue(w)
		g.callAll(w.deserted(g.clock()), "the agent is frozen and its lordship over: calling its unlord hooks")
		if after, ok := w.wake(g.clock()); ok {
			g.alarm.set(after)
		}
	}
}

// killOverdue kills the runs that the agent should have killed by now.
func (g *guard) killOverdue(w *watch) {
	late := w.overdue(g.clock())
	if len(late) == 0 {
		return
	}
	g.kill(frozenTimeout, "the agent is frozen and its lordship over: killed its run", func(t runner.Tag) bool { return late[t.Run] })
}

// bury does what is left to do when the agent is dead.
func (g *guard) bury(w *watch) {
	if len(w.reigns)+len(w.deaths) > 0 {
		defer g.occupy()() // from now on: a restarted agent is quick
	}
	if len(w.runs)+len(w.reigns) > 0 { // each was told of before it was forked
		g.kill(killTimeout, "the agent is dead: killed its run", func(t runner.Tag) bool { return t.OnUnlord == jobs.OnUnlordKill })
	}
	g.callAll(w.orphaned(), "the agent is dead: calling its unlord hooks")
	g.calls.Wait()
	told, err := g.deliver(context.Background(), w.certificate)
	fields := []zap.Field{logging.Event("death"), zap.Int("told", told), zap.Int("quorum", w.certificate.Quorum)}
	if err != nil || told < w.certificate.Quorum {
		g.log.Warn("the agent is dead; the voters learn it when its leases end", append(fields, zap.Error(err))...)
	} else {
		g.log.Warn("the agent is dead", fields...)
	}
	g.callAll(slices.Collect(maps.Values(w.deaths)), "the agent is dead: calling its death hooks")
	g.kill(killTimeout, "the agent is dead: killed its run", func(runner.Tag) bool { return true })
	g.calls.Wait()
}

// callAll calls hooks, those of different legions side by side. It does not wait.
func (g *guard) callAll(wills []hooks.Will, why string) {
	if len(wills) == 0 {
		return
	}
	var called sync.WaitGroup
	release := g.occupy()
	for _, w := range wills {
		g.log.Warn(why, logging.Event(w.Call.Event), logging.Legion(w.Call.Legion), logging.Term(w.Call.Term))
		called.Go(func() { g.call(w.Hooks, w.Call) })
	}
	g.calls.Go(func() { called.Wait(); release() })
}

// kill kills runs of this incarnation.
func (g *guard) kill(limit time.Duration, why string, match func(runner.Tag) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ours := func(t runner.Tag) bool { return t.Incarnation == g.incarnation && match(t) }
	looks := 1
	if g.host.Cgroups() == "" {
		looks = 2 // a process has no environment yet while it is in exec
	}
	for range looks {
		found, err := g.host.Sweep(ctx, ours)
		for _, t := range found {
			g.log.Warn(why, logging.Event("run-killed"), logging.Run(t.Run))
		}
		if err != nil {
			g.log.Error("runs are not dead", zap.Error(err))
		}
	}
}
