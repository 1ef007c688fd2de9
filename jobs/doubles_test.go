package jobs

import (
	"slices"
	"testing"
	"time"
)

func TestDoubles(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(run string, state State, more ...func(*Record)) Record {
		r := Record{Slot: Slot{Legion: "g", Job: "j", At: noon}, Attempt: 1, Run: run, State: state, Term: 7}
		for _, f := range more {
			f(&r)
		}
		return r
	}
	seen := func(r *Record) { r.Started = noon }
	r := at("r", Succeeded)
	for _, c := range []struct {
		name  string
		r     Record
		other Record
		want  bool
	}{
		{"both ended", r, at("s", Failed), true},
		{"one is starting", r, at("s", Starting), true},
		{"and in another term", r, at("s", Running, func(r *Record) { r.Term = 9 }), true},
		{"this one is starting", at("r", Starting), at("s", Killed), true},
		{"lost while it ran", r, at("s", Lost, seen), true},
		{"lost as a claim", r, at("s", Lost), false},
		{"a claim", r, at("s", Claimed), false},
		{"a queued one", r, at("s", Queued), false},
		{"never started", r, at("s", NeverStarted), false},
		{"skipped", r, at("", Skipped, func(r *Record) { r.Attempt = 0 }), false},
		{"this one never started", at("r", NeverStarted), at("s", Succeeded), false},
		{"the same run", r, at("r", Running), false},
		{"another attempt", r, at("s", Succeeded, func(r *Record) { r.Attempt = 2 }), false},
		{"another slot", r, at("s", Succeeded, func(r *Record) { r.Slot.At = noon.Add(time.Second) }), false},
		{"a node of the legion's name", r, at("s", Succeeded, func(r *Record) { r.Slot.Legion, r.Slot.Node = "", "g" }), false},
	} {
		got := Doubles(c.r, []Record{c.r, c.other, c.other})
		if c.want != slices.Equal(got, []Record{c.other}) || !c.want && len(got) > 0 {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	three := Doubles(r, []Record{at("z", Running), r, at("a", Failed)})
	if len(three) != 2 || three[0].Run != "a" || three[1].Run != "z" {
		t.Errorf("three sides: %v", three)
	}
}
