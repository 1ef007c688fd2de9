package slots

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/scheduler"
)

// TestLongAway: however many slots have passed, those within catch_up are run,
// and the others missed.
func TestLongAway(t *testing.T) {
	t.Parallel()
	job := minutely
	job.Overlap, job.CatchUp, job.CatchUpRuns = jobs.OverlapAllow, time.Hour, jobs.CatchUpAll
	for _, away := range []time.Duration{3 * time.Hour, (scheduler.MaxOlder + 90) * time.Minute} {
		d := newDesk(t, job)
		minute := noon.Truncate(time.Minute)
		d.keep(jobs.Batch{Marks: []jobs.Mark{{Legion: "g", Job: job.Name, Timing: job.Timing(), At: minute.Add(-away), Term: 6}}})
		d.reign(7)
		var row jobs.Record
		for _, r := range d.records {
			if r.State == jobs.Missed {
				row = r
			}
		}
		if len(d.starts) != 60 || !row.At.Equal(minute.Add(time.Minute-away)) || !row.To.Equal(minute.Add(-time.Hour)) {
			t.Errorf("away for %v: %d runs, missed %v", away, len(d.starts), row)
		}
		for _, r := range d.starts {
			if row.Concerns(r.Slot) {
				t.Errorf("away for %v: run and missed: %v", away, r)
			}
		}
	}
}

// TestLongAwayAndPatient: more slots than are looked at one by one may be within
// catch_up. The newest of them are run, and every other is missed once.
func TestLongAwayAndPatient(t *testing.T) {
	t.Parallel()
	job := minutely
	job.Overlap, job.CatchUp, job.CatchUpRuns = jobs.OverlapAllow, 30*24*time.Hour, jobs.CatchUpAll
	d := newDesk(t, job)
	minute := noon.Truncate(time.Minute)
	away := 20 * 24 * time.Hour
	d.keep(jobs.Batch{Marks: []jobs.Mark{{Legion: "g", Job: job.Name, Timing: job.Timing(), At: minute.Add(-away), Term: 6}}})
	d.reign(7)
	if len(d.starts) != maxCatchUp+1 {
		t.Errorf("%d runs", len(d.starts))
	}
	outcomes := map[time.Time]int{}
	for _, r := range d.records {
		for at := r.At; at.Equal(r.At) || !at.After(r.To); at = at.Add(time.Minute) {
			outcomes[at]++
		}
	}
	for at := minute.Add(time.Minute - away); !at.After(minute); at = at.Add(time.Minute) {
		if outcomes[at] != 1 {
			t.Fatalf("%d outcomes of %v", outcomes[at], at)
		}
	}
}
