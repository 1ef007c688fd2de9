package daemon

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/legion"
)

// newHerald makes what calls the hooks. Nothing is called before it is configured.
func (d *Daemon) newHerald() *hooks.Herald {
	return &hooks.Herald{
		Caller:  &hooks.Caller{Host: d.host, Log: d.log},
		Node:    d.name,
		Known:   d.lordOf,
		Scroll:  func(l string) string { return d.config().Legions[l].Scroll },
		Trusted: d.protocol.trusted,
		Guard:   d.protocol.guardRun,
		Warden:  warden{d.protocol},
		Lock:    hookLock(d.cfg),
	}
}

func hookLock(cfg *config.Config) string { return filepath.Join(cfg.Node.StateDir, "hooks.lock") }

// hooksOf lists the hooks of each legion by event.
func hooksOf(cfg *config.Config) map[string]map[string][]hooks.Hook {
	all := map[string]map[string][]hooks.Hook{}
	for name, l := range cfg.Legions {
		all[name] = map[string][]hooks.Hook{}
		for event, list := range l.On {
			for _, h := range list {
				all[name][event] = append(all[name][event], hooks.Hook(h))
			}
		}
	}
	return all
}

// lordOf is what hooks are told of a legion's lord.
func (d *Daemon) lordOf(name string) (lord string, term uint64, scroll string) {
	s := d.protocol.status()
	for _, l := range s.Legions {
		if l.Legion == name {
			lord, term = l.Lord, l.Term
		}
	}
	return lord, term, scrollOf(s, lord, name)
}

// scrollOf is the scroll of a node in a legion, as it was announced.
func scrollOf(s legion.Status, node, legionName string) string {
	for _, n := range s.Nodes {
		if n.Name != node {
			continue
		}
		for _, c := range n.Legions {
			if c.Legion == legionName {
				return string(c.Scroll)
			}
		}
	}
	return ""
}

// reigns has the lord hooks called, and the slots of the reign go when they
// have ended.
func (d *Daemon) reigns(a legion.Reign) {
	d.foreman.post(slots.Reign{Reign: a})
	d.herald.Reign(a.Legion, a.Term, func(err error) {
		if err != nil && d.suspend(a.Legion, err) {
			return
		}
		d.foreman.post(slots.Ready{Legion: a.Legion, Term: a.Term})
	})
}

// unreigns ends what acts for a lordship. It is let go once the unlord hooks
// have ended and what must end with it is dead.
func (d *Daemon) unreigns(a legion.Unreign) {
	// Where the trust ran out every moment counts; else the lordship is held
	// until it is let go.
	lost := d.protocol.runOut(a.Legion)
	d.foreman.post(slots.Unreign{Unreign: a})
	d.herald.Unreign(a.Legion, a.Term, lost, func() {
		d.foreman.post(slots.Unhooked{Legion: a.Legion, Term: a.Term})
	})
}

// A suspension keeps this node from a legion for a while.
type suspension struct {
	why string
	end *time.Timer
}

// suspend makes this node stay away from a legion whose lord hooks have
// failed, as long as lord_error_suspend says; false: it reigns all the same.
func (d *Daemon) suspend(name string, err error) bool {
	limit := d.config().Legions[name].LordErrorSuspend
	if limit == 0 {
		return false
	}
	d.log.Warn("standing back: the lord hook failed", logging.Event("suspended"), logging.Legion(name), zap.Duration("for", limit))
	s := &suspension{why: "its lord hook failed: " + err.Error()}
	d.mu.Lock()
	if old := d.suspended[name]; old != nil {
		old.end.Stop()
	}
	d.suspended[name] = s
	s.end = time.AfterFunc(limit, func() {
		d.mu.Lock()
		if d.suspended[name] == s {
			delete(d.suspended, name)
		}
		d.mu.Unlock()
		d.reconfigure()
	})
	d.mu.Unlock()
	d.reconfigure()
	return true
}

// endSuspensions stops their timers.
func (d *Daemon) endSuspensions() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.suspended {
		s.end.Stop()
	}
	return nil
}

// muster watches who belongs to the legions, for the hooks of join,
// node-joined and node-left.
func (d *Daemon) muster(ctx context.Context) {
	r := roster{self: d.name, joined: map[string]bool{}, members: map[string]map[string]legion.ID{}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.mustered:
		}
		if !d.herald.Listens(hooks.Join, hooks.NodeJoined, hooks.NodeLeft) {
			continue
		}
		for _, n := range r.look(d.protocol.status()) {
			d.herald.Tell(n.event, n.legion, n.member)
		}
	}
}

// remuster says that somebody may have come or gone. It does not block.
func (d *Daemon) remuster() {
	select {
	case d.mustered <- struct{}{}:
	default:
	}
}

// A roster remembers who belonged to the legions when it last looked.
type roster struct {
	self    string
	joined  map[string]bool                 // legions of which a quorum was seen
	members map[string]map[string]legion.ID // incarnation of each other node, by legion
}

type news struct{ event, legion, member string }

// look returns what is new in s, by legion and then by node.
func (r *roster) look(s legion.Status) []news {
	var all []news
	now := map[string]map[string]legion.ID{}
	voters := 0
	for _, n := range s.Nodes {
		if e := s.Electorate; e != nil && n.Electorate != nil && n.Electorate.Cluster == e.Cluster && slices.Contains(e.Voters, legion.Voter{Name: n.Name, Instance: n.Instance}) {
			voters++
		}
		for _, c := range n.Legions {
			if n.Name == r.self {
				continue
			}
			if now[c.Legion] == nil {
				now[c.Legion] = map[string]legion.ID{}
			}
			now[c.Legion][n.Name] = n.Incarnation
		}
	}
	for _, l := range s.Legions {
		if !r.joined[l.Legion] && voters >= l.Quorum {
			r.joined[l.Legion] = true
			all = append(all, news{hooks.Join, l.Legion, ""})
		}
	}
	legions := map[string]bool{}
	for name := range now {
		legions[name] = true
	}
	for name := range r.members {
		legions[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(legions)) {
		for _, node := range slices.Sorted(maps.Keys(now[name])) {
			if r.members[name][node] != now[name][node] {
				all = append(all, news{hooks.NodeJoined, name, node})
			}
		}
		for _, node := range slices.Sorted(maps.Keys(r.members[name])) {
			if _, here := now[name][node]; !here {
				all = append(all, news{hooks.NodeLeft, name, node})
			}
		}
	}
	r.members = now
	return all
}
