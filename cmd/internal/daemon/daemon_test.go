package daemon_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/daemon"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
)

// A node is a daemon in this process.
type node struct {
	*daemon.Daemon
	t    *testing.T
	path string
	*control.Client
}

// load writes a configuration into dir and loads it.
func load(t *testing.T, dir, text string) *config.Config {
	t.Helper()
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, problems := config.Load(path)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return cfg
}

// startNode starts a daemon that is stopped with the test.
func startNode(t *testing.T, dir, text string) *node {
	t.Helper()
	return startNodeWith(t, dir, text, daemon.Options{Version: "test"})
}

func startNodeWith(t *testing.T, dir, text string, opts daemon.Options) *node {
	t.Helper()
	cfg := load(t, dir, text)
	d, err := daemon.New(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	n := &node{Daemon: d, t: t, path: cfg.Path, Client: control.NewClient(cfg.Control.Socket)}
	t.Cleanup(func() {
		if d == n.Daemon {
			if err := d.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return n
}

// stop stops the daemon before the test ends.
func (n *node) stop() {
	n.t.Helper()
	d := n.Daemon
	n.Daemon = nil
	if err := d.Stop(context.Background()); err != nil {
		n.t.Error(err)
	}
}

func (n *node) runs(q control.RunsQuery) []control.Run {
	n.t.Helper()
	if q.Limit == 0 {
		q.Limit = 100
	}
	runs, err := n.Runs(context.Background(), q)
	if err != nil {
		n.t.Fatal(err)
	}
	return runs
}

// recorded returns what the ledger of a stopped node in dir holds of a job.
func recorded(t *testing.T, dir, job string) []jobs.Record {
	t.Helper()
	s, err := ledger.Open(ledger.Config{Dir: filepath.Join(dir, "state")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	one := map[jobs.Key]bool{}
	var all []jobs.Record
	for skip := 0; ; skip += ledger.MaxRuns { // a page may have some of the one before
		page, err := s.Runs(ledger.Query{Job: job, Limit: ledger.MaxRuns, Skip: skip})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			if !one[r.Key()] {
				one[r.Key()] = true
				all = append(all, r)
			}
		}
		if len(page) < ledger.MaxRuns {
			return all
		}
	}
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lc") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

const single = `
[node]
name = "one"
state_dir = "state"
[control]
socket = "sock"
[log]
level = "error"
[legion.foobar]
`

func TestAlone(t *testing.T) {
	n := startNode(t, shortDir(t), single+`
[[job]]
name = "good"
legion = "foobar"
schedule = "@every 1s"
command = "echo $LEGION $LEGION_JOB $LEGION_SLOT $LEGION_SCHEDULED $LEGION_RUN $LEGION_ATTEMPT $LEGION_TERM $LEGION_NODE > good"
dir = "`+t.TempDir()+`"
[[job]]
name = "bad"
legion = "foobar"
schedule = "@every 1s"
command = ["sh", "-c", "exit 3"]
[[job]]
name = "local"
schedule = "@every 1s"
command = "true"
[[job]]
name = "absent"
schedule = "@every 1s"
command = ["/no/such/command"]
`)
	ctx := context.Background()
	lab.Eventually(t, 10*time.Second, "a lord", func() bool {
		l, err := n.Lord(ctx, "foobar")
		return err == nil && l.Here && l.Lord == "one"
	})
	want := map[string]string{"good": "succeeded", "bad": "failed", "local": "succeeded", "absent": "failed"}
	for job, outcome := range want {
		var r control.Run
		lab.Eventually(t, 10*time.Second, "a run of "+job, func() bool {
			runs := n.runs(control.RunsQuery{Job: job, Outcome: outcome})
			if len(runs) > 0 {
				r = runs[0]
			}
			return len(runs) > 0
		})
		if job == "bad" && (r.ExitCode == nil || *r.ExitCode != 3) {
			t.Errorf("bad: exit code %v, want 3", r.ExitCode)
		}
		if job == "absent" && !strings.Contains(r.Reason, "/no/such/command") {
			t.Errorf("absent: reason %q does not name the command", r.Reason)
		}
		if (r.Legion == "") != (r.Term == 0) {
			t.Errorf("%s: legion %q with term %d", job, r.Legion, r.Term)
		}
	}
	if _, err := n.Lord(ctx, "nobody"); err == nil {
		t.Error("lord of an unknown legion: no error")
	}
}

// TestStopWaits: runs end before the agent does, and their outcome is recorded.
func TestStopWaits(t *testing.T) {
	dir := shortDir(t)
	gate := filepath.Join(dir, "gate")
	text := single + fmt.Sprintf(`
[[job]]
name = "long"
legion = "foobar"
schedule = "@every 1s"
command = "until [ -e %s ]; do sleep 0.02; done"
`, gate)
	n := startNode(t, dir, text)
	lab.Eventually(t, 10*time.Second, "a living run", func() bool {
		return len(n.runs(control.RunsQuery{Outcome: "running"})) == 1
	})
	stopped := make(chan struct{})
	go func() {
		n.stop()
		close(stopped)
	}()
	lab.Eventually(t, 10*time.Second, "no lord", func() bool {
		l, err := n.Lord(context.Background(), "foobar")
		return err == nil && !l.Here
	})
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-stopped
	runs := recorded(t, dir, "long")
	succeeded := 0
	for _, r := range runs {
		switch r.State.String() {
		case "succeeded":
			succeeded++
		case "skipped":
		default:
			t.Errorf("after a clean stop: %v", r)
		}
	}
	if succeeded != 1 {
		t.Errorf("%d runs succeeded, want 1: %v", succeeded, runs)
	}
}

// TestReloadWhileStopping: an agent that waits for its last runs does not become
// lord again because its configuration is read: it would begin nothing.
func TestReloadWhileStopping(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	n := startNode(t, dir, single+`
[[job]]
name = "long"
legion = "foobar"
schedule = "@lord"
command = "sleep 600"
`)
	lord := func() string {
		s, err := n.Status(context.Background())
		if err != nil || len(s.Legions) == 0 {
			t.Fatal(s, err)
		}
		return s.Legions[0].Lord
	}
	lab.Eventually(t, 10*time.Second, "the run", func() bool { return len(n.runs(control.RunsQuery{Outcome: "running"})) == 1 })
	d, stopped := n.Daemon, make(chan error, 1)
	n.Daemon = nil
	go func() { stopped <- d.Stop(context.Background()) }()
	lab.Eventually(t, 10*time.Second, "the lordship to be given up", func() bool { return lord() == "" })
	if _, err := n.Client.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for range 25 { // it took no more than one, when it did
		<-look.C
		if by := lord(); by != "" {
			t.Errorf("%s is lord again", by)
			break
		}
	}
	d.Kill()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestKill: a second signal ends runs that do not end.
func TestKill(t *testing.T) {
	n := startNode(t, shortDir(t), single+`
[[job]]
name = "forever"
legion = "foobar"
schedule = "@every 1s"
command = "trap '' TERM; while :; do sleep 1; done"
`)
	lab.Eventually(t, 10*time.Second, "a living run", func() bool {
		return len(n.runs(control.RunsQuery{Outcome: "running"})) == 1
	})
	d := n.Daemon
	stopped := make(chan struct{})
	go func() {
		n.stop()
		close(stopped)
	}()
	d.Kill()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Fatal("Stop does not return after Kill")
	}
}

// TestRestart: marks outlive the agent, so no slot is run twice, and slots that
// fell due while it was down are recorded.
func TestRestart(t *testing.T) {
	dir := shortDir(t)
	text := single + `
[[job]]
name = "tick"
legion = "foobar"
schedule = "@every 1s"
command = "true"
`
	n := startNode(t, dir, text)
	lab.Eventually(t, 10*time.Second, "two runs", func() bool {
		return len(n.runs(control.RunsQuery{Outcome: "succeeded"})) >= 2
	})
	n.stop()
	last := time.Now()
	lab.Eventually(t, 10*time.Second, "time to pass", func() bool { return time.Since(last) > 3*time.Second })
	n = startNode(t, dir, text)
	lab.Eventually(t, 10*time.Second, "a run after the restart", func() bool {
		for _, r := range n.runs(control.RunsQuery{Outcome: "succeeded"}) {
			if r.Scheduled.After(last.Add(3 * time.Second)) {
				return true
			}
		}
		return false
	})
	slots := map[string]int{}
	covered := map[int64]bool{}
	missed := 0
	for _, r := range n.runs(control.RunsQuery{Limit: 1000}) {
		slots[fmt.Sprint(r.Slot, r.Attempt)]++
		covered[r.Scheduled.Unix()] = true
		if r.Outcome == "missed" {
			missed++
			if why, _, _ := strings.Cut(r.Reason, ";"); why != "no lord" && why != "superseded" { // "...; 2 slots in a row"
				t.Errorf("missed for %q, want no lord or superseded", r.Reason)
			}
		}
	}
	for slot, n := range slots {
		if n > 1 {
			t.Errorf("slot %s has %d outcomes", slot, n)
		}
	}
	if missed == 0 {
		t.Error("no slot is recorded as missed although the agent was down for 3 s")
	}
}

// TestReload: new jobs begin, old ones end, and the others are not disturbed.
func TestReload(t *testing.T) {
	dir := shortDir(t)
	job := func(name string) string {
		return fmt.Sprintf("[[job]]\nname = %q\nlegion = \"foobar\"\nschedule = \"@every 1s\"\ncommand = \"true\"\n", name)
	}
	n := startNode(t, dir, single+job("old")+job("stays"))
	count := func(name string) int {
		return len(n.runs(control.RunsQuery{Job: name, Outcome: "succeeded", Limit: 1000}))
	}
	lab.Eventually(t, 10*time.Second, "runs", func() bool { return count("old") > 0 && count("stays") > 0 })
	load(t, dir, single+job("new")+job("stays"))
	r, err := n.Client.Reload(context.Background())
	if err != nil || len(r.Changes) != 2 {
		t.Fatalf("reload: %v, %v; want two changes", r.Changes, err)
	}
	lab.Eventually(t, 10*time.Second, "runs of new", func() bool { return count("new") >= 2 })
	runs := n.runs(control.RunsQuery{Job: "stays", Limit: 1000})
	for i := 1; i < len(runs); i++ {
		if gap := runs[i-1].Scheduled.Sub(runs[i].Scheduled.Time); gap != time.Second {
			t.Errorf("stays: a gap of %v over the reload", gap)
		}
	}
	if err := os.WriteFile(n.path, []byte("nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Client.Reload(context.Background()); err == nil {
		t.Error("reload of a bad file: no error")
	}
	before := count("stays")
	lab.Eventually(t, 10*time.Second, "runs after a refused reload", func() bool { return count("stays") > before })
}

// TestPortZero: three nodes in one process, on ports that the kernel chose.
func TestPortZero(t *testing.T) {
	var nodes []*node
	join := ""
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		n := startNode(t, shortDir(t), strings.Replace(single, `"one"`, fmt.Sprintf("%q", name), 1)+fmt.Sprintf(`
[cluster]
bind = "127.0.0.1:0"
join = [%s]
[[job]]
name = "tick"
legion = "foobar"
schedule = "@every 1s"
overlap = "allow"
command = "true"
`, join))
		if i == 0 {
			join = fmt.Sprintf("%q", n.Addr())
		}
		nodes = append(nodes, n)
	}
	agreed := func(want int) (lord string) {
		lab.Eventually(t, 20*time.Second, "one lord on which all agree", func() bool {
			lord = ""
			seen := 0
			for _, n := range nodes {
				if n.Daemon == nil {
					continue
				}
				s, err := n.Status(context.Background())
				if err != nil || len(s.Legions) != 1 || s.Legions[0].Lord == "" || lord != "" && s.Legions[0].Lord != lord {
					return false
				}
				lord = s.Legions[0].Lord
				seen++
			}
			return seen == want
		})
		return lord
	}
	succeeded := func(n *node, by string) bool {
		for _, r := range n.runs(control.RunsQuery{Outcome: "succeeded"}) {
			if r.Node == by {
				return true
			}
		}
		return false
	}
	first := agreed(3)
	for _, n := range nodes {
		lab.Eventually(t, 10*time.Second, "every voter knows the runs", func() bool { return succeeded(n, first) })
	}
	for _, n := range nodes {
		if s, err := n.Status(context.Background()); err == nil && s.Node == first {
			n.stop()
		}
	}
	second := agreed(2)
	if second == first {
		t.Fatalf("%s is lord although it has stopped", first)
	}
	for _, n := range nodes {
		if n.Daemon != nil {
			lab.Eventually(t, 10*time.Second, "runs of the successor", func() bool { return succeeded(n, second) })
		}
	}
	slots := map[string]bool{}
	for _, n := range nodes {
		if n.Daemon == nil {
			continue
		}
		clear(slots)
		for _, r := range n.runs(control.RunsQuery{Limit: 1000}) {
			if key := fmt.Sprint(r.Slot, r.Attempt); slots[key] {
				t.Errorf("%s has two outcomes", key)
			} else {
				slots[key] = true
			}
		}
	}
}

// TestLetGo: a run that must end with the lordship is dead before the node
// lets the lordship go.
func TestLetGo(t *testing.T) {
	dir := shortDir(t)
	n := startNode(t, dir, single+`
[[job]]
name = "bound"
legion = "foobar"
schedule = "@every 1s"
on_unlord = "kill"
command = "sleep 600"
`)
	lab.Eventually(t, 10*time.Second, "a living run", func() bool {
		return len(n.runs(control.RunsQuery{Outcome: "running"})) == 1
	})
	n.stop()
	runs := recorded(t, dir, "bound")
	killed := 0
	for _, r := range runs {
		if r.State == jobs.Killed && r.Reason != "" {
			killed++
		} else if r.State != jobs.Skipped {
			t.Errorf("after the lordship was let go: %v", r)
		}
	}
	if killed != 1 {
		t.Errorf("%d runs were killed, want 1: %v", killed, runs)
	}
}

// TestStopTimeoutZero: a stop that need not wait stops runs at once.
func TestStopTimeoutZero(t *testing.T) {
	n := startNode(t, shortDir(t), strings.Replace(single, "[control]", "stop_timeout = \"0s\"\n[control]", 1)+`
[[job]]
name = "forever"
legion = "foobar"
schedule = "@every 1s"
command = "exec sleep 1000"
`)
	lab.Eventually(t, 10*time.Second, "a living run", func() bool {
		return len(n.runs(control.RunsQuery{Outcome: "running"})) == 1
	})
	d := n.Daemon
	n.Daemon = nil
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(context.Background()) }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		d.Kill()
		t.Fatal("Stop with stop_timeout = 0 waits for a run")
	}
}

// TestOccasions: @lord and @start jobs run once at each occasion.
func TestOccasions(t *testing.T) {
	dir := shortDir(t)
	text := single + `
[[job]]
name = "crowned"
legion = "foobar"
schedule = "@lord"
command = "true"
[[job]]
name = "hello"
schedule = "@start"
command = "true"
[[job]]
name = "first"
legion = "foobar"
schedule = "@start"
command = "true"
`
	for life := 1; life <= 2; life++ {
		n := startNode(t, dir, text)
		for _, job := range []string{"crowned", "hello", "first"} {
			lab.Eventually(t, 10*time.Second, "a run of "+job, func() bool {
				return len(n.runs(control.RunsQuery{Job: job, Outcome: "succeeded"})) >= life
			})
		}
		if _, err := n.Client.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		n.stop()
	}
	n := startNode(t, dir, single)
	for _, job := range []string{"crowned", "hello", "first"} {
		if runs := n.runs(control.RunsQuery{Job: job}); len(runs) != 2 {
			t.Errorf("%s ran %d times in two lives: %v", job, len(runs), runs)
		}
	}
}

// TestOrphansOfALegionThatIsGone: what an earlier agent left has an end, whether
// or not its legion is still configured.
func TestOrphansOfALegionThatIsGone(t *testing.T) {
	dir := shortDir(t)
	s, err := ledger.Open(ledger.Config{Dir: filepath.Join(dir, "state")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	left := jobs.Record{
		Slot: jobs.Slot{Legion: "gone", Job: "j", At: at}, Attempt: 1, Run: "r", State: jobs.Running, Term: 7,
		Node: "one", Incarnation: "before", Scheduled: at, Started: at,
	}
	if err := errors.Join(s.Write(ledger.Writes{Records: []jobs.Record{left}}), s.Close()); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, dir, single)
	if rs := n.runs(control.RunsQuery{}); len(rs) != 1 || rs[0].Outcome != "lost" {
		t.Errorf("recorded %+v", rs)
	}
}

// TestDamageFoundByReading: a node whose ledger contradicts itself stops, also
// if nothing is written when that is found.
func TestDamageFoundByReading(t *testing.T) {
	dir := shortDir(t)
	n := startNode(t, dir, single+"[[job]]\nname = \"j\"\nlegion = \"foobar\"\nschedule = \"@start\"\ncommand = \"true\"\n")
	lab.Eventually(t, 20*time.Second, "a run", func() bool { return len(n.runs(control.RunsQuery{Outcome: "succeeded"})) == 1 })
	db, err := sql.Open("sqlite", filepath.Join(dir, "state", "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("UPDATE runs SET state = 'resting'"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Runs(context.Background(), control.RunsQuery{Limit: 10}); err == nil {
		t.Error("it tells of runs")
	}
	select {
	case <-n.Left():
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	if !errors.Is(n.LeftBy(), ledger.ErrDamaged) {
		t.Errorf("left by %v", n.LeftBy())
	}
}

// TestOrphansOfALostDisk: of a claim by an agent whose disk is not this one, nobody
// can say that it was never started.
func TestOrphansOfALostDisk(t *testing.T) {
	dir := shortDir(t)
	s, err := ledger.Open(ledger.Config{Dir: filepath.Join(dir, "state")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	claim := func(job, incarnation string) jobs.Record {
		return jobs.Record{
			Slot: jobs.Slot{Legion: "gone", Job: job, At: at}, Attempt: 1, Run: job, State: jobs.Claimed, Term: 7,
			Node: "one", Incarnation: incarnation, Scheduled: at,
		}
	}
	err = errors.Join(s.Write(ledger.Writes{
		Values:  map[string][]byte{"incarnations": []byte("before")},
		Records: []jobs.Record{claim("here", "before"), claim("elsewhere", "another")},
	}), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, dir, single)
	for _, r := range n.runs(control.RunsQuery{}) {
		if want := map[string]string{"here": "never started", "elsewhere": "lost"}[r.Job]; r.Outcome != want {
			t.Errorf("%s: %s, want %s", r.Job, r.Outcome, want)
		}
	}
}
