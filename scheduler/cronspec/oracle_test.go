package cronspec

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
)

var (
	sweep = flag.Bool("sweep", false, "compare every transition of every zone from 1970 to 2037 with the oracle")
	seed  = flag.Uint64("seed", 0, "seed of the random schedules; 0: a new one each time")
)

func random(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// A column is a field of a made-up schedule: its text, and what it means, said
// without the parser.
type column struct {
	text  string
	match func(t time.Time) bool
}

func (c column) star() bool { return strings.HasPrefix(c.text, "*") }

// A madeUp schedule is the dumb reading of a text: a clock time either matches or not.
type madeUp struct {
	text  string
	match func(wall time.Time) bool
	fixed bool
}

func makeColumn(r *rand.Rand, low, high int, of func(time.Time) int) column {
	var texts []string
	values := map[int]bool{}
	for range 1 + r.IntN(3) {
		from := low + r.IntN(high-low+1)
		to := from + r.IntN(high-from+1)
		step := 1 + r.IntN(high-low+1)
		var text string
		switch r.IntN(6) {
		case 0, 1:
			text, to, step = fmt.Sprint(from), from, 1
		case 2:
			text, step = fmt.Sprintf("%d-%d", from, to), 1
		case 3:
			text = fmt.Sprintf("%d-%d/%d", from, to, step)
		case 4:
			text, from, to = fmt.Sprintf("*/%d", step), low, high
		case 5:
			text, from, to, step = "*", low, high, 1
		}
		for v := from; v <= to; v += step {
			values[v] = true
		}
		texts = append(texts, text)
		if r.IntN(3) > 0 {
			break
		}
	}
	return column{strings.Join(texts, ","), func(t time.Time) bool { return values[of(t)] }}
}

func makeDom(r *rand.Rand) column {
	n := 1 + r.IntN(31)
	switch r.IntN(12) {
	case 0:
		return column{"L", func(t time.Time) bool { return t.AddDate(0, 0, 1).Day() == 1 }}
	case 1:
		n = min(n, 25)
		return column{fmt.Sprintf("L-%d", n), func(t time.Time) bool { return t.AddDate(0, 0, n+1).Day() == 1 }}
	case 2:
		return column{fmt.Sprintf("%dW", n), func(t time.Time) bool { return t.Day() == nearestWeekday(t, n) }}
	case 3:
		return column{"LW", func(t time.Time) bool { return t.Day() == nearestWeekday(t, monthDays(t)) }}
	case 4, 5, 6, 7:
		return column{"*", func(time.Time) bool { return true }}
	}
	return makeColumn(r, 1, 31, time.Time.Day)
}

func monthDays(t time.Time) int {
	return time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// nearestWeekday tries every day of the month.
func nearestWeekday(t time.Time, want int) int {
	best, distance := 0, 99
	for d := 1; d <= monthDays(t); d++ {
		switch time.Date(t.Year(), t.Month(), d, 0, 0, 0, 0, time.UTC).Weekday() {
		case time.Saturday, time.Sunday:
			continue
		}
		if off := max(d-want, want-d); off < distance {
			best, distance = d, off
		}
	}
	if want > monthDays(t) {
		return 0
	}
	return best
}

func makeDow(r *rand.Rand) column {
	n, k := r.IntN(7), 1+r.IntN(5)
	names := []string{"sun", "MON", "Tue", "wed", "thu", "fri", "sat"}
	switch r.IntN(12) {
	case 0:
		return column{fmt.Sprintf("%sL", names[n]), func(t time.Time) bool {
			return int(t.Weekday()) == n && t.AddDate(0, 0, 7).Month() != t.Month()
		}}
	case 1:
		return column{fmt.Sprintf("%d#%d", n, k), func(t time.Time) bool {
			return int(t.Weekday()) == n && (t.Day()-1)/7+1 == k
		}}
	case 2:
		return column{fmt.Sprintf("%d-7", n), func(t time.Time) bool { return int(t.Weekday()) >= n || t.Weekday() == 0 }}
	case 3:
		return column{names[n], func(t time.Time) bool { return int(t.Weekday()) == n }}
	case 4, 5, 6, 7:
		return column{"*", func(time.Time) bool { return true }}
	}
	return makeColumn(r, 0, 6, func(t time.Time) int { return int(t.Weekday()) })
}

func makeUp(r *rand.Rand, seconds bool) madeUp {
	second := column{"", func(t time.Time) bool { return t.Second() == 0 }}
	if seconds {
		second = makeColumn(r, 0, 59, time.Time.Second)
	}
	minute := makeColumn(r, 0, 59, time.Time.Minute)
	hour := makeColumn(r, 0, 23, time.Time.Hour)
	if r.IntN(3) == 0 { // the hours where things happen
		hour = makeColumn(r, 0, 4, time.Time.Hour)
		hour.text = strings.ReplaceAll(hour.text, "*", "0-4")
	}
	dom, month, dow := makeDom(r), column{"*", func(time.Time) bool { return true }}, makeDow(r)
	if r.IntN(4) == 0 {
		month = makeColumn(r, 1, 12, func(t time.Time) int { return int(t.Month()) })
	}
	and := dom.star() || dow.star()
	return madeUp{
		text: strings.TrimSpace(strings.Join([]string{second.text, minute.text, hour.text, dom.text, month.text, dow.text}, " ")),
		match: func(t time.Time) bool {
			if !second.match(t) || !minute.match(t) || !hour.match(t) || !month.match(t) {
				return false
			}
			if and {
				return dom.match(t) && dow.match(t)
			}
			return dom.match(t) || dow.match(t)
		},
		fixed: !minute.star() && !hour.star(),
	}
}

func makeUpIntegers(r *rand.Rand) madeUp {
	lows, highs := []int{0, 0, 1, 1, 0}, []int{59, 23, 31, 12, 7}
	of := []func(time.Time) int{time.Time.Minute, time.Time.Hour, time.Time.Day,
		func(t time.Time) int { return int(t.Month()) }, func(t time.Time) int { return int(t.Weekday()) }}
	n := make([]int, 5)
	var texts []string
	for i := range n {
		switch r.IntN(3) {
		case 0:
			n[i] = -1
		case 1:
			n[i] = -2 - r.IntN(4)
		default:
			n[i] = lows[i] + r.IntN(highs[i]-lows[i]+1)
		}
		texts = append(texts, fmt.Sprint(n[i]))
	}
	matches := func(i int, t time.Time) bool {
		v := of[i](t)
		switch {
		case n[i] < 0:
			return v%-n[i] == 0
		case i == 4:
			return v == n[i]%7
		}
		return v == n[i]
	}
	return madeUp{
		text: strings.Join(texts, " "),
		match: func(t time.Time) bool {
			day := matches(2, t) && matches(4, t)
			if n[2] >= 0 && n[4] >= 0 {
				day = matches(2, t) || matches(4, t)
			}
			return t.Second() == 0 && matches(0, t) && matches(1, t) && matches(3, t) && day
		},
		fixed: n[0] >= 0 && n[1] >= 0,
	}
}

// A moment is an instant and what the wall clock shows, as a UTC time.
type moment struct{ instant, wall time.Time }

// watch reads a zone's wall clock at every step from from to until.
func watch(location *time.Location, from, until time.Time, step time.Duration) (moments []moment) {
	for t := from; t.Before(until); t = t.Add(step) {
		w := t.In(location)
		moments = append(moments, moment{t, time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), 0, time.UTC)})
	}
	return moments
}

// slots is the oracle. A wildcard schedule fires whenever the clock matches. A
// fixed one looks at every clock time once, as soon as the clock shows it or
// has jumped over it (with skip: shows it).
func (m madeUp) slots(moments []moment, step time.Duration, skip bool) (slots []time.Time) {
	high := moments[0].wall.Add(-step)
	for _, now := range moments {
		fires := false
		if !m.fixed {
			fires = m.match(now.wall)
		} else if now.wall.After(high) {
			fires = m.match(now.wall)
			for w := high.Add(step); !skip && w.Before(now.wall); w = w.Add(step) {
				fires = fires || m.match(w)
			}
			high = now.wall
		}
		if fires {
			slots = append(slots, now.instant)
		}
	}
	return slots
}

// compare checks one made-up schedule against the oracle in a window. The
// first two days of the window only warm the oracle up.
func compare(t *testing.T, r *rand.Rand, m madeUp, o Options, moments []moment, step time.Duration) (slots int) {
	t.Helper()
	s, err := Parse(m.text, o)
	if err != nil {
		if strings.Contains(err.Error(), "never fires") || strings.Contains(err.Error(), "is a multiple") {
			for _, now := range moments {
				if m.match(now.wall) && o.DST != "skip" && m.fixed {
					t.Fatalf("Parse(%q): %v, but the oracle has it at %s", m.text, err, now.wall)
				}
			}
			return 0
		}
		t.Fatalf("Parse(%q, seconds %v): %v", m.text, o.Seconds, err)
	}
	begin, end := moments[0].instant.Add(48*time.Hour), moments[len(moments)-1].instant
	if step == time.Second {
		begin = moments[0].instant.Add(6 * time.Hour)
	}
	var want []time.Time
	for _, slot := range m.slots(moments, step, o.DST == "skip") {
		if slot.After(begin) {
			want = append(want, slot)
		}
	}
	at := begin
	for i := 0; ; i++ {
		next := s.Next(at)
		if next.IsZero() || next.After(end) {
			if i < len(want) {
				t.Fatalf("%q in %s, dst %q: Next(%s) = %s, oracle %s", m.text, o.Location, o.DST, at, next.In(o.Location), want[i].In(o.Location))
			}
			break
		}
		if !next.After(at) || i >= len(want) || !next.Equal(want[i]) {
			oracle := "nothing"
			if i < len(want) {
				oracle = want[i].In(o.Location).String()
			}
			t.Fatalf("%q in %s, dst %q, fixed %v: Next(%s) = %s, oracle %s", m.text, o.Location, o.DST, m.fixed, at.In(o.Location), next.In(o.Location), oracle)
		}
		at = next
	}
	for range 20 { // from anywhere, not only from slot to slot
		from := begin.Add(time.Duration(r.Int64N(int64(end.Sub(begin)))))
		i, _ := slices.BinarySearchFunc(want, from, func(slot, from time.Time) int {
			if slot.After(from) {
				return 1
			}
			return -1
		})
		next := s.Next(from)
		if i < len(want) && !next.Equal(want[i]) || i == len(want) && !next.IsZero() && !next.After(end) {
			t.Fatalf("%q in %s, dst %q: Next(%s) = %s, not as the oracle says", m.text, o.Location, o.DST, from.In(o.Location), next.In(o.Location))
		}
	}
	return len(want)
}

func zoneNames(t testing.TB) []string {
	text, err := os.ReadFile("testdata/zones.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// transitions are the moments from 1970 to 2037 at which a zone's rules change.
func transitions(location *time.Location) (all []time.Time) {
	t := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	for {
		_, end := t.In(location).ZoneBounds()
		if end.IsZero() || end.Year() > 2037 {
			return all
		}
		t = end.UTC()
		all = append(all, t)
	}
}

// TestOracle compares random schedules with the oracle: around transitions, in
// whole years, and second by second.
func TestOracle(t *testing.T) {
	t.Parallel()
	r := random(t)
	names := zoneNames(t)
	slots := 0
	around := func(location *time.Location, change time.Time, schedules int) {
		step := time.Minute
		_, before := change.Add(-1).In(location).Zone()
		_, after := change.In(location).Zone()
		if before%60 != 0 || after%60 != 0 {
			step = time.Second // Monrovia until 1972
		}
		moments := watch(location, change.Add(-72*time.Hour), change.Add(36*time.Hour), step)
		if step == time.Second {
			moments = watch(location, change.Add(-30*time.Hour), change.Add(6*time.Hour), step)
		}
		for range schedules {
			m := makeUp(r, false)
			if r.IntN(4) == 0 {
				m = makeUpIntegers(r)
			}
			slots += compare(t, r, m, Options{Location: location, DST: []string{"", "cron", "skip"}[r.IntN(3)], UWSGI: m.integers()}, moments, step)
		}
	}
	load := func(name string) *time.Location {
		location, err := LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		return location
	}

	if *sweep {
		n := 0
		for _, name := range names {
			for _, change := range transitions(load(name)) {
				around(load(name), change, 8)
				n++
			}
		}
		t.Logf("%d transitions of %d zones, %d slots", n, len(names), slots)
		return
	}
	for range 100 {
		location := load(names[r.IntN(len(names))])
		if all := transitions(location); len(all) > 0 {
			around(location, all[r.IntN(len(all))], 6)
		}
	}
	around(load("Africa/Monrovia"), transitions(load("Africa/Monrovia"))[0], 4)
	around(load("Pacific/Apia"), time.Date(2011, 12, 30, 10, 0, 0, 0, time.UTC), 20)
	for range 3 {
		location := load(names[r.IntN(len(names))])
		from := time.Date(1970+r.IntN(130), 1, 1, 0, 0, 0, 0, time.UTC)
		moments := watch(location, from, from.AddDate(1, 0, 0), time.Minute)
		for range 6 {
			slots += compare(t, r, makeUp(r, false), Options{Location: location}, moments, time.Minute)
		}
	}
	for range 20 {
		location := load(names[r.IntN(len(names))])
		if all := transitions(location); len(all) > 0 {
			change := all[r.IntN(len(all))]
			moments := watch(location, change.Add(-8*time.Hour), change.Add(2*time.Hour), time.Second)
			slots += compare(t, r, makeUp(r, true), Options{Location: location, Seconds: true}, moments, time.Second)
		}
	}
	if slots == 0 {
		t.Error("nothing was compared")
	}
}

// integers reports whether the text is uWSGI's: five single integers, some negative.
func (m madeUp) integers() bool {
	for _, f := range strings.Fields(m.text) {
		if _, ok := number(strings.TrimPrefix(f, "-")); !ok {
			return false
		}
	}
	return true
}

// TestAgainstRobfig compares plain schedules with robfig's in UTC, where its
// reading is right: no days of both kinds, no 7.
func TestAgainstRobfig(t *testing.T) {
	t.Parallel()
	r := random(t)
	for range 500 {
		columns := []string{
			makeColumn(r, 0, 59, time.Time.Minute).text, makeColumn(r, 0, 23, time.Time.Hour).text,
			makeColumn(r, 1, 28, time.Time.Day).text, makeColumn(r, 1, 12, time.Time.Day).text, "*",
		}
		if r.IntN(2) == 0 {
			columns[2], columns[4] = "*", makeColumn(r, 0, 6, time.Time.Day).text
		}
		text := strings.Join(columns, " ")
		theirs, err := cron.ParseStandard(text)
		if err != nil {
			t.Fatalf("robfig: %v", err)
		}
		ours, err := Parse(text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(r.Int64N(4e9), r.Int64N(1e9)).UTC()
		for range 50 {
			want, got := theirs.Next(at), ours.Next(at)
			if !got.Equal(want) {
				t.Fatalf("%q: Next(%s) = %s, robfig %s", text, at, got, want)
			}
			at = got
		}
	}
}
