package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// A disk is what a node has written, and is about to.
type disk struct {
	electorate *legion.Electorate
	founding   legion.FoundingState
	pending    *legion.Amendment
	whole      uint64
	grants     map[string]legion.Grant
	store      *store
	lives      []string // incarnations that had this disk

	queue   []write // volatile
	writing int     // how many of the queue are being written
	full    bool
	slow    bool // writes take up to two leases
}

// A write is what the core wants durable, or a batch of this node's own.
type write struct {
	legion.Persist
	batch jobs.Batch
	then  func() // told that it is done; may be nil
}

func newDisk() *disk {
	return &disk{grants: map[string]legion.Grant{}, store: newStore()}
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
		for _, payload := range p.Payloads {
			b, err := jobs.DecodeBatch(payload)
			if err != nil {
				panic(err) // a core wrote what was not proposed
			}
			d.store.merge(b)
		}
		d.store.merge(p.batch)
	}
	d.queue = slices.Delete(d.queue, 0, n)
	return seq
}

// state returns what is durable of a legion, and its hash.
func (d *disk) state(l string) (state, hash []byte) {
	state, err := d.store.Unsettled(l).Encode()
	if err != nil {
		panic(err) // all that is in it was decoded, or made by the core of slots
	}
	sum := d.store.table(l).Hash()
	return state, sum[:]
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
		done := slices.Clone(d.queue[:d.writing])
		seq := d.apply(d.writing)
		d.writing = 0
		n.w.check.founded(n.w, d.electorate)
		n.event(func() { n.written(done, seq) })
		n.write()
	})
}

// written tells everybody of what is durable now.
func (n *node) written(done []write, seq uint64) {
	life := n.life
	for _, p := range done {
		for _, payload := range p.Payloads {
			if b, err := jobs.DecodeBatch(payload); err == nil && len(b.Records) > 0 {
				n.decide(slots.Observed{Records: b.Records})
			}
		}
		if p.then != nil {
			p.then()
		}
	}
	if seq > 0 && n.life == life {
		n.synced(seq)
	}
}

// lose forgets what is not durable. A write under way may have made it.
func (d *disk) lose(made bool) {
	if made {
		d.apply(d.writing)
	}
	d.queue, d.writing, d.full = nil, 0, false
}
