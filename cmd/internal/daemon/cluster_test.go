package daemon_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/guardian"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

const (
	beat  = 300 * time.Millisecond // profile lan, the default
	lease = 2 * time.Second
)

// A cluster is real agents on the hosts of a lab.
type cluster struct {
	t      *testing.T
	lab    *lab.Lab
	bin    string
	dir    string
	shared string // the file that every job appends to
	agents []*agent
}

type agent struct {
	name, dir, socket string
	host              *lab.Host
	proc              *lab.Proc
}

// newCluster starts n agents named n1 to nN whose configuration ends with jobs,
// in which SHARED is the shared file, OWN the node's directory, and VALOR less for each node, 0 for the last.
func newCluster(t *testing.T, n int, jobs string) *cluster {
	t.Helper()
	return newClusterWith(t, n, "join = [JOIN]", jobs)
}

// newClusterWith is newCluster with lines of the section [cluster], in which
// JOIN is the list of all nodes.
func newClusterWith(t *testing.T, n int, lines, jobs string) *cluster {
	t.Helper()
	c := &cluster{t: t, bin: lab.Binary(t)}
	var err error
	if c.dir, err = os.MkdirTemp("", "lc"); err != nil { // a socket's path must be short
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(c.dir) })
	c.lab = lab.New(t, n) // its end, before the directory's, kills what writes there
	c.shared = filepath.Join(c.dir, "shared")
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")) + "\n"
	c.write(filepath.Join(c.dir, "keys"), key, 0o600)
	var join []string
	for _, h := range c.lab.Hosts {
		join = append(join, fmt.Sprintf("%q", h.Addr+":4242"))
	}
	for i, h := range c.lab.Hosts {
		a := &agent{name: fmt.Sprintf("n%d", i+1), host: h}
		a.dir = filepath.Join(c.dir, a.name)
		a.socket = filepath.Join(a.dir, "sock")
		if err := os.Mkdir(a.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		c.write(filepath.Join(a.dir, "keys"), "# first of all\n"+key, 0o600)
		c.write(filepath.Join(a.dir, "config.toml"), fmt.Sprintf(`
[node]
name = %q
state_dir = "state"
[cluster]
bind = "%s:4242"
%s
keys_file = "keys"
[control]
socket = "sock"
[log]
format = "console"
%s`, a.name, h.Addr, strings.ReplaceAll(lines, "JOIN", strings.Join(join, ", ")),
			strings.NewReplacer("SHARED", c.shared, "OWN", a.dir, "VALOR", fmt.Sprint(100*(n-1-i))).Replace(jobs)), 0o600)
		c.agents = append(c.agents, a)
		c.start(a)
	}
	return c
}

func (c *cluster) write(path, text string, mode os.FileMode) {
	c.t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) start(a *agent) {
	a.proc = a.host.Start(c.t, []string{c.bin, "agent", "--config", filepath.Join(a.dir, "config.toml")})
}

func (a *agent) status() (control.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return control.NewClient(a.socket).Status(ctx)
}

// lord returns the agent that says it is lord of the legion, nil if none does.
func (c *cluster) lord(legion string) *agent {
	for _, a := range c.agents {
		if a.proc.Exited() {
			continue
		}
		s, err := a.status()
		if err != nil {
			continue
		}
		for _, l := range s.Legions {
			if l.Name == legion && l.Lord == a.name && l.TrustedMS > 0 {
				return a
			}
		}
	}
	return nil
}

func (c *cluster) waitLord(legion string, timeout time.Duration) *agent {
	c.t.Helper()
	var lord *agent
	lab.Eventually(c.t, timeout, "a lord of "+legion, func() bool {
		lord = c.lord(legion)
		return lord != nil
	})
	return lord
}

// A line is what a job wrote.
type line struct{ slot, node string }

func (c *cluster) lines() []line {
	c.t.Helper()
	b, err := os.ReadFile(c.shared)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatal(err)
	}
	var ls []line
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if f := strings.Fields(l); len(f) == 2 {
			ls = append(ls, line{f[0], f[1]})
		}
	}
	return ls
}

// noDoubles fails if any slot was started twice.
func (c *cluster) noDoubles() {
	c.t.Helper()
	seen := map[string]string{}
	for _, l := range c.lines() {
		if by, ok := seen[l.slot]; ok {
			c.t.Errorf("slot %s ran on %s and on %s", l.slot, by, l.node)
		}
		seen[l.slot] = l.node
	}
}

// ranElsewhere waits for a run on another node than old.
func (c *cluster) ranElsewhere(old *agent, from int, limit time.Duration) time.Duration {
	c.t.Helper()
	began := time.Now()
	lab.Eventually(c.t, limit, "a run on another node than "+old.name, func() bool {
		ls := c.lines()
		for _, l := range ls[min(from, len(ls)):] {
			if l.node != old.name {
				return true
			}
		}
		return false
	})
	return time.Since(began)
}

const tick = `
[legion.foobar]
[[job]]
name = "tick"
legion = "foobar"
schedule = "@every 1s"
overlap = "allow" # a run whose host has died would else count as living until it is lost
command = "echo $LEGION_SLOT $LEGION_NODE >> SHARED"
`

// TestThreeNodes is the main job: entries fire once, on the lord, whatever
// happens to it.
func TestThreeNodes(t *testing.T) {
	c := newCluster(t, 3, tick)
	first := c.waitLord("foobar", 15*time.Second)

	// Exactly one of the three says yes.
	codes := map[int]int{}
	for _, a := range c.agents {
		cmd := exec.Command(c.bin, "lord", "foobar", "--socket", a.socket)
		out, err := cmd.CombinedOutput()
		code := cmd.ProcessState.ExitCode()
		if err != nil && code < 0 {
			t.Fatal(err)
		}
		if (code == 0) != (a == first) {
			t.Errorf("lord foobar on %s exits %d (the lord is %s): %s", a.name, code, first.name, out)
		}
		codes[code]++
	}
	if codes[0] != 1 || codes[1] != 2 {
		t.Errorf("exit codes of lord foobar: %v, want one 0 and two 1", codes)
	}

	// A quiet minute: each slot once, none left out.
	lab.Eventually(t, 15*time.Second, "the first run", func() bool { return len(c.lines()) > 0 })
	lab.Eventually(t, 75*time.Second, "a minute of runs", func() bool { return len(c.lines()) > 60 })
	c.noDoubles()
	ls := c.lines()
	for i := 1; i < len(ls); i++ {
		if gap := at(t, ls[i].slot).Sub(at(t, ls[i-1].slot)); gap != time.Second {
			t.Errorf("%s came %v after %s in a quiet minute", ls[i].slot, gap, ls[i-1].slot)
		}
	}

	// The lord's agent is killed.
	n := len(c.lines())
	first.proc.Kill(syscall.SIGKILL)
	took := c.ranElsewhere(first, n, lease+2*beat+time.Second)
	t.Logf("after kill -9 of the lord the next run came %v later", took.Round(time.Millisecond))
	second := c.waitLord("foobar", lease)
	c.start(first)
	lab.Eventually(t, 15*time.Second, first.name+" is back", func() bool {
		s, err := first.status()
		return err == nil && len(s.Legions) == 1 && s.Legions[0].Lord == second.name
	})

	// The lord's agent is told to stop, right after a slot: the next one is its successor's.
	n = len(c.lines())
	lab.Eventually(t, 5*time.Second, "a run", func() bool { return len(c.lines()) > n })
	n = len(c.lines())
	second.proc.Kill(syscall.SIGTERM)
	began := time.Now()
	lab.Eventually(t, time.Second, "a lord other than "+second.name, func() bool {
		l := c.lord("foobar")
		return l != nil && l != second
	})
	t.Logf("after SIGTERM of the lord there was another %v later", time.Since(began).Round(time.Millisecond))
	c.ranElsewhere(second, n, 2*time.Second)
	if st := second.proc.Wait(10 * time.Second); st.ExitCode() != 0 {
		t.Errorf("%s exits %d after SIGTERM", second.name, st.ExitCode())
	}
	c.noDoubles()
}

var slotTime = regexp.MustCompile(`@(.*)$`)

func at(t *testing.T, slot string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, slotTime.FindStringSubmatch(slot)[1])
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestMain(m *testing.M) {
	runner.Trampoline()
	guardian.Main()
	if part := os.Getenv(partVar); part != "" {
		play(part)
	}
	lab.Main(m)
}

// TestRefusals: what only shows at the start is one line with its place, and
// exit 1.
func TestRefusals(t *testing.T) {
	c := newCluster(t, 2, "[legion.foobar]\n")
	lab.Eventually(t, 15*time.Second, "two agents that see each other", func() bool {
		s, err := c.agents[1].status()
		alive := 0
		for _, m := range s.Cluster.Members {
			if m.State == "alive" {
				alive++
			}
		}
		return err == nil && alive == 2
	})
	began := time.Now() // of two that start within a second of each other neither came first
	lab.Eventually(t, 10*time.Second, "two seconds to pass", func() bool { return time.Since(began) > 2*time.Second })
	config := func(name, bind, state string) string {
		dir := filepath.Join(c.dir, "refused")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "config.toml")
		c.write(path, fmt.Sprintf("[node]\nname = %q\nstate_dir = %q\n[cluster]\nbind = %q\njoin = [\"10.88.0.1:4242\"]\nkeys_file = %q\n[control]\nsocket = \"sock\"\n",
			name, state, bind, filepath.Join(c.dir, "keys")), 0o600)
		return path
	}
	for _, tt := range []struct{ what, name, bind, state, want string }{
		{"a state directory in use", "n9", "10.88.0.2:4243", filepath.Join(c.dir, "n2", "state"), `\S+config\.toml:3: .*state directory is in use by process \d+`},
		{"a name that a live node has", "n1", "10.88.0.2:4243", "own", `\S+config\.toml:2: .*"n1".*name is taken by a live node`},
		{"an address in use", "n9", "10.88.0.2:4242", "own", `\S+config\.toml:5: .*address already in use`},
	} {
		p := c.agents[1].host.Start(t, []string{c.bin, "agent", "--config", config(tt.name, tt.bind, tt.state)})
		code := p.Wait(30 * time.Second).ExitCode()
		lines := p.Lines()
		if last := lines[len(lines)-1]; code != 1 || !regexp.MustCompile(tt.want).MatchString(last) {
			t.Errorf("%s: exit %d:\n%s\nwant exit 1 and %s", tt.what, code, strings.Join(lines, "\n"), tt.want)
		}
	}
	for _, a := range c.agents {
		if s, err := a.status(); err != nil || a.proc.Exited() {
			t.Errorf("%s did not survive the others' attempts: %v %v", a.name, s, err)
		}
	}
}
