package guardian

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/runner"
	"github.com/legion-cron/legion-cron/legion"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	runner.Trampoline()
	Main()
	if os.Getenv("GUARDIAN_AGENT") != "" {
		playAgent()
	}
	os.Exit(m.Run())
}

func at(d time.Duration) legion.Stamp { return legion.Stamp{Boot: d, Raw: d} }

func now(d time.Duration) legion.Now { return legion.Now{Boot: d, Raw: d} }

func TestWatch(t *testing.T) {
	w := newWatch()
	expect := func(when time.Duration, want ...string) {
		t.Helper()
		var got []string
		for id := range w.overdue(now(when)) {
			got = append(got, id)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("at %v overdue %v, want %v", when, got, want)
		}
	}
	wake := func(when, want time.Duration) {
		t.Helper()
		if got, ok := w.wake(now(when)); !ok || got != want {
			t.Errorf("at %v it sleeps %v %v, want %v", when, got, ok, want)
		}
	}
	if _, ok := w.wake(now(0)); ok {
		t.Error("it wakes up though there is nothing to watch")
	}
	w.take(frame{Held: []holding{{"a", at(10 * time.Second)}, {"b", at(20 * time.Second)}}})
	if _, ok := w.wake(now(0)); ok {
		t.Error("it wakes up for a lordship without runs")
	}
	w.take(frame{Began: &run{"a1", "a"}})
	w.take(frame{Began: &run{"a2", "a"}})
	w.take(frame{Began: &run{"b1", "b"}})
	wake(time.Second, 9*time.Second)
	expect(9 * time.Second)
	w.take(frame{Ended: "a2"})
	expect(10*time.Second, "a1")
	wake(10*time.Second, lookAgain)
	expect(10*time.Second + lookAgain/2) // looked for just now
	expect(10*time.Second+lookAgain, "a1")
	w.take(frame{Held: []holding{{"a", at(15 * time.Second)}}}) // the agent has renewed after all
	expect(14 * time.Second)
	expect(15*time.Second, "a1")
	w.take(frame{Held: []holding{{"b", legion.Stamp{}}}}) // let go, and the run lives
	expect(15*time.Second, "b1")
	w.take(frame{Ended: "a1"})
	w.take(frame{Ended: "b1"})
	expect(time.Hour)
	if _, ok := w.wake(now(time.Hour)); ok {
		t.Error("it wakes up though nothing is left")
	}

	// One clock is enough.
	w.take(frame{Held: []holding{{"a", at(10 * time.Second)}}, Began: &run{"a3", "a"}})
	if len(w.overdue(legion.Now{Boot: 9 * time.Second, Raw: 9 * time.Second})) != 0 {
		t.Error("overdue by neither clock")
	}
	if len(w.overdue(legion.Now{Boot: 11 * time.Second, Raw: 9 * time.Second})) != 1 {
		t.Error("after a suspend it is not overdue")
	}
}

func TestFrames(t *testing.T) {
	frames := []frame{
		{Oath: &Config{Node: "n", Incarnation: "i", LogLevel: "info"}},
		{Certificate: &Certificate{Quorum: 2, Deliveries: []Delivery{{"a", "1.2.3.4:5", []byte{1}, []byte{2}}}}},
		{Held: []holding{{"l", legion.Stamp{Boot: 1, Raw: 2}}}, Began: &run{"r", "l"}},
		{Ended: "r"},
		{Reign: unlord("l", 7), Leaving: "l", Left: "m", Mourn: death("l")},
		{AllHeld: legion.Stamp{Boot: 3, Raw: 4}},
		{Dismissed: true},
	}
	var all []byte
	for _, f := range frames {
		b, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	in := bufio.NewReader(bytes.NewReader(all))
	for _, want := range frames {
		got, err := readFrame(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := readFrame(in); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for n := range all { // killed while it wrote
		in := bufio.NewReader(bytes.NewReader(all[:n]))
		var err error
		for err == nil {
			_, err = readFrame(in)
		}
		if err != io.EOF {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	if _, err := (frame{Certificate: &Certificate{Deliveries: []Delivery{{Datagram: make([]byte, maxFrame)}}}}).encode(); err == nil {
		t.Error("a frame of any size is written")
	}
}

func FuzzReadFrame(f *testing.F) {
	b, _ := frame{Began: &run{"r", "l"}, Held: []holding{{"l", at(1)}}}.encode()
	f.Add(b)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWatch()
		in := bufio.NewReader(bytes.NewReader(b))
		for {
			f, err := readFrame(in)
			if err != nil {
				return
			}
			w.take(f)
			w.overdue(now(time.Second))
			w.wake(now(time.Second))
		}
	})
}

// A ward is a guard at work on made-up runs, and what it did.
type ward struct {
	*guard
	pipe *io.PipeWriter
	mu   sync.Mutex
	now  time.Duration
	runs []runner.Tag
	did  []string
	ring chan struct{}
	end  chan *watch

	occupied  atomic.Int32
	delivered chan struct{}
}

func (w *ward) Sweep(_ context.Context, match func(runner.Tag) bool) ([]runner.Tag, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var killed []runner.Tag
	w.runs = slices.DeleteFunc(w.runs, func(t runner.Tag) bool {
		if match(t) {
			killed = append(killed, t)
			w.did = append(w.did, "kill "+t.Run)
		}
		return match(t)
	})
	return killed, nil
}

func (w *ward) Cgroups() string        { return "yes" }
func (w *ward) rings() <-chan struct{} { return w.ring }

func (w *ward) set(after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did = append(w.did, "sleep "+after.String())
}

func (w *ward) tell(t *testing.T, f frame) {
	t.Helper()
	b, err := f.encode()
	if err == nil {
		_, err = w.pipe.Write(b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newWard(runs ...runner.Tag) *ward {
	r, p := io.Pipe()
	w := &ward{pipe: p, runs: runs, ring: make(chan struct{}), end: make(chan *watch, 1), delivered: make(chan struct{})}
	w.guard = &guard{
		incarnation: "i", host: w, alarm: w, log: zap.NewNop(),
		clock: func() legion.Now {
			w.mu.Lock()
			defer w.mu.Unlock()
			return now(w.now)
		},
		deliver: func(_ context.Context, c Certificate) (int, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.did = append(w.did, "deliver")
			close(w.delivered)
			return c.Quorum, nil
		},
		occupy: func() func() {
			w.occupied.Add(1)
			return func() { w.occupied.Add(-1) }
		},
		call: func(_ []hooks.Hook, c hooks.Call) {
			if c.Event == hooks.Unlord { // whoever does not wait for it is given the time to show it
				select {
				case <-w.delivered:
				case <-time.After(100 * time.Millisecond):
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.occupied.Load() == 0 {
				w.did = append(w.did, "unlocked")
			}
			w.did = append(w.did, fmt.Sprint(c.Event, " ", c.Legion, " ", c.Term))
		},
	}
	go func() {
		w.end <- w.watch(frame{Oath: &Config{}, Certificate: &Certificate{Quorum: 2}}, bufio.NewReader(r))
	}()
	return w
}

func (w *ward) done() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.did, ", ")
}

func tags() []runner.Tag {
	return []runner.Tag{
		{Run: "finish", Incarnation: "i", OnUnlord: jobs.OnUnlordFinish},
		{Run: "strict", Incarnation: "i", OnUnlord: jobs.OnUnlordKill},
		{Run: "other", Incarnation: "j", OnUnlord: jobs.OnUnlordKill},
	}
}

func TestBury(t *testing.T) {
	w := newWard(tags()...)
	w.tell(t, frame{Began: &run{"strict", "l"}, Held: []holding{{"l", at(time.Hour)}}})
	w.pipe.Close()
	end := <-w.end
	if end == nil || end.certificate.Quorum != 2 {
		t.Fatalf("at the end of the file it knows %+v", end)
	}
	w.bury(end)
	if want := "sleep 1h0m0s, kill strict, deliver, kill finish"; w.done() != want {
		t.Errorf("it did %q, want %q", w.done(), want)
	}
}

func unlord(of string, term uint64) *hooks.Will {
	return &hooks.Will{Call: hooks.Call{Event: hooks.Unlord, Legion: of, Term: term}, Hooks: []hooks.Hook{{Kind: "cmd", Text: "x"}}}
}

func death(of string) *hooks.Will {
	return &hooks.Will{Call: hooks.Call{Event: hooks.Death, Legion: of}, Hooks: []hooks.Hook{{Kind: "cmd", Text: "x"}}}
}

// TestBuryHooks: unlord hooks come before the voters hear, death hooks after,
// and hooks that the agent left are killed first.
func TestBuryHooks(t *testing.T) {
	left := runner.Tag{Run: "hook-1", Incarnation: "i", OnUnlord: jobs.OnUnlordKill}
	w := newWard(append(tags(), left)...)
	w.tell(t, frame{Reign: unlord("l", 7), Held: []holding{{"l", at(time.Hour)}}, Mourn: death("l")})
	w.tell(t, frame{Reign: unlord("m", 3), Held: []holding{{"m", at(time.Hour)}}})
	w.tell(t, frame{Left: "m", Held: []holding{{Legion: "m"}}})
	w.tell(t, frame{Mourn: death("m")})
	w.tell(t, frame{Mourn: &hooks.Will{Call: hooks.Call{Legion: "m"}}}) // a reload
	w.pipe.Close()
	w.bury(<-w.end)
	did := w.done()
	_, did, _ = strings.Cut(did, "kill")
	did = "kill" + did
	for _, want := range []string{
		"kill strict, kill hook-1, unlord l 7, deliver, death l 0, kill finish",
		"kill strict, kill hook-1, unlord l 7, deliver, kill finish, death l 0", // side by side
	} {
		if did == want {
			return
		}
	}
	t.Errorf("it did %q", did)
}

// TestFrozenHooks: unlord hooks are called once for a reign that has run out, if
// the agent does not say that it does.
func TestFrozenHooks(t *testing.T) {
	w := newWatch()
	called := func(when time.Duration, want ...string) {
		t.Helper()
		var got []string
		for _, c := range w.deserted(now(when)) {
			got = append(got, c.Call.Legion)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("at %v called %v, want %v", when, got, want)
		}
	}
	for _, of := range []string{"a", "b", "c"} {
		w.take(frame{Reign: unlord(of, 1), Held: []holding{{of, at(time.Second)}}})
	}
	if after, ok := w.wake(now(0)); !ok || after != time.Second+headStart {
		t.Errorf("it sleeps %v %v", after, ok)
	}
	called(time.Second)
	w.take(frame{Leaving: "b"})
	w.take(frame{Held: []holding{{"c", at(2 * time.Second)}}})
	called(time.Second+headStart, "a")
	called(time.Second + 2*headStart)
	w.take(frame{AllHeld: at(3 * time.Second)})
	called(2*time.Second + 2*headStart)
	w.take(frame{Left: "c", Held: []holding{{Legion: "c"}}})
	called(time.Hour)
	if _, ok := w.wake(now(time.Hour)); ok {
		t.Error("it wakes up though there is nothing left")
	}
	if left := w.orphaned(); len(left) != 1 || left[0].Call.Legion != "b" {
		t.Errorf("for a dead agent it calls %v: b was under way, a was called", left)
	}
	w.take(frame{Reign: unlord("a", 2), Held: []holding{{"a", at(2 * time.Hour)}}})
	called(3*time.Hour, "a") // another reign
}

func TestDismissed(t *testing.T) {
	w := newWard(tags()...)
	w.tell(t, frame{Began: &run{"strict", "l"}, Held: []holding{{"l", at(time.Hour)}}})
	w.tell(t, frame{Dismissed: true})
	if end := <-w.end; end != nil || strings.Contains(w.done(), "kill") {
		t.Errorf("dismissed it goes on with %+v, after %q", end, w.done())
	}
}

func TestFrozen(t *testing.T) {
	w := newWard(tags()...)
	w.tell(t, frame{Began: &run{"strict", "l"}, Held: []holding{{"l", at(time.Second)}}})
	did := func(want string) {
		t.Helper()
		lab.Eventually(t, patience, want, func() bool { return w.done() == want })
	}
	did("sleep 1s")
	w.ring <- struct{}{} // too early
	did("sleep 1s, sleep 1s")
	w.mu.Lock()
	w.now = time.Second
	w.mu.Unlock()
	w.ring <- struct{}{}
	did("sleep 1s, sleep 1s, kill strict, sleep " + lookAgain.String())
	w.pipe.Close()
	<-w.end
}

// TestNonsense: what makes no sense is not taken for the agent's death.
func TestNonsense(t *testing.T) {
	w := newWard(tags()...)
	if _, err := w.pipe.Write([]byte{0, 0, 0, 1, 0xff, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	w.ring <- struct{}{}
	select {
	case <-w.end:
		t.Error("it went on")
	default:
	}
	w.pipe.Close()
	if end := <-w.end; end == nil {
		t.Error("then it missed the end")
	}
}

// A voter answers notices, from the after-th on; one that is deaf answers junk.
func voter(t *testing.T, name string, after int, deaf bool) Delivery {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	d := Delivery{Name: name, Addr: conn.LocalAddr().String(), Datagram: []byte("death to " + name), Receipt: []byte("receipt of " + name)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 100)
		for n := 0; ; {
			size, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			if string(buf[:size]) != string(d.Datagram) {
				t.Errorf("%s heard %q", name, buf[:size])
			}
			if n++; deaf {
				_, _ = conn.WriteToUDP([]byte("what?"), from)
			} else if n > after {
				_, _ = conn.WriteToUDP(d.Receipt, from)
				_, _ = conn.WriteToUDP(d.Receipt, from) // doubled on its way
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-ended })
	return d
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	two := Certificate{Quorum: 2, Deliveries: []Delivery{voter(t, "a", 0, false), voter(t, "b", 3, false)}}
	if told, err := deliver(ctx, two); told != 2 || err != nil {
		t.Errorf("told %d, %v; want 2", told, err)
	}
	most := Certificate{Quorum: 2, Deliveries: []Delivery{voter(t, "a", 0, false), voter(t, "b", 1, false), voter(t, "c", 0, true), {Addr: "junk"}}}
	if told, err := deliver(ctx, most); told != 2 || err != nil {
		t.Errorf("told %d, %v; want 2, the quorum", told, err)
	}
	if told, err := deliver(ctx, Certificate{}); told != 0 || err != nil {
		t.Errorf("nobody is to be told: %d, %v", told, err)
	}
	few := Certificate{Quorum: 2, Deliveries: []Delivery{voter(t, "a", 0, false), voter(t, "b", 0, true)}}
	short, cancel := context.WithTimeout(ctx, 5*deliverEvery)
	defer cancel()
	if told, err := deliver(short, few); told != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("told %d, %v; want 1 in the end", told, err)
	}
}

// playAgent is a process with a guardian, which it tells of, and then waits to
// be killed.
func playAgent() {
	g := Start(Config{Node: "n", Incarnation: "i", NoCgroups: true}, zap.NewNop())
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := g.Dismiss(); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// TestGuardian is about real processes: start, replacement, dismissal.
func TestGuardian(t *testing.T) {
	t.Parallel()
	g := Start(Config{Node: "n", Incarnation: "i", NoCgroups: true}, zap.NewNop())
	first := g.PID()
	if first == 0 {
		t.Fatal("no guardian")
	}
	if sid, err := getsid(first); err != nil || sid != first {
		t.Errorf("its session is %d, %v; want one of its own", sid, err)
	}
	g.Begin("r", "l", at(1<<60))
	g.Hold(func(string) (legion.Stamp, bool) { return at(1<<60 + 1), true })
	// One that hangs is replaced, and does nothing then: the pipe fills up.
	if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "a guardian that hangs is replaced", func() bool {
		for range 100 {
			g.Certify(Certificate{Quorum: 1, Deliveries: []Delivery{{Datagram: make([]byte, 1000)}}})
		}
		pid := g.PID()
		return pid != first && pid != 0
	})
	second := g.PID()
	g.End("r")
	if err := g.Dismiss(); err != nil {
		t.Error(err)
	}
	for _, pid := range []int{first, second} {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

func getsid(pid int) (int, error) {
	sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sid), nil
}

// TestAgentEnds: a guardian goes with its agent, however that ends.
func TestAgentEnds(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GUARDIAN_AGENT=1")
		in, err1 := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		// The guardian has standard error to its end.
		held, write, err3 := os.Pipe()
		cmd.Stderr = write
		if err := errors.Join(err1, err2, err3, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		write.Close()
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("it says %q, %v", line, err)
		}
		if clean {
			in.Close()
		} else if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := held.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(held)
		if err != nil {
			t.Errorf("clean %v: the guardian is left: %v", clean, err)
		}
		if dead := strings.Contains(string(said), "the agent is dead"); dead == clean {
			t.Errorf("clean %v: the guardian says %q", clean, said)
		}
		if err := cmd.Wait(); (err == nil) != clean {
			t.Errorf("clean %v: %v", clean, err)
		}
	}
}

// TestByHand: nobody but an agent can start it.
func TestByHand(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(os.Args[0], Verb).CombinedOutput() // standard input is /dev/null
	if err == nil || !strings.Contains(string(out), "agents start it") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestNil(t *testing.T) {
	var g *Guardian
	g.Certify(Certificate{})
	g.Begin("r", "l", legion.Stamp{})
	g.Hold(nil)
	g.End("r")
	if err := g.Dismiss(); err != nil || g.PID() != 0 {
		t.Error("a guardian that is not there does something")
	}
}

// TestHold: what a beat renews together is told in one short word.
func TestHold(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	g := &Guardian{
		log: zap.NewNop(), held: map[string]legion.Stamp{}, runs: map[string]string{}, reigns: map[string]*reign{},
		deaths: map[string]hooks.Will{}, child: &child{pipe: w},
	}
	defer w.Close()
	in := bufio.NewReader(r)
	see := newWatch()
	hear := func() frame {
		t.Helper()
		f, err := readFrame(in)
		if err != nil {
			t.Fatal(err)
		}
		see.take(f)
		return f
	}
	until := map[string]legion.Stamp{"a": at(1), "b": at(1), "c": at(1)}
	for of, s := range until {
		g.Reign(*unlord(of, 1), s)
		hear()
	}
	hold := func() {
		g.Hold(func(of string) (legion.Stamp, bool) { s, ok := until[of]; return s, ok })
	}
	hold() // nothing new, nothing said
	until = map[string]legion.Stamp{"a": at(2), "b": at(2), "c": at(2)}
	hold()
	if f := hear(); f.AllHeld != at(2) || len(f.Held) > 0 {
		t.Errorf("told %+v", f)
	}
	until = map[string]legion.Stamp{"a": at(3), "b": at(3)} // c is let go
	hold()
	if f := hear(); len(f.Held) != 3 {
		t.Errorf("told %+v", f)
	}
	until["a"], until["b"] = at(4), at(4)
	hold()
	if f := hear(); len(f.Held) != 2 {
		t.Errorf("told %+v: c must not come back", f)
	}
	g.Left("c")
	hear()
	until["a"], until["b"] = at(5), at(5)
	hold()
	if f := hear(); f.AllHeld != at(5) {
		t.Errorf("told %+v", f)
	}
	if want := map[string]legion.Stamp{"a": at(5), "b": at(5)}; !reflect.DeepEqual(see.held, want) {
		t.Errorf("the guardian takes %v to be held, want %v", see.held, want)
	}
}
