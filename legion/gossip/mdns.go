package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Peers on the same link are found by multicast DNS (RFC 6762, 6763): each
// node answers for itself, and asks with every round of joining, telling whom
// it knows so that only the others answer. What is found is a place to knock
// at, no more; who may come in is for the keys to say.
//
// Questions leave from a port of their own and are answered to it (section
// 6.7), so that nothing is to be known of other responders on this host; they
// all share port 5353.
const (
	mdnsWord    = "mdns" // in Config.Join
	mdnsService = "_legion-cron._udp.local."
	mdnsPort    = 5353
	mdnsTTL     = 120 // seconds that an answer may be kept

	mdnsListen  = 500 * time.Millisecond // for answers, each round
	mdnsPerSec  = 100                    // questions answered, at most
	mdnsMessage = 9000                   // bytes, the largest that RFC 6762 allows
	mdnsKnown   = 1200                   // bytes of a question; of more members than fit it does not tell
	maxLabel    = 63
)

// A responder answers for this node.
type responder struct {
	name  string
	addr  netip.AddrPort // advertised
	group netip.AddrPort
	log   *zap.Logger

	conn *net.UDPConn

	mu     sync.Mutex
	links  []netip.Prefix // from where questions are answered
	second time.Time      // in which ...
	spent  int            // ... so many were
}

// listenMDNS opens port 5353, beside whoever else listens there.
func listenMDNS(name string, addr netip.AddrPort, log *zap.Logger) (*responder, error) {
	r := &responder{name: name, addr: addr, log: log, group: netip.AddrPortFrom(netip.MustParseAddr("224.0.0.251"), mdnsPort)}
	network, any := "udp4", "0.0.0.0"
	if addr.Addr().Is6() {
		r.group = netip.AddrPortFrom(netip.MustParseAddr("ff02::fb"), mdnsPort)
		network, any = "udp6", "[::]"
	}
	shared := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}), err)
	}}
	conn, err := shared.ListenPacket(context.Background(), network, fmt.Sprintf("%s:%d", any, mdnsPort))
	if err != nil {
		return nil, err
	}
	r.conn = conn.(*net.UDPConn)
	return r, nil
}

// links are the interfaces that multicast works on, as they are now, and the
// networks behind them.
func links() (all []net.Interface, prefixes []netip.Prefix) {
	interfaces, _ := net.Interfaces() // none: nobody to ask
	for _, i := range interfaces {
		const want = net.FlagUp | net.FlagMulticast
		if i.Flags&want != want || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		all = append(all, i)
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				prefixes = append(prefixes, p.Masked())
			}
		}
	}
	return all, prefixes
}

// join makes the responder hear what is asked on each link. Links come and go:
// it is called with every round.
func (r *responder) join(interfaces []net.Interface, prefixes []netip.Prefix) {
	r.mu.Lock()
	r.links = prefixes
	r.mu.Unlock()
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for _, i := range interfaces {
			var err error
			if r.group.Addr().Is4() {
				err = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: r.group.Addr().As4(), Ifindex: int32(i.Index)})
			} else {
				err = unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: r.group.Addr().As16(), Interface: uint32(i.Index)})
			}
			if err != nil && !errors.Is(err, unix.EADDRINUSE) { // already a member
				r.log.Debug("multicast not joined", zap.String("interface", i.Name), zap.Error(err))
			}
		}
	})
}

// run answers until the connection is closed.
func (r *responder) run() {
	buf := make([]byte, mdnsMessage)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		answer := answerMDNS(r.name, r.addr, buf[:n], from.Port() != mdnsPort)
		if answer == nil || !r.admit(unmap(from), time.Now()) {
			continue
		}
		if from.Port() == mdnsPort { // a full member of the protocol listens to the group
			from = r.group
		}
		_, _ = r.conn.WriteToUDPAddrPort(answer, from) // lost ones are asked for again
	}
}

// admit says whether to answer somebody now: only on the link, and not
// more than mdnsPerSec a second.
func (r *responder) admit(from netip.AddrPort, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.second) >= time.Second {
		r.second, r.spent = now, 0
	}
	for _, p := range r.links {
		if p.Contains(from.Addr().WithZone("")) {
			r.spent++
			return r.spent <= mdnsPerSec
		}
	}
	return false
}

// instance is a node's name under the service; false: it cannot have one.
func instance(name string) (string, bool) {
	if len(name) > maxLabel {
		return "", false
	}
	full := strings.ReplaceAll(name, ".", `\.`) + "." + mdnsService
	_, ok := dns.IsDomainName(full)
	return full, ok
}

func head(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: mdnsTTL}
}

func pointer(to string) *dns.PTR {
	return &dns.PTR{Hdr: head(mdnsService, dns.TypePTR), Ptr: to}
}

// askMDNS packs the question for all but the nodes that are known.
func askMDNS(id uint16, known []string) ([]byte, error) {
	q := new(dns.Msg)
	q.SetQuestion(mdnsService, dns.TypePTR)
	q.Id, q.RecursionDesired, q.Compress = id, false, true
	for _, name := range known {
		full, ok := instance(name)
		if !ok {
			continue
		}
		q.Answer = append(q.Answer, pointer(full))
		if q.Len() > mdnsKnown {
			q.Answer = q.Answer[:len(q.Answer)-1]
			break
		}
	}
	return q.Pack()
}

// answerMDNS answers a question, or returns nil where it is none for this node,
// or the asker knows it. unicast: to be told apart from others by its number.
func answerMDNS(name string, addr netip.AddrPort, question []byte, unicast bool) []byte {
	q := new(dns.Msg)
	full, ok := instance(name)
	if err := q.Unpack(question); err != nil || !ok || q.Response || q.Opcode != dns.OpcodeQuery {
		return nil
	}
	asked := false
	for _, question := range q.Question {
		asked = asked || strings.EqualFold(question.Name, mdnsService) && (question.Qtype == dns.TypePTR || question.Qtype == dns.TypeANY)
	}
	for _, known := range q.Answer {
		if p, ok := known.(*dns.PTR); ok && strings.EqualFold(p.Ptr, full) {
			return nil
		}
	}
	if !asked {
		return nil
	}
	a := new(dns.Msg)
	a.Response, a.Authoritative, a.Compress = true, true, true
	if unicast {
		a.Id, a.Question = q.Id, q.Question
	}
	a.Answer = []dns.RR{pointer(full)}
	a.Extra = []dns.RR{
		&dns.SRV{Hdr: head(full, dns.TypeSRV), Port: addr.Port(), Target: full},
		&dns.TXT{Hdr: head(full, dns.TypeTXT), Txt: []string{""}},
	}
	if addr.Addr().Is4() {
		a.Extra = append(a.Extra, &dns.A{Hdr: head(full, dns.TypeA), A: addr.Addr().AsSlice()})
	} else {
		a.Extra = append(a.Extra, &dns.AAAA{Hdr: head(full, dns.TypeAAAA), AAAA: addr.Addr().AsSlice()})
	}
	packed, err := a.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// readMDNS returns the addresses in an answer to question id.
func readMDNS(id uint16, answer []byte) (addrs []netip.AddrPort) {
	a := new(dns.Msg)
	if err := a.Unpack(answer); err != nil || !a.Response || a.Id != id {
		return nil
	}
	records := append(a.Answer, a.Extra...)
	for _, rr := range records {
		srv, ok := rr.(*dns.SRV)
		if !ok || !dns.IsSubDomain(mdnsService, srv.Hdr.Name) || srv.Port == 0 {
			continue
		}
		for _, rr := range records {
			var ip netip.Addr
			switch host := rr.(type) {
			case *dns.A:
				ip, _ = netip.AddrFromSlice(host.A)
			case *dns.AAAA:
				ip, _ = netip.AddrFromSlice(host.AAAA)
			}
			if ip = ip.Unmap(); strings.EqualFold(rr.Header().Name, srv.Target) && ip.IsValid() && !ip.IsMulticast() && !ip.IsUnspecified() {
				addrs = append(addrs, netip.AddrPortFrom(ip, srv.Port))
			}
		}
	}
	return addrs
}

// startMDNS makes this node answer, if it is to be found that way. That port
// 5353 cannot be had is no failure: it is one way among others.
func (n *Node) startMDNS(advertise netip.AddrPort) {
	wanted := false
	for _, p := range n.peers {
		wanted = wanted || p.mdns
	}
	if !wanted {
		return
	}
	if _, ok := instance(n.cfg.Name); !ok {
		n.log.Warn("mdns: nobody will find this node by a name of that length", zap.String("name", n.cfg.Name), zap.Int("limit", maxLabel))
		return
	}
	r, err := listenMDNS(n.cfg.Name, advertise, n.log)
	if err != nil {
		n.log.Warn("mdns: this node finds others, but is not found", zap.Error(err))
		return
	}
	n.responder = r
	r.join(links())
	n.wg.Go(r.run)
	n.wg.Go(func() { <-n.ctx.Done(); r.conn.Close() })
}

// findMDNS asks on every link and returns who has answered within mdnsListen.
func (n *Node) findMDNS(ctx context.Context) ([]string, error) {
	interfaces, prefixes := links()
	if n.responder != nil {
		n.responder.join(interfaces, prefixes)
	}
	network, group := "udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("224.0.0.251:5353"))
	v6 := n.transport.advertise.Addr().Is6()
	if v6 {
		network, group = "udp6", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[ff02::fb]:5353"))
	}
	conn, err := net.ListenUDP(network, nil)
	if err != nil {
		return nil, fmt.Errorf("ask by mdns: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	known := []string{n.cfg.Name}
	for _, m := range n.table.others() {
		known = append(known, m.Name)
	}
	id := uint16(rand.Uint32())
	question, err := askMDNS(id, known)
	if err != nil {
		return nil, fmt.Errorf("ask by mdns: %w", err)
	}
	for _, i := range interfaces {
		if err := from(conn, i, v6); err != nil {
			n.log.Debug("mdns: not asked", zap.String("interface", i.Name), zap.Error(err))
		} else if _, err := conn.WriteToUDP(question, group); err != nil {
			n.log.Debug("mdns: not asked", zap.String("interface", i.Name), zap.Error(err))
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(mdnsListen)); err != nil {
		return nil, fmt.Errorf("ask by mdns: %w", err)
	}
	var found []string
	buf := make([]byte, mdnsMessage)
	for len(found) < maxResolved {
		size, _, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			continue
		}
		for _, addr := range readMDNS(id, buf[:size]) {
			found = append(found, addr.String())
		}
	}
	return found[:min(len(found), maxResolved)], nil
}

// from makes what conn sends to a group leave by an interface.
func from(conn *net.UDPConn, i net.Interface, v6 bool) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if v6 {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, i.Index)
		} else {
			set = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(i.Index)})
		}
	})
	return errors.Join(err, set)
}
