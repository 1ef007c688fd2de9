package daemon_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestFirstProcess: an agent that is PID 1 of a container buries what its runs
// leave behind, and loses none of their outcomes for it.
func TestFirstProcess(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, `
[[job]]
name = "parent"
schedule = "@start"
command = "setsid sh -c 'while ! test -e OWN/go; do sleep 0.05; done' > /dev/null 2>&1 &"
[[job]]
name = "count"
schedule = "@every 1s"
command = "grep -ls '^State:.*zombie' /proc/[0-9]*/status | wc -l >> OWN/dead"
`)
	a := c.agents[0]
	a.proc.WaitLine("agent started", 20*time.Second)
	c.end(a, syscall.SIGTERM)
	os.Remove(filepath.Join(a.dir, "dead")) // of the agent that is not PID 1
	a.proc = a.host.Start(t, []string{"unshare", "--fork", "--pid", "--mount-proc", "--kill-child", c.bin, "agent", "--config", filepath.Join(a.dir, "config.toml")})
	a.proc.WaitLine("agent started", 20*time.Second)
	dead := func() []string {
		b, _ := os.ReadFile(filepath.Join(a.dir, "dead"))
		return strings.Fields(string(b))
	}
	ended := func(job string) bool {
		return slices.ContainsFunc(c.runsOf(a, job), func(r control.Run) bool { return r.Outcome == "succeeded" })
	}
	lab.Eventually(t, 20*time.Second, "the run to end", func() bool { return ended("parent") && len(dead()) > 0 })
	if err := os.WriteFile(filepath.Join(a.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, "a dead orphan", func() bool { n := dead(); return slices.Equal(n[max(0, len(n)-3):], []string{"1", "1", "1"}) })
	lab.Eventually(t, 60*time.Second, "it to be buried", func() bool { n := dead(); return n[len(n)-1] == "0" })
	if n := c.runsOf(a, "count"); slices.ContainsFunc(n, func(r control.Run) bool { return r.Outcome == "failed" }) {
		t.Errorf("runs failed: %+v", n)
	}
}
