package model

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var full = flag.Bool("full", false, "search the larger bounds too, for some minutes")

// depth is how deep a search may go, and memory what it may take, in MiB: both
// are far above what any of them needs, and going beyond fails the test.
const (
	depth  = "-m100000"
	memory = 2048
	// atOnce is how many searches run side by side.
	atOnce = 2
)

// A search is one model with macros defined.
type search struct {
	model  string
	rule   string // the macro that removes one; empty: none
	bounds string // other macros: features and bounds
	safe   bool
	larger bool // only with -full
}

// name is how README.md and the output call it.
func (s search) name() string {
	return strings.Join(slices.DeleteFunc([]string{s.model, s.rule, strings.ReplaceAll(s.bounds, " ", ",")},
		func(part string) bool { return part == "" }), "/")
}

var searches = []search{
	{model: "lease", bounds: "M0=3 M1=2", safe: true},
	{model: "lease", bounds: "M0=3 M1=2 SELF", safe: true},
	{model: "lease", bounds: "M0=2 M1=2 LATE", safe: true},
	{model: "lease", bounds: "M0=2 M1=2 DISK", safe: true},
	{model: "lease", bounds: "M0=2 M1=2 CERTIFICATES", safe: true},
	{model: "lease", bounds: "M0=1 M1=1 NV=3 Q=2", safe: true},
	{model: "lease", bounds: "M0=4 M1=2", safe: true, larger: true},
	{model: "lease", bounds: "M0=3 M1=2 LATE DISK", safe: true, larger: true},
	{model: "lease", bounds: "M0=3 M1=2 CERTIFICATES", safe: true, larger: true},

	{model: "lease", rule: "COUNT_FROM_ANSWER", bounds: "M0=2 M1=2 LATE"},
	{model: "lease", rule: "ANSWER_UNMATCHED", bounds: "M0=3 M1=2 LATE"},
	{model: "lease", rule: "OLD_ANSWERS_COUNT", bounds: "M0=3 M1=2 LATE"},
	{model: "lease", rule: "NO_MARGIN", bounds: "M0=3 M1=2"},
	{model: "lease", rule: "VOTE_BREAKS_LEASE", bounds: "M0=3 M1=2"},
	{model: "lease", rule: "RELEASE_BEFORE_STOP", bounds: "M0=3 M1=2"},
	{model: "lease", rule: "TERM_ASKED_TWICE", bounds: "M0=3 M1=2"},
	{model: "lease", rule: "TERM_ASKED_TWICE", bounds: "M0=3 M1=2 NO_RESTART", safe: true},
	{model: "lease", rule: "RELEASE_UNNUMBERED", bounds: "M0=3 M1=2", safe: true},
	{model: "lease", rule: "RELEASE_UNNUMBERED", bounds: "M0=3 M1=2 NO_RESTART TERM_ASKED_TWICE"},
	{model: "lease", rule: "RESTART_FORGETS", bounds: "M0=3 M1=2"},
	{model: "lease", rule: "ANSWER_BEFORE_DISK", bounds: "M0=3 M1=2 DISK"},
	{model: "lease", rule: "RENEW_BEFORE_DISK", bounds: "M0=3 M1=2 DISK"},
	{model: "lease", rule: "CERTIFICATE_BEFORE_END", bounds: "M0=3 M1=2 CERTIFICATES"},
	{model: "lease", rule: "Q=1", bounds: "M0=1 M1=1 NV=2"},

	{model: "claims", safe: true},
	{model: "claims", bounds: "DISK", safe: true},
	{model: "claims", bounds: "BLANK_NEW_EPOCH", safe: true},
	{model: "claims", bounds: "NL=3", safe: true, larger: true},

	{model: "claims", rule: "READ_BEFORE_PROMISE"},
	{model: "claims", rule: "VOTES_UNREAD"},
	{model: "claims", rule: "OLD_TERM_WRITES"},
	{model: "claims", rule: "TERM_SHARED"},
	{model: "claims", rule: "Q2=1"},
	{model: "claims", rule: "ANSWER_BEFORE_DISK", bounds: "DISK"},
	{model: "claims", rule: "BLANK_AT_ONCE"},
	{model: "claims", rule: "BLANK_COPIES"},
	{model: "claims", rule: "BLANK_REFILLED"},
	{model: "claims", rule: "BLANK_REFILLED_KNOWN"},

	{model: "electorate", bounds: "EPOCHS=2", safe: true},
	{model: "electorate", bounds: "RECORDS", safe: true},

	{model: "electorate", rule: "NEXT_UNSETTLED"},
	{model: "electorate", rule: "WHOLE_BY_ONE"},
	{model: "electorate", rule: "READ_BEFORE_ADOPTION"},
	{model: "electorate", rule: "WRITES_UNTAKEN"},
	{model: "electorate", rule: "PROMISES_UNTAKEN"},
	{model: "electorate", rule: "OLD_ACKS"},
	{model: "electorate", rule: "OLD_EPOCHS"},
	{model: "electorate", rule: "TWO_AT_ONCE", bounds: "EPOCHS=2"},
	{model: "electorate", rule: "STORED_UNTOLD", bounds: "RECORDS"},
	{model: "electorate", rule: "UNCHOSEN_ADOPTED", bounds: "RECORDS"},
	{model: "electorate", rule: "OLD_TERM_STORED", bounds: "RECORDS"},

	{model: "founding", bounds: "F=3", safe: true},
	{model: "founding", bounds: "F=3 FOUR", safe: true},
	{model: "founding", bounds: "F=4", safe: true, larger: true},

	{model: "founding", rule: "REPLACED_UNPROVEN"},
	{model: "founding", rule: "PROPOSER_FIRST"},
	{model: "founding", rule: "REFUSED_THOUGH_ACCEPTED"},
	{model: "founding", rule: "REFUSAL_FORGOTTEN"},
	{model: "founding", rule: "ACCEPTANCE_FORGOTTEN"},
	{model: "founding", rule: "TOLD_BEFORE_DISK"},
	{model: "founding", rule: "DISK_LOST"},
	{model: "founding", rule: "LEARNED_THOUGH_ACCEPTED", bounds: "FOUR"},
}

func TestModels(t *testing.T) {
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("look for %s: %v (apt-get install spin gcc)", tool, err)
			}
			t.Skipf("no %s here (apt-get install spin gcc)", tool)
		}
	}
	slots := make(chan struct{}, atOnce)
	for _, s := range searches {
		if s.larger && !*full {
			continue
		}
		t.Run(s.name(), func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			report := s.run(t)
			if s.safe && !report.complete() {
				t.Errorf("want a complete search without an error:\n%s", report)
			}
			if !s.safe && !report.violated() {
				t.Errorf("want a violated assertion: the model does not need this rule, or cannot see it:\n%s", report)
			}
			t.Logf("%s: %s states", s.name(), report.states())
		})
	}
}

// run has Spin write a verifier, compiles it and runs it.
func (s search) run(t *testing.T) report {
	t.Helper()
	source, err := filepath.Abs(s.model + ".pml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	do := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("run %s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	args := []string{"-a"}
	for _, macro := range strings.Fields(s.rule + " " + s.bounds) {
		args = append(args, "-D"+macro)
	}
	do("spin", append(args, source)...)
	// Spin's own C makes newer compilers warn, hence -w. Most searches take
	// less time than it takes to compile them well.
	tuning := []string{"-O0"}
	if s.larger {
		tuning = []string{"-O2", "-DCOLLAPSE"}
	}
	do("gcc", append(tuning, "-w", "-DSAFETY", fmt.Sprintf("-DMEMLIM=%d", memory), "-o", "pan", "pan.c")...)
	return report(do("./pan", depth))
}

// A report is what the verifier printed.
type report string

func (r report) violated() bool {
	return strings.Contains(string(r), "assertion violated") && strings.Contains(string(r), "errors: 1")
}

func (r report) complete() bool {
	if !strings.Contains(string(r), "errors: 0") {
		return false
	}
	return !slices.ContainsFunc([]string{"not completed", "too small", "out of memory", "reached -DMEMLIM"},
		func(s string) bool { return strings.Contains(string(r), s) })
}

var stored = regexp.MustCompile(`(\S+) states, stored`)

func (r report) states() string {
	if m := stored.FindStringSubmatch(string(r)); m != nil {
		return m[1]
	}
	return "no"
}

// TestReports makes sure that a search cut short does not pass for a complete one.
func TestReports(t *testing.T) {
	for text, want := range map[string]struct{ violated, complete bool }{
		"... errors: 0\n 12 states, stored":                                                     {false, true},
		"pan:1: assertion violated (starts<=1)\nWarning: Search not completed\n... errors: 1\n": {true, false},
		"error: max search depth too small\n... errors: 0\n":                                    {false, false},
		"pan: reached -DMEMLIM bound\nWarning: Search not completed\n... errors: 0\n":           {false, false},
		"pan:1: invalid end state (at depth 3)\n... errors: 1\n":                                {false, false},
		"": {false, false},
	} {
		if r := report(text); r.violated() != want.violated || r.complete() != want.complete {
			t.Errorf("%q: violated %v, complete %v", text, r.violated(), r.complete())
		}
	}
}

// TestReadme holds README.md's table to the searches and to the code: every
// rule is in it, and names something that exists.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	code := map[string]string{}
	for _, path := range sources {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		code[filepath.Base(path)] = string(b)
	}
	// | `RULE` | what is removed | result | `file.go`: `name`, `name` |
	row := regexp.MustCompile("(?m)^\\| `([A-Z0-9_=]+)` \\|.*\\| ([^|]*) \\|$")
	place := regexp.MustCompile("`([a-z_]+\\.go)`: ((?:`[A-Za-z0-9]+`(?:, )?)+)")
	listed := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
		places := place.FindAllStringSubmatch(m[2], -1)
		if len(places) == 0 && !strings.HasPrefix(m[2], "not in the code") {
			t.Errorf("%s: the table names no place in the code", m[1])
		}
		for _, p := range places {
			for name := range strings.SplitSeq(p[2], ", ") {
				name = strings.Trim(name, "`")
				if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(code[p[1]]) {
					t.Errorf("%s: %s does not name %s", m[1], p[1], name)
				}
			}
		}
	}
	for _, s := range searches {
		if s.rule != "" && !listed[s.rule] {
			t.Errorf("%s: not in README.md", s.name())
		}
	}
}
