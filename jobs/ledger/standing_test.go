package ledger

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// openTicks opens an empty store, for a job that is due every minute from base on.
func openTicks(t *testing.T) (s *Store, base time.Time, slot func(i int) jobs.Slot) {
	t.Helper()
	s, err := Open(Config{Dir: t.TempDir()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	base = time.Now().Truncate(time.Minute).Add(-time.Hour)
	return s, base, func(i int) jobs.Slot {
		return jobs.Slot{Legion: "db", Job: "tick", At: base.Add(time.Duration(i) * time.Minute)}.Normal()
	}
}

// TestStanding: what a later lord overruled is kept and not shown.
func TestStanding(t *testing.T) {
	t.Parallel()
	s, base, slot := openTicks(t)
	var recs []jobs.Record
	for i := range 6 {
		recs = append(recs, jobs.Record{Slot: slot(i), Attempt: 1, Run: "a" + string(rune('0'+i)), State: jobs.NeverStarted, Term: 1, Scheduled: slot(i).At})
	}
	if err := s.Write(Writes{Records: recs}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Stranded("db", base, 10); err != nil || len(got) != 6 {
		t.Fatalf("stranded: %v, %v; want all six", got, err)
	}
	// A later lord, which had heard of none of it, writes off four in a row and
	// runs the sixth.
	if err := s.Write(Writes{Records: []jobs.Record{
		{Slot: slot(1), State: jobs.Missed, Term: 2, To: slot(4).At, Count: 4, Scheduled: slot(1).At},
		{Slot: slot(5), Attempt: 1, Run: "b", State: jobs.Succeeded, Term: 2, Scheduled: slot(5).At},
	}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"a0": true, "": true, "b": true}
	got, err := s.Runs(Query{Job: "tick", Limit: 3})
	if err != nil || len(got) != 3 {
		t.Fatalf("runs: %v, %v; want three", got, err)
	}
	for _, r := range got {
		if !want[r.Run] {
			t.Errorf("%v stands", r)
		}
	}
	if got, err := s.Stranded("db", base, 10); err != nil || len(got) != 1 || got[0].Run != "a0" {
		t.Errorf("stranded: %v, %v; want the first alone", got, err)
	}
	if got, err := s.Standing(slot(3)); err != nil || len(got) != 1 || got[0].Count < 2 {
		t.Errorf("the fourth slot: %v, %v; want the row that it is in, and nothing of its own", got, err)
	}
	if got, err := s.Slots(slot(3)); err != nil || len(got) != 1 {
		t.Errorf("the fourth slot: %v, %v; want what was written", got, err)
	}
}

// TestStandingOfPartOfARow: a row that a later lord's word about one of its slots
// makes void overrules nothing that was decided about another.
func TestStandingOfPartOfARow(t *testing.T) {
	t.Parallel()
	s, base, slot := openTicks(t)
	// The first lord's claims came to light under the third, which went on after them;
	// the second, which no quorum heard, had written off the slots on both sides.
	claim := jobs.Record{Slot: slot(3), Attempt: 1, Run: "a", State: jobs.NeverStarted, Term: 1, Scheduled: slot(3).At}
	first := claim
	first.Slot, first.Scheduled, first.Run = slot(1), slot(1).At, "c"
	row := jobs.Record{Slot: slot(1), State: jobs.Missed, Term: 2, To: slot(5).At, Count: 5, Scheduled: slot(1).At}
	after := jobs.Record{Slot: slot(4), Attempt: 1, Run: "b", State: jobs.Succeeded, Term: 3, Scheduled: slot(4).At}
	all := []jobs.Record{first, claim, row, after}
	if err := s.Write(Writes{Records: all}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []jobs.Record{first, claim, after} {
		got, err := s.Standing(r.Slot)
		if err != nil || len(got) != 1 || got[0] != r.Normal() {
			t.Errorf("%v: %v, %v stand", r.Slot, got, err)
		}
	}
	if got, err := s.Stranded("db", base, 10); err != nil || len(got) != 2 {
		t.Errorf("stranded: %v, %v", got, err)
	}
	if got, err := s.Runs(Query{Job: "tick"}); err != nil || len(got) != len(jobs.Standing(all)) {
		t.Errorf("runs: %v, %v", got, err)
	}
	// So a voter that is asked about the one slot tells of the other.
	if got, err := s.About(slot(3)); err != nil || len(jobs.Standing(got)) != 3 {
		t.Errorf("told of %v, %v", got, err)
	}
}
