package legion

import (
	"fmt"
	"time"
)

// A candidate that keeps losing a lordship is held back: it ranks behind all
// others for a while, so that the work stays where it can be done. It is not
// unfit for that: if it is the only one, it reigns.
const (
	lapsesAllowed = 3                // losses of one lordship ...
	lapsesWithin  = 60 * time.Second // ... within this
	holdFirst     = 60 * time.Second // and it is held back for so long,
	holdLongest   = 15 * time.Minute // twice as long each time, up to this
)

// lapses are a node's recent losses of one lordship. It counts what it lost or
// gave up through its own condition: no quorum, a failing check, a hook or a
// disk. What an administrator, the load, or a better candidate took says
// nothing against it.
type lapses struct {
	at   []Stamp // fewer than lapsesAllowed
	last Stamp
	hold time.Duration // the latest time for which it was held back
	held Stamp         // until when it is; zero: it is not
}

// forfeit gives up a lordship that this node could not keep.
func (c *Core) forfeit(legion, reason string) {
	if l := c.lordships[legion]; l != nil && !l.leaving {
		c.lapse(legion)
	}
	c.abandon(legion, reason)
}

func (c *Core) lapse(legion string) {
	p := c.lapses[legion]
	if p == nil {
		if len(c.lapses) >= MaxLegions {
			return
		}
		p = &lapses{}
		c.lapses[legion] = p
	}
	now := c.now.Stamp()
	if c.now.held(p.last) > holdLongest {
		p.hold = 0
	}
	p.last = now
	recent := p.at[:0]
	for _, at := range append(p.at, now) {
		if c.now.held(at) < lapsesWithin {
			recent = append(recent, at)
		}
	}
	p.at = recent
	c.nextUnhold = now
	if len(p.at) < lapsesAllowed {
		return
	}
	p.at = nil
	p.hold = min(max(2*p.hold, holdFirst), holdLongest)
	p.held = c.in(p.hold)
	c.changed, c.look = true, true
	c.note(Note{Event: "held", Legion: legion, Warn: true, Text: fmt.Sprintf(
		"lost this lordship %d times within %v: ranks last for %v", lapsesAllowed, lapsesWithin, p.hold)})
}

// heldBack reports whether this node ranks last in a legion.
func (c *Core) heldBack(legion string) bool {
	p := c.lapses[legion]
	return p != nil && p.held != Stamp{} || c.cfg.Legions[legion].Last
}

// unhold lets those stand again whose time has passed, and forgets old losses.
func (c *Core) unhold() {
	if len(c.lapses) == 0 || !c.due(c.nextUnhold) {
		return
	}
	c.nextUnhold = c.in(lapsesWithin)
	for legion, p := range c.lapses {
		switch {
		case p.held != Stamp{} && c.due(p.held):
			p.held = Stamp{}
			c.changed, c.look = true, true
		case p.held != Stamp{}:
			c.nextUnhold = c.now.sooner(c.nextUnhold, p.held)
		case c.now.held(p.last) > holdLongest:
			delete(c.lapses, legion)
		}
	}
}
