package sim

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run this seed alone, with its trace")
	first   = flag.Uint64("first", 1, "the first seed to run")
	seeds   = flag.Int("seeds", 300, "how many seeds to run")
	lines   = flag.Int("lines", 200, "how many lines of a failing run's trace to print")
)

// TestSeeds runs the seeds. A failing one prints how to run it again.
func TestSeeds(t *testing.T) {
	t.Parallel()
	if *oneSeed != 0 {
		if err := replay(t, *oneSeed); err != nil {
			t.Fatal(err)
		}
		return
	}
	var (
		next   = *first
		end    = *first + uint64(*seeds)
		claims int
		failed []uint64
		mu     sync.Mutex // of the above
		all    sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for next < end && len(failed) == 0 {
				seed := next
				next++
				mu.Unlock()
				w := Random(seed)
				err := w.Check()
				mu.Lock()
				if err != nil {
					failed = append(failed, seed)
					t.Errorf("seed %d: %v\nreplay: go test ./cmd/internal/sim -run TestSeeds -seed %d", seed, err, seed)
				}
				claims += w.check.claims
			}
		})
	}
	all.Wait()
	if len(failed) > 0 {
		replay(t, slices.Min(failed))
	}
	if claims == 0 {
		t.Error("no claim was ever started")
	}
}

// replay runs one seed again and prints the end of its trace.
func replay(t *testing.T, seed uint64) error {
	w := Random(seed)
	var last []string
	w.Trace(func(at time.Duration, line string) {
		last = append(last, fmt.Sprintf("%11.6f %s", at.Seconds(), line))
		if len(last) > 2**lines {
			last = append([]string(nil), last[len(last)-*lines:]...)
		}
	})
	err := w.Check()
	if err != nil {
		t.Log("the end of the trace:\n" + strings.Join(last[max(0, len(last)-*lines):], "\n"))
	}
	t.Logf("seed %d: hash %016x, %d steps, %d claims", seed, w.Hash(), w.Steps(), w.check.claims)
	return err
}

// TestSameSeed runs a few seeds twice.
func TestSameSeed(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 5; seed++ {
		a, b := Random(seed), Random(seed)
		b.Trace(func(time.Duration, string) {})
		_, _ = a.Check(), b.Check()
		if a.Hash() != b.Hash() {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
}
