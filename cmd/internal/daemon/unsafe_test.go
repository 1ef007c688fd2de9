package daemon_test

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// doubleLine is the console's line about a slot that ran twice.
var doubleLine = regexp.MustCompile(`slot ran twice.*slot=(\S+)`)

// TestUnsafeQuorum: in a legion that does with one vote each side of a split
// has its lord and says that it is not safe; healed, one gives way, and what
// ran on both sides is found and reported.
func TestUnsafeQuorum(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, `
[legion.foobar]
quorum = 1
unsafe_quorum = true
[[job]]
name = "tick"
legion = "foobar"
schedule = "@every 1s"
overlap = "allow"
command = "echo $LEGION_SLOT $LEGION_NODE >> SHARED"
`)
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
	doubles := func() []string {
		ran, twice := map[string]bool{}, []string{}
		for _, l := range c.lines() {
			if ran[l.slot] {
				twice = append(twice, l.slot)
			}
			ran[l.slot] = true
		}
		slices.Sort(twice)
		return twice
	}
	lab.Eventually(t, 20*time.Second, "slots that run on both sides", func() bool { return len(doubles()) >= 3 })
	c.lab.Heal()
	lab.Eventually(t, 20*time.Second, "one to give way", func() bool {
		names, _ := reigning()
		return len(names) == 1
	})
	// The larger side hears of the smaller one's runs.
	for _, a := range c.agents[1:] {
		var want, got []string
		lab.Eventually(t, 30*time.Second, "the doubles in the log of "+a.name, func() bool {
			want, got = doubles(), nil
			for _, l := range a.proc.Lines() {
				if m := doubleLine.FindStringSubmatch(l); m != nil {
					got = append(got, m[1])
				}
			}
			slices.Sort(got)
			return slices.Equal(got, want)
		})
		s, err := a.status()
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(s.Legions, func(l control.Legion) bool { return l.Name == "foobar" }); s.Legions[i].Doubles != len(want) {
			t.Errorf("%s counts %d doubles of %d", a.name, s.Legions[i].Doubles, len(want))
		}
		story, err := control.NewClient(a.socket).Story(t.Context(), want[0])
		if err != nil {
			t.Fatal(err)
		}
		nodes := map[string]bool{}
		for _, r := range story.Attempts {
			if r.Attempt != 1 || r.Outcome != "succeeded" {
				t.Errorf("show %s on %s: %+v", want[0], a.name, r)
			}
			nodes[r.Node] = true
		}
		if len(nodes) != 2 || !nodes[c.agents[0].name] {
			t.Errorf("show %s on %s: %+v", want[0], a.name, story.Attempts)
		}
	}
}
