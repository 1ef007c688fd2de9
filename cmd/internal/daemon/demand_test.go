package daemon_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// others are the agents that are not a.
func (c *cluster) others(a *agent) (all []*agent) {
	for _, o := range c.agents {
		if o != a && !o.proc.Exited() {
			all = append(all, o)
		}
	}
	return all
}

// must runs a verb that must succeed, and returns what it prints.
func (c *cluster) must(a *agent, args ...string) string {
	c.t.Helper()
	out, errs, code := c.cli(a, args...)
	if code != 0 {
		c.t.Fatalf("legion-cron %s on %s: exit %d: %s", strings.Join(args, " "), a.name, code, errs)
	}
	return strings.TrimSpace(out)
}

// runsOf are the runs of a job, newest first, as an agent tells them.
func (c *cluster) runsOf(a *agent, job string) []control.Run {
	c.t.Helper()
	var runs []control.Run
	if err := json.Unmarshal([]byte(c.must(a, "runs", job, "--json")), &runs); err != nil {
		c.t.Fatal(err)
	}
	return runs
}

// TestDemands: what people ask for is done by the node that must, whichever
// they ask.
func TestDemands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, `
[legion.g]
[[job]]
name = "quick"
legion = "g"
schedule = "0 0 1 1 *"
command = "echo $LEGION_NODE $LEGION_ATTEMPT; exit 3"
[[job]]
name = "long"
legion = "g"
schedule = "0 0 1 1 *"
command = "trap 'date +%s%N > SHARED.hup' HUP; trap 'date +%s%N > SHARED.term; exit 0' TERM; echo up; while :; do sleep 0.01; done"
[[job]]
name = "often"
legion = "g"
schedule = "@every 1s"
command = "echo $LEGION_SLOT $LEGION_NODE >> SHARED"
[[job]]
name = "own"
schedule = "0 0 1 1 *"
command = "echo $LEGION_NODE"
`)
	lord := c.waitLord("g", 15*time.Second)
	other := c.others(lord)[0]
	lab.Eventually(t, 10*time.Second, other.name+" to know its lord", func() bool {
		out, _, _ := c.cli(other, "lord", "g")
		return strings.TrimSpace(out) == lord.name
	})

	// trigger, from another node, with its exit code; and the same slot once more.
	out, errs, code := c.cli(other, "trigger", "quick", "--wait")
	run := strings.Fields(out)[0]
	if code != 3 || !strings.HasSuffix(out, "failed: exit status 3\n") {
		t.Errorf("trigger --wait: exit %d, %q, %s", code, out, errs)
	}
	if got := c.must(other, "logs", run); got != lord.name+" 1" {
		t.Errorf("it printed %q, the lord is %s", got, lord.name)
	}
	out, errs, code = c.cli(other, "rerun", run, "--wait")
	if again := strings.Fields(out)[0]; code != 3 || c.must(other, "logs", again) != lord.name+" 2" {
		t.Errorf("rerun --wait: exit %d, %q, %s", code, out, errs)
	}
	if runs := c.runsOf(other, "quick"); len(runs) != 2 || runs[0].Slot != runs[1].Slot || !runs[0].Manual || !runs[1].Manual {
		t.Errorf("runs %+v", runs)
	}
	if got := c.must(other, "trigger", "own", "--wait"); !strings.HasSuffix(got, "succeeded") {
		t.Errorf("trigger of a job without a legion: %s", got)
	}
	for _, args := range [][]string{{"trigger", "nothing"}, {"rerun", run + "0"}, {"kill", run}, {"pause", "nothing"}} {
		if _, errs, code := c.cli(other, args...); code != 1 || !strings.Contains(errs, "hint: ") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}

	// A signal, and the end, of a run on another node.
	run = c.must(other, "trigger", "long")
	lab.Eventually(t, 10*time.Second, "the long run to be up", func() bool {
		out, _, _ := c.cli(other, "logs", run)
		return out == "up\n"
	})
	if _, errs, code := c.cli(other, "trigger", "long"); code != 1 || !strings.Contains(errs, "overlap") {
		t.Errorf("trigger of what runs: exit %d, %s", code, errs)
	}
	reaches := func(what string, args ...string) {
		t.Helper()
		began := time.Now()
		c.must(other, args...)
		var at int64
		lab.Eventually(t, 5*time.Second, "the run to get "+what, func() bool {
			b, err := os.ReadFile(filepath.Join(c.dir, "shared."+what))
			_, err2 := fmt.Sscan(string(b), &at)
			return err == nil && err2 == nil
		})
		t.Logf("%v reached the run after %v, the program's own start included", args[0], time.Unix(0, at).Sub(began).Round(time.Millisecond))
	}
	reaches("hup", "kill", run, "--signal", "HUP")
	reaches("term", "kill", run)
	lab.Eventually(t, 5*time.Second, "the run to be recorded as killed", func() bool { return c.runsOf(other, "long")[0].Outcome == "killed" })
	if r := c.runsOf(other, "long")[0]; !strings.Contains(r.Reason, "killed by uid 0 on "+other.name) {
		t.Errorf("reason %q", r.Reason)
	}

	// A pause holds under the next lord, too.
	c.must(other, "pause", "often", "--reason", "moving the disks")
	lab.Eventually(t, 5*time.Second, "a slot to be skipped", func() bool { return c.runsOf(other, "often")[0].Reason == "paused" })
	ran := len(c.lines())
	lord.proc.Kill(syscall.SIGKILL)
	next := c.waitLord("g", 15*time.Second)
	lab.Eventually(t, 10*time.Second, "a slot to be skipped by the next lord", func() bool {
		r := c.runsOf(next, "often")[0]
		return r.Reason == "paused" && r.Node == next.name
	})
	if now := len(c.lines()); now != ran {
		t.Errorf("%d runs of a paused job", now-ran)
	}
	if out := c.must(next, "explain", "often"); !strings.Contains(out, "moving the disks (uid 0 on "+other.name+")") {
		t.Errorf("explain: %s", out)
	}
	c.must(next, "resume", "often")
	lab.Eventually(t, 5*time.Second, "a run after it", func() bool { return len(c.lines()) > ran })
	c.must(next, "pause", "--legion", "g", "--until", "1h")
	if out := c.must(next, "status"); !strings.Contains(out, "g is paused: by uid 0, until ") {
		t.Errorf("status: %s", out)
	}
	c.must(next, "resume", "--legion", "g")
	c.noDoubles()
}
