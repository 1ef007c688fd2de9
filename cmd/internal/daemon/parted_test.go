package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestLeftInPeace: what a run had left running when it ended outlives the agent,
// if that ends as it should, on a host without cgroups as well: the next agent
// does not take it for the left-over of a run. Of one that was killed it does.
func TestLeftInPeace(t *testing.T) {
	t.Parallel()
	c := newAlone(t, `
[[job]]
name = "leaves"
schedule = "0 0 1 1 *"
command = "setsid sh -c 'trap : EXIT; while ! test -e SHARED.over; do sleep 0.05; done' > /dev/null 2>&1 & echo $! > SHARED.pid"
[[job]]
name = "stays"
schedule = "0 0 1 1 *"
command = "echo $$ > SHARED.stays; exec sleep 600"
`)
	a := c.agents[0]
	defer os.WriteFile(c.shared+".over", nil, 0o600)
	a.proc.WaitLine("agent started", 20*time.Second)
	c.end(a, syscall.SIGTERM)
	bare := func() {
		a.proc = a.host.Start(t, []string{"unshare", "--mount", "sh", "-c", `umount -a -t cgroup2; exec "$0" "$@"`, c.bin, "agent", "--config", filepath.Join(a.dir, "config.toml")})
		a.proc.WaitLine("agent started", 20*time.Second)
	}
	alive := func(file string) bool {
		b, err := os.ReadFile(c.shared + file)
		var pid int
		if _, err2 := fmt.Sscan(string(b), &pid); err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // a zombie has none
		return err == nil && exe != ""
	}
	bare()
	c.must(a, "trigger", "leaves", "--wait")
	c.end(a, syscall.SIGTERM)
	bare()
	if !alive(".pid") {
		t.Error("a stop and a start killed what a run had left in peace")
	}
	c.must(a, "trigger", "stays")
	lab.Eventually(t, 10*time.Second, "a run", func() bool { _, err := os.Stat(c.shared + ".stays"); return err == nil })
	c.end(a, syscall.SIGKILL)
	bare()
	if alive(".stays") {
		t.Error("a run outlived its agent")
	}
	if !alive(".pid") {
		t.Error("what a run of an earlier agent had left in peace was killed with the last one's")
	}
}
