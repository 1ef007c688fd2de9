package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// standing adds the built-in legion to a node's own.
func (w *World) standing(legions map[string]legion.Legion) map[string]legion.Legion {
	if w.Fixed {
		return legions
	}
	all := maps.Clone(legions)
	all[legion.ClusterLegion] = legion.Legion{Valor: 100}
	return all
}

// wipe loses the node's disk, and it comes back as another instance.
func (n *node) wipe() {
	n.crash("crashes, and its disk is lost")
	n.disk, n.instance = newDisk(), n.w.newID()
	n.w.wiped = true
}

// merge writes what other voters had written, and says when that is done: what
// they told of, and what else they know. That a run has ended must be known to
// the new voter, too: the voter that has not heard of it may stay.
func (n *node) merge(a legion.Merge) {
	var all jobs.Batch
	waits := 0
	for _, voter := range slices.Sorted(maps.Keys(a.States)) {
		for _, s := range a.States[voter] {
			b, err := jobs.DecodeBatch(s.State)
			if err != nil {
				n.w.fail("%s cannot decode a state: %v", n.conf.Name, err)
				return
			}
			all.Records, all.Marks = append(all.Records, b.Records...), append(all.Marks, b.Marks...)
		}
		waits++
		n.call(voter, 3*time.Second, func(m *node) any {
			return slices.Collect(maps.Values(m.disk.store.records))
		}, func(answer any) {
			said, ok := answer.([]jobs.Record)
			if !ok {
				return // the core asks again
			}
			all.Records = append(all.Records, said...)
			if waits--; waits == 0 {
				n.keep(all, func() { n.step(legion.Merged{Epoch: a.Epoch}) })
			}
		})
	}
}

// states is all that the node has on disk of slots that may go on.
func (d *disk) states() (all []legion.LegionState) {
	for _, l := range d.store.legions() {
		b := d.store.Unsettled(l)
		stranded, _ := d.store.Stranded(l, time.Time{}, 1000)
		for _, r := range stranded { // and what has become of them since
			b.Records = append(b.Records, d.store.raw([]jobs.Slot{r.Slot})...)
		}
		state, err := b.Encode()
		if err != nil {
			panic(err) // all that is in it was decoded, or made by the core of slots
		}
		all = append(all, legion.LegionState{Legion: l, State: state})
	}
	return all
}

// latest returns the newest record of a cluster that is on any disk.
func (w *World) latest(cluster string) (e *legion.Electorate) {
	for _, n := range w.nodes {
		if n.cluster() == cluster && cluster != "" && (e == nil || n.disk.electorate.Epoch > e.Epoch) {
			e = n.disk.electorate
		}
	}
	return e
}

// voter returns the node that a record names, nil if its disk is lost.
func (w *World) voter(v legion.Voter) *node {
	if n := w.named[v.Name]; n.instance == v.Instance {
		return n
	}
	return nil
}

// intact reports whether every voter of a cluster has its disk, those to come
// among them.
func (w *World) intact(cluster string) bool {
	e := w.latest(cluster)
	if e == nil {
		return false
	}
	voters := e.Voters
	for _, m := range w.nodes {
		if p := m.disk.pending; p != nil && m.cluster() == cluster && p.Electorate.Epoch > e.Epoch {
			voters = slices.Concat(voters, p.Electorate.Voters)
		}
	}
	return !slices.ContainsFunc(voters, func(v legion.Voter) bool { return w.voter(v) == nil })
}

// quiet reports whether no change of n's electorate is under way or wanted,
// and whether it could do without n for ever.
func (w *World) quiet(n *node) bool {
	e := w.latest(n.cluster())
	if e == nil || len(e.Voters) != e.Size || w.wishing(n.cluster(), e) {
		return false
	}
	for _, m := range w.nodes {
		if m.disk.electorate == nil || m.cluster() == n.cluster() && m.disk.electorate.Epoch != e.Epoch {
			return false
		}
		if p := m.disk.pending; p != nil && p.Electorate.Epoch > e.Epoch {
			return false
		}
	}
	left := 0
	for _, v := range e.Voters {
		m := w.voter(v)
		if m == nil || m.unwilling {
			return false
		}
		if m != n && (e.Prior == nil || m.disk.whole == e.Epoch) {
			left++
		}
	}
	return left >= e.Quorum
}

// restlessness is what changes an electorate and needs no disk to be lost.
var restlessness = []fault{
	{1, func(w *World) (func(), time.Duration) { // a voter leaves, and thinks better of it
		n := w.anyVoter()
		if n == nil || !w.intact(n.cluster()) {
			return func() {}, 0
		}
		n.will(false)
		return func() { n.will(true) }, w.between(time.Second, 15*time.Second)
	}},
	{2, func(w *World) (func(), time.Duration) { // another size, or other times
		n := w.anyVoter()
		if n == nil || !w.intact(n.cluster()) || len(w.nodes) == 1 {
			return func() {}, 0
		}
		for _, m := range w.nodes { // where clocks stop there may be two
			s := legion.Settings{Size: 1 + w.rng.IntN(min(len(w.nodes), 5)), Beat: w.Beat, Lease: w.Lease}
			if w.maybe(0.3) {
				s.Lease = s.Lease * time.Duration(2+w.rng.IntN(3)) / 2
			}
			if m.awake() && m.trusted(legion.ClusterLegion) {
				w.retold(m, s)
			}
		}
		return func() {}, 0
	}},
}

// electorateFaults are what makes an electorate change.
var electorateFaults = append([]fault{
	{7, func(w *World) (func(), time.Duration) {
		n := w.anyVoter()
		if n == nil || !w.ruthless && !w.quiet(n) {
			return func() {}, 0
		}
		n.wipe()
		return n.start, w.between(10*time.Millisecond, 3*time.Second)
	}},
	{1, func(w *World) (func(), time.Duration) { // one that is gone is forgotten, and comes back
		n := w.anyVoter()
		if n == nil || !w.quiet(n) {
			return func() {}, 0
		}
		n.crash("crashes for long")
		w.in(noticeMax+time.Second, func() {
			if lord := w.lord(legion.ClusterLegion, n.cluster()); lord != nil && lord.awake() && !n.up {
				w.line("%s forgets %s", lord.conf.Name, n.conf.Name)
				lord.step(legion.Forget{Name: n.conf.Name})
			}
		})
		return n.start, noticeMax + w.between(0, 10*time.Second)
	}},
	{3, func(w *World) (func(), time.Duration) { // other times alone, and the lord is cut off
		n := w.anyVoter()
		if n == nil || !w.quiet(n) {
			return func() {}, 0
		}
		e := w.latest(n.cluster())
		s := legion.Settings{Size: e.Size, Beat: w.Beat, Lease: w.Lease}
		if e.Lease == w.Lease {
			s.Lease *= 2
		}
		w.resettle(n.cluster(), s)
		w.in(w.between(0, 2*w.Beat), func() {
			if n := w.anyNode(); !w.calm {
				w.isolate(n, true, true)
			}
		})
		return w.net.heal, w.between(w.Lease, 4*w.Lease)
	}},
}, restlessness...)

// A wish is what a lord of the cluster was told to bring about.
type wish struct {
	*reign
	legion.Settings
}

// resettle reloads the file of the lord of the cluster.
func (w *World) resettle(cluster string, s legion.Settings) {
	if lord := w.lord(legion.ClusterLegion, cluster); lord != nil && lord.awake() {
		w.retold(lord, s)
	}
}

func (w *World) retold(n *node, s legion.Settings) {
	w.line("%s is told of %+v", n.conf.Name, s)
	w.wishes[n.cluster()] = wish{n.lords[legion.ClusterLegion], s}
	n.step(s)
}

// wishing reports whether the lord of the cluster has a wish that is not
// fulfilled.
func (w *World) wishing(cluster string, e *legion.Electorate) bool {
	s, ok := w.wishes[cluster]
	if lord := w.lord(legion.ClusterLegion, cluster); !ok || lord == nil || lord.lords[legion.ClusterLegion] != s.reign {
		return false
	}
	return s.Size != e.Size || s.Beat != e.Beat || s.Lease != e.Lease
}

// will says whether the node is willing to be a voter.
func (n *node) will(vote bool) {
	if !n.awake() || n.stopping {
		return
	}
	n.w.line("%s is willing to vote: %v", n.conf.Name, vote)
	n.unwilling = !vote
	n.step(legion.Willing{Vote: vote && n.conf.Vote})
}

// anyVoter returns one at random, nil if there is none.
func (w *World) anyVoter() *node {
	n := w.anyNode()
	e := w.latest(n.cluster())
	if e == nil {
		return nil
	}
	return w.voter(e.Voters[w.rng.IntN(len(e.Voters))])
}

// changes breaks electorates every now and then.
func (w *World) changes(every time.Duration) {
	if w.maybe(0.4) {
		w.misbehaves(every, restlessness)
	} else {
		w.misbehaves(4*every, electorateFaults)
	}
}

// unfilled says what is not as it should be with the electorates, and has the
// administrator put the settings right.
func (w *World) unfilled() string {
	for _, n := range w.nodes {
		e := w.latest(n.cluster())
		if e == nil {
			continue
		}
		if n.disk.electorate.Epoch != e.Epoch {
			return n.conf.Name + " does not follow the latest electorate"
		}
		if lord := w.lord(legion.ClusterLegion, n.cluster()); lord == nil || lord.core.Status(lord.clock.read(w.now)).Change != "" {
			return "a change of electorate is under way"
		}
		if want := (legion.Settings{Size: w.Size, Beat: w.Beat, Lease: w.Lease}); e.Size != w.Size || e.Beat != w.Beat || e.Lease != w.Lease {
			w.resettle(n.cluster(), want)
			return "the electorate is not of the size that it should be"
		}
		willing := 0
		for _, m := range w.nodes {
			if m.cluster() == n.cluster() && m.conf.Vote {
				willing++
			}
		}
		if len(e.Voters) != min(e.Size, willing) {
			return "the electorate has too few voters, or too many"
		}
		for _, v := range e.Voters {
			if m := w.voter(v); m == nil || !m.up {
				return v.Name + " is a voter and is not there"
			} else if e.Prior != nil && m.disk.whole != e.Epoch {
				return v.Name + " is not whole"
			}
		}
	}
	return ""
}
