package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestOnUnlordKill: a run that must end with its lordship is asked to when the
// lord is cut off, and is dead before there is another lord, even if it does
// not listen.
func TestOnUnlordKill(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, `
[legion.g]
[[job]]
name = "hold"
legion = "g"
schedule = "@lord"
on_unlord = "kill"
overlap = "allow"
grace = "3s"
command = "trap 'date +%s%N > SHARED.term.$LEGION_NODE' TERM; date +%s%N > SHARED.begin.$LEGION_NODE; while :; do date +%s%N > SHARED.tmp && mv SHARED.tmp SHARED.alive.$LEGION_NODE; sleep 0.02; done"
`)
	moment := func(what string, a *agent) time.Time {
		b, err := os.ReadFile(filepath.Join(c.dir, "shared."+what+"."+a.name))
		var ns int64
		if _, err2 := fmt.Sscan(string(b), &ns); err != nil || err2 != nil {
			return time.Time{}
		}
		return time.Unix(0, ns)
	}
	lord := c.waitLord("g", 15*time.Second)
	lab.Eventually(t, 10*time.Second, "the run", func() bool { return !moment("alive", lord).IsZero() })
	c.lab.CutHost(lord.host.Number)
	var next *agent
	lab.Eventually(t, 20*time.Second, "a run on another node", func() bool {
		for _, a := range c.agents {
			if a != lord && !moment("begin", a).IsZero() {
				next = a
			}
		}
		return next != nil
	})
	asked, last, begin := moment("term", lord), moment("alive", lord), moment("begin", next)
	if asked.IsZero() || !asked.Before(last) {
		t.Errorf("asked to end at %v, last alive %v", asked, last)
	}
	if !last.Before(begin) {
		t.Errorf("alive on %s at %v, and begun on %s at %v", lord.name, last, next.name, begin)
	}
	t.Logf("asked %v before its end, which was %v before the next", last.Sub(asked), begin.Sub(last))
	if r := strings.Join(lord.proc.Lines(), "\n"); !strings.Contains(r, "run killed") {
		t.Errorf("recorded otherwise:\n%s", r)
	}
}
