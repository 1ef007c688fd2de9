package probe

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/legion-cron/legion-cron/checks"
)

// A Check is a definition and how to look.
type Check struct {
	checks.Definition
	Look Probe
}

// A Watch probes the checks of a node. Its methods are safe for concurrent
// use; Run is called once.
type Watch struct {
	changed func([]checks.Change)
	start   time.Time
	poke    chan struct{} // holds a token when Run must look

	mu      sync.Mutex
	engine  *checks.Engine
	looks   map[string]Probe
	cancel  map[uint64]context.CancelFunc // of probes under way, by ticket
	changes []checks.Change               // not yet told
}

// NewWatch returns a Watch without checks. The node's name spreads them.
// Run calls changed, in order, with what has come to another state.
func NewWatch(node string, changed func([]checks.Change)) *Watch {
	return &Watch{
		changed: changed, start: time.Now(), poke: make(chan struct{}, 1),
		engine: checks.NewEngine(node), looks: map[string]Probe{}, cancel: map[uint64]context.CancelFunc{},
	}
}

// now is the time that the engine goes by; steps of the wall clock do not
// change it.
func (w *Watch) now() time.Duration { return time.Since(w.start) }

// Configure replaces the checks, all or, on an error, none. Those that are as
// before keep their state.
func (w *Watch) Configure(all []Check) error {
	defs, looks := make([]checks.Definition, len(all)), make(map[string]Probe, len(all))
	for i, c := range all {
		defs[i], looks[c.Name] = c.Definition, c.Look
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	stale, err := w.engine.Configure(w.now(), defs)
	if err != nil {
		return err
	}
	w.looks = looks
	for _, ticket := range stale {
		w.cancel[ticket]()
	}
	w.wake()
	return nil
}

// Standing is what the checks do to the node in a legion.
func (w *Watch) Standing(legion string) checks.Standing {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.engine.Standing(legion)
}

// Reports says where every check stands.
func (w *Watch) Reports() []checks.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.engine.Reports()
}

// Stuck is how many probes do not come back.
func (w *Watch) Stuck() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.engine.Stuck()
}

func (w *Watch) wake() {
	select {
	case w.poke <- struct{}{}:
	default: // it will look anyway
	}
}

// Run probes until ctx ends, and then waits for the probes under way: at most
// checks.Patience, for some may be stuck.
func (w *Watch) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		changes, wake := w.step(ctx)
		if len(changes) > 0 {
			w.changed(changes)
			continue
		}
		timer.Reset(wake)
		select {
		case <-ctx.Done():
		case <-w.poke:
		case <-timer.C:
		}
	}
	timer.Reset(checks.Patience)
	for w.underWay() > 0 {
		select {
		case <-w.poke:
		case <-timer.C:
			return
		}
	}
}

// step starts what is due, and returns what is to be told and how long nothing
// is to be done.
func (w *Watch) step(ctx context.Context) (changes []checks.Change, wake time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	starts, lost := w.engine.Step(w.now())
	for _, s := range starts {
		probing, cancel := context.WithTimeout(ctx, s.Timeout)
		w.cancel[s.Ticket] = cancel
		go w.look(probing, s.Ticket, w.looks[s.Check])
	}
	changes = slices.Concat(w.changes, lost)
	w.changes = nil
	return changes, w.engine.Wake(w.now())
}

// look is the goroutine of one probe. Run waits for it unless it is stuck.
func (w *Watch) look(ctx context.Context, ticket uint64, probe Probe) {
	reason := ""
	if err := probe(ctx); err != nil {
		reason = cmp.Or(err.Error(), "it says nothing")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel[ticket]()
	delete(w.cancel, ticket)
	w.changes = append(w.changes, w.engine.Done(ticket, reason)...)
	w.wake()
}

func (w *Watch) underWay() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.cancel) - w.engine.Stuck()
}
