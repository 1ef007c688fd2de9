package runner

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childVar says which part this binary plays when it is a child of the tests.
const childVar = "LEGION_CRON_TEST_PART"

func TestMain(m *testing.M) {
	Trampoline()
	if part := os.Getenv(childVar); part != "" {
		name, arg, _ := strings.Cut(part, " ")
		os.Exit(parts[name](arg))
	}
	// As the agent does: what it ignores, because nohup started it, its runs would too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	goleak.VerifyTestMain(m)
}

// wait is how long a test waits for what must happen.
const wait = 30 * time.Second

// forever is how long children live that must be killed.
const forever = time.Hour

// parts are what the children do. "ready PID" on standard output says that a
// child has come to where the test wants it.
var parts map[string]func(arg string) int

func init() { // not in the declaration: the parts start each other
	parts = map[string]func(string) int{
		"sleep": func(string) int { return ready() },
		"exit":  func(arg string) int { n, _ := strconv.Atoi(arg); return n },
		"suicide": func(arg string) int {
			sig, _ := ParseSignal(arg)
			_ = unix.Kill(os.Getpid(), sig)
			time.Sleep(forever)
			return 0
		},
		"deaf": func(string) int {
			signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
			return ready()
		},
		// a child in a session of its own, whose parent is gone
		"escape": func(string) int { return parent(true, "orphan sleep") },
		"orphan": func(arg string) int { spawn(true, arg); return 0 },
		"deafs":  func(string) int { signal.Ignore(unix.SIGTERM); return parent(true, "deaf") },
		// the top is gone at once, and the child needs its time
		"hasty": func(string) int {
			c := spawn(false, "tidy")
			stopped := make(chan os.Signal, 1)
			signal.Notify(stopped, unix.SIGTERM)
			<-stopped
			_ = c
			return 1
		},
		"tidy": func(string) int {
			stopped := make(chan os.Signal, 1)
			signal.Notify(stopped, unix.SIGTERM)
			fmt.Println("ready", os.Getpid())
			<-stopped
			for os.Getppid() != 1 && parentIs("hasty") { // until the top is really gone
				runtime.Gosched()
			}
			fmt.Println("tidied up")
			return 0
		},
		"storm": func(arg string) int {
			n, _ := strconv.Atoi(arg)
			for range n {
				if err := exec.Command("/bin/sleep", "3600").Start(); err != nil {
					fmt.Println("storm:", err)
				}
			}
			return ready()
		},
		"flood": func(arg string) int { // bytes, with newlines
			n, _ := strconv.Atoi(arg)
			w := bufio.NewWriterSize(os.Stdout, 64<<10)
			line := strings.Repeat("all work and no play ", 4) + "\n"
			for ; n > 0; n -= len(line) {
				_, _ = w.WriteString(line[:min(n, len(line))])
			}
			_ = w.Flush()
			return 0
		},
		"endless": func(arg string) int { // bytes, without any
			n, _ := strconv.Atoi(arg)
			chunk := []byte(strings.Repeat("x", 100_000))
			for ; n > 0; n -= len(chunk) {
				_, _ = os.Stdout.Write(chunk[:min(n, len(chunk))])
			}
			return 0
		},
		"cat": func(string) int { _, _ = io.Copy(os.Stdout, os.Stdin); return 0 },
		"env": func(string) int {
			for _, kv := range os.Environ() {
				if !strings.HasPrefix(kv, childVar+"=") && !strings.HasPrefix(kv, "GORACE=") {
					fmt.Println(kv)
				}
			}
			return 0
		},
		"usr1": func(string) int {
			c := make(chan os.Signal, 1)
			signal.Notify(c, unix.SIGUSR1)
			fmt.Println("ready", os.Getpid())
			<-c
			fmt.Println("got it")
			return ready()
		},
		"settings": settingsPart,
		"agent":    agentPart,
		"init":     initPart,
		// an orphan, which dies after its parent
		"widow": func(string) int {
			spawn(false, "late "+strconv.Itoa(os.Getpid()))
			fmt.Println()
			return 3
		},
		"late": func(arg string) int {
			for strconv.Itoa(os.Getppid()) == arg {
				runtime.Gosched()
			}
			return 0
		},
	}
}

// ready says so, and then does nothing for ever.
func ready() int {
	fmt.Println("ready", os.Getpid())
	time.Sleep(forever)
	return 0
}

func parentIs(part string) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid()))
	return strings.Contains(string(b), childVar+"="+part)
}

// spawn starts this binary in another part, on the same output.
func spawn(session bool, part string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVar+"="+part)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	if err := c.Start(); err != nil {
		fmt.Println("spawn:", err)
	}
	return c
}

func parent(session bool, part string) int {
	spawn(session, part)
	return ready()
}

// maxRecorded is what a recorder remembers, in bytes, more or less.
const maxRecorded = 8 << 20

// A recorder is a Sink that remembers.
type recorder struct {
	mu    sync.Mutex
	lines []string
	bytes int
	news  chan struct{} // cap 1
}

func newRecorder() *recorder { return &recorder{news: make(chan struct{}, 1)} }

func (r *recorder) Line(stream string, line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes += len(line); r.bytes > maxRecorded {
		return
	}
	r.lines = append(r.lines, stream+": "+string(line))
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// await waits until n lines contain what, and returns them.
func (r *recorder) await(t *testing.T, n int, what string) []string {
	t.Helper()
	over := time.After(wait)
	for {
		r.mu.Lock()
		with := slices.DeleteFunc(slices.Clone(r.lines), func(l string) bool { return !strings.Contains(l, what) })
		r.mu.Unlock()
		if len(with) >= n {
			return with
		}
		select {
		case <-r.news:
		case <-over:
			t.Fatalf("%d of %d lines with %q:\n%s", len(with), n, what, r.text())
		}
	}
}

// awaitReady waits until n children are where they should be; their pids.
func (r *recorder) awaitReady(t *testing.T, n int) []int {
	t.Helper()
	var pids []int
	for _, l := range r.await(t, n, "ready ") {
		_, number, _ := strings.Cut(l, "ready ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// eachHost runs a test on a host with cgroups and on one without.
func eachHost(t *testing.T, test func(t *testing.T, h *Host)) {
	for _, mode := range []string{"cgroup", "session"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			test(t, newHost(t, mode == "session"))
		})
	}
}

func newHost(t *testing.T, noCgroups bool) *Host {
	t.Helper()
	h, err := New(Config{Incarnation: uuid.NewString(), NoCgroups: noCgroups})
	if err != nil {
		t.Fatal(err)
	}
	if !noCgroups && h.Cgroups() == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no cgroup can be made here")
		}
		t.Skip("no cgroup can be made here")
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
		if h.Cgroups() != "" {
			for _, tag := range h.cgroups.Load().tags() {
				if tag.Incarnation == h.incarnation {
					t.Errorf("the cgroup of run %s is still there", tag.Run)
				}
			}
		}
	})
	return h
}

var runs atomic.Int64

// play is the Spec of a run in which this binary plays a part.
func play(part string) Spec {
	return Spec{
		Run: fmt.Sprintf("%s-%d", uuid.NewString(), runs.Add(1)), Job: "job",
		Argv: []string{os.Args[0]}, Env: map[string]string{childVar: part}, Umask: -1, Grace: wait,
		Set: []string{"GORACE=atexit_sleep_ms=0"}, // the race detector's children would take a second to exit
	}
}

// shell is the Spec of a command for /bin/sh.
func shell(command string) Spec {
	s := play("")
	s.Argv, s.Command, s.Env = nil, command, nil
	return s
}

func start(t *testing.T, h *Host, s Spec) (*Process, *recorder) {
	t.Helper()
	r := newRecorder()
	p, err := h.Start(s, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill("the test is over"); p.Wait() })
	return p, r
}

// end waits for the result, for as long as tests wait.
func end(t *testing.T, p *Process) Result {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(wait):
		t.Fatal("the run does not end")
	}
	return p.Wait()
}

// stop asks a run to end, and waits for that: whatever its processes do, it
// takes no longer than the grace and a second.
func stop(t *testing.T, p *Process, why string) Result {
	t.Helper()
	asked := time.Now()
	p.Stop(why)
	return endBy(t, p, asked.Add(p.spec.Grace+time.Second))
}

// endBy waits for the result, which must be there at a time.
func endBy(t *testing.T, p *Process, when time.Time) Result {
	t.Helper()
	r := end(t, p)
	if late := time.Since(when); late > 0 {
		t.Errorf("the run has ended %v too late", late)
	}
	return r
}

// noneLeft fails the test if a process of the run lives, wherever it hides.
func noneLeft(t *testing.T, h *Host, s Spec) {
	t.Helper()
	if left := newSession(0, tag(&s, h.incarnation)).members(); len(left) > 0 {
		t.Errorf("%d processes are left: %+v", len(left), left)
	}
}

func alive(pid int) bool {
	p, ok := readProc(pid)
	return ok && !p.dead
}
