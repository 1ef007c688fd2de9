package daemon_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs"
)

var crashes = flag.Int("crashes", 8, "how often TestAgentKilledWhileItClaims kills the agent")

// busy are jobs that keep an agent claiming: many at each second, and some
// whose next attempt follows the last at once.
func busy() string {
	var b strings.Builder
	b.WriteString("[legion.foobar]\n")
	for i := range 20 {
		fmt.Fprintf(&b, `
[[job]]
name = "often-%d"
legion = "foobar"
schedule = "@every 1s"
overlap = "allow"
command = "echo $LEGION_RUN $LEGION_ATTEMPT >> SHARED"
`, i)
	}
	for i := range 10 {
		fmt.Fprintf(&b, `
[[job]]
name = "again-%d"
legion = "foobar"
schedule = "@every 2s"
overlap = "allow"
catch_up = "0s"
command = "echo $LEGION_RUN $LEGION_ATTEMPT >> SHARED; exit 1"
retries = 100
retry_delay = "1ms"
`, i)
	}
	return b.String()
}

// newAlone starts one agent without a cluster.
func newAlone(t *testing.T, jobs string) *cluster {
	t.Helper()
	// The directory is made first, to be removed last: the jobs that the lab's end
	// kills, which are in groups of their own, write to it.
	c := &cluster{t: t, dir: t.TempDir(), bin: lab.Binary(t)}
	c.lab = lab.New(t, 1)
	c.shared = filepath.Join(c.dir, "shared")
	a := &agent{name: "n1", host: c.lab.Hosts[0], dir: c.dir, socket: filepath.Join(c.dir, "sock")}
	c.write(filepath.Join(a.dir, "config.toml"), `
[node]
name = "n1"
state_dir = "state"
[control]
socket = "sock"
[log]
format = "console"
`+strings.ReplaceAll(jobs, "SHARED", c.shared), 0o600)
	c.agents = []*agent{a}
	c.start(a)
	return c
}

// A row is what is known of one attempt.
type row struct {
	slot    string
	attempt int
	run     string
}

// rows are all that a node's file has, with their ranks, read as people read it.
func (a *agent) rows(t *testing.T) map[row]int {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(a.dir, "state", "ledger.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity_check: %s, %v", verdict, err)
	}
	rs, err := db.Query("SELECT slot, attempt, run, rank FROM runs")
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Close()
	found := map[row]int{}
	for rs.Next() {
		var r row
		var rank int
		if err := rs.Scan(&r.slot, &r.attempt, &r.run, &rank); err != nil {
			t.Fatal(err)
		}
		found[r] = rank
	}
	if err := rs.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestAgentKilledWhileItClaims is P10 with the real program: an agent that
// claims all the time is killed again and again. What anybody was told before,
// by the agent or by a process that was started, is there afterwards, no state
// has gone back, and the file is sound. (make crashes: 100 times.)
func TestAgentKilledWhileItClaims(t *testing.T) {
	c := newAlone(t, busy())
	a := c.agents[0]
	client := control.NewClient(a.socket)
	told := map[row]int{} // the highest rank that the agent has told of
	for round := range *crashes {
		if round > 0 {
			c.start(a)
		}
		c.waitLord("foobar", 15*time.Second)
		before := len(c.lines())
		lab.Eventually(t, 10*time.Second, "a run", func() bool { return len(c.lines()) > before })
		for end := time.After(rand.N(time.Second)); end != nil; {
			select {
			case <-end:
				end = nil
			default:
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				runs, err := client.Runs(ctx, control.RunsQuery{Limit: 200})
				cancel()
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				for _, r := range runs {
					state, err := jobs.ParseState(r.Outcome)
					if err != nil {
						t.Fatal(err)
					}
					key := row{r.Slot, r.Attempt, r.Run}
					told[key] = max(told[key], state.Rank())
				}
			}
		}
		a.proc.Kill(syscall.SIGKILL)
		a.proc.Wait(10 * time.Second)

		found := a.rows(t)
		for key, rank := range told {
			if found[key] < rank {
				t.Errorf("round %d: %v was told with rank %d, and is there with %d", round, key, rank, found[key])
			}
		}
		byRun := map[string]int{}
		for key, rank := range found {
			byRun[key.run] = rank
		}
		seen := map[string]bool{}
		for _, l := range c.lines() {
			if byRun[l.slot] < jobs.Starting.Rank() {
				t.Errorf("round %d: a process was started for run %s, which is there with rank %d", round, l.slot, byRun[l.slot])
			}
			if seen[l.slot] {
				t.Errorf("round %d: run %s was started twice", round, l.slot)
			}
			seen[l.slot] = true
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d records told in %d lives of the agent", len(told), *crashes)
}

// TestFullDiskMovesTheWork: a lord whose state directory is full gives up its
// lordship and says why, another takes over without a slot run twice, and with
// room it is well again by itself.
func TestFullDiskMovesTheWork(t *testing.T) {
	var ticks strings.Builder // so many that the ledger soon needs more room than it has
	ticks.WriteString("[legion.foobar]\nvalor = VALOR\n")
	for i := range 15 {
		_, job, _ := strings.Cut(tick, "[[job]]")
		ticks.WriteString("[[job]]" + strings.Replace(job, `"tick"`, fmt.Sprintf(`"tick-%d"`, i), 1))
	}
	c := newCluster(t, 3, ticks.String())
	a := c.waitLord("foobar", 15*time.Second)
	if a != c.agents[0] {
		t.Fatalf("%s is lord, and not the best", a.name)
	}
	// Its state moves to a disk of 4 MiB.
	a.proc.Kill(syscall.SIGTERM)
	a.proc.Wait(15 * time.Second)
	state := filepath.Join(a.dir, "state")
	if err := os.Rename(state, state+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(state, unix.MNT_DETACH) })
	if err := os.CopyFS(state, os.DirFS(state+".old")); err != nil {
		t.Fatal(err)
	}
	c.start(a)
	other := c.waitLord("foobar", 15*time.Second)
	lab.Eventually(t, 20*time.Second, a.name+" is fit", func() bool { return a.standing(c.agents[1]).Fit })
	for range 5 { // it is the best, so it gets what is given up, sooner or later
		if other == a {
			break
		}
		other.proc.Kill(syscall.SIGTERM)
		other.proc.Wait(15 * time.Second)
		c.start(other)
		other = c.waitLord("foobar", 15*time.Second)
	}
	if other != a {
		t.Fatalf("%s is lord, and %s the best", other.name, a.name)
	}
	n := len(c.lines())
	lab.Eventually(t, 20*time.Second, "a run on "+a.name, func() bool {
		return slices.ContainsFunc(c.lines()[n:], func(l line) bool { return l.node == a.name })
	})

	ballast := filepath.Join(state, "ballast")
	fill(t, ballast)
	n = len(c.lines())
	took := c.ranElsewhere(a, n, time.Minute)
	t.Logf("with a full disk the next run came elsewhere %v later", took.Round(time.Millisecond))
	lab.Eventually(t, 10*time.Second, a.name+" says why", func() bool {
		m := a.standing(a)
		return !m.Fit && strings.Contains(strings.Join(m.Reasons, " "), "full")
	})
	if !slices.ContainsFunc(a.proc.Lines(), func(l string) bool { return strings.Contains(l, "no longer lord") && strings.Contains(l, "full") }) {
		t.Errorf("%s has not logged why it gave up its lordship", a.name)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, a.name+" is well again", func() bool { return a.standing(a).Fit && a.standing(c.agents[1]).Fit })
	if a.proc.Exited() {
		t.Errorf("%s ended", a.name)
	}
	c.noDoubles()
}

// standing is how a node stands in foobar, as by sees it.
func (a *agent) standing(by *agent) control.LegionMember {
	s, err := by.status()
	if err != nil || len(s.Legions) == 0 {
		return control.LegionMember{}
	}
	for _, m := range s.Legions[0].Members {
		if m.Name == a.name {
			return m
		}
	}
	return control.LegionMember{}
}

// fill takes all the room that is left beside path.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}
