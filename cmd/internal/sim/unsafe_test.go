package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// TestUnsafe splits clusters whose legion does with fewer votes than a majority,
// again and again: every side that has enough voters has one lord, and after
// healing there is one within a lease, the best.
func TestUnsafe(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 40; seed++ {
		w := unsafeWorld(seed)
		if err := w.splits(5); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func unsafeWorld(seed uint64) *World {
	w := New(seed, Conf{})
	size := []int{2, 3, 4, 5}[w.rng.IntN(4)]
	c := Conf{Fixed: true, Size: size, Beat: 300 * time.Millisecond, Lease: 2 * time.Second,
		Net: NetConf{Delay: 200 * time.Microsecond, Jitter: time.Millisecond, Loss: []float64{0, 0.02}[w.rng.IntN(2)]}}
	quorum := 1 + w.rng.IntN(size/2)
	for i := range size + w.rng.IntN(2) {
		c.Nodes = append(c.Nodes, NodeConf{Name: string(rune('a' + i)), Vote: i < size, Legions: map[string]legion.Legion{
			"g": {Valor: 50 + 50*w.rng.IntN(2), Quorum: quorum, Unsafe: true, Preempt: true},
		}})
	}
	w = New(seed, c)
	w.calm = true
	return w
}

func (w *World) splits(times int) error {
	for _, n := range w.nodes {
		n.start()
	}
	if err := w.Run(30 * time.Second); err != nil {
		return err
	}
	all := w.nodes
	for range times {
		if err := w.oneLord(all, "before a split"); err != nil {
			return err
		}
		cut := w.rng.IntN(1 << len(all))
		side := func(i int) int { return cut >> i & 1 }
		w.net.split(side)
		if err := w.Run(w.now + w.crashed() + 4*w.Beat); err != nil {
			return err
		}
		for s := range 2 {
			if err := w.oneLord(slices.DeleteFunc(slices.Clone(all), func(n *node) bool { return side(n.index) != s }), "in a split"); err != nil {
				return err
			}
		}
		if err := w.Run(w.now + w.between(0, 20*time.Second)); err != nil {
			return err
		}
		w.net.heal()
		if err := w.Run(w.now + slow(w.Lease)); err != nil {
			return err
		}
		if k := w.lordsAmong(all); len(k) > 1 {
			return fmt.Errorf("at %v: a lease after healing there are %d lords", w.now, len(k))
		}
		if err := w.Run(w.now + rejoinMax + noticeMax); err != nil {
			return err
		}
		if problem := w.usurped(); problem != "" {
			return fmt.Errorf("at %v: %s", w.now, problem)
		}
	}
	return nil
}

func (w *World) lordsAmong(side []*node) (lords []*node) {
	for _, n := range side {
		if n.trusted("g") {
			lords = append(lords, n)
		}
	}
	return lords
}

// oneLord checks a side for its lord, if it has the voters for one. With loss a
// campaign may take another round.
func (w *World) oneLord(side []*node, when string) error {
	voters := 0
	for _, n := range side {
		if n.conf.Vote {
			voters++
		}
	}
	if len(side) == 0 {
		return nil
	}
	want := 0
	if voters >= side[0].legions["g"].Quorum {
		want = 1
	}
	for range 10 {
		if len(w.lordsAmong(side)) == want {
			return nil
		}
		if err := w.Run(w.now + w.Beat); err != nil {
			return err
		}
	}
	return fmt.Errorf("at %v: %s, a side of %d voters has %d lords, want %d", w.now, when, voters, len(w.lordsAmong(side)), want)
}
