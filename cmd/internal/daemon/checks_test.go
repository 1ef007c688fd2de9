package daemon_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// member is what the node says of a member of foobar.
func member(t *testing.T, c *control.Client, name string) (control.Legion, control.LegionMember) {
	t.Helper()
	s, err := c.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range s.Legions {
		for _, m := range l.Members {
			if l.Name == "foobar" && m.Name == name {
				return l, m
			}
		}
	}
	return control.Legion{}, control.LegionMember{}
}

// states are a member's checks in one text.
func states(m control.LegionMember) string {
	var all []string
	for _, c := range m.Checks {
		all = append(all, fmt.Sprintf("%s %s %+d", c.Name, c.State, c.Valor))
	}
	return strings.Join(all, ", ")
}

// Weights are added to the valor, are told, and outlive a reload.
func TestWeights(t *testing.T) {
	dir := shortDir(t)
	const slow = "\ninterval = \"1h\"\n" // one result, and then none in this test
	text := `legion-valor-check = ["foobar 50 killall-is-missing -0 redis-server"]` + single + `
[legion.other]
valor = 0 # its lordship would count
[[check]]
name = "bonus"
kind = "load"
max_load = 10000
valor = 7` + slow + `
[[check]]
name = "elsewhere"
kind = "file"
path = "/no/such/file"
valor = -30
legions = ["other"]` + slow
	n := startNode(t, dir, text)
	var l control.Legion
	var m control.LegionMember
	settled := func(what string, f func() bool) {
		t.Helper()
		lab.Eventually(t, 15*time.Second, what, func() bool { l, m = member(t, n.Client, "one"); return f() })
	}
	settled("both checks of foobar", func() bool { return m.Effective == 57 && l.Lord == "one" })
	if got := states(m); !strings.HasPrefix(got, "bonus passing +7, killall-is-missing-") || !strings.HasSuffix(got, " failing -50") {
		t.Errorf("checks %q", got)
	}
	if why := strings.Join(m.Reasons, "; "); !strings.Contains(why, "check bonus is passing (+7)") || !strings.Contains(why, "(-50): exit status 127") {
		t.Errorf("reasons %q", m.Reasons)
	}

	// A heavier weight counts at once, and what is not probed anew keeps its state.
	n.reload(strings.Replace(text, "valor = 7", "valor = 8", 1))
	settled("the new weight", func() bool { return m.Effective == 58 })

	// A weight that leaves nothing of the valor makes the node unfit.
	n.reload(strings.Replace(text, "foobar 50", "foobar 107", 1))
	settled("no lord", func() bool { return l.Lord == "" && !m.Fit })
	if why := strings.Join(m.Reasons, "; "); !strings.Contains(why, "leave nothing of its valor") {
		t.Errorf("reasons %q", m.Reasons)
	}
	if l.LastChange == nil || !strings.Contains(l.LastChange.Reason, "checks leave nothing") {
		t.Errorf("last change %+v", l.LastChange)
	}
	n.reload(text)
	settled("a lord again", func() bool { return l.Lord == "one" })
}

// reload gives the node another configuration.
func (n *node) reload(text string) {
	n.t.Helper()
	if err := os.WriteFile(n.path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.Client.Reload(context.Background()); err != nil {
		n.t.Fatal(err)
	}
}

// A veto keeps a node from reigning from its first moment on, and ends a reign.
func TestVeto(t *testing.T) {
	dir := shortDir(t)
	stamp := filepath.Join(dir, "in-service")
	n := startNode(t, dir, single+`
[[check]]
name = "service"
kind = "file"
path = "`+stamp+`"
interval = "100ms"
required = true
`)
	var l control.Legion
	var m control.LegionMember
	wait := func(what string, f func() bool) {
		t.Helper()
		lab.Eventually(t, 15*time.Second, what, func() bool { l, m = member(t, n.Client, "one"); return f() })
	}
	wait("the first result", func() bool { return states(m) == "service failing +0" })
	if m.Fit || l.Lord != "" || l.Term != 0 {
		t.Errorf("it is fit: %v, lord %q, term %d", m.Fit, l.Lord, l.Term)
	}
	if want := "check service is failing (required): " + stamp + ": no such file or directory"; !slices.Equal([]string(m.Reasons), []string{want}) {
		t.Errorf("reasons %q, want %q", m.Reasons, want)
	}
	if err := os.WriteFile(stamp, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wait("a lord", func() bool { return l.Lord == "one" && states(m) == "service passing +0" })
	if err := os.Remove(stamp); err != nil {
		t.Fatal(err)
	}
	wait("no lord", func() bool { return l.Lord == "" })
	if l.LastChange == nil || !strings.HasPrefix(l.LastChange.Reason, "check service is failing (required)") {
		t.Errorf("last change %+v", l.LastChange)
	}
}

const redis = tick + `
[[check]]
name = "redis"
kind = "process"
pidfile = "OWN/redis.pid"
interval = "1s"
fall = 2
required = true
`

// The redis-server of the lord is killed: the lordship moves, and the next run
// starts elsewhere.
func TestRedisDies(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := newCluster(t, 3, redis)
	servers := map[*agent]*lab.Proc{}
	serve := func(a *agent) {
		servers[a] = a.host.Start(t, []string{
			"redis-server", "--bind", a.host.Addr, "--pidfile", a.dir + "/redis.pid", "--save", "", "--dir", a.dir,
		})
	}
	for _, a := range c.agents {
		a.proc.WaitLine("check redis is failing, 1 in a row: .*; unfit until it passes", 15*time.Second)
		serve(a)
	}
	first := c.waitLord("foobar", 15*time.Second)
	lab.Eventually(t, 15*time.Second, "some runs", func() bool { return len(c.lines()) > 2 })
	for _, a := range c.agents {
		a.proc.WaitLine("check redis is passing, 1 in a row; no longer unfit by it", 15*time.Second)
	}

	n := len(c.lines())
	servers[first].Kill(syscall.SIGKILL)
	took := c.ranElsewhere(first, n, 4*time.Second)
	t.Logf("after the death of the lord's redis the next run elsewhere came %v later", took.Round(time.Millisecond))
	first.proc.WaitLine("check redis is failing, 2 in a row: process [0-9]+ of .*/redis.pid is gone; unfit until it passes", 5*time.Second)
	second := c.waitLord("foobar", lease)

	// Every node knows why.
	for _, a := range c.agents {
		lab.Eventually(t, 10*time.Second, a.name+" knows of the check", func() bool {
			l, m := member(t, control.NewClient(a.socket), first.name)
			return l.LastChange != nil && strings.HasPrefix(l.LastChange.Reason, "check redis is failing (required)") &&
				states(m) == "redis failing +0" && !m.Fit && strings.Contains(strings.Join(m.Reasons, "; "), "is gone")
		})
	}
	serve(first)
	first.proc.WaitLine("check redis is passing", 10*time.Second)
	n = len(c.lines())
	lab.Eventually(t, 15*time.Second, "more runs", func() bool { return len(c.lines()) > n+3 })

	c.noDoubles()
	var slots []time.Time
	for _, l := range c.lines() {
		slots = append(slots, at(t, l.slot))
	}
	slices.SortFunc(slots, time.Time.Compare)
	for i := 1; i < len(slots); i++ {
		if gap := slots[i].Sub(slots[i-1]); gap != time.Second {
			t.Errorf("%v between the slots %v and %v; %s was lord, then %s", gap, slots[i-1], slots[i], first.name, second.name)
		}
	}
}

// A weight moves the lordship to a better node; where all are as badly off, one
// of them still reigns.
func TestWeightMovesLordship(t *testing.T) {
	c := newCluster(t, 3, `
[legion.foobar]
[[check]]
name = "stamp"
kind = "file"
path = "OWN/stamp"
interval = "200ms"
valor = -50
`)
	stamp := func(a *agent) string { return filepath.Join(a.dir, "stamp") }
	effective := func(at, of *agent) int {
		_, m := member(t, control.NewClient(at.socket), of.name)
		return m.Effective
	}
	everywhere := func(of *agent, valor int) {
		t.Helper()
		for _, at := range c.agents {
			lab.Eventually(t, 15*time.Second, fmt.Sprintf("%s has %d to %s", of.name, valor, at.name), func() bool { return effective(at, of) == valor })
		}
	}
	for _, a := range c.agents {
		a.proc.WaitLine("check stamp is failing, 1 in a row: .*: no such file or directory; valor -50", 15*time.Second)
		c.write(stamp(a), "", 0o600)
	}
	for _, a := range c.agents {
		everywhere(a, 100)
	}
	first := c.waitLord("foobar", 15*time.Second)
	if err := os.Remove(stamp(first)); err != nil {
		t.Fatal(err)
	}
	var second *agent
	lab.Eventually(t, 15*time.Second, "another lord than "+first.name, func() bool {
		second = c.lord("foobar")
		return second != nil && second != first
	})
	if _, m := member(t, control.NewClient(first.socket), first.name); !m.Fit || m.Effective != 50 {
		t.Errorf("%s is fit: %v, with %d", first.name, m.Fit, m.Effective)
	}
	for _, a := range c.agents {
		_ = os.Remove(stamp(a))
	}
	for _, a := range c.agents {
		everywhere(a, 50)
	}
	c.waitLord("foobar", lease)
}

// An address that is cut off, with a real agent that pings it.
func TestPingCheck(t *testing.T) {
	l := lab.New(t, 2)
	dir := shortDir(t)
	path := filepath.Join(dir, "config.toml")
	text := strings.Replace(single, `level = "error"`, `format = "console"`, 1) + fmt.Sprintf(`
[[check]]
name = "gateway"
kind = "ping"
host = %q
interval = "500ms"
required = true
`, l.Hosts[1].Addr)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := l.Hosts[0].Start(t, []string{lab.Binary(t), "agent", "--config", path})
	client := control.NewClient(filepath.Join(dir, "sock"))
	lord := func() string {
		s, err := client.Lord(context.Background(), "foobar")
		if err != nil {
			return err.Error()
		}
		return s.Lord
	}
	agent.WaitLine("check gateway is passing", 15*time.Second)
	lab.Eventually(t, 15*time.Second, "a lord", func() bool { return lord() == "one" })
	l.CutHost(2)
	agent.WaitLine("check gateway is failing, 2 in a row: no answer from "+l.Hosts[1].Addr, 15*time.Second)
	lab.Eventually(t, 15*time.Second, "no lord", func() bool { return lord() == "" })
	l.Heal()
	agent.WaitLine("check gateway is passing", 15*time.Second)
	lab.Eventually(t, 15*time.Second, "a lord again", func() bool { return lord() == "one" })
}

// An exec check that hangs is cut at the timeout that is configured: nothing of
// it is left, not even who is deaf or has a session of its own, and it fails
// for that reason.
func TestHangingCheckIsCut(t *testing.T) {
	dir := shortDir(t)
	pids, name := filepath.Join(dir, "pids"), fmt.Sprintf("hang-%d", os.Getpid())
	const timeout = 2 * time.Second
	began := time.Now()
	n := startNode(t, dir, single+fmt.Sprintf(`
[[check]]
name = %q
kind = "exec"
command = """
trap '' TERM
echo $$ >> %[2]s
sleep 600 & echo $! >> %[2]s
setsid sh -c 'echo $$ >> %[2]s; sleep 600; true' &
wait; wait
"""
interval = "1h" # it is probed once
timeout = %q
required = true
`, name, pids, timeout))
	tree := func() (living []string) {
		environs, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range environs {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "LEGION_CHECK="+name+"\x00") {
				living = append(living, filepath.Base(filepath.Dir(path)))
			}
		}
		return living
	}
	var seen []string
	lab.Eventually(t, timeout, "all of its processes", func() bool {
		b, _ := os.ReadFile(pids)
		seen = tree()
		return strings.Count(string(b), "\n") == 3 && len(seen) == 4
	})
	var m control.LegionMember
	lab.Eventually(t, 15*time.Second, "a result", func() bool {
		_, m = member(t, n.Client, "one")
		return states(m) == name+" failing +0"
	})
	if took := time.Since(began); took < timeout {
		t.Errorf("it was cut after %v", took)
	}
	if living := tree(); len(living) > 0 {
		t.Errorf("of its processes %v there live %v", seen, living)
	}
	if want := "check " + name + " is failing (required): killed at its timeout"; m.Fit || !slices.Equal([]string(m.Reasons), []string{want}) {
		t.Errorf("it is fit: %v, reasons %q, want %q", m.Fit, m.Reasons, want)
	}
}

// hostile are checks that do what checks must not do.
func hostile() string {
	var b strings.Builder
	for name, command := range map[string]string{
		"flood":   "yes",
		"hang":    "trap '' TERM; sleep 600 & setsid sleep 600 & wait; sleep 600",
		"fork":    "for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & setsid sleep 600 & done; exit 1",
		"missing": "/no/such/command",
	} {
		fmt.Fprintf(&b, "[[check]]\nname = %q\nkind = \"exec\"\ncommand = %q\ninterval = \"1s\"\nvalor = -1\n", name, command)
	}
	return b.String()
}

// All of them at once on every node do not keep a lord from its beats, nor its
// jobs from their slots.
func TestHostileChecks(t *testing.T) {
	c := newCluster(t, 3, tick+hostile())
	c.waitLord("foobar", 15*time.Second)
	for _, a := range c.agents {
		lab.Eventually(t, 30*time.Second, "every check of "+a.name+" fails everywhere", func() bool {
			for _, b := range c.agents {
				if _, m := member(t, control.NewClient(b.socket), a.name); m.Effective != 100-4 {
					return false
				}
			}
			return true
		})
	}
	lord := c.waitLord("foobar", lease)
	before, _ := member(t, control.NewClient(lord.socket), lord.name)
	n := len(c.lines())
	lab.Eventually(t, 30*time.Second, "ten runs", func() bool {
		if l, _ := member(t, control.NewClient(lord.socket), lord.name); l.Term != before.Term || l.Lord != lord.name || l.TrustedMS <= 0 {
			t.Fatalf("the lord is %q in term %d with %d ms, it was %s in term %d", l.Lord, l.Term, l.TrustedMS, lord.name, before.Term)
		}
		return len(c.lines()) > n+10
	})
	ls := c.lines()
	for i := n + 1; i < len(ls); i++ {
		if gap := at(t, ls[i].slot).Sub(at(t, ls[i-1].slot)); gap != time.Second {
			t.Errorf("%s came %v after %s", ls[i].slot, gap, ls[i-1].slot)
		}
	}
}
