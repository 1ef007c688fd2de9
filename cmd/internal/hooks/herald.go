package hooks

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
)

// maxNews is how many events of one legion wait for the hooks of earlier ones.
const maxNews = 100

// A Warden is told what must be done should this process die or freeze; a
// *guardian.Guardian. Its methods do not block for long.
type Warden interface {
	// Reign tells the unlord hooks of a reign whose lord hooks begin.
	Reign(unlord Will)
	// Leave tells that its unlord hooks begin here, lost: as its trust ran out.
	Leave(legion string, lost bool)
	// Left tells that they have ended.
	Left(legion string)
	// Mourn tells the death hooks of a legion; none: there are none any more.
	Mourn(death Will)
}

// A Will is hooks that are to be called some day, and what they are told.
type Will struct {
	Call  Call   `cbor:"1,keyasint"`
	Hooks []Hook `cbor:"2,keyasint,omitempty"`
}

// A Herald calls the hooks of a node's legions. Its methods are safe for
// concurrent use and return at once, but for Close.
type Herald struct {
	Caller *Caller
	Node   string
	// Known is asked, when a call begins, for the lord of a legion, the term
	// and the lord's scroll; Scroll for this node's own.
	Known  func(legion string) (lord string, term uint64, scroll string)
	Scroll func(legion string) string
	// Trusted reports whether this node is lord now, in this very term.
	Trusted func(legion string, term uint64) bool
	// Guard has a command end with the lordship, should this process freeze.
	Guard  func(legion, run string) (ended func())
	Warden Warden
	// Lock is the file by which guardians say that they call hooks here.
	Lock string

	mu      sync.Mutex
	legions map[string]*posts
	closed  bool
	calls   sync.WaitGroup // lanes that are not idle
}

// posts are one legion's hooks, and who calls them.
type posts struct {
	hooks        map[string][]Hook
	gone         bool // the configuration does not name the legion any more
	throne, news lane
	reign        *Will // unlord hooks: entered and not left; only the throne's lane looks
}

// A lane calls one event after the other.
type lane struct {
	waiting []*call
	now     *call // nil: idle
	dropped int   // since the last that was put
}

// A call is an event that is, or will be, called.
type call struct {
	Call
	Calling
	hooks []Hook
	lost  bool // unlord: the trust ran out
	done  func(error)
}

var errOver = errors.New("the lordship is over")

// Configure replaces the hooks: for each legion of this node the lists by
// event. A legion that was not there before is set up.
func (h *Herald) Configure(legions map[string]map[string][]Hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.legions == nil {
		h.legions = map[string]*posts{}
	}
	for name, p := range h.legions {
		if legions[name] != nil {
			continue
		}
		if len(p.hooks) > 0 {
			h.mourn(name, nil)
		}
		p.hooks, p.gone = nil, true // a reign that has begun keeps its own
	}
	for name, hooks := range legions {
		p, old := h.legions[name]
		if !old {
			p = &posts{}
			h.legions[name] = p
		}
		if len(p.hooks[Death])+len(hooks[Death]) > 0 {
			h.mourn(name, hooks[Death])
		}
		fresh := !old || p.gone
		p.hooks, p.gone = hooks, false
		if fresh && len(hooks[Setup]) > 0 {
			h.put(p, &p.throne, &call{Call: Call{Event: Setup, Legion: name}, hooks: hooks[Setup]})
		}
	}
}

func (h *Herald) mourn(legion string, death []Hook) {
	h.Warden.Mourn(Will{Call{Event: Death, Legion: legion, Node: h.Node}, death})
}

// Tell calls the hooks of an event that no one waits for: join, node-joined
// and node-left.
func (h *Herald) Tell(event, legion, member string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.legions[legion]
	switch {
	case p == nil || len(p.hooks[event]) == 0 || h.closed:
		return
	case len(p.news.waiting) >= maxNews:
		if p.news.dropped++; p.news.dropped == 1 {
			h.Caller.Log.Warn("hooks are too slow for what happens; leaving events out", logging.Event(event), logging.Legion(legion))
		}
		return
	}
	p.news.dropped = 0
	h.put(p, &p.news, &call{Call: Call{Event: event, Legion: legion, Member: member}, hooks: p.hooks[event]})
}

// Reign calls the lord hooks. done is called once: with nil when the slots of
// this reign may go, with the error of a hook that failed, or not at all if the
// reign is over before.
func (h *Herald) Reign(legion string, term uint64, done func(error)) {
	h.mu.Lock()
	p := h.legions[legion]
	if p == nil || len(p.hooks[Lord])+len(p.hooks[Unlord]) == 0 || h.closed {
		h.mu.Unlock()
		done(nil)
		return
	}
	defer h.mu.Unlock()
	h.put(p, &p.throne, &call{Call: Call{Event: Lord, Legion: legion, Term: term}, hooks: p.hooks[Lord], done: done})
}

// Unreign ends what Reign began: lord hooks that still run are stopped, or
// killed if the trust ran out, and the unlord hooks are called. done is called
// when they have ended.
func (h *Herald) Unreign(legion string, term uint64, lost bool, done func()) {
	h.mu.Lock()
	p := h.legions[legion]
	if p == nil || h.closed {
		h.mu.Unlock()
		done()
		return
	}
	of := func(c *call) bool { return c != nil && c.Event == Lord && c.Term == term }
	waiting := slices.IndexFunc(p.throne.waiting, of)
	switch {
	case waiting >= 0:
		p.throne.waiting = slices.Delete(p.throne.waiting, waiting, waiting+1)
	case of(p.throne.now):
		p.throne.now.End(errOver.Error(), lost)
		fallthrough
	case p.reign != nil && p.reign.Call.Term == term:
		defer h.mu.Unlock()
		h.put(p, &p.throne, &call{Call: Call{Event: Unlord, Legion: legion, Term: term}, lost: lost, done: func(error) { done() }})
		return
	}
	h.mu.Unlock()
	done()
}

// put has a call wait for its turn. h.mu is held.
func (h *Herald) put(p *posts, l *lane, c *call) {
	l.waiting = append(l.waiting, c)
	if l.now != nil {
		return
	}
	l.now = c // the lane is taken
	h.calls.Add(1)
	go h.run(p, l)
}

// run empties a lane.
func (h *Herald) run(p *posts, l *lane) {
	defer h.calls.Done()
	for {
		h.mu.Lock()
		if len(l.waiting) == 0 {
			l.now = nil
			h.mu.Unlock()
			return
		}
		c := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.now = c
		h.mu.Unlock()
		h.call(p, c)
	}
}

// call calls one event. Of a legion's throne it is called on one goroutine at a time.
func (h *Herald) call(p *posts, c *call) {
	c.Node = h.Node
	var err error
	switch c.Event {
	case Lord:
		err = h.enter(p, c)
	case Unlord:
		h.leave(p, c)
	default:
		if len(c.hooks) > 0 {
			c.Lord, c.Term, c.Scroll = h.Known(c.Legion)
			_ = h.Caller.Call(c.hooks, c.Call, &c.Calling) // told to the log
		}
	}
	if c.done != nil && !errors.Is(err, errOver) {
		c.done(err)
	}
}

// wait waits until no guardian undoes an earlier reign any more, so that its
// unlord hooks do not come after the lord hooks of this one.
func (h *Herald) wait(c *call) {
	for began := time.Now(); Occupied(h.Lock) && c.ending() == nil; <-time.After(lockPause) {
		if time.Since(began) > lockPatience {
			h.Caller.Log.Warn("a guardian's hooks do not end; going on without", c.fields()...)
			return
		}
	}
}

// enter calls the lord hooks.
func (h *Herald) enter(p *posts, c *call) error {
	h.wait(c)
	if !h.Trusted(c.Legion, c.Term) {
		return errOver
	}
	c.Lord, c.Scroll = h.Node, h.Scroll(c.Legion)
	over := c.Call
	over.Event = Unlord
	h.mu.Lock()
	c.hooks = p.hooks[Lord] // a reload may have come since it was put
	p.reign = &Will{over, p.hooks[Unlord]}
	h.mu.Unlock()
	h.Warden.Reign(*p.reign)
	var ended func()
	c.Before = func(run string) error {
		ended = h.Guard(c.Legion, run)
		if !h.Trusted(c.Legion, c.Term) {
			ended()
			return errOver
		}
		return nil
	}
	c.After = func(string) { ended() }
	err := h.Caller.Call(c.hooks, c.Call, &c.Calling)
	if c.ending() != nil || err != nil && !h.Trusted(c.Legion, c.Term) {
		return errOver // whatever has become of it; a guardian may have killed it
	}
	return err
}

// leave calls the unlord hooks of the reign that was entered.
func (h *Herald) leave(p *posts, c *call) {
	if p.reign == nil {
		return // its lord hooks never began
	}
	h.Warden.Leave(c.Legion, c.lost)
	_ = h.Caller.Call(p.reign.Hooks, p.reign.Call, &c.Calling) // told to the log
	h.Warden.Left(c.Legion)
	h.mu.Lock()
	p.reign = nil
	h.mu.Unlock()
}

// Busy reports whether any hook runs or waits but for news.
func (h *Herald) Busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.legions {
		if p.throne.now != nil {
			return true
		}
	}
	return false
}

// Close calls the death hooks and returns when every hook has ended. News are
// cut short. Nothing is called after it.
func (h *Herald) Close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		for name, p := range h.legions {
			if p.news.waiting = nil; p.news.now != nil {
				p.news.now.End("stopping", false)
			}
			if hooks := p.hooks[Death]; len(hooks) > 0 {
				h.put(p, &p.throne, &call{Call: Call{Event: Death, Legion: name}, hooks: hooks})
			}
		}
	}
	h.mu.Unlock()
	h.calls.Wait()
}

// Listens reports whether any legion has hooks for one of the events.
func (h *Herald) Listens(events ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.legions {
		for _, e := range events {
			if len(p.hooks[e]) > 0 {
				return true
			}
		}
	}
	return false
}
