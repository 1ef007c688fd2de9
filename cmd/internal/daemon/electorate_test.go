package daemon_test

import (
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
	"github.com/legion-cron/legion-cron/legion"
)

// settled waits until the living agents agree on an electorate of n voters, all
// alive, and nothing is under way with it.
func (c *cluster) settled(n int, limit time.Duration) control.Cluster {
	c.t.Helper()
	var last control.Cluster
	lab.Eventually(c.t, limit, "a settled electorate", func() bool {
		epoch := uint64(0)
		for _, a := range c.agents {
			if a.proc.Exited() {
				continue
			}
			s, err := a.status()
			if err != nil {
				return false
			}
			last = s.Cluster
			if last.Change != "" || last.Lord == "" || len(last.Voters) != n || epoch != 0 && last.Epoch != epoch {
				return false
			}
			for _, v := range last.Voters {
				if c.named(v).proc.Exited() {
					return false
				}
			}
			epoch = last.Epoch
		}
		return true
	})
	return last
}

func (c *cluster) named(name string) *agent {
	i := slices.IndexFunc(c.agents, func(a *agent) bool { return a.name == name })
	return c.agents[i]
}

// other returns a voter that is none of those named.
func (c *cluster) other(voters []string, but ...string) *agent {
	i := slices.IndexFunc(voters, func(v string) bool { return !slices.Contains(but, v) })
	return c.named(voters[i])
}

// do runs a verb on an agent.
func (c *cluster) do(a *agent, verb ...string) (string, error) {
	out, err := exec.Command(c.bin, append(verb, "--socket", a.socket)...).CombinedOutput()
	return string(out), err
}

func (c *cluster) end(a *agent, sig syscall.Signal) {
	c.t.Helper()
	a.proc.Kill(sig)
	a.proc.Wait(10 * time.Second)
}

// TestLostDisk: a voter whose state directory is gone becomes a voter again,
// and then the cluster survives the loss of another.
func TestLostDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, tick)
	lord := c.waitLord("foobar", 30*time.Second)
	was := c.settled(3, 30*time.Second)
	lost := c.other(was.Voters, lord.name)
	c.end(lost, syscall.SIGKILL)
	if err := os.RemoveAll(filepath.Join(lost.dir, "state")); err != nil {
		t.Fatal(err)
	}
	c.start(lost)
	lab.Eventually(t, 30*time.Second, lost.name+" to be removed and added", func() bool {
		s, err := lost.status()
		return err == nil && s.Cluster.Epoch >= was.Epoch+2
	})
	c.settled(3, 30*time.Second)

	c.end(c.other(was.Voters, lost.name, lord.name), syscall.SIGKILL)
	before := len(c.lines())
	lab.Eventually(t, 10*time.Second, "runs with two of three voters", func() bool { return len(c.lines()) > before+3 })
	c.noDoubles()
}

// TestEachAlone: nodes that ran without [cluster] are clusters of their own. They
// do not merge; they say so, and doing what they say makes them one.
func TestEachAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, tick)
	together := map[*agent]string{}
	for _, a := range c.agents {
		c.end(a, syscall.SIGKILL)
		if err := os.RemoveAll(filepath.Join(a.dir, "state")); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(a.dir, "config.toml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		together[a] = string(text)
		begin, end := strings.Index(together[a], "[cluster]"), strings.Index(together[a], "[control]")
		c.write(file, together[a][:begin]+together[a][end:], 0o600)
		c.start(a)
	}
	for _, a := range c.agents {
		lab.Eventually(t, 30*time.Second, a.name+" to be lord alone", func() bool {
			s, err := a.status()
			return err == nil && len(s.Legions) > 0 && s.Legions[0].Lord == a.name
		})
		c.end(a, syscall.SIGTERM)
		c.write(filepath.Join(a.dir, "config.toml"), together[a], 0o600)
	}
	for _, a := range c.agents {
		c.start(a)
	}
	for _, a := range c.agents {
		lab.Eventually(t, 30*time.Second, a.name+" to speak of the others", func() bool {
			s, err := a.status()
			said := 0
			for _, text := range s.Cluster.Drift {
				if strings.Contains(text, legion.ForeignHelp) {
					said++
				}
			}
			return err == nil && said == 2
		})
	}
	for _, a := range c.agents[1:] {
		c.end(a, syscall.SIGTERM)
		if err := os.Rename(filepath.Join(a.dir, "state"), filepath.Join(a.dir, "alone")); err != nil {
			t.Fatal(err)
		}
		c.start(a)
	}
	c.settled(3, 30*time.Second)
	c.waitLord("foobar", 10*time.Second)
}

// TestRestoredDisk: a node that comes back with an older state directory is
// noticed, stops, and is another instance when it starts again.
func TestRestoredDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, tick)
	lord := c.waitLord("foobar", 30*time.Second)
	was := c.settled(3, 30*time.Second)
	restored := c.other(was.Voters, lord.name)
	state, backup := filepath.Join(restored.dir, "state"), filepath.Join(restored.dir, "backup")
	c.end(restored, syscall.SIGTERM)
	if out, err := exec.Command("cp", "-a", state, backup).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.start(restored)
	lab.Eventually(t, 30*time.Second, "the others to have heard from it", func() bool {
		s, err := restored.status()
		if err != nil {
			return false
		}
		for _, a := range c.agents {
			o, err := a.status()
			if err != nil || !slices.ContainsFunc(o.Cluster.Members, func(m control.Member) bool {
				return m.Incarnation == s.Incarnation && m.Version != ""
			}) || !o.Legions[0].Agreed {
				return false
			}
		}
		return true
	})
	c.end(restored, syscall.SIGTERM)
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, state); err != nil {
		t.Fatal(err)
	}
	for _, a := range c.agents { // which do not forget it
		if a != restored {
			c.end(a, syscall.SIGTERM)
			c.start(a)
		}
	}
	// Its next start counts as many as one that has been seen.
	c.start(restored)
	if code := restored.proc.Wait(30 * time.Second).ExitCode(); code != 1 {
		t.Errorf("it exits %d: %s", code, strings.Join(restored.proc.Lines(), "\n"))
	}
	if said := strings.Join(restored.proc.Lines(), "\n"); !strings.Contains(said, "restored from a backup") {
		t.Errorf("it does not say why: %s", said)
	}
	c.start(restored)
	lab.Eventually(t, 30*time.Second, restored.name+" to be removed and added", func() bool {
		s, err := restored.status()
		return err == nil && s.Cluster.Epoch >= was.Epoch+2
	})
	c.settled(3, 30*time.Second)
}

// TestLeaveAndForget: a voter that leaves, and one that is gone and forgotten,
// give their places to nodes without a vote.
func TestLeaveAndForget(t *testing.T) {
	t.Parallel()
	c := newClusterWith(t, 4, "join = [JOIN]\nsize = 3", tick)
	lord := c.waitLord("foobar", 30*time.Second)
	was := c.settled(3, 30*time.Second)
	spare := c.other([]string{"n1", "n2", "n3", "n4"}, was.Voters...)

	leaver := c.other(was.Voters, lord.name)
	if out, err := c.do(leaver, "leave"); err != nil || !strings.Contains(out, spare.name) {
		t.Fatalf("leave: %v: %s", err, out)
	}
	if code := leaver.proc.Wait(15 * time.Second).ExitCode(); code != 0 {
		t.Errorf("the agent that left exits %d", code)
	}
	now := c.settled(3, 30*time.Second)
	if slices.Contains(now.Voters, leaver.name) || !slices.Contains(now.Voters, spare.name) {
		t.Errorf("the voters are %v after %s left", now.Voters, leaver.name)
	}

	c.start(leaver) // a node without a vote now
	gone := c.other(now.Voters, lord.name)
	if out, err := c.do(lord, "forget", gone.name); err == nil || !strings.Contains(out, "is alive") {
		t.Errorf("forget a living node: %v: %s", err, out)
	}
	c.end(gone, syscall.SIGKILL)
	lab.Eventually(t, 30*time.Second, gone.name+" to be missed", func() bool {
		out, err := c.do(lord, "undrain", "--node", gone.name)
		return err != nil && strings.Contains(out, gone.name+`" is away`)
	})
	lab.Eventually(t, 30*time.Second, gone.name+" to be forgotten", func() bool {
		_, err := c.do(leaver, "forget", gone.name) // any node passes it on
		return err == nil
	})
	now = c.settled(3, 30*time.Second)
	if slices.Contains(now.Voters, gone.name) || !slices.Contains(now.Voters, leaver.name) {
		t.Errorf("the voters are %v after %s was forgotten", now.Voters, gone.name)
	}
	c.noDoubles()
}

// TestSizeGrows: a reload of the lord of the cluster adds voters.
func TestSizeGrows(t *testing.T) {
	t.Parallel()
	c := newClusterWith(t, 5, "join = [JOIN]\nsize = 3 # so far", tick)
	c.waitLord("foobar", 30*time.Second)
	was := c.settled(3, 30*time.Second)
	for _, a := range c.agents {
		file := filepath.Join(a.dir, "config.toml")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c.write(file, strings.Replace(string(b), "size = 3", "size = 5", 1), 0o600)
		out, err := c.do(a, "reload")
		if err != nil || !strings.Contains(out, "cluster.size is 5 in the file, 3 in the electorate") {
			t.Errorf("reload %s, the lord being %s: %v: %s", a.name, was.Lord, err, out)
		}
		if a.name == was.Lord {
			break // the others only say that they differ
		}
	}
	c.settled(5, 40*time.Second)
	c.noDoubles()
}

// TestRefound: one survivor of three goes on alone when it is told to.
func TestRefound(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, tick)
	c.waitLord("foobar", 30*time.Second)
	c.settled(3, 30*time.Second)
	survivor := c.agents[0] // n3 has no valor
	if out, err := c.do(survivor, "refound"); err == nil || !strings.Contains(out, "--yes") {
		t.Errorf("refound without a word: %v: %s", err, out)
	}
	if out, err := c.do(survivor, "refound", "--yes"); err == nil || !strings.Contains(out, "a quorum of voters is here") {
		t.Errorf("refound with a quorum: %v: %s", err, out)
	}
	c.end(c.agents[1], syscall.SIGKILL)
	c.end(c.agents[2], syscall.SIGKILL)
	lab.Eventually(t, 30*time.Second, "the cluster to be founded again", func() bool {
		_, err := c.do(survivor, "refound", "--yes")
		return err == nil
	})
	c.settled(1, 20*time.Second)
	before := len(c.lines())
	lab.Eventually(t, 15*time.Second, "runs", func() bool { return len(c.lines()) > before+2 })
	c.start(c.agents[1])
	c.start(c.agents[2])
	c.settled(3, 40*time.Second)
	c.noDoubles()
}
