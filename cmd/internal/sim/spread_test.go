package sim

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

var allSpreads = flag.Bool("spread", false, "spread as many legions over as many nodes as P6 names, and watch for an hour")

// TestSpread is P6: many legions start at once on equal nodes, a node joins, a
// node goes. Within 30 s the counts differ by at most one, in at most 1.2 times
// the moves that it takes, and then nothing moves.
func TestSpread(t *testing.T) {
	t.Parallel()
	type size struct{ nodes, legions int }
	sizes, quiet := []size{{3, 1}, {3, 10}, {5, 10}, {5, 50}}, 5*time.Minute
	if *allSpreads {
		sizes, quiet = nil, time.Hour
		for _, n := range []int{3, 5, 20} {
			for _, g := range []int{1, 10, 100, 500} {
				sizes = append(sizes, size{n, g})
			}
		}
	}
	for _, s := range sizes {
		if only := fmt.Sprintf("%d,%d", s.nodes, s.legions); *onlySpread != "" && only != *onlySpread {
			continue
		}
		t.Run(fmt.Sprintf("%d nodes, %d legions", s.nodes, s.legions), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(*spreadSeeds) {
				newTown(t, seed+1, s.nodes, s.legions).story(quiet)
			}
		})
	}
}

var onlySpread = flag.String("only-spread", "", "with -spread: this size alone, as NODES,LEGIONS")

var spreadSeeds = flag.Int("spread-seeds", 1, "how often to spread each size")

// A town is a world of equal nodes, one of which comes later.
type town struct {
	t *testing.T
	*World
	moves int // lordships begun
}

func newTown(t *testing.T, seed uint64, nodes, legions int) *town {
	c := Conf{Size: 3, Beat: 300 * time.Millisecond, Lease: 2 * time.Second,
		Net: NetConf{Delay: 200 * time.Microsecond, Jitter: 200 * time.Microsecond}}
	for i := range nodes + 1 {
		n := NodeConf{Name: fmt.Sprintf("n%02d", i), Vote: true, Legions: map[string]legion.Legion{}}
		for g := range legions {
			n.Legions[fmt.Sprintf("g%03d", g)] = legion.Legion{Valor: 1000, Spread: true, Preempt: true}
		}
		c.Nodes = append(c.Nodes, n)
	}
	w := &town{t: t, World: New(seed, c)}
	w.calm = true
	w.trace.watch = func(_ *node, a legion.Action) {
		if r, ok := a.(legion.Reign); ok && r.Legion != legion.ClusterLegion {
			w.moves++
		}
	}
	return w
}

func (w *town) story(quiet time.Duration) {
	all := w.nodes[:len(w.nodes)-1]
	for _, n := range all {
		w.in(w.between(0, 200*time.Millisecond), n.start)
	}
	w.part("started", len(w.legions()))
	late := w.nodes[len(w.nodes)-1]
	w.line("%s joins", late.conf.Name)
	late.start()
	w.part("a node more", len(w.legions())/len(w.nodes))
	gone := all[1]
	least := gone.load("")
	gone.stop()
	w.part("a node less", least)
	least = late.load("")
	late.crash("crashes")
	w.part("a node that crashed", least)
	before := w.moves
	w.run(quiet)
	if w.moves != before {
		w.t.Errorf("%d moves in quiet", w.moves-before)
	}
}

func (w *town) run(d time.Duration) {
	w.t.Helper()
	if err := w.Run(w.now + d); err != nil {
		w.t.Fatal(err)
	}
}

// part lets the 30 s pass and looks at the result.
func (w *town) part(what string, least int) {
	w.t.Helper()
	before, began := w.moves, w.now
	balanced := time.Duration(0)
	potential, known := 0, false
	for range 300 {
		w.run(100 * time.Millisecond)
		// With equal valors a move is a step down in the sum of the pairs of
		// lordships that share a node; once all have a lord it never grows.
		if p, all := w.potential(); all {
			if known && p > potential {
				w.t.Errorf("%s: a move the wrong way: %d pairs, then %d", what, potential, p)
			}
			potential, known = p, true
		}
		if balanced == 0 && w.unevenness() == "" {
			balanced = w.now - began
		}
	}
	moves := w.moves - before
	w.t.Logf("%d nodes, %d legions, %s: balanced after %v, %d moves, the least is %d", len(w.nodes)-1, len(w.legions()), what, balanced, moves, least)
	if uneven := w.unevenness(); uneven != "" {
		w.t.Errorf("%s: %s", what, uneven)
	}
	if 10*moves > 12*max(least, 1) {
		w.t.Errorf("%s: %d moves, the least is %d", what, moves, least)
	}
}

// potential counts the pairs of lordships on one node, if all legions have a lord.
func (w *town) potential() (pairs int, all bool) {
	ruled := 0
	for _, n := range w.nodes {
		if n.up {
			l := n.load("")
			pairs += l * (l - 1) / 2
			ruled += l
		}
	}
	return pairs, ruled == len(w.legions())
}

// unevenness says what is wrong with how the lordships are spread.
func (w *town) unevenness() string {
	var loads []int
	ruled := 0
	for _, n := range w.nodes {
		if n.up {
			loads = append(loads, n.load(""))
			ruled += n.load("")
		}
	}
	switch {
	case ruled != len(w.legions()):
		return fmt.Sprintf("%d of %d legions have a lord", ruled, len(w.legions()))
	case slices.Max(loads)-slices.Min(loads) > 1:
		return fmt.Sprintf("lordships %v", loads)
	}
	return ""
}
