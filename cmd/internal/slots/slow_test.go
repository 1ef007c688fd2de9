package slots

import (
	"slices"
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

// TestReloadTwice: a job that has no past yet begins, however often the
// configuration is read while its first mark is written.
func TestReloadTwice(t *testing.T) {
	t.Parallel()
	for _, j := range []jobs.Job{minutely, ownJob} {
		d := newDesk(t)
		d.reign(7)
		d.hold()
		d.configure(j)
		d.configure(j) // again, and the same
		d.release()
		d.after(time.Minute)
		if len(d.starts) != 1 {
			t.Errorf("%s: started %v", j.Name, d.starts)
		}
		// The first mark of a timing that is gone begins nothing.
		d.starts = nil
		soon, late := j, j
		soon.Schedules, late.Schedules = []string{"*/2 * * * *"}, []string{"30 12 * * *"}
		d.hold()
		d.configure(soon)
		d.configure(late)
		d.release()
		if d.after(5 * time.Minute); len(d.starts) != 0 {
			t.Errorf("%s, after another schedule: started %v", j.Name, d.starts)
		}
		// It changes, and back, and a slot comes while the last mark is written.
		d = newDesk(t)
		d.reign(7)
		d.hold()
		d.configure(soon)
		d.configure(late)
		d.configure(soon)
		d.step(d.letOne())
		d.after(2 * time.Minute)
		d.release()
		d.after(time.Second)
		if len(d.starts) != 1 {
			t.Errorf("%s, there and back: started %v", j.Name, d.starts)
		}
	}
}

// TestCloseWhileClaiming: a command whose claim is not answered when the agent
// is told to stop is never run, and is not waited for.
func TestCloseWhileClaiming(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	d.reign(7)
	run := d.trigger("j").Record
	d.hold()
	d.exec(noon.Truncate(time.Minute))
	d.step(Close{})
	if d.release(); d.idle {
		t.Fatal("idle while a run lives")
	}
	if d.end(run, jobs.Succeeded); !d.idle {
		t.Error("not idle when the last run has ended")
	}
	if n := d.outcomes("script", jobs.NeverStarted); n != 1 {
		t.Errorf("%d commands are recorded as never started: %v", n, d.records)
	}
}

// TestWakeWhileStopping: an agent that waits for its last runs does nothing else.
func TestWakeWhileStopping(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	d.reign(7)
	d.trigger("j")
	d.step(Close{})
	if d.after(2 * time.Minute); d.core.Wake(d.now) < time.Second {
		t.Errorf("wakes after %v", d.core.Wake(d.now))
	}
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
	earlier := other
	earlier.State, earlier.Term = jobs.NeverStarted, other.Term-1
	d.keep(jobs.Batch{Records: []jobs.Record{earlier}})
	if said := d.core.Account(d.now.Wall, other); len(said) != 1 || said[0].State != jobs.NeverStarted || said[0].Term != other.Term {
		t.Errorf("of a claim of what was queued, and claimed before: %v", said)
	}
	delete(d.records, other.Key())
	other.State = jobs.Running
	if said := d.core.Account(d.now.Wall, other); len(said) != 0 {
		t.Errorf("of a run that others have seen: %v", said)
	}
	other.State, other.Incarnation = jobs.Claimed, "before the disk was lost"
	if said := d.core.Account(d.now.Wall, other); len(said) != 0 {
		t.Errorf("of a claim that was perhaps on the disk that was lost: %v", said)
	}
}

// TestEndOfAnEarlierClaim: what became of an earlier claim of a queued slot, and
// comes to light while it is claimed anew, does not end the new claim.
func TestEndOfAnEarlierClaim(t *testing.T) {
	t.Parallel()
	job := minutely
	job.Overlap = jobs.OverlapQueue
	d := newDesk(t, job)
	queued := jobs.Record{
		Slot: jobs.Slot{Legion: "g", Job: job.Name, At: noon.Truncate(time.Minute)}, Attempt: 1, Run: "r", State: jobs.Queued, Term: 3,
		Node: "n2", Incarnation: "i2", Definition: job.Definition(), Scheduled: noon.Truncate(time.Minute),
	}
	d.keep(jobs.Batch{
		Records: []jobs.Record{queued},
		Marks:   []jobs.Mark{{Legion: "g", Job: job.Name, Timing: job.Timing(), At: queued.At, Term: 3}},
	})
	d.hold()
	d.reign(7)
	d.step(Tick{})
	early := queued // claimed by a lord whom no quorum heard
	early.State, early.Term, early.Reason = jobs.NeverStarted, 5, "the lordship ended before it was started"
	d.keep(jobs.Batch{Records: []jobs.Record{early}})
	d.step(Observed{[]jobs.Record{early}})
	d.release()
	if len(d.starts) != 1 || d.starts[0].Attempt != 1 || d.starts[0].Term != 7 {
		t.Errorf("started %v", d.starts)
	}
}

// TestClaimOfAnEarlierAgent: a claim of this node's before it was started again,
// which a quorum has taken and this disk had not, was never started: what is started
// is written down here first. So its slot goes on. Of one on a disk that was lost
// nobody can say so.
func TestClaimOfAnEarlierAgent(t *testing.T) {
	t.Parallel()
	for incarnation, want := range map[string]jobs.State{"i0": jobs.NeverStarted, "before the disk was lost": jobs.Claimed} {
		d := newDesk(t, minutely)
		claim := jobs.Record{
			Slot: jobs.Slot{Legion: "g", Job: minutely.Name, At: noon.Truncate(time.Minute)}, Attempt: 1, Run: "r", State: jobs.Claimed, Term: 6,
			Node: d.node, Incarnation: incarnation, Definition: minutely.Definition(), Scheduled: noon.Truncate(time.Minute),
		}
		state, err := jobs.Batch{
			Records: []jobs.Record{claim},
			Marks:   []jobs.Mark{{Legion: "g", Job: minutely.Name, Timing: minutely.Timing(), At: claim.At, Term: 6}},
		}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		d.step(Reign{legion.Reign{Legion: "g", Term: 7, States: []legion.VoterState{{Voter: "n2", State: state}}}})
		d.step(Ready{Legion: "g", Term: 7})
		if got := d.records[claim.Key()]; got.State != want {
			t.Errorf("of %s: it is %v", incarnation, got)
		}
		if went := len(d.starts) == 1 && d.starts[0].Slot == claim.Slot && d.starts[0].Attempt == 2; went != (want == jobs.NeverStarted) {
			t.Errorf("of %s: started %v", incarnation, d.starts)
		}
	}
}

// TestEndIsOnItsWay: a run that has ended here is not taken for alive by the
// next reign, though its end is not on the disk yet.
func TestEndIsOnItsWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	d.reign(7)
	run := d.trigger("j").Record
	run.State, run.Started = jobs.Running, d.now.Wall
	d.keep(jobs.Batch{Records: []jobs.Record{run}})
	d.step(Unreign{legion.Unreign{Legion: "g", Term: 7}})
	run.State, run.Ended = jobs.Succeeded, d.now.Wall
	d.step(Ended{run}) // and the disk takes its time
	d.reign(8)
	d.keep(jobs.Batch{Records: []jobs.Record{run}})
	d.starts = nil
	if d.after(time.Minute); len(d.starts) != 1 {
		t.Errorf("started %v", d.starts)
	}
}

// TestTold: what this node alone has of others' runs is told to a quorum, as is
// the mark that came with it.
func TestTold(t *testing.T) {
	t.Parallel()
	for _, state := range []jobs.State{jobs.Queued, jobs.Claimed, jobs.Running} {
		d := newDesk(t, minutely)
		rec := jobs.Record{
			Slot: jobs.Slot{Legion: "g", Job: "j", At: noon.Truncate(time.Minute)}, Attempt: 1, Run: "r", State: state, Term: 6,
			Node: "n2", Incarnation: "i2", Definition: minutely.Definition(), Scheduled: noon.Truncate(time.Minute),
		}
		mark := jobs.Mark{Legion: "g", Job: "j", Timing: minutely.Timing(), At: rec.At, Term: 6}
		d.keep(jobs.Batch{Records: []jobs.Record{rec}, Marks: []jobs.Mark{mark}})
		nothing, err := jobs.Batch{}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		d.hold()
		d.step(Reign{legion.Reign{Legion: "g", Term: 7, States: []legion.VoterState{{Voter: "n2", State: nothing}}}})
		d.step(Ready{Legion: "g", Term: 7})
		if len(d.held) == 0 || !slices.Contains(d.held[0].batch.Records, rec.Normal()) {
			t.Errorf("%v: written %v", rec, d.held)
		}
	}
}

// TestOccasions: a job that both begins of a reign and the start of the agent
// call has one run at the first of them.
func TestOccasions(t *testing.T) {
	t.Parallel()
	both := minutely
	both.Schedules, both.Overlap = []string{"@lord", "@start"}, jobs.OverlapAllow
	d := newDesk(t, both)
	d.reign(7)
	if len(d.starts) != 1 {
		t.Errorf("at first: started %v", d.starts)
	}
	d.step(Unreign{legion.Unreign{Legion: "g", Term: 7}})
	d.after(time.Second)
	if d.reign(8); len(d.starts) != 2 {
		t.Errorf("and again: started %v", d.starts)
	}
}

// TestWritesAreBounded: what piles up while a write is under way is not made
// one write that no message can carry.
func TestWritesAreBounded(t *testing.T) {
	t.Parallel()
	var js []jobs.Job
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x"} {
		js = append(js, jobs.Job{
			Name: name, Legion: "g", Schedules: []string{"@every 1s"}, CatchUp: time.Hour, CatchUpRuns: jobs.CatchUpAll,
		})
	}
	d := newDesk(t, js...)
	d.reign(7)
	d.hold()
	for range 3 {
		d.after(1000 * time.Second)
	}
	most, all := 0, 0
	for len(d.held) > 0 {
		n := len(d.held[0].batch.Records)
		most, all = max(most, n), all+n
		d.step(d.letOne())
	}
	if want := 3 * 1000 * len(js); all < want || most > maxDecision+maxCatchUp+1 {
		t.Errorf("of %d slots %d are written, %d at once", want, all, most)
	}
}
