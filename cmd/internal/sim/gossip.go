package sim

import (
	"cmp"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// How memberlist was measured to behave.
const (
	noticeMin = 6 * time.Second // before a silent node is called dead
	noticeMax = 9 * time.Second
	rejoinMax = 10 * time.Second // before the halves of a split find each other
	// What a Conf may change. Comparing is ten times as often as with memberlist,
	// so that a run need not last as long until all is known to all.
	comparing, hearing = 0.2, 0.9
)

// A view is what one node's gossip has of another.
type view struct {
	alive       bool
	incarnation legion.ID
	lost        time.Duration // when it will be called dead, if it stays silent
	found       time.Duration // when it will be found again, if it can be reached
	left        bool          // it said goodbye
	since       time.Duration // when that was last news
}

// announce hands the node's state to gossip, which spreads it soon, mostly.
func (n *node) announce(s legion.NodeState) {
	if n.conf.As != "" {
		return // the others keep to the node that had the name before
	}
	n.state = s
	for _, m := range n.w.nodes {
		if m != n && n.w.maybe(cmp.Or(n.w.Heard, hearing)) {
			n.tell(m, n.w.between(5*time.Millisecond, 400*time.Millisecond))
		}
	}
}

// tell carries what n says now to m.
func (n *node) tell(m *node, d time.Duration) {
	s, w := n.state, n.w
	w.in(d, func() {
		if s.Name != "" && m.up && !m.suspended && !w.net.cut[n.index][m.index] {
			m.event(func() { m.step(legion.Announced{State: s}) })
		}
	})
}

// gossip is one second of a node's membership protocol.
func (n *node) gossip() {
	w := n.w
	for _, m := range w.nodes {
		if m == n || m.conf.As != "" || m.conf.Name == n.conf.As {
			continue
		}
		v := n.view[m.conf.Name]
		if v == nil {
			v = &view{found: w.now}
			n.view[m.conf.Name] = v
		}
		reach := w.reaches(n, m)
		switch {
		case v.alive && reach:
			v.lost = 0
			if v.incarnation != m.incarnation && w.maybe(0.3) {
				n.member(m, true) // the restart is seen at last
			}
			if w.maybe(cmp.Or(w.Compare, comparing)) {
				n.tell(m, 10*time.Millisecond)
				m.tell(n, 10*time.Millisecond)
			}
		case v.alive && v.left && !m.up:
			n.member(m, false)
		case v.alive && v.lost == 0:
			v.lost = w.now + w.between(noticeMin, noticeMax)
		case v.alive && w.now >= v.lost:
			n.member(m, false)
		case !v.alive && reach:
			if v.found == 0 {
				v.found = w.now + w.between(0, rejoinMax)
			}
			if w.now >= v.found {
				n.member(m, true)
				n.tell(m, 10*time.Millisecond)
				m.tell(n, 10*time.Millisecond)
			}
		}
	}
}

// member tells the core what gossip believes.
func (n *node) member(m *node, alive bool) {
	v := n.view[m.conf.Name]
	v.alive, v.lost, v.found, v.left, v.since = alive, 0, 0, false, n.w.now
	if alive {
		v.incarnation = m.incarnation
	}
	n.step(legion.Membership{Name: m.conf.Name, Incarnation: v.incarnation, Alive: alive})
}
