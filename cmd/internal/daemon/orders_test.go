package daemon_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// standing is what an agent's status says of a node in foobar.
func standing(a *agent, node string) (m control.LegionMember) {
	s, err := a.status()
	if err != nil {
		return m
	}
	for _, l := range s.Legions {
		if l.Name != "foobar" {
			continue
		}
		if i := slices.IndexFunc(l.Members, func(m control.LegionMember) bool { return m.Name == node }); i >= 0 {
			m = l.Members[i]
		}
	}
	return m
}

// TestOrders: on three real nodes, asked of whichever: a step-down moves the
// lordship without losing a slot, to the node that is named if one is; a drain
// does, and holds over a restart; a valor set by hand as well.
func TestOrders(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, tick)
	lord := c.waitLord("foobar", 30*time.Second)
	// knows waits until everybody knows the lord, and who could follow it.
	knows := func(lord *agent, heirs int) {
		t.Helper()
		for _, a := range c.agents {
			lab.Eventually(t, 20*time.Second, a.name+" to know the lord", func() bool {
				s, err := a.status()
				return err == nil && slices.ContainsFunc(s.Legions, func(l control.Legion) bool {
					return l.Name == "foobar" && l.Lord == lord.name && len(l.Succession) == heirs
				})
			})
		}
	}
	knows(lord, 2)
	must := func(a *agent, verb ...string) string {
		t.Helper()
		out, err := c.do(a, verb...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", verb, err, out)
		}
		return out
	}
	reigns := func(a *agent) {
		t.Helper()
		lab.Eventually(t, 10*time.Second, a.name+" to reign", func() bool { return c.lord("foobar") == a })
	}
	others := slices.DeleteFunc(slices.Clone(c.agents), func(a *agent) bool { return a == lord })

	// Named, and asked of the third.
	out := must(others[1], "step-down", "foobar", "--to", others[0].name, "--for", "1h")
	if want := fmt.Sprintf("%s is lord of foobar", others[0].name); !strings.Contains(out, want) {
		t.Fatalf("step-down says %q", out)
	}
	reigns(others[0])
	lab.Eventually(t, 10*time.Second, "everybody to see why", func() bool {
		return strings.HasPrefix(strings.Join(standing(others[1], lord.name).Reasons, " "), "ranks last until")
	})
	knows(others[0], 2)

	// The one that reigns is drained by way of another: the third is left.
	must(lord, "drain", "--node", others[0].name)
	reigns(others[1])
	c.end(others[0], syscall.SIGKILL)
	c.start(others[0])
	lab.Eventually(t, 20*time.Second, "the drained node to answer", func() bool {
		_, err := others[0].status()
		return err == nil
	})
	lab.Eventually(t, 20*time.Second, "the drain to survive a restart", func() bool {
		return slices.Contains(standing(others[1], others[0].name).Reasons, "drained")
	})
	must(others[0], "undrain")
	must(others[0], "set-valor", "foobar", "900")
	reigns(others[0]) // it is better now, and preempt is on
	must(others[0], "reset-valor", "foobar")

	before := len(c.lines())
	lab.Eventually(t, 10*time.Second, "runs to go on", func() bool { return len(c.lines()) > before+2 })
	c.noDoubles()
}
