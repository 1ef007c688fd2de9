package daemon_test

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// partVar says which part this binary plays when it is a child of the tests.
const partVar = "LEGION_CRON_TEST_PART"

const (
	address  = "10.88.9.9"
	service  = address + ":8080"
	takeover = "../../../contrib/address-takeover"
)

// boot is the time since the machine started, which all hosts of a lab share.
func boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// play is the whole life of a child: a service that says its name to whoever
// connects, or a client that connects again and again and says who answered,
// and when it began to ask.
func play(part string) {
	what, name, _ := strings.Cut(part, " ")
	if what == "serve" {
		l, err := net.Listen("tcp", ":8080")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for {
			if c, err := l.Accept(); err == nil {
				fmt.Fprintln(c, name)
				c.Close()
			}
		}
	}
	for {
		asked := boot()
		c, err := net.DialTimeout("tcp", service, 50*time.Millisecond)
		if err != nil {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
		var who string
		if _, err := fmt.Fscan(c, &who); err == nil {
			fmt.Println("answer", who, int64(asked))
		}
		c.Close()
		<-time.After(2 * time.Millisecond)
	}
}

// A carried address is a cluster whose lord has it, services on its hosts, and
// a client on another one.
type carried struct {
	*cluster
	client *lab.Proc
	all    map[string][]*lab.Proc // every agent that there was, by node
	took   map[string][]time.Duration
}

func newCarried(t *testing.T) *carried {
	t.Helper()
	if _, err := exec.LookPath("arping"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("arping is not installed (package iputils-arping)")
	}
	text, err := os.ReadFile(filepath.Join(takeover, "web.toml"))
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs(filepath.Join(takeover, "legion-address"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(script); err != nil { // so that go test knows what it depends on
		t.Fatal(err)
	}
	conf := strings.NewReplacer("/usr/local/sbin/legion-address", script, "192.0.2.10", address,
		"[legion.web]\n", "[legion.web]\nvalor = VALOR\npreempt = false\n").Replace(string(text))
	// The last node is an arbiter, and the host of the client.
	c := &carried{cluster: newCluster(t, 4, conf), all: map[string][]*lab.Proc{}, took: map[string][]time.Duration{}}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range c.agents {
		c.all[a.name] = append(c.all[a.name], a.proc)
		if a.host.Number < 4 {
			a.host.Start(t, []string{self}, partVar+"=serve "+a.name)
		}
	}
	c.client = c.agents[3].host.Start(t, []string{self}, partVar+"=ask")
	return c
}

func (c *carried) start(a *agent) {
	c.cluster.start(a)
	c.all[a.name] = append(c.all[a.name], a.proc)
}

var answer = regexp.MustCompile(`^answer (\S+) (\d+)$`)

// answered waits for an answer of another node than old to a connection that
// was begun after since, and returns who it was and how long after.
func (c *carried) answered(old *agent, since time.Duration, limit time.Duration) (*agent, time.Duration) {
	c.t.Helper()
	var who *agent
	var took time.Duration
	next := 0
	lab.Eventually(c.t, limit, "an answer of another node", func() bool {
		lines := c.client.Lines()
		for ; next < len(lines) && who == nil; next++ {
			m := answer.FindStringSubmatch(lines[next])
			if m == nil {
				continue
			}
			ns, _ := strconv.ParseInt(m[2], 10, 64)
			i := slices.IndexFunc(c.agents, func(a *agent) bool { return a.name == m[1] })
			if at := time.Duration(ns); at > since && (old == nil || m[1] != old.name) {
				who, took = c.agents[i], at-since
			}
		}
		return who != nil
	})
	return who, took
}

// moved lets something happen to the lord and returns its successor once the
// client has reached it.
func (c *carried) moved(what string, lord *agent, limit time.Duration, happen func()) *agent {
	c.t.Helper()
	since := boot()
	happen()
	next, took := c.answered(lord, since, limit+20*time.Second)
	c.took[what] = append(c.took[what], took)
	c.t.Logf("%s: the client reaches %s instead of %s %v later", what, next.name, lord.name, took.Round(time.Millisecond))
	if took > limit {
		c.t.Errorf("%s: %v later, want %v", what, took, limit)
	}
	return next
}

// A tenure is when a node had the address, in the boot time that its hooks said.
type tenure struct {
	node     string
	from, to float64 // to 0: it has it still
}

var tenured = regexp.MustCompile(`(taking|dropped) ` + regexp.QuoteMeta(address) + `/32 on eth0 at boot time ([0-9.]+)`)

func (c *carried) tenures() []tenure {
	var all []tenure
	for node, procs := range c.all {
		type word struct {
			taking bool
			at     float64
		}
		var words []word
		for _, p := range procs {
			for _, l := range p.Lines() {
				if m := tenured.FindStringSubmatch(l); m != nil {
					at, _ := strconv.ParseFloat(m[2], 64)
					words = append(words, word{m[1] == "taking", at})
				}
			}
		}
		slices.SortStableFunc(words, func(a, b word) int { return cmp.Compare(a.at, b.at) })
		var open *tenure
		for _, w := range words {
			switch {
			case w.taking && open == nil:
				open = &tenure{node: node, from: w.at}
			case !w.taking && open != nil:
				open.to = w.at
				all = append(all, *open)
				open = nil
			}
		}
		if open != nil {
			all = append(all, *open)
		}
	}
	slices.SortFunc(all, func(a, b tenure) int { return cmp.Compare(a.from, b.from) })
	return all
}

// oneOwner fails if two nodes had the address at once.
func (c *carried) oneOwner() {
	c.t.Helper()
	all := c.tenures()
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], all[i]; a.to == 0 || a.to > b.from {
			c.t.Errorf("two owners: %s from %.2f to %.2f, %s from %.2f", a.node, a.from, a.to, b.node, b.from)
		}
	}
	c.t.Logf("%d tenures: %v", len(all), all)
}

// back waits until a node that was away votes for the lord. (That it names him
// may take until the next push/pull, if it missed his announcement.)
func (c *carried) back(a, lord *agent) {
	c.t.Helper()
	lab.Eventually(c.t, 30*time.Second, a.name+" is back", func() bool {
		s, err := a.status()
		return err == nil && slices.ContainsFunc(s.Legions, func(l control.Legion) bool {
			return l.Name == "web" && slices.ContainsFunc(l.Members, func(m control.LegionMember) bool {
				return m.Name == a.name && m.VoteFor == lord.name
			})
		})
	})
}

// known waits until every node names the lord.
func (c *carried) known(lord *agent) {
	c.t.Helper()
	for _, a := range c.agents {
		lab.Eventually(c.t, 60*time.Second, a.name+" knows the lord", func() bool {
			s, err := a.status()
			return err == nil && slices.ContainsFunc(s.Legions, func(l control.Legion) bool { return l.Name == "web" && l.Lord == lord.name })
		})
	}
}

// TestAddressTakeover is contrib/address-takeover at work.
func TestAddressTakeover(t *testing.T) {
	c := newCarried(t)
	lord, _ := c.answered(nil, 0, 30*time.Second)

	next := c.moved("kill -9 of the agent", lord, lease+time.Second, func() { lord.proc.Kill(syscall.SIGKILL) })
	c.start(lord)
	c.back(lord, next)

	// It is back in the line before somebody else needs it there.
	lord = next
	next = c.moved("step-down", lord, lease, func() {
		if out, err := exec.Command(c.bin, "step-down", "web", "--for", "5s", "--socket", lord.socket).CombinedOutput(); err != nil {
			t.Fatalf("step-down: %v: %s", err, out)
		}
	})
	c.known(next) // and that the old one is away

	lord = next
	next = c.moved("SIGTERM", lord, lease, func() { lord.proc.Kill(syscall.SIGTERM) })
	lord.proc.Wait(10 * time.Second)
	c.start(lord)
	c.back(lord, next)

	lord = next
	next = c.moved("SIGSTOP", lord, lease+2*beat+time.Second, func() { lord.proc.Stop() })
	lord.proc.Cont()
	c.back(lord, next)

	lord = next
	next = c.moved("partition", lord, lease+2*beat+time.Second, func() { c.lab.CutHost(lord.host.Number) })
	c.lab.Heal()
	c.back(lord, next)
	c.oneOwner()
	if n := len(c.tenures()); n != 6 {
		t.Errorf("%d tenures, want 6", n)
	}
}

var chaos = flag.Duration("takeover.chaos", 2*time.Second, "how long TestAddressChaos lasts")

// TestAddressChaos: whatever happens, the address has one owner at a time.
func TestAddressChaos(t *testing.T) {
	c := newCarried(t)
	c.answered(nil, 0, 30*time.Second)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	pause := func(most time.Duration) { <-time.After(time.Duration(rng.Int64N(int64(most)))) }
	did := map[string]int{}
	for end := time.Now().Add(*chaos); time.Now().Before(end); {
		a := c.agents[rng.IntN(3)]
		if lord := c.lord("web"); lord != nil && rng.IntN(4) > 0 {
			a = lord
		}
		switch what := rng.IntN(5); what {
		case 0:
			did["kill"]++
			a.proc.Kill(syscall.SIGKILL)
			a.proc.Wait(10 * time.Second)
			pause(time.Second)
			c.start(a)
		case 1:
			did["stop"]++
			a.proc.Kill(syscall.SIGTERM)
			a.proc.Wait(60 * time.Second)
			c.start(a)
		case 2:
			did["freeze"]++
			a.proc.Stop()
			pause(4 * time.Second)
			a.proc.Cont()
		case 3:
			did["cut"]++
			c.lab.CutHost(a.host.Number)
			pause(4 * time.Second)
			c.lab.Heal()
		case 4: // hears, but is not heard; or the other way round
			did["one way"]++
			for _, o := range c.agents {
				if o != a && did["one way"]%2 == 0 {
					c.lab.Cut(a.host.Number, o.host.Number)
				} else if o != a {
					c.lab.Cut(o.host.Number, a.host.Number)
				}
			}
			pause(4 * time.Second)
			c.lab.Heal()
		}
		pause(2 * time.Second)
	}
	since := boot()
	c.answered(nil, since, 30*time.Second)
	c.oneOwner()
	t.Logf("%v", did)
}
