package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// slack is what a succession may take beyond what P4 says, for a few round
// trips, votes written to disk, timers that are late, and one retry of a
// probe that came a moment too early (a quarter of a beat).
func (w *World) slack() time.Duration { return 60*time.Millisecond + slow(w.Beat/2) }

// crashed is P4 for a lord's host that dies: lease + 2 beats, on clocks that
// may run slow.
func (w *World) crashed() time.Duration { return slow(w.Lease+2*w.Beat) + w.slack() }

// stopped is P4 for a lord that stops, counted from when it was told to; its
// hooks take no time here.
const stopped = 100 * time.Millisecond

// succession ends one lord's reign in a quiet network, and measures how long
// its legions are without one.
func (w *World) succession() error {
	// Gossip must have found everybody before, or the ranking is guesswork.
	if err := w.Run(w.now + rejoinMax + noticeMax); err != nil {
		return err
	}
	var lords []*node
	for _, n := range w.nodes {
		if len(n.lords) > 0 {
			lords = append(lords, n)
		}
	}
	if len(lords) == 0 {
		return nil
	}
	n := lords[w.rng.IntN(len(lords))]
	cluster := n.cluster()
	var orphans []string
	for _, l := range w.legions() {
		if w.lord(l, cluster) == n && w.succeeds(l, n) {
			orphans = append(orphans, l)
		}
	}
	limit := w.crashed()
	switch w.rng.IntN(5) {
	case 0:
		n.crash("crashes")
	case 1, 2:
		limit = stopped
		n.stop()
	case 3:
		// Its hooks run on, so that it cannot give anything back. Its beats are
		// heard until it notices.
		n.hooks = time.Minute
		limit += slow(4 * w.Lease / 5)
		w.isolate(n, true, false)
	default:
		w.isolate(n, w.maybe(0.7), w.maybe(0.7))
	}
	began := w.now
	// Orphans are fought for one by one, and a win may change who is best for
	// the next before everybody has heard of it.
	limit += time.Duration(max(len(orphans)-1, 0)) * slow(5*w.Beat)
	for _, l := range orphans {
		for {
			if lord := w.lord(l, cluster); lord != nil && lord != n {
				break
			}
			if w.now-began > limit {
				w.fail("P4: no lord of %s within %v after %s was gone", l, limit, n.conf.Name)
				return w.failed
			}
			if err := w.Run(w.now + time.Millisecond); err != nil {
				return err
			}
		}
	}
	if err := w.Run(max(w.now, began+time.Second)); err != nil {
		return err
	}
	w.net.heal()
	if n.hooks > 0 {
		n.hooks = 0
		n.crash("crashes")
	}
	n.start()
	return w.settle()
}

// restarts lets the nodes restart one after the other, faster than gossip
// notices. No reign but their own ends for that, unless it is given away: a
// voter takes the sitting lord back.
func (w *World) restarts() error {
	type reigned struct {
		by *node
		*reign
	}
	for _, n := range w.nodes {
		before := map[string]reigned{}
		for _, m := range w.nodes {
			for l, r := range m.lords {
				if m != n && m.trusted(l) {
					before[l] = reigned{m, r}
				}
			}
		}
		n.crash("restarts")
		n.start()
		if err := w.Run(w.now + slow(w.Lease)); err != nil {
			return err
		}
		for l, r := range before {
			if r.over && strings.Contains(r.why, "yields to") {
				continue
			}
			if !r.by.trusted(l) || r.by.lords[l].term != r.term {
				w.fail("%s is lord of %s no more, after %s restarted", r.by.conf.Name, l, n.conf.Name)
				return w.failed
			}
		}
	}
	return nil
}

// succeeds reports whether l can have a lord without n.
func (w *World) succeeds(l string, n *node) bool {
	e := n.disk.electorate
	for _, m := range w.fit(l, n.cluster()) {
		voters := len(e.Voters)
		if slices.ContainsFunc(e.Voters, func(v legion.Voter) bool { return v.Instance == n.instance }) {
			voters--
		}
		if m != n && voters >= max(e.Quorum, m.legions[l].Quorum) {
			return true
		}
	}
	return false
}
