package legion

import (
	"cmp"
	"slices"
	"time"
)

// Spreading is the lord's move. If everybody ranked by everybody's load at
// once, all lordships would go to the emptiest node together, and leave it
// together, for ever. So a lord a offers legion g to b only if
//
//	[V(b,g) - load(b)] - [V(a,g) - (load(a) - 1)] > stickiness
//
// and b accepts only if that holds for its true load, of which it is sure
// because it takes one at a time. Each move then raises
//
//	sum of V(lord(g), g)  -  sum of load(n) x (load(n) - 1) / 2
//
// by just that difference, whatever gossip believes; so the moves are bounded,
// and end. The limits below keep their number near the least possible. They
// are for moves that only the load asks for: a valor that changed, or a node
// that is not fit, waits for none of them.
const (
	spreadRest  = 30 * time.Second // between two such moves of one legion
	spreadEvery = 5 * time.Second  // between two of one node, by the size of the gain
	// spreadPatience is how long a lord lets those that carry more go first.
	// They may be unable to give anything away.
	spreadPatience = 15 * time.Second
)

// spread makes at most one of the moves that the load asks for.
func (c *Core) spread(wishes []wish) {
	if len(wishes) == 0 {
		c.wishing = false
		return
	}
	if !c.wishing {
		c.wishing, c.wishSince = true, c.now.Stamp()
	}
	for _, l := range c.lordships {
		if l.yield != nil || l.leaving && l.heir != "" {
			return // one at a time
		}
	}
	if !c.due(c.nextSpread) {
		c.weighAgain(c.nextSpread)
		return
	}
	if patience := c.wishSince.add(spreadPatience); c.outweighed() && !c.due(patience) {
		c.weighAgain(patience)
		return
	}
	w := slices.MaxFunc(wishes, func(a, b wish) int {
		return cmp.Or(cmp.Compare(a.gain, b.gain), cmp.Compare(hashName(b.legion), hashName(a.legion)))
	})
	w.yield = &handover{cause: byLoad, until: c.in(2 * c.beatEvery())}
	c.nextSpread = c.in(spreadEvery / time.Duration(max(w.gain, 1)))
}

// outweighed reports whether another node is known to carry more.
func (c *Core) outweighed() bool {
	for _, p := range c.peers {
		if c.living(p) && !p.state.Foreign(c.electorate) && c.loadOf(p) > c.load {
			return true
		}
	}
	return false
}
