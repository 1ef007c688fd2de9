package measure

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

const (
	patience = 90 * time.Second
	often    = 5 * time.Millisecond // between two looks at what the agents say
	settling = 50 * time.Millisecond
	legion   = "g"
)

// profiles are the beats and leases of [cluster] profile.
var profiles = map[string]struct{ beat, lease time.Duration }{
	"lan":  {300 * time.Millisecond, 2 * time.Second},
	"fast": {100 * time.Millisecond, 600 * time.Millisecond},
}

var inFull = flag.Bool("measure", false, "run in full, and write docs/measurements.md")

// A setup says what cluster to measure.
type setup struct {
	nodes, voters int
	profile       string
	probe         time.Duration // how often memberlist looks after a member; 0: its default
	legions       int           // 0: one
	job           bool          // one that runs every second
	strangers     int           // hosts without an agent
}

func (s setup) String() string {
	if s.voters == s.nodes {
		return strconv.Itoa(s.nodes)
	}
	return fmt.Sprintf("%d, %d vote", s.nodes, s.voters)
}

// A cluster is real agents on the hosts of a lab.
type cluster struct {
	setup
	t      testing.TB
	lab    *lab.Lab
	bin    string
	shared string // what the job writes
	agents []*agent
}

// An agent is one node, with all the processes it has had.
type agent struct {
	name, dir, socket string
	host              *lab.Host
	lives             []*life
}

// A life is one process of an agent.
type life struct {
	*lab.Proc
	read   int // lines
	reigns []*reign
	ended  time.Duration // by boot time, at the latest; 0: not yet
}

func start(t testing.TB, s setup) *cluster {
	t.Helper()
	// The machine is shared with what is measured: it is tested by the figures.
	flags := "-X github.com/legion-cron/legion-cron/cmd/internal/daemon.tuning=untested"
	if s.probe > 0 {
		flags = fmt.Sprintf("-X 'github.com/legion-cron/legion-cron/cmd/internal/daemon.tuning=untested probe=%v'", s.probe)
	}
	c := &cluster{setup: s, t: t, lab: lab.New(t, s.nodes+s.strangers), bin: lab.BinaryWith(t, flags)}
	dir, err := os.MkdirTemp("", "lcm") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.shared = filepath.Join(dir, "shared")
	for i := range s.nodes {
		a := &agent{name: fmt.Sprintf("n%d", i+1), host: c.lab.Hosts[i]}
		a.dir = filepath.Join(dir, a.name)
		a.socket = filepath.Join(a.dir, "sock")
		c.agents = append(c.agents, a)
		if err := os.Mkdir(a.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
		for name, text := range map[string]string{"keys": key, "config.toml": c.config(a)} {
			if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, a := range c.agents {
		c.begin(a)
	}
	return c
}

func (c *cluster) config(a *agent) string {
	const peers = 5 // of join: a few that are mostly there
	var join []string
	for _, h := range c.lab.Hosts[:min(peers, c.nodes)] {
		join = append(join, fmt.Sprintf("%q", h.Addr+":4242"))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `
[node]
name = %q
state_dir = "state"
[cluster]
bind = "%s:4242"
join = [%s]
keys_file = "keys"
size = %d
profile = %q
[control]
socket = "sock"
[log]
format = "json"
`, a.name, a.host.Addr, strings.Join(join, ", "), c.voters, c.profile)
	fmt.Fprintf(&b, "[legion.%s]\n", legion)
	for i := 1; i < c.legions; i++ {
		fmt.Fprintf(&b, "[legion.%s%d]\n", legion, i)
	}
	if c.job {
		fmt.Fprintf(&b, `
[[job]]
name = "tick"
legion = %q
schedule = "@every 1s"
overlap = "allow"
command = "echo $LEGION_SLOT.$LEGION_ATTEMPT $LEGION_NODE >> %s"
`, legion, c.shared)
	}
	return b.String()
}

// begin starts an agent's process.
func (c *cluster) begin(a *agent) {
	c.t.Helper()
	a.lives = append(a.lives, &life{Proc: a.host.Start(c.t, []string{c.bin, "agent", "--config", filepath.Join(a.dir, "config.toml")})})
}

func (a *agent) now() *life { return a.lives[len(a.lives)-1] }

// end waits until the process is gone, and takes note of when that was, at the
// latest.
func (c *cluster) end(a *agent) {
	c.t.Helper()
	a.now().Wait(patience)
	if a.now().ended == 0 {
		a.now().ended = boot()
	}
}

func boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // it exists on every kernel that Go runs on
	}
	return time.Duration(ts.Nano())
}

// pass waits.
func pass(t testing.TB, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("the test's time is up")
	}
}

func (a *agent) status() (control.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return control.NewClient(a.socket).Status(ctx)
}

// whole waits until all nodes see each other and agree on each legion's lord,
// and returns the agent that is the one of the first.
func (c *cluster) whole() *agent {
	c.t.Helper()
	var lord *agent
	var why string
	// A voter that has promised a higher term to somebody who failed may be no
	// help to the lord for long. Without it a quorum must do.
	const unanimity = 15 * time.Second
	began := time.Now()
	for {
		if lord, why = c.look(time.Since(began) < unanimity); why == "" {
			return lord
		}
		if time.Since(began) > patience {
			c.t.Fatalf("the cluster does not come to rest: %s", why)
		}
		pass(c.t, settling)
	}
}

func (c *cluster) look(unanimous bool) (lord *agent, why string) {
	var name string
	for _, a := range c.agents {
		s, err := a.status()
		if err != nil {
			return nil, fmt.Sprintf("%s: %v", a.name, err)
		}
		if n := alive(s); n != c.nodes {
			return nil, fmt.Sprintf("%s sees %d nodes", a.name, n)
		}
		if len(s.Legions) < max(1, c.legions) {
			return nil, fmt.Sprintf("%s knows %d legions", a.name, len(s.Legions))
		}
		for _, l := range s.Legions {
			if l.Lord == "" || l.Votes < l.Quorum || unanimous && !l.Agreed {
				return nil, fmt.Sprintf("%s: %s has lord %q with %d votes, agreed: %v", a.name, l.Name, l.Lord, l.Votes, l.Agreed)
			}
			if l.Name != legion {
				continue
			}
			if name == "" {
				name = l.Lord
			}
			if l.Lord != name {
				return nil, fmt.Sprintf("%s names %s, others %s", a.name, l.Lord, name)
			}
		}
	}
	return c.named(name), ""
}

func alive(s control.Status) (n int) {
	for _, m := range s.Cluster.Members {
		if m.State == "alive" {
			n++
		}
	}
	return n
}

func (c *cluster) named(name string) *agent {
	for _, a := range c.agents {
		if a.name == name {
			return a
		}
	}
	c.t.Fatalf("no agent %q", name)
	return nil
}

// but are the other agents.
func (c *cluster) but(a *agent) (others []*agent) {
	for _, o := range c.agents {
		if o != a {
			others = append(others, o)
		}
	}
	return others
}

// A reign is from the lord line to the unlord line of one process.
type reign struct {
	node, legion string
	term         uint64
	begin, end   time.Duration // by boot time; end 0: it lasts
}

// reigns returns what all agents have said of their reigns so far.
func (c *cluster) reigns() (all []*reign) {
	for _, a := range c.agents {
		for _, l := range a.lives {
			lines := l.LinesFrom(l.read)
			l.read += len(lines)
			for _, line := range lines {
				l.take(c.t, a.name, line)
			}
			for _, r := range l.reigns {
				if r.end == 0 && l.ended > 0 {
					r.end = l.ended
				}
			}
			all = append(all, l.reigns...)
		}
	}
	return all
}

// take reads one line of an agent's log.
func (l *life) take(t testing.TB, node, text string) {
	if !strings.Contains(text, `"boot"`) {
		return
	}
	var line struct {
		Event, Legion, Boot string
		Term                uint64
	}
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatalf("%s says %s: %v", node, text, err)
	}
	seconds, err := strconv.ParseFloat(line.Boot, 64)
	if err != nil {
		t.Fatalf("%s says %s: %v", node, text, err)
	}
	at := time.Duration(seconds * float64(time.Second))
	switch line.Event {
	case "lord":
		l.reigns = append(l.reigns, &reign{node: node, legion: line.Legion, term: line.Term, begin: at})
	case "unlord":
		for _, r := range l.reigns {
			if r.legion == line.Legion && r.term == line.Term {
				r.end = at
				return
			}
		}
		t.Fatalf("%s ends a reign that it did not begin: %s", node, text)
	}
}

// guardian is the id of the process that guards an agent.
func (c *cluster) guardian(a *agent) int {
	c.t.Helper()
	pid := 0
	lab.Eventually(c.t, patience, "the guardian of "+a.name, func() bool {
		pid = childOf(a.now().PID(), "guardian")
		return pid != 0
	})
	return pid
}

// childOf finds the child of a process whose last argument is word; 0: none.
func childOf(parent int, word string) int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(text)) {
			line, _ := os.ReadFile("/proc/" + field + "/cmdline")
			if strings.HasSuffix(string(line), "\x00"+word+"\x00") {
				pid, _ := strconv.Atoi(field)
				return pid
			}
		}
	}
	return 0
}

// kill sends a signal. From when a KILL is sent no thread of the process gets
// back to its own code.
func (a *agent) kill(sig syscall.Signal) {
	a.now().Kill(sig)
	if sig == syscall.SIGKILL {
		a.now().ended = boot()
	}
}

func readAll(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
