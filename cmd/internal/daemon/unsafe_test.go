package daemon_test

import (
	"slices"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestUnsafeQuorum: in a legion that does with one vote each side of a split
// has its lord and says that it is not safe; healed, one gives way.
func TestUnsafeQuorum(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "[legion.foobar]\nquorum = 1\nunsafe_quorum = true\n")
	c.waitLord("foobar", 30*time.Second)
	reigning := func() (names []string, unsafe bool) {
		for _, a := range c.agents {
			s, err := a.status()
			if err != nil {
				continue
			}
			i := slices.IndexFunc(s.Legions, func(l control.Legion) bool { return l.Name == "foobar" })
			if i < 0 {
				continue
			}
			unsafe = unsafe || !s.Legions[i].Safe
			if l := s.Legions[i]; l.Lord == a.name && l.TrustedMS > 0 {
				names = append(names, a.name)
			}
		}
		return names, unsafe
	}
	c.lab.Split([]int{1}, []int{2, 3})
	lab.Eventually(t, 20*time.Second, "a lord on either side", func() bool {
		names, unsafe := reigning()
		return unsafe && len(names) == 2 && names[0] == c.agents[0].name
	})
	c.lab.Heal()
	lab.Eventually(t, 20*time.Second, "one to give way", func() bool {
		names, _ := reigning()
		return len(names) == 1
	})
}
