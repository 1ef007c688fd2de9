package gossip

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

const (
	// ghostRounds is for how many RejoinIntervals after a sign of a namesake every
	// peer is joined again, so that they learn of us once they have buried it. So
	// long after the last word of an elder one we are alone with our name.
	ghostRounds = 6
	// reclaim is how long a failed node keeps its name from another address.
	reclaim = 5 * time.Second

	whoTries     = 3
	contestEvery = 2 * time.Second
	shunProbes   = 15 // that go unanswered at an earlier address of ours: a few are enough to bury it
	maxConflicts = 16 // of others' names, not yet told to them
)

// conflict is another node's name, held at two addresses.
type conflict struct{ name, held, other string }

// suspect notes that our name is held at addr too.
func (n *Node) suspect(addr string) {
	if addr == n.table.self.Addr {
		return
	}
	select {
	case n.rivals <- addr:
	default: // one is being looked at
	}
}

// haunted says whether there was a namesake not long ago.
func (n *Node) haunted() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.ghost.IsZero() && time.Since(n.ghost) < n.ghostTime()
}

func (n *Node) ghostTime() time.Duration {
	return max(ghostRounds*n.cfg.RejoinInterval, ghostRounds*contestEvery/2)
}

func (n *Node) iam() iam {
	return iam{Nonce: nonce(), Name: n.cfg.Name, Incarnation: n.cfg.Incarnation, Age: time.Since(n.born)}
}

// contest asks whoever holds our name at addr for its age. It returns true if
// that one is older: then we are the one to go.
func (n *Node) contest(ctx context.Context, addr string) bool {
	heard := make(chan iam, 1)
	self := n.iam()
	n.mu.Lock()
	n.ghost = time.Now()
	n.asked[self.Nonce] = heard
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.asked, self.Nonce)
		n.mu.Unlock()
	}()
	for range whoTries {
		n.sendAddr(addr, kindWho, who{Reply: n.table.self.Addr, From: self})
		timer := time.NewTimer(n.whoTime)
		select {
		case other := <-heard:
			timer.Stop()
			if other.Incarnation == self.Incarnation {
				n.shun(addr)
			}
			return elder(other, self)
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
	return false
}

// shun stops to answer at an address where we are known from an earlier life, and
// that still leads to this process: each answer to a probe would keep that life alive,
// and this one is ignored as long.
func (n *Node) shun(addr string) {
	if at, err := netip.ParseAddrPort(addr); err == nil {
		n.log.Info("this node is known by an earlier address of its own, which it does not answer at until it is forgotten", zap.String("addr", addr))
		n.transport.shun(at.Addr(), shunProbes*n.probing)
	}
}

// elder says whether other holds our name and goes before us. Those started
// within ageSlack of each other could each think itself the younger, or the
// elder, as the ages travel; they go by their incarnations.
func elder(other, self iam) bool {
	const ageSlack = time.Second
	if other.Name != self.Name || other.Incarnation == self.Incarnation {
		return false
	}
	if d := other.Age - self.Age; d > ageSlack || d < -ageSlack {
		return d > 0
	}
	return other.Incarnation < self.Incarnation
}

// answerWho says who we are. If an older namesake asks, we look into it too.
func (n *Node) answerWho(w who) {
	self := n.iam()
	if elder(w.From, self) {
		n.suspect(w.Reply)
	}
	self.Nonce = w.From.Nonce
	n.sendAddr(w.Reply, kindIam, self)
}

func (n *Node) heardIam(i iam) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if heard, ok := n.asked[i.Nonce]; ok {
		delete(n.asked, i.Nonce)
		heard <- i // has room for the one
	}
}

func (n *Node) heardRival(r rival) {
	if r.Name == n.cfg.Name {
		n.suspect(r.Addr)
	}
}

// sendAddr sends a packet to whoever is at an address, member or not.
func (n *Node) sendAddr(addr string, k kind, v any) {
	msg, err := pack(k, v)
	if err == nil {
		err = n.list.SendToAddress(memberlist.Address{Addr: addr}, msg)
	}
	if err != nil {
		n.log.Debug("namesake not reached", zap.String("addr", addr), zap.Error(err))
	}
}

// runContest settles what becomes known of namesakes after the start: our own
// by asking, others' by telling the two, who may not know of each other.
func (n *Node) runContest(ctx context.Context) {
	over := time.NewTimer(0)
	over.Stop()
	defer over.Stop()
	conflict := func(addr string) {
		if n.cfg.Conflict != nil {
			n.cfg.Conflict(addr)
		}
	}
	for {
		select {
		case addr := <-n.rivals:
			if n.contest(ctx, addr) {
				over.Reset(n.ghostTime())
				conflict(addr)
			}
		case <-over.C:
			conflict("")
		case c := <-n.conflicts:
			n.sendAddr(c.held, kindRival, rival{Name: c.name, Addr: c.other})
			n.sendAddr(c.other, kindRival, rival{Name: c.name, Addr: c.held})
		case <-ctx.Done():
			return
		}
		if !wait(ctx, contestEvery) {
			return
		}
	}
}
