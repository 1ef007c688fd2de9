package slots

import (
	"errors"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// TestMarkOfOneVoter: a lord that one voter alone tells of a mark begins after
// it, asks that voter what its slots were decided to be, and writes both once
// more, in its own term. Until it knows that it writes no mark of others.
func TestMarkOfOneVoter(t *testing.T) {
	t.Parallel()
	job := minutely
	d := newDesk(t, job)
	minute := func(n int) time.Time { return noon.Truncate(time.Minute).Add(time.Duration(n) * time.Minute) }
	mark := func(n int, term uint64) jobs.Mark {
		return jobs.Mark{Legion: "g", Job: job.Name, Timing: job.Timing(), At: minute(n), Term: term}
	}
	d.keep(jobs.Batch{Marks: []jobs.Mark{mark(-5, 5)}})
	d.told = []jobs.Record{
		{Slot: jobs.Slot{Legion: "g", Job: job.Name, At: minute(-4)}, State: jobs.Missed, Reason: "no lord", Term: 6, To: minute(-2), Count: 3},
		{Slot: jobs.Slot{Legion: "g", Job: job.Name, At: minute(-1)}, State: jobs.Skipped, Reason: "overlap", Term: 6},
	}
	state, err := jobs.Batch{Marks: []jobs.Mark{mark(-1, 6)}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	states := []legion.VoterState{{Voter: d.node, Same: true}, {Voter: "n2", State: state}, {Voter: "n3", Same: true}}
	for _, a := range d.core.Step(d.now, Reign{legion.Reign{Legion: "g", Term: 8, States: states}}) {
		switch a := a.(type) {
		case AskVoters:
			q := a.Questions["n2"]
			if len(a.Questions) != 1 || len(q) != 1 || q[0].Count < 2 || !q[0].At.Equal(minute(-5)) || !q[0].To.Equal(minute(-1)) || q[0].Term != 6 {
				t.Fatalf("asks %v", a.Questions)
			}
			d.step(Recalled{ID: a.ID, Records: d.told})
		case Write:
			t.Errorf("writes %v before it has asked", a.Batch)
		}
	}
	d.step(Ready{Legion: "g", Term: 8})
	for _, want := range d.told {
		if got, ok := d.records[want.Key()]; !ok || got.Term != 8 || got.State != want.State {
			t.Errorf("%v: stands as %v", want, got)
		}
	}
	if m := d.marks[mark(0, 0).Key()]; m.Term != 8 || !m.At.Equal(minute(0)) {
		t.Errorf("the mark is %v in term %d", m.At, m.Term)
	}
	if len(d.starts) != 1 || !d.starts[0].At.Equal(minute(0)) {
		t.Errorf("started %v", d.starts)
	}
}

// TestGoesOnOnlyIfAsked: a slot that may go on by a clock that was set back, or by
// a configuration that came later, does not: no voter was asked about it.
func TestGoesOnOnlyIfAsked(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	d.stranded = []jobs.Record{{
		Slot: jobs.Slot{Legion: "g", Job: minutely.Name, At: noon.Truncate(time.Minute).Add(-time.Hour)}, Attempt: 1, Run: "r1", Term: 3,
		State: jobs.NeverStarted, Node: "n2", Incarnation: "i2", Scheduled: noon.Truncate(time.Minute).Add(-time.Hour),
	}}
	d.keep(jobs.Batch{Records: d.stranded, Marks: []jobs.Mark{{Legion: "g", Job: minutely.Name, Timing: minutely.Timing(), At: noon, Term: 3}}})
	d.step(Reign{legion.Reign{Legion: "g", Term: 8, States: []legion.VoterState{{Voter: d.node, Same: true}, {Voter: "n2", Same: true}}}})
	d.now.Wall = d.now.Wall.Add(-time.Hour)
	d.step(Ready{Legion: "g", Term: 8})
	if len(d.starts) != 0 {
		t.Errorf("started %v", d.starts)
	}
}

// TestMarkGoesWithTheNextAttempt: whoever goes on with a slot has the mark written
// with it, in its own term: that of the lord before may be on one disk alone, and a
// lord that knows neither would decide about the slot once more.
func TestMarkGoesWithTheNextAttempt(t *testing.T) {
	t.Parallel()
	job := minutely
	job.Retries = 1
	d := newDesk(t, job)
	d.reign(7)
	d.after(30 * time.Second)
	mark := jobs.MarkKey{Legion: "g", Job: job.Name}
	if len(d.starts) != 1 {
		t.Fatalf("started %v", d.starts)
	}
	slot := d.starts[0].At
	delete(d.marks, mark)
	d.end(d.starts[0], jobs.Failed)
	d.after(time.Second)
	if m, ok := d.marks[mark]; len(d.starts) != 2 || !ok || !m.At.Equal(slot) || m.Term != 7 {
		t.Errorf("started %v, with the mark %v", d.starts, m)
	}
}

// TestNotBeforeItsTime: a slot that is yet to come, claimed and given up by a lord
// whose clock was ahead, does not go on, on its job's schedule or not.
func TestNotBeforeItsTime(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	at := noon.Truncate(time.Minute).Add(time.Hour + 7*time.Second)
	d.stranded = []jobs.Record{{
		Slot: jobs.Slot{Legion: "g", Job: minutely.Name, At: at}, Attempt: 1, Run: "r1", Term: 3,
		State: jobs.NeverStarted, Node: "n2", Incarnation: "i2", Scheduled: at,
	}}
	d.keep(jobs.Batch{Records: d.stranded, Marks: []jobs.Mark{{Legion: "g", Job: minutely.Name, Timing: minutely.Timing(), At: noon, Term: 3}}})
	if d.reign(8, "n2"); len(d.starts) != 0 {
		t.Errorf("started %v", d.starts)
	}
}

// TestRerunOfWhatIsBeingWritten: an attempt is not run again whose slot is being
// written off at this moment.
func TestRerunOfWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	job := minutely
	job.Overlap = jobs.OverlapAllow
	d := newDesk(t, job)
	minute := noon.Truncate(time.Minute)
	never := jobs.Record{
		Slot: jobs.Slot{Legion: "g", Job: job.Name, At: minute.Add(-2 * time.Minute)}, Attempt: 1, Run: "r1", Term: 3,
		State: jobs.NeverStarted, Node: "n2", Incarnation: "i2", Scheduled: minute.Add(-2 * time.Minute), Definition: job.Definition(),
	}
	d.keep(jobs.Batch{Records: []jobs.Record{never}, Marks: []jobs.Mark{{Legion: "g", Job: job.Name, Timing: job.Timing(), At: minute.Add(-3 * time.Minute), Term: 3}}})
	d.hold()
	d.reign(8)
	d.step(Tick{}) // its slot is missed, and that is on its way to a quorum
	if r := d.order(func(id uint64) Event { return Rerun{ID: id, Run: never} }); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("run again: %+v", r)
	}
}

// TestRowsOfOneVoter: after a long time without a lord one write decides about what
// is too late in one row, and what is in time in another; both are asked for.
func TestRowsOfOneVoter(t *testing.T) {
	t.Parallel()
	job := minutely
	job.CatchUp = time.Hour
	d := newDesk(t, job)
	minute := func(n int) time.Time { return noon.Truncate(time.Minute).Add(time.Duration(n) * time.Minute) }
	mark := func(n int, term uint64) jobs.Mark {
		return jobs.Mark{Legion: "g", Job: job.Name, Timing: job.Timing(), At: minute(n), Term: term}
	}
	d.keep(jobs.Batch{Marks: []jobs.Mark{mark(-100, 5)}})
	state, err := jobs.Batch{Marks: []jobs.Mark{mark(-1, 6)}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	states := []legion.VoterState{{Voter: d.node, Same: true}, {Voter: "n2", State: state}, {Voter: "n3", Same: true}}
	late := jobs.Record{Slot: jobs.Slot{Legion: "g", Job: job.Name, At: minute(-99)}, State: jobs.Missed, Reason: "no lord", Term: 6, To: minute(-62), Count: 38}
	in := jobs.Record{Slot: jobs.Slot{Legion: "g", Job: job.Name, At: minute(-61)}, State: jobs.Missed, Reason: "superseded", Term: 6, To: minute(-2), Count: 60}
	asked := false
	for _, a := range d.core.Step(d.now, Reign{legion.Reign{Legion: "g", Term: 8, States: states}}) {
		if a, ok := a.(AskVoters); ok {
			asked = true
			q := a.Questions["n2"]
			if len(q) != 1 || !q[0].At.Before(late.To) || !q[0].At.After(late.At) {
				t.Fatalf("asks %v, which finds no row that ends at %v", q, late.To)
			}
			d.step(Recalled{ID: a.ID, Records: []jobs.Record{late, in}})
		}
	}
	if !asked {
		t.Fatal("asks nobody")
	}
	d.step(Ready{Legion: "g", Term: 8})
	for _, want := range []jobs.Record{late, in} {
		if got, ok := d.records[want.Key()]; !ok || got.Term != 8 || got.State != want.State {
			t.Errorf("%v: stands as %v", want, got)
		}
	}
}
