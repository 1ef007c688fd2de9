package legion

import (
	"slices"
	"time"
)

// Wall clocks decide which slots are due, so a lord whose wall clock is wrong
// does harm that no lease and no term prevents. Ahead of the others' it decides
// about slots that are yet to come, and leaves marks behind which keep later
// lords from them; behind them it starts nothing, for its jobs' marks are ahead
// of its clock. Neither is a matter of safety: a slot is decided once, at the
// wrong time.
//
// Voters are the measure. Each answer carries the voter's time of day; it was
// read between the sending of the request and now, so that the voter's clock is
// known to within the time that has passed. A fenced write carries the lord's.
//
//   - A voter takes no fenced write that is dated more than [MaxAhead] ahead of
//     its own clock, and a lord sends none, not to its own disk either, unless
//     a quorum would take it by what is known of their clocks.
//   - A node that is that far ahead of so many voters that the rest is no quorum
//     gives up its lordships and wins none: it could not have a slot written.
//   - A node that a quorum of voters is that far ahead of ranks last as a lord,
//     preempt or not, and is not ready for a throne that need not be given away;
//     nor is one that does not know enough of their clocks to tell: it would win
//     the throne, hear the others' clocks, and give it back, again and again.
//     In a vacancy it stands only if nobody else has, for a lease.
//
// [ClusterLegion] has no slots, and of legions that do with less than a majority
// no more is asked than that each voter looks at its own clock.

const (
	// MaxAhead is how far a fenced write may be dated ahead of a voter's wall
	// clock. Less gives lordships up over clocks that are merely badly kept; more
	// silences jobs for as long if a clock is wrong.
	MaxAhead = 10 * time.Second
	// clockKept is for how long a voter's answer says what time it is there. Clocks
	// whose rates differ by 10 % drift apart by less than MaxAhead in that time.
	clockKept = time.Minute
)

// A reading is what a voter's answer said of its wall clock.
type reading struct {
	wall        time.Time
	sent, heard Stamp // when the request left, and when the answer came
}

// readClock takes the time of day from an answer of a voter to what was sent
// at that moment. A lord whose clock is wrong, by what is known now, acts on it.
func (c *Core) readClock(h Header, sent Stamp) {
	if h.Wall == 0 {
		return
	}
	c.clocks[h.From] = reading{time.UnixMilli(h.Wall), sent, c.now.Stamp()}
	if c.load > 0 {
		c.giveUpAhead()
		c.look = c.look || c.behind()
	}
}

// earliest and latest bound what a voter's wall clock shows now.
func (c *Core) earliest(r reading) time.Time { return r.wall.Add(c.now.since(r.heard)) }
func (c *Core) latest(r reading) time.Time   { return r.wall.Add(c.now.held(r.sent)) }

// clocksThat counts the other voters whose clocks are known and as asked for.
func (c *Core) clocksThat(are func(r reading) bool) (n int) {
	for _, v := range c.electorate.Voters {
		if r, ok := c.clocks[v.Name]; ok && v.Name != c.cfg.Name && c.now.held(r.heard) < clockKept && are(r) {
			n++
		}
	}
	return n
}

// ahead reports whether this node's wall clock is so far ahead of the voters'
// that no quorum would take a write of it.
func (c *Core) ahead(legion string) bool { return c.disbelieved(legion, c.now.Wall) }

// disbelieved reports whether no quorum would take a write that is dated so.
func (c *Core) disbelieved(legion string, dated time.Time) bool {
	return len(c.electorate.Voters)-c.disbelievers(dated) < c.quorum(legion)
}

// disbelievers counts the voters that would not take a write that is dated so.
func (c *Core) disbelievers(dated time.Time) int {
	n := c.clocksThat(func(r reading) bool { return dated.After(c.latest(r).Add(MaxAhead)) })
	if c.voter() && dated.After(c.now.Wall.Add(MaxAhead)) { // the clock was set back since
		n++
	}
	return n
}

// behind reports whether a quorum of voters have wall clocks far ahead of this
// node's.
func (c *Core) behind() bool {
	return c.clocksThat(func(r reading) bool { return c.earliest(r).After(c.now.Wall.Add(MaxAhead)) }) >= c.electorate.Quorum
}

// wellTimed reports whether enough of the voters' clocks are known to say that
// this node's is neither ahead nor behind, whatever the others show.
func (c *Core) wellTimed(legion string) bool {
	others := len(c.electorate.Voters)
	if c.voter() {
		others--
	}
	n := c.clocksThat(func(r reading) bool { return !c.earliest(r).After(c.now.Wall.Add(MaxAhead)) })
	return others-n < c.electorate.Quorum && c.believed(legion, c.now.Wall)
}

// believed reports whether a quorum would take a write that is dated so.
func (c *Core) believed(legion string, dated time.Time) bool {
	n := c.clocksThat(func(r reading) bool { return !dated.After(c.earliest(r).Add(MaxAhead)) })
	if c.voter() {
		n++
	}
	return n >= c.quorum(legion)
}

// timed reports whether wall clocks matter for who is lord of a legion.
func (c *Core) timed(legion string) bool { return legion != ClusterLegion && !c.unsafe(legion) }

const (
	whyAhead  = "its wall clock is ahead of the voters'"
	whyBehind = "its wall clock is behind the voters'"
)

// giveUpAhead gives up the lordships whose slots could not be written.
func (c *Core) giveUpAhead() {
	if c.disbelievers(c.now.Wall) == 0 {
		return
	}
	for _, l := range c.reigning() {
		if c.timed(l.legion) && c.ahead(l.legion) {
			c.forfeitTo(l.legion, whyAhead)
		}
	}
}

// giveUpDated gives up the lordships that have a write under way which will not
// be taken for long: it was asked for by a clock that was ahead. Where not all
// voters answer, those that do may be too few to say so; then it is the one that
// a lease has passed and no quorum is known that would take it.
func (c *Core) giveUpDated() {
	for _, p := range slices.Clone(c.proposals) {
		if !p.fenced() || p.committed || !c.due(p.next) || !c.timed(p.Legion) {
			continue
		}
		if c.disbelieved(p.Legion, p.Dated) || c.due(p.until) && !c.believed(p.Legion, p.Dated) {
			c.forfeitTo(p.Legion, whyAhead)
		}
	}
}

// forfeitTo gives up a lordship that this node could not keep to the next in line.
func (c *Core) forfeitTo(legion, reason string) {
	if l := c.lordships[legion]; l != nil && !l.leaving {
		l.heir = c.nextInLine(legion)
	}
	c.forfeit(legion, reason)
}

// mistimed says why this node's wall clock keeps it from standing for a vacant
// throne; "": it does not.
func (c *Core) mistimed(t *throne) string {
	switch {
	case !c.timed(t.Legion):
	case c.ahead(t.Legion):
		return whyAhead
	case c.behind() && c.now.since(t.vacant) < c.lease():
		return whyBehind
	}
	return ""
}
