package daemon

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/jobs"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestTell: the verdict follows from the first thing that stands in the way.
func TestTell(t *testing.T) {
	t.Parallel()
	well := control.Explanation{
		Job: "backup", Legion: "db", Schedule: "0 * * * *", Description: "every hour", Enabled: true, Node: "n1", Lord: "n1", Term: 7,
		Since: control.At(noon), Next: control.At(noon.Add(time.Hour)), NextLocal: "2026-03-01 14:00:00 CET",
		Overlap: "skip", CatchUpMS: 300_000, CatchUpRuns: "last", Nodes: control.List[string]{"n1", "n2"},
	}
	living := control.List[control.Run]{{Run: "r1", Outcome: "running", Node: "n2"}}
	code := 7
	for _, tt := range []struct {
		name    string
		change  func(*control.Explanation)
		vacancy string
		silent  []string
		will    bool
		want    string // the verdict, or its beginning
		why     string // a line of the rest
	}{
		{"all is well", func(e *control.Explanation) {}, "", nil, true,
			"runs next at 2026-03-01 14:00:00 CET on n1, the lord of db", "the next slot is 2026-03-01 14:00:00 CET, in UTC 2026-03-01T13:00:00Z"},
		{"disabled", func(e *control.Explanation) { e.Enabled, e.Paused = false, true }, "", nil, false, "will not run: it is disabled", "no slot of it is on record"},
		{"paused", func(e *control.Explanation) { e.Paused = true }, "", nil, false, "will not run: it is paused", "n1 is the lord of db in term 7, since 2026-03-01T12:00:00Z"},
		{"no lord", func(e *control.Explanation) { e.Lord = "" }, "1 of 3 voters are here, the quorum is 2", []string{"n2", "n3"}, false,
			"will not run before db has a lord: 1 of 3 voters are here", "no answer from n2, n3"},
		{"unknown to the lord", func(e *control.Explanation) { e.Lord = "n9" }, "", nil, false, "will not run: n9 is the lord of db, and its configuration has no such job", ""},
		{"a lord that does not answer", func(e *control.Explanation) { e.Lord = "n9" }, "", []string{"n9"}, true, "runs next at 2026-03-01 14:00:00 CET on n9", "no answer from n9"},
		{"never again", func(e *control.Explanation) { e.Next = control.Time{} }, "", nil, false, "will not run: its schedule has no slot any more", "0 * * * *: every hour"},
		{"by occasion", func(e *control.Explanation) { e.Next, e.Schedule, e.Description = control.Time{}, "@lord", "whenever" }, "", nil, true, "runs whenever, and by no clock", ""},
		{"a living run", func(e *control.Explanation) { e.Living = living }, "", nil, true,
			"runs next at 2026-03-01 14:00:00 CET on n1, the lord of db, if the run that is alive has ended by then", "run r1 is running on n2"},
		{"a living run that does not matter", func(e *control.Explanation) { e.Living, e.Overlap = living, "allow" }, "", nil, true,
			"runs next at 2026-03-01 14:00:00 CET on n1, the lord of db", "overlap = allow: the next slot starts beside it"},
		{"mutex", func(e *control.Explanation) { e.Mutex, e.MutexHeldBy = "m", "vacuum" }, "", nil, true,
			"runs next at 2026-03-01 14:00:00 CET on n1, the lord of db, if vacuum has ended by then", "mutex m is held by a run of vacuum"},
		{"max_runs", func(e *control.Explanation) { e.MaxRuns, e.Running = 2, 2 }, "", nil, true, "runs next", "n1 runs 2 at a time, and that many are alive: it waits until one ends"},
		{"late slots", func(e *control.Explanation) { e.CatchUpRuns = "all" }, "", nil, true, "runs next", "a slot is started up to 5m0s late: each of several that are late"},
		{"no late slots", func(e *control.Explanation) { e.CatchUpMS = 0 }, "", nil, true, "runs next", "a slot that is late is not started"},
		{"jitter, queue, drift", func(e *control.Explanation) { e.JitterMS, e.Queued, e.Drift = 90_000, 3, control.List[string]{"n2"} }, "", nil, true, "runs next",
			"its definition on n2 is another: legion-cron validate there, then reload"},
		{"history", func(e *control.Explanation) {
			e.Last = control.List[control.Run]{{Scheduled: control.At(noon), Outcome: "failed", Attempt: 2, Node: "n2", ExitCode: &code}}
		}, "", nil, true, "runs next", "the slot of 2026-03-01T12:00:00Z: failed, attempt 2 on n2: exit 7"},
		{"drained", func(e *control.Explanation) { e.Legion, e.Lord, e.Drained = "", "", true }, "", nil, false,
			"will not run on n1: it is drained, and the slots of its own jobs are recorded as skipped", "it has no legion: every node that lists it runs it"},
		{"without a legion, on one node", func(e *control.Explanation) { e.Legion, e.Lord, e.Nodes = "", "", control.List[string]{"n1"} }, "", nil, true,
			"runs next at 2026-03-01 14:00:00 CET on n1", ""},
		{"a run by hand", func(e *control.Explanation) {
			e.Last = control.List[control.Run]{{Scheduled: control.At(noon), Outcome: "succeeded", Attempt: 1, Node: "n2", Manual: true}}
		}, "", nil, true, "runs next", "the slot of 2026-03-01T12:00:00Z: succeeded, by hand on n2"},
		{"without a legion", func(e *control.Explanation) { e.Legion, e.Lord = "", "" }, "", nil, true,
			"runs next at 2026-03-01 14:00:00 CET on each of n1, n2", "it has no legion: every node that lists it runs it"},
	} {
		e := well
		tt.change(&e)
		tell(&e, tt.vacancy, tt.silent)
		if !strings.HasPrefix(e.Verdict, tt.want) || e.WillRun != tt.will {
			t.Errorf("%s: will %v: %s", tt.name, e.WillRun, e.Verdict)
		}
		if all := "\n" + strings.Join(e.Why, "\n") + "\n"; tt.why != "" && !strings.Contains(all, "\n"+tt.why+"\n") {
			t.Errorf("%s: why has no line %q:%s", tt.name, tt.why, all)
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	list := func(name, legion, definition string, next, last time.Duration, running int) control.Listing {
		l := control.Listing{Job: control.Job{Name: name, Legion: legion, Schedule: definition, Running: running, Next: control.At(noon.Add(next))}, Definition: definition}
		if last != 0 {
			l.Last = control.At(noon.Add(last))
		}
		return l
	}
	got := tally([]control.Answer[[]control.Listing]{
		{Node: "n1", Value: []control.Listing{list("backup", "db", "old", 1, -9, 0), list("local", "", "x", 5, -3, 1)}},
		{Node: "n2", Value: []control.Listing{list("backup", "db", "new", 2, -5, 1), list("local", "", "x", 3, 0, 1)}},
		{Node: "n3", Value: []control.Listing{list("backup", "db", "new", 3, -1, 0), list("backup", "web", "z", 9, 0, 0)}},
		{Node: "n4", Err: errors.New("away")},
	}, "n1", map[string]string{"db": "n2"})
	want := []control.Job{
		{Name: "backup", Legion: "db", Schedule: "new", Next: control.At(noon.Add(2)), Last: control.At(noon.Add(-1)), Running: 1,
			Nodes: control.List[string]{"n1", "n2", "n3"}, Drift: control.List[string]{"n1"}},
		{Name: "backup", Legion: "web", Schedule: "z", Next: control.At(noon.Add(9)), Nodes: control.List[string]{"n3"}},
		{Name: "local", Schedule: "x", Next: control.At(noon.Add(3)), Last: control.At(noon.Add(-3)), Running: 2, Nodes: control.List[string]{"n1", "n2"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// TestLivingRuns: how far a run has come is its own node's to say.
func TestLivingRuns(t *testing.T) {
	t.Parallel()
	living := []control.Run{{Run: "a", Outcome: "claimed"}, {Run: "b", Outcome: "claimed"}, {Run: "c", Outcome: "claimed"}}
	update(living, []control.Run{{Run: "b", Outcome: "running", Node: "n2"}, {Run: "c", Outcome: "succeeded"}, {Run: "d", Outcome: "running"}})
	want := []control.Run{{Run: "a", Outcome: "claimed"}, {Run: "b", Outcome: "running", Node: "n2"}, {Run: "c", Outcome: "claimed"}}
	if !reflect.DeepEqual(living, want) {
		t.Errorf("got %+v", living)
	}
}

func TestTogether(t *testing.T) {
	t.Parallel()
	view := func(node, legion, lord, definition string) control.Explanation {
		return control.Explanation{Node: node, Legion: legion, Lord: lord, Definition: definition, Queued: 1}
	}
	e := together([]control.Explanation{view("n1", "db", "n3", "a"), view("n2", "db", "n3", "a"), view("n3", "db", "n3", "b")}, "n1")
	if e.Node != "n3" || len(e.Nodes) != 3 || !reflect.DeepEqual([]string(e.Drift), []string{"n1", "n2"}) || e.Queued != 1 {
		t.Errorf("the lord's view does not count most: %+v", e)
	}
	e = together([]control.Explanation{view("n1", "", "", "a"), view("n2", "", "", "a")}, "n2")
	if e.Node != "n2" || len(e.Drift) != 0 || e.Queued != 2 {
		t.Errorf("without a legion: %+v", e)
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	slot := jobs.Slot{Legion: "db", Job: "backup", At: noon}
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	ms := timeline([]jobs.Record{
		{Slot: slot, Attempt: 1, Run: "a", State: jobs.Failed, ExitCode: 3, Node: "n1", Term: 7, Scheduled: noon, Started: at(1), Ended: at(2)},
		{Slot: slot, Attempt: 2, Run: "b", State: jobs.Running, Node: "n2", Term: 8, Scheduled: noon, Started: at(5)},
	})
	var got []string
	for _, m := range ms {
		got = append(got, m.At.Format("05")+" "+m.Event+" "+m.Node+" "+m.Detail)
	}
	want := []string{"00 due  ", "01 started n1 ", "02 failed n1 exit 3", "05 started n2 "}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	ms = timeline([]jobs.Record{{Slot: slot, State: jobs.Skipped, Reason: "overlap", Node: "n1", Scheduled: noon}})
	if len(ms) != 2 || ms[1].Event != "skipped" || ms[1].Detail != "overlap" {
		t.Errorf("a skipped slot: %+v", ms)
	}
}
