package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

// archives are voters that can ask each other about their past.
type archives struct {
	t     *testing.T
	now   time.Time
	all   map[string]*filler
	asked []byte // what was asked, by kind
}

func newArchives(t *testing.T, names ...string) *archives {
	t.Helper()
	as := &archives{t: t, now: time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC), all: map[string]*filler{}}
	for _, name := range names {
		store, err := ledger.Open(ledger.Config{Dir: t.TempDir()}, as.now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		as.all[name] = &filler{
			store: store, log: zap.NewNop(), clock: func() legion.Now { return legion.Now{Wall: as.now} },
			keep: func() time.Duration { return 24 * time.Hour }, learnt: func([]jobs.Record) {},
			call: func(_ context.Context, voter string, q []byte) ([]byte, error) {
				as.asked = append(as.asked, q[0])
				return as.all[voter].answer(q[0], q[1:]), nil
			},
		}
	}
	return as
}

// past is a run of a job that ended i minutes before now.
func (as *archives) past(job string, i int) jobs.Record {
	at := as.now.Add(-time.Duration(i) * time.Minute)
	return jobs.Record{
		Slot: jobs.Slot{Legion: "db", Job: job, At: at}, Attempt: 1, Run: fmt.Sprint(job, i), State: jobs.Succeeded,
		Term: 7, Node: "n1", Incarnation: "i", Scheduled: at, Started: at, Ended: at,
	}
}

func (as *archives) write(name string, records ...jobs.Record) {
	as.t.Helper()
	if err := as.all[name].store.Write(ledger.Writes{Records: records}); err != nil {
		as.t.Fatal(err)
	}
}

func (as *archives) fill(asker, voter string) int {
	as.t.Helper()
	n, err := as.all[asker].fill(as.t.Context(), voter)
	if err != nil {
		as.t.Fatal(err)
	}
	return n
}

// settled are the keys of all that a voter has and that is not in the last hours.
func (as *archives) settled(name string) []string {
	as.t.Helper()
	records, err := as.all[name].store.Runs(ledger.Query{Limit: ledger.MaxRuns})
	if err != nil {
		as.t.Fatal(err)
	}
	var keys []string
	for _, r := range records {
		if _, before := as.all[name].window(); ledger.HourOfRecord(r) < before {
			keys = append(keys, r.String())
		}
	}
	return keys
}

// Three voters each missed an hour that the other two have. In the end they
// have the same, and then one short question is all that is asked.
func TestVotersFillTheirGaps(t *testing.T) {
	t.Parallel()
	as := newArchives(t, "a", "b", "c")
	names := []string{"a", "b", "c"}
	for missing, name := range names {
		var records []jobs.Record
		for i := 91; i < 8*60; i++ {
			if i/60-2 != missing {
				records = append(records, as.past("often", i), as.past("as-often", i), as.past("third", i))
			}
		}
		as.write(name, records...)
	}
	var learnt []jobs.Record
	as.all["b"].learnt = func(rs []jobs.Record) { learnt = append(learnt, rs...) }
	for _, pair := range []string{"ab", "bc", "ca"} {
		if as.fill(pair[:1], pair[1:]) == 0 {
			t.Errorf("%s learnt nothing from %s", pair[:1], pair[1:])
		}
	}
	if len(learnt) != 180 {
		t.Errorf("b was told of %d runs, want the 180 of an hour", len(learnt))
	}
	want := 3 * (8*60 - 91)
	for _, name := range names {
		if got := as.settled(name); len(got) != want || !slices.Equal(got, as.settled("a")) {
			t.Errorf("%s has %d runs, want %d", name, len(got), want)
		}
	}
	as.asked = nil
	for _, pair := range []string{"ab", "ac", "ba", "bc", "ca", "cb"} {
		if n := as.fill(pair[:1], pair[1:]); n != 0 {
			t.Errorf("%s learnt %d more from %s", pair[:1], n, pair[1:])
		}
	}
	if string(as.asked) != "dddddd" {
		t.Errorf("between equals was asked: %q", as.asked)
	}
}

// What a lord may still act upon is left alone, as are jobs without a legion
// and what is only said to be lost.
func TestFillLeavesAlone(t *testing.T) {
	t.Parallel()
	as := newArchives(t, "a", "b")
	recent, unsettled, lost, local := as.past("recent", 59), as.past("unsettled", 200), as.past("lost", 200), as.past("local", 200)
	unsettled.State = jobs.Running
	local.Legion, local.Slot.Node = "", "b"
	running := lost
	lost.State, running.State = jobs.Lost, jobs.Running
	as.write("b", recent, unsettled, lost, local)
	as.write("a", running)
	if n := as.fill("a", "b"); n != 0 {
		t.Errorf("learnt %d", n)
	}
	as.asked = nil
	as.fill("a", "b")
	if string(as.asked) != "d" {
		t.Errorf("asked %q for what can bring nothing", as.asked)
	}
	as.write("b", as.past("new", 201)) // in the hour that seemed futile
	if n := as.fill("a", "b"); n != 1 {
		t.Errorf("learnt %d, want 1", n)
	}
}

// A voter takes from another's answer nothing that it did not ask for.
func TestFillTrustsNoAnswer(t *testing.T) {
	t.Parallel()
	as := newArchives(t, "a")
	a := as.all["a"]
	recent := as.past("recent", 1)
	batch, err := jobs.Batch{Records: []jobs.Record{recent}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	old := ledger.HourOf(as.now.Add(-5 * time.Hour))
	pages := 0
	answers := map[byte]any{
		askDigests: digestsAnswer{Digests: []wireDigest{{Hour: old, Count: 1, Hash: jobs.Hash{1}}, {Hour: ledger.HourOf(as.now), Count: 1}, {Hour: math.MaxInt64, Count: 1}}},
		askHour:    hourAnswer{Batch: batch, At: 5, ID: 5},
	}
	a.call = func(_ context.Context, _ string, q []byte) ([]byte, error) {
		if q[0] == askHour {
			pages++
		}
		return mustMarshal(t, answers[q[0]]), nil
	}
	if n, err := a.fill(t.Context(), "b"); n != 0 || err == nil || pages != 2 {
		t.Errorf("learnt %d in %d pages, %v; want an error about pages that do not go on", n, pages, err)
	}
	for _, junk := range [][]byte{nil, {0xff}, []byte("hello"), mustMarshal(t, hourAnswer{Batch: []byte("junk")})} {
		a.call = func(_ context.Context, _ string, q []byte) ([]byte, error) {
			if q[0] == askDigests && len(junk) > 8 {
				return mustMarshal(t, answers[askDigests]), nil
			}
			return junk, nil
		}
		if n, err := a.fill(t.Context(), "b"); n != 0 || err == nil {
			t.Errorf("%q: learnt %d, %v", junk, n, err)
		}
	}
	a.call = func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("away") }
	if _, err := a.fill(t.Context(), "b"); err == nil {
		t.Error("no error about a voter that is away")
	}
	for _, q := range [][]byte{nil, {0xff}, []byte("hello")} {
		for _, kind := range []byte{askDigests, askHour} {
			if got := a.answer(kind, q); got != nil {
				t.Errorf("%c %q is answered with %q", kind, q, got)
			}
		}
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What an agent of this node recorded of its runs' ends is told again: to the
// voters it may be news.
func TestRetell(t *testing.T) {
	t.Parallel()
	as := newArchives(t, "n1")
	ended, others, running, lost, never, old, local := as.past("ended", 1), as.past("others", 1), as.past("running", 1),
		as.past("lost", 1), as.past("never", 1), as.past("old", 25*60), as.past("local", 1)
	ended.State, running.State, lost.State, never.State = jobs.TimedOut, jobs.Running, jobs.Lost, jobs.NeverStarted
	others.Node = "n2"
	local.Legion, local.Slot.Node = "", "n1"
	as.write("n1", ended, others, running, lost, never, old, local)
	d := &Daemon{name: "n1", store: as.all["n1"].store, clock: as.all["n1"].clock, log: zap.NewNop()}
	if got := d.retell(); len(got) != 1 || got[0].Key() != ended.Key() {
		t.Errorf("told again: %v", got)
	}
}

// TestRetellOwn: what an earlier agent of this node recorded is told again, however
// much the others have run since.
func TestRetellOwn(t *testing.T) {
	t.Parallel()
	as := newArchives(t, "n1")
	f := as.all["n1"]
	d := &Daemon{store: f.store, clock: f.clock, name: "n1", log: f.log}
	as.write("n1", as.past("own", 700))
	var others []jobs.Record
	for i := range 2 * retellMost {
		r := as.past("others", i%600)
		r.Run, r.Node = fmt.Sprint("other", i), "n2"
		others = append(others, r)
	}
	as.write("n1", others...)
	if told := d.retell(); len(told) != 1 || told[0].Job != "own" {
		t.Errorf("told %d: %v", len(told), told)
	}
}
