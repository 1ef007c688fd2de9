package ledger

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// TestStanding: what a later lord overruled is kept and not shown.
func TestStanding(t *testing.T) {
	t.Parallel()
	s, err := Open(Config{Dir: t.TempDir()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	base := time.Now().Truncate(time.Minute).Add(-time.Hour)
	slot := func(i int) jobs.Slot {
		return jobs.Slot{Legion: "db", Job: "tick", At: base.Add(time.Duration(i) * time.Minute)}.Normal()
	}
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
