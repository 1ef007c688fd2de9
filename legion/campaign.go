package legion

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"
)

// phase of a campaign.
type phase uint8

const (
	waiting phase = iota // for its turn, or resting after a failure
	probing              // "would you?"
	asking               // for votes in a new term
)

// Thrones are fought for one by one, so that each win counts against the node
// before the next: legions that were orphaned together spread. A probe that is
// not answered for a beat / slowProbe stops no other any more, since a legion
// that asks for more votes than there are would hold up all the rest.
const slowProbe = 8

// A campaign is a candidate's attempt on one throne.
type campaign struct {
	legion string
	phase  phase
	wake   Stamp // when to act, if nothing comes before
	until  Stamp // when the phase is given up
	load   int   // of this node when its turn was fixed
	// patience: until then a legion of less than a majority waits for all voters.
	patience Stamp
	slow     bool // probing for so long that others may begin
	term     uint64
	highest  uint64 // term heard of
	sent     map[uint64]sentTo
	would    map[string]bool
	refused  map[string]Refusal
	vacated  map[string]uint64 // voters that said it fell vacant meanwhile, and with which message
	again    Stamp             // when the soonest voter that refused may be asked again
	// waits: it rests until a grant runs out, or until the throne is given back.
	waits  bool
	grants tally
	states []VoterState
	stored []*Amendment // changes of electorate that the voters told of
}

type sentTo struct {
	voter string
	at    Stamp
}

// rank returns this node's own rank in a legion.
func (c *Core) rank(legion string) (Rank, bool) {
	l, ok := c.cfg.Legions[legion]
	if !ok || !c.candidate(legion) {
		return Rank{}, false
	}
	return c.ownRank(legion, l), true
}

// ownRank is the rank that this node's part l in a legion gives it, fit or not.
func (c *Core) ownRank(legion string, l Legion) Rank {
	own := c.lordships[legion]
	part := Candidacy{Legion: legion, Valor: l.Valor, Weight: l.Weight, Spread: l.Spread, Held: c.heldBack(legion)}
	t, ok := c.ties[legion]
	if !ok {
		t = tie(c.cfg.Instance, legion)
		c.ties[legion] = t
	}
	r := part.rank(c.load, own != nil && !own.leaving, t)
	r.Seq = c.own.Seq
	return r
}

// vacancy reports whether, as far as this node can tell, the throne is vacant.
func (c *Core) vacancy(t *throne) bool {
	if c.voter() {
		return !c.occupied(t)
	}
	if t.hinted {
		return true
	}
	for _, p := range c.peers {
		if c.living(p) && !p.state.Foreign(c.electorate) && p.state.reigns(t.Legion) {
			return false
		}
	}
	return true
}

// gathered reports whether a first election may be held: all voters are here
// and have the electorate, or one lease has passed since a quorum of them had.
// It keeps the first node to start from winning everything.
func (c *Core) gathered() bool {
	here := 0
	for _, v := range c.electorate.Voters {
		if p := c.peers[v.Name]; v.Name == c.cfg.Name || p != nil && c.living(p) && p.state.Electorate != nil {
			here++
		}
	}
	if here >= c.electorate.Quorum && !c.quorumSeen {
		c.quorumSeen, c.quorumSeenAt = true, c.now.Stamp()
	}
	return here == len(c.electorate.Voters) || c.quorumSeen && c.now.held(c.quorumSeenAt) >= c.lease()
}

// rest keeps the node from campaigning for a legion for d.
func (c *Core) rest(legion string, d time.Duration) {
	c.campaigns[legion] = &campaign{legion: legion, wake: c.in(d)}
}

// stand begins, carries on and gives up campaigns.
func (c *Core) stand() {
	if c.electorate == nil || c.stopping {
		return
	}
	if !c.look && !c.due(c.nextStand) {
		return
	}
	c.look = false
	gathering := false // there is a first election to come
	var next *campaign // the one whose turn came first
	for _, legion := range c.hashOrder() {
		k := c.campaigns[legion]
		t := c.throne(legion)
		if t == nil {
			continue
		}
		if !c.candidate(legion) || c.lordships[legion] != nil {
			c.withdraw(k)
			continue
		}
		if k == nil || k.phase == waiting {
			if !c.vacancy(t) {
				if k != nil && c.due(k.wake) {
					delete(c.campaigns, legion)
				}
				continue
			}
			if max(t.Term, t.told) == 0 && !c.gathered() {
				gathering, t.vacant = true, c.now.Stamp()
				continue
			}
			if k == nil {
				k = &campaign{legion: legion, wake: c.turn(t), load: c.load}
				c.campaigns[legion] = k
			}
		}
		if !c.due(k.wake) {
			continue
		}
		switch k.phase {
		case waiting:
			if c.load > k.load && c.deferred(k, t) {
				continue
			}
			if legion == ClusterLegion { // no load: it changes nobody's rank
				c.probe(k)
			} else if next == nil || c.now.held(k.wake) > c.now.held(next.wake) {
				next = k
			}
		case probing:
			if c.due(k.until) && c.enough(k, len(k.would), 0) {
				c.stepUp(k)
			} else if c.due(k.until) {
				if len(k.would)+len(k.refused) < c.electorate.Quorum {
					c.outOfTouch()
				}
				c.fail(k, "no quorum answers")
			} else {
				k.slow, k.wake = true, k.until
			}
		case asking:
			if c.due(k.patience) && c.won(k) {
				c.reign(k)
			} else if c.due(k.until) {
				c.fail(k, "no quorum of votes")
			} else {
				c.ask(k)
			}
		}
	}
	if next != nil && !c.busy() {
		c.probe(next)
	}
	c.nextStand = c.quietly()
	if gathering {
		c.nextStand = c.in(c.beatEvery() / 4)
	}
	for _, k := range c.campaigns {
		w := k.wake
		if c.due(w) { // waiting for another campaign to end
			w = c.in(c.beatEvery() / 4)
		}
		if c.nextStand.Boot > w.Boot {
			c.nextStand = w
		}
	}
}

// busy reports whether a campaign is under way that others must wait for.
func (c *Core) busy() bool {
	for _, k := range c.campaigns {
		if k.legion == ClusterLegion {
			continue
		}
		if k.phase == asking || k.phase == probing && !k.slow {
			return true
		}
	}
	return false
}

// turn returns when this node may campaign: at once if it thinks itself best
// or was named by the last lord, half a beat later for each candidate that it
// thinks better.
func (c *Core) turn(t *throne) Stamp {
	own, _ := c.rank(t.Legion)
	k := c.better(t, own, c.cfg.Name)
	switch c.named(t) {
	case "":
	case c.cfg.Name:
		k = 0
	default:
		k = max(k, 1)
	}
	return t.vacant.add(time.Duration(k) * c.beatEvery() / 2)
}

// deferred lets others come first whose rank has become better than this
// node's, because it has won something since it fixed its turn. Each win
// defers a campaign once at most.
func (c *Core) deferred(k *campaign, t *throne) bool {
	k.load = c.load
	own, _ := c.rank(t.Legion)
	better := c.better(t, own, c.cfg.Name)
	if better == 0 || c.named(t) == c.cfg.Name {
		return false
	}
	k.wake = c.in(time.Duration(min(better, slowProbe/2)) * c.beatEvery() / slowProbe)
	return true
}

// hashOrder lists this node's legions in an order that every node agrees on
// and that differs from the order of their names.
func (c *Core) hashOrder() []string {
	if len(c.ordered) != len(c.cfg.Legions) || c.orderStale {
		c.ordered = slices.SortedFunc(maps.Keys(c.cfg.Legions), func(a, b string) int {
			x, y := hashName(a), hashName(b)
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return compareNames(a, b)
		})
		c.orderStale = false
	}
	return c.ordered
}

func hashName(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// probe asks every voter whether it would vote for this node, before a term
// is raised: a node that comes back must not disturb a reign.
func (c *Core) probe(k *campaign) {
	*k = campaign{legion: k.legion, phase: probing, patience: c.in(c.beatEvery()),
		wake: c.in(c.beatEvery() / slowProbe), until: c.in(c.beatEvery()),
		sent: map[uint64]sentTo{}, would: map[string]bool{}, refused: map[string]Refusal{}, vacated: map[string]uint64{}}
	for _, v := range c.electorate.Voters {
		c.probeOne(k, v.Name)
	}
}

func (c *Core) probeOne(k *campaign, voter string) {
	r, _ := c.rank(k.legion)
	k.sent[c.send(voter, Probe{Legion: k.legion, Rank: r}, sendOpts{})] = sentTo{voter, c.now.Stamp()}
}

func (c *Core) onProbeAck(h Header, b ProbeAck) {
	if c.isVoter(h) {
		c.hearsVoter(h, b)
	}
	k := c.campaigns[b.Legion]
	if k == nil || k.phase != probing || k.sent[h.Echo].voter != h.From || !c.isVoter(h) {
		return
	}
	c.readClock(h, k.sent[h.Echo].at)
	k.highest = max(k.highest, b.Term)
	if !b.Would {
		c.refused(k, h, b.Why, b.Again)
		return
	}
	k.would[h.From] = true
	if c.enough(k, len(k.would), len(c.electorate.Voters)) {
		c.stepUp(k)
	}
}

// stepUp begins to ask for votes, in a new term.
func (c *Core) stepUp(k *campaign) {
	if k.slow && c.busy() { // that one may change this one's rank
		c.rest(k.legion, 0)
		return
	}
	t := c.thrones[k.legion]
	if why := c.mistimed(t); why != "" {
		if t.mistimed != why {
			c.note(Note{Event: "campaign", Legion: k.legion, Text: "does not stand: " + why, Warn: true})
		}
		t.mistimed = why
		c.rest(k.legion, c.lease()/2+c.jitter(0, c.lease()/2))
		return
	}
	t.mistimed = ""
	k.phase = asking
	k.term = max(k.highest, t.Term, t.told, t.asked, c.electorate.Base) + 1
	t.asked = k.term // never again: what was sent in it may still be on its way
	k.until = c.in(max(2*c.beatEvery(), c.lease()/2))
	k.patience = c.in(c.beatEvery())
	k.sent, k.grants = map[uint64]sentTo{}, nil
	clear(k.refused)
	clear(k.vacated)
	c.note(Note{Event: "campaign", Legion: k.legion, Term: k.term, Text: "asking for votes"})
	c.ask(k)
}

// won reports whether the votes are enough, and still good.
func (c *Core) won(k *campaign) bool {
	if !c.enough(k, len(k.grants), len(k.would)) {
		return false
	}
	_, ok := c.trust(c.now, &lordship{legion: k.legion, grants: k.grants})
	return ok
}

// ask sends a request to every voter that has not answered. Each is numbered,
// and an answer counts from when the very request it answers was sent.
func (c *Core) ask(k *campaign) {
	k.wake = c.in(c.beatEvery() / 2)
	for _, v := range c.electorate.Voters {
		if k.refused[v.Name] == Preferred { // that passes
			delete(k.refused, v.Name)
		}
		if _, ok := k.grants.of(v.Name); !ok && k.refused[v.Name] == NotRefused {
			c.askOne(k, v.Name)
		}
	}
}

func (c *Core) askOne(k *campaign, voter string) {
	r, _ := c.rank(k.legion)
	k.sent[c.send(voter, Ask{Legion: k.legion, Term: k.term, Rank: r}, sendOpts{})] = sentTo{voter, c.now.Stamp()}
}

// freed asks a voter again that said a throne fell vacant, if it refused
// because it was occupied.
func (c *Core) freed(k *campaign, voter string) {
	delete(k.refused, voter)
	if k.phase == probing {
		c.probeOne(k, voter)
	} else {
		c.askOne(k, voter)
	}
}

func (c *Core) onVote(h Header, b Vote) {
	if l := c.lordships[b.Legion]; l != nil && b.Granted && l.term == b.Term && c.isVoter(h) {
		c.linkTo(h).hear(h) // late, but its number may be echoed
		return
	}
	k := c.campaigns[b.Legion]
	if !c.isVoter(h) {
		return
	}
	if k == nil || k.phase != asking || k.term != b.Term {
		if t := c.thrones[b.Legion]; b.Granted && t != nil && b.Term <= t.asked {
			c.release(b.Legion, b.Term, "") // that may have overtaken the request
		}
		return
	}
	s, ok := k.sent[h.Echo]
	if !ok || s.voter != h.From {
		return
	}
	if !b.Granted {
		k.highest = max(k.highest, b.Promise)
		c.refused(k, h, b.Why, b.Again)
		return
	}
	c.linkTo(h).hear(h)
	c.readClock(h, s.at)
	k.grants.credit(h.From, s.at)
	k.stored = append(k.stored, b.Pending)
	k.states = append(slices.DeleteFunc(k.states, func(v VoterState) bool { return v.Voter == h.From }),
		VoterState{Voter: h.From, Same: b.Same, State: b.State})
	if c.won(k) {
		c.reign(k)
	}
}

// linkTo returns the link to the voter that sent h.
func (c *Core) linkTo(h Header) *link {
	k := c.links[h.From]
	if k == nil {
		k = &link{sent: map[uint64]sentBeat{}}
		c.links[h.From] = k
	}
	return k
}

// refused counts a refusal and gives the campaign up if it cannot be won.
// Where two share the votes so that neither wins, the lesser gives way at once,
// and the better is told when those votes are free.
func (c *Core) refused(k *campaign, h Header, why Refusal, again time.Duration) {
	if why == Occupied && h.Seq < k.vacated[h.From] {
		c.freed(k, h.From) // what it said later came first
		return
	}
	k.refused[h.From] = why
	if again = min(again, 2*c.lease()); again > 0 {
		if k.again == (Stamp{}) {
			k.again = c.in(again)
		}
		k.again = c.now.sooner(k.again, c.in(again))
	}
	t := c.thrones[k.legion]
	if why == Occupied && !c.voter() {
		t.hinted = false
	}
	split := false
	if k.phase == asking && k.highest >= k.term { // a rival's doing, not the last lord's
		own, _ := c.rank(k.legion)
		best := c.better(t, own, c.cfg.Name) == 0
		if why == StaleTerm && best { // the rival gave way: again, in a higher term
			c.withdraw(k)
			c.rest(k.legion, c.jitter(0, c.beatEvery()/slowProbe))
			c.look = true
			return
		}
		split = why == Occupied && !best
	}
	if split || c.ends(k, why) || len(c.electorate.Voters)-len(k.refused) < c.quorum(k.legion) {
		c.fail(k, why.String())
	}
}

// fail ends a campaign: what it got is given back at once, and it rests for 1
// to 3 beats, or until the soonest voter may be asked again.
func (c *Core) fail(k *campaign, why string) {
	if k.phase == asking {
		c.note(Note{Event: "campaign", Legion: k.legion, Term: k.term, Text: "failed: " + why})
	}
	c.withdraw(k)
	rest, waits := c.jitter(c.beatEvery(), 3*c.beatEvery()), false
	if k.phase == probing && k.again != (Stamp{}) {
		rest, waits = max(-c.now.held(k.again), 0)+c.jitter(0, c.beatEvery()/8), true
		if t := c.thrones[k.legion]; !c.occupied(t) {
			// Those that were told to let a better one pass come back in the
			// order of their ranks, in case it does not come.
			own, _ := c.rank(k.legion)
			rest += time.Duration(min(c.better(t, own, c.cfg.Name), slowProbe)) * c.beatEvery() / slowProbe
		}
	}
	c.rest(k.legion, rest)
	c.campaigns[k.legion].waits = waits
	c.look = true
}

// wakeUp lets this node stand for a legion at once if it rested only because
// others held the throne occupied.
func (c *Core) wakeUp(legion string) {
	if k := c.campaigns[legion]; k != nil && k.waits {
		delete(c.campaigns, legion)
	}
	c.look = true
}

// withdraw ends a campaign, if there is one, and gives back what it got, from
// every voter: a vote may still be on its way. The campaign is forgotten by
// then, so that vote cannot be counted.
func (c *Core) withdraw(k *campaign) {
	if k == nil {
		return
	}
	delete(c.campaigns, k.legion)
	if k.phase == asking {
		c.release(k.legion, k.term, "")
	}
}
