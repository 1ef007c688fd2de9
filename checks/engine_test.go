package checks

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const second = time.Second

// def is a check that is probed every 10 s.
func def(name string, change ...func(*Definition)) Definition {
	d := Definition{Name: name, Probe: "probe of " + name, Interval: 10 * second, Timeout: 3 * second, Rise: 1, Fall: 2, Valor: -50}
	for _, f := range change {
		f(&d)
	}
	return d
}

func required(d *Definition) { d.Required, d.Valor = true, 0 }

func engine(t *testing.T, defs ...Definition) *Engine {
	t.Helper()
	e := NewEngine("node")
	if _, err := e.Configure(0, defs); err != nil {
		t.Fatal(err)
	}
	return e
}

// feed lets a check have its results one after the other, "+" and "-", and
// returns the states it came through.
func feed(t *testing.T, e *Engine, now *time.Duration, results string) (states []State) {
	t.Helper()
	for _, r := range results {
		*now += e.Wake(*now)
		starts, changes := e.Step(*now)
		if len(starts) != 1 || len(changes) != 0 {
			t.Fatalf("at %s: starts %v, changes %v", *now, starts, changes)
		}
		reason := ""
		if r == '-' {
			reason = "broken"
		}
		e.Done(starts[0].Ticket, reason)
		states = append(states, e.Reports()[0].State)
	}
	return states
}

func TestRiseAndFall(t *testing.T) {
	for _, tt := range []struct {
		rise, fall    int
		results, want string // the initial of every state
	}{
		{1, 2, "+", "p"},
		{1, 2, "-", "f"}, // never passed: the first is enough
		{1, 2, "+-", "pp"},
		{1, 2, "+--", "ppf"},
		{1, 2, "+-+-+-", "pppppp"}, // comes and goes, and moves nothing
		{1, 2, "+--+", "ppfp"},
		{3, 1, "++", "uu"},
		{3, 1, "+++", "uup"},
		{3, 1, "++-+++", "uufffp"},
		{2, 3, "++--+---", "uppppppf"},
		{2, 3, "++---+-++", "upppffffp"},
	} {
		now := time.Duration(0)
		e := engine(t, def("c", func(d *Definition) { d.Rise, d.Fall = tt.rise, tt.fall }))
		got := ""
		for _, s := range feed(t, e, &now, tt.results) {
			got += string(s[0])
		}
		if got != tt.want {
			t.Errorf("rise %d, fall %d, %s: states %s, want %s", tt.rise, tt.fall, tt.results, got, tt.want)
		}
	}
}

// The state is always what the last results, read backwards, say it is.
func TestOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		rise, fall := 1+rng.IntN(4), 1+rng.IntN(4)
		e := engine(t, def("c", func(d *Definition) { d.Rise, d.Fall = rise, fall }))
		now, past, want := time.Duration(0), "", Unknown
		for range 60 {
			r := []string{"+", "-"}[rng.IntN(2)]
			past += r
			switch {
			case strings.HasSuffix(past, strings.Repeat("+", rise)):
				want = Passing
			case strings.HasSuffix(past, strings.Repeat("-", fall)), r == "-" && want == Unknown:
				want = Failing
			}
			if got := feed(t, e, &now, r)[0]; got != want {
				t.Fatalf("rise %d, fall %d, %s: %s, want %s", rise, fall, past, got, want)
			}
		}
	}
}

func TestStanding(t *testing.T) {
	bonus := func(d *Definition) { d.Valor = 30 }
	only := func(legions ...string) func(*Definition) { return func(d *Definition) { d.Legions = legions } }
	for _, tt := range []struct {
		name    string
		def     Definition
		results string
		want    Standing
	}{
		{"unknown weight", def("c"), "", Standing{}},
		{"unknown bonus", def("c", bonus), "", Standing{}},
		{"unknown veto", def("c", required), "", Standing{Veto: "check c is unknown (required): no result yet"}},
		{"passing weight", def("c"), "+", Standing{}},
		{"passing bonus", def("c", bonus), "+", Standing{Weight: 30}},
		{"passing veto", def("c", required), "+", Standing{}},
		{"failing weight", def("c"), "-", Standing{Weight: -50}},
		{"failing bonus", def("c", bonus), "-", Standing{}},
		{"failing veto", def("c", required), "-", Standing{Veto: "check c is failing (required): broken"}},
		{"not of this legion", def("c", only("other")), "-", Standing{}},
		{"of this legion among others", def("c", only("other", "foobar")), "-", Standing{Weight: -50}},
		{"no longer failing", def("c"), "--+", Standing{}},
	} {
		now := time.Duration(0)
		e := engine(t, tt.def)
		feed(t, e, &now, tt.results)
		if got := e.Standing("foobar"); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}

	e := engine(t, def("a"), def("b"), def("c", bonus), def("d", required), def("e", required))
	starts, _ := e.Step(0)
	for i, s := range starts {
		e.Done(s.Ticket, []string{"low", "", "", "bad", "worse"}[i])
	}
	if got, want := e.Standing("foobar"), (Standing{Weight: -20, Veto: "check d is failing (required): bad"}); got != want {
		t.Errorf("all together: %+v, want %+v", got, want)
	}
}

func TestChange(t *testing.T) {
	bonus := func(d *Definition) { d.Valor = 30 }
	for _, tt := range []struct {
		def     Definition
		results string
		want    []string
	}{
		{def("c"), "+--+", []string{
			"check c is passing, 1 in a row", "check c is failing, 2 in a row: broken; valor -50", "check c is passing, 1 in a row; valor +50, as before",
		}},
		{def("c", bonus), "+--", []string{
			"check c is passing, 1 in a row; valor +30", "check c is failing, 2 in a row: broken; valor -30, as before",
		}},
		{def("c", required), "-+", []string{
			"check c is failing, 1 in a row: broken; unfit until it passes", "check c is passing, 1 in a row; no longer unfit by it",
		}},
	} {
		e := engine(t, tt.def)
		now, got := time.Duration(0), []string(nil)
		for _, r := range tt.results {
			now += e.Wake(now)
			starts, _ := e.Step(now)
			for _, c := range e.Done(starts[0].Ticket, map[rune]string{'-': "broken"}[r]) {
				got = append(got, c.String())
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.results, got, tt.want)
		}
	}
}

// Probes begin at once and then keep their phase, whatever the delay of one.
func TestPhase(t *testing.T) {
	e := engine(t, def("c"))
	starts := []time.Duration{}
	rng := rand.New(rand.NewPCG(3, 4))
	for now := time.Duration(0); len(starts) < 50; {
		now += e.Wake(now)
		if len(starts) > 0 {
			now += time.Duration(rng.Int64N(int64(second))) // late
		}
		s, _ := e.Step(now)
		if len(s) != 1 {
			t.Fatalf("at %s: %v", now, s)
		}
		starts = append(starts, now)
		e.Done(s[0].Ticket, "")
	}
	if starts[0] != 0 {
		t.Errorf("the first probe was at %s", starts[0])
	}
	phase := starts[1] % (10 * second)
	for i, at := range starts[1:] {
		if gap := at - starts[i]; i > 0 && (gap < 9*second || gap > 11*second) || gap < 5*second || gap > 16*second {
			t.Errorf("probe %d came %s after the one before", i+1, gap)
		}
		if late := (at - phase + 20*second) % (10 * second); late > second && late < 9*second {
			t.Errorf("probe %d is at %s, out of its phase of %s", i+1, at, phase)
		}
	}
}

// The checks of a node, and the nodes with the same check, do not go in step.
func TestSpread(t *testing.T) {
	tenths := map[time.Duration]int{}
	for i := range 20 {
		for j := range 20 {
			e := NewEngine(fmt.Sprint("node", i))
			c := &check{Definition: def(fmt.Sprint("check", j))}
			tenths[e.after(c, 0)/second]++
			if again := e.after(c, 0); again != e.after(c, 0) {
				t.Error("the phase changes")
			}
		}
	}
	if len(tenths) != 10 {
		t.Errorf("400 first repetitions fall into %d of 10 seconds", len(tenths))
	}
	for at, n := range tenths {
		if n < 15 || n > 80 {
			t.Errorf("%d of 400 are in second %d", n, at)
		}
	}
}

// A long sleep (a suspended host) is followed by one probe, not by those missed.
func TestSleep(t *testing.T) {
	e := engine(t, def("c"))
	now := time.Duration(0)
	feed(t, e, &now, "+")
	now += time.Hour
	if starts, _ := e.Step(now); len(starts) != 1 {
		t.Fatalf("after an hour: %v", starts)
	}
	if starts, _ := e.Step(now + 1); len(starts) != 0 {
		t.Fatalf("and again: %v", starts)
	}
}

// A probe that does not come back takes nobody's place, is never started twice,
// and its check fails for as long.
func TestStuck(t *testing.T) {
	e := engine(t, def("stuck", required), def("well"))
	starts, _ := e.Step(0)
	hung := starts[0].Ticket
	e.Done(starts[1].Ticket, "")
	var changes []Change
	now, probed := time.Duration(0), 0
	for now < time.Minute {
		now += e.Wake(now)
		starts, more := e.Step(now)
		changes = append(changes, more...)
		for _, s := range starts {
			if s.Check == "stuck" {
				t.Fatalf("at %s its probe was started a second time", now)
			}
			probed++
			e.Done(s.Ticket, "")
		}
	}
	if probed < 5 {
		t.Errorf("the other was probed %d times in a minute", probed)
	}
	want := "check stuck is failing, 1 in a row: no answer within 3s, and its probe does not end; unfit until it passes"
	if len(changes) != 1 || changes[0].String() != want {
		t.Errorf("changes %v, want %s", changes, want)
	}
	if e.Stuck() != 1 {
		t.Errorf("%d are stuck, want 1", e.Stuck())
	}
	if changes := e.Done(hung, ""); len(changes) != 0 {
		t.Errorf("its late answer made %v", changes)
	}
	if e.Stuck() != 0 {
		t.Errorf("%d are still stuck", e.Stuck())
	}
	now += e.Wake(now)
	starts, _ = e.Step(now)
	if !slices.ContainsFunc(starts, func(s Start) bool { return s.Check == "stuck" }) {
		t.Errorf("it is not probed again: %v", starts)
	}
}

// At most MaxRunning are under way; the rest gets its turn, the oldest first.
func TestRunning(t *testing.T) {
	var defs []Definition
	for i := range MaxChecks {
		defs = append(defs, def(fmt.Sprint("c", i)))
	}
	e := engine(t, defs...)
	var order []string
	starts, _ := e.Step(0)
	if len(starts) != MaxRunning {
		t.Fatalf("%d at once, want %d", len(starts), MaxRunning)
	}
	for len(starts) > 0 {
		s := starts[0]
		starts = starts[1:]
		order = append(order, s.Check)
		e.Done(s.Ticket, "")
		more, _ := e.Step(0)
		if starts = append(starts, more...); len(starts) > MaxRunning {
			t.Fatalf("%d at once", len(starts))
		}
	}
	for i, name := range order {
		if name != defs[i].Name {
			t.Fatalf("start %d is %s", i, name)
		}
	}
	if len(order) != MaxChecks {
		t.Errorf("%d of %d were probed", len(order), MaxChecks)
	}
}

// With MaxStuck lost probes no goroutine is added, and what is due fails.
func TestTooManyStuck(t *testing.T) {
	e := NewEngine("node")
	now, lost := time.Duration(0), 0
	for round := 0; e.Stuck() < MaxStuck; round++ {
		// Every reload is another definition, so the old probe is nobody's.
		if _, err := e.Configure(now, []Definition{def("c", func(d *Definition) { d.Probe = fmt.Sprint(round) })}); err != nil {
			t.Fatal(err)
		}
		starts, _ := e.Step(now)
		lost += len(starts)
		now += 3*second + Patience
		e.Step(now)
	}
	if lost != MaxStuck {
		t.Errorf("%d probes were started, want %d", lost, MaxStuck)
	}
	if _, err := e.Configure(now, []Definition{def("last")}); err != nil {
		t.Fatal(err)
	}
	starts, changes := e.Step(now)
	if len(starts) != 0 || len(changes) != 1 || changes[0].State != Failing {
		t.Errorf("starts %v, changes %v", starts, changes)
	}
}

func TestReload(t *testing.T) {
	now := time.Duration(0)
	e := engine(t, def("same"), def("other"), def("gone"))
	starts, _ := e.Step(now)
	for _, s := range starts {
		e.Done(s.Ticket, "broken")
	}
	now += e.Wake(now)
	starts, _ = e.Step(now) // one of the three is under way
	heavier := def("same", func(d *Definition) { d.Valor = -70 })
	stale, err := e.Configure(now, []Definition{heavier, def("other", func(d *Definition) { d.Probe = "another" }), def("new")})
	if err != nil {
		t.Fatal(err)
	}
	under := starts[0].Check
	if want := under != "same"; (len(stale) == 1) != want {
		t.Errorf("stale %v with %s under way", stale, under)
	}
	var got []string
	for _, r := range e.Reports() {
		got = append(got, r.String())
	}
	want := []string{"check same is failing (-70): broken", "check other is unknown: no result yet", "check new is unknown: no result yet"}
	if !slices.Equal(got, want) {
		t.Errorf("reports %q, want %q", got, want)
	}
	if changes := e.Done(starts[0].Ticket, ""); under != "same" && len(changes) != 0 {
		t.Errorf("a stale result made %v", changes)
	}
	begun := map[string]bool{}
	starts, _ = e.Step(now)
	for _, s := range starts {
		begun[s.Check] = true
	}
	if !begun["other"] || !begun["new"] {
		t.Errorf("new checks are not probed at once: %v", starts)
	}
	if _, err := e.Configure(now, []Definition{def("twice"), def("twice")}); err == nil || len(e.Reports()) != 3 {
		t.Errorf("error %v, %d checks", err, len(e.Reports()))
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Definition){
		"":                    func(*Definition) {},
		"without a name":      func(d *Definition) { d.Name = "" },
		"interval 1ms":        func(d *Definition) { d.Interval = time.Millisecond },
		"interval 48h0m0s":    func(d *Definition) { d.Interval = 48 * time.Hour },
		"timeout 11s":         func(d *Definition) { d.Timeout = 11 * second },
		"timeout 0s":          func(d *Definition) { d.Timeout = 0 },
		"rise 0":              func(d *Definition) { d.Rise = 0 },
		"fall 1001":           func(d *Definition) { d.Fall = 1001 },
		"valor 0":             func(d *Definition) { d.Valor = 0 },
		"valor 1000001":       func(d *Definition) { d.Valor = 1_000_001 },
		"required and of":     func(d *Definition) { d.Required = true },
		"valor -2000000 is 0": func(d *Definition) { d.Valor = -2_000_000 },
	} {
		d := def("c", change)
		err := d.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// Whatever a probe says becomes one bounded line.
func TestReasons(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\t c\r\n":            "a b c",
		"\x1b[31mred\x00":         "[31mred",
		"bad \xff utf":            "bad ? utf",
		strings.Repeat("ä", 1000): strings.Repeat("ä", 98) + "...",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
