package gossip

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// What is said of rounds that reach somebody (+) or nobody (-), one a minute.
func TestSolitude(t *testing.T) {
	t.Parallel()
	for rounds, want := range map[string]string{
		"+++":           "   ",
		"-+-+":          "    ", // one round is not enough
		"--+":           " !.",
		"---+--":        " ! . !",
		"------+":       " !    .",
		"-------------": " !    !    ! ", // at most every five minutes
		"-------+-+--+": " !    !.   !.",
	} {
		var s solitude
		now, got := time.Now(), ""
		for _, r := range rounds {
			now = now.Add(time.Minute)
			switch says, over := s.next(now, r == '-'); {
			case says && over:
				t.Fatal("both at once")
			case says:
				got += "!"
			case over:
				got += "."
			default:
				got += " "
			}
		}
		if got != want {
			t.Errorf("rounds %q: said %q, want %q", rounds, got, want)
		}
	}
}

func TestRoundNamesPeers(t *testing.T) {
	t.Parallel()
	r := &round{err: errors.New("why")}
	if r.alone() {
		t.Error("without a configured peer nobody is missed")
	}
	for c := range "abcdefghij" {
		r.peers = append(r.peers, string(rune('j'-c))+":1")
	}
	if got, want := r.String(), "a:1, b:1, c:1, d:1, e:1, f:1, g:1, h:1 and 2 more: why"; got != want || !r.alone() {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A node that reaches no peer says which and why, once, and when that is over.
func TestAloneIsSaid(t *testing.T) {
	t.Parallel()
	reserved := start(t, config("b"))
	addr := reserved.Addr()
	reserved.crash()
	core, seen := observer.New(zapcore.InfoLevel)
	_, port, _ := net.SplitHostPort(addr)
	cfg := config("a", addr, "no-such-host.invalid:"+port, "localhost:"+port)
	cfg.Log = zap.New(core)
	a := start(t, cfg)
	said := func(event string) (found []string) {
		for _, e := range seen.All() {
			if e.ContextMap()["event"] == event {
				found = append(found, e.Level.String()+": "+e.Message)
			}
		}
		return found
	}
	eventually(t, "a says that it is alone", func() bool { return len(said("alone")) > 0 })
	want := regexp.MustCompile("^warn: no peer can be reached, of " + regexp.QuoteMeta(addr+", localhost:"+port+", no-such-host.invalid:"+port) +
		": (.*connect: connection refused|lookup no-such-host.invalid.*)$")
	if got := said("alone"); !want.MatchString(got[0]) {
		t.Errorf("it says %q, want %v", got[0], want)
	}
	cfg = config("b")
	cfg.Bind = addr
	meet(t, a, start(t, cfg))
	eventually(t, "a says that it is no longer alone", func() bool { return len(said("not-alone")) > 0 })
	if got := said("not-alone"); !slices.Equal(got, []string{"info: a peer is reached"}) || len(said("alone")) != 1 {
		t.Errorf("it says %q and %q", said("alone"), got)
	}
}

// That the others have another key is said as such.
func TestAloneWithAnotherKey(t *testing.T) {
	t.Parallel()
	b := start(t, config("b"))
	core, seen := observer.New(zapcore.WarnLevel)
	cfg := config("a", b.Addr())
	cfg.Keys, cfg.Log = [][]byte{bytes.Repeat([]byte{8}, 32)}, zap.New(core)
	start(t, cfg)
	eventually(t, "a says that it is alone", func() bool { return seen.Len() > 0 })
	if got := seen.All()[0].Message; !strings.HasSuffix(got, b.Addr()+": no installed keys could decrypt the message") {
		t.Errorf("it says %q", got)
	}
}

// A node is not company for itself, though its name in the list of peers has
// another address here than the one it advertises.
func TestAloneAmongItsOwnAddresses(t *testing.T) {
	t.Parallel()
	cfg := config("a")
	cfg.Bind, cfg.Advertise = "0.0.0.0:0", "127.0.0.1"
	reserved := start(t, cfg)
	_, port, _ := net.SplitHostPort(reserved.Addr())
	reserved.crash()
	cfg.Bind, cfg.Join = "0.0.0.0:"+port, []string{"a", "127.0.0.1:1"}
	cfg.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.1.1")}, nil // as in Debian's /etc/hosts
	}
	n := start(t, cfg)
	if r := n.joinMissing(n.ctx); !r.alone() || r.String() != "127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused" {
		t.Errorf("alone: %v, of %s", r.alone(), r)
	}
}
