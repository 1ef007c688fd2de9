package measure

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/guardian"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

var (
	trials     = flag.Int("trials", 1, "how often each event is tried")
	wantEvents = flag.String("events", "", "substrings of the events to try, by comma; none: all")
	wantNodes  = flag.String("nodes", "3", "sizes of cluster, by comma: 3, 5, 5/3 (three of five vote)")
	wantProf   = flag.String("profiles", "lan", "profiles, by comma: lan, fast")
	probe      = flag.Duration("probe", 0, "how often memberlist looks after a member; 12s makes it take a minute to notice a death")
)

func TestMain(m *testing.M) {
	runner.Trampoline()
	guardian.Main()
	stranger()
	lab.Main(m)
}

// An event is a way to lose a lord.
type event struct {
	name string
	// promise is P4's figure, and unit what it is best compared with.
	promise func(beat, lease time.Duration) time.Duration
	unit    func(beat, lease time.Duration) time.Duration
	said    string
	// strike does it at once, and returns what undoes it.
	strike func(c *cluster, lord *agent) (undo func())
}

func aLease(_, lease time.Duration) time.Duration { return lease }
func aBeat(beat, _ time.Duration) time.Duration   { return beat }

func leaseAndBeats(beat, lease time.Duration) time.Duration { return lease + 2*beat }

func within(d time.Duration) func(_, _ time.Duration) time.Duration {
	return func(_, _ time.Duration) time.Duration { return d }
}

// restart undoes the death of an agent.
func (c *cluster) restart(a *agent) func() {
	return func() {
		c.end(a)
		c.begin(a)
	}
}

var events = []event{
	{"host cut off", leaseAndBeats, aLease, "lease + 2 beats", func(c *cluster, lord *agent) func() {
		c.lab.Isolate(lord.host.Number)
		return c.lab.Heal
	}},
	{"kill -9 of agent and guardian", leaseAndBeats, aLease, "lease + 2 beats", func(c *cluster, lord *agent) func() {
		guardian := c.guardian(lord)
		_ = syscall.Kill(guardian, syscall.SIGKILL)
		lord.kill(syscall.SIGKILL)
		return c.restart(lord)
	}},
	{"kill -9 of the agent", within(200 * time.Millisecond), aBeat, "200 ms", func(c *cluster, lord *agent) func() {
		lord.kill(syscall.SIGKILL)
		return c.restart(lord)
	}},
	{"SIGTERM", within(100 * time.Millisecond), aBeat, "100 ms", func(c *cluster, lord *agent) func() {
		lord.kill(syscall.SIGTERM)
		return c.restart(lord)
	}},
	{"step-down", within(100 * time.Millisecond), aBeat, "100 ms", func(c *cluster, lord *agent) func() {
		const away = time.Second
		if _, err := control.NewClient(lord.socket).StepDown(c.t.Context(), control.StepDownQuery{Legion: legion, For: away}); err != nil {
			c.t.Fatalf("step-down of %s: %v", lord.name, err)
		}
		return func() { pass(c.t, 2*away) } // it may have the throne back by then
	}},
}

// succeed strikes the lord, and returns after how long there was another one.
func (c *cluster) succeed(e event, lord *agent) time.Duration {
	c.t.Helper()
	said := map[*agent]int{}
	for _, a := range c.agents {
		said[a] = len(a.now().Lines())
	}
	struck := boot()
	undo := e.strike(c, lord)
	var next *reign
	lab.Eventually(c.t, patience, "a lord after: "+e.name, func() bool {
		for _, r := range c.reigns() {
			if r.legion == legion && r.begin > struck && r.node != lord.name && (next == nil || r.begin < next.begin) {
				next = r
			}
		}
		return next != nil
	})
	took := next.begin - struck
	if p := profiles[c.profile]; took > e.promise(p.beat, p.lease) {
		for a, n := range said {
			c.t.Logf("%s in %v:\n%s", a.name, took, strings.Join(a.now().LinesFrom(n), "\n"))
		}
	}
	undo()
	return took
}

// rest waits until the cluster is whole, and until voters that were restarted
// do not hold back any more.
func (c *cluster) rest() *agent {
	c.t.Helper()
	p := profiles[c.profile]
	lord := c.whole()
	if !*inFull {
		return lord
	}
	pass(c.t, p.lease*3/2+rand.N(p.beat)) // events come at any moment of a beat
	return c.whole()
}

func setups(t testing.TB) (all []setup) {
	for _, profile := range strings.Split(*wantProf, ",") {
		for _, size := range strings.Split(*wantNodes, ",") {
			s := setup{profile: profile, probe: *probe}
			if n, _ := fmt.Sscanf(size, "%d/%d", &s.nodes, &s.voters); n == 1 {
				s.voters = s.nodes
			} else if n != 2 {
				t.Fatalf("-nodes %s", size)
			}
			all = append(all, s)
		}
	}
	return all
}

func wanted(name string) bool {
	return *wantEvents == "" || slices.ContainsFunc(strings.Split(*wantEvents, ","), func(part string) bool { return strings.Contains(name, part) })
}

func TestSuccession(t *testing.T) {
	for _, s := range setups(t) {
		t.Run(s.profile+" "+s.String(), func(t *testing.T) {
			together(t)
			c := start(t, s)
			p := profiles[s.profile]
			for _, e := range events {
				if !wanted(e.name) {
					continue
				}
				var took []time.Duration
				for range *trials {
					lord := c.rest()
					took = append(took, c.succeed(e, lord))
				}
				c.whole()
				slices.Sort(took)
				promise, unit := e.promise(p.beat, p.lease), e.unit(p.beat, p.lease)
				median, worst := took[len(took)/2], took[len(took)-1]
				over := len(took) - len(slices.DeleteFunc(slices.Clone(took), func(d time.Duration) bool { return d > promise }))
				word := map[bool]string{true: "lease", false: "beat"}[unit == p.lease]
				ratio := func(d time.Duration) string {
					return fmt.Sprintf("%s (%.2f %ss)", ms(d), float64(d)/float64(unit), word)
				}
				detection := "default"
				if s.probe > 0 {
					detection = "60 s"
				}
				t.Logf("%s: %v", e.name, took)
				record(t, "succession", 4, e.name, s.String(), s.profile, detection, fmt.Sprint(len(took)), ratio(median), ratio(worst),
					e.said, fmt.Sprint(over), load())
			}
			c.verdict()
		})
	}
}

// verdict fails if ever two were lords at once, or a term did not grow. The
// line that ends a reign may take a moment to arrive.
func (c *cluster) verdict() verdict {
	c.t.Helper()
	const lines = 5 * time.Second
	v := judge(c.reigns())
	for deadline := time.Now().Add(lines); v.breach != "" && time.Now().Before(deadline); v = judge(c.reigns()) {
		pass(c.t, settling)
	}
	if v.breach != "" {
		c.t.Error(v.breach)
	}
	return v
}

// stranger starts one of the programs of stranger_test.go.
func (c *cluster) stranger(h *lab.Host, role string, args ...string) *lab.Proc {
	c.t.Helper()
	return h.Start(c.t, append([]string{os.Args[0]}, args...), "MEASURE_STRANGER="+role)
}
