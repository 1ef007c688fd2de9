package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// TestCutOff cuts the lord off again and again, each time until there is
// another, and each time at another moment of a beat. Of five nodes three vote,
// gossip loses nothing but what is cut, and compares as seldom as memberlist
// does. Whoever was cut off three times ranks itself last from then on; nobody
// may wait for it in vain because it said so while it was not heard.
func TestCutOff(t *testing.T) {
	t.Parallel()
	const worlds, cuts = 25, 12
	var took []time.Duration
	c := Conf{Size: 3, Beat: 300 * time.Millisecond, Lease: 2 * time.Second, Compare: 0.015, Heard: 1,
		Net: NetConf{Delay: 100 * time.Microsecond, Jitter: 400 * time.Microsecond}}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		c.Nodes = append(c.Nodes, NodeConf{Name: name, Vote: true, Legions: map[string]legion.Legion{"g": {Valor: 100, Spread: true, Preempt: true}}})
	}
	for seed := range uint64(worlds) {
		w := New(seed+1, c)
		w.calm = true
		for _, n := range w.nodes {
			w.in(w.between(0, 200*time.Millisecond), n.start)
		}
		run := func(d time.Duration) {
			t.Helper()
			if err := w.Run(w.now + d); err != nil {
				t.Fatalf("seed %d: %v", seed+1, err)
			}
		}
		run(rejoinMax + noticeMax)
		for range cuts {
			lord := w.lord("g", w.cluster())
			if lord == nil {
				t.Fatalf("seed %d: no lord at %v", seed+1, w.now)
			}
			began := w.now
			w.isolate(lord, true, true)
			for next := lord; next == nil || next == lord; next = w.lord("g", w.cluster()) {
				run(time.Millisecond)
			}
			if d := w.now - began; d > c.Lease+c.Beat {
				t.Errorf("seed %d: no lord for %v after %s was cut off at %v", seed+1, d, lord.conf.Name, began)
			}
			took = append(took, w.now-began)
			w.net.heal()
			run(3*c.Lease/2 + w.between(0, c.Beat))
		}
	}
	slices.Sort(took)
	t.Logf("%d cuts: median %v, worst %v", len(took), took[len(took)/2], took[len(took)-1])
}
