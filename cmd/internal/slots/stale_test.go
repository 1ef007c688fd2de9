package slots

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// TestStale: an attempt that no lord looks after is asked about by the node that
// has it, ever more seldom, and what its own node says is passed on; a lord looks
// after it as after others.
func TestStale(t *testing.T) {
	t.Parallel()
	for _, lord := range []bool{false, true} {
		d := newDesk(t, minutely)
		claim := jobs.Record{
			Slot: jobs.Slot{Legion: "g", Job: minutely.Name, At: noon.Truncate(time.Minute)}, Attempt: 2, Run: "r", Term: 3,
			State: jobs.Claimed, Node: "n2", Incarnation: "i2", Scheduled: noon.Truncate(time.Minute),
		}
		if lord {
			d.reign(8)
		}
		d.keep(jobs.Batch{Records: []jobs.Record{claim}})
		var asked []time.Duration
		for range 40 {
			d.now.Boot, d.now.Raw, d.now.Wall = d.now.Boot+staleEvery, d.now.Raw+staleEvery, d.now.Wall.Add(staleEvery)
			for _, a := range d.core.Step(d.now, Tick{}) {
				switch a := a.(type) {
				case AskNode:
					if a.Record.Key() != claim.Key() {
						t.Fatalf("asks about %v", a.Record)
					}
					asked = append(asked, d.now.Boot)
				case Commit:
					d.keep(a.Batch)
					d.step(Done{ID: a.ID})
				}
			}
		}
		if len(asked) == 0 || !lord && len(asked) > 8 {
			t.Fatalf("lord %v: asked %d times in 20 minutes", lord, len(asked))
		}
		said := claim
		said.State = jobs.NeverStarted
		d.step(Told{Asked: claim, Said: said})
		if got := d.records[claim.Key()]; got.State != jobs.NeverStarted {
			t.Errorf("lord %v: it stays %v", lord, got)
		}
	}
}
