package daemon_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/daemon"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/legion"
)

// A wallClock is a node's wall clock, and how wrong it is.
type wallClock struct{ wrong atomic.Int64 }

func (c *wallClock) now() legion.Now {
	n := daemon.SystemClock()
	n.Wall = n.Wall.Add(time.Duration(c.wrong.Load()))
	return n
}

// TestClocks: three nodes in this process, one of them 3 s ahead, hand a lordship
// to each other; then the lord's wall clock is set an hour forward, and another's
// an hour back. Every slot is run, none twice, and the skew is shown.
func TestClocks(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	clocks := make([]wallClock, 3)
	clocks[1].wrong.Store(int64(3 * time.Second))
	var nodes []*node
	for i := range clocks {
		join := ""
		if i > 0 {
			join = fmt.Sprintf("join = [%q]\n", nodes[0].Addr())
		}
		nodes = append(nodes, startNodeWith(t, shortDir(t), fmt.Sprintf(`
[node]
name = "n%d"
state_dir = "state"
[cluster]
bind = "127.0.0.1:0"
%s[control]
socket = "sock"
[log]
level = "error"
format = "console"
[legion.g]
valor = %d
[[job]]
name = "tick"
legion = "g"
schedule = "@every 1s"
catch_up = "1m"
catch_up_runs = "all"
command = ["true"]
`, i+1, join, 300-100*i), daemon.Options{Version: "test", Clock: clocks[i].now}))
	}
	lord := func() string {
		l, err := nodes[2].Lord(ctx, "g")
		if err != nil {
			return ""
		}
		return l.Lord
	}
	ran := func() (n int) { // slots that were started
		for _, r := range nodes[2].runs(control.RunsQuery{Job: "tick", Limit: 1000}) {
			if r.Outcome == "succeeded" {
				n++
			}
		}
		return n
	}
	more := func(what string, of int) {
		t.Helper()
		had := ran()
		lab.Eventually(t, 30*time.Second, what, func() bool { return ran() >= had+of })
	}
	lab.Eventually(t, 20*time.Second, "the best to reign", func() bool { return lord() == "n1" })
	more("some runs", 3)

	for _, to := range []string{"n2", "n1", "n2", "n1"} {
		if _, err := nodes[2].StepDown(ctx, control.StepDownQuery{Legion: "g", To: to}); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 10*time.Second, to+" to reign", func() bool { return lord() == to })
		more("runs on "+to, 3)
	}
	lab.Eventually(t, 40*time.Second, "the skew to be seen", func() bool {
		members, err := nodes[0].Members(ctx)
		for _, m := range members {
			if s := m.ClockSkewMS; m.Name == "n2" && s != nil && *s > 2000 && *s < 4000 {
				return err == nil
			}
		}
		return false
	})

	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		old := lord()
		c := &clocks[old[1]-'1']
		right := c.wrong.Load()
		c.wrong.Store(right + int64(by))
		lab.Eventually(t, 10*time.Second, "another to reign", func() bool { l := lord(); return l != "" && l != old })
		more("runs on another", 3)
		if by > 0 {
			c.wrong.Store(right)
		}
	}

	// Each slot since the first has one outcome.
	attempts, outcomes := map[string]int{}, map[string]int{}
	var first, last time.Time
	for _, r := range nodes[2].runs(control.RunsQuery{Job: "tick", Limit: 1000}) {
		at := r.Scheduled.Time
		if at.After(time.Now().Add(10 * time.Second)) {
			if r.Outcome != "never started" { // the one that was given up with the lordship
				t.Errorf("of the future: %+v", r)
			}
			continue
		}
		attempts[fmt.Sprint(r.Slot, " #", r.Attempt)]++
		outcomes[r.Slot]++
		if r.Outcome == "missed" {
			t.Errorf("%s is missed: %s", r.Slot, r.Reason)
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	for attempt, n := range attempts {
		if n > 1 {
			t.Errorf("%s: %d records", attempt, n)
		}
	}
	for at := first; at.Before(last.Add(-time.Second)); at = at.Add(time.Second) {
		if slot := "g/tick@" + at.UTC().Format("2006-01-02T15:04:05Z"); outcomes[slot] == 0 {
			t.Errorf("%s has no outcome", slot)
		}
	}
}
