package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

const (
	// leaveTime bounds the goodbye in Stop.
	leaveTime = 100 * time.Millisecond
	// leavePause lets the goodbye arrive before memberlist's word of it, which
	// does not tell leaving from failing.
	leavePause = 5 * time.Millisecond
	// maxGoodbyes is how many members are told by stream; they pass it on.
	maxGoodbyes = 5
	// maxLocal bounds messages to this node itself that are not yet delivered.
	maxLocal = 256
	// Longest waits for a connection, and for an answer to who.
	dialLAN, dialWAN = 3 * time.Second, 10 * time.Second
	whoLAN, whoWAN   = 300 * time.Millisecond, time.Second
)

// Node is this node's part in the gossip. Its methods may be called
// concurrently.
type Node struct {
	cfg   Config
	log   *zap.Logger
	peers []peer // Config.Join
	meta  []byte
	born  time.Time // monotonic

	lines     *logger
	keyring   *memberlist.Keyring // nil: not encrypted
	transport *transport
	list      *memberlist.Memberlist
	rumours   memberlist.TransmitLimitedQueue
	table     *table
	states    *states
	merging   sync.Mutex // held while Config.Merge is called
	calls     *calls
	gate      gate
	whoTime   time.Duration // wait for an answer to who
	probing   time.Duration // memberlist's interval
	responder *responder    // nil: not to be found by mdns

	announce  chan struct{} // 1: the state is to be announced
	rivals    chan string   // 1: an address where our name is held
	conflicts chan conflict // of others' names
	local     chan []byte   // messages to ourselves

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	wg     sync.WaitGroup
	done   chan struct{} // closed when Stop has finished

	junk, dropped atomic.Uint64

	mu       sync.Mutex
	stopping bool
	senders  map[string]*sender
	asked    map[uint64]chan<- iam
	ghost    time.Time // last sign of a namesake
}

// Start opens the sockets and tries once to find the peers, for startWait at
// most. That none is there is no error: they are tried for ever. Errors are
// bad values in cfg, an address that cannot be bound, and ErrNameTaken.
func Start(cfg Config) (*Node, error) {
	n, err := newNode(cfg)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	n.startMDNS(n.transport.advertise)
	first := make(chan struct{})
	n.wg.Go(func() { n.runRejoin(n.ctx, first) })
	n.wg.Go(func() { n.runAnnounce(n.ctx) })
	n.wg.Go(func() { n.runEvents(n.ctx) })
	n.wg.Go(func() { n.runLocal(n.ctx) })
	if addr, taken := n.nameTaken(first); taken {
		n.kill() // without a goodbye, which would be said in the other's name
		return nil, fmt.Errorf("start gossip: node %q at %s: %w", cfg.Name, addr, ErrNameTaken)
	}
	n.wg.Go(func() { n.runContest(n.ctx) })
	return n, nil
}

// nameTaken waits for the first round of joining and settles a conflict that
// it brought to light.
func (n *Node) nameTaken(first <-chan struct{}) (addr string, taken bool) {
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case <-first:
	case <-timer.C:
	}
	select {
	case addr = <-n.rivals:
		return addr, n.contest(n.ctx, addr)
	default:
		return "", false
	}
}

// newNode checks cfg and opens the sockets.
func newNode(cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.lookup == nil {
		cfg.lookup = net.DefaultResolver.LookupNetIP
	}
	if cfg.RejoinInterval <= 0 {
		cfg.RejoinInterval = defaultRejoin
	}
	for what, s := range map[string]string{"name": cfg.Name, "instance": cfg.Instance, "incarnation": cfg.Incarnation} {
		if !named(s) {
			return nil, fmt.Errorf("%s %.*q: want 1 to %d bytes", what, maxName, s, maxName)
		}
	}
	bind, err := netip.ParseAddrPort(cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("bind %q: want ip:port", cfg.Bind)
	}
	peers, err := parseJoin(cfg.Join, bind.Port())
	if err != nil {
		return nil, err
	}
	meta, err := packMeta(meta{Instance: cfg.Instance, Incarnation: cfg.Incarnation})
	if err != nil {
		return nil, err
	}
	keyring, err := newKeyring(cfg.Keys)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, peers: peers, meta: meta, born: time.Now(), keyring: keyring,
		lines: newLogger(cfg.Log), calls: newCalls(), states: newStates(cfg.Name, cfg.Incarnation),
		announce: make(chan struct{}, 1), rivals: make(chan string, 1), conflicts: make(chan conflict, maxConflicts), local: make(chan []byte, maxLocal),
		done: make(chan struct{}), senders: make(map[string]*sender), asked: make(map[uint64]chan<- iam), whoTime: whoLAN,
	}
	dialing := dialLAN
	if cfg.WAN {
		dialing, n.whoTime = dialWAN, whoWAN
	}
	n.transport, err = listen(bind, dialing)
	if err != nil {
		return nil, err
	}
	advertise, err := advertised(cfg.Advertise, n.transport.bound(), peers)
	if err == nil && keyring == nil && !cfg.Insecure &&
		!(n.transport.bound().Addr().IsLoopback() && advertise.Addr().IsLoopback()) {
		err = fmt.Errorf("bind %s: no keys for an address outside loopback", cfg.Bind)
	}
	if err != nil {
		n.transport.Shutdown()
		return nil, err
	}
	n.table = newTable(Member{Name: cfg.Name, Addr: advertise.String(), Instance: cfg.Instance, Incarnation: cfg.Incarnation})
	n.rumours.NumNodes = n.table.size
	n.rumours.RetransmitMult = memberlist.DefaultLANConfig().RetransmitMult
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.gate.shut = true // until n.list is set, nobody may call back
	n.transport.notice = n.heardNotice
	n.transport.sealed = keyring != nil
	n.transport.start(advertise)
	list, err := memberlist.Create(n.memberlistConfig())
	if err != nil {
		n.transport.Shutdown()
		return nil, err
	}
	n.list = list
	n.gate.open()
	return n, nil
}

func (n *Node) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	if n.cfg.WAN {
		c = memberlist.DefaultWANConfig()
	}
	if n.cfg.ProbeInterval > 0 {
		c.ProbeInterval = n.cfg.ProbeInterval
		c.ProbeTimeout = min(c.ProbeTimeout, c.ProbeInterval/2)
	}
	n.probing = c.ProbeInterval
	c.Name = n.cfg.Name
	c.Transport = n.transport
	c.BindPort = int(n.transport.bound().Port())
	c.Keyring = n.keyring
	c.EnableCompression = false // twice the CPU for what CBOR has packed already
	c.DeadNodeReclaimTime = reclaim
	c.Logger = n.lines.std()
	c.Delegate = delegate{n}
	c.Conflict = delegate{n}
	c.Events = n.table
	c.Alive = n.table
	if n.cfg.tune != nil {
		n.cfg.tune(c)
	}
	return c
}

func newKeyring(keys [][]byte) (*memberlist.Keyring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("install keys: %w", err)
	}
	return ring, nil
}

// advertised decides what address the others are told.
func advertised(text string, bound netip.AddrPort, peers []peer) (netip.AddrPort, error) {
	if text != "" {
		if ip, err := netip.ParseAddr(text); err == nil {
			return netip.AddrPortFrom(ip.Unmap(), bound.Port()), nil
		}
		if addr, err := netip.ParseAddrPort(text); err == nil && addr.Port() != 0 {
			return unmap(addr), nil
		}
		return netip.AddrPort{}, fmt.Errorf("advertise %q: want an IP address or ip:port", text)
	}
	if !bound.Addr().IsUnspecified() {
		return bound, nil
	}
	ip, err := facing(peers)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ip, bound.Port()), nil
}

// facing is the local address from which the first peer given by address would
// be reached, or else the first address of this host that is not loopback.
func facing(peers []peer) (netip.Addr, error) {
	for _, p := range peers {
		if !p.ip.IsValid() {
			continue
		}
		// Connecting a UDP socket asks the routing table and sends nothing.
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.ip, p.port)))
		if err != nil {
			continue
		}
		addr := unmap(c.LocalAddr().(*net.UDPAddr).AddrPort()).Addr()
		c.Close()
		return addr, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("advertise: this host has no address but loopback, name one")
}

// Addr is the advertised ip:port.
func (n *Node) Addr() string { return n.table.self.Addr }

// Members are the live nodes, this one included, sorted by name.
func (n *Node) Members() []Member {
	list := append(n.table.others(), n.table.self)
	sortMembers(list)
	return list
}

// Send sends a message to one node, without waiting and without a promise that
// it arrives. A node that is thought to have failed is sent to where it was
// last: a partition that has healed is no obstacle, however long the membership
// takes to notice. One to this node itself is delivered by another goroutine. Errors
// are ErrUnknown, ErrFull, ErrTooLarge, ErrStopped and those of the socket.
func (n *Node) Send(name string, msg []byte) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("send to %s: %w", name, ErrTooLarge)
	}
	if err := n.send(name, msg); err != nil {
		return fmt.Errorf("send to %s: %w", name, err)
	}
	return nil
}

func (n *Node) send(name string, msg []byte) error {
	if n.ctx.Err() != nil {
		return ErrStopped
	}
	if name == n.cfg.Name {
		select {
		case n.local <- append([]byte(nil), msg...):
			return nil
		default:
			n.dropped.Add(1)
			return ErrFull
		}
	}
	m, ok := n.table.find(name)
	if !ok {
		return ErrUnknown
	}
	framed := frame(kindMessage, msg)
	if len(framed) > maxPacket {
		return n.sendStream(name, framed)
	}
	return n.sendPacket(m, framed)
}

func (n *Node) sendPacket(m Member, framed []byte) error {
	return n.list.SendBestEffort(nodeOf(m), framed)
}

// SetKeys replaces the keys, without a gap: from now on keys[0] encrypts and
// all of them decrypt. To rotate, give every node the new key as a second one,
// then as the first, then alone.
func (n *Node) SetKeys(keys [][]byte) error {
	if n.keyring == nil || len(keys) == 0 {
		return errors.New("set keys: encryption cannot be turned on or off while running")
	}
	for _, key := range keys {
		if err := memberlist.ValidateKey(key); err != nil {
			return fmt.Errorf("set keys: %w", err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range keys {
		if err := n.keyring.AddKey(key); err != nil {
			return fmt.Errorf("set keys: %w", err)
		}
	}
	if err := n.keyring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("set keys: %w", err)
	}
	// What GetKeys returns changes as keys are removed. From the last one on,
	// nothing is moved that somebody is about to try.
	for _, old := range slices.Backward(slices.Clone(n.keyring.GetKeys())) {
		if !contains(keys, old) {
			if err := n.keyring.RemoveKey(old); err != nil {
				return fmt.Errorf("set keys: %w", err)
			}
		}
	}
	return nil
}

// Keys are those in use, the first encrypts; none if nothing is encrypted.
func (n *Node) Keys() [][]byte {
	if n.keyring == nil {
		return nil
	}
	n.mu.Lock() // not while SetKeys has done half of it
	defer n.mu.Unlock()
	return slices.Clone(n.keyring.GetKeys())
}

// Forget stops looking for a node that is gone for good. Configured peers are
// looked for all the same.
func (n *Node) Forget(name string) { n.table.forget(name) }

// Stats counts since Start.
func (n *Node) Stats() Stats {
	t := n.transport
	return Stats{
		Members:     n.table.size(),
		PacketsSent: t.packetsOut.Load(), PacketsReceived: t.packetsIn.Load(),
		BytesSent: t.bytesOut.Load(), BytesReceived: t.bytesIn.Load(),
		Refused: n.lines.refused.Load() + t.refused.Load(), Junk: n.junk.Load(), Dropped: n.dropped.Load() + t.dropped.Load(),
	}
}

// runEvents tells of members coming and going, and lets go of what belonged to
// those that went.
func (n *Node) runEvents(ctx context.Context) {
	for {
		select {
		case <-n.table.dirty:
		case <-ctx.Done():
			return
		}
		for _, e := range n.table.changes() {
			if ctx.Err() != nil {
				return
			}
			n.tell(e)
		}
	}
}

func (n *Node) tell(e Event) {
	if e.Kind == Down {
		n.calls.gone(e.Name)
		n.endSender(e.Name)
		if now, live := n.table.get(e.Name); !live || now.Incarnation != e.Incarnation {
			n.states.down(e.Name, e.Incarnation)
		}
	}
	if n.cfg.Member != nil {
		n.cfg.Member(e)
	}
	if e.Kind == Up {
		n.merging.Lock()
		if a, ok := n.states.up(e.Name, e.Incarnation); ok {
			n.merge(a)
		}
		n.merging.Unlock()
		n.introduce(e.Name)
	}
}

// runLocal delivers what this node sends to itself.
func (n *Node) runLocal(ctx context.Context) {
	for {
		select {
		case msg := <-n.local:
			if n.cfg.Deliver != nil {
				n.cfg.Deliver(msg)
			}
		case <-ctx.Done():
			return
		}
	}
}

// spawn starts a goroutine that Stop waits for, unless it is too late.
func (n *Node) spawn(do func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return false
	}
	n.wg.Go(do)
	return true
}

// Stop says goodbye to the members (for leaveTime at most), closes the sockets
// and waits for every goroutine of this package and every callback. Of
// memberlist's own a few may linger for a probe interval; they reach nobody.
// It fails only when ctx ends first, because a callback does not return.
func (n *Node) Stop(ctx context.Context) error {
	n.mu.Lock()
	first := !n.stopping
	n.stopping = true
	n.mu.Unlock()
	if first {
		n.goodbye(ctx)
		go n.kill()
	}
	select {
	case <-n.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop gossip: %w", ctx.Err())
	}
}

// goodbye tells every member, and some of them in memberlist's own words too,
// for which memberlist alone would need a few of its gossip rounds.
func (n *Node) goodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	others := n.table.others()
	if msg, err := pack(kindLeave, goodbye{Name: n.cfg.Name, Incarnation: n.cfg.Incarnation}); err == nil {
		for _, m := range others {
			_ = n.sendPacket(m, msg) // they find out anyway
		}
	}
	wait(ctx, leavePause)
	// It waits until a round has taken the news; a nanosecond will do.
	_ = n.list.Leave(time.Nanosecond)
	others = others[:min(len(others), maxGoodbyes)]
	told := make(chan struct{}, maxGoodbyes)
	for _, m := range others {
		n.wg.Go(func() {
			_, _ = n.list.Join([]string{m.Addr}) // a push/pull says that we left
			told <- struct{}{}
		})
	}
	for range others {
		select {
		case <-told:
		case <-ctx.Done():
			return
		}
	}
}

// kill shuts down at once.
func (n *Node) kill() {
	n.mu.Lock()
	n.stopping = true
	n.mu.Unlock()
	n.cancel()
	_ = n.list.Shutdown() // fails never
	n.gate.close()
	n.wg.Wait()
	close(n.done)
}

// gate keeps callbacks from being made before memberlist is there and after
// Stop. It counts those under way.
type gate struct {
	mu   sync.RWMutex
	shut bool
}

// enter is false when the gate is shut; else leave must be called.
func (g *gate) enter() (leave func(), ok bool) {
	g.mu.RLock()
	if g.shut {
		g.mu.RUnlock()
		return nil, false
	}
	return g.mu.RUnlock, true
}

func (g *gate) open() {
	g.mu.Lock()
	g.shut = false
	g.mu.Unlock()
}

// close waits for those who are inside.
func (g *gate) close() {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
}

func contains(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if string(k) == string(key) {
			return true
		}
	}
	return false
}
