package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// lineOf is what /proc says of a process's command line, with blanks.
func lineOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
}

// pids are all processes of the machine.
func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// guardianOf returns the guardian that the process has started, 0 if it has none.
func guardianOf(agent int) int {
	for _, pid := range pids() {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[0] != "Z" && f[1] == strconv.Itoa(agent) && strings.HasSuffix(lineOf(pid), " guardian") {
			return pid
		}
	}
	return 0
}

func waitGuardian(t *testing.T, agent int) int {
	t.Helper()
	pid := 0
	lab.Eventually(t, 10*time.Second, "a guardian", func() bool {
		pid = guardianOf(agent)
		return pid != 0
	})
	return pid
}

// guards reports whether the process is a living guardian.
func guards(pid int) bool { return strings.HasSuffix(lineOf(pid), " guardian") }

// living counts the processes of a run.
func living(run string) int {
	n := 0
	for _, pid := range pids() {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if bytes.Contains(env, []byte("LEGION_RUN="+run)) {
			n++
		}
	}
	return n
}

// successor waits for a lord that is not the old one, and returns it with how
// long that took.
func (c *cluster) successor(old *agent, limit time.Duration) (*agent, time.Duration) {
	c.t.Helper()
	began := time.Now()
	for time.Since(began) < limit {
		for _, a := range c.agents {
			if a == old {
				continue
			}
			if s, err := a.status(); err == nil && len(s.Legions) == 1 && s.Legions[0].Lord == a.name && s.Legions[0].TrustedMS > 0 {
				return a, time.Since(began)
			}
		}
	}
	c.t.Fatalf("no successor of %s within %v", old.name, limit)
	return nil, 0
}

// outcome is how the agent records the run; empty if it does not know it.
func (a *agent) outcome(run string) (string, string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	runs, err := control.NewClient(a.socket).Runs(ctx, control.RunsQuery{Limit: 1000})
	if err != nil {
		return "", ""
	}
	for _, r := range runs {
		if r.Run == run {
			return r.Outcome, r.Reason
		}
	}
	return "", ""
}

const long = `
[legion.foobar]
[[job]]
name = "long"
legion = "foobar"
schedule = "@every 1s"
command = "echo $LEGION_RUN $LEGION_NODE >> SHARED; sleep 600; exit 0"
`

// longRun waits for the run of the job above on the lord.
func (c *cluster) longRun() (lord *agent, run string) {
	c.t.Helper()
	lord = c.waitLord("foobar", 20*time.Second)
	lab.Eventually(c.t, 20*time.Second, "a long run", func() bool { return len(c.lines()) == 1 })
	l := c.lines()[0]
	if l.node != lord.name {
		c.t.Fatalf("%s runs on %s, the lord is %s", l.slot, l.node, lord.name)
	}
	lab.Eventually(c.t, 10*time.Second, "all know that it runs", func() bool {
		for _, a := range c.agents {
			if o, _ := a.outcome(l.slot); o != "running" {
				return false
			}
		}
		return true
	})
	return lord, l.slot
}

// leaseBound is the shortest time after a crash in which a successor by the
// end of leases alone is possible: a lease but for the last beat's age, and a
// little for the measurement. Whoever is faster has heard a certificate.
const leaseBound = lease - beat - 200*time.Millisecond

func TestAgentKilled(t *testing.T) {
	c := newCluster(t, 3, long)
	lord, run := c.longRun()
	guardian := waitGuardian(t, lord.proc.PID())

	lord.proc.Kill(syscall.SIGKILL)
	next, took := c.successor(lord, 2*lease)
	t.Logf("kill -9 of the lord's agent: %s is lord %v later", next.name, took.Round(time.Millisecond))
	if took > leaseBound {
		t.Errorf("that is no faster than by the end of the lease")
	}
	// It is shown as what it is long before gossip finds out, which takes 6 to 10 s.
	lab.Eventually(t, 2*time.Second, lord.name+" is dead to "+next.name, func() bool {
		s, err := next.status()
		i := slices.IndexFunc(s.Cluster.Members, func(m control.Member) bool { return m.Name == lord.name })
		return err == nil && i >= 0 && s.Cluster.Members[i].State == "dead"
	})
	lab.Eventually(t, 5*time.Second, "the run's processes are gone", func() bool { return living(run) == 0 })
	began := time.Now()
	lab.Eventually(t, 10*time.Second, "the run is lost", func() bool {
		o, _ := next.outcome(run)
		return o == "lost"
	})
	t.Logf("the run's processes are gone, and %v after that it is lost", time.Since(began).Round(time.Millisecond))
	if _, why := next.outcome(run); !strings.Contains(why, "died") {
		t.Errorf("it is lost because: %s", why)
	}
	for _, a := range c.others(lord) {
		if _, errs, code := c.cli(a, "kill", run); code != 1 || !strings.Contains(errs, "run "+run+" has ended: lost") {
			t.Errorf("kill of the lost run, asked of %s: exit %d, %s", a.name, code, errs)
		}
	}
	lab.Eventually(t, 10*time.Second, "the next run", func() bool { return len(c.lines()) > 1 })
	lab.Eventually(t, 10*time.Second, "the guardian is gone", func() bool { return !guards(guardian) })

	// The other way round, with an agent that is back at once: it needs the
	// state directory, the address and the name of the dead one, whose guardian
	// is still at work.
	c.start(lord)
	lab.Eventually(t, 10*time.Second, "three agents", func() bool {
		s, err := lord.status()
		return err == nil && len(s.Legions) == 1 && s.Legions[0].Lord == next.name
	})
	// The restarted node knows no better what became of its run.
	for _, a := range c.agents {
		lab.Eventually(t, 10*time.Second, a.name+" says of the run what was said first", func() bool {
			o, why := a.outcome(run)
			return o == "lost" && strings.Contains(why, "died")
		})
	}
	guardian = waitGuardian(t, next.proc.PID())
	next.proc.Kill(syscall.SIGKILL)
	next.proc.Wait(5 * time.Second)
	c.start(next)
	last, took := c.successor(next, 2*lease)
	t.Logf("the same, restarted at once: %s is lord %v later", last.name, took.Round(time.Millisecond))
	lab.Eventually(t, 10*time.Second, "the agent is back", func() bool {
		s, err := next.status()
		return err == nil && len(s.Legions) == 1 && s.Legions[0].Lord == last.name
	})
	lab.Eventually(t, 10*time.Second, "the guardian is gone", func() bool { return !guards(guardian) })
	if again := waitGuardian(t, next.proc.PID()); again == guardian {
		t.Error("the restarted agent has the dead one's guardian")
	}
	if last.proc.Exited() || c.lord("foobar") != last {
		t.Errorf("%s is not lord any more", last.name)
	}
}

func TestAgentAndGuardianKilled(t *testing.T) {
	c := newCluster(t, 3, long)
	lord, run := c.longRun()
	guardian := waitGuardian(t, lord.proc.PID())
	if err := syscall.Kill(guardian, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lord.proc.Kill(syscall.SIGKILL)
	next, took := c.successor(lord, 2*lease)
	t.Logf("kill -9 of the lord's agent and its guardian: %s is lord %v later", next.name, took.Round(time.Millisecond))
	if took < leaseBound {
		t.Errorf("a successor after %v: before the lease has run out", took)
	}
	if living(run) == 0 {
		t.Error("somebody has killed the run") // then the next line shows nothing
	}
	c.start(lord)
	lab.Eventually(t, 10*time.Second, "the restarted agent has killed the run", func() bool { return living(run) == 0 })
}

// TestGuardianKilled: there is another one, and it knows all that the first knew.
func TestGuardianKilled(t *testing.T) {
	c := newCluster(t, 3, long)
	lord, run := c.longRun()
	first := waitGuardian(t, lord.proc.PID())
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := 0
	lab.Eventually(t, 10*time.Second, "another guardian", func() bool {
		second = guardianOf(lord.proc.PID())
		return second != 0 && second != first
	})
	lab.Eventually(t, 10*time.Second, "it ignores what a terminal or systemd sends", func() bool {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", second))
		_, after, _ := strings.Cut(string(status), "SigIgn:")
		mask, err := strconv.ParseUint(strings.Fields(after + " x")[0], 16, 64)
		return err == nil && mask&(1<<(syscall.SIGTERM-1)) != 0
	})
	if living(run) == 0 {
		t.Error("the run died with the guardian")
	}
	lord.proc.Kill(syscall.SIGKILL)
	if _, took := c.successor(lord, 2*lease); took > leaseBound {
		t.Errorf("a successor after %v: the second guardian is no good", took)
	}
	lab.Eventually(t, 5*time.Second, "the run's processes are gone", func() bool { return living(run) == 0 })

	// In the end nothing is left.
	var left []int
	for _, a := range c.agents {
		if a != lord {
			left = append(left, waitGuardian(t, a.proc.PID()))
		}
	}
	left = append(left, second)
	for _, a := range c.agents {
		if a != lord {
			lab.Eventually(t, 20*time.Second, a.name+" ends", func() bool {
				a.proc.Kill(syscall.SIGTERM) // the second one that arrives kills its run
				return a.proc.Exited()
			})
		}
	}
	for _, pid := range left {
		lab.Eventually(t, 5*time.Second, "no guardian is left", func() bool { return !guards(pid) })
	}
}

// TestAgentFrozen: a run that must not outlive the lordship does not, though
// its agent can do nothing about it.
func TestAgentFrozen(t *testing.T) {
	c := newCluster(t, 3, `
[legion.foobar]
[[job]]
name = "strict"
legion = "foobar"
schedule = "@every 1s"
overlap = "allow"
on_unlord = "kill"
command = "trap '' TERM; echo start $LEGION_NODE >> SHARED; while sleep 0.02; do echo beat $LEGION_NODE >> SHARED; done"
`)
	lord := c.waitLord("foobar", 20*time.Second)
	lab.Eventually(t, 20*time.Second, "a run", func() bool { return len(c.lines()) > 20 })
	guardian := waitGuardian(t, lord.proc.PID())

	lord.proc.Stop()
	others := func() (n int) {
		for _, l := range c.lines() {
			if l.node != lord.name {
				n++
			}
		}
		return n
	}
	lab.Eventually(t, 4*lease, "the successor's runs", func() bool { return others() > 50 })
	theirs := false
	for i, l := range c.lines() {
		if l.node != lord.name {
			theirs = true
		} else if theirs {
			t.Fatalf("line %d: %s of the frozen agent's run, after the successor's first", i, l.slot)
		}
	}
	if !guards(guardian) {
		t.Error("the guardian has not waited for its agent's end")
	}
	lord.proc.Cont()
	var next *agent
	lab.Eventually(t, 10*time.Second, "the thawed agent knows its successor", func() bool {
		s, err := lord.status()
		next = c.lord("foobar")
		return err == nil && next != nil && next != lord && s.Legions[0].Lord == next.name
	})
	// What it had running is over for itself, too.
	lab.Eventually(t, 10*time.Second, "its runs have ended", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		runs, err := control.NewClient(lord.socket).Runs(ctx, control.RunsQuery{Limit: 1000, Outcome: "killed"})
		if err != nil {
			return false
		}
		for _, r := range runs {
			if r.Node == lord.name {
				return true
			}
		}
		return false
	})
	if guardianOf(lord.proc.PID()) != guardian {
		t.Error("the agent has lost its guardian")
	}
}

// TestAloneKilled: without a cluster there is nobody to tell, but runs to end.
func TestAloneKilled(t *testing.T) {
	bin, dir := lab.Binary(t), shortDir(t)
	shared := filepath.Join(dir, "shared")
	load(t, dir, strings.Replace(single, "state_dir", "stop_timeout = \"1s\"\nstate_dir", 1)+`
[[job]]
name = "long"
schedule = "@every 1s"
command = "echo $LEGION_RUN >> `+shared+`; sleep 600; exit 0"
`)
	start := func() *exec.Cmd {
		cmd := exec.Command(bin, "agent", "--config", filepath.Join(dir, "config.toml"))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	first := start()
	run := ""
	lab.Eventually(t, 20*time.Second, "a run", func() bool {
		b, _ := os.ReadFile(shared)
		run = strings.TrimSpace(string(b))
		return run != ""
	})
	guardian := waitGuardian(t, first.Process.Pid)
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", guardian))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", guardian, fd.Name()))
		if strings.HasPrefix(to, dir) || strings.HasPrefix(to, "socket:") {
			t.Errorf("the guardian has %s open", to)
		}
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	second := start() // at once: the lock is free, and both sweep
	lab.Eventually(t, 10*time.Second, "the run is gone", func() bool { return living(run) == 0 })
	lab.Eventually(t, 10*time.Second, "the guardian is gone", func() bool { return !guards(guardian) })
	client := control.NewClient(filepath.Join(dir, "sock"))
	lab.Eventually(t, 10*time.Second, "the second agent answers", func() bool {
		_, err := client.Status(context.Background())
		return err == nil
	})
	lab.Eventually(t, 10*time.Second, "the run to be lost", func() bool {
		rs, err := client.Runs(context.Background(), control.RunsQuery{Job: "long", Outcome: "lost"})
		return err == nil && slices.ContainsFunc(rs, func(r control.Run) bool { return r.Run == run })
	})
	next := waitGuardian(t, second.Process.Pid)
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("after TERM: %v", err)
	}
	if guards(next) {
		t.Error("after a clean stop the guardian is left")
	}
}
