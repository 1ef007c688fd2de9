package slots

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// hold has writes wait until release, as a slow disk or quorum does.
func (d *desk) hold() { d.slow = true }

func (d *desk) release() {
	for d.slow = false; len(d.held) > 0; {
		d.step(d.letOne())
	}
}

// letOne answers the write that has waited longest.
func (d *desk) letOne() Event {
	w := d.held[0]
	d.held = d.held[1:]
	d.keep(w.batch)
	return Done{ID: w.id}
}

// A heldWrite has not been answered.
type heldWrite struct {
	id    uint64
	batch jobs.Batch
}

// TestAccountOfClaims: a node that is asked about a claim which it still waits
// for, or whose disk it has not, does not say that it was never started.
func TestAccountOfClaims(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	d.reign(7)
	d.hold()
	d.exec(noon.Truncate(time.Minute))
	claim := d.held[0].batch.Records[0]
	if said := d.core.Account(d.now.Wall, claim); len(said) != 1 || said[0].State != jobs.Claimed {
		t.Errorf("of a claim under way: %v", said)
	}
	d.step(Unreign{legion.Unreign{Legion: "g", Term: 7}})
	if said := d.core.Account(d.now.Wall, claim); len(said) != 1 || said[0].State != jobs.NeverStarted {
		t.Errorf("of a claim that was given up: %v", said)
	}
	other := claim
	other.Run, other.Incarnation = "other", "i0"
	if said := d.core.Account(d.now.Wall, other); len(said) != 1 || said[0].State != jobs.NeverStarted {
		t.Errorf("of a claim of an earlier agent: %v", said)
	}
	other.State = jobs.Running
	if said := d.core.Account(d.now.Wall, other); len(said) != 0 {
		t.Errorf("of a run that others have seen: %v", said)
	}
	other.State, other.Incarnation = jobs.Claimed, "before the disk was lost"
	if said := d.core.Account(d.now.Wall, other); len(said) != 0 {
		t.Errorf("of a claim that was perhaps on the disk that was lost: %v", said)
	}
}
