package slots

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// TestClockSet: what the clock was set over is run within catch_up and else
// missed, for that reason; what is behind the mark is not started again.
// Suspend and small corrections are no reason.
func TestClockSet(t *testing.T) {
	t.Parallel()
	d := newDesk(t, jobs.Job{Legion: "g", Name: "j", Schedules: []string{"* * * * *"}, CatchUp: jobs.CatchUpDefault, Overlap: jobs.OverlapAllow})
	d.reign(1)
	d.after(time.Minute)
	runs := len(d.starts)
	set := func(by time.Duration) {
		d.now.Wall = d.now.Wall.Add(by)
		d.step(Tick{})
	}
	missed := func() (counts map[string]int) {
		counts = map[string]int{}
		for _, r := range d.records {
			if r.State == jobs.Missed {
				counts[r.Reason] += max(r.Count, 1)
			}
		}
		return counts
	}
	if set(5 * time.Second); len(d.starts) != runs || len(missed()) > 0 {
		t.Errorf("a correction of 5s: %d runs, missed %v", len(d.starts)-runs, missed())
	}
	if d.after(time.Hour); missed()["clock jumped"] > 0 || missed()["too late"] == 0 {
		t.Errorf("asleep for an hour: missed %v", missed())
	}
	runs = len(d.starts)
	if set(time.Hour); len(d.starts) != runs+1 || missed()["clock jumped"] != 59 {
		t.Errorf("forward by an hour: %d runs, missed %v", len(d.starts)-runs, missed())
	}
	runs = len(d.starts)
	set(-time.Hour)
	for range 59 {
		d.after(time.Minute)
	}
	if len(d.starts) != runs {
		t.Errorf("back by an hour: %d runs again", len(d.starts)-runs)
	}
	if d.after(2 * time.Minute); len(d.starts) == runs {
		t.Error("no run when the clock has come so far again")
	}
}

// TestDatedByItsClock: what was decided by a clock that was ahead is dated so, also
// if it is written once the clock is right again.
func TestDatedByItsClock(t *testing.T) {
	t.Parallel()
	d := newDesk(t, jobs.Job{Legion: "g", Name: "j", Schedules: []string{"* * * * *"}, CatchUp: jobs.CatchUpDefault})
	d.reign(1, "n2")
	d.hold()
	d.after(time.Minute) // its write is under way
	d.now.Wall = d.now.Wall.Add(time.Hour)
	ahead := d.now.Wall
	d.after(time.Second)
	d.now.Wall = d.now.Wall.Add(-time.Hour)
	d.after(time.Second)
	if d.dated = (time.Time{}); len(d.held) == 0 {
		t.Fatal("nothing is being written")
	}
	d.release()
	if d.dated.Before(ahead) {
		t.Errorf("dated %v, decided at %v", d.dated, ahead)
	}
}

// TestFirstSeenWhenDue: a job that is first seen at the very moment of a slot runs
// then. Its first mark is no word about a slot.
func TestFirstSeenWhenDue(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.reign(1)
	d.after(30 * time.Second)
	d.configure(minutely)
	d.after(time.Second)
	if len(d.starts) != 1 || !d.starts[0].At.Equal(noon.Add(30*time.Second)) {
		t.Fatalf("started %v; want the slot that was due", d.starts)
	}
	d.configure(jobs.Job{Name: "k", Legion: "g", Schedules: minutely.Schedules})
	if d.after(time.Second); len(d.starts) != 1 {
		t.Errorf("started %v of a job that was first seen a second later", d.starts[1:])
	}
}
