package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// A NetConf says how the network misbehaves.
type NetConf struct {
	Loss, Double  float64
	Delay, Jitter time.Duration // every packet takes Delay and up to Jitter more
	Late          float64       // how often a packet is late ...
	LateBy        time.Duration // ... by up to this
}

// network is who can send to whom.
type network struct {
	cut [][]bool          // [from][to]
	lag [][]time.Duration // [from][to], on top of all other delays
}

func (n *network) init(size int) {
	n.cut, n.lag = make([][]bool, size), make([][]time.Duration, size)
	for i := range n.cut {
		n.cut[i], n.lag[i] = make([]bool, size), make([]time.Duration, size)
	}
}

func (n *network) heal() { n.init(len(n.cut)) }

// split leaves only the paths within each side.
func (n *network) split(side func(i int) int) {
	for i := range n.cut {
		for j := range n.cut {
			n.cut[i][j] = n.cut[i][j] || side(i) != side(j)
		}
	}
}

// isolate cuts what a node sends, or hears, or both.
func (w *World) isolate(n *node, deaf, mute bool) {
	deaf = deaf || !mute
	w.line("%s is cut off: deaf %v, mute %v", n.conf.Name, deaf, mute)
	for i := range w.nodes {
		if i != n.index {
			w.net.cut[i][n.index] = w.net.cut[i][n.index] || deaf
			w.net.cut[n.index][i] = w.net.cut[n.index][i] || mute
		}
	}
}

// part cuts these nodes off from all others.
func (w *World) part(these ...*node) {
	var names []string
	for _, n := range these {
		names = append(names, n.conf.Name)
		for i, m := range w.nodes {
			if !slices.Contains(these, m) {
				w.net.cut[i][n.index], w.net.cut[n.index][i] = true, true
			}
		}
	}
	w.line("%s are cut off", strings.Join(names, " "))
}

// reaches reports whether gossip gets from one node to another and back,
// directly or through a third (memberlist's indirect probes).
func (w *World) reaches(from, to *node) bool {
	both := func(a, b *node) bool { return !w.net.cut[a.index][b.index] && !w.net.cut[b.index][a.index] }
	if !to.awake() {
		return false
	}
	if both(from, to) {
		return true
	}
	for _, via := range w.nodes {
		if via != from && via != to && via.awake() && both(from, via) && both(via, to) {
			return true
		}
	}
	return false
}

// packet sends a message as bytes.
func (w *World) packet(from, to *node, m legion.Message) {
	b, err := m.Encode()
	if err != nil {
		w.fail("%s cannot encode %T: %v", from.conf.Name, m.Body, err)
		return
	}
	if from == to {
		w.deliver(from, to, b, w.between(0, 200*time.Microsecond))
		return
	}
	if w.net.cut[from.index][to.index] || w.maybe(w.Net.Loss) {
		return
	}
	copies := 1
	if w.maybe(w.Net.Double) {
		copies = 2
	}
	for range copies {
		d := w.Net.Delay + w.between(0, w.Net.Jitter) + w.net.lag[from.index][to.index]
		if w.maybe(w.Net.Late) {
			d += w.between(0, w.Net.LateBy)
		}
		w.deliver(from, to, b, d)
	}
}

func (w *World) deliver(from, to *node, b []byte, d time.Duration) {
	w.in(d, func() {
		if !to.up || to.suspended || w.net.cut[from.index][to.index] && from != to {
			return
		}
		to.receive(b)
	})
}
