package daemon_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestStaleVoter: a voter that was cut off has not heard what became of the
// slots that it knows to be waiting. When it is lord it must not run them again.
func TestStaleVoter(t *testing.T) {
	c := newCluster(t, 3, `
[legion.foobar]
valor = VALOR
[[job]]
name = "tick"
legion = "foobar"
schedule = "@every 1s"
overlap = "queue-all"
command = "echo $LEGION_SLOT $LEGION_NODE >> SHARED; sleep 1.5"
`)
	first, second := c.agents[0], c.agents[1] // by their valor
	lab.Eventually(t, 20*time.Second, "n1 is lord", func() bool { return c.lord("foobar") == first })
	n := len(c.lines())
	lab.Eventually(t, 30*time.Second, "a queue", func() bool { return len(c.lines()) >= n+4 })

	c.lab.Split([]int{2}, []int{1, 3})
	n = len(c.lines())
	lab.Eventually(t, 30*time.Second, "runs that n2 does not hear of", func() bool { return len(c.lines()) >= n+4 })
	c.lab.Heal()
	lab.Eventually(t, 30*time.Second, "n2 follows n1 again", func() bool {
		s, err := second.status()
		return err == nil && len(s.Legions) == 1 && s.Legions[0].Lord == first.name
	})
	n = len(c.lines())
	first.proc.Kill(syscall.SIGKILL)
	lab.Eventually(t, 20*time.Second, "n2 is lord", func() bool { return c.lord("foobar") == second })
	lab.Eventually(t, 60*time.Second, "runs on n2", func() bool { return len(c.lines()) >= n+6 })
	c.noDoubles()
}
