package measure

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// A scenario is something done to the cluster for a while. It returns when all
// is as it was before. steady: the lord has no reason to lose its lordship,
// unless its host is too slow for the profile.
type scenario struct {
	name   string
	steady bool
	long   bool // for full runs alone
	run    func(c *cluster, lord *agent)
}

// cutFor is longer than it takes to elect another lord.
func (c *cluster) cutFor() time.Duration {
	p := profiles[c.profile]
	return 2*p.lease + 2*p.beat
}

func cut(how func(c *cluster, lord *agent)) func(*cluster, *agent) {
	return func(c *cluster, lord *agent) {
		how(c, lord)
		pass(c.t, c.cutFor())
		c.lab.Heal()
	}
}

func frozen(d time.Duration) func(*cluster, *agent) {
	return func(c *cluster, lord *agent) {
		life := lord.now()
		life.Stop()
		pass(c.t, d)
		life.Cont()
	}
}

// minority are as many agents but the lord as can be missed.
func (c *cluster) minority(lord *agent) []*agent { return c.but(lord)[:(c.voters-1)/2] }

func numbers(agents []*agent) (all []int) {
	for _, a := range agents {
		all = append(all, a.host.Number)
	}
	return all
}

var scenarios = []scenario{
	{"the lord cut off", false, true, cut(func(c *cluster, lord *agent) { c.lab.Isolate(lord.host.Number) })},
	{"a minority cut off", true, false, cut(func(c *cluster, lord *agent) {
		few := c.minority(lord)
		var rest []*agent
		for _, a := range c.agents {
			if !slices.Contains(few, a) {
				rest = append(rest, a)
			}
		}
		c.lab.Split(numbers(few), numbers(rest))
	})},
	{"the lord with a minority cut off", false, true, cut(func(c *cluster, lord *agent) {
		few := append(c.minority(lord)[:(c.voters-1)/2-1:(c.voters-1)/2-1], lord)
		var rest []*agent
		for _, a := range c.agents {
			if !slices.Contains(few, a) {
				rest = append(rest, a)
			}
		}
		c.lab.Split(numbers(few), numbers(rest))
	})},
	{"the lord hears nobody", false, false, cut(func(c *cluster, lord *agent) { c.lab.Deafen(lord.host.Number) })},
	{"the lord is heard by nobody", false, false, cut(func(c *cluster, lord *agent) { c.lab.Mute(lord.host.Number) })},
	{"the lord stopped (SIGSTOP) for 1 s", false, true, frozen(time.Second)},
	{"the lord stopped (SIGSTOP) for 3 s", false, false, frozen(3 * time.Second)},
	{"the lord stopped (SIGSTOP) for 30 s", false, true, frozen(30 * time.Second)},
	{"junk to every port", true, false, (*cluster).junk},
	{"what was captured is replayed", true, false, (*cluster).replayToSame},
	{"what was captured is replayed to later incarnations", false, false, (*cluster).replayToLater},
}

// hostileFor is how long a stranger goes on, or listens.
func hostileFor() time.Duration {
	if *inFull {
		return time.Minute
	}
	return 3 * time.Second
}

func (c *cluster) junk(*agent) {
	var addrs []string
	for _, a := range c.agents {
		addrs = append(addrs, a.host.Addr+":4242")
	}
	p := c.stranger(c.lab.Hosts[c.nodes], "junk", addrs...)
	p.WaitLine("^ready", patience)
	pass(c.t, hostileFor())
	p.Kill(syscall.SIGKILL)
	p.Wait(patience)
}

func (c *cluster) capture() string {
	file := filepath.Join(c.t.(*testing.T).TempDir(), "frames")
	p := c.stranger(c.lab.Switch(), "capture", file)
	p.WaitLine("^ready", patience)
	pass(c.t, hostileFor())
	p.Kill(syscall.SIGTERM)
	n, _ := strconv.Atoi(p.WaitLine(`^captured (\d+)`, patience)[1])
	if n < c.nodes {
		c.t.Fatalf("captured %d packets of a living cluster", n)
	}
	return file
}

func (c *cluster) replay(file string, faster int) {
	p := c.stranger(c.lab.Switch(), "replay", file, strconv.Itoa(faster))
	n, _ := strconv.Atoi(p.WaitLine(`^replayed (\d+)`, hostileFor()+patience)[1])
	if n == 0 {
		c.t.Fatal("nothing was replayed")
	}
}

// replayToSame gives the incarnations again what they have had, at the speed
// at which it came, and all at once.
func (c *cluster) replayToSame(*agent) {
	file := c.capture()
	c.replay(file, 1)
	c.replay(file, math.MaxInt32)
}

// replayToLater lets them hear what their earlier lives had to say and to
// hear: renewals, votes, goodbyes.
func (c *cluster) replayToLater(lord *agent) {
	file := c.capture()
	lord.kill(syscall.SIGKILL)
	c.restart(lord)()
	next := c.rest()
	c.replay(file, 4)
	other := c.but(next)[0]
	other.kill(syscall.SIGTERM)
	c.restart(other)()
	before := c.rest()
	since := boot()
	c.replay(file, 1)
	c.replay(file, math.MaxInt32)
	c.unmoved(before, since)
}

// unmoved fails if anybody became lord since then.
func (c *cluster) unmoved(lord *agent, since time.Duration) {
	c.t.Helper()
	for _, r := range c.reigns() {
		if r.legion == legion && r.begin > since {
			c.t.Errorf("the lordship of %s has moved: %v", lord.name, r)
		}
	}
}

func TestOneLord(t *testing.T) {
	for _, s := range setups(t) {
		s.strangers, s.job = 1, true
		for _, sc := range scenarios {
			if !wanted(sc.name) || sc.long && !*inFull {
				continue
			}
			t.Run(fmt.Sprintf("%s %s %s", sc.name, s.profile, s), func(t *testing.T) {
				together(t)
				c := start(t, s)
				for range *trials {
					lord := c.rest()
					since := boot()
					sc.run(c, lord)
					c.whole()
					if sc.steady && s.profile == "lan" {
						c.unmoved(lord, since)
					}
				}
				v := c.verdict()
				c.once()
				record(t, "onelord", 3, sc.name, s.String(), s.profile, fmt.Sprint(*trials), fmt.Sprint(v.reigns),
					map[bool]string{true: "never", false: "YES"}[v.breach == ""], v.between(), load())
			})
		}
	}
}

// together lets short tests run beside each other; figures are taken alone.
func together(t *testing.T) {
	if !*inFull {
		t.Parallel()
	}
}

// once fails if any attempt of a slot was started twice.
func (c *cluster) once() {
	c.t.Helper()
	by := map[string]string{}
	text := readAll(c.t, c.shared)
	for line := range strings.Lines(text) {
		attempt, node, _ := strings.Cut(strings.TrimSpace(line), " ")
		if other, ok := by[attempt]; ok {
			c.t.Errorf("%s was started by %s and by %s", attempt, other, node)
		}
		by[attempt] = node
	}
	if len(by) == 0 {
		c.t.Error("no slot was started at all")
	}
}

// TestMerge cuts the cluster in two for longer than memberlist needs to bury the
// other half, and looks how soon all see all again.
func TestMerge(t *testing.T) {
	together(t)
	var long time.Duration
	if *inFull {
		long = 2 * time.Minute
	}
	c := start(t, setup{nodes: 5, voters: 5, profile: "lan"})
	c.whole()
	c.lab.Split([]int{1, 2}, []int{3, 4, 5})
	began := time.Now()
	lab.Eventually(t, patience, "the halves bury each other", func() bool {
		for i, a := range c.agents {
			if s, err := a.status(); err != nil || alive(s) != []int{2, 2, 3, 3, 3}[i] {
				return false
			}
		}
		return true
	})
	pass(t, long-time.Since(began))
	c.lab.Heal()
	healed := time.Now()
	c.whole()
	took := time.Since(healed)
	c.verdict()
	record(t, "merge", 2, "2, 3", long.String(), ms(took), "15s", load())
}

// A second node of a name is refused, and the first one keeps its lordship.
func TestNameTaken(t *testing.T) {
	together(t)
	c := start(t, setup{nodes: 3, voters: 3, profile: "lan", strangers: 1})
	lord := c.rest()
	pass(t, 2*time.Second) // of two that start within a second of each other neither came first
	since := boot()
	twin := &agent{name: lord.name, dir: t.TempDir(), host: c.lab.Hosts[3]}
	for name, text := range map[string]string{"keys": readAll(t, filepath.Join(lord.dir, "keys")), "config.toml": c.config(twin)} {
		write(t, filepath.Join(twin.dir, name), text)
	}
	c.begin(twin)
	if state := twin.now().Wait(patience); state.ExitCode() != 1 {
		t.Errorf("the second %s ends with %v, want exit code 1", lord.name, state)
	}
	lines := strings.Join(twin.now().Lines(), "\n")
	if !strings.Contains(lines, "name is taken by a live node") {
		t.Errorf("the second %s says\n%s", lord.name, lines)
	}
	c.whole()
	c.unmoved(lord, since)
}
