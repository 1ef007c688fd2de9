package legion

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A trio is three voters on one clock. What they send, write and announce
// arrives, is durable and is known at once.
type trio struct {
	cores []*Core
	now   time.Duration
	queue []arrival
	sent  int // messages to others
	bytes int // of them
}

type arrival struct {
	at *Core
	ev Event
}

// newTrio starts three nodes and lets them run until they have shared the
// legions among them and nothing changes any more.
func newTrio(tb testing.TB, legions int) *trio {
	tb.Helper()
	w := &trio{}
	for _, v := range testElectorate().Voters {
		cfg := testConfig(v.Name)
		cfg.Legions = map[string]Legion{ClusterLegion: {Valor: 100}}
		for i := range legions {
			cfg.Legions[fmt.Sprintf("legion-%04d", i)] = Legion{Valor: 1000, Spread: true, Preempt: true}
		}
		w.cores = append(w.cores, New(cfg, State{Electorate: testElectorate()}, at(0), rand.New(rand.NewPCG(1, 1))))
	}
	for _, c := range w.cores {
		for _, o := range w.cores {
			w.queue = append(w.queue, arrival{c, Membership{o.cfg.Name, o.cfg.Incarnation, true}})
		}
	}
	w.run(tb, 5*time.Minute)
	for _, c := range w.cores {
		if want := legions / len(w.cores); c.load < want {
			tb.Fatalf("%s reigns over %d legions of %d", c.cfg.Name, c.load, legions)
		}
	}
	return w
}

// run lets d pass.
func (w *trio) run(tb testing.TB, d time.Duration) {
	tb.Helper()
	for end := w.now + d; w.now < end; {
		for len(w.queue) > 0 {
			next := w.queue[0]
			w.queue = w.queue[1:]
			w.step(tb, next.at, next.ev)
		}
		wait := end - w.now
		for _, c := range w.cores {
			wait = min(wait, c.Wake(at(w.now)))
		}
		w.now += wait
		for _, c := range w.cores {
			if c.Wake(at(w.now)) <= time.Millisecond {
				w.step(tb, c, Tick{})
			}
		}
	}
}

func (w *trio) step(tb testing.TB, c *Core, ev Event) {
	for _, a := range c.Step(at(w.now), ev) {
		switch a := a.(type) {
		case Send:
			for _, o := range w.cores {
				if o.cfg.Name == a.To {
					w.queue = append(w.queue, arrival{o, Receive{a.Message}})
				}
			}
			if a.To == c.cfg.Name {
				continue
			}
			b, err := a.Message.Encode()
			if err != nil {
				tb.Fatal(err)
			}
			w.sent, w.bytes = w.sent+1, w.bytes+len(b)
		case Persist:
			w.queue = append(w.queue, arrival{c, Durable{a.Seq}})
		case Announce:
			for _, o := range w.cores {
				w.queue = append(w.queue, arrival{o, Announced(a)})
			}
		case Unreign:
			w.queue = append(w.queue, arrival{c, LetGo{a.Legion, a.Term}})
		}
	}
}

// TestIdleIsFlat: P8. Where nothing happens hundreds of legions send no message
// more than ten do, and ask for no more memory than for a few lists.
func TestIdleIsFlat(t *testing.T) { // not parallel: it counts allocations
	type cost struct {
		sent, bytes int
		allocs      float64
	}
	measure := func(legions int) (c cost) {
		w := newTrio(t, legions)
		sent, bytes := w.sent, w.bytes
		w.run(t, time.Minute)
		c.sent, c.bytes = w.sent-sent, w.bytes-bytes
		c.allocs = testing.AllocsPerRun(5, func() { w.run(t, 10*time.Second) })
		return c
	}
	few, many := measure(10), measure(300)
	t.Logf("10 legions: %+v, 300: %+v", few, many)
	if many.sent != few.sent || many.bytes > few.bytes*11/10 || few.sent == 0 {
		t.Errorf("sent in a minute: %d messages of %d bytes with 10 legions, %d of %d with 300",
			few.sent, few.bytes, many.sent, many.bytes)
	}
	if many.allocs > 1.5*few.allocs {
		t.Errorf("allocations in ten seconds: %.0f with 10 legions, %.0f with 300", few.allocs, many.allocs)
	}
}

// BenchmarkIdle is the CPU that three nodes, of which nothing is asked, take in
// a second: an operation is one second of one node.
func BenchmarkIdle(b *testing.B) {
	for _, legions := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("legions=%d", legions), func(b *testing.B) {
			w := newTrio(b, legions)
			b.ReportAllocs()
			for b.Loop() {
				w.run(b, time.Second/time.Duration(len(w.cores)))
			}
		})
	}
}
