package scheduler

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 0, "seed of the random operations; 0: a new one each time")

// A periodic schedule fires every period, from phase.
type periodic struct{ period, phase time.Duration }

func (p periodic) Next(t time.Time) time.Time {
	since := t.Sub(start) - p.phase
	n := since / p.period
	if since < 0 && since%p.period != 0 {
		n--
	}
	return start.Add((n+1)*p.period + p.phase)
}

func every(period time.Duration) periodic { return periodic{period: period} }

// A once schedule fires at one instant.
type once time.Time

func (o once) Next(t time.Time) time.Time {
	if t.Before(time.Time(o)) {
		return time.Time(o)
	}
	return time.Time{}
}

// A stuck schedule is wrong: it does not move forward.
type stuck struct{}

func (stuck) Next(t time.Time) time.Time { return t }

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

// text shows what is due as "key@offset" with the range "+count(from..to)".
func text(due []Due) (all []string) {
	for _, d := range due {
		s := fmt.Sprintf("%s@%s", d.Key, d.At.Sub(start))
		if d.Older.Count > 0 {
			s += fmt.Sprintf("+%d(%s..%s)", d.Older.Count, d.Older.From.Sub(start), d.Older.To.Sub(start))
		}
		all = append(all, s)
	}
	return all
}

func expect(t *testing.T, got []Due, want ...string) {
	t.Helper()
	if !slices.Equal(text(got), want) {
		t.Errorf("due %q, want %q", text(got), want)
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	e := NewEngine(0)
	e.Set(start, "b", every(2*time.Minute), start)
	e.Set(start, "a", every(time.Minute), start)
	e.Set(start, "c", periodic{time.Hour, 90 * time.Second}, time.Time{})

	expect(t, e.Due(start, 10)) // a mark is not due itself
	expect(t, e.Due(at(59*time.Second), 10))
	if got := e.Wake(at(59*time.Second + 300*time.Millisecond)); got != 700*time.Millisecond {
		t.Errorf("wake in %s", got)
	}
	expect(t, e.Due(at(time.Minute), 10), "a@1m0s")
	expect(t, e.Due(at(time.Minute), 10))
	// The slot that came first comes first; then the entry that was added first.
	expect(t, e.Due(at(2*time.Minute), 2), "c@1m30s", "b@2m0s")
	if e.Wake(at(2*time.Minute)) != 0 {
		t.Error("asleep with a slot due")
	}
	expect(t, e.Due(at(2*time.Minute), 10), "a@2m0s")
	if got := e.Wake(at(2*time.Minute + time.Second)); got != MaxWake {
		t.Errorf("wake in %s", got)
	}
	if got := e.Next("c"); !got.Equal(at(time.Hour + 90*time.Second)) {
		t.Errorf("next c %s", got)
	}
	if e.Len() != 3 || !e.Next("d").IsZero() || !e.Position("d").IsZero() {
		t.Error("an entry nobody set")
	}
}

// TestSteps: the wall clock is set forward and back, by an hour and by years.
func TestSteps(t *testing.T) {
	t.Parallel()
	e := NewEngine(0)
	e.Set(start, "a", every(time.Minute), start)
	e.Set(start, "h", every(time.Hour), start)
	expect(t, e.Due(at(time.Minute), 10), "a@1m0s")

	// Forward, or a suspend: the newest slot, and what it supersedes.
	expect(t, e.Due(at(time.Hour+30*time.Second), 10), "a@1h0m0s+58(2m0s..59m0s)", "h@1h0m0s")
	expect(t, e.Due(at(time.Hour+30*time.Second), 10))

	// Back: nothing that was answered is answered again, the next slot is the next one.
	for m := range 62 {
		if m < 61 {
			expect(t, e.Due(at(time.Duration(m)*time.Minute), 10))
		}
	}
	if got := e.Wake(at(0)); got != MaxWake {
		t.Errorf("wake in %s", got)
	}
	expect(t, e.Due(at(61*time.Minute), 10), "a@1h1m0s")

	// Far forward: the count ends, the range does not.
	year := 365 * 24 * time.Hour
	expect(t, e.Due(at(year), 10),
		fmt.Sprintf("a@8760h0m0s+%d(1h2m0s..8759h59m0s)", MaxOlder), "h@8760h0m0s+8758(2h0m0s..8759h0m0s)")
	expect(t, e.Due(at(year+time.Minute), 10), "a@8760h1m0s")

	// A caller that knows better begins an entry anew.
	e.Set(at(time.Hour), "a", every(time.Minute), at(time.Hour))
	expect(t, e.Due(at(61*time.Minute), 10), "a@1h1m0s")
}

// TestReplace: what is done to one entry moves no other, and the same timing
// with its own position goes on as if nothing had happened.
func TestReplace(t *testing.T) {
	t.Parallel()
	e := NewEngine(0)
	for i := range 5 {
		e.Set(start, fmt.Sprint(i), every(time.Minute), start)
	}
	expect(t, e.Due(at(time.Minute), 3), "0@1m0s", "1@1m0s", "2@1m0s")
	e.Set(at(90*time.Second), "0", every(time.Minute), e.Position("0")) // decided: not again
	e.Set(at(90*time.Second), "3", every(time.Minute), e.Position("3")) // undecided: still due
	e.Remove("4")
	e.Remove("4")
	e.Set(at(90*time.Second), "1", every(10*time.Second), time.Time{}) // a new timing has no past
	e.Set(at(90*time.Second), "5", every(time.Minute), time.Time{})    // takes the hole of 4
	expect(t, e.Due(at(90*time.Second), 9), "3@1m0s")
	expect(t, e.Due(at(2*time.Minute), 9), "1@2m0s+2(1m40s..1m50s)", "0@2m0s", "2@2m0s", "3@2m0s", "5@2m0s")
	if e.Len() != 5 {
		t.Errorf("%d entries", e.Len())
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	e := NewEngine(0)
	e.Set(start, "once", once(at(time.Minute)), start)
	e.Set(start, "past", once(at(-time.Minute)), start)
	e.Set(start, "stuck", stuck{}, start)
	e.Set(start, "late", once(start.AddDate(300, 0, 0)), start)
	expect(t, e.Due(at(time.Hour), 9), "once@1m0s")
	expect(t, e.Due(at(1000*time.Hour), 9))
	if e.Len() != 4 || !e.Next("once").IsZero() || !e.Position("once").Equal(at(time.Minute)) {
		t.Errorf("%d entries, next %s, position %s", e.Len(), e.Next("once"), e.Position("once"))
	}
	if got := e.Wake(start); got != MaxWake {
		t.Errorf("wake in %s", got)
	}
	e.Remove("past") // not in the heap
	e.Set(start, "once", every(time.Hour), e.Position("once"))
	expect(t, e.Due(at(time.Hour), 9), "once@1h0m0s")
}

// TestClockNeverSet: a machine that boots in 1970 and then learns the time runs
// nothing of the years between, and keeps the marks it has.
func TestClockNeverSet(t *testing.T) {
	t.Parallel()
	boot := time.Unix(30, 0)
	e := NewEngine(0)
	e.Set(boot, "new", every(time.Minute), time.Time{})
	e.Set(boot, "marked", every(time.Hour), at(-2*time.Hour))
	expect(t, e.Due(boot.Add(time.Hour), 9))
	if e.Wake(boot) != MaxWake || !e.Next("new").IsZero() || !e.Position("new").IsZero() {
		t.Error("an entry began before the clock was set")
	}
	expect(t, e.Due(at(time.Second), 9), "marked@0s+1(-1h0m0s..-1h0m0s)")
	if !e.Position("new").Equal(at(time.Second)) {
		t.Errorf("new began at %s", e.Position("new"))
	}
	expect(t, e.Due(at(time.Minute), 9), "new@1m0s")
}

// TestBudget: after a long sleep one call does not count for ever.
func TestBudget(t *testing.T) {
	t.Parallel()
	e := NewEngine(100)
	for i := range 100 {
		e.Set(start, fmt.Sprint(i), every(time.Second), start)
	}
	now := at(24 * time.Hour)
	calls, seen := 0, map[string]bool{}
	for e.Wake(now) == 0 {
		for _, d := range e.Due(now, 1000) {
			if seen[d.Key] || !d.At.Equal(now) {
				t.Fatalf("%v", text([]Due{d}))
			}
			seen[d.Key] = true
		}
		calls++
	}
	if want := 100 * MaxOlder / countBudget; calls != want || len(seen) != 100 {
		t.Errorf("%d entries in %d calls, want %d", len(seen), calls, want)
	}
}

// dumb is the engine without a heap: it looks at every entry, second by second.
type dumb struct {
	entries map[string]*dumbEntry
	order   int
}

type dumbEntry struct {
	schedule Schedule
	position time.Time
	order    int
}

func (d *dumb) set(key string, s Schedule, after time.Time) {
	order := d.order
	if old := d.entries[key]; old != nil {
		order = old.order
	} else {
		d.order++
	}
	d.entries[key] = &dumbEntry{s, after, order}
}

func (d *dumb) due(now time.Time, most int) []Due {
	var due []Due
	first := map[string]time.Time{}
	for key, e := range d.entries {
		var slots []time.Time
		for t := e.position.Truncate(time.Second).Add(time.Second); !t.After(now); t = t.Add(time.Second) {
			if e.schedule.Next(t.Add(-1)).Equal(t) {
				slots = append(slots, t)
			}
		}
		if n := len(slots); n > 0 {
			one := Due{Key: key, At: slots[n-1]}
			if n > 1 {
				one.Older = Range{slots[0], slots[n-2], n - 1}
			}
			first[key] = slots[0]
			due = append(due, one)
		}
	}
	slices.SortFunc(due, func(a, b Due) int {
		return cmp.Or(first[a.Key].Compare(first[b.Key]), cmp.Compare(d.entries[a.Key].order, d.entries[b.Key].order))
	})
	due = due[:min(len(due), most)]
	for _, one := range due {
		d.entries[one.Key].position = one.At
	}
	return due
}

func TestAgainstDumbEngine(t *testing.T) {
	t.Parallel()
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed %d", s)
	r := rand.New(rand.NewPCG(s, 0))
	for range 15 {
		e, d := NewEngine(0), &dumb{entries: map[string]*dumbEntry{}}
		now := start
		for range 200 {
			key := fmt.Sprint(r.IntN(20))
			switch r.IntN(8) {
			case 0, 1:
				schedule := periodic{time.Duration(1+r.IntN(100)) * time.Second, time.Duration(r.IntN(100)) * time.Second}
				after := now.Add(time.Duration(r.IntN(300)-250) * time.Second)
				e.Set(now, key, schedule, after)
				d.set(key, schedule, after)
			case 2:
				e.Remove(key)
				delete(d.entries, key)
			case 3: // the clock is set, either way
				now = now.Add(time.Duration(r.IntN(600)-200) * time.Second)
			default:
				now = now.Add(time.Duration(r.IntN(20_000)) * time.Millisecond)
			}
			most := 1 + r.IntN(30)
			got, want := e.Due(now, most), d.due(now, most)
			if !slices.Equal(text(got), text(want)) {
				t.Fatalf("at %s\n got %q\nwant %q", now.Sub(start), text(got), text(want))
			}
			if e.Len() != len(d.entries) {
				t.Fatalf("%d entries, want %d", e.Len(), len(d.entries))
			}
			for key, entry := range d.entries {
				if next := e.Next(key); !next.Equal(entry.schedule.Next(entry.position)) || !e.Position(key).Equal(entry.position) {
					t.Fatalf("%s: next %s, position %s, want %s", key, next, e.Position(key), entry.position)
				}
			}
		}
	}
}
