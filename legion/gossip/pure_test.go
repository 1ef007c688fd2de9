package gossip

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/hashicorp/memberlist"
)

func TestParsePeer(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		"10.0.0.1":                       "10.0.0.1:99",
		"10.0.0.1:7":                     "10.0.0.1:7",
		"::1":                            "[::1]:99",
		"[fe80::1]:7":                    "[fe80::1]:7",
		"::ffff:10.0.0.1":                "10.0.0.1:99",
		"db-1.example.org":               "db-1.example.org:99",
		"db_1.example.org.:7":            "db_1.example.org.:7",
		"n1":                             "n1:99",
		"":                               `bad host name ""`,
		"host:":                          `bad port ""`,
		"host:0":                         `bad port "0"`,
		"host:70000":                     `bad port "70000"`,
		":7":                             `bad host name ""`,
		"a:b:c":                          "want host:port",
		"300.1.1.1":                      `bad host name "300.1.1.1"`,
		"a b":                            `bad host name "a b"`,
		"-a":                             `bad host name "-a"`,
		"name/10.0.0.1":                  `bad host name "name/10.0.0.1"`,
		"a..b":                           `bad host name "a..b"`,
		strings.Repeat("a", 64) + ".org": "bad host name",
	} {
		p, err := parsePeer(entry, 99)
		got := fmt.Sprintf("%s:%d", p.host, p.port)
		if p.ip.IsValid() {
			got = netip.AddrPortFrom(p.ip, p.port).String()
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s, want %s", entry, got, want)
		}
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	s := newStates("a", "a-1")
	ann := func(life string, seq uint64) announcement {
		return announcement{Origin: "b", Incarnation: life, Seq: seq, Body: []byte(fmt.Sprint(life, " ", seq))}
	}
	for _, step := range []struct {
		a    announcement
		live string
		want bool
	}{
		{ann("b-1", 1), "", false}, // not a member: kept aside
		{ann("b-1", 3), "b-1", true},
		{ann("b-1", 3), "b-1", false},
		{ann("b-1", 2), "b-1", false},
		{ann("b-1", 4), "b-1", true},
		{ann("b-2", 1), "b-1", false}, // of a life not yet seen
		{ann("b-0", 9), "b-1", false}, // of one that is over
		{ann("b-2", 2), "b-2", true},
		{ann("b-1", 5), "b-2", false},
		{announcement{Origin: "a", Incarnation: "a-1", Seq: 9}, "a-1", false}, // our own
	} {
		if got := s.take(step.a, step.live); got != step.want {
			t.Errorf("take %s while %q is live: %v", step.a.Body, step.live, got)
		}
	}
	if _, ok := s.up("b", "b-2"); ok {
		t.Error("nothing of b-2 was early")
	}
	s.take(ann("b-3", 1), "b-2")
	s.down("b", "b-3") // not what we hold
	if a, ok := s.up("b", "b-3"); !ok || a.Seq != 1 {
		t.Errorf("early announcement of b-3: %v, %v", a, ok)
	}
	s.down("b", "b-3")
	if list := s.all(); len(list) != 1 || list[0].Origin != "a" {
		t.Errorf("after b is down: %v", list)
	}
	first, same := s.mine([]byte("x")), s.mine([]byte("x"))
	if next := s.mine([]byte("y")); same.Seq != first.Seq || next.Seq != first.Seq+1 {
		t.Errorf("numbers %d, %d, %d", first.Seq, same.Seq, next.Seq)
	}
	for i := range 2 * maxMembers {
		s.take(announcement{Origin: fmt.Sprint(i), Incarnation: "1", Seq: 1}, "1")
		s.take(announcement{Origin: fmt.Sprint(i), Incarnation: "2", Seq: 1}, "1")
	}
	if len(s.known) > maxMembers || len(s.early) > maxMembers {
		t.Errorf("%d known and %d early: not bounded", len(s.known), len(s.early))
	}
}

// Recorded questions for a ticket, asked again and again, keep nobody from asking.
func TestTicketsForOthers(t *testing.T) {
	t.Parallel()
	c, now := newCalls(), time.Now()
	for i := range uint64(2 * maxTickets) {
		c.give(call{ID: i, From: "recorded"}, now)
		if number := c.give(call{ID: i, From: "b"}, now); !c.redeem(call{ID: i, From: "b", Ticket: number}, now) {
			t.Fatalf("after %d recorded ones b gets no ticket", i+1)
		}
	}
	if len(c.tickets) > maxTickets {
		t.Errorf("%d tickets: not bounded", len(c.tickets))
	}
}

// Announcements that come on several streams at once are handed over in order.
func TestMergeInOrder(t *testing.T) {
	t.Parallel()
	m, err := packMeta(meta{Instance: "i", Incarnation: "b-1"})
	if err != nil {
		t.Fatal(err)
	}
	var told, last, overtaken uint64
	n := &Node{table: newTable(Member{Name: "a"}), states: newStates("a", "a-1")}
	n.cfg.Merge = func(state []byte) {
		seq := binary.BigEndian.Uint64(state)
		if told++; seq < last {
			overtaken++
		}
		last = seq
	}
	n.table.NotifyJoin(&memberlist.Node{Name: "b", Addr: []byte{127, 0, 0, 1}, Port: 7, Meta: m})
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for seq := next.Add(1); seq <= 2000; seq = next.Add(1) {
				body := make([]byte, 100_000)
				binary.BigEndian.PutUint64(body, seq)
				n.hear(announcement{Origin: "b", Incarnation: "b-1", Seq: seq, Body: body}, false)
			}
		})
	}
	wg.Wait()
	if told == 0 || overtaken > 0 || last != 2000 {
		t.Errorf("%d times an older one after a newer, of %d; the last is %d", overtaken, told, last)
	}
}

func TestTableEvents(t *testing.T) {
	t.Parallel()
	tb := newTable(Member{Name: "a"})
	node := func(life string, port uint16) *memberlist.Node {
		m, err := packMeta(meta{Instance: "i", Incarnation: life})
		if err != nil {
			t.Fatal(err)
		}
		return &memberlist.Node{Name: "b", Addr: []byte{127, 0, 0, 1}, Port: port, Meta: m}
	}
	changes := func() string {
		var list []string
		for _, e := range tb.changes() {
			list = append(list, fmt.Sprintf("%v %s %s left=%v", e.Kind, e.Incarnation, e.Addr, e.Left))
		}
		return strings.Join(list, ", ")
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { tb.NotifyJoin(node("1", 7)) }, "up 1 127.0.0.1:7 left=false"},
		{func() { tb.NotifyUpdate(node("1", 7)) }, ""},
		{func() { tb.NotifyUpdate(node("1", 8)) }, "update 1 127.0.0.1:8 left=false"},
		{func() { tb.NotifyUpdate(node("2", 8)) }, "down 1 127.0.0.1:8 left=false, up 2 127.0.0.1:8 left=false"},
		{func() { tb.leave(goodbye{"b", "1"}) }, ""},
		{func() { tb.leave(goodbye{"b", "2"}); tb.leave(goodbye{"x", "2"}) }, "down 2 127.0.0.1:8 left=true"},
		{func() { tb.NotifyJoin(node("2", 8)); tb.NotifyLeave(node("2", 8)) }, ""},
		{func() { tb.NotifyUpdate(node("2", 8)) }, ""},
		{func() { tb.NotifyJoin(node("3", 8)); tb.NotifyLeave(node("3", 8)) }, ""},
		{func() { tb.NotifyJoin(node("4", 8)) }, "up 4 127.0.0.1:8 left=false"},
		{func() { tb.NotifyLeave(node("4", 8)) }, "down 4 127.0.0.1:8 left=false"},
		{func() { tb.NotifyJoin(&memberlist.Node{Name: "c", Meta: []byte("junk")}) }, ""},
	} {
		step.do()
		if got := changes(); got != step.want {
			t.Errorf("told %q, want %q", got, step.want)
		}
	}
	if got := tb.missing(); !slices.Equal(got, []string{"127.0.0.1:8"}) {
		t.Errorf("missing %q", got)
	}
	tb.forget("b")
	if got := tb.missing(); len(got) != 0 {
		t.Errorf("missing %q after forget", got)
	}
	if err := tb.NotifyAlive(&memberlist.Node{Name: "c", Meta: []byte("junk")}); err == nil {
		t.Error("a stranger to this protocol was let in")
	}
	for _, name := range []string{"b\xff", "b\x00", "b\n"} { // the first costs all metrics, the second cannot stand in an environment
		odd := node("1", 7)
		odd.Name = name
		if err := tb.NotifyAlive(odd); err == nil {
			t.Errorf("a node of the name %q was let in", name)
		}
	}
}

// Nodes that come and go under ever new names are looked for a few at a time. The
// latest are, and of others each has its turn, and the oldest are forgotten.
func TestMissingIsBounded(t *testing.T) {
	t.Parallel()
	m, err := packMeta(meta{Instance: "i", Incarnation: "1"})
	if err != nil {
		t.Fatal(err)
	}
	tb := newTable(Member{Name: "a"})
	come := func(i int) *memberlist.Node {
		node := &memberlist.Node{Name: fmt.Sprint(i), Addr: []byte{127, 1, byte(i >> 8), byte(i)}, Port: 7, Meta: m}
		tb.NotifyJoin(node)
		return node
	}
	addr := func(i int) string { return fmt.Sprintf("127.1.%d.%d:7", i>>8, i&0xff) }
	const others = 2 * maxRemembered
	for i := range others {
		tb.NotifyLeave(come(i))
	}
	stays := come(others)
	if len(tb.seen) > maxRemembered {
		t.Errorf("%d are remembered", len(tb.seen))
	}
	if _, ok := tb.find(fmt.Sprint(others - maxRemembered + 1)); !ok {
		t.Error("not the oldest was forgotten")
	}
	tried := map[string]bool{}
	for range 50 * maxRemembered / maxKnocks {
		round := tb.missing()
		if len(round) != maxKnocks || slices.Contains(round, addr(others)) {
			t.Fatalf("%d addresses in one round: %q", len(round), round)
		}
		for i := range maxKnocks / 2 {
			if !slices.Contains(round, addr(others-1-i)) {
				t.Fatalf("the %dth latest is not looked for", i+1)
			}
		}
		for _, addr := range round {
			tried[addr] = true
		}
	}
	if len(tried) != maxRemembered-1 {
		t.Errorf("of %d missing nodes %d were looked for", maxRemembered-1, len(tried))
	}
	tb.NotifyLeave(stays)
	if round := tb.missing(); !slices.Contains(round, addr(others)) {
		t.Errorf("one that has just gone is not looked for: %q", round)
	}
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	core, seen := observer.New(zapcore.DebugLevel)
	l := newLogger(zap.New(core))
	for range 10 * logBurst {
		l.std().Printf("[ERR] memberlist: Decrypt packet failed: %v from=%s", "no key", "192.0.2.1:7")
	}
	l.std().Printf("[DEBUG] memberlist: Stream connection from=%s", "192.0.2.1:7")
	if got := l.refused.Load(); got != 10*logBurst {
		t.Errorf("%d refused, want %d", got, 10*logBurst)
	}
	if got := seen.Len(); got != logBurst {
		t.Errorf("%d lines, want %d", got, logBurst)
	}
	held, pass := l.admit(time.Now().Add(logWindow))
	if want := 9*logBurst + 1; held != want || !pass {
		t.Errorf("next window: %d held back, %v; want %d", held, pass, want)
	}
}

// No bytes make the decoder panic, and what it takes fits the limits.
func FuzzMessage(f *testing.F) {
	for k, v := range map[kind]any{
		kindState:    announcement{Origin: "a", Incarnation: "1", Seq: 3, Body: []byte("state")},
		kindStates:   []announcement{{Origin: "a", Incarnation: "1", Seq: 3, Body: []byte("state")}, {Origin: "b", Incarnation: "1", Seq: 9, Held: true}},
		kindWant:     want{From: "a"},
		kindWho:      who{Reply: "127.0.0.1:7", From: iam{Nonce: 1, Name: "a", Incarnation: "1", Age: 7}},
		kindIam:      iam{Nonce: 1, Name: "a", Incarnation: "1", Age: 7},
		kindRival:    rival{Name: "a", Addr: "127.0.0.1:7"},
		kindLeave:    goodbye{Name: "a", Incarnation: "1"},
		kindQuestion: call{ID: 1, From: "a", Ticket: 2, Within: 3, Body: []byte("why")},
		kindAnswer:   call{ID: 1, Error: "busy", Body: []byte("why")},
	} {
		msg, err := pack(k, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg)
	}
	f.Add(frame(kindMessage, []byte("payload")))
	f.Fuzz(func(t *testing.T, msg []byte) {
		k, body, err := split(msg)
		if err != nil {
			return
		}
		switch k {
		case kindState:
			again(t, k, body, func(a, b announcement) bool {
				return a.Seq == b.Seq && a.Origin == b.Origin && a.Held == b.Held && bytes.Equal(a.Body, b.Body)
			})
		case kindStates:
			again(t, k, body, func(a, b []announcement) bool { return len(a) == len(b) })
		case kindWant:
			again(t, k, body, func(a, b want) bool { return a == b })
		case kindWho:
			again(t, k, body, func(a, b who) bool { return a == b })
		case kindIam:
			again(t, k, body, func(a, b iam) bool { return a == b })
		case kindRival:
			again(t, k, body, func(a, b rival) bool { return a == b })
		case kindLeave:
			again(t, k, body, func(a, b goodbye) bool { return a == b })
		case kindAsk, kindTicket, kindQuestion, kindAnswer:
			again(t, k, body, func(a, b call) bool { return a.ID == b.ID && bytes.Equal(a.Body, b.Body) })
		}
	})
}

// again: what decodes can be encoded, and then decodes to the same.
func again[T any](t *testing.T, k kind, body []byte, same func(a, b T) bool) {
	t.Helper()
	v, err := unpack[T](body)
	if err != nil {
		return
	}
	msg, err := pack(k, v)
	if err != nil {
		t.Fatalf("encode what was decoded: %v", err)
	}
	_, body, err = split(msg)
	if err != nil {
		t.Fatal(err)
	}
	if w, err := unpack[T](body); err != nil || !same(v, w) {
		t.Fatalf("%+v became %+v, %v", v, w, err)
	}
}

func FuzzMeta(f *testing.F) {
	long := strings.Repeat("x", maxName)
	buf, err := packMeta(meta{Instance: long, Incarnation: long})
	if err != nil {
		f.Fatal(err)
	}
	if len(buf) > memberlist.MetaMaxSize {
		f.Fatalf("metadata of %d bytes: memberlist takes %d", len(buf), memberlist.MetaMaxSize)
	}
	f.Add(buf)
	f.Fuzz(func(t *testing.T, buf []byte) {
		m, err := unpackMeta(buf)
		if err == nil && (len(m.Instance) > maxName || !named(m.Incarnation)) {
			t.Errorf("%q: %+v exceeds the limits", buf, m)
		}
	})
}
