package checks

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	// MaxRunning bounds the probes under way that have not passed their timeout.
	MaxRunning = 64
	// MaxStuck bounds the probes that do not come back. Each holds a goroutine
	// and whatever it waits for.
	MaxStuck = 256
	// Patience is how long a probe may take to come back after its timeout,
	// for a process tree has to be killed.
	Patience = time.Second
	// MaxReason bounds a reason, in bytes.
	MaxReason = 200

	idle = time.Minute
)

// A Start asks for a probe of a check. Its result is given to [Engine.Done]
// with the same Ticket.
type Start struct {
	Ticket  uint64
	Check   string
	Timeout time.Duration
}

// An Engine holds the checks of a node. It is for one goroutine at a time, and
// now never goes back between two calls.
type Engine struct {
	node    string
	checks  []*check // in the order of their definitions
	flights []*flight
	tickets uint64
	running int
	stuck   int
}

type check struct {
	Definition
	state  State
	good   bool // what the row is of
	row    int
	reason string        // of the state
	next   time.Duration // when it is due
	flight *flight       // nil: none
}

// A flight is a probe under way.
type flight struct {
	ticket   uint64
	check    *check // nil: it is of no interest any more
	deadline time.Duration
	stuck    bool
}

// NewEngine returns an Engine without checks. The node's name spreads them.
func NewEngine(node string) *Engine { return &Engine{node: node} }

// Configure replaces the definitions, all of them or, on an error, none. It
// returns the tickets of probes under way that are of no interest any more;
// Done is called for these as well.
func (e *Engine) Configure(now time.Duration, defs []Definition) (stale []uint64, err error) {
	if len(defs) > MaxChecks {
		return nil, fmt.Errorf("%d checks, at most %d are allowed", len(defs), MaxChecks)
	}
	old := map[string]*check{}
	for _, c := range e.checks {
		old[c.Name] = c
	}
	var all []*check
	seen := map[string]bool{}
	for _, d := range defs {
		if err := d.Validate(); err != nil {
			return nil, err
		}
		if seen[d.Name] {
			return nil, fmt.Errorf("two checks of the name %s", d.Name)
		}
		seen[d.Name] = true
		c := &check{Definition: d, state: Unknown, reason: "no result yet", next: now}
		if was := old[d.Name]; was != nil && was.Probe == d.Probe {
			*c = *was
			c.Definition = d
			c.next = min(was.next, now+d.Interval)
		}
		all = append(all, c)
	}
	// Nothing can fail any more.
	for _, c := range e.checks {
		if f := c.flight; f != nil {
			f.check = nil
		}
	}
	for _, c := range all {
		if c.flight != nil {
			c.flight.check = c
		}
	}
	e.checks = all
	for _, f := range e.flights {
		if f.check == nil {
			stale = append(stale, f.ticket)
		}
	}
	return stale, nil
}

// Step says which probes are to be started now, and what has changed because
// others did not come back.
func (e *Engine) Step(now time.Duration) (starts []Start, changes []Change) {
	for _, f := range e.flights {
		if f.stuck || now < f.deadline+Patience {
			continue
		}
		f.stuck = true
		e.running--
		e.stuck++
		if c := f.check; c != nil {
			c.next = e.after(c, now)
			changes = c.result(changes, c.late())
		}
	}
	var due []*check
	for _, c := range e.checks {
		if now < c.next {
			continue
		}
		switch {
		case c.flight == nil && e.stuck >= MaxStuck:
			c.next = e.after(c, now)
			changes = c.result(changes, fmt.Sprintf("not probed: %d probes do not come back", e.stuck))
		case c.flight == nil:
			due = append(due, c)
		case c.flight.stuck:
			c.next = e.after(c, now)
			changes = c.result(changes, c.late())
		}
	}
	slices.SortStableFunc(due, func(a, b *check) int { return cmp.Compare(a.next, b.next) })
	for _, c := range due[:min(len(due), max(0, MaxRunning-e.running))] {
		e.tickets++
		c.flight = &flight{ticket: e.tickets, check: c, deadline: now + c.Timeout}
		c.next = e.after(c, now)
		e.flights = append(e.flights, c.flight)
		e.running++
		starts = append(starts, Start{Ticket: c.flight.ticket, Check: c.Name, Timeout: c.Timeout})
	}
	return starts, changes
}

// Done takes the result of a probe: no reason, and it was a success. A result
// that comes too late, or of a check that is no more, changes nothing.
func (e *Engine) Done(ticket uint64, reason string) []Change {
	i := slices.IndexFunc(e.flights, func(f *flight) bool { return f.ticket == ticket })
	if i < 0 {
		return nil
	}
	f := e.flights[i]
	e.flights = slices.Delete(e.flights, i, i+1)
	if f.stuck {
		e.stuck--
	} else {
		e.running--
	}
	if f.check == nil {
		return nil
	}
	f.check.flight = nil
	if f.stuck {
		return nil // it has been counted as a failure
	}
	return f.check.result(nil, reason)
}

// Wake is how long nothing is to be done unless a probe ends.
func (e *Engine) Wake(now time.Duration) time.Duration {
	wake := now + idle
	for _, f := range e.flights {
		if !f.stuck {
			wake = min(wake, f.deadline+Patience)
		}
	}
	for _, c := range e.checks {
		// One that is due and cannot start waits for the end of a probe.
		free := c.flight == nil && (e.running < MaxRunning || e.stuck >= MaxStuck)
		if free || c.flight != nil && c.flight.stuck {
			wake = min(wake, c.next)
		}
	}
	return max(0, wake-now)
}

// Stuck is how many probes do not come back.
func (e *Engine) Stuck() int { return e.stuck }

// Reports says where every check stands, in the order of the definitions.
func (e *Engine) Reports() []Report {
	all := make([]Report, len(e.checks))
	for i, c := range e.checks {
		all[i] = c.report()
	}
	return all
}

// A Standing is what all checks together do to the node in one legion.
type Standing struct {
	Weight int    // added to its valor
	Veto   string // why it is unfit, in one line; empty: no check says so
}

// Standing returns the node's standing in a legion.
func (e *Engine) Standing(legion string) (s Standing) {
	for _, c := range e.checks {
		if !c.concerns(legion) {
			continue
		}
		r := c.report()
		s.Weight += r.Valor
		if r.Veto && s.Veto == "" {
			s.Veto = r.String()
		}
	}
	return s
}

func (c *check) report() Report {
	valor, veto := c.effect(c.state)
	return Report{Name: c.Name, State: c.state, Valor: valor, Veto: veto, Legions: c.Legions, Reason: c.reason}
}

func (c *check) late() string {
	return fmt.Sprintf("no answer within %s, and its probe does not end", c.Timeout)
}

// result counts one result and appends the change that it makes, if any.
func (c *check) result(changes []Change, reason string) []Change {
	good := reason == ""
	if good != c.good {
		c.row = 0
	}
	c.good, c.row = good, min(c.row+1, MaxInARow)
	to := c.state
	switch {
	case good && c.row >= c.Rise:
		to = Passing
	case !good && (c.state == Unknown || c.row >= c.Fall):
		to = Failing
	}
	if to == c.state {
		return changes
	}
	from := c.state
	c.state, c.reason = to, oneLine(reason)
	return append(changes, Change{Report: c.report(), From: from, Row: c.row, Effect: c.effects(from, to)})
}

// after is when a check that is probed now is due again: the first instant of
// its phase that is at least half an interval away.
func (e *Engine) after(c *check, now time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(e.node + "\x00" + c.Name))
	phase := time.Duration(h.Sum64() % uint64(c.Interval))
	from := now + c.Interval/2
	next := from - from%c.Interval + phase
	if next < from {
		next += c.Interval
	}
	return next
}

// oneLine makes a text of anybody's fit for a log and for an announcement.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4*MaxReason)], "?")
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > MaxReason {
		s = strings.ToValidUTF8(s[:MaxReason-3], "") + "..."
	}
	return s
}
