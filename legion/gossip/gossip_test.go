package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	// memberlist's own goroutines may sit out a probe, which takes longer where
	// many went unanswered.
	deadline := time.Now().Add(patience)
	err := goleak.Find()
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find() // waits a little
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// testNode is a node and what its callbacks were told.
type testNode struct {
	*Node
	mu       sync.Mutex
	state    []byte
	messages [][]byte
	merged   [][]byte
	events   []string
	rivals   atomic.Int32
	lone     atomic.Int32 // times that a conflict was over
	served   atomic.Int32
}

var key = bytes.Repeat([]byte{7}, 32)

// config is a node that is quick to notice and to look again.
func config(name string, join ...string) Config {
	return Config{
		Name: name, Instance: "instance-" + name, Incarnation: name + "-1", Bind: "127.0.0.1:0", Join: join,
		Keys: [][]byte{key}, ProbeInterval: 200 * time.Millisecond, RejoinInterval: 300 * time.Millisecond,
	}
}

func start(t testing.TB, cfg Config) *testNode {
	t.Helper()
	n, err := tryStart(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryStart(t testing.TB, cfg Config) (*testNode, error) {
	t.Helper()
	n := &testNode{state: []byte("state of " + cfg.Incarnation)}
	cfg.Deliver = func(msg []byte) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.messages = append(n.messages, msg)
	}
	cfg.State = func() []byte {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.state
	}
	cfg.Merge = func(state []byte) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.merged = append(n.merged, state)
	}
	cfg.Member = func(e Event) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.events = append(n.events, fmt.Sprintf("%v %s %s", e.Kind, e.Name, e.Incarnation))
	}
	cfg.Conflict = func(addr string) {
		if addr == "" {
			n.lone.Add(1)
		} else {
			n.rivals.Add(1)
		}
	}
	if cfg.Serve == nil {
		cfg.Serve = func(_ context.Context, from string, question []byte) []byte {
			n.served.Add(1)
			return append([]byte(from+" asked "), question...)
		}
	}
	var err error
	if n.Node, err = Start(cfg); err != nil {
		return nil, err
	}
	t.Cleanup(func() { stop(t, n) })
	return n, nil
}

func stop(t testing.TB, n *testNode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// crash ends a node without a goodbye.
func (n *testNode) crash() {
	n.kill()
}

func (n *testNode) announceState(s string) {
	n.mu.Lock()
	n.state = []byte(s)
	n.mu.Unlock()
	n.Announce()
}

func (n *testNode) lastMerged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.merged) == 0 {
		return ""
	}
	return string(n.merged[len(n.merged)-1])
}

func (n *testNode) has(events ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events { // in this order, others between
		if len(events) > 0 && e == events[0] {
			events = events[1:]
		}
	}
	return len(events) == 0
}

func (n *testNode) received(msg []byte) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, m := range n.messages {
		if bytes.Equal(m, msg) {
			count++
		}
	}
	return count
}

func names(members []Member) string {
	var list []string
	for _, m := range members {
		list = append(list, m.Name)
	}
	return strings.Join(list, " ")
}

// together starts nodes and waits until all know all.
func together(t testing.TB, list ...string) []*testNode {
	t.Helper()
	var nodes []*testNode
	for _, name := range list {
		cfg := config(name)
		if len(nodes) > 0 {
			cfg.Join = []string{nodes[0].Addr()}
		}
		nodes = append(nodes, start(t, cfg))
	}
	meet(t, nodes...)
	return nodes
}

func meet(t testing.TB, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s knows all %d nodes", n.cfg.Name, len(nodes)), func() bool {
			return len(n.Members()) == len(nodes)
		})
	}
}

func TestThreeNodesMeet(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b", "c")
	for _, n := range nodes {
		if got := names(n.Members()); got != "a b c" {
			t.Errorf("%s has members %s", n.cfg.Name, got)
		}
		for _, m := range n.Members() {
			if want := "instance-" + m.Name; m.Instance != want || m.Incarnation != m.Name+"-1" {
				t.Errorf("member %+v: wrong instance or incarnation", m)
			}
		}
	}
	a, b, c := nodes[0], nodes[1], nodes[2]
	eventually(t, "a was told", func() bool { return a.has("up b b-1") && a.has("up c c-1") })
	eventually(t, "c was told", func() bool { return c.has("up b b-1") && c.has("up a a-1") })
	if a.has("up a a-1") {
		t.Error("a was told of itself")
	}
	_, port, err := net.SplitHostPort(b.Addr())
	if err != nil || port == "0" {
		t.Errorf("address %q: want the real port", b.Addr())
	}
}

// A node that stops is seen to go at once, without any failure detection.
func TestStopIsNoticed(t *testing.T) {
	t.Parallel()
	var nodes []*testNode
	for _, name := range []string{"a", "b", "c"} {
		cfg := config(name)
		cfg.ProbeInterval = time.Hour
		if len(nodes) > 0 {
			cfg.Join = []string{nodes[0].Addr()}
		}
		nodes = append(nodes, start(t, cfg))
	}
	meet(t, nodes...)
	eventually(t, "c was told of b", func() bool { return nodes[2].has("up b b-1") })
	stop(t, nodes[1])
	for _, n := range []*testNode{nodes[0], nodes[2]} {
		eventually(t, n.cfg.Name+" sees b leave", func() bool { return n.has("up b b-1", "down b b-1") })
	}
	if err := nodes[1].Send("a", nil); !errors.Is(err, ErrStopped) {
		t.Errorf("send after stop: %v, want ErrStopped", err)
	}
	stop(t, nodes[1]) // again: no harm
}

func TestSend(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	for _, size := range []int{0, 1, maxPacket - 2, maxPacket - 1, 64 << 10, MaxMessage} {
		msg := bytes.Repeat([]byte{byte(size)}, size)
		for _, to := range []*testNode{b, a} { // the second is the sender itself
			if err := a.Send(to.cfg.Name, msg); err != nil {
				t.Fatalf("send %d bytes to %s: %v", size, to.cfg.Name, err)
			}
			eventually(t, fmt.Sprintf("%d bytes reach %s", size, to.cfg.Name), func() bool { return to.received(msg) == 1 })
		}
	}
	if err := a.Send("nobody", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("send to nobody: %v, want ErrUnknown", err)
	}
	if err := a.Send("b", make([]byte, MaxMessage+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("send too much: %v, want ErrTooLarge", err)
	}
}

// A peer that takes nothing fills its own queue, and no more.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	a := together(t, "a", "b")[0]
	held := make(chan struct{})
	a.mu.Lock() // Deliver of a itself
	go func() { <-held; a.mu.Unlock() }()
	defer close(held)
	full := false
	for range maxLocal + 2 {
		full = full || errors.Is(a.Send("a", []byte("x")), ErrFull)
	}
	if !full {
		t.Error("a queue of messages to itself without an end")
	}
	s := &sender{wake: make(chan struct{}, 1)}
	for i := range maxQueued + 1 {
		if ok := s.put([]byte("x")); ok != (i < maxQueued) {
			t.Fatalf("message %d: queued is %v", i, ok)
		}
	}
	s = &sender{wake: make(chan struct{}, 1)}
	if s.put(make([]byte, maxQueuedBytes)) != true || s.put([]byte("x")) != false {
		t.Error("bytes in a queue are not bounded")
	}
	s.putState([]byte("old"))
	s.putState([]byte("new"))
	s.next()
	if got := s.next(); string(got) != "new" || s.next() != nil {
		t.Errorf("next state %q, want the newest alone", got)
	}
}

// What is sent to a node that has failed leaves nothing behind.
func TestSenderOfOneThatIsGone(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	senders := func() int {
		a.Node.mu.Lock()
		defer a.Node.mu.Unlock()
		return len(a.senders)
	}
	large := make([]byte, 2*maxPacket)
	if err := a.Send("b", large); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b has it", func() bool { return b.received(large) == 1 })
	if senders() != 1 {
		t.Error("the sender did not wait for more")
	}
	b.crash()
	eventually(t, "a sees it", func() bool { return a.has("down b b-1") })
	for range 3 {
		if err := a.Send("b", large); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its sender has ended", func() bool { return senders() == 0 })
	}
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b", "c")
	for _, state := range []string{"small", strings.Repeat("large ", 50_000), "small again"} {
		nodes[0].announceState(state)
		for _, n := range nodes[1:] {
			eventually(t, fmt.Sprintf("%s hears %.12q", n.cfg.Name, state), func() bool { return n.lastMerged() == state })
		}
	}
	// Who comes later learns it by push/pull, from any node.
	late := start(t, config("late", nodes[2].Addr()))
	eventually(t, "the late node hears a", func() bool {
		late.mu.Lock()
		defer late.mu.Unlock()
		return slices.ContainsFunc(late.merged, func(s []byte) bool { return string(s) == "small again" })
	})
}

// What one node hears it passes on: it may be the only one to hear it.
func TestAnnouncementIsRelayed(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b", "c")
	msg, err := pack(kindState, announcement{Origin: "a", Incarnation: "a-1", Seq: 99, Body: []byte("to b alone")})
	if err != nil {
		t.Fatal(err)
	}
	nodes[1].receive(msg, false)
	eventually(t, "c hears it too", func() bool { return nodes[2].lastMerged() == "to b alone" })
}

func TestAnnouncementsCoalesce(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	const changes = 1000
	for i := range changes {
		nodes[0].announceState(fmt.Sprint(i))
	}
	eventually(t, "b hears the last", func() bool { return nodes[1].lastMerged() == fmt.Sprint(changes-1) })
	nodes[0].states.mu.Lock()
	defer nodes[0].states.mu.Unlock()
	if seq := nodes[0].states.own.Seq; seq > changes/10 {
		t.Errorf("%d announcements of %d changes", seq, changes)
	}
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	a := start(t, config("a"))
	cfg := config("stranger", a.Addr())
	cfg.Keys = [][]byte{bytes.Repeat([]byte{8}, 32)}
	stranger := start(t, cfg)
	cfg = config("plain", a.Addr())
	cfg.Keys = nil
	plain := start(t, cfg)
	eventually(t, "a refused both", func() bool { return a.Stats().Refused >= 2 })
	for _, n := range []*testNode{a, stranger, plain} {
		if got := names(n.Members()); got != n.cfg.Name {
			t.Errorf("%s has members %s", n.cfg.Name, got)
		}
	}
}

func TestRotateKeys(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	next := bytes.Repeat([]byte{9}, 16)
	for i, keys := range [][][]byte{{key, next}, {next, key}, {next}} {
		for _, n := range nodes {
			if err := n.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			msg := fmt.Appendf(nil, "%d %s", i, n.cfg.Name) // while they differ
			if err := nodes[0].Send("b", msg); err != nil {
				t.Fatal(err)
			}
			eventually(t, "b reads it", func() bool { return nodes[1].received(msg) == 1 })
		}
	}
	if got := nodes[0].keyring.GetKeys(); len(got) != 1 || !bytes.Equal(got[0], next) {
		t.Errorf("keys are %x", got)
	}
	if nodes[0].SetKeys(nil) == nil || nodes[0].SetKeys([][]byte{{1}}) == nil {
		t.Error("no keys, or a bad one, were accepted")
	}
}

// However many keys go at once, none of them decrypts any more.
func TestRemovedKeysAreGone(t *testing.T) {
	t.Parallel()
	ring := func(names string) (keys [][]byte) {
		for _, c := range []byte(names) {
			keys = append(keys, bytes.Repeat([]byte{c}, 16))
		}
		return keys
	}
	for _, test := range []struct{ old, new string }{
		{"nab", "n"}, {"nabc", "n"}, {"nabk", "nk"}, {"nakb", "nk"}, {"abcd", "dx"}, {"nabcdef", "nf"},
	} {
		keyring, err := newKeyring(ring(test.old))
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{keyring: keyring}
		if err := n.SetKeys(ring(test.new)); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, key := range keyring.GetKeys() {
			got += string(key[:1])
		}
		if got != test.new {
			t.Errorf("%s instead of %s: the keys are %s", test.new, test.old, got)
		}
	}
}

// A restart within the detection time is seen.
func TestRestartAtSameAddress(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	cfg := config("b", a.Addr())
	cfg.Bind, cfg.Incarnation = b.Addr(), "b-2"
	b.crash()
	again := start(t, cfg)
	eventually(t, "a sees the new incarnation", func() bool { return a.has("up b b-1", "down b b-1", "up b b-2") })
	eventually(t, "a hears its state", func() bool { return a.lastMerged() == "state of b-2" })
	meet(t, a, again)
}

// At another address the dead one's name is a ghost's for a while.
func TestRestartAtOtherAddress(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	b.crash()
	cfg := config("b", a.Addr())
	cfg.Incarnation = "b-2"
	again := start(t, cfg)
	eventually(t, "a sees the new incarnation", func() bool { return a.has("up b b-1", "down b b-1", "up b b-2") })
	meet(t, a, again)
	if again.rivals.Load() != 0 {
		t.Error("a ghost was taken for a rival")
	}
}

// Nor does it haunt its own next life, where the old address still leads to it.
func TestRestartWithOldAddress(t *testing.T) {
	t.Parallel()
	for _, bind := range []string{"0.0.0.0:", "[::]:"} {
		t.Run(bind, func(t *testing.T) {
			t.Parallel()
			a := start(t, config("a"))
			cfg := config("b", a.Addr())
			cfg.Bind, cfg.Advertise = bind+"0", "127.0.0.2"
			b := start(t, cfg)
			meet(t, a, b)
			eventually(t, "a was told of b", func() bool { return a.has("up b b-1") })
			_, port, err := net.SplitHostPort(b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			b.crash()
			cfg.Bind, cfg.Advertise, cfg.Incarnation = bind+port, "127.0.0.3", "b-2"
			again := start(t, cfg)
			eventually(t, "a sees the new incarnation", func() bool { return a.has("up b b-1", "down b b-1", "up b b-2") })
			if again.rivals.Load() != 0 {
				t.Error("b was taken for its own rival")
			}
			for _, msg := range []string{"small", strings.Repeat("large", maxPacket)} {
				if err := a.Send("b", []byte(msg)); err != nil {
					t.Fatal(err)
				}
				eventually(t, "b hears a", func() bool { return again.received([]byte(msg)) == 1 })
			}
		})
	}
}

func TestNameTaken(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	cfg := config("b", nodes[0].Addr())
	cfg.Incarnation = "b-2"
	if _, err := tryStart(t, cfg); !errors.Is(err, ErrNameTaken) || !strings.Contains(err.Error(), nodes[1].Addr()) {
		t.Fatalf("start a second b: %v, want ErrNameTaken with the address of the first", err)
	}
	if err := nodes[0].Send("b", []byte("still you?")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first b is still b", func() bool { return nodes[1].received([]byte("still you?")) == 1 })
	if nodes[0].has("down b b-1") || nodes[1].rivals.Load() != 0 {
		t.Error("the first b was disturbed")
	}
}

// Two of one name that start apart find out when they come together.
func TestConflictAtRunTime(t *testing.T) {
	t.Parallel()
	elder := together(t, "x", "a")
	cfg := config("x")
	cfg.Incarnation = "x-2"
	younger := start(t, cfg)
	start(t, config("b", elder[1].Addr(), younger.Addr()))
	eventually(t, "the younger is told", func() bool { return younger.rivals.Load() > 0 })
	if elder[0].rivals.Load() != 0 {
		t.Error("the elder is told to go")
	}
	eventually(t, "the younger is told again", func() bool { return younger.rivals.Load() > 1 })
	if younger.lone.Load() != 0 {
		t.Error("the conflict was over while it lasted")
	}
	stop(t, elder[0])
	eventually(t, "the younger is told that it is over", func() bool { return younger.lone.Load() == 1 })
	eventually(t, "it is a member", func() bool { return elder[1].has("down x x-1", "up x x-2") })
}

func TestElderIsOne(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{0, 10 * time.Millisecond, 5 * time.Second, time.Hour} {
		for _, delay := range []time.Duration{0, 100 * time.Millisecond} {
			// x-1 started skew before x-2; each asks, and the answer ages on the way.
			one, two := skew+time.Minute, time.Minute
			at := func(age time.Duration, incarnation string) iam {
				return iam{Name: "x", Incarnation: incarnation, Age: age}
			}
			firstGoes := elder(at(two-delay, "x-2"), at(one, "x-1"))
			secondGoes := elder(at(one-delay, "x-1"), at(two, "x-2"))
			if firstGoes || !secondGoes {
				t.Errorf("skew %v, delay %v: first goes %v, second goes %v", skew, delay, firstGoes, secondGoes)
			}
		}
	}
}

func TestCall(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	ctx := t.Context()
	for _, question := range []string{"", "why", strings.Repeat("long ", 1<<20)} {
		for _, to := range []string{"b", "a"} {
			answer, err := a.Call(ctx, to, []byte(question))
			if err != nil || string(answer) != "a asked "+question {
				t.Fatalf("call %s with %d bytes: %d bytes, %v", to, len(question), len(answer), err)
			}
		}
	}
	if n := b.served.Load(); n != 3 {
		t.Errorf("b served %d questions, want 3", n)
	}
	if _, err := a.Call(ctx, "nobody", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("call nobody: %v, want ErrUnknown", err)
	}
	if _, err := a.Call(ctx, "b", make([]byte, MaxMessage+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("ask too much: %v, want ErrTooLarge", err)
	}
	var wg sync.WaitGroup
	for i := range maxServing {
		wg.Go(func() {
			question := fmt.Sprint(i)
			answer, err := a.Call(ctx, "b", []byte(question))
			if err != nil || string(answer) != "a asked "+question {
				t.Errorf("call %d: %q, %v", i, answer, err)
			}
		})
	}
	wg.Wait()
}

// A node that has not heard yet that another is back cannot answer it. The other
// does not wait for long, but asks again.
func TestCallOfOneThatIsNotKnown(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	b.mu.Lock()
	delete(b.senders, "a")
	b.mu.Unlock()
	b.table.mu.Lock()
	live, seen := b.table.live["a"], b.table.seen["a"]
	delete(b.table.live, "a")
	delete(b.table.seen, "a")
	b.table.mu.Unlock()
	answers := make(chan error)
	go func() {
		_, err := a.Call(t.Context(), "b", nil)
		answers <- err
	}()
	eventually(t, "a ticket that cannot be sent", func() bool { return b.dropped.Load() > 0 })
	b.table.mu.Lock()
	b.table.live["a"], b.table.seen["a"] = live, seen
	b.table.mu.Unlock()
	if err := <-answers; err != nil {
		t.Errorf("it is known again: %v", err)
	}
}

// Who has got the address of one that is gone does not answer in its name.
func TestCallIsForOneNode(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	b.crash()
	cfg := config("c", a.Addr())
	cfg.Bind = b.Addr()
	c := start(t, cfg)
	eventually(t, "c knows a", func() bool { return len(c.Members()) > 1 })
	answer, err := a.Call(t.Context(), "b", []byte("well?"))
	if err == nil || !strings.Contains(err.Error(), "call b: another node has its address: c") {
		t.Errorf("call of b answered with %q, %v", answer, err)
	}
	if n := c.served.Load(); n != 0 {
		t.Errorf("c served %d questions", n)
	}
}

// A call ends with its context, with the callee, and with either Stop.
func TestCallEnds(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 3)
	cfg := config("slow")
	cfg.Serve = func(ctx context.Context, _ string, _ []byte) []byte {
		asked <- struct{}{}
		<-ctx.Done()
		return nil
	}
	slow := start(t, cfg)
	a := start(t, config("a", slow.Addr()))
	b := start(t, config("b", slow.Addr()))
	meet(t, a, b, slow)

	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 2)
	call := func(n *testNode) {
		_, err := n.Call(ctx, "slow", nil)
		results <- err
	}
	go call(a)
	<-asked
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled call: %v", err)
	}
	ctx = t.Context()
	go call(a)
	<-asked
	go call(b)
	<-asked
	stop(t, b)
	if err := <-results; !errors.Is(err, ErrStopped) {
		t.Errorf("call of a stopped node: %v, want ErrStopped", err)
	}
	stop(t, slow) // its Serve returns, but to nobody
	if err := <-results; err == nil {
		t.Error("call to a node that left succeeded")
	}
}

func TestJunk(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	junk := [][]byte{{0}, {0xff, 0xff}, []byte("GET / HTTP/1.0\r\n\r\n"), bytes.Repeat([]byte{1}, 1400), make([]byte, 60_000)}
	for k := range 256 {
		junk = append(junk, []byte{byte(k), 1, 2, 3})
	}
	udp, err := net.Dial("udp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, j := range junk {
		if _, err := udp.Write(j); err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = tcp.Write(j)
		tcp.Close()
	}
	eventually(t, "junk is counted", func() bool { return a.Stats().Refused > 200 })

	// Junk of key holders: a later version, or a fault.
	for _, j := range [][]byte{{0, 1}, {wireVersion}, {wireVersion, 99, 1}, {wireVersion, byte(kindStates), 0x80},
		{wireVersion, byte(kindState), 0xff}, {wireVersion, byte(kindQuestion), 0xa0}} {
		m, _ := b.table.get("a")
		before := a.Stats().Junk
		if err := b.sendPacket(m, j); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("%x is counted", j), func() bool { return a.Stats().Junk == before+1 })
	}
	if err := b.Send("a", []byte("well?")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a still listens", func() bool { return a.received([]byte("well?")) == 1 })
}

// What was recorded, and is then said to be encrypted in memberlist's older way, is
// refused: it could be decrypted, and more padding be cut off than there is.
func TestForgedPadding(t *testing.T) {
	t.Parallel()
	a := start(t, config("a"))
	aead, err := noticeSeal(key)
	if err != nil {
		t.Fatal(err)
	}
	send := func(network string, sealed []byte) {
		t.Helper()
		c, err := net.Dial(network, a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(sealed); err != nil {
			t.Fatal(err)
		}
	}
	const memberlistUser, memberlistEncrypted = 8, 10
	msg := bytes.Repeat([]byte{0xff}, 32) // its last byte says: 255 bytes of padding
	plain := append([]byte{memberlistUser}, frame(kindMessage, msg)...)
	packet := aead.Seal([]byte{sealVersion}, nil, plain, nil)
	send("udp", packet)
	eventually(t, "the packet is understood", func() bool { return a.received(msg) == 1 })
	packet[0] = 0
	send("udp", packet)
	eventually(t, "the packet is refused", func() bool { return a.Stats().Refused == 1 })

	header := []byte{memberlistEncrypted, 0, 0, 0, byte(len(packet))}
	stream := aead.Seal(append(bytes.Clone(header), 0), nil, plain, header)
	if len(stream) <= sealAt || len(stream) != len(header)+len(packet) {
		t.Fatalf("a stream of %d bytes", len(stream))
	}
	send("tcp", stream)
	eventually(t, "the stream is refused", func() bool { return a.Stats().Refused == 2 })
}

// Connections that say nothing keep nobody out.
func TestIdleStreamsMakeRoom(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	for range 2 * maxStreams {
		c, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "all of them are looked at", func() bool { return a.Stats().Dropped >= maxStreams })
	ctx, cancel := context.WithTimeout(t.Context(), askAgain) // one try
	defer cancel()
	if _, err := b.Call(ctx, "a", []byte("well?")); err != nil {
		t.Error(err)
	}
	a.transport.mu.Lock()
	defer a.transport.mu.Unlock()
	if n := a.transport.inbound; n > maxStreams {
		t.Errorf("%d connections are open", n)
	}
}

// However much is sent over however many connections, so much of it is in memory at
// a time. What is small comes through.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	nodes := together(t, "a", "b")
	a, b := nodes[0], nodes[1]
	held := func(change int) int {
		b.transport.mu.Lock()
		defer b.transport.mu.Unlock()
		b.transport.held += change
		return b.transport.held
	}
	large, small := make([]byte, MaxMessage), make([]byte, freeBytes/2)
	held(maxHeldBytes - MaxMessage/2)
	before := b.Stats().Refused
	for _, msg := range [][]byte{large, small} {
		if err := a.Send("b", msg); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the large message is refused", func() bool { return b.Stats().Refused == before+1 })
	eventually(t, "the small one arrives", func() bool { return b.received(small) == 1 })
	if n := b.received(large); n != 0 {
		t.Errorf("the large one was received %d times", n)
	}
	held(-maxHeldBytes + MaxMessage/2)
	if err := a.Send("b", large); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the large message arrives", func() bool { return b.received(large) == 1 })
	eventually(t, "nothing is held", func() bool { return held(0) == 0 })
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	taken := start(t, config("a"))
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no name", func(c *Config) { c.Name = "" }, "name"},
		{"long incarnation", func(c *Config) { c.Incarnation = strings.Repeat("x", 200) }, "incarnation"},
		{"bind without port", func(c *Config) { c.Bind = "127.0.0.1" }, `bind "127.0.0.1": want ip:port`},
		{"bind in use", func(c *Config) { c.Bind = taken.Addr() }, "address already in use"},
		{"advertise a name", func(c *Config) { c.Advertise = "example.org" }, "advertise"},
		{"short key", func(c *Config) { c.Keys = [][]byte{{1, 2}} }, "key size must be 16, 24 or 32 bytes"},
		{"no keys", func(c *Config) { c.Keys, c.Advertise = nil, "192.0.2.1" }, "no keys"},
		{"join port", func(c *Config) { c.Join = []string{"host:x"} }, `join "host:x": bad port`},
	} {
		cfg := config("b")
		test.change(&cfg)
		if n, err := tryStart(t, cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, %v; want an error with %q", test.name, n, err, test.want)
		}
	}
}

func TestUnreachablePeersAreNoError(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	n := start(t, config("a", ln.Addr().String(), "127.0.0.1:1", "no-such-host.invalid:7946"))
	if got := names(n.Members()); got != "a" {
		t.Errorf("members %s", got)
	}
}

// Peers that start in any order find each other, by a DNS name too.
func TestPeersComeLater(t *testing.T) {
	t.Parallel()
	reserved := start(t, config("b"))
	addr := reserved.Addr()
	reserved.crash()
	_, port, _ := net.SplitHostPort(addr)
	a := start(t, config("a", "localhost:"+port))
	cfg := config("b")
	cfg.Bind = addr
	meet(t, a, start(t, cfg))
}

// A large announcement reaches all, those who come later too, and is not told
// again and again.
func TestLargeAnnouncement(t *testing.T) {
	t.Parallel()
	a := start(t, config("a"))
	large := bytes.Repeat([]byte("large "), 50_000)
	a.mu.Lock()
	a.state = large
	a.mu.Unlock()
	b := start(t, config("b", a.Addr()))
	c := start(t, config("c", b.Addr())) // hears of a from b
	heard := func(n *testNode) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return slices.ContainsFunc(n.merged, func(s []byte) bool { return bytes.Equal(s, large) })
	}
	for _, n := range []*testNode{b, c} {
		eventually(t, n.cfg.Name+" hears of the state of a", func() bool { return heard(n) })
	}
	if size := len(delegate{b.Node}.LocalState(false)); size > maxPacket {
		t.Errorf("a push/pull tells %d bytes of what all know", size)
	}
	again := append(large, "and one more"...)
	a.mu.Lock()
	a.state = again
	a.mu.Unlock()
	large = again
	delegate{a.Node}.LocalState(false) // nobody has announced it: the next push/pull finds it
	if _, err := c.list.Join([]string{a.Addr()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "c hears of the newer state of a", func() bool { return heard(c) })
}
