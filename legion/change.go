package legion

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// ClusterLegion is the built-in legion whose lord changes the electorate. It
// has no jobs, every node stands in it, and it does not count as load.
const ClusterLegion = "_cluster"

// An Amendment is an electorate that was proposed to follow the one that
// stands, in a term of [ClusterLegion].
type Amendment struct {
	Term       uint64     `cbor:"1,keyasint"`
	Electorate Electorate `cbor:"2,keyasint"`
}

// amendments is a node's part in changes of the electorate.
type amendments struct {
	// As a voter.
	pending  *Amendment // stored, and perhaps chosen
	storedAt uint64     // the Persist that makes it durable
	whole    uint64     // the epoch in which this voter is whole
	refill   refill

	// As lord of the cluster.
	change     *change
	unfinished *Amendment // the votes told of it: it may have been chosen
	wish       Settings   // of this node's file, if it is to change the electorate; zero: none
	forgotten  map[string]bool
	nextChange Stamp
}

// A change is an amendment that this node, as lord of the cluster, is having
// stored. It never proposes another for the same epoch in the same term.
type change struct {
	Amendment
	why  string
	acks map[string]bool
	sent map[uint64]string
}

func (c *Core) recoverChange(st State) {
	c.pending, c.whole = st.Pending, st.Whole
	c.nextChange = c.start
}

// stored returns the amendment of the electorate that stands, if this voter
// has one.
func (c *Core) stored() *Amendment {
	if c.pending == nil || c.pending.Electorate.follows(c.electorate) != nil {
		return nil
	}
	return c.pending
}

// turnOver takes away what was given by voters that are none any more. Their
// names may be other voters' now.
func (c *Core) turnOver(old *Electorate) {
	c.change, c.refill, c.nextChange = nil, refill{}, c.in(c.beatEvery())
	c.nextVacancy = c.now.sooner(c.nextVacancy, c.in(c.lease())) // the lease may be shorter
	if c.wish.agrees(c.electorate) {
		c.wish = Settings{}
	}
	if old == nil {
		return
	}
	for _, l := range c.lordships {
		// A quorum of the voters before shares one with every quorum of these,
		// but not with every quorum of those after them. They may extend what they
		// granted by a lease that is shorter now, and so end it sooner.
		l.carried = Stamp{}
		if sent, ok := c.granted(old, l); ok && c.electorate.follows(old) == nil {
			l.carried = sent.add(share(min(old.Lease, c.electorate.Lease), holderShare))
		}
	}
	for _, v := range old.Voters {
		if c.electorate.names(v.Name, v.Instance) {
			continue
		}
		delete(c.links, v.Name)
		delete(c.clocks, v.Name)
		for _, l := range c.lordships {
			l.grants.drop(v.Name)
		}
	}
	// A voter that took a write in an earlier epoch may have promised a higher
	// term since. Two epochs ago that need not have been to a quorum that shares
	// a voter with those who take it now.
	for _, p := range c.proposals {
		clear(p.acks)
		clear(p.sent)
		p.next = c.now.Stamp()
	}
	// Grants were given for the lease of their time.
	if longer := share(c.electorate.Lease, holderShare) - share(old.Lease, holderShare); longer > 0 {
		for _, l := range c.lordships {
			for i := range l.grants {
				l.grants[i].sent = l.grants[i].sent.add(-longer)
			}
		}
	}
	for name := range c.forgotten {
		if !slices.ContainsFunc(c.electorate.Voters, func(v Voter) bool { return v.Name == name }) {
			delete(c.forgotten, name)
		}
	}
	c.nextFall, c.nextBeat = c.now.Stamp(), c.now.Stamp()
}

// takeUp begins a reign over the cluster: what may have been chosen before
// must be finished first, the latest of them. An electorate that a node founded
// alone, and that was never changed, is only as its file was then: that node asks
// for what its file says now, without being told to reload it.
func (c *Core) takeUp(k *campaign) {
	c.change, c.unfinished, c.wish, c.forgotten = nil, nil, Settings{}, nil
	if e := c.electorate; e.Epoch == 1 && e.Size == 1 && c.voter() {
		c.wish = Settings{c.cfg.Size, c.cfg.Beat, c.cfg.Lease}
	}
	c.nextChange = c.now.Stamp()
	for _, a := range k.stored {
		if a != nil && (c.unfinished == nil || a.Term > c.unfinished.Term) {
			c.unfinished = a
		}
	}
}

// cluster returns the lordship over the cluster, nil if this node has none that
// acts.
func (c *Core) cluster() *lordship {
	l := c.lordships[ClusterLegion]
	if l == nil || l.leaving {
		return nil
	}
	if _, ok := c.trust(c.now, l); !ok {
		return nil
	}
	return l
}

// amend proposes the electorate that is to follow, and has it stored by a
// quorum of the one that stands: then it is chosen, and nobody can choose
// another.
func (c *Core) amend() {
	l := c.cluster()
	if l == nil || !c.due(c.nextChange) {
		return
	}
	c.nextChange = c.in(c.beatEvery())
	if k := c.change; k == nil || k.Term != l.term {
		next, why := c.wanted()
		if next == nil {
			return
		}
		c.change = &change{Amendment: Amendment{l.term, *next}, why: why, acks: map[string]bool{}, sent: map[uint64]string{}}
		c.note(Note{Event: "electorate", Legion: ClusterLegion, Term: l.term, Text: fmt.Sprintf("proposes epoch %d, voters %s: %s", next.Epoch, names(next.Voters), why)})
	}
	k := c.change
	if len(k.sent) > answersKept {
		clear(k.sent)
	}
	for _, v := range c.electorate.Voters {
		if !k.acks[v.Name] {
			k.sent[c.send(v.Name, Amend{k.Amendment}, sendOpts{})] = v.Name
		}
	}
}

// onAmend stores an amendment: one of the term that this voter promised, by
// whom it promised it to, if the voter is whole. It does not act on it.
func (c *Core) onAmend(h Header, b Amend) {
	t := c.thrones[ClusterLegion]
	if !c.voter() || t == nil || t.Term != b.Amendment.Term || t.Incarnation != h.Incarnation ||
		c.trouble != "" || !c.isWhole() || b.Amendment.Electorate.follows(c.electorate) != nil {
		c.answer(h, Amended{}, sendOpts{})
		return
	}
	if p := c.stored(); p == nil || p.Term < b.Amendment.Term {
		c.pending = &b.Amendment
		c.storedAt = c.write(Persist{Pending: c.pending})
	}
	c.answer(h, Amended{OK: true}, sendOpts{after: max(c.storedAt, t.written)})
}

// onAmended counts, and with a quorum the electorate stands.
func (c *Core) onAmended(h Header, b Amended) {
	k, l := c.change, c.cluster()
	if k == nil || l == nil || k.Term != l.term || !b.OK || !c.isVoter(h) || k.sent[h.Echo] != h.From {
		return
	}
	k.acks[h.From] = true
	if len(k.acks) < c.electorate.Quorum {
		return
	}
	old, next := c.electorate, k.Electorate
	c.note(Note{Event: "electorate", Legion: ClusterLegion, Term: k.Term, Text: fmt.Sprintf("epoch %d stands, voters %s: %s", next.Epoch, names(next.Voters), k.why)})
	c.adopt(&next)
	tell := map[string]bool{}
	for _, v := range slices.Concat(old.Voters, next.Voters) {
		tell[v.Name] = v.Name != c.cfg.Name
	}
	for _, name := range slices.Sorted(maps.Keys(tell)) {
		if tell[name] {
			c.send(name, Committed{next}, sendOpts{after: c.adopted})
		}
	}
}

// wanted returns the electorate that is to follow, and why; nil if the one that
// stands is as it should be, or its change before is not settled yet.
func (c *Core) wanted() (*Electorate, string) {
	e := c.electorate
	if a := c.unfinished; a != nil && a.Electorate.follows(e) == nil {
		return &a.Electorate, "finishes what was begun in term " + fmt.Sprint(a.Term)
	}
	if c.voter() && !c.isWhole() {
		return nil, "" // nor would any other voter that is not
	}
	// No voter goes if those that are left may be no quorum, be it lost itself:
	// another may be lost as well, and that one must go first.
	drop := func(name, why string) (*Electorate, string) {
		if next := e.with(name, nil); c.answering(&next) >= next.Quorum {
			return &next, name + " " + why
		}
		return nil, ""
	}
	if len(e.Voters) > 1 {
		for _, v := range e.Voters {
			if why := c.lostVoter(v); why != "" {
				if next, why := drop(v.Name, why); next != nil {
					return next, why
				}
			}
		}
	}
	spare := c.spare()
	unwilling := slices.IndexFunc(e.Voters, func(v Voter) bool { return !c.willing(v) })
	switch room := e.size() - len(e.Voters); {
	case spare != nil && (room > 0 || room == 0 && unwilling >= 0 && len(e.Voters) < MaxVoters):
		next := e.with("", spare)
		return &next, spare.Name + " becomes a voter"
	case unwilling >= 0 && len(e.Voters) > 1:
		return drop(e.Voters[unwilling].Name, "leaves")
	case room < 0:
		return drop(c.surplus().Name, "is one more than the size")
	}
	if s := c.wish; s != (Settings{}) && !s.agrees(e) {
		next := e.with("", nil)
		next.Size, next.Beat, next.Lease = s.Size, s.Beat, s.Lease
		if next.Check() != nil {
			return nil, ""
		}
		return &next, fmt.Sprintf("size %d, beat %v, lease %v", s.Size, s.Beat, s.Lease)
	}
	return nil, ""
}

// agrees reports whether the record is as the settings want it.
func (s Settings) agrees(e *Electorate) bool {
	return s.Size == e.Size && s.Beat == e.Beat && s.Lease == e.Lease
}

// lostVoter says why a voter will not come back, if that is known.
func (c *Core) lostVoter(v Voter) string {
	if v.Name == c.cfg.Name {
		if v.Instance != c.cfg.Instance {
			return "has lost its disk"
		}
		return ""
	}
	p := c.peers[v.Name]
	switch {
	case p != nil && c.living(p) && p.state.Instance != v.Instance:
		return "has lost its disk"
	case p != nil && p.alive:
		return ""
	case c.forgotten[v.Name]:
		return "is forgotten"
	}
	gone := c.start
	if p != nil {
		gone = p.gone
	}
	if f := c.cfg.ForgetAfter; f > 0 && c.now.since(gone) >= f {
		return fmt.Sprintf("was not heard for %v", f)
	}
	return ""
}

// willing reports whether a voter has not said that it will be none.
func (c *Core) willing(v Voter) bool {
	if v.Name == c.cfg.Name {
		return c.cfg.Vote
	}
	p := c.peers[v.Name]
	return p == nil || !c.living(p) || p.state.Willing
}

// spare returns a node that may become a voter: the first by name.
func (c *Core) spare() *Voter {
	var best *Voter
	offer := func(v Voter) {
		taken := slices.ContainsFunc(c.electorate.Voters, func(o Voter) bool { return o.Name == v.Name })
		if !taken && (best == nil || v.Name < best.Name) {
			best = &v
		}
	}
	if c.cfg.Vote && c.trouble == "" {
		offer(Voter{c.cfg.Name, c.cfg.Instance})
	}
	for name, p := range c.peers {
		if s := &p.state; c.living(p) && s.Willing && s.Electorate != nil && s.Electorate.Cluster == c.electorate.Cluster {
			offer(Voter{name, s.Instance})
		}
	}
	return best
}

// answering counts the voters of e that have answered this lord's latest beats.
func (c *Core) answering(e *Electorate) (n int) {
	for _, v := range e.Voters {
		if c.answers(v) {
			n++
		}
	}
	return n
}

func (c *Core) answers(v Voter) bool {
	k := c.links[v.Name]
	return v.Name == c.cfg.Name || k != nil && k.answered != (Stamp{}) && c.now.held(k.answered) < 2*c.beatEvery()
}

// surplus returns the voter to go where there are too many: one that is not
// here, else the last by name, but not this node.
func (c *Core) surplus() Voter {
	cost := func(v Voter) int {
		switch {
		case v.Name == c.cfg.Name:
			return 2
		case !c.answers(v):
			return 0
		}
		return 1
	}
	return slices.MinFunc(c.electorate.Voters, func(a, b Voter) int {
		return cmp.Or(cmp.Compare(cost(a), cost(b)), cmp.Compare(b.Name, a.Name))
	})
}

// settings takes what this node's file asks for; it matters if the node is
// lord of the cluster now.
func (c *Core) settings(s Settings) {
	if c.electorate == nil || c.cluster() == nil {
		return
	}
	if c.wish = s; s.agrees(c.electorate) {
		c.wish = Settings{}
	}
}

func (c *Core) forget(name string) {
	if c.electorate == nil || c.cluster() == nil || !slices.ContainsFunc(c.electorate.Voters, func(v Voter) bool { return v.Name == name }) {
		return
	}
	if c.forgotten == nil {
		c.forgotten = map[string]bool{}
	}
	c.forgotten[name] = true
}

// Epochs and terms of a cluster founded again leave far behind whatever the
// voters that are gone may have done unseen.
const refoundEpochs, refoundTerms = 1 << 20, 1 << 20

// refound makes this node the only voter, whatever the others may do.
func (c *Core) refound() {
	base := max(c.now.Wall.Unix(), 1)
	e := Electorate{
		Cluster: c.newID(), Epoch: 1, Voters: []Voter{{c.cfg.Name, c.cfg.Instance}}, Quorum: 1,
		Beat: c.beatEvery(), Lease: c.lease(), Base: uint64(base), Size: c.cfg.Size,
	}
	if old := c.electorate; old != nil {
		// Two nodes that do this at once must not make two records of one epoch.
		e.Cluster, e.Epoch, e.Size = old.Cluster, old.Epoch+refoundEpochs+c.rng.Uint64N(refoundEpochs), old.size()
		e.Base = max(e.Base, old.Base+refoundTerms) // it may have promised nothing, and the time of day may be behind
	}
	for _, t := range c.thrones {
		e.Base = max(e.Base, max(t.Term, t.told, t.asked)+refoundTerms)
	}
	for _, l := range c.reigning() { // in a term that is none of this cluster's
		c.abandon(l.legion, "the cluster is founded again")
	}
	c.note(Note{Event: "refounded", Warn: true, Text: fmt.Sprintf("epoch %d of cluster %s has this node alone for a voter, by hand", e.Epoch, e.Cluster)})
	c.adopt(&e)
}

// changing says what is under way with the electorate.
func (c *Core) changing() string {
	describe := func(e *Electorate) string {
		return fmt.Sprintf("epoch %d with voters %s", e.Epoch, names(e.Voters))
	}
	switch a := c.stored(); {
	case c.change != nil && c.cluster() != nil:
		return fmt.Sprintf("%s is proposed: %s; %d of %d voters have stored it", describe(&c.change.Electorate), c.change.why, len(c.change.acks), c.electorate.Quorum)
	case a != nil && c.thrones[ClusterLegion].Term == a.Term: // else its lord is gone
		return describe(&a.Electorate) + " is proposed"
	case c.voter() && !c.isWhole():
		return fmt.Sprintf("epoch %d is being settled", c.electorate.Epoch)
	}
	return ""
}

func (c *Core) wakeChange(at func(Stamp)) {
	if c.cluster() != nil {
		at(c.nextChange)
	}
	if c.refilling() {
		at(c.refill.next)
	}
}
