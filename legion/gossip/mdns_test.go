package gossip

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Who is asked answers with its address, unless the asker knows it.
func TestMDNSAnswers(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"10.0.0.1:4242", "[fe80::1]:7"} {
		at := netip.MustParseAddrPort(addr)
		ask := func(id uint16, known ...string) []byte {
			q, err := askMDNS(id, known)
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
		const name = "db-1.example.org"
		a := answerMDNS(name, at, ask(7, "other", "db-1"), true)
		if got := readMDNS(7, a); !slices.Equal(got, []netip.AddrPort{at}) {
			t.Errorf("answered with %v, want %v", got, at)
		}
		if got := readMDNS(8, a); got != nil {
			t.Errorf("the answer to another question was taken: %v", got)
		}
		if got := readMDNS(0, answerMDNS(name, at, ask(7), false)); !slices.Equal(got, []netip.AddrPort{at}) {
			t.Errorf("the group was answered with %v, want %v", got, at)
		}
		if got := answerMDNS(name, at, ask(7, name), true); got != nil {
			t.Error("answered one who knows us")
		}
		if got := answerMDNS(name, at, a, true); got != nil {
			t.Error("answered an answer")
		}
		if got := answerMDNS(strings.Repeat("x", 64), at, ask(7), true); got != nil {
			t.Error("answered by a name that cannot be written")
		}
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("node-with-a-name-%d", i)
	}
	q, err := askMDNS(1, many)
	if err != nil || len(q) > mdnsKnown {
		t.Errorf("a question of %d bytes, %v; at most %d are allowed", len(q), err, mdnsKnown)
	}
}

// Only the link is answered, and only so often.
func TestMDNSAdmits(t *testing.T) {
	t.Parallel()
	r := &responder{links: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}
	now := time.Unix(1000, 0)
	if r.admit(netip.MustParseAddrPort("192.0.2.1:5353"), now) {
		t.Error("a stranger from afar was answered")
	}
	near := netip.MustParseAddrPort("10.0.0.9:1234")
	answered := 0
	for range 2 * mdnsPerSec {
		if r.admit(near, now) {
			answered++
		}
	}
	if answered != mdnsPerSec {
		t.Errorf("%d answers in a second, want %d", answered, mdnsPerSec)
	}
	if !r.admit(near, now.Add(time.Second)) {
		t.Error("no answer a second later")
	}
}

func FuzzMDNS(f *testing.F) {
	q, _ := askMDNS(1, []string{"a"})
	f.Add(q)
	f.Add(answerMDNS("b", netip.MustParseAddrPort("10.0.0.1:4242"), q, true))
	f.Fuzz(func(t *testing.T, packet []byte) {
		answerMDNS("b", netip.MustParseAddrPort("10.0.0.1:4242"), packet, true)
		for _, addr := range readMDNS(1, packet) {
			if !addr.IsValid() || addr.Port() == 0 {
				t.Errorf("found %v", addr)
			}
		}
	})
}

// A name is looked up with every round: whoever bears it now is joined.
func TestNameMoves(t *testing.T) {
	t.Parallel()
	cfg := config("a")
	cfg.Bind = "127.0.0.2:0"
	a := start(t, cfg)
	port := a.transport.bound().Port()

	var now atomic.Pointer[string]
	point := func(ip string) { now.Store(&ip) }
	point("127.0.0.9") // where nobody is
	var asked atomic.Int32
	cfg = config("b", fmt.Sprintf("peer.example:%d", port))
	cfg.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		asked.Add(1)
		if host != "peer.example" {
			return nil, fmt.Errorf("lookup %s: no such host", host)
		}
		return []netip.Addr{netip.MustParseAddr(*now.Load())}, nil
	}
	b := start(t, cfg)
	eventually(t, "two looks", func() bool { return asked.Load() >= 2 })
	if n := len(b.Members()); n != 1 {
		t.Fatalf("b sees %d members, want itself alone", n)
	}
	point("127.0.0.2")
	eventually(t, "b finds a", func() bool { return len(b.Members()) == 2 })

	// Another node altogether, at another address of the same name.
	stop(t, a)
	cfg = config("c")
	cfg.Bind = fmt.Sprintf("127.0.0.3:%d", port)
	start(t, cfg)
	point("127.0.0.3")
	eventually(t, "b finds c", func() bool {
		return slices.ContainsFunc(b.Members(), func(m Member) bool { return m.Name == "c" })
	})
}
