package legion

import (
	"maps"
	"slices"
	"time"
)

// A throne is what this node, as a voter, promised about a legion. A node
// without a vote keeps one too, for what it was told about vacancies.
type throne struct {
	Grant          // the highest promise, as it is or will be on disk
	written uint64 // the Persist that makes it durable
	at      Stamp  // when the grant was given or last extended
	seq     uint64 // the holder's message that did so
	release uint64 // the holder's message that gave it back; older ones are void
	live    bool   // the grant has not ended
	fresh   bool   // recovered from disk: it may have been extended just before
	vacant  Stamp  // since when it is not live
	asked   uint64 // the highest term that this node, as a candidate, asked votes for
	// told is the highest term that voters told this node of while it had no
	// vote. It is no promise: nothing of it is on disk.
	told uint64
	// mistimed is why this node's wall clock last kept it from standing, to say
	// so once.
	mistimed string
	// lapsed: the last holder let the grant run out or gave it back. It is no
	// candidate to be preferred until it asks again.
	lapsed bool
	// heir is whom the last lord named when it gave the throne back.
	heir string
	// hinted: a voter told this node, which has no vote, that it is vacant.
	hinted bool
	// refused are candidates that were told it is occupied; they are told when
	// it falls vacant.
	refused []string
}

// A holder is a node that beats to this voter, by incarnation.
type holder struct {
	name    string
	beat    uint64 // Seq of the latest beat or release
	version uint64
	set     []Reigning
	thrones []*throne // of set, one for one; nil: to be looked up
	heard   Stamp     // when it was last heard
	// answers are the Seq of recent answers to it, with the time of sending.
	answers []sentAt
	// writes are the latest Accepts taken, with the Persist that holds them.
	writes []taken
}

type sentAt struct {
	seq uint64
	at  Stamp
}

type taken struct{ id, written uint64 }

const (
	writesKept  = 64 // Accepts of one holder whose repetition is recognised
	maxHolders  = 4096
	vacantHints = 2 // candidates without a vote that are told of a vacancy
	refusedKept = 8 // candidates that asked, and are told too
)

// throne returns the throne of a legion, nil if there are too many.
func (c *Core) throne(legion string) *throne {
	t := c.thrones[legion]
	if t == nil && len(c.thrones) < MaxLegions {
		t = &throne{Grant: Grant{Legion: legion}, vacant: c.now.Stamp()}
		c.thrones[legion] = t
	}
	return t
}

// recover takes a grant from disk. Its renewals were not written, so it may
// have been extended at the last moment before the restart: it blocks others
// for a whole lease and the margin from now. A grant to an earlier incarnation
// of this node is void, because that process is gone.
func (c *Core) recover(g Grant) {
	if c.electorate != nil {
		g.Lease = max(g.Lease, c.electorate.longest())
	}
	c.thrones[g.Legion] = &throne{
		Grant: g, at: c.start, vacant: c.start,
		live: g.Instance != c.cfg.Instance, fresh: true, lapsed: true,
	}
}

// blocks returns for how long after t.at the grant keeps others out.
func (c *Core) blocks(t *throne) time.Duration {
	if t.fresh {
		return share(t.Lease, restartShare)
	}
	return t.Lease
}

// occupied reports whether a grant of this voter has not ended.
func (c *Core) occupied(t *throne) bool { return t.live && c.now.since(t.at) < c.blocks(t) }

// extend counts the grant from now, on the strength of the holder's message seq.
func (c *Core) extend(t *throne, seq uint64) {
	t.at, t.seq, t.Lease = c.now.Stamp(), max(t.seq, seq), c.lease()
	t.live, t.fresh, t.lapsed = true, false, false
}

// vacate ends a grant.
func (c *Core) vacate(t *throne) {
	t.live, t.fresh, t.lapsed = false, false, true
	c.changed = true
	t.vacant = c.now.Stamp()
	c.wakeUp(t.Legion)
	if c.voter() {
		c.tellVacant(t)
	}
}

// expireThrones vacates the thrones whose grant has run out.
func (c *Core) expireThrones() {
	if !c.due(c.nextVacancy) {
		return
	}
	c.nextVacancy = c.in(c.lease()) // a grant given from now on lasts as long
	for _, t := range c.thrones {
		if !t.live {
			continue
		}
		if c.occupied(t) {
			c.nextVacancy = c.now.sooner(c.nextVacancy, c.in(c.blocks(t)-c.now.since(t.at)))
		} else {
			c.expired = append(c.expired, t)
		}
	}
	slices.SortFunc(c.expired, func(a, b *throne) int { return compareNames(a.Legion, b.Legion) })
	for _, t := range c.expired {
		c.vacate(t)
	}
	c.expired = c.expired[:0]
}

// tellVacant tells those that asked while it was occupied, and the best
// candidates that have no vote themselves.
func (c *Core) tellVacant(t *throne) {
	tell, hints := t.refused, 0
	for _, h := range c.line(t.Legion) {
		if hints == vacantHints {
			break
		}
		if c.electorate.names(h.name, h.instance) || h.name == c.cfg.Name || t.fallen(h) {
			continue
		}
		if hints++; !slices.Contains(tell, h.name) {
			tell = append(tell, h.name)
		}
	}
	if t.heir != "" && t.heir != c.cfg.Name && !slices.Contains(tell, t.heir) && !c.votes(t.heir) {
		tell = append(tell, t.heir)
	}
	for _, name := range tell {
		c.send(name, Vacant{t.Legion, t.Term, t.heir}, sendOpts{})
	}
	t.refused = nil
}

// votes reports whether the electorate names a voter of that name.
func (c *Core) votes(name string) bool {
	return slices.ContainsFunc(c.electorate.Voters, func(v Voter) bool { return v.Name == name })
}

// fallen reports whether the candidate held the throne last, before it fell
// vacant. A node without a vote knows it by the peer's own word that it reigns.
func (t *throne) fallen(h heir) bool {
	return t.lapsed && t.Incarnation == h.incarnation || t.hinted && h.reigns
}

// better counts the living candidates that outrank r, other than the node
// named except. The last holder of a vacant throne is not one of them.
func (c *Core) better(t *throne, r Rank, except string) int {
	n := 0
	for h := range c.heirs(t.Legion) {
		if h.name != except && h.rank.compare(r) > 0 && !t.fallen(h) {
			n++
		}
	}
	return n
}

// patience is how long a voter still waits for a better candidate than the one
// that asks: two beats since the throne fell vacant. Where there was a lord, less
// by what it takes those that were refused to come back, an eighth of a beat
// apart, so that two beats are all that a silent candidate can cost.
func (c *Core) patience(t *throne) time.Duration {
	wait := 2 * c.beatEvery()
	if t.Term > 0 {
		wait -= 3 * c.beatEvery() / slowProbe
	}
	return wait - c.now.since(t.vacant)
}

// named returns whom the last lord named, for as long as a voter waits for it.
func (c *Core) named(t *throne) string {
	if t.heir == "" || c.patience(t) <= 0 {
		return ""
	}
	if p := c.peers[t.heir]; t.heir != c.cfg.Name && (p == nil || !c.living(p)) {
		return ""
	}
	return t.heir
}

// refusal says why this voter would not vote for the sender of h now, and
// when it is worth asking again.
func (c *Core) refusal(h Header, t *throne, r Rank) (Refusal, time.Duration) {
	switch {
	case !c.voter() || t == nil || c.stopping && len(c.lordships) == 0: // it is as good as gone
		return NoVote, c.lease()
	case c.trouble != "":
		return DiskFull, c.lease()
	case c.occupied(t) && t.Incarnation != h.Incarnation:
		if len(t.refused) < refusedKept && !slices.Contains(t.refused, h.From) {
			t.refused = append(t.refused, h.From)
		}
		return Occupied, c.blocks(t) - c.now.since(t.at)
	case c.occupied(t):
		return NotRefused, 0
	}
	patience := c.patience(t)
	if heir := c.named(t); patience > 0 && heir != h.From && (heir != "" || c.better(t, r, h.From) > 0) {
		return Preferred, patience
	}
	return NotRefused, 0
}

func (c *Core) onProbe(h Header, b Probe) {
	c.hearLoad(h, b.Rank, 0)
	t := c.throne(b.Legion)
	if t != nil && t.Incarnation == h.Incarnation {
		t.lapsed = false
	}
	why, again := c.refusal(h, t, b.Rank)
	ack := ProbeAck{Legion: b.Legion, Would: why == NotRefused, Why: why, Again: again}
	if t != nil {
		ack.Term = t.Term
	}
	c.answer(h, ack, sendOpts{})
}

// onAsk grants or refuses a vote. The grant is durable before the answer
// leaves, and the answer carries the ledger state as it is then.
func (c *Core) onAsk(h Header, b Ask) {
	t := c.throne(b.Legion)
	why, again := c.refusal(h, t, b.Rank)
	same := t != nil && t.Term == b.Term && t.Incarnation == h.Incarnation
	switch {
	case why != NotRefused:
	case same && h.Seq <= t.release:
		why = StaleAnswer
	case same && h.Seq <= t.seq:
		return // a later one was granted already; a recorded one must not keep the throne from others
	case !same && b.Term <= t.Term:
		why = StaleTerm
	}
	if why != NotRefused {
		v := Vote{Legion: b.Legion, Term: b.Term, Why: why, Again: again}
		if t != nil {
			v.Promise = t.Term
		}
		c.answer(h, v, sendOpts{})
		return
	}
	if !same {
		c.grant(h, t, b.Term)
	}
	c.hearLoad(h, b.Rank, 1) // most likely it wins
	c.extend(t, h.Seq)
	v := Vote{Legion: b.Legion, Term: b.Term, Granted: true, Promise: b.Term}
	if b.Legion == ClusterLegion {
		v.Pending = c.stored()
	}
	seq := c.answer(h, v, sendOpts{after: max(t.written, c.storedAt), attach: true, hash: b.Hash})
	c.holder(h).answered(seq, c.now.Stamp())
}

// grant promises term to the sender of h.
func (c *Core) grant(h Header, t *throne, term uint64) {
	t.Grant = Grant{Legion: t.Legion, Term: term, Holder: h.From, Instance: h.Instance, Incarnation: h.Incarnation, Lease: c.lease()}
	t.seq, t.release, t.heir = h.Seq, 0, ""
	t.written = c.write(Persist{Grants: []Grant{t.Grant}})
	c.changed = true
}

// holder returns the record of the sender of h, as one who holds grants.
func (c *Core) holder(h Header) *holder {
	o := c.holders[h.Incarnation]
	if o == nil {
		if len(c.holders) >= maxHolders {
			c.forgetHolders()
		}
		o = &holder{name: h.From}
		c.holders[h.Incarnation] = o
	}
	o.heard = c.now.Stamp()
	return o
}

// forgetHolders drops those not heard for two leases; they have no grants, and
// what they sent before cannot come within a lease of an answer any more.
func (c *Core) forgetHolders() {
	maps.DeleteFunc(c.holders, func(_ ID, o *holder) bool { return c.now.since(o.heard) > 2*c.lease() })
}

func (o *holder) answered(seq uint64, at Stamp) {
	o.answers = append(o.answers, sentAt{seq, at})
	if len(o.answers) > answersKept {
		o.answers = slices.Delete(o.answers, 0, len(o.answers)-answersKept)
	}
}

// hears reports whether the holder has heard an answer that this voter sent
// within the last lease.
func (c *Core) hears(o *holder, seq uint64) bool {
	i := slices.IndexFunc(o.answers, func(a sentAt) bool { return a.seq == seq })
	return i >= 0 && c.now.since(o.answers[i].at) < c.lease()
}

// onBeat extends the grants of the sender's lordships. A lord that this voter
// does not know, because the voter was away or voted for another, is taken
// back: its term is the promise or higher, and the throne is not occupied by
// another. Where the promise of that term is to another, that one gave up or let
// it run out: it can never have won it, because this lord has.
func (c *Core) onBeat(h Header, b Beat) {
	if !c.voter() {
		return
	}
	o := c.holder(h)
	if h.Seq <= o.beat {
		return // overtaken by a later beat, or by a release
	}
	o.beat = h.Seq
	if b.Full {
		o.version, o.set, o.thrones = b.Version, b.Set, nil
	}
	ack := BeatAck{Version: o.version}
	if o.version == b.Version && h.To == c.cfg.Incarnation && c.hears(o, b.Heard) {
		ack.Extended = true
		for i, t := range c.thronesOf(o) {
			if r := o.set[i]; !c.renew(h, t, r) {
				promise, holder := uint64(0), ""
				if t != nil {
					if promise = t.Term; c.occupied(t) && t.Incarnation != h.Incarnation {
						holder = t.Holder
					}
				}
				ack.Refused, ack.Holders = append(ack.Refused, Reigning{r.Legion, promise}), append(ack.Holders, holder)
			}
		}
	}
	seq := c.answer(h, ack, sendOpts{})
	o.answered(seq, c.now.Stamp())
}

// thronesOf returns the thrones of a holder's set. They are remembered, or each
// beat would look each of them up.
func (c *Core) thronesOf(o *holder) []*throne {
	if o.thrones == nil {
		for _, r := range o.set {
			o.thrones = append(o.thrones, c.throne(r.Legion))
		}
	}
	return o.thrones
}

// renew extends one grant and reports whether the holder may count on it.
func (c *Core) renew(h Header, t *throne, r Reigning) bool {
	if t == nil || c.trouble != "" {
		return false
	}
	same := t.Term == r.Term && t.Incarnation == h.Incarnation
	switch {
	case same && h.Seq <= t.release:
		return false
	case same:
	case r.Term < t.Term || r.Term == t.Term && c.unsafe(r.Legion), c.occupied(t) && t.Incarnation != h.Incarnation:
		return false
	default:
		c.grant(h, t, r.Term)
	}
	if !t.live {
		c.changed = true
	}
	c.extend(t, h.Seq)
	// What is not on disk yet is not promised yet; nor is a lease that became
	// longer with an electorate which a crash might undo.
	return max(t.written, c.adopted) <= c.durable
}

// onRelease frees thrones. One that is older than the holder's last grant
// belongs to an earlier reign and is ignored.
func (c *Core) onRelease(h Header, b Release) {
	if c.voter() {
		o := c.holder(h)
		o.beat = max(o.beat, h.Seq)
		for _, r := range b.Thrones {
			t := c.thrones[r.Legion]
			if t == nil || t.Term != r.Term || t.Incarnation != h.Incarnation || h.Seq <= t.seq {
				continue
			}
			again := t.release > 0
			t.release, t.heir = h.Seq, b.Successor
			c.summon(t)
			if t.live {
				c.vacate(t)
			} else if !again { // it had run out here, but maybe not elsewhere
				c.wakeUp(t.Legion)
			}
		}
	}
	c.answer(h, Ack{}, sendOpts{})
}

// onDeath ends an incarnation: its grants are void and nothing it sent is
// heard any more.
func (c *Core) onDeath(h Header, b Death) {
	if c.electorate == nil || h.Cluster != c.electorate.Cluster || b.Incarnation != h.Incarnation || h.Incarnation == c.cfg.Incarnation {
		return
	}
	if !c.dead[h.Incarnation] {
		c.bury(h.Incarnation)
		for _, name := range slices.Sorted(maps.Keys(c.thrones)) {
			if t := c.thrones[name]; t.live && t.Incarnation == h.Incarnation {
				c.vacate(t)
			}
		}
		c.look = true
	}
	c.answer(h, Ack{}, sendOpts{})
}

// bury has nothing heard any more of an incarnation. It does not end its grants.
func (c *Core) bury(incarnation ID) {
	if len(c.deaths) == maxDead { // what it sent has long arrived
		delete(c.dead, c.deaths[0])
		c.deaths = c.deaths[1:]
	}
	c.dead[incarnation] = true
	c.deaths = append(c.deaths, incarnation)
	delete(c.holders, incarnation)
}

// onVacant hears from a voter that a throne is free. A node without a vote
// believes it; one with a vote asks that voter again, if it was refused.
func (c *Core) onVacant(h Header, b Vacant) {
	t := c.throne(b.Legion)
	if t == nil || !c.isVoter(h) {
		return
	}
	if !c.voter() { // one voter's promise may be higher than the last lord's term
		t.told, t.hinted, t.vacant, t.heir = max(t.told, b.Term), true, c.now.Stamp(), b.Successor
		c.summon(t)
	}
	k := c.campaigns[b.Legion]
	if k == nil || k.phase == waiting {
		c.wakeUp(b.Legion)
		return
	}
	if k.vacated[h.From] = h.Seq; k.refused[h.From] == Occupied {
		c.freed(k, h.From)
	}
}

// onAccept takes a write: a fenced one if its term is the promise and the
// promise is to its sender, an unfenced one always. It is durable before the
// answer leaves. A fenced one that is dated ahead of this node's wall clock is
// refused; once the clock has come so far it would be taken.
func (c *Core) onAccept(h Header, b Accept) {
	if !c.voter() {
		return
	}
	var promise uint64
	if b.Term > 0 {
		t := c.throne(b.Legion)
		if t == nil {
			return
		}
		if t.Term != b.Term || t.Incarnation != h.Incarnation {
			c.answer(h, Accepted{Promise: t.Term}, sendOpts{})
			return
		}
		promise = t.written
	}
	if c.trouble != "" {
		c.answer(h, Accepted{}, sendOpts{})
		return
	}
	if b.Term > 0 && b.Dated > c.now.Wall.Add(MaxAhead).UnixMilli() {
		c.answer(h, Accepted{Promise: b.Term}, sendOpts{})
		return
	}
	o := c.holder(h)
	i := slices.IndexFunc(o.writes, func(w taken) bool { return w.id == b.ID })
	if i < 0 {
		o.writes = append(o.writes, taken{b.ID, c.write(Persist{Payloads: [][]byte{b.Payload}})})
		if len(o.writes) > writesKept {
			o.writes = slices.Delete(o.writes, 0, 1)
		}
		i = len(o.writes) - 1
	}
	c.answer(h, Accepted{OK: true}, sendOpts{after: max(o.writes[i].written, promise)})
}
