package measure

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

var (
	soakFor  = flag.Duration("soak", 6*time.Second, "how long the soak takes")
	soakSeed = flag.Uint64("seed", 0, "of the soak's faults; 0: a random one, which is told")
)

const (
	soakNodes = 5
	immortal  = 2 // of them are never killed: what grows, grows there
	// What a life may grow by after its youth.
	maxMoreGoroutines = 10
	maxMoreResident   = 8 << 10 // KiB
)

// soakFaults are what can be done to a cluster; each undoes itself.
func soakFaults(c *cluster, r *rand.Rand) []struct {
	name string
	do   func()
} {
	// The lord is the likelier victim.
	some := func() *agent {
		all := slices.DeleteFunc(c.reigns(), func(r *reign) bool { return r.legion != legion })
		if len(all) > 0 && r.IntN(2) == 0 {
			return c.named(slices.MaxFunc(all, func(a, b *reign) int { return cmp.Compare(a.begin, b.begin) }).node)
		}
		return c.agents[r.IntN(len(c.agents))]
	}
	mortal := func() *agent {
		if a := some(); slices.Contains(c.agents[immortal:], a) {
			return a
		}
		return c.agents[immortal+r.IntN(len(c.agents)-immortal)]
	}
	during := func(least, most time.Duration) time.Duration {
		return least + time.Duration(r.Int64N(int64(most-least)))
	}
	aWhile := func() { pass(c.t, during(500*time.Millisecond, 5*time.Second)) }
	whileCut := func(cut func(host int)) func() {
		return func() {
			cut(some().host.Number)
			aWhile()
			c.lab.Heal()
		}
	}
	dies := func(sig syscall.Signal) func() {
		return func() {
			a := mortal()
			a.kill(sig)
			c.end(a)
			if r.IntN(2) == 0 {
				aWhile()
			}
			c.begin(a)
		}
	}
	return []struct {
		name string
		do   func()
	}{
		{"kill -9", dies(syscall.SIGKILL)},
		{"SIGTERM", dies(syscall.SIGTERM)},
		{"stop", func() {
			life := some().now()
			life.Stop()
			pass(c.t, during(200*time.Millisecond, 5*time.Second))
			life.Cont()
		}},
		{"isolate", whileCut(c.lab.Isolate)},
		{"deafen", whileCut(c.lab.Deafen)},
		{"mute", whileCut(c.lab.Mute)},
		{"split", func() {
			order := r.Perm(soakNodes)
			for i := range order {
				order[i]++
			}
			c.lab.Split(order[:2], order[2:])
			aWhile()
			c.lab.Heal()
		}},
	}
}

// A build is how large an immortal agent is at rest.
type build struct{ goroutines, heap, resident int }

func (c *cluster) builds() (largest build) {
	c.t.Helper()
	for _, a := range c.agents[:immortal] {
		s, err := a.status()
		if err != nil {
			c.t.Fatal(err)
		}
		largest.goroutines = max(largest.goroutines, s.Process.Goroutines)
		largest.heap = max(largest.heap, s.Process.HeapBytes)
		largest.resident = max(largest.resident, lab.Memory(c.t, a.now().PID(), "RssAnon"))
	}
	return largest
}

// TestSoak does what can go wrong to five nodes, one thing after the other, and
// looks whether anything that must hold did not, or anything has grown.
func TestSoak(t *testing.T) {
	together(t)
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := start(t, setup{nodes: soakNodes, voters: soakNodes, profile: "lan", job: true})
	c.whole()
	faults := soakFaults(c, r)
	const quiet = 15 * time.Second // after a fault's storm, before sizes are compared
	young := c.builds()
	youth := *inFull // the first quarter, in which buffers and caches fill up
	began, done := time.Now(), 0
	for time.Since(began) < *soakFor {
		if youth && time.Since(began) > *soakFor/4 {
			youth = false
			c.whole()
			pass(t, quiet)
			young = c.builds()
		}
		f := faults[r.IntN(len(faults))]
		f.do()
		done++
		if r.IntN(3) == 0 {
			c.whole() // else the next one comes on top
		}
		if c.verdict(); t.Failed() {
			t.Fatalf("that is after %d faults, the last one: %s", done, f.name)
		}
	}
	c.whole()
	took := time.Since(began)
	if *inFull {
		pass(t, quiet)
	}
	old := c.builds()
	if *inFull && old.goroutines > young.goroutines+maxMoreGoroutines {
		t.Errorf("goroutines grew from %d to %d", young.goroutines, old.goroutines)
	}
	if *inFull && old.resident > young.resident+maxMoreResident {
		t.Errorf("resident memory grew from %d to %d KiB", young.resident, old.resident)
	}
	v := c.verdict()
	c.once()
	starts := strings.Count(readAll(t, c.shared), "\n")
	record(t, "soak", 2, fmt.Sprint(soakNodes), took.Round(time.Second).String(), fmt.Sprint(done), fmt.Sprint(v.reigns),
		map[bool]string{true: "never", false: "YES"}[v.breach == ""], fmt.Sprint(starts), map[bool]string{true: "YES", false: "0"}[t.Failed()],
		fmt.Sprintf("%d, %d", young.goroutines, old.goroutines),
		fmt.Sprintf("%.1f, %.1f MiB", float64(young.heap)/(1<<20), float64(old.heap)/(1<<20)),
		fmt.Sprintf("%.1f, %.1f MiB", mib(young.resident), mib(old.resident)), load())
	if t.Failed() {
		for _, a := range c.agents {
			for i, l := range a.lives {
				_ = os.WriteFile(fmt.Sprintf("%s/soak-%s-%d.log", os.TempDir(), a.name, i), []byte(strings.Join(l.Lines(), "\n")), 0o600)
			}
		}
	}
}
