package gossip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Limits of the table.
const (
	maxMembers    = 1024 // live nodes; further ones are ignored
	maxRemembered = 1024 // addresses tried again while their node is missing
	maxKnocks     = 32   // of those, in one round: two times roundParallel take less than defaultRejoin
)

// table is this package's own copy of the membership. memberlist calls it with
// its lock held (so nothing here may call memberlist), and its nodes change
// under the reader (so nothing here keeps one).
type table struct {
	self Member

	mu    sync.Mutex
	live  map[string]Member // as memberlist says, without this node
	told  map[string]Member // as Config.Member was told
	seen  map[string]*seen  // all ever met, by name
	dirty chan struct{}     // 1: live and told may differ
}

// seen is what is remembered of a node.
type seen struct {
	Member
	left string    // the incarnation that said goodbye, if it was the last
	gone time.Time // since when it is not live, if it is not
}

func newTable(self Member) *table {
	return &table{
		self: self, live: make(map[string]Member), told: make(map[string]Member),
		seen: make(map[string]*seen), dirty: make(chan struct{}, 1),
	}
}

func memberOf(node *memberlist.Node) (Member, error) {
	m, err := unpackMeta(node.Meta)
	if err != nil {
		return Member{}, err
	}
	ip, ok := netip.AddrFromSlice(node.Addr)
	if !ok || !named(node.Name) {
		return Member{}, fmt.Errorf("member %.*q: bad name or address", maxName, node.Name)
	}
	addr := netip.AddrPortFrom(ip.Unmap(), node.Port)
	return Member{Name: node.Name, Addr: addr.String(), Instance: m.Instance, Incarnation: m.Incarnation}, nil
}

// NotifyAlive is part of memberlist.AliveDelegate: an error keeps the node out.
func (t *table) NotifyAlive(node *memberlist.Node) error {
	m, err := memberOf(node)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.live[m.Name]; !known && len(t.live) >= maxMembers {
		return fmt.Errorf("more than %d members", maxMembers)
	}
	return nil
}

// NotifyJoin is part of memberlist.EventDelegate.
func (t *table) NotifyJoin(node *memberlist.Node) { t.set(node) }

// NotifyUpdate is part of memberlist.EventDelegate.
func (t *table) NotifyUpdate(node *memberlist.Node) { t.set(node) }

func (t *table) set(node *memberlist.Node) {
	m, err := memberOf(node)
	if err != nil || m.Name == t.self.Name {
		return // NotifyAlive has refused it; or it is this node
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.seen[m.Name]
	switch {
	case old == nil:
		t.makeRoom()
	case old.left == m.Incarnation:
		return // old news of one that has said goodbye
	}
	t.seen[m.Name] = &seen{Member: m}
	t.live[m.Name] = m
	t.touch()
}

// makeRoom forgets the one that has been gone the longest, if too many are
// remembered.
func (t *table) makeRoom() {
	if len(t.seen) < maxRemembered {
		return
	}
	if gone := t.gone(); len(gone) > 0 {
		delete(t.seen, gone[len(gone)-1].Name)
	}
}

// gone are those remembered that are not live, the latest first. t.mu is held.
func (t *table) gone() (list []*seen) {
	for name, s := range t.seen {
		if _, live := t.live[name]; !live {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *seen) int { return b.gone.Compare(a.gone) })
	return list
}

// NotifyLeave is part of memberlist.EventDelegate: failed, left, or both.
func (t *table) NotifyLeave(node *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(node.Name)
}

// drop takes a node for gone. t.mu is held.
func (t *table) drop(name string) {
	if s := t.seen[name]; s != nil && s.gone.IsZero() {
		s.gone = time.Now()
	}
	delete(t.live, name)
	t.touch()
}

// leave is called when a node says goodbye itself.
func (t *table) leave(g goodbye) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live[g.Name].Incarnation == g.Incarnation {
		t.seen[g.Name] = &seen{Member: t.live[g.Name], left: g.Incarnation} // it may have been forgotten
		t.drop(g.Name)
	}
}

func (t *table) touch() {
	select {
	case t.dirty <- struct{}{}:
	default:
	}
}

// changes says what to tell, and takes it for told.
func (t *table) changes() []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	var events []Event
	for name, old := range t.told {
		if now, live := t.live[name]; !live || now.Incarnation != old.Incarnation || now.Instance != old.Instance {
			events = append(events, Event{Kind: Down, Member: old, Left: t.hasLeft(old)})
			delete(t.told, name)
		}
	}
	for name, now := range t.live {
		old, told := t.told[name]
		switch {
		case !told:
			events = append(events, Event{Kind: Up, Member: now})
		case now != old:
			events = append(events, Event{Kind: Update, Member: now})
		}
		t.told[name] = now
	}
	slices.SortStableFunc(events, func(a, b Event) int { // Down stays before Up
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return events
}

func (t *table) hasLeft(m Member) bool {
	seen := t.seen[m.Name]
	return seen != nil && seen.left == m.Incarnation
}

func (t *table) get(name string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.live[name]
	return m, ok
}

// find returns a live member or, if it is thought to have failed, where it was
// last: memberlist takes seconds to find it again after a partition, and what
// is sent to a dead node harms nobody. One that said goodbye is not found.
func (t *table) find(name string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.live[name]; ok {
		return m, true
	}
	s := t.seen[name]
	if s == nil || s.left == s.Incarnation {
		return Member{}, false
	}
	return s.Member, true
}

// others are the live members without this node, sorted by name.
func (t *table) others() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Member, 0, len(t.live)+1)
	for _, m := range t.live {
		list = append(list, m)
	}
	sortMembers(list)
	return list
}

func sortMembers(list []Member) {
	slices.SortFunc(list, func(a, b Member) int {
		if a.Name < b.Name {
			return -1
		}
		return 1 // names are unique
	})
}

// size counts the live members, this node included.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.live) + 1
}

// missing are the remembered addresses of nodes that are not live, or maxKnocks of
// them: half are those that are gone the shortest time, which may be the other side
// of a partition, and any of the rest. Who comes and goes for good under ever new
// names leaves hundreds, of which none answers, and each of them takes its time.
func (t *table) missing() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := t.gone()
	if len(gone) > maxKnocks {
		rest := gone[maxKnocks/2:]
		rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		gone = gone[:maxKnocks]
	}
	addrs := make([]string, 0, len(gone))
	for _, s := range gone {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

// liveAt says whether a live member, or this node, has the address.
func (t *table) liveAt(addr string) bool {
	if addr == t.self.Addr {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.live {
		if m.Addr == addr {
			return true
		}
	}
	return false
}

func (t *table) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, name)
}
