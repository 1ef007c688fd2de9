package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sys/unix"
)

// Limits of the transport.
const (
	bindTries      = 10       // with port 0, TCP and UDP must find one port
	maxStreams     = 128      // inbound connections at a time; the oldest makes room for one more
	maxStreamBytes = 20 << 20 // read from one inbound connection
	maxHeldBytes   = 64 << 20 // read from all that are open: memberlist has it in memory until it can be decrypted
	freeBytes      = 64 << 10 // of each that do not count, or junk would keep out what is small, too
	maxDatagram    = 64 << 10
	udpBuffer      = 2 << 20              // of the kernel; it gives what it may
	acceptPause    = 5 * time.Millisecond // after a failed accept or read
)

// What memberlist encrypts begins with a version, which it does not authenticate:
// of two, 0 is the one whose padding is cut off without a look at it. Nobody sends
// that any more, but who has recorded a packet can change the byte, and the process
// that decrypts it panics.
const (
	sealVersion = 1
	sealAt      = 5 // in a stream: after its type and its length; in a packet it is the first byte
)

var errSeal = errors.New("not encrypted, or in a way that is not taken")

// transport is memberlist's network. Compared with memberlist's own it copies
// each packet into a buffer of its size (instead of 64 KiB per packet), never
// blocks in sending a packet, puts a deadline on every connection, bounds the
// inbound ones, keeps out what memberlist decrypts at its peril, and ends all of
// its connections when it is shut down.
type transport struct {
	tcp       *net.TCPListener
	udp       *net.UDPConn
	raw       syscall.RawConn // of udp
	v6        bool            // udp is an IPv6 socket
	advertise netip.AddrPort
	dialing   time.Duration // longest wait for a connection
	sealed    bool          // nothing is taken that is not encrypted
	// notice takes the packets that are not memberlist's, without their mark.
	notice func(sealed []byte, from netip.AddrPort)

	packets chan *memberlist.Packet
	streams chan net.Conn

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	open    map[*stream]struct{}
	inbound int
	held    int // bytes, see maxHeldBytes

	shunned atomic.Pointer[shunned] // nil: nothing

	packetsIn, packetsOut, bytesIn, bytesOut, dropped, refused atomic.Uint64
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen binds TCP and UDP to one port. It starts nothing.
func listen(bind netip.AddrPort, dialing time.Duration) (*transport, error) {
	tries := 1
	if bind.Port() == 0 {
		tries = bindTries
	}
	var err error
	for range tries {
		var t *transport
		if t, err = listenOnce(bind, dialing); err == nil {
			return t, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

func listenOnce(bind netip.AddrPort, dialing time.Duration) (*transport, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind))
	if err != nil {
		return nil, err // says "listen tcp ADDR: cause"
	}
	port := tcp.Addr().(*net.TCPAddr).AddrPort().Port()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(bind.Addr(), port)))
	if err != nil {
		tcp.Close()
		return nil, err
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		tcp.Close()
		udp.Close()
		return nil, fmt.Errorf("open UDP socket: %w", err)
	}
	// Bursts survive in a larger buffer; a smaller one is no failure.
	_ = udp.SetReadBuffer(udpBuffer)
	_ = udp.SetWriteBuffer(udpBuffer)
	t := &transport{
		tcp: tcp, udp: udp, raw: raw, dialing: dialing,
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
		open:    make(map[*stream]struct{}),
	}
	t.v6, err = isV6(raw)
	if err == nil && bind.Addr().IsUnspecified() {
		err = tellDestination(raw, t.v6)
	}
	if err != nil {
		tcp.Close()
		udp.Close()
		return nil, fmt.Errorf("read UDP socket: %w", err)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

func isV6(raw syscall.RawConn) (v6 bool, err error) {
	cerr := raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(int(fd)); err == nil {
			_, v6 = sa.(*unix.SockaddrInet6)
		}
	})
	return v6, errors.Join(cerr, err)
}

// tellDestination makes the socket say at which of the host's addresses a packet came.
func tellDestination(raw syscall.RawConn, v6 bool) (err error) {
	level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
	if v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(cerr, err)
}

// destination reads what tellDestination has asked for.
func destination(control []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[8:])) // behind the interface and the local address
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data)).Unmap()
		}
	}
	return netip.Addr{}
}

// shunned is an address of this host at which nothing is taken for a while.
type shunned struct {
	addr  netip.Addr
	until time.Time
}

// shun takes nothing more at an address of this host, for a while.
func (t *transport) shun(addr netip.Addr, d time.Duration) {
	t.shunned.Store(&shunned{addr.Unmap(), time.Now().Add(d)})
}

func (t *transport) shuns(at func() netip.Addr) bool {
	s := t.shunned.Load()
	return s != nil && time.Now().Before(s.until) && at() == s.addr
}

// bound is the address the listeners have.
func (t *transport) bound() netip.AddrPort {
	return unmap(t.tcp.Addr().(*net.TCPAddr).AddrPort())
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// start begins to receive. advertise is what other nodes will be told.
func (t *transport) start(advertise netip.AddrPort) {
	t.advertise = advertise
	t.wg.Go(t.acceptStreams)
	t.wg.Go(t.readPackets)
}

// FinalAdvertiseAddr is part of memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// PacketCh is part of memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is part of memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo is part of memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends one packet and never waits: packets for a neighbour
// that does not answer ARP fill the socket's buffer, and would then hold up
// those for everybody else. What finds the buffer full is lost, as packets are.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	addr, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send packet: %w", err)
	}
	var sent error
	err = t.raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT, t.sockaddr(addr))
		return true
	})
	now := time.Now()
	switch {
	case err != nil:
		return now, err
	case errors.Is(sent, unix.EAGAIN), errors.Is(sent, unix.ENOBUFS):
		t.dropped.Add(1)
		return now, nil
	case sent != nil:
		// In this form memberlist's prober knows it for a failure to reach.
		return now, &net.OpError{Op: "write", Net: "udp", Addr: net.UDPAddrFromAddrPort(addr), Err: sent}
	}
	t.packetsOut.Add(1)
	t.bytesOut.Add(uint64(len(b)))
	return now, nil
}

func (t *transport) sockaddr(a netip.AddrPort) unix.Sockaddr {
	if t.v6 {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	if !a.Addr().Unmap().Is4() {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()} // the kernel says EAFNOSUPPORT
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
}

// DialTimeout is part of memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout connects. The whole exchange has timeout to end, because
// memberlist sets no deadline when it sends a user message.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, min(timeout, t.dialing))
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		c.Close()
		return nil, err
	}
	return t.track(c, false)
}

// track makes Shutdown close the connection.
func (t *transport) track(c net.Conn, inbound bool) (*stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		c.Close()
		return nil, fmt.Errorf("connect %s: %w", c.RemoteAddr(), ErrStopped)
	}
	if inbound && t.inbound >= maxStreams {
		t.makeRoom()
	}
	s := &stream{Conn: c, t: t, inbound: inbound, left: maxStreamBytes, since: time.Now()}
	t.open[s] = struct{}{}
	if inbound {
		t.inbound++
	}
	return s, nil
}

// makeRoom closes the oldest inbound connection: a message takes milliseconds, and
// who only connects, by fault or on purpose, keeps nobody else out. t.mu is held.
func (t *transport) makeRoom() {
	var oldest *stream
	for s := range t.open {
		if s.inbound && (oldest == nil || s.since.Before(oldest.since)) {
			oldest = s
		}
	}
	oldest.untrack()
	oldest.Conn.Close()
	t.dropped.Add(1)
}

// stream is one connection.
type stream struct {
	net.Conn
	t       *transport
	inbound bool
	since   time.Time
	left    int // bytes that may still be read; touched by the reader alone
	held    int // bytes of t.held
}

func (s *stream) Read(b []byte) (int, error) {
	if s.left <= 0 {
		return 0, fmt.Errorf("read stream: %w", io.ErrShortBuffer)
	}
	n, err := s.Conn.Read(b[:min(len(b), s.left)])
	if at := sealAt - (maxStreamBytes - s.left); s.t.sealed && 0 <= at && at < n && b[at] != sealVersion {
		return 0, fmt.Errorf("read stream: %w", errSeal)
	}
	s.left -= n
	if !s.hold(n) {
		return 0, fmt.Errorf("read stream: %w", ErrFull)
	}
	return n, err
}

// hold is false if n more bytes are too many.
func (s *stream) hold(n int) bool {
	if !s.inbound || maxStreamBytes-s.left <= freeBytes {
		return true
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if _, open := s.t.open[s]; !open || s.t.held+n > maxHeldBytes {
		return false
	}
	s.held += n
	s.t.held += n
	return true
}

func (s *stream) Close() error {
	s.t.mu.Lock()
	s.untrack()
	s.t.mu.Unlock()
	return s.Conn.Close()
}

// untrack undoes track, once. t.mu is held.
func (s *stream) untrack() {
	if _, open := s.t.open[s]; !open {
		return
	}
	delete(s.t.open, s)
	s.t.held -= s.held
	if s.inbound {
		s.t.inbound--
	}
}

func (t *transport) acceptStreams() {
	for {
		c, err := t.tcp.Accept()
		if err != nil {
			if !t.pause() {
				return
			}
			continue // out of descriptors, or the peer is gone already
		}
		s, err := t.track(c, true)
		if err != nil {
			t.dropped.Add(1)
			continue
		}
		if t.shuns(func() netip.Addr { return unmap(c.LocalAddr().(*net.TCPAddr).AddrPort()).Addr() }) {
			s.Close()
			continue
		}
		select {
		case t.streams <- s:
		case <-t.ctx.Done():
			s.Close()
			return
		}
	}
}

func (t *transport) readPackets() {
	buf := make([]byte, maxDatagram)
	control := make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	for {
		n, told, _, from, err := t.udp.ReadMsgUDPAddrPort(buf, control)
		if err != nil {
			if !t.pause() {
				return
			}
			continue
		}
		if n == 0 {
			continue
		}
		t.packetsIn.Add(1)
		t.bytesIn.Add(uint64(n))
		if buf[0] == noticeMark {
			t.notice(buf[1:n], from)
			continue
		}
		if t.sealed && buf[0] != sealVersion {
			t.refused.Add(1)
			continue
		}
		if t.shuns(func() netip.Addr { return destination(control[:told]) }) {
			continue
		}
		p := &memberlist.Packet{
			Buf:       append([]byte(nil), buf[:n]...),
			From:      net.UDPAddrFromAddrPort(from),
			Timestamp: time.Now(),
		}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// pause keeps a failing accept or read from spinning; false means shut down.
func (t *transport) pause() bool {
	timer := time.NewTimer(acceptPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// Shutdown is part of memberlist.Transport. It closes everything and waits for
// the receivers.
func (t *transport) Shutdown() error {
	t.cancel()
	t.tcp.Close()
	t.udp.Close()
	t.mu.Lock()
	for s := range t.open {
		s.Conn.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}
