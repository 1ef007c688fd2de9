package gossip

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

// Limits of one peer's queue of large messages.
const (
	maxQueued      = 64
	maxQueuedBytes = 2 * MaxMessage
)

// sender sends to one peer by stream, one message after the other, on a
// goroutine that lives as long as the peer is a member, or, if it is none, until
// all is sent.
type sender struct {
	cancel context.CancelFunc
	wake   chan struct{} // 1: there is something to send

	mu    sync.Mutex
	queue [][]byte
	bytes int
	state []byte // the newest announcement not yet sent
}

// put queues a message, false if there is no room.
func (s *sender) put(msg []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxQueued || s.bytes+len(msg) > maxQueuedBytes {
		return false
	}
	s.queue = append(s.queue, msg)
	s.bytes += len(msg)
	s.notify()
	return true
}

// putState replaces what was announced before.
func (s *sender) putState(state []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	s.notify()
}

func (s *sender) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) next() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 {
		msg := s.queue[0]
		s.queue = s.queue[1:]
		s.bytes -= len(msg)
		return msg
	}
	msg := s.state
	s.state = nil
	return msg
}

func (s *sender) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0 && s.state == nil
}

// sendStream queues msg for a peer's sender, which it starts if need be.
func (n *Node) sendStream(name string, msg []byte) error {
	s, err := n.senderOf(name)
	if err != nil {
		return err
	}
	if !s.put(msg) {
		n.dropped.Add(1)
		return ErrFull
	}
	return nil
}

func (n *Node) senderOf(name string) (*sender, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return nil, ErrStopped
	}
	if s, ok := n.senders[name]; ok {
		return s, nil
	}
	if _, ok := n.table.find(name); !ok {
		return nil, ErrUnknown
	}
	ctx, cancel := context.WithCancel(n.ctx)
	s := &sender{cancel: cancel, wake: make(chan struct{}, 1)}
	n.senders[name] = s
	n.wg.Go(func() { n.runSender(ctx, name, s) })
	return s, nil
}

func (n *Node) runSender(ctx context.Context, name string, s *sender) {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		for msg := s.next(); msg != nil && ctx.Err() == nil; msg = s.next() {
			m, ok := n.table.find(name)
			if !ok {
				break
			}
			if err := n.list.SendReliable(nodeOf(m), msg); err != nil {
				n.dropped.Add(1)
				n.log.Debug("message not sent", zap.String("to", name), zap.Int("bytes", len(msg)), zap.Error(err))
			}
		}
		if n.retire(name, s) {
			return
		}
	}
}

// retire ends the sender of a node that is not live, when it has sent everything or
// knows no address any more. No event will end it: there was one when the node went.
func (n *Node) retire(name string, s *sender) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.senders[name] != s {
		return true
	}
	if _, live := n.table.get(name); live {
		return false
	}
	if _, known := n.table.find(name); known && !s.idle() {
		return false
	}
	s.cancel()
	delete(n.senders, name)
	return true
}

// endSender stops a peer's sender and drops what it had.
func (n *Node) endSender(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.senders[name]; ok {
		s.cancel()
		delete(n.senders, name)
	}
}

// nodeOf makes the handle memberlist wants to send to.
func nodeOf(m Member) *memberlist.Node {
	addr, err := netip.ParseAddrPort(m.Addr)
	if err != nil {
		return &memberlist.Node{Name: m.Name, Addr: net.IPv4zero} // cannot be: memberOf made it
	}
	return &memberlist.Node{Name: m.Name, Addr: addr.Addr().AsSlice(), Port: addr.Port()}
}
