package legion

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// A Config is what a node is and wants. It does not change while the node
// lives, but for Legions and Checks (see [Configure]), and Starts.
type Config struct {
	Name        string
	Instance    ID
	Incarnation ID
	Software    string
	// Starts counts the starts of the instance, this one included; 0: unknown.
	// It grows while the node lives; see [Counted].
	Starts uint64
	// Vote says that the node is willing to be a voter; Size how many voters a
	// new electorate is to have (1: the node founds one by itself).
	Vote bool
	Size int
	// ForgetAfter is for how long a voter may be unheard before the lord of
	// [ClusterLegion] removes it, by that node's own clocks; 0: for ever.
	ForgetAfter time.Duration
	// Beat and Lease are written into an electorate that this node founds.
	Beat, Lease time.Duration
	Legions     map[string]Legion
	Checks      []Check
}

// A Legion is a node's own part in a legion.
type Legion struct {
	Valor  int // 0: arbiter, never lord
	Weight int // what the checks add
	// Unfit says why the node may not reign, by its own doing: a check, say.
	// Away says that an administrator wants it so. What is given up for Unfit
	// counts towards being held back.
	Unfit string
	Away  string
	// Last ranks the node behind all others, by an administrator's word: it was
	// told to step down. If there is no other it reigns.
	Last bool
	// Quorum is how many voters must agree; less than a majority counts as a
	// majority, unless Unsafe: then every side of a split has its lord.
	Quorum int
	Unsafe bool
	Spread bool   // lordships held elsewhere count against this node
	Jobs   []byte // hash of the job set, announced to find drift
	Scroll []byte
	Told   string // what was told by hand, for people to see
	// Preempt lets the node, as lord, give way to a candidate that has been
	// better by more than Stickiness for PreemptDelay (0: 2 beats; negative: at once).
	Preempt      bool
	PreemptDelay time.Duration
	Stickiness   int
}

// unfit says why the node may not be lord, by its own account; "": it may.
func (l Legion) unfit() string {
	switch {
	case l.Away != "":
		return l.Away
	case l.Unfit != "":
		return l.Unfit
	case l.Valor <= 0:
		return "valor is 0"
	case l.Valor+l.Weight <= 0:
		return fmt.Sprintf("checks leave nothing of its valor of %d: %+d", l.Valor, l.Weight)
	}
	return ""
}

// fit reports whether the node may be lord, by its own account.
func (l Legion) fit() bool { return l.unfit() == "" }

// A State is what a node had on disk when it started.
type State struct {
	Electorate *Electorate
	Founding   FoundingState
	Grants     []Grant
	Pending    *Amendment
	Whole      uint64
	Starts     []Started
}

// Limits, all of them far above what a cluster of hundreds of nodes needs.
const (
	maxPeers     = 2048 // announcements kept
	maxDead      = 4096 // death certificates remembered
	maxProposals = 1024 // writes under way
	answersKept  = 64   // answers to one peer whose time of sending is remembered
	beatsKept    = 64   // beats to one voter that may still be acknowledged
)

// quietLeases is after how many leases a node looks at all thrones and lordships
// though it heard of nothing that could change who should have them. Whatever can
// has it look at once, or says when to; this is for what was not thought of.
const quietLeases = 5

// A Core is one node's part in the protocol. It is not safe for concurrent
// use: one loop owns it.
type Core struct {
	cfg   Config
	rng   *rand.Rand
	start Stamp
	now   Now // of the Step under way

	electorate *Electorate
	adopted    uint64 // the Persist that makes it durable
	founding   founding
	amendments

	seq     uint64 // of messages
	persist uint64 // of Persist actions asked for
	durable uint64 // of Persist actions done
	// unsynced are the moments at which the outstanding Persists were asked for.
	unsynced []pendingWrite
	trouble  string // why the disk takes no writes

	peers    map[string]*peer // by name, without this node
	own      NodeState
	changed  bool        // own must be announced
	dead     map[ID]bool // incarnations with a death certificate
	deaths   []ID        // the same, oldest first
	starts   map[ID]Started
	disowned bool

	thrones map[string]*throne // as a voter, and as an onlooker
	// nextVacancy: no grant runs out before.
	nextVacancy Stamp
	holders     map[ID]*holder // as a voter: those who beat to this node

	campaigns  map[string]*campaign
	lordships  map[string]*lordship
	byName     []*lordship        // the same, by name of legion; nil: to be made
	ended      map[string]ended   // how reigns ended, for a while; by legion
	links      map[string]*link   // as a lord: to each voter
	clocks     map[string]reading // of voters, by name
	setVersion uint64
	nextBeat   Stamp
	nextFall   Stamp // no lordship runs out before
	releases   []*farewell
	parting    Stamp // until when a certificate waits for the last release
	proposals  []*proposal

	quorumSeen   bool
	quorumSeenAt Stamp
	unheard      map[string]bool // voters that answered since it was out of touch; nil: it is not
	stopping     bool
	death        *farewell
	stopped      bool

	// Who should reign: see yield.go, spread.go and held.go.
	load       int // lordships that act, but for ClusterLegion
	ties       map[string]ID
	taking     *taking
	wishing    bool  // load asks for a move
	wishSince  Stamp // since when
	nextSpread Stamp // load moves nothing before
	nextYield  Stamp // when lordships are weighed without any news
	lapses     map[string]*lapses
	nextUnhold Stamp

	look       bool  // something changed that candidates care about
	nextStand  Stamp // when candidates look at the thrones without that
	ordered    []string
	orderStale bool
	expired    []*throne // scratch

	out []Action
}

type pendingWrite struct {
	seq uint64
	at  Stamp
}

// A peer is what is known of another node.
type peer struct {
	state NodeState
	known bool  // state was announced
	alive bool  // by gossip
	gone  Stamp // since when it is not alive
	// said is its load by its own word, newer than the announcement; it counts
	// until the next one comes, or until then.
	said      int
	saidSeq   uint64
	saidUntil Stamp
	shy       Stamp // until when it is offered nothing, because it was not ready
	ties      map[string]ID
}

// New returns the core of a node that starts now. What it answers for is what
// st says it promised before; rng decides about waiting times alone.
func New(cfg Config, st State, now Now, rng *rand.Rand) *Core {
	c := &Core{
		cfg: cfg, rng: rng, start: now.Stamp(), now: now,
		electorate: st.Electorate,
		peers:      map[string]*peer{},
		dead:       map[ID]bool{},
		starts:     map[ID]Started{},
		thrones:    map[string]*throne{},
		holders:    map[ID]*holder{},
		campaigns:  map[string]*campaign{},
		lordships:  map[string]*lordship{},
		links:      map[string]*link{},
		clocks:     map[string]reading{},
		ended:      map[string]ended{},
		ties:       map[string]ID{},
		lapses:     map[string]*lapses{},
		nextBeat:   now.Stamp(),
		nextFall:   now.Stamp(), nextVacancy: now.Stamp(),
		changed: true,
	}
	c.cfg.Legions = maps.Clone(cfg.Legions)
	c.founding.FoundingState = st.Founding
	c.recoverChange(st)
	for _, s := range st.Starts {
		c.starts[s.Instance] = s
	}
	for _, g := range st.Grants {
		c.recover(g)
	}
	return c
}

// Step takes one event at the time now and returns what must be done.
// Time never goes back between steps.
func (c *Core) Step(now Now, ev Event) []Action {
	c.now, c.out = now, nil
	if !c.stopped {
		// First: an answer that waited while this process did not run must not
		// bring back what ran out meanwhile, for which a guardian has acted.
		c.expireLordships()
		c.handle(ev)
		c.progress()
	}
	return c.out
}

func (c *Core) handle(ev Event) {
	switch ev := ev.(type) {
	case Tick:
	case Receive:
		c.receive(ev.Message)
	case Durable:
		c.synced(ev.Seq)
	case DiskTrouble:
		c.diskTrouble(ev.Trouble)
	case Announced:
		c.announced(ev.State)
	case Membership:
		c.membership(ev)
	case Configure:
		c.configure(ev)
	case Propose:
		c.propose(ev)
	case Abandon:
		c.forfeitTo(ev.Legion, ev.Reason)
	case StepDown:
		c.stepDown(ev)
	case LetGo:
		c.letGo(ev.Legion, ev.Term)
	case Stop:
		c.stop()
	case Merged:
		c.merged(ev.Epoch)
	case Settings:
		c.settings(ev)
	case Willing:
		c.cfg.Vote, c.cfg.ForgetAfter, c.changed = ev.Vote, ev.ForgetAfter, true
	case Counted:
		c.cfg.Starts, c.changed = ev.Starts, true
	case Forget:
		c.forget(ev.Name)
	case Refound:
		c.refound()
	}
}

// progress does what the passing of time, or the event just handled, asks
// for. The order matters: a lordship that has run out ends before anything is
// sent in its name.
func (c *Core) progress() {
	c.found()
	c.expireLordships()
	c.expireThrones()
	c.unhold()
	c.reconsider()
	c.stand()
	c.beat()
	c.amend()
	c.makeWhole()
	c.repeatProposals()
	c.repeatFarewells()
	c.announce()
}

// receive checks a message's header and hands it to its role.
func (c *Core) receive(m Message) {
	if b, ok := m.Body.(Death); ok {
		c.onDeath(m.Header, b) // repeated until it is acknowledged, so it is heard even of the dead
		return
	}
	if c.dead[m.Incarnation] || m.Incarnation == (ID{}) {
		return
	}
	if _, ok := m.Body.(Beat); !ok && m.To != (ID{}) && m.To != c.cfg.Incarnation {
		// It was meant for an earlier incarnation of this node. A Beat is
		// answered all the same, or the lord would never hear of this one.
		return
	}
	switch b := m.Body.(type) {
	case Found:
		c.onFound(m.Header, b)
		return
	case FoundAck:
		c.onFoundAck(m.Header, b)
		return
	case Refuse:
		c.onRefuse(m.Header, b)
		return
	case RefuseAck:
		c.onRefuseAck(m.Header, b)
		return
	case Disown:
		c.onDisown(m.Header, b)
		return
	case Committed:
		c.learn(&b.Electorate)
		return
	}
	if c.electorate == nil || m.Cluster != c.electorate.Cluster {
		return // a foreign cluster, or one of which this node knows nothing yet
	}
	if m.Epoch < c.electorate.Epoch {
		c.send(m.From, Committed{*c.electorate}, sendOpts{after: c.adopted})
		return
	}
	if m.Epoch > c.electorate.Epoch {
		c.answer(m.Header, Ack{}, sendOpts{}) // of an older epoch: its record comes in answer
		return
	}
	c.backInTouch(m.Header)
	switch b := m.Body.(type) {
	case Beat:
		c.onBeat(m.Header, b)
	case BeatAck:
		c.onBeatAck(m.Header, b)
	case Probe:
		c.onProbe(m.Header, b)
	case ProbeAck:
		c.onProbeAck(m.Header, b)
	case Ask:
		c.onAsk(m.Header, b)
	case Vote:
		c.onVote(m.Header, b)
	case Release:
		c.onRelease(m.Header, b)
	case Ack:
		c.onAck(m.Header)
	case Vacant:
		c.onVacant(m.Header, b)
	case Accept:
		c.onAccept(m.Header, b)
	case Accepted:
		c.onAccepted(m.Header, b)
	case Amend:
		c.onAmend(m.Header, b)
	case Amended:
		c.onAmended(m.Header, b)
	case Read:
		c.onRead(m.Header)
	case Standing:
		c.onStanding(m.Header, b)
	case Offer:
		c.onOffer(m.Header, b)
	case Ready:
		c.onReady(m.Header, b)
	case Rival:
		c.onRival(m.Header, b)
	}
}

type sendOpts struct {
	to     ID     // the incarnation meant
	echo   uint64 // the message answered
	after  uint64 // what must be durable first
	attach bool
	hash   []byte
}

// send queues a message and returns its sequence number.
func (c *Core) send(to string, b Body, o sendOpts) uint64 {
	c.seq++
	m := Message{Header: Header{
		From: c.cfg.Name, Instance: c.cfg.Instance, Incarnation: c.cfg.Incarnation,
		To: o.to, Seq: c.seq, Echo: o.echo, Wall: c.now.Wall.UnixMilli(),
	}, Body: b}
	if c.electorate != nil {
		m.Cluster, m.Epoch = c.electorate.Cluster, c.electorate.Epoch
	}
	c.do(Send{To: to, Message: m, After: o.after, Attach: o.attach, Hash: o.hash})
	return c.seq
}

// answer sends b in answer to the message h.
func (c *Core) answer(h Header, b Body, o sendOpts) uint64 {
	o.to, o.echo = h.Incarnation, h.Seq
	return c.send(h.From, b, o)
}

func (c *Core) do(a Action) { c.out = append(c.out, a) }

func (c *Core) note(n Note) { c.do(n) }

// write asks for p to be made durable and returns its number, for Send.After.
func (c *Core) write(p Persist) uint64 {
	c.persist++
	p.Seq = c.persist
	c.unsynced = append(c.unsynced, pendingWrite{p.Seq, c.now.Stamp()})
	c.do(p)
	return p.Seq
}

func (c *Core) synced(seq uint64) {
	c.changed = c.changed || c.durable < c.adopted && seq >= c.adopted
	c.durable = max(c.durable, seq)
	c.unsynced = slices.DeleteFunc(c.unsynced, func(w pendingWrite) bool { return w.seq <= seq })
}

// stalled reports whether a write has been outstanding for longer than a lease.
func (c *Core) stalled() bool {
	return len(c.unsynced) > 0 && c.now.held(c.unsynced[0].at) > c.lease()
}

func (c *Core) diskTrouble(trouble string) {
	if trouble == c.trouble || trouble == "" && c.disowned {
		return
	}
	c.trouble, c.changed, c.look = trouble, true, true
	if trouble == "" {
		c.note(Note{Event: "disk", Text: "the state directory takes writes again"})
		return
	}
	c.note(Note{Event: "disk", Text: "giving up lordships: " + trouble, Warn: true})
	for _, l := range c.reigning() {
		c.forfeitTo(l.legion, trouble)
	}
}

func (c *Core) beatEvery() time.Duration {
	if c.electorate != nil {
		return c.electorate.Beat
	}
	return c.cfg.Beat
}

func (c *Core) lease() time.Duration {
	if c.electorate != nil {
		return c.electorate.Lease
	}
	return c.cfg.Lease
}

// voter reports whether this node has a vote.
func (c *Core) voter() bool { return c.electorate.names(c.cfg.Name, c.cfg.Instance) }

// isVoter reports whether the sender of h has a vote.
func (c *Core) isVoter(h Header) bool { return c.electorate.names(h.From, h.Instance) }

// quorum returns how many votes a legion's lord needs.
func (c *Core) quorum(legion string) int { return c.needed(c.electorate, legion) }

// jitter returns a random duration between lo and hi.
func (c *Core) jitter(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(c.rng.Int64N(int64(hi-lo)))
}

// due reports whether at has come.
func (c *Core) due(at Stamp) bool { return c.now.held(at) >= 0 }

func (c *Core) in(d time.Duration) Stamp { return c.now.Stamp().add(d) }

// quietly returns when to look again if nothing happens.
func (c *Core) quietly() Stamp { return c.in(quietLeases * c.lease()) }

// announced takes another node's announcement.
func (c *Core) announced(s NodeState) {
	if s.Name == c.cfg.Name || s.Name == "" {
		return
	}
	if !c.genuine(&s) {
		return
	}
	p := c.peer(s.Name)
	if p == nil || p.known && p.state.Incarnation == s.Incarnation && s.Seq <= p.state.Seq {
		return
	}
	if p.known && p.state.Instance != s.Instance {
		p.ties = nil
	}
	if s.sort(); s.Seq > p.saidSeq || p.state.Incarnation != s.Incarnation {
		p.saidUntil = Stamp{}
	}
	if p.state.Incarnation != s.Incarnation {
		p.shy = Stamp{}
	}
	p.state, p.known = s, true
	c.look = true
	if s.Electorate != nil && s.Electorate.Check() == nil {
		c.learn(s.Electorate)
	}
}

// peer returns the record of another node, nil if too many are here.
func (c *Core) peer(name string) *peer {
	p := c.peers[name]
	if p == nil && len(c.peers) >= maxPeers {
		c.forgetPeer()
	}
	if p == nil && len(c.peers) < maxPeers {
		p = &peer{gone: c.now.Stamp()}
		c.peers[name] = p
	}
	return p
}

// forgetPeer drops the node that is gone for the longest time. Of a voter it is
// remembered since when.
func (c *Core) forgetPeer() {
	var oldest string
	for name, p := range c.peers {
		if p.alive || c.electorate != nil && c.votes(name) {
			continue
		}
		if o := c.peers[oldest]; o == nil || p.gone.Boot < o.gone.Boot || p.gone == o.gone && name < oldest {
			oldest = name
		}
	}
	delete(c.peers, oldest)
}

func (c *Core) membership(ev Membership) {
	if ev.Name == c.cfg.Name {
		return
	}
	p := c.peer(ev.Name)
	if p == nil {
		return
	}
	if p.alive && !ev.Alive {
		p.gone = c.now.Stamp()
	}
	// A peer that comes back may have lost what we announced last.
	c.changed = c.changed || ev.Alive && !p.alive
	p.alive = ev.Alive
	c.look = true
	if ev.Alive && p.known && p.state.Incarnation != ev.Incarnation {
		p.known = false // its announcement was of an earlier incarnation
	}
}

// living reports whether the peer may be expected to act: gossip has it alive
// and there is no certificate of its death.
func (c *Core) living(p *peer) bool { return p.alive && p.known && !c.dead[p.state.Incarnation] }

func (c *Core) configure(ev Configure) {
	c.cfg.Legions, c.cfg.Checks = maps.Clone(ev.Legions), ev.Checks[:min(len(ev.Checks), MaxChecks)]
	c.changed, c.look, c.orderStale = true, true, true
	c.nextFall = c.now.Stamp() // the quorum may be another
	for _, name := range slices.Sorted(maps.Keys(c.campaigns)) {
		if _, ok := c.cfg.Legions[name]; !ok {
			c.withdraw(c.campaigns[name])
		}
	}
	for _, l := range c.reigning() {
		if _, ok := c.cfg.Legions[l.legion]; !ok {
			c.abandon(l.legion, "left the legion")
		}
	}
}

// candidate reports whether this node may stand for the legion.
func (c *Core) candidate(legion string) bool {
	l, ok := c.cfg.Legions[legion]
	return ok && l.fit() && !c.stopping && c.trouble == ""
}

// self is this node's state as the others will hear it.
func (c *Core) self() *NodeState {
	s := NodeState{
		Name: c.cfg.Name, Instance: c.cfg.Instance, Incarnation: c.cfg.Incarnation, Software: c.cfg.Software,
		Starts: c.cfg.Starts, Willing: c.cfg.Vote, Size: c.cfg.Size,
		Checks: c.cfg.Checks,
	}
	if c.adopted <= c.durable { // else a crash might undo a founding that others go by
		s.Electorate = c.electorate
	}
	for _, name := range slices.Sorted(maps.Keys(c.cfg.Legions)) {
		l := c.cfg.Legions[name]
		s.Legions = append(s.Legions, Candidacy{
			Legion: name, Valor: l.Valor, Weight: l.Weight, Fit: c.candidate(name),
			Held: c.heldBack(name), Spread: l.Spread, Jobs: l.Jobs, Scroll: l.Scroll,
			Quorum: c.unsafeQuorum(name), Why: brief(cmp.Or(c.trouble, l.unfit())), Told: brief(l.Told),
		})
	}
	for _, l := range c.reigning() {
		s.Reigns = append(s.Reigns, Reigning{l.legion, l.term})
	}
	maps.DeleteFunc(c.ended, func(_ string, e ended) bool { return c.now.held(e.at) > endedKept })
	for _, name := range slices.Sorted(maps.Keys(c.ended)) {
		s.Ended = append(s.Ended, c.ended[name].Ended)
	}
	for _, name := range slices.Sorted(maps.Keys(c.thrones)) {
		if t := c.thrones[name]; c.voter() && c.occupied(t) {
			s.Votes = append(s.Votes, VoteFor{name, t.Term, t.Holder})
		}
	}
	return &s
}

// announce gossips this node's state if it has changed.
func (c *Core) announce() {
	if !c.changed {
		return
	}
	c.changed = false
	seq := c.own.Seq + 1
	c.own = *c.self()
	c.own.Seq, c.own.Wall = seq, c.now.Wall.UnixMilli()
	c.do(Announce{c.own})
}

// outOfTouch is called when no quorum of voters is heard. What is announced then
// may reach nobody, and gossip compares announcements twice a minute only: until
// then others might wait for this node as the best candidate, which it no longer
// thinks itself.
func (c *Core) outOfTouch() {
	if c.unheard == nil {
		c.unheard = map[string]bool{}
	}
}

// backInTouch announces again what nobody may have heard, once a quorum of
// voters answers.
func (c *Core) backInTouch(h Header) {
	if c.unheard == nil || h.Echo == 0 || !c.isVoter(h) {
		return
	}
	if c.unheard[h.From] = true; len(c.unheard) >= c.electorate.Quorum {
		c.unheard, c.changed = nil, true
	}
}

// Announcement returns what the node last announced.
func (c *Core) Announcement() NodeState { return c.own }

// Wake returns how long the shell may wait before the next [Tick].
func (c *Core) Wake(now Now) time.Duration {
	const idle = time.Second
	wait := idle
	at := func(s Stamp) { wait = min(wait, -now.held(s)) }
	if len(c.lordships) > 0 {
		at(c.nextBeat)
	}
	if len(c.thrones) > 0 {
		at(c.nextVacancy)
	}
	if len(c.lordships) > 0 {
		at(c.nextFall)
	}
	if len(c.cfg.Legions) > 0 && c.electorate != nil && !c.stopping {
		at(c.nextStand)
	}
	if len(c.lordships) > 0 {
		at(c.nextYield)
	}
	if len(c.lapses) > 0 {
		at(c.nextUnhold)
	}
	for _, f := range c.releases {
		at(f.next)
	}
	if c.death != nil {
		at(c.death.next)
	} else if c.stopping && len(c.lordships) == 0 {
		at(c.parting)
	}
	for _, p := range c.proposals {
		at(p.next)
	}
	if c.electorate == nil {
		at(c.founding.next)
	}
	c.wakeChange(at)
	return max(wait, time.Millisecond)
}
