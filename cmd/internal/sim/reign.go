package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// Who should reign is checked in the quiet network: P5.

const (
	// bestWithin is how long after all is healed the best may take to reign:
	// a legion that load has moved rests 30 s, and those that carry more go
	// first for 15 s.
	bestWithin = 60 * time.Second
	// stayFor is how long nobody may move then.
	stayFor = 20 * time.Second
)

// candidacy is what the node announces of its part in a legion.
func (n *node) candidacy(l string) legion.Candidacy {
	for _, c := range n.core.Announcement().Legions {
		if c.Legion == l {
			return c
		}
	}
	return legion.Candidacy{}
}

// load counts the node's lordships, but for l.
func (n *node) load(l string) (k int) {
	for other := range n.lords {
		if other != l && other != legion.ClusterLegion {
			k++
		}
	}
	return k
}

// effective is the node's effective valor in a legion, and whether it is held back.
func (n *node) effective(l string) (int, bool) {
	c := n.legions[l]
	e := c.Valor + c.Weight
	if c.Spread {
		e -= n.load(l)
	}
	return e, n.candidacy(l).Held
}

// unsafe reports whether the node's lordship of l needs less than a majority.
// Such a legion may have several lords in a split, and start slots twice.
func (n *node) unsafe(l string) bool {
	part := n.legions[l]
	return part.Unsafe && part.Quorum > 0
}

// usurped says of which legion the lord is not the best, if any.
func (w *World) usurped() string {
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		for l := range n.lords {
			part, fit := n.legions[l], w.fit(l, n.cluster())
			if l == legion.ClusterLegion || !n.trusted(l) {
				continue
			}
			if !slices.Contains(fit, n) {
				return fmt.Sprintf("%s reigns over %s and is not fit", n.conf.Name, l)
			}
			if !part.Preempt {
				continue
			}
			e, held := n.effective(l)
			for _, m := range fit {
				better, mheld := m.effective(l)
				if m != n && (held && !mheld || held == mheld && better-e > part.Stickiness) {
					return fmt.Sprintf("%s reigns over %s with %d (held back: %v), %s has %d (%v)",
						n.conf.Name, l, e, held, m.conf.Name, better, mheld)
				}
			}
		}
	}
	return ""
}

// reigns is who is lord of what in which term, and who is held back: while the
// latter stays, nothing may move.
func (w *World) reigns() (reigns, held string) {
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		for _, l := range w.legions() {
			if r := n.lords[l]; r != nil {
				reigns += fmt.Sprintf("%s:%s:%d ", n.conf.Name, l, r.term)
			}
			if n.candidacy(l).Held {
				held += n.conf.Name + ":" + l + " "
			}
		}
	}
	return reigns, held
}

// best waits until the best reign, and sees that they stay.
func (w *World) best() error {
	for range 10 { // whoever is held back no more may move things again
		for deadline := w.now + bestWithin; ; {
			problem := w.usurped()
			if problem == "" {
				break
			}
			if w.now >= deadline {
				w.fail("P5: %s", problem)
				return w.failed
			}
			if err := w.Run(w.now + time.Second); err != nil {
				return err
			}
		}
		reigns, held := w.reigns()
		for end := w.now + stayFor; ; {
			if err := w.Run(w.now + time.Second); err != nil {
				return err
			}
			r, h := w.reigns()
			if h != held {
				break
			}
			if r != reigns {
				w.fail("P5: nothing has changed, and the lords have: %s-> %s", reigns, r)
				return w.failed
			}
			if w.now >= end {
				return nil
			}
		}
	}
	return nil
}
