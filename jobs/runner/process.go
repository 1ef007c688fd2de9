package runner

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

const (
	// KillBound is how long a run waits for its tree to be dead after KILL.
	// Only uninterruptible sleep takes longer.
	KillBound = 500 * time.Millisecond
	// pollTree and pollScan are how often a tree is asked whether it is empty:
	// one file of a cgroup, or a scan of /proc.
	pollTree = 10 * time.Millisecond
	pollScan = 50 * time.Millisecond
	// A tree that cannot be released at once, for something in it is just
	// being forked or dying, is tried again so many times.
	releaseRounds = 50
	releaseDelay  = 2 * time.Millisecond
	// shellOffset is what shells add to a signal to make an exit code of it.
	shellOffset = 128
)

// A Result is how a run ended.
type Result struct {
	State    jobs.State // Succeeded, Failed, TimedOut or Killed
	ExitCode int        // as a shell would say it: 128 + n for signal n; -1: not known
	Signal   string     // that ended the direct child: "KILL"; empty: none did
	Reason   string     // for people, in one line; empty: succeeded
	Started  time.Time
	Ended    time.Time // when the direct child exited

	User, System time.Duration // CPU time of the direct child and of what it waited for
}

// A Process is one run that was started. Its methods are safe for concurrent use.
type Process struct {
	host  *Host
	spec  *Spec
	sig   unix.Signal
	child *child
	tree  tree
	poll  time.Duration
	out   *output

	started time.Time
	exited  chan struct{} // closed when the direct child is dead; it is not reaped yet
	stop    chan string   // asked to stop, and why; the first word counts
	kill    chan string   // asked to die at once

	mu     sync.Mutex // guards what follows, and signals against the reaping
	gone   bool       // the tree is dead or released: signalling it is no more safe
	sent   []unix.Signal
	result Result
	done   chan struct{} // closed when result stands
}

func newProcess(h *Host, s *Spec, stop unix.Signal, c *child, group *cgroup, sink Sink) *Process {
	p := &Process{
		host: h, spec: s, sig: stop, child: c,
		started: time.Now(), exited: make(chan struct{}),
		stop: make(chan string, 1), kill: make(chan string, 1), done: make(chan struct{}),
	}
	if group != nil {
		group.top = c.process.Pid
		p.tree, p.poll = group, pollTree
	} else {
		p.tree, p.poll = newSession(c.process.Pid, tag(s, h.incarnation)), pollScan
	}
	p.out = startOutput(c, sink)
	return p
}

// PID is the direct child's. It may be another's once Wait has returned.
func (p *Process) PID() int { return p.child.process.Pid }

// Done is closed when the run has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the run. Any number may wait.
func (p *Process) Wait() Result {
	<-p.done
	return p.result
}

// Stop asks the run to end: the stop signal to the whole tree, and KILL when
// the grace is over. It does not wait. Why becomes the reason of the Result.
func (p *Process) Stop(why string) { ask(p.stop, why) }

// Kill kills the whole tree at once, also while it is being stopped. It does not wait.
func (p *Process) Kill(why string) { ask(p.kill, why) }

func ask(c chan<- string, why string) {
	select {
	case c <- why:
	default: // somebody has asked already
	}
}

// Signal sends a signal to the whole tree and changes nothing else: a run that
// lives through it goes on. One that dies of it was killed, and did not fail.
// It is os.ErrProcessDone if the run has ended.
func (p *Process) Signal(sig os.Signal) error {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %s: not a signal of this system", sig)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return fmt.Errorf("signal %s: %w", p.spec.Run, os.ErrProcessDone)
	}
	p.sent = append(p.sent, s)
	p.tree.signal(s)
	return nil
}

// An ending is what ended a run.
type ending int

const (
	byItself ending = iota
	byTimeout
	byRequest
)

// supervise sees the run through, from its start to its Result.
func (p *Process) supervise() {
	defer p.host.runs.Done()
	go p.watch() // ends with the direct child

	how, why := p.awaitEnd()
	linger := Linger
	if how != byItself || p.spec.Reap {
		linger = lingerKilled
		p.killTree()
	}
	r := Result{Started: p.started, Ended: time.Now()}
	stuck := !closed(p.exited)
	p.letGo(stuck)
	p.out.finish(linger)
	if stuck {
		r.ExitCode = -1
	} else {
		p.reap(&r)
	}
	p.conclude(r, how, why, stuck)
	if stuck {
		<-p.exited
		p.tree.release()
		p.reap(&Result{})
	}
}

// awaitEnd waits until the direct child has exited of its own accord, or the
// whole tree has after it was told to, or the grace for that is over.
func (p *Process) awaitEnd() (how ending, why string) {
	var timeout <-chan time.Time
	if p.spec.Timeout > 0 {
		t := time.NewTimer(p.spec.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	atOnce := false
	select {
	case <-p.exited:
		return byItself, ""
	case <-timeout:
		how, why = byTimeout, fmt.Sprintf("timed out after %s", p.spec.Timeout)
	case why = <-p.stop:
		how = byRequest
	case why = <-p.kill:
		how, atOnce = byRequest, true
	}
	if closed(p.exited) { // at the same moment: then it was first
		return byItself, ""
	}
	if atOnce {
		return how, why
	}
	p.tree.signal(p.sig)
	p.tree.signal(unix.SIGCONT) // a stopped process could not act on it
	p.awaitEmpty(p.spec.Grace, p.kill)
	return how, why
}

// awaitEmpty waits until nothing of the tree lives, for at most limit or until cut.
func (p *Process) awaitEmpty(limit time.Duration, cut <-chan string) {
	over := time.NewTimer(limit)
	defer over.Stop()
	tick := time.NewTicker(p.poll)
	defer tick.Stop()
	exited := p.exited
	for {
		select {
		case <-exited:
			exited = nil // from here on it is worth looking
		case <-tick.C:
			if exited != nil {
				continue
			}
		case <-cut:
			return
		case <-over.C:
			return
		}
		if exited == nil && p.tree.empty() {
			return
		}
	}
}

// killTree kills until nothing is left, for at most KillBound.
func (p *Process) killTree() {
	for deadline := time.Now().Add(KillBound); time.Now().Before(deadline); {
		if closed(p.exited) && p.tree.empty() {
			return
		}
		p.tree.kill()
		p.awaitEmpty(min(2*p.poll, time.Until(deadline)), nil)
	}
}

// letGo gives up the tree: it is dead, or lives on as nobody's. One that is
// stuck stays where it is, to be found again.
func (p *Process) letGo(stuck bool) {
	p.mu.Lock()
	p.gone = true // from here on the tree is ours alone
	p.mu.Unlock()
	for range releaseRounds {
		if stuck || p.tree.release() {
			return
		}
		time.Sleep(releaseDelay)
	}
}

// watch closes exited when the direct child is dead, without reaping it.
func (p *Process) watch() {
	defer close(p.exited)
	if p.child.awaitPidfd() {
		return
	}
	for {
		err := unix.Waitid(unix.P_PID, p.child.process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// reap takes the exit status, after which the pid is free.
func (p *Process) reap(r *Result) {
	p.host.children.Delete(p.PID()) // before the pid is free
	state, err := p.child.process.Wait()
	if err != nil {
		r.ExitCode = -1 // somebody else has reaped it
		return
	}
	r.User, r.System = state.UserTime(), state.SystemTime()
	status, _ := state.Sys().(syscall.WaitStatus)
	r.ExitCode = status.ExitStatus()
	if status.Signaled() {
		r.ExitCode = shellOffset + int(status.Signal())
		r.Signal = SignalName(status.Signal())
	}
}

// conclude says how the run ended, once.
func (p *Process) conclude(r Result, how ending, why string, stuck bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case how == byTimeout:
		r.State, r.Reason = jobs.TimedOut, why
	case how == byRequest:
		r.State, r.Reason = jobs.Killed, why
	case r.Signal != "" && slices.ContainsFunc(p.sent, func(s unix.Signal) bool { return SignalName(s) == r.Signal }):
		r.State, r.Reason = jobs.Killed, "signal "+r.Signal+" was sent to it"
	case r.Signal != "":
		r.State, r.Reason = jobs.Failed, "died of signal "+r.Signal
	case p.spec.succeeded(r.ExitCode):
		r.State = jobs.Succeeded
	default:
		r.State, r.Reason = jobs.Failed, p.spec.exitReason(r.ExitCode)
	}
	if stuck {
		r.Reason += "; it could not be killed (uninterruptible sleep)"
	}
	p.result = r
	close(p.done)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *Spec) succeeded(code int) bool {
	if len(s.SuccessCodes) == 0 {
		return code == 0
	}
	return slices.Contains(s.SuccessCodes, code)
}

// exitReason explains the two codes by which a shell says that it is not the
// command that failed.
func (s *Spec) exitReason(code int) string {
	reason := fmt.Sprintf("exit status %d", code)
	if s.Command != "" {
		switch code {
		case 126:
			reason += " (the shell could not execute the command)"
		case 127:
			reason += " (the shell did not find the command)"
		}
	}
	return reason
}
