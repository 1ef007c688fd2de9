package slots

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// TestAhead: a mark more than maxAhead ahead of the clock is refused, unless the
// voter has it already.
func TestAhead(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	refuses := func(at time.Time) bool {
		m := jobs.Mark{Legion: "g", Job: "j", Timing: "t", At: at, Term: 1}
		payload, err := jobs.Batch{Marks: []jobs.Mark{m}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return Ahead(d)("g", payload, noon)
	}
	if refuses(noon.Add(maxAhead)) {
		t.Error("a mark as far ahead as allowed is refused")
	}
	far := noon.Add(time.Hour)
	if !refuses(far) {
		t.Error("a mark an hour ahead is taken")
	}
	d.keep(jobs.Batch{Marks: []jobs.Mark{{Legion: "g", Job: "j", Timing: "t", At: far, Term: 1}}})
	if refuses(far) {
		t.Error("a mark that is there already is refused")
	}
	if !refuses(far.Add(time.Second)) {
		t.Error("a mark that is further on than the one there is taken")
	}
}

// set has the wall clock jump and returns the reasons of lordships given up.
func (d *desk) set(by time.Duration) (given []string) {
	d.now.Wall = d.now.Wall.Add(by)
	for _, a := range d.core.Step(d.now, Tick{}) {
		switch a := a.(type) {
		case Abandon:
			given = append(given, a.Reason)
		case Commit:
			d.t.Errorf("decides by a clock that was set: %v", a.Batch)
		}
	}
	return given
}

// TestClockSet: a lord with other voters decides nothing by a clock that was
// set, and gives up; suspend and small corrections are no such thing.
func TestClockSet(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		d := newDesk(t, jobs.Job{Legion: "g", Name: "j", Schedules: []string{"* * * * *"}})
		d.reign(1, "n2", "n3")
		d.after(time.Minute)
		if given := d.set(5 * time.Second); len(given) > 0 {
			t.Errorf("gave up for 5s: %v", given)
		}
		if given := d.set(by); len(given) != 1 {
			t.Errorf("by %v: gave up %q", by, given)
		}
		d.step(Unreign{legion.Unreign{Legion: "g", Term: 1}})
	}
}

// TestClockSetAlone: a lone lord goes on; what the clock was set over is missed,
// or run within catch_up, and nothing behind the mark is started again.
func TestClockSetAlone(t *testing.T) {
	t.Parallel()
	d := newDesk(t, jobs.Job{Legion: "g", Name: "j", Schedules: []string{"* * * * *"}, Overlap: jobs.OverlapAllow, CatchUp: jobs.CatchUpDefault})
	d.reign(1)
	d.after(time.Minute)
	d.now.Wall = d.now.Wall.Add(time.Hour)
	d.step(Tick{})
	n := len(d.starts)
	if n != 2 {
		t.Errorf("%d slots were started, not one before and one after", n)
	}
	jumped := 0
	for _, r := range d.records {
		if r.Reason == "clock jumped" {
			jumped += max(r.Count, 1)
		}
	}
	if jumped < 58 {
		t.Errorf("%d slots are missed because the clock jumped", jumped)
	}
	d.now.Wall = d.now.Wall.Add(-time.Hour)
	for range 59 {
		d.after(time.Minute)
	}
	if len(d.starts) != n {
		t.Errorf("after a step back %d slots were started again", len(d.starts)-n)
	}
}
