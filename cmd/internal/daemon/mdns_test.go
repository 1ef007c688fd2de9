package daemon_test

import (
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// Agents that know nobody find each other by multicast, and again after they
// were told apart from the first moment on.
func TestMDNS(t *testing.T) {
	c := newClusterWith(t, 3, `join = ["mdns"]`, "[legion.foobar]\n")
	c.waitLord("foobar", 30*time.Second)
	for _, a := range c.agents {
		lab.Eventually(t, 30*time.Second, a.name+" sees three", func() bool { return c.alive(a, 3) })
	}
}
