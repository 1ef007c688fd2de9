package legion

import (
	"slices"
	"testing"
	"time"
)

// TestCopiedDisk: a state directory that has counted fewer starts than was
// heard of, or as many in another life, is disowned; a restart is not.
func TestCopiedDisk(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	hear := func(incarnation ID, starts uint64) bool {
		actions := c.Step(at(0), Announced{NodeState{Name: "b", Instance: ID{2}, Incarnation: incarnation, Seq: 1, Starts: starts}})
		return len(sends[Disown](actions)) == 0
	}
	for _, s := range []struct {
		incarnation ID
		starts      uint64
		genuine     bool
	}{
		{ID{21}, 4, true}, {ID{21}, 4, true}, {ID{22}, 5, true}, {ID{23}, 5, false}, {ID{24}, 4, false}, {ID{23}, 5, false}, {ID{25}, 6, true},
	} {
		if got := hear(s.incarnation, s.starts); got != s.genuine {
			t.Errorf("%d starts in life %d: genuine %v", s.starts, s.incarnation[0], got)
		}
	}
	actions := c.Step(at(0), Announced{NodeState{Name: "c", Instance: ID{3}, Incarnation: ID{31}, Seq: 1, Starts: 7}})
	var kept []Started
	for _, a := range actions {
		if p, ok := a.(Persist); ok {
			kept = p.Starts
		}
	}
	c = newTestCore(State{Electorate: testElectorate(), Starts: kept}) // restarted
	for _, s := range []struct {
		incarnation ID
		starts      uint64
		genuine     bool
	}{{ID{25}, 6, true}, {ID{26}, 5, false}, {ID{27}, 7, true}} {
		if got := hear(s.incarnation, s.starts); got != s.genuine {
			t.Errorf("after a restart, %d starts in life %d: genuine %v", s.starts, s.incarnation[0], got)
		}
	}
	actions = receive(c, at(time.Second), "b", Disown{c.cfg.Incarnation, 9}, 0, 1)
	if !slices.ContainsFunc(actions, func(a Action) bool { d, ok := a.(Disowned); return ok && d.Starts == 9 }) {
		t.Error("not disowned")
	}
	c.Step(at(time.Second), DiskTrouble{})
	if vote := sends[Vote](receive(c, at(time.Second), "b", Ask{Legion: "g", Term: 1001}, 0, 2)); vote[0].Message.Body.(Vote).Granted {
		t.Error("votes by what it finds on a copy")
	}
	if told := sends[Standing](receive(c, at(time.Second), "b", Read{}, 0, 3)); len(told) > 0 {
		t.Error("tells what it finds on a copy")
	}
}

// TestCopyOfALivingDisk: a backup that was made in the life that was the last is
// disowned if that one has counted on since. An announcement that was overtaken
// is none of a copy.
func TestCopyOfALivingDisk(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	hear := func(incarnation ID, seq, starts uint64) bool {
		actions := c.Step(at(0), Announced{NodeState{Name: "b", Instance: ID{2}, Incarnation: incarnation, Seq: seq, Starts: starts}})
		return len(sends[Disown](actions)) == 0
	}
	if !hear(ID{21}, 1, 4) || !hear(ID{21}, 3, 5) || !hear(ID{21}, 2, 4) {
		t.Error("disowned while it lives")
	}
	if hear(ID{22}, 1, 5) {
		t.Error("put back as it was when it counted 4, it is genuine")
	}
	if !hear(ID{23}, 1, 6) {
		t.Error("disowned when it is restarted")
	}
	actions := c.Step(at(0), Counted{9})
	for _, a := range actions {
		if s, ok := a.(Announce); ok && s.State.Starts == 9 {
			return
		}
	}
	t.Errorf("its own count is not announced: %v", actions)
}

// follower is the electorate that follows testElectorate's, with another lease.
func follower(lease time.Duration) Electorate {
	next := testElectorate().with("", nil)
	next.Beat, next.Lease = 200*time.Millisecond, lease
	return next
}

// TestShorterLease: what the voters before granted does not outlast the
// shorter lease by which the same voters extend it now.
func TestShorterLease(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	receive(c, at(50*time.Millisecond), "b", Committed{follower(time.Second)}, 0, 100)
	if c.Epoch() != 2 {
		t.Fatalf("epoch %d", c.Epoch())
	}
	if _, ok := c.Trusted(at(700*time.Millisecond), "g", term); !ok {
		t.Error("not lord any more for a change of electorate")
	}
	if left, ok := c.Trusted(at(900*time.Millisecond), "g", term); ok {
		t.Errorf("trusted for %v more, when the voters' leases of 1s may be over", left)
	}
}

// TestShorterVacancy: a grant for the shorter lease is seen to end when it does.
func TestShorterVacancy(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	c.Step(at(0), Tick{}) // no grant ends within the longer lease
	receive(c, at(0), "b", Committed{follower(time.Second)}, 0, 1)
	h := Header{Cluster: ID{1}, Epoch: 2, From: "b", Instance: ID{2}, Incarnation: ID{2}, Seq: 2}
	c.Step(at(0), Receive{Message{h, Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 999}}}})
	if c.Step(at(time.Second), Tick{}); c.thrones["g"].Term != 1001 || c.thrones["g"].live {
		t.Errorf("after the lease: %+v", c.thrones["g"])
	}
}

// TestLongerLease: a voter grants nothing for the lease of an electorate that
// a crash might undo, since it would abstain for the shorter one then.
func TestLongerLease(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	vote := sends[Vote](receive(c, at(0), "b", Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 999}}, 0, 1))
	c.Step(at(0), Durable{1})
	receive(c, at(0), "b", Committed{follower(8 * time.Second)}, 0, 2)
	beat := func(seq uint64) BeatAck {
		b := Beat{Heard: vote[0].Message.Seq, Version: 1, Full: true, Set: []Reigning{{"g", 1001}}}
		id := testConfig("b").Incarnation
		h := Header{Cluster: ID{1}, Epoch: 2, From: "b", Instance: id, Incarnation: id, Seq: seq, To: c.cfg.Incarnation}
		return sends[BeatAck](c.Step(at(time.Second), Receive{Message{h, b}}))[0].Message.Body.(BeatAck)
	}
	if ack := beat(3); !ack.Extended || len(ack.Refused) != 1 {
		t.Errorf("before it is on disk: %+v", ack)
	}
	c.Step(at(time.Second), Durable{c.adopted})
	if ack := beat(4); !ack.Extended || len(ack.Refused) != 0 {
		t.Errorf("afterwards: %+v", ack)
	}
}

// TestRefoundEndsReigns: terms of a cluster founded again are above all that
// were before, so none is carried over.
func TestRefoundEndsReigns(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	c.lordships["g"].grants.credit("a", at(0).Stamp()) // its own vote, now enough
	acts := c.Step(at(50*time.Millisecond), Refound{})
	if _, ok := c.Trusted(at(50*time.Millisecond), "g", term); ok || !unreigned(acts) {
		t.Error("goes on in an old term")
	}
}

// TestRefoundByOnlooker: nor are they below them where a node without a vote,
// which has promised nothing, founds the cluster again.
func TestRefoundByOnlooker(t *testing.T) {
	t.Parallel()
	e := testElectorate().with("a", nil)
	e.Base = uint64(at(0).Wall.Unix()) + refoundTerms // it was founded again before
	for name, term := range map[string]uint64{"": e.Base + 5, "h": e.Base + 2*refoundTerms} {
		c := newTestCore(State{Electorate: &e})
		if name != "" {
			h := Header{Cluster: e.Cluster, Epoch: e.Epoch, From: "b", Instance: ID{2}, Incarnation: ID{2}, Seq: 1}
			c.Step(at(0), Receive{Message{h, Vacant{Legion: name, Term: term}}})
		}
		c.Step(at(0), Refound{})
		if got := c.Electorate().Base; got <= term {
			t.Errorf("terms begin above %d, and %d was given", got, term)
		}
	}
}

// TestFollows: one change at a time, and from what stands.
func TestFollows(t *testing.T) {
	t.Parallel()
	old := testElectorate()
	other := old.with("", nil)
	other.Prior = &Prior{Voters: old.Voters[:2], Quorum: 2, Lease: old.Lease}
	added, removed := old.with("", &Voter{"d", ID{4}}), old.with("b", nil)
	for _, next := range []Electorate{added, removed, old.with("", nil)} {
		if err := next.follows(old); err != nil {
			t.Errorf("%v: %v", next.Voters, err)
		}
	}
	if removed.Quorum != 2 || added.Quorum != 3 {
		t.Errorf("quorums %d and %d", removed.Quorum, added.Quorum)
	}
	for name, next := range map[string]Electorate{
		"replaced in one step": old.with("b", &Voter{"b", ID{9}}),
		"the same epoch":       *old,
		"two epochs later":     removed.with("", &Voter{"d", ID{4}}),
		"another one before it": func() Electorate {
			e := added
			e.Prior = removed.Prior
			e.Prior = &Prior{Voters: removed.Voters, Quorum: 2, Lease: old.Lease}
			return e
		}(),
	} {
		if next.follows(old) == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// TestEnough: a quorum cannot do without any of so many voters, and could
// without one less.
func TestEnough(t *testing.T) {
	t.Parallel()
	for n := 1; n <= MaxVoters; n++ {
		p := Prior{Voters: make([]Voter, n), Quorum: majority(n)}
		if k := p.enough(); n-k >= p.Quorum || n-(k-1) < p.Quorum {
			t.Errorf("%d of %d", k, n)
		}
	}
}

// TestAcksAreOfOneEpoch: a voter that took a write before a change of the
// electorate is asked again after it.
func TestAcksAreOfOneEpoch(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	actions := c.Step(at(0), Propose{ID: 1, Legion: "g", Term: term, Payload: []byte("x")})
	asked := func(actions []Action, voter string) uint64 {
		for _, s := range sends[Accept](actions) {
			if s.To == voter {
				return s.Message.Seq
			}
		}
		t.Fatalf("%s is not asked", voter)
		return 0
	}
	receive(c, at(0), "b", Accepted{OK: true}, asked(actions, "b"), 50)
	next := c.electorate.with("", &Voter{"d", ID{4}})
	actions = receive(c, at(10*time.Millisecond), "b", Committed{next}, 0, 51)
	h := Header{Cluster: ID{1}, Epoch: 2, From: "c", Instance: ID{3}, Incarnation: ID{3}, Seq: 60, Echo: asked(actions, "c")}
	wrote := func(actions []Action) bool {
		return slices.ContainsFunc(actions, func(a Action) bool { w, ok := a.(Wrote); return ok && w.Committed })
	}
	if wrote(c.Step(at(20*time.Millisecond), Receive{Message{h, Accepted{OK: true}}})) {
		t.Error("committed by one voter of this epoch and one of the epoch before")
	}
	asked(actions, "b")
}

// TestStoresOnlyWhenWhole: a voter that does not hold what the epoch before
// had stores no amendment, and one that does carries it with its vote.
func TestStoresOnlyWhenWhole(t *testing.T) {
	t.Parallel()
	second := testElectorate().with("", nil)
	third := second.with("c", nil)
	for _, whole := range []uint64{0, 2} {
		c := newTestCore(State{Electorate: &second, Whole: whole})
		h := Header{Cluster: ID{1}, Epoch: 2, From: "b", Instance: ID{2}, Incarnation: ID{2}, Seq: 1}
		c.Step(at(0), Receive{Message{h, Ask{Legion: ClusterLegion, Term: 1001, Rank: Rank{Effective: 999}}}})
		h.Seq++
		actions := c.Step(at(0), Receive{Message{h, Amend{Amendment{1001, third}}}})
		acks := sends[Amended](actions)
		if len(acks) != 1 || acks[0].Message.Body.(Amended).OK != (whole == 2) {
			t.Fatalf("whole in %d: %+v", whole, acks)
		}
		if c.Epoch() != 2 {
			t.Error("it acts on what it has stored")
		}
		if whole == 2 && acks[0].After == 0 {
			t.Error("acknowledged before it is on disk")
		}
		if stored := c.stored(); (stored != nil) != (whole == 2) {
			t.Errorf("whole in %d: stored %+v", whole, stored)
		}
	}
}

// TestToldIsNoPromise: a term that voters told a node of while it had no vote
// is written down when the node becomes a voter and takes their promises over.
func TestToldIsNoPromise(t *testing.T) {
	t.Parallel()
	first := testElectorate().with("a", nil)
	c := newTestCore(State{Electorate: &first})
	second := first.with("", &Voter{"a", ID{1}})
	from := func(seq, epoch, echo uint64, b Body) Message {
		return Message{Header{Cluster: ID{1}, Epoch: epoch, From: "b", Instance: ID{2}, Incarnation: ID{2}, Seq: seq, Echo: echo}, b}
	}
	c.Step(at(0), Receive{from(1, first.Epoch, 0, Vacant{Legion: "g", Term: 1008})})
	c.Step(at(0), Receive{from(2, first.Epoch, 0, Committed{second})})
	asked := sends[Read](c.Step(at(0), Durable{c.adopted}))
	if len(asked) == 0 {
		t.Fatal("asks nobody what was promised")
	}
	promise := Grant{Legion: "g", Term: 1008, Holder: "b", Instance: ID{2}, Incarnation: ID{2}, Lease: first.Lease}
	for i, s := range asked {
		m := from(uint64(3+i), second.Epoch, s.Message.Seq, Standing{Promises: []Grant{promise}})
		m.From, m.Instance, m.Incarnation = s.To, testConfig(s.To).Instance, testConfig(s.To).Incarnation
		c.Step(at(0), Receive{m})
	}
	c.Step(at(0), Merged{second.Epoch})
	var written []Grant
	for _, a := range c.Step(at(time.Minute), Tick{}) {
		if p, ok := a.(Persist); ok && p.Whole == second.Epoch {
			written = p.Grants
		}
	}
	if !c.isWhole() || len(written) != 1 || written[0].Term != 1008 {
		t.Errorf("whole %v, and wrote %+v", c.isWhole(), written)
	}
}

// TestPromisedToTwo: where two voters tell of the same term of two candidates,
// it is no accident which of them the next voter takes.
func TestPromisedToTwo(t *testing.T) {
	t.Parallel()
	second := testElectorate().with("", nil)
	for range 50 {
		c := newTestCore(State{Electorate: &second})
		c.refill.from = map[string]Standing{}
		for _, voter := range []string{"b", "c"} {
			c.refill.from[voter] = Standing{Promises: []Grant{{Legion: "g", Term: 1008, Holder: voter}}}
		}
		if c.becomeWhole(); c.thrones["g"].Holder != "b" {
			t.Fatalf("%+v", c.thrones["g"].Grant)
		}
	}
}

// TestPromiseToNobody: a promise that was taken over while a grant lasted is
// to nobody. It is a promise all the same: after a restart, and when that time
// is over, the next voters are told of it.
func TestPromiseToNobody(t *testing.T) {
	t.Parallel()
	e := testElectorate()
	c := newTestCore(State{Electorate: e, Grants: []Grant{{Legion: "g", Term: 1008, Lease: e.Lease}}})
	for _, d := range []time.Duration{0, time.Minute} {
		c.Step(at(d), Tick{})
		told := sends[Standing](receive(c, at(d), "b", Read{}, 0, uint64(1+d)))
		if len(told) != 1 {
			t.Fatalf("%d answers", len(told))
		}
		if p := told[0].Message.Body.(Standing).Promises; len(p) != 1 || p[0].Term != 1008 {
			t.Errorf("after %v: %+v", d, p)
		}
	}
}

// TestLastQuorumStays: a voter that is to go stays while those that would be left
// may be no quorum.
func TestLastQuorumStays(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	c.forgotten = map[string]bool{"b": true}
	if next, why := c.wanted(); next != nil {
		t.Errorf("%s, though c is silent: %v", why, next.Voters)
	}
	c.links["c"] = &link{answered: c.now.Stamp()}
	if next, _ := c.wanted(); next == nil || len(next.Voters) != 2 || slices.ContainsFunc(next.Voters, func(v Voter) bool { return v.Name == "b" }) {
		t.Errorf("wants %+v", next)
	}
}
