package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

const patience = 20 * time.Second

// A stage is a herald with real commands in a made-up node, and what came of it.
type stage struct {
	*Herald
	t    *testing.T
	dir  string
	logs *observer.ObservedLogs

	mu   sync.Mutex
	lord map[string]uint64 // the term in which this node is trusted, by legion
	told []string          // to the warden, and of ends
}

func newStage(t *testing.T) *stage {
	host, err := runner.New(runner.Config{Incarnation: uuid.NewString()})
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	s := &stage{t: t, dir: t.TempDir(), logs: logs, lord: map[string]uint64{}}
	s.Herald = &Herald{
		Caller: &Caller{Host: host, Log: zap.New(core)}, Node: "n1", Warden: s,
		Known:  func(string) (string, uint64, string) { return "n2", 41, "of n2" },
		Scroll: func(string) string { return "of n1" },
		Trusted: func(legion string, term uint64) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.lord[legion] == term
		},
		Guard: func(legion, run string) func() {
			if !strings.HasPrefix(run, runPrefix) {
				t.Errorf("run %q", run)
			}
			return func() {}
		},
	}
	t.Cleanup(s.Close)
	return s
}

func (s *stage) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

func (s *stage) Reign(w Will)                   { s.tell("reign %d", w.Call.Term) }
func (s *stage) Leave(legion string, lost bool) { s.tell("leave lost=%v", lost) }
func (s *stage) Left(legion string)             { s.tell("left") }
func (s *stage) Mourn(w Will)                   { s.tell("mourn %d", len(w.Hooks)) }

// crown makes this node lord and calls the hooks.
func (s *stage) crown(term uint64) {
	s.mu.Lock()
	s.lord["l"] = term
	s.mu.Unlock()
	s.Herald.Reign("l", term, func(err error) { s.tell("may go: %v", err) })
}

func (s *stage) depose(term uint64, lost bool) {
	s.mu.Lock()
	delete(s.lord, "l")
	s.mu.Unlock()
	s.Unreign("l", term, lost, func() { s.tell("let go %d", term) })
}

func (s *stage) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

func (s *stage) wait(what string) {
	s.t.Helper()
	lab.Eventually(s.t, patience, what, func() bool { return slices.Contains(s.list(), what) })
}

// cmds are commands in the stage's directory.
func (s *stage) cmds(texts ...string) []Hook {
	var all []Hook
	for _, text := range texts {
		all = append(all, Hook{"cmd", "cd " + s.dir + "; " + text})
	}
	return all
}

// wrote is what the commands have written to the file out.
func (s *stage) wrote() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "out"))
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\n", " "))
}

// logged returns the lines of the log that hold text.
func (s *stage) logged(text string) []observer.LoggedEntry {
	return s.logs.Filter(func(e observer.LoggedEntry) bool {
		return strings.Contains(e.Message+" "+fmt.Sprint(e.ContextMap()), text)
	}).All()
}

func on(list map[string][]Hook) map[string]map[string][]Hook {
	return map[string]map[string][]Hook{"l": list}
}

// say is a command that writes a line; the event's variables as well.
const say = `echo $LEGION:$LEGION_EVENT:$LEGION_TERM:$LEGION_NODE:$LEGION_LORD:$LEGION_SCROLL:$LEGION_MEMBER >> out`

func TestLife(t *testing.T) {
	s := newStage(t)
	all := map[string][]Hook{}
	for _, e := range []string{Setup, Join, Lord, Unlord, Death, NodeJoined, NodeLeft} {
		all[e] = append(s.cmds(say), Hook{"log", "now " + e})
	}
	s.Configure(on(all))
	s.Tell(Join, "l", "")
	s.Tell(NodeJoined, "l", "n3")
	s.Tell(NodeLeft, "l", "n3")
	s.Tell(NodeLeft, "another", "n3")
	lab.Eventually(t, patience, "news", func() bool { return strings.Count(s.wrote(), "l:") == 4 })
	s.crown(7)
	s.wait("may go: <nil>")
	s.depose(7, false)
	s.wait("let go 7")
	s.Close()
	s.Tell(Join, "l", "") // too late
	s.crown(8)            // likewise
	got := strings.Fields(strings.ReplaceAll(s.wrote(), "of n", "of-n"))
	slices.Sort(got[:4]) // two lanes
	want := []string{
		"l:join:41:n1:n2:of-n2:", "l:node-joined:41:n1:n2:of-n2:n3", "l:node-left:41:n1:n2:of-n2:n3", "l:setup:41:n1:n2:of-n2:",
		"l:lord:7:n1:n1:of-n1:", "l:unlord:7:n1:n1:of-n1:", "l:death:41:n1:n2:of-n2:",
	}
	if !slices.Equal(got, want) {
		t.Errorf("wrote\n%q, want\n%q", got, want)
	}
	for e := range all {
		if lines := s.logged("now " + e); len(lines) != 1 || lines[0].ContextMap()["event"] != e || lines[0].ContextMap()["legion"] != "l" {
			t.Errorf("%s: logged %v", e, lines)
		}
	}
	if want := []string{"mourn 2", "reign 7", "may go: <nil>", "leave lost=false", "left", "let go 7", "may go: <nil>"}; !slices.Equal(s.list(), want) {
		t.Errorf("told %q, want %q", s.list(), want)
	}
}

// TestNoHooks: who has none waits for nothing.
func TestNoHooks(t *testing.T) {
	s := newStage(t)
	s.Configure(on(nil))
	s.crown(1)
	s.depose(1, false)
	if want := []string{"may go: <nil>", "let go 1"}; !slices.Equal(s.list(), want) {
		t.Errorf("told %q, want %q at once", s.list(), want)
	}
}

// TestDeposedInTheMiddle: the lord hook that runs is stopped, the next does not
// begin, and the unlord hooks come after it.
func TestDeposedInTheMiddle(t *testing.T) {
	for _, lost := range []bool{false, true} {
		s := newStage(t)
		s.Configure(on(map[string][]Hook{
			Lord:   s.cmds(`trap "echo told >> out; exit 3" TERM; echo began >> out; while :; do sleep 0.01; done`, "echo second >> out"),
			Unlord: s.cmds("echo undone >> out"),
		}))
		s.crown(1)
		lab.Eventually(t, patience, "the lord hook", func() bool { return s.wrote() == "began" })
		s.depose(1, lost)
		s.wait("let go 1")
		want := "began told undone"
		if lost {
			want = "began undone" // it was killed, there is no time
		}
		if got := s.wrote(); got != want {
			t.Errorf("lost=%v: wrote %q, want %q", lost, got, want)
		}
		if slices.ContainsFunc(s.list(), func(l string) bool { return strings.HasPrefix(l, "may go") }) {
			t.Errorf("lost=%v: slots may go: %q", lost, s.list())
		}
	}
}

// TestDeposedBefore: a reign whose lord hooks never began is not undone.
func TestDeposedBefore(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{
		Setup:  s.cmds("echo setup >> out; until [ -e go ]; do sleep 0.01; done"),
		Lord:   s.cmds("echo lord >> out"),
		Unlord: s.cmds("echo unlord >> out"),
	}))
	s.crown(1)
	s.depose(1, true)
	s.wait("let go 1")
	s.crown(2) // and one that is over before its turn comes, unheard
	s.mu.Lock()
	s.lord["l"] = 0
	s.mu.Unlock()
	if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "the end of the setup hook", func() bool { return !s.Busy() })
	s.depose(2, true)
	s.crown(3)
	s.wait("may go: <nil>")
	s.depose(3, false)
	s.wait("let go 3")
	if got, want := s.wrote(), "setup lord unlord"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
	if want := []string{"let go 1", "let go 2", "reign 3", "may go: <nil>", "leave lost=false", "left", "let go 3"}; !slices.Equal(s.list(), want) {
		t.Errorf("told %q, want %q", s.list(), want)
	}
}

// TestFailing: the first lord hook that fails is the last; after others the next one runs.
func TestFailing(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{
		Lord:   s.cmds("exit 3", "echo not >> out"),
		Unlord: append(s.cmds("kill -9 $$", "/no/such/command"), s.cmds("echo undone >> out")...),
	}))
	s.crown(1)
	s.wait("may go: exit status 3")
	s.depose(1, false)
	s.wait("let go 1")
	if got := s.wrote(); got != "undone" {
		t.Errorf("wrote %q", got)
	}
	for text, n := range map[string]int{"lord hook failed": 3, "exit status 127": 1, "signal KILL": 1} {
		if got := s.logged(text); len(got) != n {
			t.Errorf("%q is logged %d times, want %d", text, len(got), n)
		}
	}
}

// TestReload: a reign ends with the hooks it began with, and hooks that a
// reload brings are for the next one.
func TestReload(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{Lord: s.cmds("echo lord1 >> out"), Unlord: s.cmds("echo unlord1 >> out"), Death: s.cmds("echo death1 >> out")}))
	s.crown(1)
	s.wait("may go: <nil>")
	s.Configure(on(map[string][]Hook{
		Setup: s.cmds("echo setup >> out"), // the legion is not new
		Lord:  s.cmds("echo lord2 >> out"), Unlord: s.cmds("echo unlord2 >> out"),
	}))
	s.depose(1, false)
	s.wait("let go 1")
	s.crown(2)
	lab.Eventually(t, patience, "the next lord hook", func() bool { return strings.Contains(s.wrote(), "lord2") })
	s.Configure(nil) // the legion is gone
	s.depose(2, false)
	s.wait("let go 2")
	s.Close()
	if got, want := s.wrote(), "lord1 unlord1 lord2 unlord2"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

// TestReloadAgain: a legion that comes back is set up again, even if it was gone
// for one reload only.
func TestReloadAgain(t *testing.T) {
	s := newStage(t)
	list := on(map[string][]Hook{Setup: s.cmds("echo setup >> out")})
	for range 2 {
		s.Configure(list)
		s.Configure(list) // it is there already
		s.Configure(nil)
	}
	s.Close()
	if got, want := s.wrote(), "setup setup"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

// TestReloadBefore: a reign that waits for its turn begins with the hooks of that
// moment, and what it does by them is undone by theirs.
func TestReloadBefore(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{
		Setup: s.cmds("until [ -e go ]; do sleep 0.01; done"),
		Lord:  s.cmds("echo lord1 >> out"), Unlord: s.cmds("echo unlord1 >> out"),
	}))
	s.crown(1)
	s.Configure(on(map[string][]Hook{Lord: s.cmds("echo lord2 >> out"), Unlord: s.cmds("echo unlord2 >> out")}))
	if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.wait("may go: <nil>")
	s.depose(1, false)
	s.wait("let go 1")
	if got, want := s.wrote(), "lord2 unlord2"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

// TestFlood: of 50 MB that a hook writes a little comes to the log.
func TestFlood(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{Lord: s.cmds("yes 0123456789012345678901234567890123456789 | head -c 50000000; head -c 1000000 /dev/zero >&2")}))
	s.crown(1)
	s.wait("may go: <nil>")
	kept := 0
	for _, e := range s.logged("01234567") {
		kept += len(e.Message)
	}
	if kept < MaxOutput/2 || kept > MaxOutput || len(s.logged("more than is kept")) != 1 {
		t.Errorf("%d bytes are logged, and %d times that there were more", kept, len(s.logged("more than is kept")))
	}
}

// TestFork: what a hook leaves in the background does not hold up the next one.
func TestFork(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{Lord: s.cmds("sleep 600 & echo $! > pid", "echo second >> out")}))
	s.crown(1)
	s.wait("may go: <nil>")
	if s.wrote() != "second" {
		t.Error("the second hook did not run")
	}
	pid, err := os.ReadFile(filepath.Join(s.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(string(pid), &n); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(n)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Kill()
}

// TestSlowNews: events that would pile up are left out, and that is said once.
func TestSlowNews(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{NodeJoined: s.cmds("echo x >> out; until [ -e go ]; do sleep 0.01; done")}))
	s.Tell(NodeJoined, "l", "n2")
	lab.Eventually(t, patience, "the first hook", func() bool { return s.wrote() == "x" })
	for range 2 * maxNews {
		s.Tell(NodeJoined, "l", "n2")
	}
	if n := len(s.logged("too slow")); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "all news", func() bool { return len(strings.Fields(s.wrote())) == 1+maxNews })
	s.Close()
	if n := len(strings.Fields(s.wrote())); n != 1+maxNews {
		t.Errorf("%d were called, want %d", n, 1+maxNews)
	}
}

// TestCloseWithNews: who stops does not wait for news that hang, but does for
// what is to be undone.
func TestCloseWithNews(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{
		NodeJoined: s.cmds("echo x >> out; sleep 600"),
		Lord:       s.cmds("true"),
		Unlord:     s.cmds("sleep 0.2; echo undone >> out"),
		Death:      s.cmds("echo dead >> out"),
	}))
	s.Tell(NodeJoined, "l", "n2")
	s.Tell(NodeJoined, "l", "n3")
	lab.Eventually(t, patience, "the first hook", func() bool { return s.wrote() == "x" })
	s.crown(1)
	s.wait("may go: <nil>")
	s.depose(1, false)
	if !s.Busy() {
		t.Error("not busy with an unlord hook")
	}
	s.Close()
	if s.wrote() != "x undone dead" {
		t.Errorf("wrote %q", s.wrote())
	}
}

// TestEnvironment: a scroll is data of another node, whatever it holds.
func TestEnvironment(t *testing.T) {
	env := Call{Event: Lord, Legion: "l", Node: "n1", Scroll: "a\x00b" + strings.Repeat("x", 2*maxScroll)}.environment()
	for _, kv := range env {
		if strings.Contains(kv, "\x00") || len(kv) > maxScroll+20 {
			t.Errorf("%d bytes: %.40q", len(kv), kv)
		}
	}
	if !slices.Contains(env, "LEGION_TERM=") {
		t.Error("no term is not empty")
	}
}

// TestLookingDoesNotOccupy: who looks whether a guardian is there keeps none away.
func TestLookingDoesNotOccupy(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "lock")
	var looking sync.WaitGroup
	defer looking.Wait()
	done := make(chan struct{})
	defer close(done)
	looking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				Occupied(lock)
			}
		}
	})
	for range 2000 {
		release, err := Occupy(lock)
		if err != nil {
			t.Fatal(err)
		}
		if !Occupied(lock) {
			t.Fatal("not occupied")
		}
		release()
	}
}

// TestOccupied: a lord hook waits for the hooks of a guardian, of which there
// may be several.
func TestOccupied(t *testing.T) {
	s := newStage(t)
	s.Lock = filepath.Join(s.dir, "lock")
	if Occupied(s.Lock) {
		t.Error("occupied before there was a guardian")
	}
	first, err := Occupy(s.Lock)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Occupy(s.Lock)
	if err != nil {
		t.Fatal(err)
	}
	s.Configure(on(map[string][]Hook{Lord: s.cmds("echo lord >> out")}))
	s.crown(1)
	first()
	if !Occupied(s.Lock) || !s.Busy() || s.wrote() != "" {
		t.Errorf("free with one guardian left; wrote %q", s.wrote())
	}
	s.depose(1, true) // it need not wait for a call that is over
	s.wait("let go 1")
	s.crown(2)
	second()
	s.wait("may go: <nil>")
	if s.wrote() != "lord" || Occupied(s.Lock) {
		t.Errorf("wrote %q, occupied %v", s.wrote(), Occupied(s.Lock))
	}
}

// TestHanging: a hook that takes too long is stopped with all that it started,
// politely and then not.
func TestHanging(t *testing.T) {
	s := newStage(t)
	s.Caller.Timeout, s.Caller.Grace = 200*time.Millisecond, 200*time.Millisecond
	s.Configure(on(map[string][]Hook{
		Lord:   s.cmds("trap '' TERM; (trap '' TERM; while :; do sleep 0.05; echo x >> alive; done) & wait; while :; do sleep 1; done"),
		Unlord: s.cmds("sleep 600", "echo undone >> out"),
	}))
	s.crown(1)
	s.wait("may go: timed out after 200ms")
	s.depose(1, false)
	s.wait("let go 1")
	if s.wrote() != "undone" {
		t.Errorf("wrote %q", s.wrote())
	}
	size := func() int { b, _ := os.ReadFile(filepath.Join(s.dir, "alive")); return len(b) }
	before, began := size(), time.Now()
	lab.Eventually(t, patience, "some time", func() bool { return time.Since(began) > 200*time.Millisecond })
	if size() != before {
		t.Error("the hook's child lives on")
	}
}

// TestKilledByGuardian: a lord hook that was killed as the trust had run out
// has not failed, though nobody has said yet that the reign is over.
func TestKilledByGuardian(t *testing.T) {
	s := newStage(t)
	s.Configure(on(map[string][]Hook{Lord: s.cmds("until [ -e go ]; do sleep 0.01; done; kill -9 $$"), Unlord: s.cmds("echo undone >> out")}))
	s.crown(1)
	lab.Eventually(t, patience, "the reign", func() bool { return slices.Contains(s.list(), "reign 1") })
	s.mu.Lock()
	delete(s.lord, "l")
	s.mu.Unlock()
	if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "its end", func() bool { return !s.Busy() })
	s.depose(1, true)
	s.wait("let go 1")
	if want := []string{"reign 1", "leave lost=true", "left", "let go 1"}; !slices.Equal(s.list(), want) || s.wrote() != "undone" {
		t.Errorf("told %q, want %q; wrote %q", s.list(), want, s.wrote())
	}
}
