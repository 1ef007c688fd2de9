package legion

import (
	"maps"
	"slices"
	"strings"
	"time"
)

func compareNames(a, b string) int { return strings.Compare(a, b) }

// A lordship is one legion in which this node reigns.
type lordship struct {
	legion string
	term   uint64
	since  Now
	grants tally
	// carried is until when the grants of the electorate before would do. It
	// spans the time until a new voter has given its own.
	carried Stamp
	version uint64 // of the first set of lordships that names this one
	leaving bool   // no longer acts; the shell has not let go yet
	heir    string // whom the release is to name
	// Whether it should be given away: see yield.go.
	yield  *handover
	bested Stamp // since when a candidate is better; zero: none is
	rested Stamp // until when load does not move it
	kept   Stamp // until when it is kept whoever is better
	weight int   // what the checks said when it was won
	lost   bool  // its trust ran out: it is not renewed, and cannot come back
}

// renewed reports whether the beats name l.
func (l *lordship) renewed() bool { return !l.lost }

// An ended is a reign that is over, and since when.
type ended struct {
	Ended
	at Stamp
}

// A link is what a lord knows of its beats to one voter.
type link struct {
	incarnation ID
	heard       uint64 // Seq of its latest answer
	version     uint64 // of the set it has acknowledged
	answered    Stamp  // when it last answered a beat
	sent        map[uint64]sentBeat
}

type sentBeat struct {
	at      Stamp
	version uint64
}

// A tally is, for each voter that has granted, when the latest request that it
// granted or extended was sent. There are few voters, and each beat looks at all
// lordships: a list is quicker than a map.
type tally []vote

type vote struct {
	voter string
	sent  Stamp
}

// of returns when the request was sent that a voter granted, and false if it
// granted none.
func (t tally) of(voter string) (Stamp, bool) {
	for i := range t {
		if t[i].voter == voter {
			return t[i].sent, true
		}
	}
	return Stamp{}, false
}

// credit counts a voter's grant from when its request was sent, unless a later
// one has been counted.
func (t *tally) credit(voter string, sent Stamp) {
	for i := range *t {
		if v := &(*t)[i]; v.voter == voter {
			if v.sent.Boot < sent.Boot {
				v.sent = sent
			}
			return
		}
	}
	*t = append(*t, vote{voter, sent})
}

func (t *tally) drop(voter string) {
	*t = slices.DeleteFunc(*t, func(v vote) bool { return v.voter == voter })
}

// lords returns the lordships by name of legion. It is not to be changed.
func (c *Core) lords() []*lordship {
	if c.byName == nil {
		c.byName = slices.SortedFunc(maps.Values(c.lordships), func(a, b *lordship) int { return compareNames(a.legion, b.legion) })
	}
	return c.byName
}

// reigning returns the lordships that act, by name of legion.
func (c *Core) reigning() []*lordship {
	return slices.DeleteFunc(slices.Clone(c.lords()), func(l *lordship) bool { return l.leaving })
}

// trust returns until when l is held: the quorum-th latest of its grants, and
// the holder's share of a lease. It is false if that has passed.
func (c *Core) trust(now Now, l *lordship) (Stamp, bool) {
	sent, ok := c.granted(c.electorate, l)
	until := sent.add(share(c.electorate.Lease, holderShare))
	if l.carried != (Stamp{}) && (!ok || now.held(l.carried) < now.held(until)) {
		until, ok = l.carried, true
	}
	return until, ok && now.held(until) < 0
}

// granted returns when the requests were sent of which a quorum of an
// electorate's voters has granted l: the quorum-th latest.
func (c *Core) granted(e *Electorate, l *lordship) (Stamp, bool) {
	var room [MaxVoters]Stamp
	stamps := room[:0]
	for _, v := range e.Voters {
		if s, ok := l.grants.of(v.Name); ok {
			stamps = append(stamps, s)
		}
	}
	return quorumth(stamps, c.needed(e, l.legion))
}

// Trusted reports for how long from now this node is lord of a legion in a
// term, by its own fastest clock; false if it is not. It may be asked between
// steps, and must be asked right before every act that only a lord may do.
func (c *Core) Trusted(now Now, legion string, term uint64) (time.Duration, bool) {
	l := c.lordships[legion]
	if l == nil || l.term != term || l.leaving || c.stopped {
		return 0, false
	}
	until, ok := c.trust(now, l)
	return -now.held(until), ok
}

// reign makes this node lord.
func (c *Core) reign(k *campaign) {
	delete(c.campaigns, k.legion)
	c.setVersion++
	l := &lordship{legion: k.legion, term: k.term, since: c.now, grants: k.grants, version: c.setVersion}
	l.weight = c.cfg.Legions[l.legion].Weight
	c.took(l)
	c.lordships[k.legion], c.byName = l, nil
	delete(c.ended, k.legion)
	if k.legion == ClusterLegion {
		c.takeUp(k)
	}
	c.carry(l, 1)
	c.look = true
	c.nextBeat, c.nextFall = c.now.Stamp(), c.now.Stamp()
	c.changed = true
	c.note(Note{Event: "lord", Legion: l.legion, Term: l.term, Text: "elected"})
	c.do(Reign{Legion: l.legion, Term: l.term, States: k.states})
}

// abandon stops acting as lord, and waits for the shell to let go. Until then
// the grants are kept, so that nobody succeeds while hooks still run.
func (c *Core) abandon(legion, reason string) {
	l := c.lordships[legion]
	if l == nil || l.leaving {
		return
	}
	l.leaving, c.changed, c.look = true, true, true
	c.carry(l, -1)
	if len(c.ended) < MaxLegions {
		c.ended[legion] = ended{Ended{legion, l.term, brief(reason)}, c.now.Stamp()}
	}
	c.failProposals(legion, l.term, reason)
	c.do(Unreign{Legion: legion, Term: l.term, Reason: reason})
}

// letGo releases an abandoned lordship.
func (c *Core) letGo(legion string, term uint64) {
	if l := c.lordships[legion]; l != nil && l.term == term && l.leaving {
		c.end(l)
	}
}

// end forgets a lordship, and with it every request that an answer could still
// be credited to; only then does the release leave.
func (c *Core) end(l *lordship) {
	delete(c.lordships, l.legion)
	c.byName = nil
	c.setVersion++
	c.changed, c.look = true, true
	c.release(l.legion, l.term, l.heir)
	if _, ok := c.cfg.Legions[l.legion]; ok { // else nothing would end the rest
		c.rest(l.legion, c.jitter(c.beatEvery(), 3*c.beatEvery()))
	}
}

// expireLordships takes away the lordships whose trust has run out. Nothing
// stands between the clock and this: no log line, no timer, no vote. They are
// given back once the shell has let go; if it does not, they run out.
func (c *Core) expireLordships() {
	if !c.due(c.nextFall) {
		return
	}
	c.nextFall = c.in(c.lease())
	for _, l := range c.lords() {
		if l.lost {
			continue
		}
		if until, ok := c.trust(c.now, l); ok {
			c.nextFall = c.now.sooner(c.nextFall, until)
			continue
		}
		c.outOfTouch()
		c.forfeit(l.legion, "lost the quorum")
		l.lost = true
		c.setVersion++
	}
}

// beat renews all lordships with one message to each voter.
func (c *Core) beat() {
	if len(c.lordships) == 0 || !c.due(c.nextBeat) {
		return
	}
	c.nextBeat = c.in(c.beatEvery())
	if !slices.ContainsFunc(c.lords(), (*lordship).renewed) {
		return
	}
	if c.stalled() {
		return // a node that cannot write must not keep others from writing
	}
	var set []Reigning
	for _, v := range c.electorate.Voters {
		k := c.links[v.Name]
		if k == nil {
			k = &link{sent: map[uint64]sentBeat{}}
			c.links[v.Name] = k
		}
		b := Beat{Heard: k.heard, Version: c.setVersion}
		if k.version != c.setVersion {
			if set == nil {
				for _, l := range c.lords() {
					if l.renewed() {
						set = append(set, Reigning{l.legion, l.term})
					}
				}
			}
			b.Full, b.Set = true, set
		}
		seq := c.send(v.Name, b, sendOpts{to: k.incarnation})
		k.sent[seq] = sentBeat{c.now.Stamp(), c.setVersion}
		if len(k.sent) > beatsKept {
			delete(k.sent, slices.Min(slices.Collect(maps.Keys(k.sent))))
		}
	}
}

// onBeatAck counts the grants that a voter extended, from when the beat was
// sent.
func (c *Core) onBeatAck(h Header, b BeatAck) {
	k := c.links[h.From]
	if k == nil || !c.isVoter(h) {
		return
	}
	s, ok := k.sent[h.Echo]
	if !ok {
		return
	}
	k.hear(h)
	k.answered = c.now.Stamp()
	c.readClock(h, s.at)
	delete(k.sent, h.Echo)
	if k.version = b.Version; b.Version != s.version {
		return // it holds another set: the next beat brings this one
	}
	if !b.Extended {
		return
	}
	refused := map[string]bool{}
	for i, r := range b.Refused {
		refused[r.Legion] = true
		if l := c.lordships[r.Legion]; l != nil && l.version <= s.version && i < len(b.Holders) {
			c.contested(l, r.Term, b.Holders[i])
		}
	}
	for _, l := range c.lords() {
		if l.version <= s.version && l.renewed() && !refused[l.legion] {
			l.grants.credit(h.From, s.at)
		}
	}
}

// hear takes note of an answer's number, which the next beat echoes, and of a
// voter's restart: the new incarnation holds no set.
func (k *link) hear(h Header) {
	if h.Incarnation != k.incarnation {
		k.incarnation, k.heard, k.version = h.Incarnation, 0, 0
	}
	k.heard = max(k.heard, h.Seq)
}

// stop gives up everything; see [Stop].
func (c *Core) stop() {
	if c.stopping {
		return
	}
	c.stopping, c.changed = true, true
	for _, name := range slices.Sorted(maps.Keys(c.campaigns)) {
		c.withdraw(c.campaigns[name])
	}
	for _, l := range c.reigning() {
		l.heir = c.nextInLine(l.legion)
		c.abandon(l.legion, "stopping")
	}
}

// certificateShare of a beat is how long the certificate waits for the releases
// to be acknowledged.
const certificateShare = 8

// A farewell is a release or a certificate that is repeated until the voters
// have acknowledged it.
type farewell struct {
	body    Body
	pending map[string]bool // voters that have not acknowledged
	sent    map[uint64]string
	next    Stamp
	until   Stamp
}

// release gives a throne back to every voter, whether or not it answered, and
// names who should have it next, if anybody.
func (c *Core) release(legion string, term uint64, heir string) {
	f := c.newFarewell(Release{Thrones: []Reigning{{legion, term}}, Successor: heir}, c.lease())
	if len(c.releases) < MaxLegions {
		c.releases = append(c.releases, f)
		c.parting = c.in(c.beatEvery() / certificateShare)
	}
}

func (c *Core) newFarewell(b Body, patience time.Duration) *farewell {
	f := &farewell{body: b, pending: map[string]bool{}, sent: map[uint64]string{}, next: c.now.Stamp(), until: c.in(patience)}
	for _, v := range c.electorate.Voters {
		f.pending[v.Name] = true
	}
	return f
}

// repeatFarewells sends what has not been acknowledged, and ends the
// incarnation once everything it held is let go.
func (c *Core) repeatFarewells() {
	c.releases = slices.DeleteFunc(c.releases, func(f *farewell) bool {
		c.repeat(f)
		return len(f.pending) == 0 || c.due(f.until)
	})
	if !c.stopping || len(c.lordships) > 0 || c.stopped {
		return
	}
	if c.electorate == nil {
		c.end4good()
		return
	}
	if c.death == nil {
		if len(c.releases) > 0 && !c.due(c.parting) {
			return // the certificate would void them, and whom they name
		}
		c.death = c.newFarewell(Death{c.cfg.Incarnation}, 2*c.beatEvery())
		delete(c.death.pending, c.cfg.Name)
	}
	c.repeat(c.death)
	others := len(c.electorate.Voters)
	if c.voter() {
		others--
	}
	told := others - len(c.death.pending)
	if told >= min(others, c.electorate.Quorum) || c.due(c.death.until) {
		c.end4good()
	}
}

func (c *Core) end4good() {
	c.stopped = true
	c.do(Stopped{})
}

func (c *Core) repeat(f *farewell) {
	if !c.due(f.next) {
		return
	}
	f.next = c.in(c.beatEvery() / 2)
	for _, name := range slices.Sorted(maps.Keys(f.pending)) {
		f.sent[c.send(name, f.body, sendOpts{})] = name
	}
}

func (c *Core) onAck(h Header) {
	for _, f := range append(slices.Clip(c.releases), c.death) {
		if f != nil && f.sent[h.Echo] == h.From {
			delete(f.pending, h.From)
		}
	}
}

// A proposal is one quorum write under way.
type proposal struct {
	Propose
	acks      map[string]bool // voters that have it
	sent      map[uint64]string
	next      Stamp
	pause     time.Duration // until it is sent again
	until     Stamp         // when stragglers are left to catch up by other means
	committed bool
}

// propose starts a quorum write. A fenced one needs the lordship it is
// written under, now.
func (c *Core) propose(ev Propose) {
	fail := func(why string) { c.do(Wrote{ID: ev.ID, Reason: why}) }
	if c.electorate == nil {
		fail("no electorate yet")
		return
	}
	if ev.Term > 0 {
		l := c.lordships[ev.Legion]
		if l == nil || l.leaving || l.term != ev.Term {
			fail("not lord in this term")
			return
		}
		if _, ok := c.trust(c.now, l); !ok {
			fail("lost the quorum")
			return
		}
		if ev.Dated.IsZero() {
			ev.Dated = c.now.Wall
		}
		if c.timed(ev.Legion) && c.disbelieved(ev.Legion, ev.Dated) {
			fail(whyAhead)
			c.forfeitTo(ev.Legion, whyAhead)
			return
		}
	}
	if len(c.proposals) >= maxProposals {
		fail("too many writes under way")
		return
	}
	c.proposals = append(c.proposals, &proposal{
		Propose: ev, acks: map[string]bool{}, sent: map[uint64]string{}, next: c.now.Stamp(), pause: c.beatEvery(), until: c.in(c.lease()),
	})
}

func (p *proposal) fenced() bool { return p.Term > 0 }

func (p *proposal) accept() Accept {
	a := Accept{Legion: p.Legion, Term: p.Term, Payload: p.Payload, ID: p.ID}
	if p.fenced() {
		a.Dated = p.Dated.UnixMilli()
	}
	return a
}

// repeatProposals sends the writes to the voters that have not answered. A
// committed one is dropped when all have it, or after a lease.
func (c *Core) repeatProposals() {
	c.giveUpDated()
	c.proposals = slices.DeleteFunc(c.proposals, func(p *proposal) bool {
		if p.committed && (len(p.acks) >= len(c.electorate.Voters) || c.due(p.until)) {
			return true
		}
		if !c.due(p.next) {
			return false
		}
		if p.fenced() && c.timed(p.Legion) && !c.believed(p.Legion, p.Dated) { // not yet: perhaps the answers are old
			p.next = c.in(c.beatEvery() / 4)
			return false
		}
		p.next = c.in(p.pause)
		if !p.fenced() { // it may be a long time until a quorum is there
			p.pause = min(2*p.pause, c.lease())
		}
		if len(p.sent) > answersKept {
			clear(p.sent)
		}
		for _, v := range c.electorate.Voters {
			if !p.acks[v.Name] {
				p.sent[c.send(v.Name, p.accept(), sendOpts{})] = v.Name
			}
		}
		return false
	})
}

func (c *Core) onAccepted(h Header, b Accepted) {
	if !c.isVoter(h) {
		return
	}
	for _, p := range c.proposals {
		if p.sent[h.Echo] != h.From {
			continue
		}
		if b.OK {
			p.acks[h.From] = true
		}
		need := c.electorate.Quorum
		if p.fenced() {
			need = c.quorum(p.Legion)
		}
		if !p.committed && len(p.acks) >= need {
			p.committed = true
			c.do(Wrote{ID: p.ID, Committed: true})
		}
	}
}

// failProposals answers the fenced writes of a lordship that ends. They may
// have reached a quorum all the same; the next lord will see.
func (c *Core) failProposals(legion string, term uint64, reason string) {
	c.proposals = slices.DeleteFunc(c.proposals, func(p *proposal) bool {
		if p.Legion != legion || p.Term != term || term == 0 {
			return false
		}
		if !p.committed {
			c.do(Wrote{ID: p.ID, Reason: reason})
		}
		return true
	})
}
