package sim

import (
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// A fault breaks something and returns what mends it again, after how long.
type fault struct {
	weight int
	breaks func(w *World) (mend func(), after time.Duration)
}

// faults, by how often they are chosen.
var faults = []fault{
	{4, func(w *World) (func(), time.Duration) {
		n := w.anyNode()
		n.crash("crashes")
		return n.start, w.between(10*time.Millisecond, 5*time.Second)
	}},
	{4, func(w *World) (func(), time.Duration) {
		n := w.anyNode()
		n.stop()
		return n.start, w.between(100*time.Millisecond, 3*time.Second)
	}},
	{4, func(w *World) (func(), time.Duration) {
		n := w.anyNode()
		n.freeze(false)
		return n.thaw, w.between(10*time.Millisecond, 2*w.Lease)
	}},
	{2, func(w *World) (func(), time.Duration) {
		n := w.anyNode()
		n.freeze(true)
		return n.thaw, w.between(10*time.Millisecond, 3*w.Lease)
	}},
	{6, func(w *World) (func(), time.Duration) { // a live migration
		n := w.anyNode()
		if !w.stops {
			return w.congest(n)
		}
		if n.freeze(false); n.paused {
			n.clock.stop(w.now, true)
		}
		return n.thaw, w.between(w.Beat, 3*w.Lease)
	}},
	{4, func(w *World) (func(), time.Duration) { // a split
		side := w.rng.Uint64()
		w.net.split(func(i int) int { return int(side>>i) & 1 })
		w.line("split %b", side&(1<<len(w.nodes)-1))
		return w.net.heal, w.between(100*time.Millisecond, 4*w.Lease)
	}},
	{3, func(w *World) (func(), time.Duration) { // one direction of one pair
		a, b := w.anyNode(), w.anyNode()
		w.net.cut[a.index][b.index] = a != b
		w.line("cut %s > %s", a.conf.Name, b.conf.Name)
		return func() { w.net.cut[a.index][b.index] = false }, w.between(100*time.Millisecond, 6*w.Lease)
	}},
	{3, func(w *World) (func(), time.Duration) { // all of one direction of one node
		deaf := w.maybe(0.5)
		w.isolate(w.anyNode(), deaf, !deaf)
		return w.net.heal, w.between(100*time.Millisecond, 4*w.Lease)
	}},
	{3, func(w *World) (func(), time.Duration) { // a congested host
		a, d := w.anyNode(), w.between(w.Beat/4, w.Lease)
		out := w.maybe(0.5)
		for i := range w.nodes {
			if i == a.index {
				continue
			}
			if out {
				w.net.lag[a.index][i] = d
			} else {
				w.net.lag[i][a.index] = d
			}
		}
		w.line("%s lags by %v, outwards: %v", a.conf.Name, d, out)
		return func() {
			for i := range w.nodes {
				w.net.lag[a.index][i], w.net.lag[i][a.index] = 0, 0
			}
		}, w.between(w.Lease/2, 4*w.Lease)
	}},
	{6, func(w *World) (func(), time.Duration) { // a failing disk, and perhaps a crash
		n, crash := w.anyNode(), w.maybe(0.7)
		n.disk.slow = true
		return func() {
			n.disk.slow = false
			if crash {
				n.crash("crashes")
				n.start()
			}
		}, w.between(w.Beat, 2*w.Lease)
	}},
	{1, func(w *World) (func(), time.Duration) {
		n := w.anyNode()
		n.diskFull(true)
		life := n.life
		return func() {
			if n.life == life {
				n.diskFull(false)
			}
		}, w.between(time.Second, 3*w.Lease)
	}},
	{1, func(w *World) (func(), time.Duration) { // slower, faster
		n := w.anyNode()
		if !n.suspended {
			n.setRate(n.clock.rawRate)
		}
		return func() {}, 0
	}},
	{1, func(w *World) (func(), time.Duration) { // the administrator
		n := w.anyNode()
		n.retune()
		return func() {}, 0
	}},
	{2, func(w *World) (func(), time.Duration) { // other jobs, for a while
		n := w.anyNode()
		n.reconfigure()
		return n.configured, w.between(0, 10*time.Second)
	}},
	{2, func(w *World) (func(), time.Duration) { // the wall clock is set
		n, d := w.anyNode(), []time.Duration{30 * time.Second, time.Hour}[w.rng.IntN(2)]
		if w.maybe(0.5) || w.Size == 1 { // alone it would make up for an hour
			d = -d
		}
		n.setWall(d)
		return func() { n.setWall(0) }, w.between(100*time.Millisecond, 20*time.Second)
	}},
	{1, func(w *World) (func(), time.Duration) {
		n := w.anyNode()
		n.stepDown()
		return func() {}, 0
	}},
	{2, (*World).outrun},
}

// outrun has a disk not keep up with an election. Then the lord is heard by that
// voter alone, and it crashes.
func (w *World) outrun() (mend func(), after time.Duration) {
	late := w.anyNode()
	lords := func() []*node {
		return slices.DeleteFunc(slices.Clone(w.nodes), func(n *node) bool { return n == late || !n.awake() || len(n.lords) == 0 })
	}
	w.line("the disk of %s does not keep up", late.conf.Name)
	late.disk.slow = true
	for _, n := range lords() {
		for _, l := range sortedKeys(n.lords) {
			n.step(legion.Abandon{Legion: l, Reason: "told to"})
		}
	}
	w.in(w.between(w.Beat, w.Lease/2), func() {
		if all := lords(); len(all) > 0 && !w.calm {
			lord := all[w.rng.IntN(len(all))]
			w.isolate(lord, true, true)
			w.net.cut[lord.index][late.index], w.net.cut[late.index][lord.index] = false, false
		}
	})
	w.in(w.between(w.Lease, 2*w.Lease), func() {
		if late.disk.slow = false; !w.calm {
			late.crash("crashes")
			late.start()
		}
	})
	return w.net.heal, 4 * w.Lease
}

// seldom is what takes several things that go wrong one after the other, and in
// which chance alone strikes too rarely. One run of seldomEvery has them besides.
var seldom = []fault{
	{1, (*World).outgrow},
	{3, (*World).hasten},
}

const seldomEvery = 8

// outgrow has a disk not keep up with a change of the electorate, of which fewer
// than a quorum of the other voters hear. It crashes, and the lord of the cluster is
// cut off with those that know; the others are told to make another change.
func (w *World) outgrow() (mend func(), after time.Duration) {
	cluster := w.anyNode().cluster()
	e, lord := w.latest(cluster), w.lord(legion.ClusterLegion, cluster)
	if e == nil || lord == nil || !lord.awake() || len(e.Voters) < 3 || w.Size != len(e.Voters) {
		return func() {}, 0
	}
	var late *node
	knows := []*node{lord}
	for _, i := range w.rng.Perm(len(e.Voters)) {
		if n := w.voter(e.Voters[i]); n != nil && n != lord && n.awake() {
			if late == nil {
				late = n
			} else if len(knows) < e.Quorum-1 {
				knows = append(knows, n)
			}
		}
	}
	if late == nil {
		return func() {}, 0
	}
	w.line("the disk of %s does not keep up", late.conf.Name)
	late.disk.slow = true
	w.part(append(knows, late)...)
	w.retold(lord, legion.Settings{Size: e.Size, Beat: w.Beat, Lease: w.Lease * 3 / 2})
	w.in(w.between(w.Beat/2, 2*w.Beat), func() {
		if late.disk.slow = false; !w.calm {
			late.crash("crashes")
			w.net.heal()
			w.part(knows...)
			late.start()
		}
	})
	w.in(3*w.Lease, func() {
		if !w.calm {
			w.resettle(cluster, legion.Settings{Size: e.Size, Beat: w.Beat, Lease: w.Lease * 2})
		}
	})
	return w.net.heal, 6 * w.Lease
}

// hasten has a lord whose clock is ahead, but by less than would be noticed, cut
// off until another follows, whose clock is behind what the first one decided. That
// one crashes once the first is back.
func (w *World) hasten() (mend func(), after time.Duration) {
	n := w.anyNode()
	thrones := slices.DeleteFunc(sortedKeys(n.lords), func(l string) bool { return l == legion.ClusterLegion })
	if len(thrones) == 0 || !n.awake() {
		return func() {}, 0
	}
	throne, cluster := thrones[w.rng.IntN(len(thrones))], n.cluster()
	n.setWall(w.between(legion.MaxAhead/2, legion.MaxAhead))
	first := w.between(w.Beat, w.Lease)
	w.in(first, func() {
		if !w.calm {
			w.isolate(n, true, true)
		}
	})
	return func() {
		w.net.heal()
		n.setWall(0)
		w.in(w.between(0, w.Lease/2), func() {
			if next := w.lord(throne, cluster); next != nil && next != n && !w.calm {
				next.crash("crashes")
				w.in(2*w.Lease, next.start)
			}
		})
	}, first + w.between(w.Lease+2*w.Beat, 2*w.Lease)
}

// congest lets a host's packets take ever longer, until none passes: the last
// answers it hears are late ones.
func (w *World) congest(n *node) (mend func(), after time.Duration) {
	d, first := w.between(w.Lease/4, w.Lease), w.between(w.Lease/2, 3*w.Lease)
	w.line("%s lags by %v, then is cut off", n.conf.Name, d)
	lag := func(d time.Duration) {
		for i := range w.nodes {
			if i != n.index {
				w.net.lag[n.index][i], w.net.lag[i][n.index] = d/4, d
			}
		}
	}
	lag(d)
	w.in(first, func() {
		if lag(0); !w.calm {
			w.isolate(n, true, true)
		}
	})
	return w.net.heal, first + 2*w.Lease
}

// anyNode returns one at random, rather a lord.
func (w *World) anyNode() *node {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if len(n.lords) == 0 && w.maybe(0.3) {
		n = w.nodes[w.rng.IntN(len(w.nodes))]
	}
	return n
}

// misbehave breaks something every now and then.
func (w *World) misbehave(every time.Duration) { w.misbehaves(every, faults) }

func (w *World) misbehaves(every time.Duration, faults []fault) {
	total := 0
	for _, f := range faults {
		total += f.weight
	}
	w.in(time.Duration(w.rng.ExpFloat64()*float64(every)), func() {
		if w.calm {
			return
		}
		k := w.rng.IntN(total)
		for _, f := range faults {
			if k -= f.weight; k < 0 {
				mend, after := f.breaks(w)
				w.in(after, func() {
					if !w.calm {
						mend()
					}
				})
				break
			}
		}
		w.misbehaves(every, faults)
	})
}

// heal mends everything, and nothing breaks any more.
func (w *World) heal() {
	w.line("all is healed")
	w.calm = true
	w.in(slow(w.Lease), func() { w.stops = false }) // what a stopped clock trusted has ended
	w.net.heal()
	w.Net = NetConf{Delay: 100 * time.Microsecond, Jitter: time.Millisecond}
	for _, n := range w.nodes {
		if n.stopping {
			n.crash("is killed")
		}
		n.thaw()
		n.diskFull(false)
		n.setWall(0)
		n.start()
		n.configured()
		n.will(true)
		n.step(legion.Settings{Size: w.Size, Beat: w.Beat, Lease: w.Lease})
	}
}
