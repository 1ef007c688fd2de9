package legion

import (
	"slices"
	"testing"
	"time"
)

// announce tells c of a living candidate.
func announce(c *Core, now Now, seq uint64, name string, part Candidacy, reigns ...Reigning) []Action {
	cfg := testConfig(name)
	part.Legion, part.Fit = "g", true
	e := testElectorate()
	acts := c.Step(now, Announced{NodeState{
		Name: name, Instance: cfg.Instance, Incarnation: cfg.Incarnation, Seq: seq, Electorate: e,
		Legions: []Candidacy{part}, Reigns: reigns,
	}})
	return append(acts, c.Step(now, Membership{Name: name, Incarnation: cfg.Incarnation, Alive: true})...)
}

// preempting is an elected core that gives way to better ones.
func preempting(t *testing.T) (*Core, uint64) {
	t.Helper()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	configure(c, at(600*time.Millisecond), func(l *Legion) { l.Preempt = true })
	return c, term
}

func configure(c *Core, now Now, change func(*Legion)) []Action {
	l := c.cfg.Legions["g"]
	change(&l)
	return c.Step(now, Configure{Legions: map[string]Legion{"g": l}})
}

func unreigned(acts []Action) bool {
	return slices.ContainsFunc(acts, func(a Action) bool { _, ok := a.(Unreign); return ok })
}

// offered steps the core until it offers the throne to a better b.
func offered(t *testing.T, c *Core) Send {
	t.Helper()
	announce(c, at(650*time.Millisecond), 2, "b", Candidacy{Valor: 900})
	if early := sends[Offer](c.Step(at(700*time.Millisecond), Tick{})); len(early) > 0 {
		t.Fatal("offered before preempt_delay had passed")
	}
	keep(c, 900*time.Millisecond)
	for d := time.Second; d < 1500*time.Millisecond; d += 10 * time.Millisecond {
		if o := sends[Offer](c.Step(at(d), Tick{})); len(o) > 0 {
			return o[0]
		}
	}
	t.Fatal("no offer")
	return Send{}
}

// keep has the beat of that time acknowledged by b.
func keep(c *Core, d time.Duration) {
	for _, s := range sends[Beat](c.Step(at(d), Tick{})) {
		if s.To != "a" {
			b := s.Message.Body.(Beat)
			receive(c, at(d), s.To, BeatAck{Version: b.Version, Extended: true}, s.Message.Seq, 1000+s.Message.Seq)
		}
	}
}

// TestReadyFromAnother: only the answer of the one asked, to the offer that
// stands, moves a throne; and only while it stands.
func TestReadyFromAnother(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]struct {
		from string
		echo func(uint64) uint64
		at   time.Duration
		want bool
	}{
		"the right one":   {"b", func(n uint64) uint64 { return n }, 10 * time.Millisecond, true},
		"somebody else":   {"c", func(n uint64) uint64 { return n }, 10 * time.Millisecond, false},
		"to another":      {"b", func(n uint64) uint64 { return n - 1 }, 10 * time.Millisecond, false},
		"after its time":  {"b", func(n uint64) uint64 { return n }, 160 * time.Millisecond, false},
		"long after that": {"b", func(n uint64) uint64 { return n }, 400 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, term := preempting(t)
			o := offered(t, c)
			if o.To != "b" || o.Message.To != testConfig("b").Incarnation {
				t.Fatalf("offered to %+v", o)
			}
			when := c.now
			when.Boot, when.Raw = when.Boot+try.at, when.Raw+try.at
			c.Step(when, Tick{})
			got := unreigned(receive(c, when, try.from, Ready{Legion: "g", Term: term, Ready: true}, try.echo(o.Message.Seq), 9000))
			if got != try.want {
				t.Errorf("gave way: %v, want %v", got, try.want)
			}
			if _, trusted := c.Trusted(when, "g", term); trusted == got {
				t.Errorf("trusted: %v after giving way: %v", trusted, got)
			}
		})
	}
}

// TestReleasedForSuccessor: nothing is released before the shell has let go,
// and then it names the successor.
func TestReleasedForSuccessor(t *testing.T) {
	t.Parallel()
	c, term := preempting(t)
	o := offered(t, c)
	acts := receive(c, c.now, "b", Ready{Legion: "g", Term: term, Ready: true}, o.Message.Seq, 9000)
	if n := len(sends[Release](acts)); n > 0 {
		t.Fatalf("%d releases before anything was let go", n)
	}
	// A hook that fails now changes nothing; c ranks higher, and may not be ready.
	announce(c, c.now, 2, "c", Candidacy{Valor: 950})
	c.Step(c.now, Abandon{Legion: "g", Reason: "its lord hook failed"})
	rs := sends[Release](c.Step(c.now, LetGo{Legion: "g", Term: term}))
	if len(rs) != 3 {
		t.Fatalf("%d releases", len(rs))
	}
	for _, r := range rs {
		if r.Message.Body.(Release).Successor != "b" {
			t.Errorf("released for %q", r.Message.Body.(Release).Successor)
		}
	}
}

// TestReadyAsksNow: an offer is answered Ready after a quorum of voters has
// answered what was asked because of it, and not before.
func TestReadyAsksNow(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	announce(c, at(0), 1, "b", Candidacy{Valor: 50}, Reigning{"g", 7})
	acts := receive(c, at(time.Millisecond), "b", Offer{Legion: "g", Term: 7, Rank: Rank{Effective: 50}}, 0, 100)
	probes := sends[Probe](acts)
	if len(probes) != 3 || len(sends[Ready](acts)) != 0 {
		t.Fatalf("%d probes, %d answers", len(probes), len(sends[Ready](acts)))
	}
	// Another offer meanwhile: it takes one at a time.
	other := sends[Ready](receive(c, at(2*time.Millisecond), "c", Offer{Legion: "g", Term: 7, Rank: Rank{Effective: 50}}, 0, 100))
	if len(other) != 1 || other[0].Message.Body.(Ready).Ready || !other[0].Message.Body.(Ready).Busy {
		t.Errorf("second offer: %+v", other)
	}
	answers := 0
	for i, p := range probes {
		acts := receive(c, at(3*time.Millisecond), p.To, ProbeAck{Legion: "g", Why: Occupied, Term: 7}, p.Message.Seq, 200)
		for _, r := range sends[Ready](acts) {
			answers++
			if b := r.Message.Body.(Ready); !b.Ready || r.To != "b" || r.Message.Echo != 100 || i != 1 {
				t.Errorf("after %d voters: %+v", i+1, r)
			}
		}
	}
	if answers != 1 {
		t.Errorf("%d answers", answers)
	}
}

// TestOfferRefused: who is not better by its own true load does not take what
// is offered because it is; who is unfit takes nothing.
func TestOfferRefused(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]struct {
		offer  Offer
		change func(*Legion)
		taken  bool
	}{
		"better":            {Offer{Rank: Rank{Effective: 99}}, nil, true},
		"not better":        {Offer{Rank: Rank{Effective: 100}}, nil, false},
		"not by enough":     {Offer{Rank: Rank{Effective: 95}, Over: 5}, nil, false},
		"the lord must go":  {Offer{Rank: Rank{Effective: 900}, Must: true}, nil, true},
		"unfit":             {Offer{Rank: Rank{Effective: 9}}, func(l *Legion) { l.Unfit = "a check" }, false},
		"drained":           {Offer{Rank: Rank{Effective: 9}, Must: true}, func(l *Legion) { l.Away = "drained" }, false},
		"lord is held back": {Offer{Rank: Rank{Effective: 900, Held: true}}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTestCore(State{Electorate: testElectorate()})
			if try.change != nil {
				configure(c, at(0), try.change)
			}
			announce(c, at(0), 1, "b", Candidacy{Valor: 50})
			try.offer.Legion, try.offer.Term = "g", 7
			acts := receive(c, at(time.Millisecond), "b", try.offer, 0, 100)
			if taken := len(sends[Ready](acts)) == 0; taken != try.taken {
				t.Errorf("taken: %v, want %v", taken, try.taken)
			}
		})
	}
}

// TestHeldBack: three losses of its own within a minute, and it ranks last for
// a minute, then for two; what an administrator took does not count.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	now := at(0)
	pass := func(d time.Duration) {
		now.Boot, now.Raw = now.Boot+d, now.Raw+d
		c.Step(now, Tick{})
	}
	lose := func() {
		c.lapse("g")
		c.Step(now, Tick{})
	}
	for round, hold := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
		lose()
		pass(31 * time.Second)
		lose()
		pass(31 * time.Second) // the first is too old by now
		lose()
		if c.heldBack("g") {
			t.Fatalf("round %d: held back too early", round)
		}
		pass(time.Second)
		lose()
		if !c.heldBack("g") || !announcesHeld(c) {
			t.Fatalf("round %d: not held back", round)
		}
		pass(hold - time.Millisecond)
		if !c.heldBack("g") {
			t.Fatalf("round %d: held back for less than %v", round, hold)
		}
		pass(time.Millisecond)
		if c.heldBack("g") || announcesHeld(c) {
			t.Fatalf("round %d: held back for more than %v", round, hold)
		}
	}
	pass(20 * time.Minute)
	lose()
	lose()
	lose()
	pass(time.Minute)
	if c.heldBack("g") {
		t.Error("old sins are not forgotten")
	}
}

// TestSaidLoad: the load that came with a request counts until a newer
// announcement, and never for long.
func TestSaidLoad(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	reigns := []Reigning{{"x", 1}, {"y", 1}}
	announce(c, at(0), 5, "b", Candidacy{Valor: 50}, reigns...)
	load := func() int { return c.loadOf(c.peers["b"]) }
	if load() != 2 {
		t.Fatalf("load %d", load())
	}
	receive(c, at(time.Millisecond), "b", Probe{Legion: "g", Rank: Rank{Load: 7, Seq: 4}}, 0, 100)
	if load() != 2 {
		t.Errorf("an older word counts: %d", load())
	}
	receive(c, at(time.Millisecond), "b", Probe{Legion: "g", Rank: Rank{Load: 7, Seq: 5}}, 0, 101)
	if load() != 7 {
		t.Errorf("a newer word does not count: %d", load())
	}
	c.Step(at(5*time.Second), Tick{})
	if load() != 2 {
		t.Errorf("it counts for too long: %d", load())
	}
	receive(c, at(5*time.Second), "b", Probe{Legion: "g", Rank: Rank{Load: 8, Seq: 5}}, 0, 102)
	announce(c, at(5*time.Second), 6, "b", Candidacy{Valor: 50}, reigns[:1]...)
	if load() != 1 {
		t.Errorf("after a newer announcement: %d", load())
	}
}

func announcesHeld(c *Core) bool {
	s := c.Announcement()
	return s.candidacy("g").Held
}

// TestReadyNoMore: a node that is told to stop while it looks for a quorum is
// not ready.
func TestReadyNoMore(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	probes := sends[Probe](receive(c, at(0), "b", Offer{Legion: "g", Term: 1001, Rank: Rank{Effective: 1}}, 0, 1))
	if len(probes) != 3 {
		t.Fatalf("%d probes", len(probes))
	}
	c.Step(at(0), Stop{})
	for _, s := range probes[1:] {
		acts := receive(c, at(0), s.To, ProbeAck{Legion: "g", Why: Occupied}, s.Message.Seq, 10)
		for _, s := range sends[Ready](acts) {
			if s.Message.Body.(Ready).Ready {
				t.Error("ready, and stopping")
			}
		}
	}
}

// TestRecordedRival: word of a rival ends the reign that it is about, and none
// after it.
func TestRecordedRival(t *testing.T) {
	t.Parallel()
	for _, of := range []int{0, -1} {
		c := newTestCore(State{Electorate: testElectorate()})
		term := elect(t, c)
		legions := testConfig("a").Legions
		legions["g"] = Legion{Valor: 100, Unsafe: true, Quorum: 1}
		c.Step(at(0), Configure{Legions: legions})
		acts := receive(c, at(0), "b", Rival{Legion: "g", Term: term, Rank: Rank{Effective: 999}, Of: term + uint64(of)}, 0, 50)
		if ended := unreigned(acts); ended != (of == 0) {
			t.Errorf("of term %d, in term %d: ended %v", term+uint64(of), term, ended)
		}
	}
}

// TestWishAfterLastOfALegion: a lordship that nobody else can take ends in the
// very look that found it unfit. What the load asks for waits for nothing then,
// however long the shell takes to let go.
func TestWishAfterLastOfALegion(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	elect(t, c)
	legions := map[string]Legion{"g": {Valor: 100}, "h": {Valor: 1000, Spread: true, Preempt: true, PreemptDelay: -1}}
	for _, name := range []string{"h", "x", "y"} { // it carries four
		if name != "h" {
			legions[name] = Legion{Valor: 100}
		}
		l := &lordship{legion: name, term: 1001, grants: slices.Clone(c.lordships["g"].grants)}
		c.lordships[name], c.byName = l, nil
		c.carry(l, 1)
	}
	c.nextSpread = at(3 * time.Second).Stamp() // it moved another lordship just now
	c.Step(at(10*time.Millisecond), Configure{Legions: legions})
	b := testConfig("b")
	c.Step(at(20*time.Millisecond), Announced{NodeState{
		Name: "b", Instance: b.Instance, Incarnation: b.Incarnation, Seq: 2, Electorate: testElectorate(),
		Legions: []Candidacy{{Legion: "h", Valor: 1000, Spread: true, Fit: true}},
	}})
	unfit := false
	for d := 50 * time.Millisecond; d < 20*time.Second; d += 10 * time.Millisecond {
		if !unfit && d >= time.Second { // nobody else stands for g; its hooks take long
			unfit = true
			legions["g"] = Legion{Valor: 100, Unfit: "a check"}
			if !unreigned(c.Step(at(d), Configure{Legions: legions})) {
				t.Fatal("g is kept")
			}
		}
		acts := c.Step(at(d), Tick{})
		for _, s := range sends[Beat](acts) {
			if s.To != "a" {
				receive(c, at(d), s.To, BeatAck{Version: s.Message.Body.(Beat).Version, Extended: true}, s.Message.Seq, 1000+s.Message.Seq)
			}
		}
		if y := c.lordships["h"].yield; y != nil {
			if d > 3*time.Second+c.lease() {
				t.Errorf("offered %v after it might be", d-3*time.Second)
			}
			return
		}
	}
	t.Error("never offered")
}

// TestSaysHowItEnded: the others are told why a lord is none any more, until it
// reigns again or it is an old story.
func TestSaysHowItEnded(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	c.Step(at(0), Abandon{"g", "its hook failed"})
	want := Ended{"g", term, "its hook failed"}
	for _, d := range []time.Duration{0, 30 * time.Second, 2 * time.Minute} {
		c.changed = true
		c.Step(at(d), Tick{})
		if got := c.Announcement().Ended; slices.Contains(got, want) != (d < time.Minute) {
			t.Errorf("after %v: announces %v", d, got)
		}
	}

	c = newTestCore(State{Electorate: testElectorate()})
	term = elect(t, c)
	c.Step(at(0), Abandon{"g", "its hook failed"})
	c.Step(at(0), LetGo{"g", term})
	c.reign(&campaign{legion: "g", term: term + 1})
	c.announce()
	if got := c.Announcement().Ended; len(got) > 0 {
		t.Errorf("as lord: announces %v", got)
	}
}
