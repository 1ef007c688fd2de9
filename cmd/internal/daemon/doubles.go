package daemon

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/metrics"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
)

// maxDoubles are the slots of which a node remembers that it has reported
// them; beyond, one may be reported and counted again.
const maxDoubles = 10_000

// A doubles looks out for slots that ran twice. Each side of a split has its lord
// where the quorum is unsafe, and runs the slots of its own accord; when the
// records of one side reach a node that has those of the other, it says so.
type doubles struct {
	store   *ledger.Store
	log     *zap.Logger
	metrics *metrics.Metrics
	// possible reports whether a slot of the legion may run twice: others are
	// not looked up.
	possible func(legion string) bool
	queue    *mailbox[jobs.Record]

	told map[jobs.Key]int // runs reported, by slot and attempt

	mu     sync.Mutex
	counts map[string]int // by legion, since the agent started
}

func newDoubles(store *ledger.Store, log *zap.Logger, m *metrics.Metrics, possible func(legion string) bool) *doubles {
	return &doubles{
		store: store, log: log, metrics: m, possible: possible, queue: newMailbox[jobs.Record](),
		told: map[jobs.Key]int{}, counts: map[string]int{},
	}
}

// look takes records that have been written. It does not wait.
func (d *doubles) look(recs []jobs.Record) {
	for _, r := range recs {
		if r.Ran() && !r.Slot.Local() && d.possible(r.Slot.Legion) {
			d.queue.put(r)
		}
	}
}

// of is how many runs too many there were in a legion, as far as is known here.
func (d *doubles) of(legion string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[legion]
}

func (d *doubles) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.queue.ready:
		}
		for _, r := range d.queue.take() {
			if ctx.Err() != nil {
				return
			}
			d.check(r)
		}
	}
}

// check reports the run if its slot has others, once for each run too many.
func (d *doubles) check(r jobs.Record) {
	about, err := d.store.Slots(r.Slot)
	if err != nil {
		d.log.Warn("look up a slot", logging.Slot(r.Slot.String()), zap.Error(err))
		return
	}
	others := jobs.Doubles(r, about)
	key := r.Key()
	key.Run = ""
	more := len(others) - d.told[key]
	if more <= 0 {
		return
	}
	if len(d.told) >= maxDoubles {
		clear(d.told)
	}
	d.told[key] = len(others)
	d.mu.Lock()
	d.counts[r.Slot.Legion] += more
	d.mu.Unlock()
	d.metrics.Doubled(r.Slot.Legion, more)
	other := others[0]
	d.log.Warn("slot ran twice: on "+other.Node+" and on "+r.Node, logging.Event("double"), logging.Legion(r.Slot.Legion), logging.Job(r.Job),
		logging.Slot(r.Slot.String()), logging.Attempt(r.Attempt), logging.Run(r.Run), zap.String("other-run", other.Run))
}
