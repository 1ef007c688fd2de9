package legion

import (
	"fmt"
	"time"
)

// A lord gives its throne away by asking first:
//
//	lord                          successor                    voters
//	 |-- Offer ------------------>|                              |
//	 |                            |-- Probe to all ------------->|
//	 |                            |<- ProbeAck of a quorum ------|
//	 |<------------------- Ready -|                              |
//	 | Unreign: it acts no more   |                              |
//	 | LetGo: nothing is left     |                              |
//	 |-- Release, naming the successor ------------------------->|
//	 |                            |-- Probe, Ask: as ever ------>|
//
// Nothing of this is needed for safety: the successor wins its throne like
// anybody else, and the lord has stopped before a vote is free. What it buys
// is that a throne is left only for somebody who can take it. A message that
// is lost, a successor that dies or hears nobody, an answer that comes too
// late: each ends the offer, and the lord stays, or, if it must go, asks the
// next and gives up when its patience ends.

const (
	// shyFor is how long a candidate that did not answer an offer, or refused
	// it, gets no other: short enough not to miss a host that is well again,
	// long enough that one that is heard but hears nobody costs nothing.
	shyFor = 5 * time.Second
	// busyShare of a beat passes before a candidate that takes another throne
	// is asked again.
	busyShare = 16
)

// A cause is why a lordship is given away.
type cause uint8

const (
	byLoad    cause = iota // another carries less
	byRank                 // another is better
	byFitness              // this node is not fit for it
	byWord                 // an administrator wants it
)

// must reports whether the lordship is given up even if nobody is ready.
func (y *handover) must() bool { return y.cause >= byFitness && y.to == "" }

// A handover is a lordship that is being given away.
type handover struct {
	cause  cause
	told   bool   // by [StepDown]: no change of fitness takes it back
	reason string // empty: what the cause says
	to     string // nobody else
	keep   time.Duration
	until  Stamp // the end of patience
	// The offer under way, if asked is not empty.
	asked   string
	seq     uint64
	expires Stamp
}

// A wish is a move that the load alone asks for.
type wish struct {
	*lordship
	to   heir
	gain int
}

// exceeds reports whether r is better than o by more than over.
func (r Rank) exceeds(o Rank, over int) bool {
	if r.Held != o.Held {
		return o.Held
	}
	return r.Effective-o.Effective > over
}

// reconsider looks for lordships that somebody else should have.
func (c *Core) reconsider() {
	if len(c.lordships) == 0 || !c.look && !c.due(c.nextYield) {
		return
	}
	c.nextYield = c.quietly()
	for _, p := range c.peers {
		if p.saidUntil != (Stamp{}) && !c.due(p.saidUntil) {
			c.weighAgain(p.saidUntil)
		}
	}
	all := c.reigning()
	var wishes []wish
	for _, l := range all {
		if w, ok := c.weigh(l); ok {
			wishes = append(wishes, w)
		}
	}
	c.spread(wishes)
	for _, l := range all {
		if l.yield != nil {
			c.handOver(l)
		}
	}
}

// weighAgain has reconsider called at that moment, if nothing comes before.
func (c *Core) weighAgain(at Stamp) { c.nextYield = c.now.sooner(c.nextYield, at) }

// weigh decides whether to give a lordship away. What only the load asks for
// is returned as a wish.
func (c *Core) weigh(l *lordship) (wish, bool) {
	part := c.cfg.Legions[l.legion]
	if l.yield != nil && l.yield.told {
		return wish{}, false
	}
	if why := part.unfit(); why != "" {
		l.bested = Stamp{}
		if l.yield == nil || !l.yield.must() {
			y := &handover{cause: byFitness, reason: why, until: c.in(2 * c.beatEvery())}
			if part.Away != "" || part.Valor <= 0 {
				y.cause, y.until = byWord, c.in(c.lease())
			}
			l.yield = y
		}
		return wish{}, false
	}
	if l.yield != nil && l.yield.must() {
		l.yield = nil // fit again, just in time
	}
	if l.yield != nil {
		return wish{}, false
	}
	own, late := c.lordRank(l.legion, part)
	if !late && (!part.Preempt || !c.due(l.kept)) {
		if l.bested = (Stamp{}); part.Preempt {
			c.weighAgain(l.kept)
		}
		return wish{}, false
	}
	best, found := c.pick(l, own)
	if !found {
		l.bested = Stamp{}
		return wish{}, false
	}
	if l.bested == (Stamp{}) {
		l.bested = c.now.Stamp()
	}
	delay := c.preemptDelay(part)
	if late { // it starts nothing: that is no matter of who is better
		delay = min(delay, 2*c.beatEvery())
	}
	if at := l.bested.add(delay); !c.due(at) {
		c.weighAgain(at)
		return wish{}, false
	}
	switch {
	case best.name == "":
	case late:
		l.yield = &handover{cause: byRank, reason: whyBehind, until: c.in(2 * c.beatEvery())}
	case own.Held || best.bare > part.Valor+part.Weight+part.Stickiness:
		l.yield = &handover{cause: byRank, until: c.in(2 * c.beatEvery())}
	case !c.due(l.rested):
		c.weighAgain(l.rested)
	default:
		return wish{l, best, best.rank.Effective - own.Effective}, true
	}
	return wish{}, false
}

// lordRank is the rank by which this node, as lord, compares itself to others:
// the last, if its wall clock is behind the voters'.
func (c *Core) lordRank(legion string, part Legion) (own Rank, late bool) {
	own = c.ownRank(legion, part)
	late = c.timed(legion) && c.behind()
	own.Held = own.Held || late
	return own, late
}

func (c *Core) preemptDelay(part Legion) time.Duration {
	if part.PreemptDelay == 0 {
		return 2 * c.beatEvery()
	}
	return max(part.PreemptDelay, 0)
}

// pick returns the best heir to whom l might be given: a better one than own,
// or, if this node must go, anybody. The name is empty where all that come in
// question have just refused or are being offered another throne; found is
// false where there are none.
func (c *Core) pick(l *lordship, own Rank) (best heir, found bool) {
	over := c.cfg.Legions[l.legion].Stickiness
	var to string
	forced := false
	if y := l.yield; y != nil {
		to, forced = y.to, y.cause >= byFitness
	}
	for h := range c.heirs(l.legion) {
		if h.name == c.cfg.Name || to != "" && h.name != to || !forced && !h.rank.exceeds(own, over) {
			continue
		}
		found = true
		if !c.due(h.shy) {
			c.weighAgain(h.shy)
			continue
		}
		if best.name == "" || h.rank.compare(best.rank) > 0 {
			best = h
		}
	}
	return best, found
}

// handingOver reports whether a throne is being given to a candidate.
func (c *Core) handingOver(to string) bool {
	for _, l := range c.lordships {
		if l.leaving && l.heir == to || l.yield != nil && l.yield.asked == to {
			return true
		}
	}
	return false
}

// handOver carries a handover on: it makes the next offer, or ends it.
func (c *Core) handOver(l *lordship) {
	y := l.yield
	if y.asked != "" {
		if !c.due(y.expires) {
			c.weighAgain(y.expires)
			return
		}
		c.rebuffed(y, c.refusalRest(y))
	}
	part := c.cfg.Legions[l.legion]
	own, _ := c.lordRank(l.legion, part)
	best, found := c.pick(l, own)
	over := c.due(y.until)
	switch {
	case y.must() && !found:
		c.concede(l, "")
	case y.must() && over:
		c.concede(l, c.nextInLine(l.legion))
	case over || !found:
		l.yield = nil
		c.weighAgain(c.in(c.lease()))
		if y.told {
			c.note(Note{Event: "yield", Legion: l.legion, Term: l.term, Text: y.to + " is not ready: staying", Warn: true})
		}
	case best.name == "" || c.handingOver(best.name):
		c.weighAgain(y.until)
	default:
		y.asked, y.expires = best.name, c.in(c.beatEvery()/2)
		y.seq = c.send(best.name, Offer{
			Legion: l.legion, Term: l.term, Rank: own, Over: part.Stickiness,
			Must: y.cause >= byFitness, Rest: y.cause == byLoad, Keep: y.keep,
		}, sendOpts{to: best.incarnation})
		c.weighAgain(y.expires)
	}
}

// rebuffed ends the offer under way; that candidate is asked nothing for a while.
func (c *Core) rebuffed(y *handover, rest time.Duration) {
	if p := c.peers[y.asked]; p != nil {
		p.shy = c.in(rest)
	}
	y.asked = ""
}

func (c *Core) refusalRest(y *handover) time.Duration {
	if y.cause >= byFitness {
		return c.beatEvery()
	}
	return shyFor
}

// onReady stops acting for a throne whose successor is ready, now: from here
// on only the shell stands between it and the release.
func (c *Core) onReady(h Header, b Ready) {
	c.hearLoad(h, b.Rank, 0)
	l := c.lordships[b.Legion]
	if l == nil || l.leaving || l.yield == nil || l.yield.asked != h.From || l.yield.seq != h.Echo {
		return
	}
	c.look = true
	switch {
	case b.Ready:
		c.hearLoad(h, b.Rank, 1)
		c.concede(l, h.From)
	case b.Busy:
		c.rebuffed(l.yield, c.beatEvery()/busyShare)
	default:
		c.rebuffed(l.yield, c.refusalRest(l.yield))
	}
}

// concede gives a lordship up, for heir if there is one.
func (c *Core) concede(l *lordship, heir string) {
	y := l.yield
	l.heir, l.yield = heir, nil
	reason := map[cause]string{byLoad: "carries less", byRank: "is better"}[y.cause]
	switch {
	case y.reason != "" && heir != "":
		reason = fmt.Sprintf("%s; yields to %s", y.reason, heir)
	case y.reason != "":
		reason = y.reason
	default:
		reason = fmt.Sprintf("yields to %s, which %s", heir, reason)
	}
	fell := c.cfg.Legions[l.legion].Weight < l.weight
	if y.cause == byFitness || y.cause == byRank && fell {
		c.lapse(l.legion)
	}
	c.abandon(l.legion, reason)
	// Called by reconsider, it is stand that takes the look which abandon asks for.
	c.weighAgain(c.in(c.lease()))
}

func (c *Core) stepDown(ev StepDown) {
	l := c.lordships[ev.Legion]
	if l == nil || l.leaving {
		return
	}
	l.yield = &handover{cause: byWord, told: true, reason: ev.Reason, to: ev.To, keep: ev.Keep, until: c.in(c.lease())}
	c.look = true
	if ev.Now {
		c.concede(l, c.nextInLine(l.legion))
	}
}

// A taking is a throne that this node has been offered. There is at most one,
// so that what it answers about its load is true.
type taking struct {
	legion string
	offer  Header // answered by Ready
	term   uint64
	sent   map[uint64]sentTo // probes
	heard  map[string]bool   // voters that answered them
	ready  bool
	until  Stamp
	must   bool // its lord gives it up whoever is ready
	rest   bool
	keep   time.Duration
}

func (c *Core) onOffer(h Header, b Offer) {
	c.hearLoad(h, b.Rank, 0)
	own, fit := c.rank(b.Legion)
	refuse := func(busy bool) {
		c.answer(h, Ready{Legion: b.Legion, Term: b.Term, Busy: busy, Rank: own}, sendOpts{})
	}
	t := c.taking
	if t != nil && c.due(t.until) {
		t, c.taking = nil, nil
	}
	same := t != nil && t.legion == b.Legion && t.offer.Incarnation == h.Incarnation
	switch {
	case same && h.Seq <= t.offer.Seq: // doubled, or overtaken
	case !fit || c.lordships[b.Legion] != nil || !b.Must && !own.exceeds(b.Rank, b.Over):
		refuse(false)
	case t != nil && !same || c.busy():
		refuse(true)
	default:
		t = &taking{
			legion: b.Legion, term: b.Term, offer: h, sent: map[uint64]sentTo{}, heard: map[string]bool{},
			until: c.in(c.beatEvery()), must: b.Must, rest: b.Rest, keep: b.Keep,
		}
		c.taking = t
		for _, v := range c.electorate.Voters {
			t.sent[c.send(v.Name, Probe{Legion: b.Legion, Rank: own}, sendOpts{})] = sentTo{v.Name, c.now.Stamp()}
		}
	}
}

// hearsVoter counts an answer to what was asked because of an offer, and says
// Ready when a quorum has answered. That the throne is occupied is as it should be.
func (c *Core) hearsVoter(h Header, b ProbeAck) {
	t := c.taking
	if t == nil || t.ready || t.sent[h.Echo].voter != h.From || c.due(t.until) {
		return
	}
	if !b.Would && b.Why != Occupied && b.Why != Preferred {
		return
	}
	t.heard[h.From] = true
	c.readClock(h, t.sent[h.Echo].at)
	if len(t.heard) < c.quorum(t.legion) {
		return
	}
	own, fit := c.rank(t.legion) // not fit any more: told to stop, say
	switch {
	case !c.timed(t.legion):
	case c.ahead(t.legion) || !t.must && c.behind():
		fit = false
	case !t.must && !c.wellTimed(t.legion):
		return // until another voter's clock is known
	}
	t.ready, t.until = true, c.in(c.lease())
	if !fit {
		c.taking = nil
	}
	c.answer(t.offer, Ready{Legion: t.legion, Term: t.term, Ready: fit, Rank: own}, sendOpts{})
}

// took ends the taking of a throne that has been won.
func (c *Core) took(l *lordship) {
	t := c.taking
	if t == nil || t.legion != l.legion {
		return
	}
	c.taking = nil
	if t.rest {
		l.rested = c.in(spreadRest)
	}
	if t.keep > 0 {
		l.kept = c.in(t.keep)
	}
}

// summon lets this node campaign at once if the last lord named it.
func (c *Core) summon(t *throne) {
	if k := c.campaigns[t.Legion]; k != nil && k.phase == waiting && t.heir == c.cfg.Name {
		delete(c.campaigns, t.Legion)
	}
	c.look = true
}
