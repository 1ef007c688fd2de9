package runner

import (
	"flag"
	"io"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var crowd = flag.Int("runner.crowd", 0, "rounds of TestCrowd: many jobs due at the same instant")

// TestCrowd starts 10, 100 and 1,000 jobs that are due at the same instant, and
// beside it, round by round, the same with os/exec alone: how many it starts
// in a second until the last has started, how late the starts are, and what CPU
// time a run takes of this process, which other programs disturb less. For docs/runs.md.
func TestCrowd(t *testing.T) {
	rounds, crowds := *crowd, []int{10, 100, 1000}
	if rounds == 0 { // it works: the figures are for make bench-runs
		rounds, crowds = 1, crowds[:1]
	}
	bare := func(_ int) (func(), error) {
		cmd := exec.Command("/bin/true")
		cmd.Stdout, cmd.Stderr = onlyWriter{io.Discard}, onlyWriter{io.Discard}
		err := cmd.Start()
		return func() { _ = cmd.Wait() }, err
	}
	ways := []string{"os/exec", "sessions", "cgroups"}
	starts := map[string]func(int) (func(), error){"os/exec": bare}
	for _, way := range ways[1:] {
		h, err := New(Config{Incarnation: "crowd", NoCgroups: way == "sessions"})
		if err != nil {
			t.Fatal(err)
		}
		starts[way] = func(int) (func(), error) {
			s := play("")
			s.Argv, s.Env, s.Set = []string{"/bin/true"}, nil, nil
			p, err := h.Start(s, nil)
			if err != nil {
				return nil, err
			}
			return func() { p.Wait() }, nil
		}
	}
	t.Log("| due at once | by | starts/s | late p50 | late p99 | CPU a run | to os/exec |")
	for _, n := range crowds {
		rates := map[string][]float64{}
		lates := map[string][]time.Duration{}
		cpus := map[string][]float64{} // microseconds
		for range rounds {
			for _, way := range ways { // in turn: what else the machine does is the same for all
				before := cpuTime(t)
				rate, late := together(t, n, starts[way])
				cpus[way] = append(cpus[way], float64((cpuTime(t)-before).Microseconds())/float64(n))
				rates[way] = append(rates[way], rate)
				lates[way] = append(lates[way], late...)
			}
		}
		for _, way := range ways {
			l := slices.Sorted(slices.Values(lates[way]))
			rate := median(rates[way])
			t.Logf("| %d | %s | %.0f | %v | %v | %.0fµs | %.2f |", n, way, rate,
				l[len(l)/2].Round(10*time.Microsecond), l[len(l)*99/100].Round(10*time.Microsecond),
				median(cpus[way]), rate/median(rates["os/exec"]))
		}
	}
}

// together starts n jobs at one instant, each on a goroutine of its own, and
// waits for their ends.
func together(t *testing.T, n int, start func(int) (func(), error)) (rate float64, late []time.Duration) {
	t.Helper()
	late = make([]time.Duration, n)
	due := make(chan struct{})
	var instant time.Time
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-due
			wait, err := start(i)
			late[i] = time.Since(instant)
			if err != nil {
				t.Error(err)
				return
			}
			wait()
		})
	}
	instant = time.Now()
	close(due)
	all.Wait()
	return float64(n) / slices.Max(late).Seconds(), late
}

// cpuTime is what this process has taken so far, without its children.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}
