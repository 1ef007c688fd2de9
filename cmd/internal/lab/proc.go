package lab

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	maxLine  = 1 << 20 // bytes of one line of output
	maxLines = 200_000 // kept; later ones are dropped
	tailSize = 60      // lines shown of a process when its test fails
)

// Command prepares a command that will run on the host. Its process is the
// command itself, not a wrapper, and may not set the clock.
func (h *Host) Command(argv ...string) *exec.Cmd {
	args := []string{"netns", "exec", h.namespace}
	if _, err := exec.LookPath("setpriv"); err == nil {
		args = append(args, "setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time", "--")
	}
	return exec.Command("ip", append(args, argv...)...)
}

// Proc is a process on a host, and all it has written to stdout and stderr.
type Proc struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd

	exited chan struct{} // closed when it has been waited for

	mu      sync.Mutex
	lines   []string
	next    int           // the first line that WaitLine has not passed
	changed chan struct{} // closed and replaced at each line
	drained bool          // no more output will come
}

// Start runs argv on the host, with env ("KEY=value") added to the test's own
// environment. What still runs of it at the end of the test is killed.
func (h *Host) Start(t testing.TB, argv []string, env ...string) *Proc {
	t.Helper()
	cmd := h.Command(argv...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("start %s: %v", argv[0], err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		t.Fatalf("start %s: %v", argv[0], err)
	}
	p := &Proc{
		t: t, cmd: cmd, name: h.namespace + " " + strings.Join(argv, " "),
		exited: make(chan struct{}), changed: make(chan struct{}),
	}
	read := make(chan struct{})
	go func() { defer close(read); p.read(r) }()
	go func() { defer close(p.exited); _ = cmd.Wait() }()
	t.Cleanup(func() {
		// The group first; children in groups of their own go with the host.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-p.exited
		r.Close() // even if a grandchild holds the other end
		<-read
		if t.Failed() {
			t.Logf("last output of %s:\n%s", p.name, p.tail())
		}
	})
	return p
}

func (p *Proc) read(r io.Reader) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		p.mu.Lock()
		if len(p.lines) < maxLines {
			p.lines = append(p.lines, in.Text())
		}
		p.wake()
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.drained = true
	p.wake()
	p.mu.Unlock()
}

func (p *Proc) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// WaitLine waits for the next line of output that matches, and returns it with
// its submatches. Lines passed on the way are not looked at again. The test
// fails if none comes in time, or none can come any more.
func (p *Proc) WaitLine(pattern string, timeout time.Duration) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		match, changed, drained := p.advance(re)
		if match != nil {
			return match
		}
		if drained {
			p.t.Fatalf("%s ended without a line matching %q", p.name, pattern)
		}
		select {
		case <-changed:
		case <-deadline.C:
			p.t.Fatalf("%s: no line matching %q within %v", p.name, pattern, timeout)
		}
	}
}

func (p *Proc) advance(re *regexp.Regexp) (match []string, changed <-chan struct{}, drained bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.next < len(p.lines) {
		line := p.lines[p.next]
		p.next++
		if match := re.FindStringSubmatch(line); match != nil {
			return match, nil, false
		}
	}
	return nil, p.changed, p.drained
}

// Lines is all the output so far.
func (p *Proc) Lines() []string { return p.LinesFrom(0) }

// LinesFrom is the output so far without its first lines.
func (p *Proc) LinesFrom(first int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines[min(first, len(p.lines)):]...)
}

func (p *Proc) tail() string {
	lines := p.Lines()
	return strings.Join(lines[max(0, len(lines)-tailSize):], "\n")
}

// PID is the process's id.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Kill sends a signal to the process alone. One that has ended is no failure.
func (p *Proc) Kill(sig syscall.Signal) {
	select {
	case <-p.exited: // its number may be another's by now
	default:
		_ = p.cmd.Process.Signal(sig)
	}
}

// Stop freezes the process (SIGSTOP) and returns when it stands still.
func (p *Proc) Stop() {
	p.t.Helper()
	p.Kill(syscall.SIGSTOP)
	Eventually(p.t, 5*time.Second, p.name+" stands still", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/stat")
		if err != nil {
			return false
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(after, "T")
	})
}

// Cont lets a frozen process go on (SIGCONT).
func (p *Proc) Cont() { p.Kill(syscall.SIGCONT) }

// Exited says whether the process has ended.
func (p *Proc) Exited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// Wait waits for the end of the process, and fails the test if it does not come
// in time.
func (p *Proc) Wait(timeout time.Duration) *os.ProcessState {
	p.t.Helper()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.exited:
		return p.cmd.ProcessState
	case <-timer.C:
		p.t.Fatalf("%s did not end within %v", p.name, timeout)
		return nil
	}
}
