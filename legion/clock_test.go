package legion

import (
	"slices"
	"testing"
	"time"
)

// wrong is the time after the start with a wall clock that is off by so much.
func wrong(d, by time.Duration) Now {
	n := at(d)
	n.Wall = n.Wall.Add(by)
	return n
}

// answerBeats has the beats of that moment acknowledged by the other voters,
// whose wall clocks are right.
func answerBeats(c *Core, now Now, d time.Duration) (acts []Action) {
	acts = c.Step(now, Tick{})
	for _, s := range sends[Beat](acts) {
		if s.To == "a" {
			continue
		}
		id := testConfig(s.To).Incarnation
		h := Header{Cluster: ID{1}, Epoch: 1, From: s.To, Instance: id, Incarnation: id,
			Seq: 1000 + s.Message.Seq, Echo: s.Message.Seq, Wall: at(d).Wall.UnixMilli()}
		b := s.Message.Body.(Beat)
		acts = append(acts, c.Step(now, Receive{Message{h, BeatAck{Version: b.Version, Extended: true}}})...)
	}
	return acts
}

func gaveUp(acts []Action) (reasons []string) {
	for _, a := range acts {
		if u, ok := a.(Unreign); ok {
			reasons = append(reasons, u.Reason)
		}
	}
	return reasons
}

// TestDatedAhead: a voter takes no fenced write that is dated more than MaxAhead
// ahead of its wall clock, and all others.
func TestDatedAhead(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	receive(c, at(0), "b", Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 999}}, 0, 1)
	for i, s := range []struct {
		term  uint64
		dated time.Duration
		taken bool
	}{
		{1001, MaxAhead, true}, {1001, MaxAhead + time.Millisecond, false}, {1001, -time.Hour, true}, {0, time.Hour, true},
	} {
		id := uint64(i + 1)
		a := Accept{Legion: "g", Term: s.term, ID: id, Payload: []byte("x"), Dated: at(s.dated).Wall.UnixMilli()}
		acts := receive(c, at(0), "b", a, 0, 1+id)
		written := slices.ContainsFunc(acts, func(a Action) bool { p, ok := a.(Persist); return ok && len(p.Payloads) > 0 })
		if ok := sends[Accepted](acts)[0].Message.Body.(Accepted).OK; ok != s.taken || written != s.taken {
			t.Errorf("term %d, dated %v ahead: accepted %v, written %v", s.term, s.dated, ok, written)
		}
	}
}

// TestLordAhead: a lord whose wall clock is set forward has nothing of it
// written, here or elsewhere, and gives the throne up; by less it goes on.
func TestLordAhead(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{MaxAhead, MaxAhead + time.Second, time.Hour} {
		c := newTestCore(State{Electorate: testElectorate()})
		term := elect(t, c)
		const d = 300 * time.Millisecond
		answerBeats(c, at(d), d)
		acts := c.Step(wrong(2*d, by), Propose{ID: 1, Legion: "g", Term: term, Payload: []byte("x")})
		sent := len(sends[Accept](acts))
		if gone := gaveUp(acts); by > MaxAhead && (sent > 0 || len(gone) != 1 || gone[0] != whyAhead) || by == MaxAhead && (sent == 0 || len(gone) > 0) {
			t.Errorf("%v ahead: sends %d writes, gives up %q", by, sent, gone)
		}
	}
	c := newTestCore(State{Electorate: testElectorate()})
	elect(t, c)
	const d = 300 * time.Millisecond
	if gone := gaveUp(answerBeats(c, wrong(d, time.Hour), d)); len(gone) != 1 || gone[0] != whyAhead {
		t.Errorf("without a write: gives up %q", gone)
	}
}

// TestDatedBefore: a lord whose clock is right again does not wait for as long as
// it was ahead until its write is taken.
func TestDatedBefore(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	for name, r := range c.clocks { // one voter is as wrong
		if name == "b" {
			r.wall = r.wall.Add(time.Hour)
			c.clocks[name] = r
		}
	}
	if gone := gaveUp(c.Step(wrong(0, time.Hour), Propose{ID: 1, Legion: "g", Term: term, Payload: []byte("x")})); len(gone) > 0 {
		t.Fatalf("gives up %q, though a quorum may believe it", gone)
	}
	const d = 300 * time.Millisecond
	gone := gaveUp(append(answerBeats(c, at(d), d), c.Step(at(2*d), Tick{})...))
	if len(gone) != 1 || gone[0] != whyAhead {
		t.Errorf("gives up %q", gone)
	}
}

// TestWriteWaitsForClocks: what is dated ahead of what is known of the voters'
// clocks waits until their answers say that it is not; it goes to nobody before.
func TestWriteWaitsForClocks(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	clear(c.clocks) // as of voters that are new
	if n := len(sends[Accept](c.Step(at(0), Propose{ID: 1, Legion: "g", Term: term, Payload: []byte("x")}))); n > 0 {
		t.Fatalf("sent to %d voters whose clocks are not known", n)
	}
	const d = 300 * time.Millisecond
	acts := answerBeats(c, at(d), d)
	acts = append(acts, c.Step(at(2*d), Tick{})...)
	if len(sends[Accept](acts)) != 3 {
		t.Errorf("sent %d writes once they are", len(sends[Accept](acts)))
	}
}

// TestLateAnswer: an answer that was long on its way says little, and nothing
// against a clock that may be right.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	c.clocks["b"] = reading{wall: at(0).Wall, sent: at(0).Stamp(), heard: at(20 * time.Second).Stamp()}
	c.clocks["c"] = c.clocks["b"]
	c.now = at(20 * time.Second)
	if c.ahead("g") || c.behind() {
		t.Error("what was said 20s ago is taken for what the clocks show")
	}
	if c.now = wrong(20*time.Second, MaxAhead+time.Second); !c.ahead("g") {
		t.Error("not ahead")
	}
	if c.now = wrong(20*time.Second, -20*time.Second-MaxAhead-time.Second); !c.behind() {
		t.Error("not behind")
	}
	if c.now = wrong(20*time.Second+clockKept, time.Hour); c.ahead("g") {
		t.Error("what was said long ago counts")
	}
}

// TestLordBehind: a lord whose wall clock is behind offers the throne to whoever
// is there, preempt or not; a candidate whose clock is behind is not ready, but
// for a lord that must go.
func TestLordBehind(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	elect(t, c)
	configure(c, at(0), func(l *Legion) { l.PreemptDelay = time.Hour }) // which is for better ones
	announce(c, at(0), 2, "b", Candidacy{Valor: 1})
	var offers []Send
	for d := 300 * time.Millisecond; d < 1500*time.Millisecond; d += 100 * time.Millisecond {
		acts := answerBeats(c, wrong(d, -time.Minute), d)
		if gone := gaveUp(acts); len(gone) > 0 {
			t.Fatalf("gives up %q with nobody ready", gone)
		}
		offers = append(offers, sends[Offer](acts)...)
	}
	if len(offers) == 0 || offers[0].To != "b" {
		t.Errorf("offers %+v", offers)
	}

	for _, must := range []bool{false, true} {
		c := newTestCore(State{Electorate: testElectorate()})
		late := wrong(time.Second, -time.Minute)
		acts := c.Step(late, Receive{Message{Header{Cluster: ID{1}, Epoch: 1, From: "b", Instance: ID{2}, Incarnation: ID{2}, Seq: 1}, Offer{Legion: "g", Term: 7, Rank: Rank{Effective: 1}, Must: must}}})
		var answers []Send
		for _, s := range sends[Probe](acts) {
			if s.To != "a" {
				id := testConfig(s.To).Incarnation
				h := Header{Cluster: ID{1}, Epoch: 1, From: s.To, Instance: id, Incarnation: id, Seq: 50, Echo: s.Message.Seq, Wall: at(time.Second).Wall.UnixMilli()}
				answers = append(answers, sends[Ready](c.Step(late, Receive{Message{h, ProbeAck{Legion: "g", Why: Occupied, Term: 7}}}))...)
			}
		}
		if len(answers) != 1 || answers[0].Message.Body.(Ready).Ready != must {
			t.Errorf("must %v: %+v", must, answers)
		}
	}
}

// TestMistimed: a candidate whose wall clock is ahead does not ask for votes,
// and one whose clock is behind only when nobody else has for a lease.
func TestMistimed(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		by    time.Duration
		after time.Duration
		asks  bool
	}{
		{0, 0, true}, {time.Minute, 0, false}, {time.Minute, time.Minute, false}, {-time.Minute, 0, false}, {-time.Minute, 3 * time.Second, true},
	} {
		c := newTestCore(State{Electorate: testElectorate()})
		for _, name := range []string{"b", "c"} {
			c.clocks[name] = reading{wall: at(s.after).Wall, sent: at(s.after).Stamp(), heard: at(s.after).Stamp()}
		}
		c.now = wrong(s.after, s.by)
		th := c.throne("g")
		th.vacant = at(0).Stamp()
		if got := c.mistimed(th); (got == "") != s.asks {
			t.Errorf("%v ahead, vacant for %v: %q", s.by, s.after, got)
		}
		if c.mistimed(c.throne(ClusterLegion)) != "" {
			t.Error("the cluster has no slots")
		}
	}
}

// TestReadyByTheClocks: what the first answers leave open of the voters' clocks
// takes no throne from a lord that may keep it. The next would give it back, and
// when what was known of that one's clock is old it would be taken again.
func TestReadyByTheClocks(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-time.Hour, 0, time.Hour} {
		c := newTestCore(State{Electorate: testElectorate()})
		now := wrong(0, by)
		acts := receive(c, now, "b", Offer{Legion: "g", Term: 1001, Rank: Rank{Effective: 1}}, 0, 1)
		probes := sends[Probe](acts)
		for i, s := range probes { // a, b, c: only the last one leaves nothing open
			id := testConfig(s.To).Incarnation
			h := Header{Cluster: ID{1}, Epoch: 1, From: s.To, Instance: id, Incarnation: id,
				Seq: uint64(100 + i), Echo: s.Message.Seq, Wall: at(0).Wall.UnixMilli()}
			for _, r := range sends[Ready](c.Step(now, Receive{Message{h, ProbeAck{Legion: "g", Why: Occupied}}})) {
				if ready := r.Message.Body.(Ready).Ready; ready != (by == 0) {
					t.Errorf("wrong by %v: ready %v when %s has answered", by, ready, s.To)
				}
				probes = nil
			}
		}
		if probes != nil {
			t.Errorf("wrong by %v: no answer", by)
		}
	}
}

// TestDatedAheadOfTheRest: with a voter away, one that is left decides whether a
// write can be taken. A lord that it does not believe gives way: the other's
// writes would be taken by both.
func TestDatedAheadOfTheRest(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	delete(c.clocks, "c")
	const beat = 300 * time.Millisecond
	var gone []string
	asked := false
	for d := beat; d < 3*time.Second && gone == nil; d += beat {
		acts := c.Step(wrong(d, time.Hour), Tick{})
		for _, s := range sends[Beat](acts) {
			if b := s.Message.Body.(Beat); s.To != "c" {
				id := testConfig(s.To).Incarnation
				h := Header{Cluster: ID{1}, Epoch: 1, From: s.To, Instance: id, Incarnation: id,
					Seq: 1000 + s.Message.Seq, Echo: s.Message.Seq, Wall: at(d).Wall.UnixMilli()}
				acts = append(acts, c.Step(wrong(d, time.Hour), Receive{Message{h, BeatAck{Version: b.Version, Extended: true}}})...)
			}
		}
		if !asked {
			asked = true
			acts = append(acts, c.Step(wrong(d, time.Hour), Propose{ID: 1, Legion: "g", Term: term, Payload: []byte("x")})...)
		}
		if n := len(sends[Accept](acts)); n > 0 {
			t.Errorf("sent to %d voters", n)
		}
		gone = gaveUp(acts)
	}
	if len(gone) != 1 || gone[0] != whyAhead {
		t.Errorf("gives up %q", gone)
	}
}

// TestAheadOfAnyOfAll: where a legion asks for all votes, one voter that would
// not take a write is one too many, and another node is to be the lord.
func TestAheadOfAnyOfAll(t *testing.T) {
	t.Parallel()
	for quorum, want := range map[int]int{2: 0, 3: 1} {
		c := newTestCore(State{Electorate: testElectorate()})
		term := elect(t, c)
		for _, v := range c.electorate.Voters { // all have voted
			c.lordships["g"].grants.credit(v.Name, at(0).Stamp())
		}
		c.clocks["c"] = reading{at(0).Wall.Add(-time.Hour), at(0).Stamp(), at(0).Stamp()}
		part := c.cfg.Legions["g"]
		part.Quorum = quorum
		c.Step(at(0), Configure{Legions: map[string]Legion{"g": part}})
		if _, ok := c.Trusted(at(0), "g", term); !ok {
			t.Fatalf("quorum %d: not lord", quorum)
		}
		gone := gaveUp(c.Step(at(0), Propose{ID: 1, Legion: "g", Term: term, Payload: []byte("x")}))
		if len(gone) != want {
			t.Errorf("quorum %d: gives up %q", quorum, gone)
		}
	}
}
