package daemon

import (
	"cmp"
	"sync"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/legion/gossip"
)

const (
	// maxKnown bounds the nodes and the legions that are remembered.
	maxKnown = 10_000
	// maxSkew is how far two clocks may be apart before it is worth a word.
	// Leases do not mind; slots start and catch up by the lord's clock.
	maxSkew = 500 * time.Millisecond
)

// A presence remembers when nodes came and went, as gossip tells it, and what
// their clocks said. How long ago that was is not the wall clock's to say: a
// node that it had gone for an hour would have lost its runs.
type presence struct {
	mu    sync.Mutex
	start time.Duration // on CLOCK_BOOTTIME
	nodes map[string]*sighting
}

type sighting struct {
	gossip.Member
	up       bool
	since    time.Duration // on CLOCK_BOOTTIME
	skew     time.Duration // its clock minus ours, if that was measured
	measured bool
	looked   time.Duration // when that was looked at, on CLOCK_BOOTTIME; 0: never
}

func newPresence(now time.Duration) *presence {
	return &presence{start: now, nodes: map[string]*sighting{}}
}

func (p *presence) note(ev gossip.Event, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.nodes[ev.Name]
	if s == nil {
		if len(p.nodes) >= maxKnown {
			p.forget()
		}
		s = &sighting{}
		p.nodes[ev.Name] = s
	}
	up := ev.Kind != gossip.Down
	if s.up != up || s.Incarnation != ev.Incarnation {
		s.since, s.looked, s.skew, s.measured = now, 0, 0, false
	}
	s.Member, s.up = ev.Member, up
}

// forget makes room for one more: the node goes that has been away the longest.
// One that is there is never given up for it; gossip has far fewer.
func (p *presence) forget() {
	oldest := ""
	for name, s := range p.nodes {
		if !s.up && (oldest == "" || s.since < p.nodes[oldest].since) {
			oldest = name
		}
	}
	delete(p.nodes, oldest)
}

// knows reports whether a node of that name was seen, alive or not.
func (p *presence) knows(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodes[name] != nil
}

// stalest names the living node whose clock was looked at the longest ago, if
// that was clockStays ago. It counts as looked at from now on.
func (p *presence) stalest(now time.Duration) (name string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var oldest time.Duration
	for n, s := range p.nodes {
		if s.up && (s.looked == 0 || now-s.looked >= clockStays) && (!ok || s.looked < oldest) {
			name, oldest, ok = n, s.looked, true
		}
	}
	if ok {
		p.nodes[name].looked = now
	}
	return name, ok
}

// measured takes note of how far a node's clock is ahead of ours, and reports
// whether that has just become, or ceased to be, too much.
func (p *presence) measured(name string, skew time.Duration) (turned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.nodes[name]
	if s == nil {
		return false
	}
	was := s.skew.Abs() > maxSkew
	s.skew, s.measured = skew, true
	return was != (skew.Abs() > maxSkew)
}

// earliest is what the clock shows that is furthest behind, of this node and of
// those that are here.
func (p *presence) earliest(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	behind := time.Duration(0)
	for _, s := range p.nodes {
		if s.up {
			behind = min(behind, s.skew)
		}
	}
	return now.Add(behind)
}

// away reports that there has been no word of the node's incarnation since a
// moment on CLOCK_BOOTTIME.
func (p *presence) away(name, incarnation string, since time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.nodes[name]
	switch {
	case s == nil:
		return p.start < since
	case s.up && s.Incarnation == incarnation:
		return false
	}
	return s.since < since
}

// addr is where the node was seen last; empty if it was not.
func (p *presence) addr(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.nodes[name]; s != nil {
		return s.Addr
	}
	return ""
}

// all returns copies.
func (p *presence) all() []sighting {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []sighting
	for _, s := range p.nodes {
		all = append(all, *s)
	}
	return all
}

// A chronicle remembers the last change of lord of each legion.
type chronicle struct {
	mu      sync.Mutex
	lords   map[string]legion.VoteFor // Name: the lord; empty: none
	before  map[string]legion.VoteFor // the lord before that one
	last    map[string]control.Change
	reigned map[string]time.Time        // since when
	unfit   map[candidacy]string        // why a node says that it may not be lord
	moved   func(legion, reason string) // told of a lordship that has come to another node
}

func newChronicle() *chronicle {
	return &chronicle{lords: map[string]legion.VoteFor{}, before: map[string]legion.VoteFor{}, last: map[string]control.Change{}, reigned: map[string]time.Time{}, unfit: map[candidacy]string{}}
}

// A candidacy is a node in a legion.
type candidacy struct{ legion, node string }

// afterwards is how much later than its successor a lord may tell why it fell.
const afterwards = 5 * time.Second

// reigns takes note that node reigns over l; reason says how it came to.
func (c *chronicle) reigns(node, l string, term uint64, reason string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.lords[l]
	if term < old.Term || term == old.Term && old.Name == node || len(c.lords) >= maxKnown {
		return
	}
	from := old.Name
	if last := c.last[l]; from == "" && last.To == "" {
		from = last.From // the throne was vacant in between
	}
	if old.Name != "" {
		c.before[l] = old
	}
	c.lords[l] = legion.VoteFor{Legion: l, Term: term, Name: node}
	c.reigned[l] = now
	if last := c.last[l]; reason == "" && last.To == "" && last.Reason != "" {
		reason = last.Reason
	}
	if from != node {
		reason = cmp.Or(reason, c.unfit[candidacy{l, from}], elected)
	}
	reason = cmp.Or(reason, "elected again") // what was in between was not seen
	c.last[l] = control.Change{At: control.At(now), From: from, To: node, Reason: reason}
	if from != node {
		c.moved(l, reason)
	}
}

// elected is the reason of a change of which no better one is known.
const elected = "elected"

// fits takes note of why a node may not be lord of l; empty: it may. Its word
// may come after that of its successor.
func (c *chronicle) fits(node, l, why string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why == "" {
		delete(c.unfit, candidacy{l, node})
		return
	}
	if len(c.unfit) < maxKnown {
		c.unfit[candidacy{l, node}] = why
	}
	if last := c.last[l]; last.From == node && last.To != node && last.Reason == elected && now.Sub(last.At.Time) < afterwards {
		last.Reason = why
		c.last[l] = last
	}
}

// ended takes note of what another node says of a reign of its own that is over.
// Its word may come after that of its successor, and comes more than once.
func (c *chronicle) ended(node, l string, term uint64, why string, now time.Time) {
	c.fell(node, l, term, why, now)
	c.mu.Lock()
	defer c.mu.Unlock()
	was, last := c.before[l], c.last[l]
	if was.Name == node && was.Term == term && last.From == node && last.Reason == elected {
		last.Reason = why
		c.last[l] = last
	}
}

// fell takes note that node's reign in a term is over.
func (c *chronicle) fell(node, l string, term uint64, reason string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.lords[l]
	if old.Name != node || old.Term != term {
		return
	}
	c.before[l] = old
	c.lords[l] = legion.VoteFor{Legion: l, Term: term}
	delete(c.reigned, l)
	c.last[l] = control.Change{At: control.At(now), From: node, Reason: reason}
}

// of returns the last change that was noted; nil: none.
func (c *chronicle) of(l string) *control.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch, ok := c.last[l]; ok {
		return &ch
	}
	return nil
}

// since returns when lord was first heard to reign over l; zero where its own word
// of that has not come yet, and what was noted is of another.
func (c *chronicle) since(l, lord string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lord == "" || c.lords[l].Name != lord {
		return time.Time{}
	}
	return c.reigned[l]
}
