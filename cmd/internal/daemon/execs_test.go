package daemon_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/daemon"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestExecSlots: the same line in the crontabs of three hosts runs its command
// once for each slot in the cluster, also while the lordship moves.
func TestExecSlots(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "[legion.g]\nvalor = VALOR\n")
	lord := c.waitLord("g", 15*time.Second)
	// Each crond is late by as much as it likes, and its slots are seconds.
	crond := fmt.Sprintf(`while test ! -e %s; do
	LEGION_CRON_SOCKET=$0 %s exec g --slot-every 1s --name script -- sh -c 'echo $LEGION_SLOT $LEGION_NODE >> %s' &
	sleep 0.3
done; wait`, filepath.Join(c.dir, "over"), c.bin, c.shared)
	var cronds []*lab.Proc
	for _, a := range c.agents {
		cronds = append(cronds, a.host.Start(t, []string{"/bin/sh", "-c", crond, a.socket}))
	}
	ran := func(n int) { // more slots
		t.Helper()
		from := len(c.lines())
		lab.Eventually(t, 30*time.Second, "more slots to be run", func() bool { return len(c.lines()) >= from+n })
	}
	ran(3)
	lord.proc.Kill(syscall.SIGTERM)
	next := c.waitLord("g", 15*time.Second)
	ran(3)
	c.start(lord)
	lab.Eventually(t, 20*time.Second, lord.name+" to be back", func() bool {
		s, err := lord.status()
		return err == nil && len(s.Legions) == 1 && s.Legions[0].Lord != ""
	})
	ran(3)
	if err := os.WriteFile(filepath.Join(c.dir, "over"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range cronds {
		p.Wait(20 * time.Second)
	}
	c.noDoubles()
	nodes := map[string]bool{}
	ls := c.lines()
	for i, l := range ls {
		nodes[l.node] = true
		if i > 0 {
			if gap := at(t, l.slot).Sub(at(t, ls[i-1].slot)); gap > time.Second {
				t.Errorf("%s follows %s", l.slot, ls[i-1].slot)
			}
		}
	}
	if !nodes[lord.name] || !nodes[next.name] {
		t.Errorf("ran on %v, though %s and %s reigned", nodes, lord.name, next.name)
	}
	runs := c.runsOf(lord, "script")
	if len(runs) != len(ls) {
		t.Errorf("%d runs are recorded of %d", len(runs), len(ls))
	}
	for _, r := range runs {
		if r.Outcome != "succeeded" || r.Node == "" || r.Started.IsZero() {
			t.Errorf("recorded %+v", r)
		}
	}
}

// TestExec: the command is the caller's: its exit code, its standard streams,
// its signals; and its end is recorded, also when the caller dies.
func TestExec(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "[legion.g]\nvalor = VALOR\n[[job]]\nname = \"taken\"\nlegion = \"g\"\nschedule = \"0 0 1 1 *\"\ncommand = \"true\"\n")
	lord := c.waitLord("g", 15*time.Second)
	other := c.others(lord)[0]
	lab.Eventually(t, 10*time.Second, other.name+" to know its lord", func() bool {
		_, _, code := c.cli(other, "lord", "g")
		return code == 1
	})
	touch := filepath.Join(c.dir, "touched")
	if out, errs, code := c.cli(other, "exec", "g", "--", "touch", touch); code != 0 || out+errs != "" {
		t.Errorf("exec elsewhere: exit %d %s%s", code, out, errs)
	}
	if _, err := os.Stat(touch); err == nil {
		t.Error("exec elsewhere ran")
	}
	cmd := exec.Command(c.bin, "exec", "g", "--name", "talk", "--socket", lord.socket, "--", "sh", "-c", `read x; echo "$x $LEGION_JOB $LEGION_NODE$LEGION_INCARNATION"; echo e >&2; exit 7`)
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("in\n"), &out, &errs
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 7 || out.String() != "in talk "+lord.name+"\n" || errs.String() != "e\n" {
		t.Errorf("exec: exit %d, %q, %q", code, out.String(), errs.String())
	}
	last := func(job, outcome, reason string) {
		t.Helper()
		lab.Eventually(t, 10*time.Second, job+" to be recorded as "+outcome, func() bool {
			rs := c.runsOf(other, job)
			return len(rs) > 0 && rs[0].Outcome == outcome && strings.Contains(rs[0].Reason, reason)
		})
	}
	last("talk", "failed", "")
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"exec", "g", "--name", "gone", "--", "/no/such/command"}, 127, "legion-cron: /no/such/command: no such file"},
		{[]string{"exec", "g", "--name", "plain", "--", "/etc/passwd"}, 126, "legion-cron: /etc/passwd: permission denied"},
		{[]string{"exec", "g", "--name", "dies", "--", "sh", "-c", "kill -9 $$"}, 137, ""},
		{[]string{"exec", "g", "--name", "taken", "--", "true"}, 1, "it is a job of the configuration"},
		{[]string{"exec", "nowhere", "--", "true"}, 1, `no legion "nowhere"`},
		{[]string{"exec", "g", "true"}, 2, "usage: "},
		{[]string{"exec", "g", "--slot-every", "1ms", "--", "true"}, 2, "from 1s to 24h"},
	} {
		if _, errs, code := c.cli(lord, tt.args...); code != tt.code || !strings.Contains(errs, tt.says) {
			t.Errorf("%v: exit %d, %s", tt.args, code, errs)
		}
	}
	last("gone", "failed", "no such file")
	last("dies", "failed", "")

	// legion-cron kill reaches it from another node.
	p := lord.host.Start(t, []string{c.bin, "exec", "g", "--name", "long", "--socket", lord.socket, "--", "sh", "-c", "echo up; exec sleep 600"})
	p.WaitLine("up", 10*time.Second)
	lab.Eventually(t, 10*time.Second, "the run to be known", func() bool { rs := c.runsOf(other, "long"); return len(rs) == 1 && rs[0].Outcome == "running" })
	c.must(other, "kill", c.runsOf(other, "long")[0].Run)
	if code := p.Wait(10 * time.Second).ExitCode(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("a command that is killed: exit %d", code)
	}
	last("long", "killed", "")

	// Its caller dies; then its agent.
	p = lord.host.Start(t, []string{c.bin, "exec", "g", "--name", "orphan", "--socket", lord.socket, "--", "sh", "-c", "echo up; exec sleep 5"})
	p.WaitLine("up", 10*time.Second)
	p.Kill(syscall.SIGKILL)
	last("orphan", "lost", "its caller died")
	p = lord.host.Start(t, []string{c.bin, "exec", "g", "--name", "alone", "--socket", lord.socket, "--", "sh", "-c", "echo up; while ! test -e " + touch + "; do sleep 0.05; done; exit 4"})
	p.WaitLine("up", 10*time.Second)
	lord.proc.Kill(syscall.SIGKILL)
	if err := os.WriteFile(touch, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.WaitLine("the run is not recorded: the agent is gone", 10*time.Second)
	if code := p.Wait(10 * time.Second).ExitCode(); code != 4 {
		t.Errorf("a command whose agent died: exit %d", code)
	}
	if _, errs, code := c.cli(lord, "exec", "g", "--", "true"); code != 1 || !strings.Contains(errs, "no agent answers") {
		t.Errorf("exec without an agent: exit %d, %s", code, errs)
	}
	// Nobody claims the slot: that is said.
	c.start(lord)
	c.waitLord("g", 20*time.Second)
	other = c.agents[2] // which has no valor
	if _, errs, code := c.cli(other, "exec", "g", "--slot", "--name", "nobody", "--", "true"); code != 1 || !strings.Contains(errs, " is the lord, and has not claimed it") {
		t.Errorf("a slot that nobody claims: exit %d, %s", code, errs)
	}
}

// TestExecBeyondTheLimit: a caller whose command is not begun, though the slot is
// its own, is told so: exit 0 would mean that another host runs it.
func TestExecBeyondTheLimit(t *testing.T) {
	n := startNode(t, shortDir(t), single)
	lab.Eventually(t, 20*time.Second, "a lord", func() bool {
		l, err := n.Lord(t.Context(), "foobar")
		return err == nil && l.Here
	})
	exec := func(job string, run func()) (control.ExecVerdict, error) {
		return n.Exec(t.Context(), "foobar", control.ExecAsk{Job: job, Definition: "d"}, func(v control.ExecVerdict, tell func(control.ExecNews), _ <-chan string) {
			run()
			tell(control.ExecNews{Ended: true})
		})
	}
	begun, over := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(over)
	for range daemon.MaxExecs {
		wg.Go(func() {
			if _, err := exec("many", func() { begun <- true; <-over }); err != nil {
				t.Error(err)
			}
		})
		<-begun
	}
	v, err := exec("more", func() { t.Error("it was run") })
	if err == nil || !strings.Contains(err.Error(), "commands run already") {
		t.Errorf("one more was answered %+v, %v", v, err)
	}
	if runs := n.runs(control.RunsQuery{Job: "more"}); len(runs) != 1 || runs[0].Outcome != "never started" {
		t.Errorf("recorded %+v", runs)
	}
}

// TestExecNonsense: what no ledger takes of a command's end is not written, but
// that its end is not known.
func TestExecNonsense(t *testing.T) {
	n := startNode(t, shortDir(t), single)
	lab.Eventually(t, 20*time.Second, "a lord", func() bool {
		l, err := n.Lord(t.Context(), "foobar")
		return err == nil && l.Here
	})
	for name, end := range map[string]control.ExecNews{
		"signal": {Ended: true, ExitCode: -1, Died: strings.Repeat("KILL", 200)},
		"code":   {Ended: true, ExitCode: 1 << 40},
		"both":   {Ended: true, Died: "KILL"},
	} {
		_, err := n.Exec(t.Context(), "foobar", control.ExecAsk{Job: name, Definition: "d"}, func(_ control.ExecVerdict, tell func(control.ExecNews), _ <-chan string) {
			tell(control.ExecNews{PID: 1})
			tell(end)
		})
		if runs := n.runs(control.RunsQuery{Job: name}); err != nil || len(runs) != 1 || runs[0].Outcome != "lost" {
			t.Errorf("%s: %v, recorded %+v", name, err, runs)
		}
	}
}
