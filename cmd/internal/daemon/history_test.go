package daemon_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
)

// ask runs a verb against a node and returns what it says on both channels.
func (c *cluster) ask(a *agent, args ...string) (stdout, stderr string) {
	c.t.Helper()
	cmd := exec.Command(c.bin, append(args, "--socket", a.socket)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("legion-cron %s on %s: %v\n%s", strings.Join(args, " "), a.name, err, &errs)
	}
	return out.String(), errs.String()
}

// askJSON is ask with --json, decoded.
func askJSON[T any](c *cluster, a *agent, args ...string) (v T) {
	c.t.Helper()
	out, _ := c.ask(a, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		c.t.Fatalf("legion-cron %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// TestHistoryFromAnywhere asks every node, one without a vote among them, and
// gets the whole cluster's history from each.
func TestHistoryFromAnywhere(t *testing.T) {
	c := newCluster(t, 4, tick+`
[[job]]
name = "odd"
legion = "foobar"
schedule = "@yearly"
command = "echo VALOR" # which differs from node to node
[[job]]
name = "local"
schedule = "@every 1s"
command = "echo here"
`)
	lord := c.waitLord("foobar", 15*time.Second)
	lab.Eventually(t, 20*time.Second, "some runs", func() bool { return len(c.lines()) > 3 })
	slots := map[string]bool{}
	for _, l := range c.lines() {
		slots[l.slot] = true
	}
	s, err := lord.status()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(c.agents, func(a *agent) bool { return !slices.Contains(s.Cluster.Voters, a.name) })
	if i < 0 {
		t.Fatalf("all of them are voters: %v", s.Cluster.Voters)
	}
	plain := c.agents[i] // without a vote

	var told [4][]control.Run
	for i, a := range c.agents {
		lab.Eventually(t, 10*time.Second, a.name+" tells of every slot", func() bool {
			runs := askJSON[[]control.Run](c, a, "runs", "tick")
			told[i] = slices.DeleteFunc(runs, func(r control.Run) bool { return !slots[r.Slot] })
			return len(told[i]) == len(slots) && !slices.ContainsFunc(told[i], func(r control.Run) bool { return r.Outcome != "succeeded" })
		})
		if !reflect.DeepEqual(told[i], told[0]) {
			t.Errorf("%s and %s tell different stories:\n%+v\n%+v", a.name, c.agents[0].name, told[i], told[0])
		}
	}
	lab.Eventually(t, 10*time.Second, "runs of every node's own job", func() bool {
		by := map[string]bool{}
		for _, r := range askJSON[[]control.Run](c, plain, "runs", "local", "--outcome", "succeeded") {
			by[r.Node] = true
		}
		return len(by) == len(c.agents)
	})

	run := told[0][0]
	story := askJSON[control.Story](c, plain, "show", run.Run)
	if story.Run.Slot != run.Slot || len(story.Attempts) != 1 || len(story.Timeline) != 3 || story.Output == nil || story.Output.Node != lord.name {
		t.Errorf("show %s on %s: %+v, output %+v", run.Run, plain.name, story, story.Output)
	}
	e := askJSON[control.Explanation](c, plain, "explain", "tick")
	if want := " on " + lord.name + ", the lord of foobar"; !strings.HasSuffix(e.Verdict, want) || !e.WillRun || e.Lord != lord.name || len(e.Nodes) != 4 || len(e.Last) == 0 {
		t.Errorf("explain tick on %s: %+v, want ...%s", plain.name, e, want)
	}
	for _, j := range askJSON[[]control.Job](c, plain, "jobs") {
		var drift []string
		if j.Name == "odd" {
			for _, a := range c.agents {
				if a != lord {
					drift = append(drift, a.name)
				}
			}
		}
		if len(j.Nodes) != 4 || !slices.Equal(j.Drift, drift) || j.Next.IsZero() {
			t.Errorf("jobs on %s: %+v, want drift %v", plain.name, j, drift)
		}
	}
	if out, errs := c.ask(plain, "runs"); strings.Contains(errs, "no answer") || !strings.Contains(out, run.Run) {
		t.Errorf("runs on %s: %s%s", plain.name, out, errs)
	}

	// A voter that is cut off is named, and the rest is told.
	i = slices.IndexFunc(c.agents, func(a *agent) bool { return a != lord && a != plain })
	cut := c.agents[i]
	c.lab.CutHost(cut.host.Number)
	out, errs := c.ask(plain, "runs", "tick")
	if !strings.Contains(errs, "no answer from "+cut.name+":") || !strings.Contains(out, run.Run) {
		t.Errorf("runs on %s without %s:\n%s%s", plain.name, cut.name, out, errs)
	}
	if e := askJSON[control.Explanation](c, plain, "explain", "tick"); !strings.Contains(strings.Join(e.Why, "\n"), "no answer from "+cut.name) {
		t.Errorf("explain on %s without %s: %q", plain.name, cut.name, e.Why)
	}
}

// TestGapsAreFilled: what one voter alone has of the past, all have soon after.
func TestGapsAreFilled(t *testing.T) {
	c := newCluster(t, 3, "[legion.foobar]\n")
	c.waitLord("foobar", 15*time.Second)
	for _, a := range c.agents {
		a.proc.Kill(syscall.SIGTERM)
	}
	for _, a := range c.agents {
		a.proc.Wait(20 * time.Second)
	}
	const n = 700 // more than a page
	now := time.Now().Truncate(time.Second)
	store, err := ledger.Open(ledger.Config{Dir: filepath.Join(c.agents[0].dir, "state")}, now)
	if err != nil {
		t.Fatal(err)
	}
	var past []jobs.Record
	for i := range n {
		at := now.Add(-5*time.Hour - time.Duration(i)*time.Second)
		past = append(past, jobs.Record{
			Slot: jobs.Slot{Legion: "foobar", Job: "gone", At: at}, Attempt: 1, Run: fmt.Sprint("old-", i), State: jobs.Succeeded,
			Term: 1, Node: "n1", Scheduled: at, Started: at, Ended: at,
		})
	}
	if err := store.Write(ledger.Writes{Records: past}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, a := range c.agents {
		c.start(a)
	}
	lab.Eventually(t, time.Minute, "the past on every voter", func() bool {
		return !slices.ContainsFunc(c.agents, func(a *agent) bool { return len(a.rows(t)) < n })
	})
}

// TestOutcomeOutlivesItsAgent: a run ends while its node hears nobody, and the
// agent is killed before it could tell anybody. It tells when it is back.
func TestOutcomeOutlivesItsAgent(t *testing.T) {
	c := newCluster(t, 3, strings.Replace(long, "sleep 600", "while [ ! -e SHARED.end ]; do sleep 0.1; done", 1))
	lord, run := c.longRun()
	c.lab.CutHost(lord.host.Number)
	c.write(c.shared+".end", "", 0o600)
	lab.Eventually(t, 10*time.Second, "the end of the run", func() bool {
		return lord.rows(t)[rowOf(lord.rows(t), run)] == jobs.Succeeded.Rank()
	})
	lord.proc.Kill(syscall.SIGKILL)
	lord.proc.Wait(10 * time.Second)
	c.lab.Heal()
	c.start(lord)
	for _, a := range c.agents {
		lab.Eventually(t, 30*time.Second, a.name+" has the outcome", func() bool {
			rows := a.rows(t)
			return rows[rowOf(rows, run)] == jobs.Succeeded.Rank()
		})
		lab.Eventually(t, 10*time.Second, a.name+" says so", func() bool {
			outcome, _ := a.outcome(run)
			return outcome == "succeeded"
		})
	}
}

func rowOf(rows map[row]int, run string) row {
	for r := range rows {
		if r.run == run {
			return r
		}
	}
	return row{}
}
