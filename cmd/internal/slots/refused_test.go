package slots

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// refuseOne answers the write that has waited longest with no.
func (d *desk) refuseOne() Event {
	w := d.held[0]
	d.held = d.held[1:]
	return Done{ID: w.id, Err: errors.New("too many writes under way")}
}

// TestRefusedComesFirst: what comes after a write that was refused is not written
// before it: a mark that is further on would say that its slots are decided.
func TestRefusedComesFirst(t *testing.T) {
	t.Parallel()
	for _, j := range []jobs.Job{minutely, ownJob} {
		d := newDesk(t, j)
		d.reign(7)
		d.order(func(id uint64) Event { return Trigger{ID: id, Legion: j.Legion, Job: j.Name} }) // and it goes on
		d.hold()
		d.after(time.Minute)
		d.after(time.Minute) // another slot, while the first is being written
		d.step(d.refuseOne())
		for range 2 {
			if len(d.held) > 0 {
				d.step(d.letOne())
			}
			var slots []time.Time
			for _, r := range d.records {
				slots = append(slots, r.At)
			}
			for _, m := range d.marks {
				for at := noon.Add(30 * time.Second); !at.After(m.At); at = at.Add(time.Minute) {
					if !slices.ContainsFunc(slots, at.Equal) {
						t.Errorf("%s: the mark is at %v, and nothing is said of %v", j.Name, m.At, at)
					}
				}
			}
			d.after(commitRetry)
		}
		if len(d.records) != 3 {
			t.Errorf("%s: written of a run and two slots: %v", j.Name, d.records)
		}
	}
}
