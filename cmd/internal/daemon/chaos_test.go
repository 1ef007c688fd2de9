package daemon_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs"
)

var chaosFor = flag.Duration("chaos", 15*time.Second, "how long TestChaos does harm")

// TestChaos does random harm to three real agents, and then asks each of them
// what became of every slot: there must be one answer, the same everywhere, and
// it must be what the jobs themselves wrote down.
func TestChaos(t *testing.T) {
	c := newCluster(t, 3, `
[legion.foobar]
[[job]]
name = "tick"
legion = "foobar"
schedule = "@every 1s"
overlap = "allow"
command = "echo $LEGION_SLOT $LEGION_ATTEMPT $LEGION_NODE >> SHARED"
[[job]]
name = "all"
legion = "foobar"
schedule = "@every 2s"
overlap = "queue-all"
catch_up = "1h"
catch_up_runs = "all"
on_lost = "rerun"
command = "echo $LEGION_SLOT $LEGION_ATTEMPT $LEGION_NODE >> SHARED"
`)
	c.waitLord("foobar", 20*time.Second)
	lab.Eventually(t, 20*time.Second, "the first runs", func() bool { return len(c.wrote()) > 2 })
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c.harm(rand.New(rand.NewPCG(seed, 0)), *chaosFor)
	c.lab.Heal()
	healed := time.Now()
	lab.Eventually(t, 60*time.Second, "a run after all was healed", func() bool {
		for _, w := range c.wrote() {
			if w.slot.At.After(healed.Add(2 * time.Second)) {
				return true
			}
		}
		return false
	})
	last := ""
	var said answers
	defer func() { t.Log(last) }() // Eventually does not return if it fails
	lab.Eventually(t, 90*time.Second, "all nodes to say the same", func() bool {
		said, last = c.agreement(healed)
		return last == ""
	})
	for _, a := range c.agents {
		a.proc.Kill(syscall.SIGTERM)
	}
	for _, a := range c.agents {
		lab.Eventually(t, 30*time.Second, a.name+" to stop", a.proc.Exited)
	}
	c.account(said, healed)
}

// harm breaks something, waits, mends it, again and again.
func (c *cluster) harm(r *rand.Rand, how time.Duration) {
	between := func(lo, hi time.Duration) time.Duration { return lo + time.Duration(r.Int64N(int64(hi-lo))) }
	for end := time.Now().Add(how); time.Now().Before(end); {
		a := c.agents[r.IntN(len(c.agents))]
		if lord := c.lord("foobar"); lord != nil && r.IntN(2) == 0 {
			a = lord
		}
		var mend func()
		pause := between(500*time.Millisecond, 4*time.Second)
		what := ""
		switch r.IntN(6) {
		case 0:
			what = "kill -9"
			a.proc.Kill(syscall.SIGKILL)
			mend = func() { c.start(a) }
		case 1:
			what, pause = "SIGSTOP", between(time.Second, 10*time.Second)
			a.proc.Kill(syscall.SIGSTOP)
			mend = func() { a.proc.Kill(syscall.SIGCONT) }
		case 2:
			what = "isolate"
			c.lab.Isolate(a.host.Number)
			mend = c.lab.Heal
		case 3:
			what = "deafen"
			c.lab.Deafen(a.host.Number)
			mend = c.lab.Heal
		case 4:
			what = "mute"
			c.lab.Mute(a.host.Number)
			mend = c.lab.Heal
		default:
			what = "restart"
			a.proc.Kill(syscall.SIGTERM)
			mend = func() {
				lab.Eventually(c.t, 30*time.Second, a.name+" to stop", a.proc.Exited)
				c.start(a)
			}
		}
		c.t.Logf("%s %s for %v", what, a.name, pause.Round(time.Millisecond))
		time.Sleep(pause)
		mend()
		time.Sleep(between(300*time.Millisecond, 3*time.Second))
	}
}

// A writing is what one run of a job wrote.
type writing struct {
	slot    jobs.Slot
	attempt string
	node    string
}

func (w writing) String() string { return w.slot.String() + "#" + w.attempt }

func (c *cluster) wrote() (all []writing) {
	b, err := os.ReadFile(c.shared)
	if err != nil {
		return nil
	}
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		f := strings.Fields(l)
		if len(f) != 3 {
			continue
		}
		slot, err := jobs.ParseSlot(f[0], false)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, writing{slot, f[1], f[2]})
	}
	return all
}

// Answers are what nodes say of attempts, "SLOT#ATTEMPT".
type answers map[string]string

// differ says in what they do.
func (a answers) differ(b answers) string {
	for what, outcome := range b {
		if a[what] != outcome {
			return fmt.Sprintf("%s is %q and %q", what, a[what], outcome)
		}
	}
	for what, outcome := range a {
		if b[what] != outcome {
			return fmt.Sprintf("%s is %q and %q", what, outcome, b[what])
		}
	}
	return ""
}

func (a answers) add(slot string, attempt int, outcome, node string) {
	a[fmt.Sprintf("%s#%d", slot, attempt)] += outcome + " on " + node + ";"
}

// agreement is what each node answers to be the outcome of all slots before a
// time; or why there is none: the answers differ, or are not settled.
func (c *cluster) agreement(before time.Time) (answers, string) {
	var first answers
	for _, a := range c.agents {
		said := answers{}
		for _, job := range []string{"tick", "all"} {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			runs, err := control.NewClient(a.socket).Runs(ctx, control.RunsQuery{Job: job, Limit: control.MaxRuns})
			cancel()
			if err != nil {
				return nil, a.name + ": " + err.Error()
			}
			if len(runs) == control.MaxRuns {
				c.t.Fatalf("%s may have more runs than it can tell of: a shorter -chaos is needed", a.name)
			}
			for _, r := range runs {
				if r.Scheduled.After(before) {
					continue
				}
				said.add(r.Slot, r.Attempt, r.Outcome, r.Node)
				switch r.Outcome {
				case "queued", "claimed", "starting", "running":
					return nil, fmt.Sprintf("%s: %s is %s", a.name, r.Slot, r.Outcome)
				}
			}
		}
		if first == nil {
			first = said
			continue
		}
		if how := first.differ(said); how != "" {
			return nil, fmt.Sprintf("for %s and %s: %s", c.agents[0].name, a.name, how)
		}
	}
	return first, ""
}

// account checks what the stopped nodes have written against what they said
// before, and what the jobs did.
func (c *cluster) account(said answers, before time.Time) {
	c.t.Helper()
	ran := map[string]int{}
	for _, w := range c.wrote() {
		ran[w.String()]++
	}
	for what, n := range ran {
		if n > 1 {
			c.t.Errorf("P2: %s was started %d times", what, n)
		}
	}
	written := answers{}
	for job, every := range map[string]time.Duration{"tick": time.Second, "all": 2 * time.Second} {
		known := map[jobs.Key]jobs.Record{}
		for _, a := range c.agents {
			for _, r := range recorded(c.t, a.dir, job) {
				if old, ok := known[r.Key()]; ok {
					r = jobs.Merge(old, r)
				}
				known[r.Key()] = r
			}
		}
		var all []jobs.Record
		for _, r := range known {
			all = append(all, r)
		}
		all = jobs.Standing(all)
		slices.SortFunc(all, func(a, b jobs.Record) int { return a.At.Compare(b.At) })
		for _, r := range all {
			if !r.Scheduled.After(before) {
				written.add(r.Slot.String(), r.Attempt, r.State.String(), r.Node)
			}
		}
		outcomes := map[string]int{}
		slot := all[0].Slot
		for ; slot.At.Before(before); slot.At = slot.At.Add(every) {
			attempts := map[int]int{}
			for _, r := range all {
				if !r.Concerns(slot) {
					continue
				}
				attempts[r.Attempt]++
				outcomes[r.State.String()]++
				if !r.State.Settled() {
					c.t.Errorf("P3: %v is not settled", r)
				}
				if r.State == jobs.Missed && job == "tick" {
					c.checkMissed(all, r, slot)
				}
				if did := ran[fmt.Sprintf("%v#%d", slot, r.Attempt)]; did == 0 && r.State == jobs.Succeeded || did > 0 && (r.State == jobs.NeverStarted || r.Attempt == 0) {
					c.t.Errorf("%v, and its job wrote %d lines", r, did)
				}
			}
			if lines := did(ran, slot, attempts); job == "all" && lines == 0 {
				c.t.Errorf("P3: %v did not run, with catch_up = 1h, catch_up_runs = all and on_lost = rerun: %v", slot, attempts)
			}
			for n, times := range attempts {
				if times > 1 || n == 0 && len(attempts) > 1 {
					c.t.Errorf("P3: %v has more than one outcome", slot)
				}
			}
			if len(attempts) == 0 {
				c.t.Errorf("P3: %v has no outcome", slot)
			}
		}
		c.t.Logf("%s: %v", job, outcomes)
	}
	if how := said.differ(written); how != "" {
		c.t.Errorf("what the nodes said and what they have written differ: %s", how)
	}
}

// did counts the lines that the attempts of a slot wrote.
func did(ran map[string]int, slot jobs.Slot, attempts map[int]int) (lines int) {
	for n := range attempts {
		lines += ran[fmt.Sprintf("%v#%d", slot, n)]
	}
	return lines
}

// tickPatience is how late a slot of the job "tick" may be started: a second
// is its catch_up, until the next, and two are not late for anybody.
const tickPatience = 2 * time.Second

// checkMissed checks that the lord who wrote a slot off had to: for a newer
// one, or it was too late. A lord decides in the order of the slots, so it was
// no later than when it first started a newer one.
func (c *cluster) checkMissed(all []jobs.Record, missed jobs.Record, slot jobs.Slot) {
	newer := false
	for _, r := range all {
		if r.Attempt == 0 || r.Term != missed.Term || !r.At.After(slot.At) {
			continue
		}
		newer = true
		if late := r.Started.Sub(slot.At); missed.Reason != "superseded" && !r.Started.IsZero() && late <= tickPatience {
			c.t.Errorf("P3: %v, but its lord started %v when that was %v late", missed, r.Slot, late)
		}
	}
	if missed.Reason == "superseded" && !newer {
		c.t.Errorf("P3: %v, by nothing", missed)
	}
}
