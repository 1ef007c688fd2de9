package jobs

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at is a slot of a job that runs every minute.
func at(minute int) Slot {
	return Slot{Legion: "db", Job: "backup", At: time.Unix(60*int64(1e7+minute), 0)}.Normal()
}

func TestStanding(t *testing.T) {
	t.Parallel()
	attempt := func(minute, n int, run string, s State, term uint64) Record {
		return Record{Slot: at(minute), Attempt: n, Run: run, State: s, Term: term}.Normal()
	}
	off := func(minute int, s State, term uint64) Record {
		return Record{Slot: at(minute), State: s, Term: term}.Normal()
	}
	row := func(from, to int, term uint64) Record {
		return Record{Slot: at(from), State: Missed, Term: term, To: at(to).At, Count: to - from + 1}.Normal()
	}
	for _, tt := range []struct {
		name        string
		stand, void []Record
	}{
		{"one alone", []Record{attempt(1, 1, "a", Claimed, 1)}, nil},
		{"a claim of a frozen lord, then missed", []Record{off(1, Missed, 2)}, []Record{attempt(1, 1, "a", NeverStarted, 1)}},
		{"the same, still claimed", []Record{off(1, Missed, 2)}, []Record{attempt(1, 1, "a", Claimed, 1)}},
		{"a claim of a frozen lord, then claimed anew", []Record{attempt(1, 1, "b", Succeeded, 2)}, []Record{attempt(1, 1, "a", NeverStarted, 1)}},
		{"a miss that no quorum had", []Record{attempt(1, 1, "b", Succeeded, 2)}, []Record{off(1, Missed, 1)}},
		{"a queued slot that no quorum had", []Record{off(1, Missed, 2)}, []Record{attempt(1, 1, "a", Queued, 1)}},
		{"the slot goes on", []Record{attempt(1, 1, "a", NeverStarted, 1), attempt(1, 2, "b", Succeeded, 2)}, nil},
		{"one term decides once", []Record{attempt(1, 1, "a", NeverStarted, 1), off(1, Missed, 1)}, nil},
		{"what was started stands", []Record{attempt(1, 1, "a", Succeeded, 1), off(1, Missed, 2)}, nil},
		{"a claim in a row that a later lord wrote off", []Record{row(1, 5, 2)}, []Record{attempt(3, 1, "a", NeverStarted, 1)}},
		{"a claim after that row", []Record{row(1, 5, 2), attempt(6, 1, "a", NeverStarted, 1)}, nil},
		{"a row of which a later lord runs one", []Record{attempt(3, 1, "a", Succeeded, 2)}, []Record{row(1, 5, 1)}},
		{
			"what is void makes nothing void",
			[]Record{attempt(1, 1, "a", NeverStarted, 1), attempt(1, 2, "b", Succeeded, 3)}, []Record{off(1, Missed, 2)},
		},
		{"a slot without a legion", []Record{
			{Slot: Slot{Node: "n", Job: "j", Manual: "m"}, State: Skipped},
			{Slot: Slot{Node: "n", Job: "j", Manual: "m"}, Attempt: 1, Run: "a", State: Succeeded},
		}, nil},
	} {
		got := Standing(append(slices.Clone(tt.void), tt.stand...))
		if !slices.Equal(got, tt.stand) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.stand)
		}
	}
}

// set is what a node knows: the copies of each fact merged.
func set(records ...[]Record) map[Key]Record {
	m := map[Key]Record{}
	for _, rs := range records {
		for _, r := range rs {
			if old, ok := m[r.Key()]; ok {
				r = Merge(old, r)
			}
			m[r.Key()] = r.Normal()
		}
	}
	return m
}

func values(m map[Key]Record) []Record {
	var all []Record
	for _, r := range m {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Record) int { return a.Key().Compare(b.Key()) })
	return all
}

// TestStandingIsAFunctionOfTheSet: whatever the order, and however often,
// records come in, what stands in the end is the same.
func TestStandingIsAFunctionOfTheSet(t *testing.T) {
	t.Parallel()
	one := rapid.Custom(func(t *rapid.T) Record {
		r := Record{Slot: at(rapid.IntRange(1, 4).Draw(t, "minute")), Term: uint64(rapid.IntRange(0, 3).Draw(t, "term"))}
		r.State = State(rapid.IntRange(int(Queued), int(Missed)).Draw(t, "state"))
		if r.State < Skipped {
			r.Attempt, r.Run = rapid.IntRange(1, 2).Draw(t, "attempt"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "run")
		} else if n := rapid.IntRange(1, 3).Draw(t, "count"); r.State == Missed && n > 1 {
			r.Count, r.To = n, r.At.Add(time.Duration(n-1)*time.Minute)
		}
		return r.Normal()
	})
	rapid.Check(t, func(t *rapid.T) {
		heard := rapid.SliceOfN(one, 0, 12).Draw(t, "records")
		want := Standing(values(set(heard)))
		other := append(slices.Clone(heard), heard...)
		rand.New(rand.NewPCG(uint64(len(heard)), rapid.Uint64().Draw(t, "order"))).Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		half := len(other) / 2
		got := Standing(values(set(values(set(other[half:])), values(set(other[:half])))))
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if again := Standing(want); !slices.Equal(again, want) {
			t.Fatalf("of what stands only %v stands, want %v", again, want)
		}
		for _, r := range want {
			for _, later := range want {
				if later.Term > r.Term && later.overrules(r) {
					t.Fatalf("%v and %v both stand", r, later)
				}
			}
		}
	})
}
