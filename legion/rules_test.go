package legion

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQuorumth checks the q-th latest against a dumb one: the latest stamp
// that at least q are not before.
func TestQuorumth(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		stamps := make([]Stamp, r.IntN(MaxVoters+1))
		for i := range stamps {
			at := time.Duration(r.IntN(5))
			stamps[i] = Stamp{at, at}
		}
		q := r.IntN(MaxVoters + 2)
		var want Stamp
		found := false
		for _, s := range stamps {
			n := 0
			for _, o := range stamps {
				if o.Boot >= s.Boot {
					n++
				}
			}
			if n >= q && q > 0 && (!found || s.Boot > want.Boot) {
				want, found = s, true
			}
		}
		if got, ok := quorumth(slices.Clone(stamps), q); got != want || ok != found {
			t.Fatalf("quorumth(%v, %d) = %v %v, want %v %v", stamps, q, got, ok, want, found)
		}
	}
}

func TestRankOrder(t *testing.T) {
	t.Parallel()
	best := []Rank{
		{Effective: 9, Tie: ID{1}}, {Effective: 3, Tie: ID{2}}, {Effective: 3, Tie: ID{1}}, {Effective: -5, Tie: ID{7}},
		{Effective: 100, Tie: ID{9}, Held: true}, {Effective: 1, Tie: ID{9}, Held: true},
	}
	for i, a := range best {
		for j, b := range best {
			if got, want := a.compare(b), j-i; got > 0 != (want > 0) || got < 0 != (want < 0) {
				t.Errorf("%+v against %+v: %d", a, b, got)
			}
		}
	}
}

// TestTies: the ties of many legions spread over the nodes.
func TestTies(t *testing.T) {
	t.Parallel()
	won := map[ID]int{}
	for i := range 300 {
		legion := string(rune('a'+i%26)) + string(rune('a'+i/26))
		won[slices.MaxFunc([]ID{{1}, {2}, {3}}, func(a, b ID) int {
			return Rank{Tie: tie(a, legion)}.compare(Rank{Tie: tie(b, legion)})
		})]++
	}
	for id, n := range won {
		if n < 60 {
			t.Errorf("%v wins %d of 300 ties", id, n)
		}
	}
}

// TestShares: the holder's time ends before the voter's, for all rates within
// 10 % of true time, and a recovered grant outlasts both.
func TestShares(t *testing.T) {
	t.Parallel()
	const slow, fast = 0.9, 1.1
	if holderShare/slow > 1/fast {
		t.Errorf("a slow holder uses %v of a lease, a fast voter keeps it for %v", holderShare/slow, 1/fast)
	}
	if restartShare/fast < 1/slow {
		t.Errorf("a fast restarted voter abstains for %v of a lease, a slow one would have for %v", restartShare/fast, 1/slow)
	}
}

// TestTwoClocks: a holder counts by its faster clock, a voter by its slower.
func TestTwoClocks(t *testing.T) {
	t.Parallel()
	from := Stamp{Boot: 100, Raw: 50}
	for _, n := range []Now{{Boot: 130, Raw: 60}, {Boot: 110, Raw: 80}} {
		if n.held(from) != 30 || n.since(from) != 10 {
			t.Errorf("from %v to %v: held %v, since %v", from, n, n.held(from), n.since(from))
		}
	}
	n := Now{Boot: 100, Raw: 50}
	if got := n.sooner(Stamp{130, 90}, Stamp{120, 60}); got != (Stamp{120, 60}) {
		t.Errorf("sooner: %v", got)
	}
}

func TestElectorateCheck(t *testing.T) {
	t.Parallel()
	if err := testElectorate().Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Electorate){
		"no cluster":      func(e *Electorate) { e.Cluster = ID{} },
		"no epoch":        func(e *Electorate) { e.Epoch = 0 },
		"half is enough":  func(e *Electorate) { e.Quorum = 1 },
		"more than all":   func(e *Electorate) { e.Quorum = 4 },
		"nobody":          func(e *Electorate) { e.Voters = nil },
		"too many":        func(e *Electorate) { e.Voters = make([]Voter, MaxVoters+1) },
		"one voter twice": func(e *Electorate) { e.Voters[1] = e.Voters[0] },
		"out of order":    func(e *Electorate) { slices.Reverse(e.Voters) },
		"short lease":     func(e *Electorate) { e.Lease = 3 * e.Beat },
		"no beat":         func(e *Electorate) { e.Beat = 0 },
		"endless beat":    func(e *Electorate) { e.Beat = math.MaxInt64/2 + 1 },
	} {
		e := testElectorate()
		if spoil(e); e.Check() == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// at is the time after the start of a test's core.
func at(d time.Duration) Now {
	return Now{Boot: time.Hour + d, Raw: time.Hour + d, Wall: time.Unix(1000, 0).Add(d)}
}

func newTestCore(st State) *Core {
	return New(testConfig("a"), st, at(0), rand.New(rand.NewPCG(1, 1)))
}

func receive(c *Core, now Now, from string, b Body, echo, seq uint64) []Action {
	id := testConfig(from).Incarnation
	h := Header{Cluster: ID{1}, Epoch: 1, From: from, Instance: id, Incarnation: id, Seq: seq, Echo: echo, Wall: now.Wall.UnixMilli()}
	return c.Step(now, Receive{Message{h, b}})
}

func sends[B Body](actions []Action) (found []Send) {
	for _, a := range actions {
		if s, ok := a.(Send); ok {
			if _, ok := s.Message.Body.(B); ok {
				found = append(found, s)
			}
		}
	}
	return found
}

// TestFoundingIsDurableBeforeItIsTold: a crash must not undo a founding that
// others have begun to follow.
func TestFoundingIsDurableBeforeItIsTold(t *testing.T) {
	t.Parallel()
	cfg := testConfig("a")
	cfg.Size = 1
	c := New(cfg, State{}, at(0), rand.New(rand.NewPCG(1, 1)))
	tells := func(actions []Action) bool {
		return slices.ContainsFunc(actions, func(a Action) bool {
			n, ok := a.(Announce)
			return ok && n.State.Electorate != nil
		})
	}
	if tells(c.Step(at(0), Tick{})) {
		t.Error("announced before it is durable")
	}
	if !tells(c.Step(at(time.Millisecond), Durable{1})) {
		t.Error("not announced once it is durable")
	}
}

// TestAcceptedFoundingIsKept: an accepted founding might stand; it is dropped
// only for a higher number and the proof that it never will.
func TestAcceptedFoundingIsKept(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{})
	found := func(from string, n uint64, cluster ID, dead ...ID) FoundAck {
		e := *testElectorate()
		e.Cluster = cluster
		acks := sends[FoundAck](receive(c, at(0), from, Found{Founding{n, from, e}, dead}, 0, n))
		if len(acks) != 1 {
			t.Fatalf("%d answers", len(acks))
		}
		return acks[0].Message.Body.(FoundAck)
	}
	first, second := ID{11}, ID{12}
	if !found("b", 1, first).Accepted {
		t.Fatal("the first is not accepted")
	}
	for _, ack := range []FoundAck{found("c", 2, second), found("c", 1, second, first)} {
		if ack.Accepted || ack.Rival == nil || ack.Rival.Electorate.Cluster != first {
			t.Errorf("dropped for %+v", ack)
		}
	}
	if !found("c", 2, second, first).Accepted {
		t.Error("not dropped though it can never stand")
	}
}

// TestCertificatesAreNotFull: however many have died, the next certificate
// frees a throne.
func TestCertificatesAreNotFull(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	for i := range maxDead + 10 {
		id := ID{9, byte(i >> 16), byte(i >> 8), byte(i)}
		h := Header{Cluster: ID{1}, From: "x", Instance: id, Incarnation: id, Seq: 1}
		c.Step(at(0), Receive{Message{h, Death{id}}})
	}
	if len(c.dead) != maxDead || len(c.deaths) != maxDead {
		t.Fatalf("%d certificates kept, and %d in order", len(c.dead), len(c.deaths))
	}
	receive(c, at(time.Second), "b", Ask{Legion: "g", Term: 1001}, 0, 1)
	if !c.occupied(c.thrones["g"]) {
		t.Fatal("no vote")
	}
	receive(c, at(time.Second), "b", Death{testConfig("b").Incarnation}, 0, 2)
	if c.occupied(c.thrones["g"]) {
		t.Error("the certificate did not free the throne")
	}
}

// TestCertificateOfAnEarlierLife: a certificate frees nothing that the node's
// next incarnation holds.
func TestCertificateOfAnEarlierLife(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	receive(c, at(0), "b", Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 999}}, 0, 1)
	if !c.occupied(c.thrones["g"]) {
		t.Fatal("no vote")
	}
	old := ID{99}
	c.Step(at(0), Receive{Message{Header{Cluster: ID{1}, Epoch: 1, From: "b", Instance: ID{2}, Incarnation: old, Seq: 7}, Death{old}}})
	if !c.occupied(c.thrones["g"]) {
		t.Error("freed by an earlier incarnation's certificate")
	}
}

// elect makes the core lord of g by the votes of b and c.
func elect(t *testing.T, c *Core) (term uint64) {
	t.Helper()
	var queue []Action
	for _, name := range []string{"b", "c"} {
		id := testConfig(name).Instance
		queue = append(queue, c.Step(at(0), Membership{name, id, true})...)
		queue = append(queue, c.Step(at(0), Announced{NodeState{
			Name: name, Instance: id, Incarnation: id, Seq: 1, Electorate: testElectorate()}})...)
	}
	for len(queue) > 0 {
		if l := c.lordships["g"]; l != nil {
			return l.term
		}
		s, ok := queue[0].(Send)
		queue = queue[1:]
		if !ok || s.To == "a" {
			continue
		}
		var answer Body
		switch b := s.Message.Body.(type) {
		case Probe:
			answer = ProbeAck{Legion: b.Legion, Would: true, Term: 1000}
		case Ask:
			answer = Vote{Legion: b.Legion, Term: b.Term, Granted: true}
		default:
			continue
		}
		queue = append(queue, receive(c, at(0), s.To, answer, s.Message.Seq, s.Message.Seq)...)
	}
	t.Fatal("not elected")
	return 0
}

// TestOvertakenBeat: a beat that arrives after the release sent later does not
// bring the grant back.
func TestOvertakenBeat(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	vote := sends[Vote](receive(c, at(0), "b", Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 999}}, 0, 1))
	c.Step(at(0), Durable{1})
	beat := func(seq uint64) {
		b := Beat{Heard: vote[0].Message.Seq, Version: 1, Full: true, Set: []Reigning{{"g", 1001}}}
		id := testConfig("b").Incarnation
		h := Header{Cluster: ID{1}, Epoch: 1, From: "b", Instance: id, Incarnation: id, Seq: seq, To: c.cfg.Incarnation}
		c.Step(at(time.Second), Receive{Message{h, b}})
	}
	if beat(2); !c.occupied(c.thrones["g"]) || c.now.since(c.thrones["g"].at) != 0 {
		t.Fatal("not renewed")
	}
	receive(c, at(time.Second), "b", Release{Thrones: []Reigning{{"g", 1001}}}, 0, 4)
	if beat(3); c.occupied(c.thrones["g"]) {
		t.Error("occupied again")
	}
}

// TestTrust is counted from the request, for 0.8 of the lease, to the instant.
func TestTrust(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	const end = 1600 * time.Millisecond
	if left, ok := c.Trusted(at(time.Second), "g", term); !ok || left != end-time.Second {
		t.Errorf("after 1s: %v %v", left, ok)
	}
	if _, ok := c.Trusted(at(end), "g", term); ok {
		t.Error("trusted at the end")
	}
	if _, ok := c.Trusted(at(end-1), "g", term); !ok {
		t.Error("not trusted just before the end")
	}
	if _, ok := c.Trusted(at(time.Second), "g", term-1); ok {
		t.Error("trusted in another term")
	}
	suspended := at(time.Second)
	suspended.Boot += time.Second
	if _, ok := c.Trusted(suspended, "g", term); ok {
		t.Error("trusted after a suspend")
	}
}

// TestGivenBackWhenLetGo: a lordship that ran out is not given back before the
// shell has let go, and not renewed either.
func TestGivenBackWhenLetGo(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	late := c.Step(at(1700*time.Millisecond), Tick{})
	if !slices.ContainsFunc(late, func(a Action) bool { u, ok := a.(Unreign); return ok && u.Legion == "g" && u.Term == term }) {
		t.Fatal("no Unreign")
	}
	late = append(late, c.Step(at(1900*time.Millisecond), Tick{})...)
	for _, s := range sends[Release](late) {
		t.Errorf("given back: %+v", s.Message.Body)
	}
	for _, s := range sends[Beat](late) {
		if b := s.Message.Body.(Beat); slices.Contains(b.Set, Reigning{"g", term}) {
			t.Error("renewed")
		}
	}
	if len(sends[Release](c.Step(at(2*time.Second), LetGo{"g", term}))) != 3 {
		t.Error("not given back to every voter")
	}
}

// TestAnswerAfterTheEnd: an answer that waited while the process stood still
// brings back nothing, though its request was sent late enough: a guardian may
// have acted for the reign that ran out.
func TestAnswerAfterTheEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		when  time.Duration
		lasts bool
	}{{1500 * time.Millisecond, true}, {1700 * time.Millisecond, false}} {
		c := newTestCore(State{Electorate: testElectorate()})
		term := elect(t, c)
		beats := sends[Beat](c.Step(at(time.Second), Tick{}))
		if len(beats) != 3 {
			t.Fatalf("%d beats", len(beats))
		}
		var ends bool
		for _, s := range beats {
			if s.To == "a" {
				continue
			}
			b := s.Message.Body.(Beat)
			for _, a := range receive(c, at(tt.when), s.To, BeatAck{Version: b.Version, Extended: true}, s.Message.Seq, 100) {
				_, end := a.(Unreign)
				ends = ends || end
			}
		}
		if _, ok := c.Trusted(at(tt.when), "g", term); ok != tt.lasts || ends == tt.lasts {
			t.Errorf("answered at %v: trusted %v, ended %v", tt.when, ok, ends)
		}
	}
}

// TestRecordedAsk: a request that is heard again, a recorded one say, does not
// keep the throne for an asker that is gone.
func TestRecordedAsk(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	ask := func(when time.Duration, seq uint64) bool {
		return len(sends[Vote](receive(c, at(when), "b", Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 999}}, 0, seq))) > 0
	}
	if !ask(0, 5) || !ask(0, 6) {
		t.Fatal("no answer")
	}
	for _, when := range []time.Duration{time.Second, 1900 * time.Millisecond, 3 * time.Second} {
		if ask(when, 6) || ask(when, 5) {
			t.Errorf("answered again at %v", when)
		}
	}
	if c.now = at(3 * time.Second); c.occupied(c.thrones["g"]) {
		t.Error("occupied after its lease")
	}
}

// TestForgottenSet: a voter that does not hold the set of lordships any more is
// told it again, though it had acknowledged it.
func TestForgottenSet(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	elect(t, c)
	version := c.setVersion
	for i, holds := range []uint64{version, version, 0, version} {
		now := at(time.Duration(i+1) * 300 * time.Millisecond)
		for _, s := range sends[Beat](c.Step(now, Tick{})) {
			if b := s.Message.Body.(Beat); s.To == "b" {
				if told := i == 0 || i == 3; b.Full != told {
					t.Errorf("beat %d: told the set: %v", i, b.Full)
				}
			}
			if s.To != "a" {
				receive(c, now, s.To, BeatAck{Version: holds, Extended: true}, s.Message.Seq, s.Message.Seq)
			}
		}
	}
}

// TestLeftLegion: nothing is left to do, and to wake for, about a legion that
// the node has left while it was its lord.
func TestLeftLegion(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	legions := testConfig("a").Legions
	delete(legions, "g")
	c.Step(at(0), Configure{Legions: legions})
	c.Step(at(0), LetGo{"g", term})
	if k := c.campaigns["g"]; k != nil {
		t.Errorf("a campaign for it: %+v", *k)
	}
}

// TestNumbersBeyond: a term or an epoch after which there would be none, or a
// lease that overflows when a margin is added, does not come in.
func TestNumbersBeyond(t *testing.T) {
	t.Parallel()
	far := *testElectorate()
	far.Epoch = math.MaxUint64
	long := *testElectorate()
	long.Lease = math.MaxInt64
	set := []Reigning{{"g", math.MaxUint64}}
	for _, b := range []Body{
		Ask{Legion: "g", Term: math.MaxUint64}, Beat{Full: true, Set: set}, BeatAck{Refused: set}, Release{Thrones: set},
		ProbeAck{Legion: "g", Term: math.MaxUint64}, Vote{Legion: "g", Promise: math.MaxUint64}, Vacant{Legion: "g", Term: math.MaxUint64},
		Accept{Legion: "g", Term: math.MaxUint64}, Amend{Amendment{math.MaxUint64, *testElectorate()}}, Committed{far}, Committed{long},
		Standing{Promises: []Grant{{Legion: "g", Term: math.MaxUint64}}}, Standing{Promises: []Grant{{Legion: "g", Lease: math.MaxInt64}}},
	} {
		m := Message{Header: Header{Cluster: ID{1}, Epoch: 1, From: "b", Instance: ID{2}, Incarnation: ID{2}, Seq: 1}, Body: b}
		raw, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeMessage(raw); err == nil {
			t.Errorf("taken: %T %+v", b, b)
		}
	}
}

// TestOvertakenAsk: a vote that a voter gives because the release came before
// the request is given back once more.
func TestOvertakenAsk(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	k := &campaign{legion: "g"}
	c.throne("g")
	c.probe(k)
	c.campaigns["g"] = k
	c.stepUp(k)
	asked := sends[Ask](c.out)
	if len(asked) == 0 {
		t.Fatal("asks nobody")
	}
	c.fail(k, "refused")
	c.Step(at(0), Tick{})
	for _, a := range asked {
		if a.To != "b" {
			continue
		}
		actions := receive(c, at(0), "b", Vote{Legion: "g", Term: k.term, Granted: true}, a.Message.Seq, 1)
		back := sends[Release](actions)
		if i := slices.IndexFunc(back, func(s Send) bool { return s.To == "b" }); i < 0 || back[i].Message.Seq <= a.Message.Seq {
			t.Errorf("keeps a vote that it has no use for: %+v", back)
		}
		return
	}
	t.Error("does not ask b")
}

// TestToldOfVacancy: a voter whose grant has run out tells the best candidates
// that have no vote. The lord that let it run out is not one of them.
func TestToldOfVacancy(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	for i, name := range []string{"d", "e", "f"} {
		id := testConfig(name).Instance
		c.Step(at(0), Membership{name, id, true})
		c.Step(at(0), Announced{NodeState{Name: name, Instance: id, Incarnation: id, Seq: 1,
			Legions: []Candidacy{{Legion: "g", Valor: 300 - i, Fit: true}}}})
	}
	receive(c, at(0), "d", Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 300}}, 0, 1)
	var told []string
	for _, s := range sends[Vacant](c.Step(at(2*time.Second), Tick{})) {
		told = append(told, s.To)
	}
	if !slices.Equal(told, []string{"e", "f"}) {
		t.Errorf("told %v", told)
	}
}

// TestPeersComeAndGo: names of nodes that are gone for good do not keep a new
// one from being known.
func TestPeersComeAndGo(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	c.Step(at(0), Membership{"b", ID{2}, true})
	c.Step(at(0), Membership{"b", ID{2}, false})
	for i := range maxPeers + 100 {
		name, id, now := fmt.Sprint("n", i), ID{9, byte(i >> 8), byte(i)}, at(time.Duration(i+1)*time.Second)
		c.Step(now, Membership{name, id, true})
		if c.peers[name] == nil {
			t.Fatalf("node %d is not known", i)
		}
		c.Step(now, Membership{name, id, false})
	}
	if len(c.peers) > maxPeers || c.peers["b"] == nil || c.peers["n0"] != nil {
		t.Errorf("%d peers; the voter that is gone: %v; the oldest: %v", len(c.peers), c.peers["b"], c.peers["n0"])
	}
}

// TestBeatIsSmall: once a voter has the set of lordships, a thousand of them are
// renewed with one packet of less than 200 bytes.
func TestBeatIsSmall(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	elect(t, c)
	for i := range 1000 {
		name := fmt.Sprintf("legion-%04d", i)
		c.lordships[name] = &lordship{legion: name, term: 1_772_323_200 + uint64(i), grants: c.lordships["g"].grants}
	}
	c.byName = nil
	size := func() (largest int) {
		c.nextBeat = at(0).Stamp()
		for _, s := range sends[Beat](c.Step(at(0), Tick{})) {
			s.Message.Cluster, s.Message.To, s.Message.Seq = newTestID(), newTestID(), 1<<40
			s.Message.Instance, s.Message.Incarnation = newTestID(), newTestID()
			b, err := s.Message.Encode()
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, len(b))
		}
		return largest
	}
	if n := size(); n < 10_000 {
		t.Fatalf("the set alone has %d bytes", n)
	}
	for _, k := range c.links {
		k.version = c.setVersion
	}
	if n := size(); n == 0 || n >= 200 {
		t.Errorf("a beat has %d bytes", n)
	}
}

// newTestID is an ID as real ones are: none of its bytes is left out.
func newTestID() (id ID) {
	for i := range id {
		id[i] = 0xf0 + byte(i)
	}
	return id
}

// TestSameTermOfAnother: a voter that voted for a candidate which failed backs the
// lord of the same term, once that grant has ended and the new one is on disk; it
// does so in no lower term, and not where less than a majority does.
func TestSameTermOfAnother(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		name           string
		term           uint64
		released, safe bool
		backs          bool
	}{
		{"released", 1001, true, true, true}, {"occupied", 1001, false, true, false},
		{"lower", 1000, true, true, false}, {"unsafe", 1001, true, false, false},
	} {
		c := newTestCore(State{Electorate: testElectorate()})
		if !s.safe {
			configure(c, at(0), func(l *Legion) { l.Quorum, l.Unsafe = 1, true })
		}
		receive(c, at(0), "b", Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 999}}, 0, 1)
		c.Step(at(0), Durable{c.persist})
		if s.released {
			receive(c, at(0), "b", Release{Thrones: []Reigning{{"g", 1001}}}, 0, 2)
		}
		var heard, seq uint64
		beat := func() BeatAck {
			seq++
			b := Beat{Heard: heard, Version: 1, Full: true, Set: []Reigning{{"g", s.term}}}
			id := testConfig("c").Incarnation
			h := Header{Cluster: ID{1}, Epoch: 1, From: "c", Instance: id, Incarnation: id, Seq: seq, To: c.cfg.Incarnation}
			ack := sends[BeatAck](c.Step(at(0), Receive{Message{h, b}}))[0]
			heard = ack.Message.Seq
			return ack.Message.Body.(BeatAck)
		}
		beat()
		if ack := beat(); !ack.Extended || len(ack.Refused) != 1 {
			t.Errorf("%s: before it is on disk: %+v", s.name, ack)
		}
		c.Step(at(0), Durable{c.persist})
		if ack := beat(); ack.Extended && len(ack.Refused) == 0 != s.backs {
			t.Errorf("%s: %+v", s.name, ack)
		}
	}
}
