package slots

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// TestQueueFull: whatever piles up behind runs that do not end, a voter can
// tell the next lord of it, and what is beyond has an outcome.
func TestQueueFull(t *testing.T) {
	t.Parallel()
	const rows = 40
	var js []jobs.Job
	for i := range rows {
		js = append(js, jobs.Job{
			Name: fmt.Sprint("j", i), Legion: "g", Schedules: []string{"@every 1s"},
			Overlap: jobs.OverlapQueueAll, CatchUp: time.Hour, CatchUpRuns: jobs.CatchUpAll,
		})
	}
	d := newDesk(t, js...)
	d.after(time.Second / 2) // nothing is due when they are first seen
	d.reign(7)
	d.after(time.Second)
	if len(d.starts) != rows {
		t.Fatalf("%d runs started", len(d.starts))
	}
	first := slices.Clone(d.starts)
	d.after(999 * time.Second) // and nothing ends
	full := 0
	for _, r := range d.records {
		if r.State == jobs.Skipped && r.Reason == "queue full" {
			full++
		}
	}
	unsettled := d.Unsettled("g")
	if len(unsettled.Records) != jobs.MaxUnsettled || full != 1000*rows-jobs.MaxUnsettled {
		t.Fatalf("%d unsettled and %d skipped of %d slots", len(unsettled.Records), full, len(d.records))
	}
	if _, err := unsettled.Encode(); err != nil {
		t.Error(err)
	}
	if r := d.order(func(id uint64) Event { return Exec{ID: id, Legion: "g", Job: "script", Definition: "x"} }); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("a command: %v", r.Err)
	}
	for _, r := range first { // the next of its row is claimed: still one place is free for each
		d.end(r, jobs.Succeeded)
	}
	if r := d.trigger("j0"); r.Err != nil {
		t.Errorf("when there is room: %v", r.Err)
	}
	// What was taken over counts, too.
	d.newCore(js...)
	d.reign(8)
	last := Reply{}
	for range 2 * rows {
		last = d.trigger("j39")
	}
	if n := len(d.Unsettled("g").Records); n != jobs.MaxUnsettled || !errors.Is(last.Err, ErrBusy) || last.Err.Error() != "queue full" {
		t.Errorf("%d unsettled under the next lord, the last order: %v", n, last.Err)
	}
}

// TestManyCommands: commands of ever new names do not fill what a voter tells.
func TestManyCommands(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for i := range maxCommands {
		m := jobs.Mark{Legion: "g", Job: fmt.Sprint("c", i), Timing: execTiming, At: noon.Truncate(time.Minute), Term: 6}
		d.marks[m.Key()] = m
	}
	d.reign(7)
	if r := d.exec(noon); !errors.Is(r.Err, ErrBusy) {
		t.Errorf("one more: %+v", r)
	}
	exec := func(job string, at time.Time) Reply {
		return d.order(func(id uint64) Event { return Exec{ID: id, Legion: "g", Job: job, At: at, Definition: "x"} })
	}
	if r := exec("c7", noon); r.Err != nil {
		t.Errorf("one that is known: %+v", r)
	}
	if r := exec("new", time.Time{}); r.Err != nil {
		t.Errorf("one without a slot: %+v", r)
	}
}

// TestUnsettledFit: what a voter tells, and what is written at once, fits a
// batch with names as long as a configuration may have them.
func TestUnsettledFit(t *testing.T) {
	t.Parallel()
	long := func(c byte) string { return strings.Repeat(string(c), 64) }
	id := "01234567-0123-7123-8123-0123456789ab"
	var b jobs.Batch
	mark := jobs.Mark{Legion: long('l'), Timing: id[:16], At: noon, Term: 1 << 40}
	for i := range 10_000 {
		mark.Job = fmt.Sprintf("%064d", i)
		b.Marks = append(b.Marks, mark)
	}
	for i := range jobs.MaxUnsettled {
		b.Records = append(b.Records, jobs.Record{
			Slot:    jobs.Slot{Legion: long('l'), Job: long('j'), Manual: id},
			Attempt: i, Run: id, State: jobs.Running, Term: 1 << 40, Node: long('n'), Incarnation: id, Definition: id[:16],
			Scheduled: noon, Started: noon, Manual: true,
		})
	}
	if _, err := b.Encode(); err != nil {
		t.Error(err)
	}
	one := maxDecision + maxCatchUp + 1
	b = jobs.Batch{Records: b.Records[:one], Marks: append(b.Marks, b.Marks...)}
	if _, err := b.Encode(); err != nil {
		t.Error(err)
	}
}

// TestLongestWaitFirst: where slots of several jobs wait for one mutex, no job goes
// before another with a slot that is older.
func TestLongestWaitFirst(t *testing.T) {
	t.Parallel()
	var js []jobs.Job
	for _, name := range []string{"a", "z"} {
		j := minutely
		j.Name, j.Mutex, j.Overlap = name, "m", jobs.OverlapQueueAll
		js = append(js, j)
	}
	d := newDesk(t, js...)
	const want = "azzaza"
	for i, name := range want {
		at := noon.Truncate(time.Minute).Add(time.Duration(i-10) * time.Minute)
		d.keep(jobs.Batch{Records: []jobs.Record{{
			Slot: jobs.Slot{Legion: "g", Job: string(name), At: at}, Attempt: 1, Run: fmt.Sprint(i), State: jobs.Queued, Term: 3,
			Node: "n2", Incarnation: "i2", Scheduled: at,
		}}})
	}
	d.reign(7)
	var order string
	for i := 0; i < len(d.starts); i++ {
		order += d.starts[i].Job
		d.end(d.starts[i], jobs.Succeeded)
	}
	if order != want {
		t.Errorf("started in the order %q", order)
	}
}
