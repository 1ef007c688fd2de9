package gossip

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// proxy stands at a node's advertised address: it records what comes, can play
// it again, and can lose everything.
type proxy struct {
	*transport // for its pair of sockets alone
	target     netip.AddrPort
	out        *net.UDPConn
	cut        atomic.Bool

	mu      sync.Mutex
	packets [][]byte
	streams []*bytes.Buffer
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	tr, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return &proxy{transport: tr, out: out}
}

// behind starts a node whose peers see it at the proxy's address.
func behind(t *testing.T, p *proxy, cfg Config) *testNode {
	t.Helper()
	cfg.Advertise = p.bound().String()
	n := start(t, cfg)
	p.target = n.transport.bound()
	p.wg.Go(p.forwardPackets)
	p.wg.Go(p.forwardStreams)
	t.Cleanup(func() {
		p.Shutdown()
		p.out.Close()
	})
	return n
}

func (p *proxy) forwardPackets() {
	buf := make([]byte, maxDatagram)
	for {
		n, err := p.udp.Read(buf)
		if err != nil {
			return
		}
		if p.cut.Load() {
			continue
		}
		p.mu.Lock()
		p.packets = append(p.packets, bytes.Clone(buf[:n]))
		p.mu.Unlock()
		_, _ = p.out.WriteToUDPAddrPort(buf[:n], p.target)
	}
}

func (p *proxy) forwardStreams() {
	for {
		c, err := p.tcp.Accept()
		if err != nil {
			return
		}
		if p.cut.Load() {
			c.Close()
			continue
		}
		record := new(bytes.Buffer)
		p.mu.Lock()
		p.streams = append(p.streams, record)
		p.mu.Unlock()
		p.wg.Go(func() { p.forwardStream(c, record) })
	}
}

func (p *proxy) forwardStream(c net.Conn, record *bytes.Buffer) {
	defer c.Close()
	server, err := net.Dial("tcp", p.target.String())
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(c, server)
		c.Close() // the node hung up
	})
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		p.mu.Lock()
		record.Write(buf[:n])
		p.mu.Unlock()
		if _, werr := server.Write(buf[:n]); err != nil || werr != nil {
			_ = server.(*net.TCPConn).CloseWrite()
			break
		}
	}
	both.Wait()
}

// replay plays all that was recorded, the latest first, to the node.
func (p *proxy) replay(t *testing.T, n *testNode) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.packets) - 1; i >= 0; i-- {
		before := n.Stats().PacketsReceived
		if _, err := p.out.WriteToUDPAddrPort(p.packets[i], p.target); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the packet arrives", func() bool { return n.Stats().PacketsReceived > before })
	}
	for i := len(p.streams) - 1; i >= 0; i-- {
		c, err := net.Dial("tcp", p.target.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(p.streams[i].Bytes())
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the node is done with it
		c.Close()
	}
}

// What a listener on the network recorded does nothing when it is played again.
func TestReplay(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	b := behind(t, p, config("b"))
	a := start(t, config("a", p.bound().String()))
	meet(t, a, b)
	for _, state := range []string{"one", "two"} {
		a.announceState(state)
		eventually(t, "b hears it", func() bool { return b.lastMerged() == state })
	}
	if _, err := a.Call(t.Context(), "b", []byte("trigger")); err != nil {
		t.Fatal(err)
	}
	p.replay(t, b)
	check := func(life, state string) {
		t.Helper()
		if n := b.served.Load(); n != 1 {
			t.Errorf("the question was served %d times", n)
		}
		if got := b.lastMerged(); got != state {
			t.Errorf("b holds %q for the state of a, want %q", got, state)
		}
		if m, ok := b.table.get("a"); !ok || m.Incarnation != life {
			t.Errorf("b holds a for %+v, want %s", m, life)
		}
	}
	check("a-1", "two")

	// Nor does it after the other has been restarted.
	cfg := config("a", p.bound().String())
	cfg.Bind, cfg.Incarnation = a.Addr(), "a-2"
	a.crash()
	a = start(t, cfg)
	eventually(t, "b sees the new a", func() bool { return b.has("up a a-1", "down a a-1", "up a a-2") })
	eventually(t, "b hears the new a", func() bool { return b.lastMerged() == "state of a-2" })
	p.replay(t, b)
	check("a-2", "state of a-2")
	if _, err := a.Call(t.Context(), "b", []byte("again")); err != nil {
		t.Errorf("call after the replay: %v", err)
	}
}

// The halves of a partition find each other again.
func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	pa, pb := newProxy(t), newProxy(t)
	cfgA, cfgB := config("a"), config("b")
	// memberlist itself gossips to the dead for a while, if it has anything to
	// say, and so heals a short partition. Not this one.
	cfgA.tune = func(c *memberlist.Config) { c.GossipToTheDeadTime = time.Nanosecond }
	cfgB.tune = cfgA.tune
	a, b := behind(t, pa, cfgA), behind(t, pb, cfgB)
	if _, err := a.list.Join([]string{b.Addr()}); err != nil { // they know each other by memory alone
		t.Fatal(err)
	}
	meet(t, a, b)
	for range 2 {
		pa.cut.Store(true)
		pb.cut.Store(true)
		eventually(t, "each is alone", func() bool { return len(a.Members()) == 1 && len(b.Members()) == 1 })
		pa.cut.Store(false)
		pb.cut.Store(false)
		meet(t, a, b)
	}
	eventually(t, "a was told", func() bool { return a.has("up b b-1", "down b b-1", "up b b-1", "down b b-1", "up b b-1") })
	b.announceState("back")
	eventually(t, "a hears b", func() bool { return a.lastMerged() == "back" })
}
