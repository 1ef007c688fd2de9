package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// A word is what a hook wrote: event, term and node.
type word struct{ event, term, node string }

func (c *cluster) words() []word {
	c.t.Helper()
	b, err := os.ReadFile(c.shared)
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	var all []word
	for _, l := range strings.Split(string(b), "\n") {
		if f := strings.Fields(l); len(f) == 3 {
			all = append(all, word{f[0], f[1], f[2]})
		}
	}
	return all
}

func (c *cluster) waitWord(limit time.Duration, want word) {
	c.t.Helper()
	lab.Eventually(c.t, limit, fmt.Sprint(want), func() bool { return slices.Contains(c.words(), want) })
}

// oneByOne fails if the lord hooks of a term began before the unlord hooks of
// the one before had ended. All nodes write to one file, so its order is that
// in which things happened.
func (c *cluster) oneByOne() {
	c.t.Helper()
	open := word{}
	for i, w := range c.words() {
		switch w.event {
		case "lord":
			if open.event != "" {
				c.t.Errorf("%v while %v is not undone", w, open)
			}
			open = w
		case "unlord":
			if open.term == w.term && open.node == w.node {
				open = word{}
			} else if !slices.Contains(c.words()[:i], w) {
				c.t.Errorf("%v without its lord hook", w)
			}
		}
	}
}

const hooked = `
[legion.foobar]
valor = VALOR
scroll = "the scroll of VALOR"
preempt = false
[legion.foobar.on]
setup = ["cmd:echo setup 0 $LEGION_NODE >> SHARED"]
join = ["cmd:echo join 0 $LEGION_NODE >> SHARED"]
lord = ["log:reigning", "cmd:echo lord $LEGION_TERM $LEGION_NODE >> SHARED"]
unlord = ["cmd:sleep 0.05; echo unlord $LEGION_TERM $LEGION_NODE >> SHARED"]
death = ["cmd:echo death 0 $LEGION_NODE >> SHARED"]
node-joined = ["cmd:echo joined $LEGION_MEMBER $LEGION_NODE >> SHARED"]
node-left = ["cmd:echo left $LEGION_MEMBER $LEGION_NODE >> SHARED"]
`

// reigning waits for a lord other than old whose lord hook has run.
func (c *cluster) reigning(old *agent, limit time.Duration) (*agent, string) {
	c.t.Helper()
	var lord *agent
	term := ""
	lab.Eventually(c.t, limit, "a lord hook", func() bool {
		lord = c.lord("foobar")
		if lord == nil || lord == old {
			return false
		}
		s, err := lord.status()
		if err != nil || len(s.Legions) != 1 {
			return false
		}
		term = fmt.Sprint(s.Legions[0].Term)
		return slices.Contains(c.words(), word{"lord", term, lord.name})
	})
	return lord, term
}

// TestHooks: whatever happens to lords, of no term the lord hook runs before
// the unlord hook of the one before has ended.
func TestHooks(t *testing.T) {
	c := newCluster(t, 4, hooked)
	lord, term := c.reigning(nil, 20*time.Second)
	for _, a := range c.agents {
		c.waitWord(5*time.Second, word{"setup", "0", a.name})
		c.waitWord(5*time.Second, word{"join", "0", a.name})
		for _, b := range c.agents {
			if a != b {
				c.waitWord(5*time.Second, word{"joined", a.name, b.name})
			}
		}
	}

	// Killed: the guardian runs the hooks.
	lord.proc.Kill(syscall.SIGKILL)
	next, nextTerm := c.reigning(lord, 3*lease)
	c.waitWord(time.Second, word{"unlord", term, lord.name})
	c.waitWord(5*time.Second, word{"death", "0", lord.name})
	c.oneByOne()
	for _, b := range c.agents {
		if b != lord {
			c.waitWord(20*time.Second, word{"left", lord.name, b.name})
		}
	}
	c.start(lord)

	count := func(w word) int {
		return len(slices.DeleteFunc(c.words(), func(o word) bool { return o != w }))
	}

	// Frozen: likewise, and the thawed agent does it again.
	next.proc.Stop()
	last, lastTerm := c.reigning(next, 3*lease)
	c.waitWord(time.Second, word{"unlord", nextTerm, next.name})
	c.oneByOne()
	next.proc.Cont()
	lab.Eventually(t, 10*time.Second, "the thawed agent's own unlord hook", func() bool {
		return count(word{"unlord", nextTerm, next.name}) == 2
	})
	if slices.Contains(c.words(), word{"death", "0", next.name}) {
		t.Error("death hooks of an agent that lives")
	}

	// Told to stop: the agent runs them, the guardian has nothing to do.
	unlord, death := word{"unlord", lastTerm, last.name}, word{"death", "0", last.name}
	deaths := count(death)
	last.proc.Kill(syscall.SIGTERM)
	if st := last.proc.Wait(10 * time.Second); st.ExitCode() != 0 {
		t.Errorf("exit %d", st.ExitCode())
	}
	c.reigning(last, 2*lease)
	if n, m := count(unlord), count(death)-deaths; n != 1 || m != 1 {
		t.Errorf("%d unlord and %d death hooks of an agent that stopped, want one each", n, m)
	}
	c.oneByOne()
	if t.Failed() {
		t.Logf("%v", c.words())
	}
}

// TestLordHookFails: a node that cannot reign stands back, and another one reigns.
func TestLordHookFails(t *testing.T) {
	c := newCluster(t, 3, `
[legion.foobar]
valor = VALOR
lord_error_suspend = "5s"
[legion.foobar.on]
lord = ["cmd:echo lord $LEGION_TERM $LEGION_NODE >> SHARED; [ $LEGION_NODE != n1 ]"]
unlord = ["cmd:echo unlord $LEGION_TERM $LEGION_NODE >> SHARED"]
[[job]]
name = "tick"
legion = "foobar"
schedule = "@every 1s"
command = "echo ran 0 $LEGION_NODE >> SHARED"
`)
	c.waitWord(20*time.Second, word{"ran", "0", "n2"})
	var first string
	for _, w := range c.words() {
		if w.node == "n1" && w.event == "lord" {
			first = w.term
			break
		}
	}
	if first == "" || !slices.Contains(c.words(), word{"unlord", first, "n1"}) {
		t.Errorf("n1 was not lord, or did not undo what it had begun: %v", c.words())
	}
	s, err := c.agents[0].status()
	if err != nil || len(s.Legions) != 1 {
		t.Fatal(s, err)
	}
	for _, m := range s.Legions[0].Members {
		if m.Name == "n1" && (m.Fit || !strings.Contains(strings.Join(m.Reasons, "; "), "lord hook failed: exit status 1")) {
			t.Errorf("n1 is fit: %v, %q", m.Fit, m.Reasons)
		}
	}
	if slices.Contains(c.words(), word{"ran", "0", "n1"}) {
		t.Errorf("slots ran on n1: %v", c.words())
	}
	c.oneByOne()
}

// TestSlotsWaitForLordHook: what falls due while the lord hook runs starts
// after it, and is not late for that.
func TestSlotsWaitForLordHook(t *testing.T) {
	c := newCluster(t, 3, `
[legion.foobar]
[legion.foobar.on]
lord = ["cmd:sleep 3; echo lord $LEGION_TERM $LEGION_NODE >> SHARED"]
[[job]]
name = "tick"
legion = "foobar"
schedule = "@every 2s"
catch_up = "200ms"
command = "echo ran $LEGION_SLOT $LEGION_NODE >> SHARED"
[[job]]
name = "soon"
legion = "foobar"
schedule = "@lord"
command = "echo ran $LEGION_SLOT $LEGION_NODE >> SHARED"
`)
	ran := func(n int, job string, a *agent) (slot string) {
		lab.Eventually(t, 20*time.Second, "a run of "+job+" after the lord hook", func() bool {
			lords := 0
			for _, w := range c.words() {
				if w.event == "lord" {
					lords++
				}
				if lords == n && strings.HasPrefix(w.term, "foobar/"+job+"@") {
					slot = w.term
				}
			}
			return lords == n && slot != ""
		})
		return slot
	}
	first := c.waitLord("foobar", 20*time.Second)
	ran(1, "soon", first)
	ran(1, "tick", first)
	first.proc.Kill(syscall.SIGTERM)
	first.proc.Wait(10 * time.Second)
	second := c.waitLord("foobar", 2*lease)
	s, err := second.status()
	if err != nil {
		t.Fatal(err)
	}
	due := s.Legions[0].Since.Time.Truncate(2 * time.Second).Add(2 * time.Second) // while the hook runs
	ran(2, "soon", second)
	slot := ran(2, "tick", second)
	if got := at(t, slot); got.After(due) && !got.Equal(due.Add(2*time.Second)) || got.Before(due) {
		t.Errorf("the first run after the lord hook is that of %v, want %v or what superseded it", got, due)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	runs, err := control.NewClient(second.socket).Runs(ctx, control.RunsQuery{Job: "tick", Outcome: "missed", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if r.Reason == "too late" {
			t.Errorf("%s is missed: %s", r.Slot, r.Reason)
		}
	}
}

// hooking counts the processes of a node's hooks for an event.
func hooking(event, node string) int {
	n := 0
	for _, pid := range pids() {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if bytes.Contains(env, []byte("LEGION_EVENT="+event+"\x00")) && bytes.Contains(env, []byte("LEGION_NODE="+node+"\x00")) {
			n++
		}
	}
	return n
}

// TestLordHookUnderWay: a lord hook that hangs does not outlive the lordship,
// be the agent frozen, killed or stopped, and the unlord hook comes after it.
func TestLordHookUnderWay(t *testing.T) {
	c := newCluster(t, 3, `
[legion.foobar]
[legion.foobar.on]
lord = ["cmd:echo lord $LEGION_TERM $LEGION_NODE >> SHARED; trap '' TERM; while :; do sleep 1; done", "cmd:echo second $LEGION_TERM $LEGION_NODE >> SHARED"]
unlord = ["cmd:echo unlord $LEGION_TERM $LEGION_NODE >> SHARED"]
`)
	term := ""
	for _, how := range []struct {
		name   string
		happen func(*agent)
	}{
		{"frozen", func(a *agent) { a.proc.Stop() }},
		{"killed", func(a *agent) { a.proc.Kill(syscall.SIGKILL) }},
		{"stopped", func(a *agent) { a.proc.Kill(syscall.SIGTERM) }},
	} {
		var lord *agent
		for old := term; term == old; {
			lord, term = c.reigning(nil, 20*time.Second) // any, but in another term
		}
		how.happen(lord)
		c.waitWord(10*time.Second, word{"unlord", term, lord.name})
		if n := hooking("lord", lord.name); n > 0 {
			t.Errorf("%s: %d processes of the lord hook after the unlord hook", how.name, n)
		}
		switch how.name {
		case "frozen":
			c.reigning(lord, 20*time.Second)
			lord.proc.Cont()
			lab.Eventually(t, 10*time.Second, "the thawed agent's own unlord hook", func() bool {
				return len(slices.DeleteFunc(c.words(), func(w word) bool { return w != word{"unlord", term, lord.name} })) == 2
			})
		case "killed":
			c.start(lord)
		case "stopped":
			if st := lord.proc.Wait(20 * time.Second); st.ExitCode() != 0 {
				t.Errorf("exit %d", st.ExitCode())
			}
		}
	}
	c.oneByOne()
	for _, w := range c.words() {
		if w.event == "second" {
			t.Errorf("%v, after the first was killed", w)
		}
	}
}

// TestRestartDuringUnlord: an agent that is back, and lord, while the guardian
// of its last life still runs a slow unlord hook waits for it with its own. The
// guardian ignores SIGTERM (0x4000 in SigIgn), and its hooks hear it.
func TestRestartDuringUnlord(t *testing.T) {
	c := newClusterWith(t, 1, "size = 1", `
[legion.foobar]
[legion.foobar.on]
lord = ["cmd:echo lord $LEGION_TERM $LEGION_NODE >> SHARED"]
unlord = ["""cmd:! grep -q '^SigIgn:.*[4-7c-f]...$' /proc/self/status || echo deaf 0 $LEGION_NODE >> SHARED
echo undoing $LEGION_TERM $LEGION_NODE >> SHARED; sleep 3; echo unlord $LEGION_TERM $LEGION_NODE >> SHARED"""]
`)
	a, term := c.reigning(nil, 20*time.Second)
	a.proc.Kill(syscall.SIGKILL)
	a.proc.Wait(5 * time.Second)
	c.waitWord(5*time.Second, word{"undoing", term, a.name})
	c.start(a)
	var next string
	for old := term; next == "" || next == old; {
		_, next = c.reigning(nil, 20*time.Second)
	}
	c.oneByOne()
	if want := []word{{"lord", term, "n1"}, {"undoing", term, "n1"}, {"unlord", term, "n1"}, {"lord", next, "n1"}}; !slices.Equal(c.words(), want) {
		t.Errorf("%v, want %v", c.words(), want)
	}
}
