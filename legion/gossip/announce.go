package gossip

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

const (
	// announceEvery is the least time between two announcements of one node.
	announceEvery = 250 * time.Millisecond
	// maxSmall is the largest body that a push/pull tells, in bytes.
	maxSmall = maxPacket - 3*maxName
	// maxDirect is how many members are sent a small announcement at once; with
	// more it travels by gossip alone, which takes a few hundred milliseconds.
	maxDirect = 16
)

// states holds the newest announcement of each node.
type states struct {
	mu    sync.Mutex
	own   announcement
	known map[string]announcement
	early map[string]announcement // of an incarnation not yet seen as member
}

func newStates(name, incarnation string) *states {
	return &states{
		own:   announcement{Origin: name, Incarnation: incarnation},
		known: make(map[string]announcement), early: make(map[string]announcement),
	}
}

// mine is this node's announcement with the given body; a new body gets the
// next number.
func (s *states) mine(body []byte) announcement {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own.Seq == 0 || !bytes.Equal(body, s.own.Body) {
		s.own.Seq++
		s.own.Body = bytes.Clone(body)
	}
	return s.own
}

// take says whether a is news. live is the incarnation the member table has of
// its origin, "" if it is not a member. What does not belong to a member's
// present life is either of a life that is over (or recorded and replayed), or
// of one whose membership has not come round yet: it is kept aside until then.
func (s *states) take(a announcement, live string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Origin == s.own.Origin {
		return false
	}
	if a.Incarnation != live {
		keep(s.early, a)
		return false
	}
	return keep(s.known, a)
}

// keep puts a into a bounded table, unless what is there is as new.
func keep(table map[string]announcement, a announcement) bool {
	old, ok := table[a.Origin]
	if ok && old.Incarnation == a.Incarnation && a.Seq <= old.Seq {
		return false
	}
	if !ok && len(table) >= maxMembers {
		for origin := range table { // any one makes room; push/pull brings it back
			delete(table, origin)
			break
		}
	}
	table[a.Origin] = a
	return true
}

// up is called when a member is seen. It returns the announcement that came
// before, if there was one and it is news.
func (s *states) up(name, incarnation string) (announcement, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.early[name]
	if !ok || a.Incarnation != incarnation {
		return announcement{}, false
	}
	delete(s.early, name)
	return a, keep(s.known, a)
}

// down forgets what an incarnation announced.
func (s *states) down(name, incarnation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[name].Incarnation == incarnation {
		delete(s.known, name)
	}
}

// news says whether a node is at an announcement that is not known here. live
// is as in take.
func (s *states) news(a announcement, live string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.known[a.Origin]
	return a.Origin != s.own.Origin && a.Incarnation == live && (old.Incarnation != live || old.Seq < a.Seq)
}

// all lists what one push/pull says, this node's own first. Large bodies are
// left out: most of what a push/pull compares is the same on both sides.
func (s *states) all() []announcement {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []announcement{s.own.small()}
	for _, a := range s.known {
		if len(list) >= maxOrigins {
			break
		}
		list = append(list, a.small())
	}
	return list
}

// small is the announcement without a body that is too large for a packet.
func (a announcement) small() announcement {
	if len(a.Body) > maxSmall {
		a.Body, a.Held = nil, true
	}
	return a
}

// body asks the owner what to announce.
func (n *Node) body() []byte {
	if n.cfg.State == nil {
		return nil
	}
	body := n.cfg.State()
	if len(body) > MaxState {
		n.log.Error("announcement left out: larger than allowed", zap.Int("bytes", len(body)), zap.Int("limit", MaxState))
		return nil
	}
	return body
}

// Announce makes the others learn what Config.State says now. It returns at
// once; calls in quick succession become one announcement.
func (n *Node) Announce() {
	select {
	case n.announce <- struct{}{}:
	default:
	}
}

func (n *Node) runAnnounce(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-n.announce:
		case <-ctx.Done():
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		pause.Reset(announceEvery)
		n.broadcast(n.states.mine(n.body()))
	}
}

// broadcast sends this node's announcement to everybody.
func (n *Node) broadcast(a announcement) {
	msg, err := pack(kindState, a)
	if err != nil {
		n.log.Error("announcement left out", zap.Error(err))
		return
	}
	others := n.table.others()
	if len(msg) > maxPacket {
		for _, m := range others {
			if s, err := n.senderOf(m.Name); err == nil {
				s.putState(msg)
			}
		}
		return
	}
	n.rumours.QueueBroadcast(&rumour{origin: a.Origin, msg: msg})
	if len(others) <= maxDirect {
		for _, m := range others {
			n.sendPacket(m, msg)
		}
	}
}

// hear takes an announcement off the wire; relay says that it came alone and
// so should be passed on.
func (n *Node) hear(a announcement, relay bool) {
	n.merging.Lock() // or an older one could overtake on another stream
	defer n.merging.Unlock()
	m, live := n.table.get(a.Origin)
	if a.Held {
		if live && n.states.news(a, m.Incarnation) {
			n.askState(m)
		}
		return
	}
	if !n.states.take(a, m.Incarnation) {
		return
	}
	if relay {
		if msg, err := pack(kindState, a); err == nil && len(msg) <= maxPacket {
			n.rumours.QueueBroadcast(&rumour{origin: a.Origin, msg: msg})
		}
	}
	n.merge(a)
}

// askState asks a node for what it announces. A lost question is asked again
// after the next push/pull.
func (n *Node) askState(m Member) {
	if msg, err := pack(kindWant, want{From: n.cfg.Name}); err == nil {
		_ = n.sendPacket(m, msg)
	}
}

// introduce tells a node that has just come what this one announces, if that
// is too large for the push/pull by which it came.
func (n *Node) introduce(name string) {
	if own := n.states.mine(n.body()); own.small().Held {
		n.announceTo(name)
	}
}

// announceTo tells one node what this one announces.
func (n *Node) announceTo(name string) {
	m, ok := n.table.get(name)
	if !ok {
		return // not yet: it is told when it is
	}
	msg, err := pack(kindState, n.states.mine(n.body()))
	switch {
	case err != nil:
		n.log.Error("announcement left out", zap.Error(err))
	case len(msg) <= maxPacket:
		_ = n.sendPacket(m, msg)
	default:
		if s, err := n.senderOf(name); err == nil {
			s.putState(msg)
		}
	}
}

// merge hands an announcement over. n.merging is held since it was taken.
func (n *Node) merge(a announcement) {
	if n.cfg.Merge != nil && len(a.Body) > 0 {
		n.cfg.Merge(bytes.Clone(a.Body)) // ours is told to others, theirs is theirs
	}
}

// rumour is an announcement that memberlist passes on; a newer one of the same
// origin takes its place.
type rumour struct {
	origin string
	msg    []byte
}

var _ memberlist.NamedBroadcast = (*rumour)(nil)

func (r *rumour) Name() string                                { return r.origin }
func (r *rumour) Message() []byte                             { return r.msg }
func (r *rumour) Finished()                                   {}
func (r *rumour) Invalidates(other memberlist.Broadcast) bool { return false } // by Name
