package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// random returns the configuration of a seed's cluster.
func random(w *World) Conf {
	r := w.rng
	pick := func(ds ...time.Duration) time.Duration { return ds[r.IntN(len(ds))] }
	c := Conf{
		Size: []int{1, 2, 3, 3, 3, 3, 3, 5}[r.IntN(8)],
		Beat: 300 * time.Millisecond, Lease: 2 * time.Second,
		Stall:    []float64{0, 0.01, 0.05}[r.IntN(3)],
		StallFor: pick(500*time.Millisecond, 3*time.Second),
		Net: NetConf{
			Loss: []float64{0, 0, 0.02, 0.2}[r.IntN(4)], Double: []float64{0, 0.05, 0.3}[r.IntN(3)],
			Delay: pick(100*time.Microsecond, 2*time.Millisecond), Jitter: pick(time.Millisecond, 20*time.Millisecond),
			Late: []float64{0, 0.02, 0.1}[r.IntN(3)], LateBy: pick(100*time.Millisecond, time.Second, 3*time.Second),
		},
	}
	if r.IntN(3) == 0 {
		c.Beat, c.Lease = 100*time.Millisecond, 600*time.Millisecond
	}
	nodes := c.Size + r.IntN(3)
	if c.Size == 1 {
		nodes = 1 // each would found a cluster of its own
	}
	legions := 1 + r.IntN(3)
	equal := r.IntN(2) == 0
	unanimous := make([]bool, legions)
	preempt, stick := r.IntN(5) > 0, []int{0, 0, 0, 10}[r.IntN(4)]
	for j := range unanimous {
		unanimous[j] = r.IntN(10) == 0
	}
	for i := range nodes {
		n := NodeConf{Name: string(rune('a' + i)), Vote: i < c.Size || r.IntN(3) > 0, Legions: map[string]legion.Legion{}}
		for j := range legions {
			l := legion.Legion{Valor: 100, Spread: true, Preempt: preempt, Stickiness: stick}
			if !equal {
				l.Valor = 50 * r.IntN(4)
			}
			if unanimous[j] {
				l.Quorum = c.Size
			}
			n.Legions["g"+string(rune('1'+j))] = l
		}
		c.Nodes = append(c.Nodes, n)
	}
	return c
}

// today is when random runs begin, after epoch: the scheduler believes no clock
// that says 1970.
var today = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Sub(epoch)

// Random returns the world of a seed, its clocks running each at its own rate.
func Random(seed uint64) *World {
	w := New(seed, random(New(seed, Conf{})))
	w.stops = w.maybe(0.25)
	w.people = w.maybe(0.4)
	w.makeJobs(w.legions())
	w.apart = []time.Duration{200 * time.Millisecond, 200 * time.Millisecond, 3 * time.Second}[w.rng.IntN(3)]
	for _, n := range w.nodes {
		rate := slowest + w.rng.Float64()*(fastest-slowest)
		switch w.rng.IntN(4) { // the extremes are where the margins are
		case 0:
			rate = slowest
		case 1:
			rate = fastest
		}
		n.setRate(rate)
		n.clock.at -= w.between(0, time.Hour) // an offset of its own
		n.clock.step = today + w.between(-w.apart, w.apart)
	}
	return w
}

// The parts of a run.
const (
	faultsFor   = 45 * time.Second
	successions = 2
)

// Check runs a world through faults, healing and successions.
func (w *World) Check() error {
	for _, n := range w.nodes {
		w.in(w.between(0, 5*time.Second), n.start)
	}
	every := []time.Duration{400 * time.Millisecond, 800 * time.Millisecond, 1500 * time.Millisecond}[w.rng.IntN(3)]
	if w.seed%seldomEvery == 0 { // what else goes wrong would end that before its time
		w.in(8*time.Second, func() { w.misbehaves(4*time.Second, seldom) })
		every *= 6
	}
	if w.maybe(0.7) { // else the founding is disturbed as well
		w.in(8*time.Second, func() { w.misbehave(every) })
	} else {
		for i := range w.nodes {
			for j := range w.nodes {
				w.net.cut[i][j] = i != j && w.maybe(0.3)
			}
		}
		w.in(w.between(3*time.Second, 12*time.Second), w.net.heal)
		w.misbehave(every)
	}
	if w.maybe(0.6) {
		w.ruthless = w.maybe(0.3)
		w.in(8*time.Second, func() { w.changes(every) })
	}
	if err := w.Run(faultsFor); err != nil || w.ruthless {
		return err
	}
	w.heal()
	if err := w.settle(); err != nil {
		return err
	}
	if err := w.best(); err != nil {
		return err
	}
	for range successions {
		if err := w.succession(); err != nil {
			return err
		}
	}
	if err := w.restarts(); err != nil {
		return err
	}
	return w.slotsSettled()
}

// slow stretches a duration on a node's clock to the longest true time it can
// take.
func slow(d time.Duration) time.Duration { return time.Duration(float64(d) / slowest) }

// Settle is how long a healed cluster may take until every legion has a lord
// and every node the electorate. Gossip finds lost nodes within 10 s and has
// told them all within some more; recovered grants abstain for 1.25 leases.
func (w *World) Settle() time.Duration {
	return rejoinMax + 15*time.Second + slow(5*w.Lease/2)
}

// Amending is how long it may take on top of that until the electorate is as
// it should be again: a change at a time, each of which waits for every lease
// of the electorate before.
func (w *World) Amending() time.Duration {
	return legion.MaxVoters * slow(3*w.Lease+4*w.Beat)
}

// aWhile is long enough for every schedule to have a slot that is ahead of the
// marks, which a lord may have left whose clock was ahead of this one's. Where a
// disk was lost nobody can say what became of its claims, and what must not run
// beside them waits until they are given up.
func (w *World) aWhile() time.Duration {
	d := 8*time.Second + 2*w.apart
	if w.wiped {
		d += noticeMax + lostAfter
	}
	return d
}

// settle waits until all is as it should be, and sees that it stays so. A change
// of electorate that was begun before all was healed may come to light once more,
// when a voter that has stored it elects a lord.
func (w *World) settle() error {
	if err := w.settleOnce(); err != nil {
		return err
	}
	before := w.check.claims
	if err := w.Run(w.now + w.aWhile()); err != nil {
		return err
	}
	if w.unfilled() != "" {
		if err := w.settleOnce(); err != nil {
			return err
		}
		if err := w.Run(w.now + w.aWhile()); err != nil {
			return err
		}
	}
	if w.problem() != "" { // perhaps a throne is changing hands just now
		if err := w.Run(w.now + stopped); err != nil {
			return err
		}
	}
	if problem := w.problem(); problem != "" {
		w.fail("P4: settled, then %s", problem)
	} else if w.check.claims == before && !w.check.silenced && w.ruled() > 0 {
		w.fail("no claim was committed in %v", w.aWhile())
	}
	return w.failed
}

// settleOnce waits until all is as it should be.
func (w *World) settleOnce() error {
	for deadline := w.now + w.Settle(); ; {
		problem := w.problem()
		if problem == "" {
			return nil
		}
		if w.now >= deadline && (w.now >= deadline+w.Amending() || w.unfilled() == "") {
			w.fail("P4: not settled: %s", problem)
			return w.failed
		}
		if err := w.Run(w.now + 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// legions lists them all.
func (w *World) legions() []string {
	all := map[string]bool{}
	for _, n := range w.nodes {
		for l := range n.conf.Legions {
			all[l] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// problem says what is not as it should be once all is healed, if anything.
func (w *World) problem() string {
	clusters := map[string]int{}
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		c := n.cluster()
		if c == "" {
			return n.conf.Name + " knows no electorate"
		}
		clusters[c]++
	}
	if len(clusters) > max(1, len(w.nodes)/w.Size) {
		return fmt.Sprintf("there are %d clusters", len(clusters))
	}
	if problem := w.unfilled(); problem != "" {
		return problem
	}
	for _, l := range w.legions() {
		for _, c := range slices.Sorted(maps.Keys(clusters)) {
			if len(w.fit(l, c)) > 0 && w.lord(l, c) == nil {
				return l + " has no lord"
			}
		}
	}
	return ""
}

// fit lists the nodes of a cluster that might be lord of l.
func (w *World) fit(l, cluster string) (fit []*node) {
	for _, n := range w.nodes {
		if c, ok := n.legions[l]; ok && n.awake() && !n.stopping && n.cluster() == cluster &&
			c.Valor > 0 && c.Valor+c.Weight > 0 && c.Unfit == "" && c.Away == "" {
			fit = append(fit, n)
		}
	}
	return fit
}

// ruled counts the lordships.
func (w *World) ruled() int {
	k := 0
	for _, n := range w.nodes {
		for l := range n.lords {
			if l != legion.ClusterLegion {
				k++
			}
		}
	}
	return k
}
