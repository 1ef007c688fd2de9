package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	defaultRejoin = 10 * time.Second
	// defaultPort stands in for a join entry's missing port when this node's
	// own is chosen by the kernel.
	defaultPort = 7946
	// startWait bounds how long Start waits for the first peers.
	startWait = 2 * time.Second
	// secondLook is when a round is repeated for peers that were reached but
	// are still not members: each side first has to learn that the other
	// thinks it dead, and refute that.
	secondLook = time.Second

	resolveTime   = 2 * time.Second
	maxResolved   = 64 // addresses taken from one DNS answer
	roundParallel = 16 // look-ups or connections at a time
)

// peer is one entry of Config.Join.
type peer struct {
	host string // a DNS name, or empty
	ip   netip.Addr
	port uint16
	mdns bool // whoever answers on the links of this host; the rest is empty
}

func (p peer) String() string {
	switch {
	case p.mdns:
		return mdnsWord
	case p.ip.IsValid():
		return netip.AddrPortFrom(p.ip, p.port).String()
	}
	return net.JoinHostPort(p.host, strconv.Itoa(int(p.port)))
}

func parseJoin(entries []string, ownPort uint16) ([]peer, error) {
	if ownPort == 0 {
		ownPort = defaultPort
	}
	var peers []peer
	for _, entry := range entries {
		p, err := parsePeer(entry, ownPort)
		if err != nil {
			return nil, fmt.Errorf("join %q: %w", entry, err)
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// CheckPeer says whether an entry can stand in Config.Join.
func CheckPeer(entry string) error {
	_, err := parsePeer(entry, defaultPort)
	return err
}

func parsePeer(entry string, port uint16) (peer, error) {
	if entry == mdnsWord {
		return peer{mdns: true}, nil
	}
	host := entry
	if ip, err := netip.ParseAddr(entry); err == nil { // an IPv6 address without a port has colons
		return peer{ip: ip.Unmap(), port: port}, nil
	}
	if strings.Contains(entry, ":") {
		h, text, err := net.SplitHostPort(entry)
		if err != nil {
			return peer{}, errors.New("want host:port")
		}
		number, err := strconv.ParseUint(text, 10, 16)
		if err != nil || number == 0 {
			return peer{}, fmt.Errorf("bad port %q", text)
		}
		host, port = h, uint16(number)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return peer{ip: ip.Unmap(), port: port}, nil
	}
	if !isHostname(host) {
		return peer{}, fmt.Errorf("bad host name %q", host)
	}
	return peer{host: host, port: port}, nil
}

func isHostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	numeric := true
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		numeric = true
		for _, c := range []byte(label) {
			switch {
			case c >= '0' && c <= '9':
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
				numeric = false
			default:
				return false
			}
		}
	}
	return !numeric // 1.2.3 and 300.1.1.1 are mistyped addresses
}

// resolve gives the addresses of a peer as they are now.
func (n *Node) resolve(ctx context.Context, p peer) ([]string, error) {
	if p.mdns {
		return n.findMDNS(ctx)
	}
	if p.ip.IsValid() {
		return []string{netip.AddrPortFrom(p.ip, p.port).String()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	ips, err := n.cfg.lookup(ctx, "ip", p.host)
	if err != nil {
		return nil, err // says "lookup HOST: cause"
	}
	var addrs []string
	for _, ip := range ips[:min(len(ips), maxResolved)] {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), p.port).String())
	}
	return addrs, nil
}

// runRejoin looks for missing peers for ever. It closes first after one round.
func (n *Node) runRejoin(ctx context.Context, first chan<- struct{}) {
	var alone solitude
	for {
		next := time.Now().Add(n.rejoinPause())
		round := n.joinMissing(ctx)
		if first != nil {
			close(first)
			first = nil
		}
		if round.missing && wait(ctx, secondLook) {
			round = n.joinMissing(ctx)
		}
		if ctx.Err() == nil {
			alone.log(n.log, time.Now(), round)
		}
		if !wait(ctx, time.Until(next)) {
			return
		}
	}
}

// rejoinPause is RejoinInterval, less up to 30 % so that nodes started together
// do not knock together.
func (n *Node) rejoinPause() time.Duration {
	pause := n.cfg.RejoinInterval
	return pause - rand.N(pause*3/10+1)
}

// wait is false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// joinMissing tries every address, configured or remembered, where no member
// is.
func (n *Node) joinMissing(ctx context.Context) *round {
	r := &round{}
	own := n.ownAddrs()
	addrs := append(n.resolvePeers(ctx, r, own), n.table.missing()...)
	if n.haunted() {
		for _, m := range n.table.others() {
			addrs = append(addrs, m.Addr)
		}
	} else {
		addrs = slices.DeleteFunc(addrs, n.table.liveAt)
	}
	addrs = slices.DeleteFunc(addrs, own)
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)

	each(ctx, addrs, func(addr string) {
		if _, err := n.list.Join([]string{addr}); err != nil {
			n.log.Debug("peer not joined", zap.String("addr", addr), zap.Error(err))
			r.failed(joinError(addr, err))
		} else {
			r.joined(n.table.liveAt(addr))
		}
	})
	if len(n.table.others()) > 0 { // whoever called whom
		r.joined(true)
	}
	return r
}

// ownAddrs tells this node's own addresses from others: the one it advertises
// and, where it listens on all of the host's, those with its port. Debian has a
// host's name at 127.0.1.1 on that host, and all nodes may have one list of peers.
func (n *Node) ownAddrs() (own func(addr string) bool) {
	bound := n.transport.bound()
	var here []netip.Addr
	if bound.Addr().IsUnspecified() {
		addrs, _ := net.InterfaceAddrs() // without them a node knocks at its own door
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				here = append(here, p.Addr().Unmap())
			}
		}
	}
	return func(addr string) bool {
		if addr == n.Addr() {
			return true
		}
		a, err := netip.ParseAddrPort(addr)
		if err != nil || a.Port() != bound.Port() || !bound.Addr().IsUnspecified() || bound.Addr().Is4() && !a.Addr().Is4() {
			return false
		}
		return a.Addr().IsLoopback() || slices.Contains(here, a.Addr())
	}
}

// resolvePeers lists the addresses of the configured peers.
func (n *Node) resolvePeers(ctx context.Context, r *round, own func(addr string) bool) (addrs []string) {
	var mu sync.Mutex
	each(ctx, n.peers, func(p peer) {
		found, err := n.resolve(ctx, p)
		switch {
		case err != nil:
			n.log.Debug("peer not resolved", zap.Error(err))
			r.failed(err)
		case p.mdns && len(found) == 0:
			r.failed(errors.New("nobody answers to multicast DNS"))
		}
		mu.Lock()
		defer mu.Unlock()
		addrs = append(addrs, found...)
		if len(found) == 0 || slices.ContainsFunc(found, func(addr string) bool { return !own(addr) }) {
			r.peers = append(r.peers, p.String())
		}
	})
	return addrs
}

// each calls do for every item, roundParallel at a time, until ctx ends.
func each[T any](ctx context.Context, items []T, do func(T)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, roundParallel)
	for _, item := range items {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			do(item)
		})
	}
}
