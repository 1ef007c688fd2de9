package jobs

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestStates(t *testing.T) {
	t.Parallel()
	order := []State{Queued, Claimed, Starting, Running, Lost, Succeeded}
	for i, s := range order[1:] {
		if s.Rank() != order[i].Rank()+1 {
			t.Errorf("rank of %v is %d, of %v %d", s, s.Rank(), order[i], order[i].Rank())
		}
	}
	for s := Queued; s <= Missed; s++ {
		if back, err := ParseState(s.String()); err != nil || back != s {
			t.Errorf("ParseState(%v) = %v, %v", s, back, err)
		}
		if want := s > Lost; s.Final() != want {
			t.Errorf("%v: final is %v", s, s.Final())
		}
		if want := s >= Lost; s.Settled() != want {
			t.Errorf("%v: settled is %v", s, s.Settled())
		}
		if s.Final() && s.Rank() != Succeeded.Rank() {
			t.Errorf("%v has rank %d, unlike other finals", s, s.Rank())
		}
	}
	for _, s := range []State{0, Missed + 1, 255} {
		if s.Valid() || s.Final() {
			t.Errorf("%v is taken for a state", s)
		}
		if back, err := ParseState(s.String()); err == nil {
			t.Errorf("ParseState(%v) = %v", s, back)
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	slot := Slot{Legion: "db", Job: "backup", At: time.Unix(1e9, 0)}
	record := func(s State, term uint64) Record {
		return Record{Slot: slot, Attempt: 1, Run: "r", State: s, Term: term}.Normal()
	}
	lost := func(sec int64) Record {
		r := record(Lost, 5)
		r.Ended, r.Reason = time.Unix(1e9+sec, 0), fmt.Sprint("at ", sec)
		return r.Normal()
	}
	for _, tt := range []struct {
		name       string
		less, more Record
	}{
		{"a run goes on", record(Claimed, 5), record(Starting, 5)},
		{"term goes before rank", record(NeverStarted, 5), record(Claimed, 6)},
		{"a later lord's claim", record(Claimed, 5), record(Claimed, 6)},
		{"the node's own word beats lost", record(Lost, 5), record(Failed, 5)},
		{"lost beats running", record(Running, 5), record(Lost, 5)},
		{"lost is what it was when it was said first", lost(9), lost(5)},
		{"a final of a later term", record(Failed, 5), record(Succeeded, 6)},
	} {
		if got := Merge(tt.less, tt.more); got != tt.more {
			t.Errorf("%s: got %v", tt.name, got)
		}
		if got := Merge(tt.more, tt.less); got != tt.more {
			t.Errorf("%s, the other way round: got %v", tt.name, got)
		}
	}
}

func TestMergeIsALattice(t *testing.T) {
	t.Parallel()
	slot := rapid.Just(Slot{Legion: "db", Job: "backup", At: time.Unix(1e9, 0)})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyRecord(slot).Draw(t, "a"), anyRecord(slot).Draw(t, "b"), anyRecord(slot).Draw(t, "c")
		if Merge(a, b) != Merge(b, a) {
			t.Fatal("not commutative")
		}
		if Merge(Merge(a, b), c) != Merge(a, Merge(b, c)) {
			t.Fatal("not associative")
		}
		if Merge(a, a) != a.Normal() {
			t.Fatal("not idempotent")
		}
		if m := Merge(a, b); m != a.Normal() && m != b.Normal() {
			t.Fatal("neither of the two")
		}
		if m := Merge(a, b); a.Term == b.Term && m.State.Rank() != max(a.State.Rank(), b.State.Rank()) {
			t.Fatal("rank fell")
		}
	})
}

func TestMergeMarkIsALattice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyMark().Draw(t, "a"), anyMark().Draw(t, "b"), anyMark().Draw(t, "c")
		b.Legion, b.Node, b.Job = a.Legion, a.Node, a.Job
		c.Legion, c.Node, c.Job = a.Legion, a.Node, a.Job
		if MergeMark(a, b) != MergeMark(b, a) {
			t.Fatal("not commutative")
		}
		if MergeMark(MergeMark(a, b), c) != MergeMark(a, MergeMark(b, c)) {
			t.Fatal("not associative")
		}
		if MergeMark(a, a) != a.Normal() {
			t.Fatal("not idempotent")
		}
		if m := MergeMark(a, b); a.Term == b.Term && (m.At.Before(a.Normal().At) || m.At.Before(b.Normal().At)) || m.Term < max(a.Term, b.Term) {
			t.Fatal("went back")
		}
	})
}

// Equal content, and nothing else, gives equal hashes, whatever the clock's zone.
func TestRecordHash(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyRecord(anySlot(fewNames)).Draw(t, "a"), anyRecord(anySlot(fewNames)).Draw(t, "b")
		if equal := a.Normal() == b.Normal(); equal != (a.Hash() == b.Hash()) {
			t.Fatalf("%v and %v: equal is %v, and their hashes disagree", a, b, equal)
		}
	})
}

func TestNormalCutsTheReason(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{
		strings.Repeat("x", MaxReason+1), strings.Repeat("ü", MaxReason), "x" + strings.Repeat("ü", MaxReason), "a\xff\xfeb",
	} {
		got := Record{Reason: reason}.Normal()
		if len(got.Reason) > MaxReason || len(got.Reason) < min(len(reason), MaxReason-utf8.UTFMax) || !utf8.ValidString(got.Reason) {
			t.Errorf("%.20q… became %d bytes, valid %v", reason, len(got.Reason), utf8.ValidString(got.Reason))
		}
		if got != got.Normal() {
			t.Errorf("%.20q…: Normal is not idempotent", reason)
		}
	}
}

func TestKeyKeepsNodeAndLegionApart(t *testing.T) {
	t.Parallel()
	at := time.Unix(1e9, 0)
	legion := Record{Slot: Slot{Legion: "db", Job: "backup", At: at}, State: Skipped}
	node := Record{Slot: Slot{Node: "db", Job: "backup", At: at}, State: Skipped}
	if legion.Key() == node.Key() {
		t.Error("a node and a legion of one name share a key")
	}
	if c := legion.Key().Compare(node.Key()); c == 0 || c != -node.Key().Compare(legion.Key()) {
		t.Errorf("Compare gives %d", c)
	}
}
