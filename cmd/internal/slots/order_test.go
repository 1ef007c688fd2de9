package slots

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

// A desk is a Core with the world around it: one clock, a ledger in memory, and
// a quorum that says yes unless told otherwise.
type desk struct {
	t        *testing.T
	node     string
	core     *Core
	now      legion.Now
	records  map[jobs.Key]jobs.Record
	marks    map[jobs.MarkKey]jobs.Mark
	gone     bool                     // other nodes are missed, and not for long
	refuse   bool                     // what is to be committed
	told     []jobs.Record            // by voters that are asked
	stranded []jobs.Record            // in the ledger, by whatever name
	asked    map[string][]jobs.Record // the last question
	replies  map[uint64]Reply
	starts   []jobs.Record
	lastID   uint64
	slow     bool      // writes are held
	dated    time.Time // the latest commit
	held     []heldWrite
	idle     bool

	disabled map[string]bool // jobs
}

var noon = time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)

func newDesk(t *testing.T, js ...jobs.Job) *desk {
	d := &desk{
		t: t, node: "n1", now: legion.Now{Boot: time.Hour, Raw: time.Hour, Wall: noon},
		records: map[jobs.Key]jobs.Record{}, marks: map[jobs.MarkKey]jobs.Mark{}, replies: map[uint64]Reply{},
	}
	d.core = d.newCore(js...)
	return d
}

// newCore is another node's, or this one's after a restart, with the same ledger.
func (d *desk) newCore(js ...jobs.Job) *Core {
	d.core = New(Config{
		Node: d.node, Incarnation: "i1", Earlier: []string{"i0"}, LostAfter: time.Minute, Ledger: d, Peers: d,
	}, d.now, rand.New(rand.NewPCG(1, d.lastID)))
	d.configure(js...)
	return d.core
}

func (d *desk) configure(js ...jobs.Job) {
	all := map[string]*Entry{}
	for _, j := range js {
		s, err := cronspec.ParseAll(j.Schedules, cronspec.Options{Location: time.UTC})
		if err != nil {
			d.t.Fatal(err)
		}
		j.Enabled = !d.disabled[j.Name]
		e := &Entry{Job: j, Schedule: s}
		all[e.Key()] = e
	}
	d.step(Configure{all})
}

func (d *desk) reign(term uint64, voters ...string) {
	a := legion.Reign{Legion: "g", Term: term}
	for _, v := range voters {
		a.States = append(a.States, legion.VoterState{Voter: v, Same: true})
	}
	d.step(Reign{a})
	d.step(Ready{Legion: "g", Term: term})
}

func (d *desk) after(delay time.Duration) {
	d.now.Boot, d.now.Raw, d.now.Wall = d.now.Boot+delay, d.now.Raw+delay, d.now.Wall.Add(delay)
	d.step(Tick{})
}

func (d *desk) step(ev Event) {
	for _, a := range d.core.Step(d.now, ev) {
		switch a := a.(type) {
		case Commit:
			d.dated = a.Dated
			if d.slow {
				d.held = append(d.held, heldWrite{a.ID, a.Batch})
				continue
			}
			if d.refuse {
				d.step(Done{ID: a.ID, Err: errors.New("no quorum")})
				continue
			}
			d.keep(a.Batch)
			d.step(Done{ID: a.ID})
		case Write:
			if d.slow {
				d.held = append(d.held, heldWrite{a.ID, a.Batch})
				continue
			}
			d.keep(a.Batch)
			d.step(Done{ID: a.ID})
		case Publish:
			d.keep(jobs.Batch{Records: a.Records})
		case AskVoters:
			d.asked = a.Questions
			for _, q := range a.Questions {
				if _, err := (jobs.Batch{Records: q}).Encode(); err != nil {
					d.t.Errorf("a question that cannot be asked: %v", err)
				}
			}
			d.step(Recalled{ID: a.ID, Records: d.told})
		case Start:
			d.starts = append(d.starts, a.Record)
		case Reply:
			d.replies[a.ID] = a
		case Idle:
			d.idle = true
		}
	}
}

func (d *desk) keep(b jobs.Batch) {
	for _, r := range b.Records {
		if old, ok := d.records[r.Key()]; ok {
			r = jobs.Merge(old, r)
		}
		d.records[r.Key()] = r.Normal()
	}
	for _, m := range b.Marks {
		if old, ok := d.marks[m.Key()]; ok {
			m = jobs.MergeMark(old, m)
		}
		d.marks[m.Key()] = m
	}
}

func (d *desk) Unsettled(legionName string) (b jobs.Batch) {
	for _, r := range d.records {
		if r.Slot.Legion == legionName && !r.State.Settled() {
			b.Records = append(b.Records, r)
		}
	}
	for _, m := range d.marks {
		if m.Legion == legionName {
			b.Marks = append(b.Marks, m)
		}
	}
	return b
}

func (d *desk) Slots(slots ...jobs.Slot) (found []jobs.Record, _ error) {
	wanted := map[jobs.Slot]bool{}
	for _, s := range slots {
		wanted[s] = true
	}
	for _, r := range d.records {
		if wanted[r.Slot] {
			found = append(found, r)
		}
	}
	return found, nil
}

func (d *desk) Stranded(string, time.Time, int) ([]jobs.Record, error) { return d.stranded, nil }
func (d *desk) Within(row jobs.Record, _ int) (found []jobs.Record, _ error) {
	for _, r := range d.records {
		if r.State.Settled() && r.Term == row.Term && r.Job == row.Job && r.At.After(row.At) && !r.At.After(row.To) {
			found = append(found, r)
		}
	}
	return found, nil
}
func (d *desk) Away(_, _ string, long time.Duration) bool { return d.gone && long == 0 }
func (d *desk) Dead(string) bool                          { return false }

// order gives an order and returns what is said to it at once; the zero Reply: nothing.
func (d *desk) order(ev func(id uint64) Event) Reply {
	d.lastID++
	d.step(ev(d.lastID))
	return d.replies[d.lastID]
}

func (d *desk) trigger(job string) Reply {
	return d.order(func(id uint64) Event { return Trigger{ID: id, Legion: "g", Job: job} })
}

func (d *desk) exec(at time.Time) Reply {
	return d.order(func(id uint64) Event { return Exec{ID: id, Legion: "g", Job: "script", At: at, Definition: "x"} })
}

func (d *desk) pause(p jobs.Pause) Reply {
	p.Legion = "g"
	return d.order(func(id uint64) Event { return SetPause{ID: id, Pause: p} })
}

func (d *desk) end(rec jobs.Record, state jobs.State) jobs.Record {
	rec.State, rec.Ended = state, d.now.Wall
	d.keep(jobs.Batch{Records: []jobs.Record{rec}})
	d.step(Ended{rec})
	return rec
}

func (d *desk) outcomes(job string, state jobs.State) (n int) {
	for _, r := range d.records {
		if r.Job == job && r.State == state {
			n++
		}
	}
	return n
}

var minutely = jobs.Job{Name: "j", Legion: "g", Schedules: []string{"* * * * *"}, Overlap: jobs.OverlapSkip, CatchUp: jobs.CatchUpDefault}

func TestTrigger(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	if r := d.trigger("j"); !errors.Is(r.Err, ErrNotLord) {
		t.Fatalf("elsewhere: %v", r.Err)
	}
	d.reign(7)
	if r := d.trigger("k"); !errors.Is(r.Err, ErrNoJob) {
		t.Errorf("unknown: %v", r.Err)
	}
	r := d.trigger("j")
	if r.Err != nil || len(d.starts) != 1 || d.starts[0] != r.Record || !r.Record.Manual || r.Record.Slot.Manual == "" || r.Record.Term != 7 {
		t.Fatalf("reply %+v, started %v", r, d.starts)
	}
	if r := d.trigger("j"); !errors.Is(r.Err, ErrBusy) || r.Err.Error() != "overlap" {
		t.Errorf("while it runs: %v", r.Err)
	}
	d.end(r.Record, jobs.Succeeded)
	if r := d.trigger("j"); r.Err != nil {
		t.Errorf("after it: %v", r.Err)
	}
	if n := d.outcomes("j", jobs.Skipped); n != 0 {
		t.Errorf("%d slots of refused orders", n)
	}
}

// TestOrderEndsWithTheReign: what is not committed is answered with no, and its
// claim is never started.
func TestOrderEndsWithTheReign(t *testing.T) {
	t.Parallel()
	for _, order := range []func(d *desk) Reply{
		func(d *desk) Reply { return d.trigger("j") },
		func(d *desk) Reply { return d.exec(noon) },
	} {
		d := newDesk(t, minutely)
		d.reign(7)
		d.refuse = true
		if r := order(d); r.ID != 0 {
			t.Fatalf("answered %+v before it is committed", r)
		}
		d.step(Unreign{legion.Unreign{Legion: "g", Term: 7}})
		if r := d.replies[d.lastID]; !errors.Is(r.Err, ErrNotLord) || len(d.starts) != 0 {
			t.Errorf("answered %+v, started %v", r, d.starts)
		}
		if n := d.outcomes("j", jobs.NeverStarted) + d.outcomes("script", jobs.NeverStarted); n != 1 {
			t.Errorf("%d claims are recorded as never started: %v", n, d.records)
		}
	}
}

// TestExecOnce: a slot of a command is claimed once, whoever reigns and in
// whatever order the hosts come, and never one behind it.
func TestExecOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	d.reign(7)
	minute := noon.Truncate(time.Minute)
	first := d.exec(minute)
	if first.Err != nil || first.Record.State != jobs.Claimed || !first.Record.Slot.At.Equal(minute) || len(d.starts) != 0 {
		t.Fatalf("first: %+v", first)
	}
	if taken, err := d.core.Taken("g", "script", minute); !taken || err != nil {
		t.Errorf("taken %v, %v", taken, err)
	}
	d.end(first.Record, jobs.Succeeded)
	for _, at := range []time.Time{minute, minute.Add(-time.Minute)} {
		if r := d.exec(at); !errors.Is(r.Err, ErrTaken) {
			t.Errorf("again at %v: %+v", at, r)
		}
	}
	if r := d.exec(d.now.Wall.Add(legion.MaxAhead + time.Second)); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("a slot that is yet to come: %+v", r)
	}
	// Another lord knows it by the mark alone: the run is settled.
	d.newCore(minutely)
	if _, err := d.core.Taken("g", "script", minute); !errors.Is(err, ErrNotLord) {
		t.Errorf("taken, as nobody says: %v", err)
	}
	d.reign(8)
	if r := d.exec(minute); !errors.Is(r.Err, ErrTaken) {
		t.Errorf("under another lord: %+v", r)
	}
	d.after(time.Minute)
	if r := d.exec(minute.Add(time.Minute)); r.Err != nil || r.Record.Term != 8 {
		t.Errorf("the next slot: %+v", r)
	}
	// Until a quorum has the claim nobody is told that it is taken.
	d.after(time.Minute)
	d.refuse = true
	next := minute.Add(2 * time.Minute)
	d.exec(next)
	if taken, _ := d.core.Taken("g", "script", next); taken {
		t.Error("taken by a claim that no quorum has")
	}
	d.refuse = false
	d.after(commitRetry)
	if taken, _ := d.core.Taken("g", "script", next); !taken || d.replies[d.lastID].Err != nil {
		t.Errorf("not taken when committed: %+v", d.replies[d.lastID])
	}
	if r := d.order(func(id uint64) Event { return Exec{ID: id, Legion: "g", Job: "j", At: next} }); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("in the name of a configured job: %+v", r)
	}
}

// TestExecOfNonsense: what no ledger would take is refused, and holds up nothing.
func TestExecOfNonsense(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	d.reign(7)
	for _, ev := range []Exec{
		{Legion: "g", Job: "script", At: noon, Definition: strings.Repeat("x", jobs.MaxName+1)},
		{Legion: "g", Job: "script", Definition: "\xff"},
		{Legion: "g", Job: "script", At: time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), Definition: "x"},
	} {
		r := d.order(func(id uint64) Event { ev.ID = id; return ev })
		if !errors.Is(r.Err, ErrBusy) {
			t.Errorf("%v %.10q: %+v", ev.At, ev.Definition, r)
		}
	}
	if d.outcomes("script", jobs.Claimed) != 0 {
		t.Errorf("written: %v", d.records)
	}
}

// TestExecAgain: a slot of a command whose claim was committed, and never
// started because its lordship ended in between, is claimed again. Until that is
// known nobody is told that it is taken.
func TestExecAgain(t *testing.T) {
	t.Parallel()
	minute := noon.Truncate(time.Minute)
	d := newDesk(t, minutely)
	d.reign(7)
	d.hold()
	d.exec(minute)
	if r := d.exec(minute); !errors.Is(r.Err, ErrUnclear) {
		t.Errorf("while it is being claimed: %+v", r)
	}
	d.keep(d.held[0].batch) // and the answer never comes
	claim := d.held[0].batch.Records[0]
	d.slow, d.held = false, nil
	taken := func() bool {
		taken, err := d.core.Taken("g", "script", minute)
		return taken || err != nil
	}
	// The next lord hears of the claim first, and then that it never started.
	claim.Node, claim.Incarnation, claim.Run = "n2", "i2", "another"
	d.records = map[jobs.Key]jobs.Record{claim.Key(): claim}
	d.newCore(minutely)
	d.reign(8, "n2", "n3")
	if r := d.exec(minute); !errors.Is(r.Err, ErrUnclear) || taken() {
		t.Errorf("as long as its node has not said: %+v, taken %v", r, taken())
	}
	said := claim
	said.State, said.Ended = jobs.NeverStarted, d.now.Wall
	d.step(Told{Asked: claim, Said: said})
	if taken() {
		t.Error("taken by a claim that never started")
	}
	second := d.exec(minute)
	if second.Err != nil || second.Record.Attempt != 2 || second.Record.Term != 8 || len(d.asked["n3"]) != 1 || !taken() {
		t.Fatalf("again: %+v, asked %v, taken %v", second, d.asked, taken())
	}
	if r := d.exec(minute); !errors.Is(r.Err, ErrTaken) {
		t.Errorf("and once more: %+v", r)
	}
	// A lord that knows nothing of the slot but the mark asks.
	d.end(second.Record, jobs.Succeeded)
	told := d.records
	for _, rec := range told {
		d.told = append(d.told, rec)
	}
	d.records = map[jobs.Key]jobs.Record{}
	d.newCore(minutely)
	d.reign(9, "n2", "n3")
	if r := d.exec(minute); !errors.Is(r.Err, ErrTaken) {
		t.Errorf("when it has run: %+v", r)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	other := minutely
	other.Name = "other"
	d := newDesk(t, minutely, other)
	d.reign(7)
	d.after(time.Minute)
	for _, rec := range d.starts {
		d.end(rec, jobs.Succeeded)
	}
	started := len(d.starts)
	if r := d.pause(jobs.Pause{Job: "j", On: true, Until: d.now.Wall.Add(150 * time.Second)}); r.Err != nil {
		t.Fatal(r.Err)
	}
	minute := func() {
		d.after(time.Minute)
		for _, rec := range d.starts[started:] {
			if rec.Job == "j" && !rec.Manual {
				t.Errorf("started %v", rec)
			}
			d.end(rec, jobs.Succeeded)
		}
		started = len(d.starts)
	}
	minute()
	if n := d.outcomes("j", jobs.Skipped); n != 1 || d.outcomes("other", jobs.Skipped) != 0 {
		t.Errorf("%d slots are skipped", n)
	}
	if r := d.trigger("j"); r.Err != nil {
		t.Errorf("by hand: %v", r.Err)
	}
	// It outlives the lord.
	d.newCore(minutely, other)
	d.reign(8)
	minute()
	if n := d.outcomes("j", jobs.Skipped); n != 2 {
		t.Errorf("%d slots are skipped under the next lord", n)
	}
	if v := d.core.Jobs(); !v[0].Pause.On || v[1].Pause.On {
		t.Errorf("views %+v", v)
	}
	d.after(time.Minute) // Until has passed
	if d.outcomes("j", jobs.Claimed) != 1 || d.outcomes("j", jobs.Skipped) != 2 {
		t.Errorf("not started after its end: %v", d.records)
	}
	// The whole legion, and back; a clock that is behind changes nothing.
	d.pause(jobs.Pause{On: true})
	d.now.Wall = d.now.Wall.Add(-time.Second)
	d.newCore(minutely, other)
	d.reign(9)
	if v := d.core.Jobs(); !v[0].Pause.On || !v[1].Pause.On {
		t.Errorf("views %+v", v)
	}
	d.pause(jobs.Pause{})
	d.newCore(minutely, other)
	d.reign(10)
	if v := d.core.Jobs(); v[0].Pause.On || v[1].Pause.On {
		t.Errorf("views %+v", v)
	}
}

// TestRerun: the next attempt, whatever this lord knows of those before.
func TestRerun(t *testing.T) {
	t.Parallel()
	d := newDesk(t, minutely)
	d.reign(7, "n2", "n3")
	run := d.trigger("j").Record
	rerun := func(rec jobs.Record) Reply { return d.order(func(id uint64) Event { return Rerun{ID: id, Run: rec} }) }
	if r := rerun(run); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("while it runs: %+v", r)
	}
	run = d.end(run, jobs.Failed)
	r := rerun(run)
	if r.Err != nil || r.Record.Attempt != 2 || r.Record.Slot != run.Slot || !r.Record.Manual {
		t.Fatalf("rerun: %+v", r)
	}
	if len(d.asked["n2"]) != 1 || len(d.asked["n3"]) != 1 {
		t.Errorf("asked %v", d.asked)
	}
	d.end(r.Record, jobs.Succeeded)
	third := r.Record
	third.Attempt, third.Run, third.State = 3, "another", jobs.Succeeded
	d.told = []jobs.Record{third} // this lord was away
	if r := rerun(run); r.Err != nil || r.Record.Attempt != 4 {
		t.Errorf("rerun after what a voter tells: %+v", r)
	}
	// An attempt that no quorum had, of a slot that a later lord has missed.
	void := third
	void.Slot = jobs.Slot{Legion: "g", Job: "j", At: noon.Truncate(time.Minute)}
	void.Attempt, void.Run, void.State, void.Term = 1, "void", jobs.NeverStarted, 5
	missed := void
	missed.Attempt, missed.Run, missed.State, missed.Term = 0, "", jobs.Missed, 6
	d.told = []jobs.Record{missed}
	if r := rerun(void); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("rerun of what is void: %+v", r)
	}
	void.Slot.At = noon.Truncate(time.Minute).Add(time.Hour) // its lord's clock was ahead
	d.told = nil
	if r := rerun(void); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("rerun of a slot that is yet to come: %+v", r)
	}
}

// TestLostWithItsReign: a run that must have ended with an earlier reign is
// lost as soon as its node is missed; another waits for lost_after.
func TestLostWithItsReign(t *testing.T) {
	t.Parallel()
	kill, finish := minutely, minutely
	kill.Name, kill.OnUnlord = "kill", jobs.OnUnlordKill
	finish.Name = "finish"
	d := newDesk(t, kill, finish)
	for _, j := range []jobs.Job{kill, finish} {
		j.Enabled = true
		d.keep(jobs.Batch{Records: []jobs.Record{{
			Slot: jobs.Slot{Legion: "g", Job: j.Name, At: noon.Truncate(time.Minute)}, Attempt: 1, Run: j.Name, State: jobs.Running,
			Term: 6, Node: "n2", Incarnation: "i2", Definition: j.Definition(), Scheduled: noon.Truncate(time.Minute),
		}}})
	}
	d.reign(7)
	d.after(2 * time.Second)
	if n := d.outcomes("kill", jobs.Lost); n != 0 {
		t.Errorf("lost though its node is there")
	}
	d.gone = true
	d.after(2 * time.Second)
	if d.outcomes("kill", jobs.Lost) != 1 || d.outcomes("finish", jobs.Lost) != 0 {
		t.Errorf("records %v", d.records)
	}
}
