package legion

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// anything makes values of the protocol's types, valid or not, from few enough
// names and numbers that they meet.
type anything struct{ *rand.Rand }

func pick[T any](a anything, from ...T) T { return from[a.IntN(len(from))] }

func (a anything) id() ID         { return ID{byte(a.IntN(5))} }
func (a anything) name() string   { return pick(a, "a", "b", "c", "d", "") }
func (a anything) legion() string { return pick(a, "g", "h", ClusterLegion, "unknown", "") }
func (a anything) number() uint64 {
	return pick(a, 0, 1, 2, 1001, 1002, uint64(a.IntN(200)), math.MaxUint64)
}
func (a anything) duration() time.Duration {
	return pick(a, 0, -time.Second, time.Millisecond, time.Second, math.MaxInt64, math.MinInt64)
}
func (a anything) voter() Voter { return Voter{a.name(), a.id()} }

func (a anything) reigning() (set []Reigning) {
	for range a.IntN(4) {
		set = append(set, Reigning{a.legion(), a.number()})
	}
	return set
}

func (a anything) electorate() Electorate {
	if a.IntN(2) == 0 {
		e := *testElectorate()
		e.Cluster, e.Epoch = a.id(), a.number()
		return e
	}
	e := Electorate{Cluster: a.id(), Epoch: a.number(), Quorum: a.IntN(5) - 1, Beat: a.duration(), Lease: a.duration(), Base: a.number()}
	for range a.IntN(9) {
		e.Voters = append(e.Voters, a.voter())
	}
	return e
}

func (a anything) founding() Founding {
	return Founding{N: a.number(), Proposer: a.name(), Electorate: a.electorate()}
}

func (a anything) body() Body {
	f := a.founding()
	rank := Rank{Effective: int(a.number()), Tie: a.id(), Held: a.IntN(2) == 0, Load: a.IntN(9), Seq: a.number()}
	yes := a.IntN(2) == 0
	return pick[Body](a,
		Beat{a.number(), a.number(), a.reigning(), yes},
		BeatAck{a.number(), yes, a.reigning(), []string{a.name(), ""}}, Rival{a.legion(), a.number(), rank, yes, a.number()},
		Probe{Legion: a.legion(), Rank: rank},
		ProbeAck{a.legion(), yes, Refusal(a.IntN(10)), a.number(), a.duration()},
		Ask{a.legion(), a.number(), rank, []byte{1}},
		Vote{Legion: a.legion(), Term: a.number(), Granted: yes, Why: Refusal(a.IntN(10)), Promise: a.number(), Again: a.duration()},
		Release{Thrones: a.reigning()}, Death{a.id()}, Ack{}, Vacant{a.legion(), a.number(), a.name()},
		Accept{a.legion(), a.number(), []byte("x"), a.number(), int64(a.number())}, Accepted{yes, a.number()},
		Found{f, []ID{a.id()}}, FoundAck{a.id(), yes, pick(a, nil, &f)}, Refuse{a.id()}, RefuseAck{a.id(), yes}, Committed{f.Electorate},
		Amend{Amendment{a.number(), f.Electorate}}, Amended{yes}, Read{}, Disown{a.id(), a.number()},
		Standing{Promises: []Grant{{Legion: a.legion(), Term: a.number(), Incarnation: a.id()}}, States: []LegionState{{a.legion(), []byte("x")}}},
		Offer{a.legion(), a.number(), rank, a.IntN(9), yes, yes, a.duration()}, Ready{a.legion(), a.number(), yes, a.IntN(2) == 0, rank},
	)
}

func (a anything) message() Message {
	return Message{Header: Header{
		Cluster: a.id(), Epoch: uint64(a.IntN(3)), From: a.name(), Instance: a.id(), Incarnation: a.id(),
		To: pick(a, ID{}, a.id()), Seq: a.number(), Echo: a.number(),
	}, Body: a.body()}
}

func (a anything) event() Event {
	s := NodeState{Name: a.name(), Instance: a.id(), Incarnation: a.id(), Seq: a.number(), Willing: a.IntN(2) == 0, Size: a.IntN(4), Reigns: a.reigning()}
	if e := a.electorate(); a.IntN(3) == 0 {
		s.Electorate = &e
	}
	for range a.IntN(3) {
		s.Legions = append(s.Legions, Candidacy{Legion: a.legion(), Valor: a.IntN(200), Fit: true, Spread: true})
	}
	legions := map[string]Legion{}
	for range a.IntN(3) {
		legions[a.legion()] = Legion{Valor: a.IntN(200) - 20, Quorum: a.IntN(9) - 1, Spread: true}
	}
	switch a.IntN(30) {
	case 0:
		return Durable{a.number()}
	case 1:
		return DiskTrouble{pick(a, "", "", "full")}
	case 2, 3, 4:
		return Announced{s}
	case 5, 6:
		return Membership{a.name(), a.id(), a.IntN(4) > 0}
	case 7:
		return Configure{Legions: legions}
	case 8:
		return Propose{ID: a.number(), Legion: a.legion(), Term: a.number(), Payload: []byte("x"), Dated: pick(a, time.Time{}, time.Unix(int64(a.IntN(9000)), 0))}
	case 9:
		return Abandon{a.legion(), "why not"}
	case 10:
		return LetGo{a.legion(), a.number()}
	case 11:
		if a.IntN(50) == 0 {
			return Stop{}
		}
	case 12:
		return Merged{a.number()}
	case 13:
		return Settings{a.IntN(9), a.duration(), a.duration()}
	case 14:
		return Willing{a.IntN(2) == 0, a.duration()}
	case 15:
		return Forget{a.name()}
	case 16:
		if a.IntN(20) == 0 {
			return Refound{}
		}
	}
	if a.IntN(4) == 0 {
		return Tick{}
	}
	return Receive{a.message()}
}

// FuzzStep feeds a core with anything at all. It must not panic, ask for
// without bound, or ask to be woken in the past; and it must answer for no
// vote that is not asked to be durable first.
func FuzzStep(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, founded bool) {
		a := anything{rand.New(rand.NewPCG(seed, 1))}
		st := State{}
		if founded {
			st.Electorate = testElectorate()
		}
		now := Now{Boot: time.Hour, Raw: time.Minute, Wall: time.Unix(1000, 0)}
		c := New(testConfig("a"), st, now, a.Rand)
		asked := uint64(0)
		for range 300 {
			d := pick(a, 0, time.Millisecond, 100*time.Millisecond, time.Duration(a.IntN(3e9)))
			now.Boot, now.Raw, now.Wall = now.Boot+d, now.Raw+d, now.Wall.Add(d)
			actions := c.Step(now, a.event())
			if len(actions) > 500 {
				t.Fatalf("%d actions", len(actions))
			}
			for _, x := range actions {
				switch x := x.(type) {
				case Persist:
					asked = x.Seq
				case Send:
					if v, ok := x.Message.Body.(Vote); ok && v.Granted && (x.After == 0 || x.After > asked) {
						t.Fatalf("a vote is sent after write %d of %d", x.After, asked)
					}
				}
			}
			if c.Wake(now) <= 0 {
				t.Fatal("wake in the past")
			}
		}
	})
}

// FuzzDecodeMessage: junk is refused, and what is accepted survives a round.
func FuzzDecodeMessage(f *testing.F) {
	a := anything{rand.New(rand.NewPCG(1, 1))}
	for range 200 {
		if b, err := a.message().Encode(); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		m2, err := DecodeMessage(again)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		if twice, err := m2.Encode(); err != nil || !bytes.Equal(again, twice) {
			t.Fatalf("two rounds differ: %+v, %+v", m, m2)
		}
	})
}

// TestMessageRound: every kind of body comes back as it went.
func TestMessageRound(t *testing.T) {
	t.Parallel()
	a := anything{rand.New(rand.NewPCG(2, 2))}
	seen := map[reflect.Type]bool{}
	for range 5000 {
		m := a.message()
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMessage(b)
		if err != nil {
			continue // arbitrary, so often not valid
		}
		seen[reflect.TypeOf(m.Body)] = true
		if twice, err := got.Encode(); err != nil || !bytes.Equal(b, twice) {
			t.Fatalf("%+v came back as %+v", m, got)
		}
	}
	if len(seen) != len(bodies) {
		t.Errorf("only %d of %d kinds came through", len(seen), len(bodies))
	}
}

func testElectorate() *Electorate {
	return &Electorate{
		Cluster: ID{1}, Epoch: 1, Voters: []Voter{{"a", ID{1}}, {"b", ID{2}}, {"c", ID{3}}},
		Quorum: 2, Beat: 300 * time.Millisecond, Lease: 2 * time.Second, Base: 1000,
	}
}

func testConfig(name string) Config {
	id := ID{name[0] - 'a' + 1}
	return Config{
		Name: name, Instance: id, Incarnation: id, Vote: true, Size: 3, Beat: 300 * time.Millisecond, Lease: 2 * time.Second,
		Legions: map[string]Legion{"g": {Valor: 100}, "h": {Valor: 50}, ClusterLegion: {Valor: 100}},
	}
}
