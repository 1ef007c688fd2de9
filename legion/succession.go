package legion

import (
	"cmp"
	"iter"
	"slices"
)

// An heir is a living, fit candidate of a legion, as far as this node knows.
type heir struct {
	name        string
	instance    ID
	incarnation ID
	rank        Rank
	bare        int   // the valor without what is held elsewhere
	reigns      bool  // it says that it is the lord
	shy         Stamp // until when it is offered nothing
}

// heirs yields a legion's heirs, this node among them, in no order.
func (c *Core) heirs(legion string) iter.Seq[heir] {
	return func(yield func(heir) bool) {
		if r, ok := c.rank(legion); ok {
			l := c.cfg.Legions[legion]
			own := heir{name: c.cfg.Name, instance: c.cfg.Instance, incarnation: c.cfg.Incarnation, rank: r, bare: l.Valor + l.Weight}
			if !yield(own) {
				return
			}
		}
		for name, p := range c.peers {
			if !c.living(p) || p.state.Foreign(c.electorate) {
				continue
			}
			part := p.state.candidacy(legion)
			if part == nil || !part.Fit || part.Valor <= 0 {
				continue
			}
			reigns := p.state.reigns(legion)
			h := heir{
				name: name, instance: p.state.Instance, incarnation: p.state.Incarnation,
				rank: part.rank(c.loadOf(p), reigns, p.tie(legion)), bare: part.bare(), reigns: reigns, shy: p.shy,
			}
			if !yield(h) {
				return
			}
		}
	}
}

// line is the line of succession: the heirs of a legion, best first.
func (c *Core) line(legion string) []heir {
	return slices.SortedFunc(c.heirs(legion), func(a, b heir) int {
		return cmp.Or(b.rank.compare(a.rank), compareNames(a.name, b.name))
	})
}

// nextInLine returns the best of the others for a legion and counts it as
// taken, so that thrones given up together are not all thought to go to one.
func (c *Core) nextInLine(legion string) string {
	for _, h := range c.line(legion) {
		if h.name != c.cfg.Name {
			c.say(c.peers[h.name], h.rank.Load+1)
			return h.name
		}
	}
	return ""
}

func (p *peer) tie(legion string) ID {
	t, ok := p.ties[legion]
	if !ok {
		if p.ties == nil || len(p.ties) >= MaxLegions {
			p.ties = map[string]ID{}
		}
		t = tie(p.state.Instance, legion)
		p.ties[legion] = t
	}
	return t
}

// loadOf returns how many lordships the peer holds, by its latest word.
func (c *Core) loadOf(p *peer) int {
	if p.saidUntil != (Stamp{}) && !c.due(p.saidUntil) {
		return p.said
	}
	return p.state.load()
}

// say takes a peer's load to be n until its next announcement. A guess that
// was wrong must not last, so it counts for two leases at most.
func (c *Core) say(p *peer, n int) {
	p.said, p.saidUntil = n, c.in(2*c.lease())
	c.weighAgain(c.in(c.lease()))
}

// hearLoad learns the load of the sender of h from the rank that it sent, and
// adds what it is about to win.
func (c *Core) hearLoad(h Header, r Rank, more int) {
	p := c.peers[h.From]
	if p == nil || !p.known || p.state.Incarnation != h.Incarnation || r.Seq < max(p.state.Seq, p.saidSeq) {
		return
	}
	p.saidSeq = r.Seq
	c.say(p, r.Load+more)
}

// carry counts a lordship that begins or ends to act.
func (c *Core) carry(l *lordship, n int) {
	if l.legion != ClusterLegion {
		c.load += n
	}
}
