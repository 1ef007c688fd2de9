package sim

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// A disk is what a node has written, and is about to.
type disk struct {
	electorate *legion.Electorate
	founding   legion.FoundingState
	pending    *legion.Amendment
	whole      uint64
	grants     map[string]legion.Grant
	claims     map[string]map[string]bool // by legion: the slots claimed

	queue   []legion.Persist // volatile
	writing int              // how many of the queue are being written
	full    bool
	slow    bool // writes take up to two leases
}

func newDisk() *disk {
	return &disk{grants: map[string]legion.Grant{}, claims: map[string]map[string]bool{}}
}

// load returns what a starting node finds.
func (d *disk) load() legion.State {
	s := legion.State{Electorate: d.electorate, Founding: d.founding, Pending: d.pending, Whole: d.whole}
	for _, l := range slices.Sorted(maps.Keys(d.grants)) {
		s.Grants = append(s.Grants, d.grants[l])
	}
	return s
}

// apply makes the first n of the queue durable and returns the number of the last.
func (d *disk) apply(n int) uint64 {
	var seq uint64
	for _, p := range d.queue[:n] {
		seq = max(seq, p.Seq)
		for _, g := range p.Grants {
			d.grants[g.Legion] = g
		}
		if p.Electorate != nil {
			d.electorate = p.Electorate
		}
		if p.Founding != nil {
			d.founding = *p.Founding
		}
		if p.Pending != nil {
			d.pending = p.Pending
		}
		d.whole = max(d.whole, p.Whole)
		for _, b := range p.Payloads {
			d.claim(string(b))
		}
	}
	d.queue = slices.Delete(d.queue, 0, n)
	return seq
}

// claim records a slot, whose name begins with its legion's.
func (d *disk) claim(slot string) {
	l, _, _ := strings.Cut(slot, "/")
	if d.claims[l] == nil {
		d.claims[l] = map[string]bool{}
	}
	d.claims[l][slot] = true
}

// state returns what is durable of a legion, and its hash.
func (d *disk) state(l string) (state, hash []byte) {
	state = []byte(strings.Join(slices.Sorted(maps.Keys(d.claims[l])), "\n"))
	sum := sha256.Sum256(state)
	return state, sum[:8]
}

// write begins a write if none is under way.
func (n *node) write() {
	d := n.disk
	if d.writing > 0 || len(d.queue) == 0 || d.full {
		return
	}
	d.writing = len(d.queue)
	took := n.w.between(200*time.Microsecond, 5*time.Millisecond)
	if n.w.maybe(n.w.Stall) && !n.w.calm {
		took = n.w.between(0, n.w.StallFor)
	}
	if d.slow && !n.w.calm {
		took = n.w.between(n.w.Lease/4, 2*n.w.Lease)
	}
	life := n.life
	n.w.in(took, func() {
		if n.life != life {
			return
		}
		if d.full { // it failed, and is tried again when there is room
			d.writing = 0
			return
		}
		seq := d.apply(d.writing)
		d.writing = 0
		n.w.check.founded(n.w, d.electorate)
		n.event(func() { n.synced(seq) })
		n.write()
	})
}

// lose forgets what is not durable. A write under way may have made it.
func (d *disk) lose(made bool) {
	if made {
		d.apply(d.writing)
	}
	d.queue, d.writing, d.full = nil, 0, false
}
