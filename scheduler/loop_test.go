package scheduler

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A wallClock is the bubble's clock plus what somebody has set it forward by.
type wallClock struct{ set atomic.Int64 } // a time.Duration

func (c *wallClock) Now() time.Time { return time.Now().Add(time.Duration(c.set.Load())) }
func (c *wallClock) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	timer := time.NewTimer(d)
	return timer.C, func() { timer.Stop() }
}

// run starts a Loop in the bubble that reports to the returned function: what
// was handed over since it was asked last.
func run(t *testing.T, l *Loop) (seen func() []string) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var mu sync.Mutex
	var all []string
	began := time.Now()
	go func() {
		defer close(done)
		l.Run(ctx, func(now time.Time, due []Due) {
			mu.Lock()
			defer mu.Unlock()
			for _, d := range due {
				all = append(all, fmt.Sprintf("%s@%s+%d after %s", d.Key, d.At.Format("15:04:05"), d.Older.Count, time.Since(began)))
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		got := all
		all = nil
		return got
	}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// secondly fires every period of the bubble's clock.
func secondly(period time.Duration) Schedule { return periodic{period, 0} }

func TestLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLoop(&wallClock{}, 0)
		seen := run(t, l)
		l.Set("hourly", secondly(time.Hour), time.Time{})
		time.Sleep(time.Hour)
		want(t, seen(), "hourly@01:00:00+0 after 1h0m0s")

		// An entry added while the loop sleeps is not late.
		time.Sleep(90 * time.Second)
		l.Set("soon", secondly(2*time.Second), time.Time{})
		time.Sleep(3 * time.Second)
		want(t, seen(), "soon@01:01:32+0 after 1h1m32s")
		l.Remove("soon")
		time.Sleep(time.Minute)
		want(t, seen())
		if l.Len() != 1 || l.Next("hourly").Hour() != 2 || l.Position("hourly").Hour() != 1 {
			t.Errorf("%d entries, next %s", l.Len(), l.Next("hourly"))
		}
	})
}

// TestLoopClockSet: a wall clock set forward is noticed within MaxWake, or at
// once when poked; one set back stops nothing but what had run already.
func TestLoopClockSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := &wallClock{}
		l := NewLoop(clock, 0)
		seen := run(t, l)
		l.Set("hourly", secondly(time.Hour), time.Time{})
		time.Sleep(10 * time.Second)
		want(t, seen())
		clock.set.Store(int64(3*time.Hour + 30*time.Minute))
		time.Sleep(MaxWake)
		want(t, seen(), "hourly@03:00:00+2 after 30s")

		clock.set.Add(int64(2 * time.Hour))
		l.Poke()
		want(t, seen(), "hourly@05:00:00+1 after 40s")

		clock.set.Store(0)
		time.Sleep(5*time.Hour + 59*time.Minute)
		want(t, seen())
		time.Sleep(time.Minute)
		want(t, seen(), "hourly@06:00:00+0 after 6h0m0s")
	})
}

// TestLoopBurst: bursts are bounded and in order, and a slow receiver is
// waited for.
func TestLoopBurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLoop(&wallClock{}, 2)
		for i := range 5 {
			l.Set(fmt.Sprint(i), secondly(time.Second), time.Time{})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		l.Run(ctx, func(now time.Time, due []Due) {
			var keys string
			for _, d := range due {
				keys += d.Key
			}
			got = append(got, keys)
			if len(got) == 2 {
				time.Sleep(1200 * time.Millisecond) // the next second comes and waits its turn
			}
			if len(got) == 5 {
				cancel()
			}
		})
		if fmt.Sprint(got) != "[01 23 40 12 3]" { // the two slots of 4 are one answer
			t.Errorf("got %v", got)
		}
	})
}
