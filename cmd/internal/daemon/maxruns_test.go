package daemon_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestMaxRuns: of six slots due at once on a node that runs two at a time, two
// run, the others are claimed and wait for them, and each has its turn.
func TestMaxRuns(t *testing.T) {
	const due, most = 6, 2
	work := t.TempDir()
	gate := filepath.Join(work, "gate")
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	text.WriteString(strings.Replace(single, "[node]", "[node]\nmax_runs = 2", 1))
	for i := range due {
		name := string(rune('a' + i))
		text.WriteString(`
[[job]]
name = "` + name + `"
legion = "foobar"
schedule = "@start"
command = "echo start >> log; while [ -e gate ]; do sleep 0.05; done; echo end >> log"
dir = "` + work + `"
`)
	}
	n := startNode(t, shortDir(t), text.String())
	count := func(outcome string) int { return len(n.runs(control.RunsQuery{Outcome: outcome})) }
	lab.Eventually(t, 20*time.Second, "two runs, and four that wait", func() bool {
		return count("running") == most && count("claimed") == due-most
	})
	b, err := os.ReadFile(filepath.Join(work, "log"))
	if err != nil || strings.Count(string(b), "start") > most {
		t.Errorf("%v; the jobs wrote %q", err, b)
	}
	e, err := n.Explain(context.Background(), "a")
	if err != nil || e.MaxRuns != most || e.Running != most || !strings.Contains(strings.Join(e.Why, "\n"), "runs 2 at a time, and that many are alive") {
		t.Errorf("explain: %v, %d of %d: %q", err, e.Running, e.MaxRuns, e.Why)
	}
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, "all to have run", func() bool { return count("succeeded") == due })
	if all := n.runs(control.RunsQuery{}); len(all) != due {
		t.Errorf("%d records of %d slots: %v", len(all), due, all)
	}
	b, err = os.ReadFile(filepath.Join(work, "log"))
	if err != nil {
		t.Fatal(err)
	}
	alive, starts := 0, 0
	for _, l := range strings.Fields(string(b)) {
		if l == "end" {
			alive--
			continue
		}
		alive++
		if starts++; alive > most {
			t.Errorf("%d alive at once: %q", alive, b)
		}
	}
	if starts != due {
		t.Errorf("%d of %d slots were started", starts, due)
	}
}

// TestWaitEndsWithTheLordship: a claim that waits for its turn is given up when
// its lordship is, however long the runs before it take: it would stand in the
// way of the next lord.
func TestWaitEndsWithTheLordship(t *testing.T) {
	work := t.TempDir()
	n := startNode(t, shortDir(t), strings.Replace(single, "[node]", "[node]\nmax_runs = 1", 1)+`
[[job]]
name = "long"
schedule = "@start"
command = "touch up; exec sleep 600"
dir = "`+work+`"
[[job]]
name = "waits"
legion = "foobar"
schedule = "@every 1s"
on_unlord = "kill"
command = "true"
`)
	defer n.Daemon.Kill()
	outcome := func(job, outcome string) bool {
		return len(n.runs(control.RunsQuery{Job: job, Outcome: outcome})) > 0
	}
	lab.Eventually(t, 20*time.Second, "a claim that waits", func() bool { return outcome("long", "running") && outcome("waits", "claimed") })
	began := time.Now()
	if d, err := n.Drain(context.Background(), "", false); err != nil || len(d.Lordships) > 0 {
		t.Fatal(d, err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the lordship was given up after %v", took)
	}
	lab.Eventually(t, 5*time.Second, "the claim to be given up", func() bool { return outcome("waits", "never started") && !outcome("waits", "claimed") })
}
