package slots

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// ownJob is a node's own, and its slots wait for each other.
var ownJob = jobs.Job{Name: "own", Schedules: []string{"* * * * *"}, Overlap: jobs.OverlapQueue, CatchUp: jobs.CatchUpDefault}

// reasons counts the slots of a job that were skipped for a reason.
func (d *desk) reasons(job, why string) (n int) {
	for _, r := range d.records {
		if r.Job == job && r.State == jobs.Skipped && r.Reason == why {
			n++
		}
	}
	return n
}

// TestDrained: a drained node begins nothing of its own, and says so of each
// slot. What is asked for by hand runs, and the slots of a legion are not its.
func TestDrained(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ownJob, minutely)
	d.reign(7)
	d.after(30 * time.Second)
	d.after(time.Minute) // and the run before has not ended
	if len(d.starts) != 2 || d.outcomes("own", jobs.Queued) != 1 {
		t.Fatalf("started %v, %d wait", d.starts, d.outcomes("own", jobs.Queued))
	}
	d.step(Drain{On: true})
	if n := d.reasons("own", "drained"); n != 1 || d.outcomes("own", jobs.Queued) != 0 {
		t.Errorf("of what waited %d were skipped, and %d wait", n, d.outcomes("own", jobs.Queued))
	}
	for _, r := range d.starts {
		d.end(r, jobs.Succeeded)
	}
	d.starts = nil
	d.after(time.Minute)
	if len(d.starts) != 1 || d.starts[0].Job != "j" || d.reasons("own", "drained") != 2 || d.reasons("j", "drained") != 0 {
		t.Errorf("while drained %v started, %d skipped", d.starts, d.reasons("own", "drained"))
	}
	d.starts = nil
	if r := d.order(func(id uint64) Event { return Trigger{ID: id, Job: "own"} }); r.Err != nil || len(d.starts) != 1 {
		t.Fatalf("by hand: %v, started %v", r.Err, d.starts)
	}
	d.end(d.starts[0], jobs.Succeeded)
	d.starts = nil
	d.step(Drain{On: false})
	if len(d.starts) != 0 {
		t.Errorf("the end of the drain started %v", d.starts)
	}
	d.after(time.Minute)
	if len(d.starts) != 1 || d.starts[0].Job != "own" { // the legion's still runs
		t.Errorf("when it was over %v started", d.starts)
	}
}

// TestLeftBehind: what waits has an outcome when its legion, its job or its
// node's name goes.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	waiting := minutely
	waiting.Overlap = jobs.OverlapQueue
	const gone = "the job is gone from the configuration"
	for _, c := range []struct {
		name, job, why string
		do             func(d *desk)
	}{
		{"a legion goes under its lord", "j", gone, func(d *desk) { d.step(Configure{}) }},
		{"a legion is gone when there is a lord again", "j", gone, func(d *desk) {
			d.newCore()
			d.reign(8)
		}},
		{"a node's own job goes while it is down", "own", gone, func(d *desk) { d.newCore() }},
		{"a node has a new name", "own", "the node is n2 now", func(d *desk) {
			d.node = "n2"
			d.newCore(ownJob)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, ownJob, waiting)
			d.reign(7)
			d.after(30 * time.Second)
			d.after(time.Minute)
			d.after(time.Second) // nothing is due when it goes
			if n := d.outcomes(c.job, jobs.Queued); n != 1 {
				t.Fatalf("%d wait", n)
			}
			d.starts = nil
			c.do(d)
			if n := d.reasons(c.job, c.why); n != 1 || d.outcomes(c.job, jobs.Queued) != 0 || len(d.starts) != 0 {
				t.Errorf("%d skipped, %d wait, started %v", n, d.outcomes(c.job, jobs.Queued), d.starts)
			}
		})
	}
}

// TestDisabledMeanwhile: what waits, be it for a run or to be tried again, is
// not begun when its job has been disabled or paused meanwhile.
func TestDisabledMeanwhile(t *testing.T) {
	t.Parallel()
	j := minutely
	j.Overlap, j.Retries, j.RetryDelay, j.Backoff = jobs.OverlapQueue, 3, 10*time.Second, 1
	for why, stop := range map[string]func(d *desk){
		"disabled": func(d *desk) {
			d.disabled = map[string]bool{"j": true}
			d.configure(j)
		},
		"paused": func(d *desk) { d.pause(jobs.Pause{Job: "j", On: true}) },
	} {
		d := newDesk(t, j)
		d.reign(7)
		d.after(30 * time.Second)
		first := d.starts[0]
		d.after(time.Minute)
		if d.outcomes("j", jobs.Queued) != 1 {
			t.Fatalf("waiting: %v", d.records)
		}
		if stop(d); d.reasons("j", why) != 1 || d.outcomes("j", jobs.Queued) != 0 {
			t.Errorf("%s: %v", why, d.records)
		}
		d.end(first, jobs.Succeeded)
		if d.after(time.Second); len(d.starts) != 1 {
			t.Errorf("%s: started %v", why, d.starts[1:])
		}
		d = newDesk(t, j)
		d.reign(7)
		d.after(30 * time.Second)
		d.end(d.starts[0], jobs.Failed)
		stop(d)
		if d.after(11 * time.Second); len(d.starts) != 1 || len(d.core.living) != 0 {
			t.Errorf("%s: tried again %v", why, d.starts[1:])
		}
	}
}
