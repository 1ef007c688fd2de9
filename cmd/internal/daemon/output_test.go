package daemon_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs/ledger"
)

// cli runs a verb against an agent. It returns what was printed and the exit code.
func (c *cluster) cli(a *agent, args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	cmd := exec.Command(c.bin, args...)
	cmd.Env = append(os.Environ(), "LEGION_CRON_SOCKET="+a.socket)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestLogs: what a run prints can be read on every node, while it prints it
// and afterwards.
func TestLogs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, `
[legion.g]
[[job]]
name = "talk"
legion = "g"
schedule = "@lord"
command = "echo begin; while ! test -e SHARED.go; do sleep 0.05; done; yes 0123456789abcde | head -c 300000; echo end"
`)
	lord := c.waitLord("g", 15*time.Second)
	var followers []*lab.Proc
	for _, a := range c.agents {
		lab.Eventually(t, 10*time.Second, a.name+" to know of the run", func() bool {
			out, _, _ := c.cli(a, "runs", "talk", "--json")
			return strings.Contains(out, `"running"`)
		})
		followers = append(followers, a.host.Start(t, []string{c.bin, "logs", "talk", "-f", "--socket", a.socket}))
	}
	for _, f := range followers {
		f.WaitLine("^begin$", 10*time.Second)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "shared.go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, f := range followers {
		f.WaitLine("^end$", 10*time.Second)
		if n := len(f.Lines()); n != 300000/16+2 {
			t.Errorf("%s followed %d lines (the lord is %s)", c.agents[i].name, n, lord.name)
		}
	}
	for _, a := range c.agents {
		out, errs, code := c.cli(a, "logs", "talk")
		if code != 0 || !strings.HasPrefix(out, "begin\n") || !strings.HasSuffix(out, "\nend\n") || len(out) != 300000+len("begin\nend\n") {
			t.Errorf("logs on %s: exit %d, %d bytes, %s", a.name, code, len(out), errs)
		}
	}
	for _, what := range []string{"nothing", "019a0000-0000-7000-8000-000000000000"} {
		if _, errs, code := c.cli(lord, "logs", what); code != 1 || !strings.Contains(errs, "hint: ") {
			t.Errorf("logs %s: exit %d, %s", what, code, errs)
		}
	}
	// The node with the output is gone: that is said, and who it is.
	other := c.agents[0]
	if other == lord {
		other = c.agents[1]
	}
	c.lab.CutHost(lord.host.Number)
	if _, errs, code := c.cli(other, "logs", "talk"); code != 1 || !strings.Contains(errs, lord.name+" does not answer") {
		t.Errorf("logs from a node that is cut off: exit %d, %s", code, errs)
	}
}

// TestOutputIsForgotten: what a run printed is kept as long as its record, and no
// longer.
func TestOutputIsForgotten(t *testing.T) {
	dir := shortDir(t)
	n := startNode(t, dir, single+`
[[job]]
name = "talk"
legion = "foobar"
schedule = "0 0 1 1 *"
max_output = 4096
overlap = "allow"
command = "yes 0123456789abcde | head -c 10000"
`)
	lab.Eventually(t, 20*time.Second, "more runs than are kept", func() bool {
		_, _ = n.Trigger(t.Context(), "talk") // refused until there is a lord
		return len(n.runs(control.RunsQuery{Outcome: "succeeded"})) > ledger.DefaultKeepRuns
	})
	lab.Eventually(t, 20*time.Second, "them to end", func() bool {
		return len(n.runs(control.RunsQuery{Outcome: "succeeded"})) == len(n.runs(control.RunsQuery{}))
	})
	if err := n.Retain(time.Now().AddDate(10, 0, 0)); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range n.runs(control.RunsQuery{}) {
		want = append(want, r.Run+".log")
	}
	slices.Sort(want)
	var kept []string
	left, err := os.ReadDir(filepath.Join(dir, "state", "output"))
	for _, e := range left {
		kept = append(kept, e.Name())
	}
	if err != nil || len(want) != ledger.DefaultKeepRuns || !slices.Equal(kept, want) {
		t.Errorf("%v; of the runs %q there are the outputs %q", err, want, kept)
	}
}
