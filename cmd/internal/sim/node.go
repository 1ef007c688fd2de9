package sim

import (
	"bytes"
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// maxActions bounds what one step of a core may ask for.
const maxActions = 2000

// maxIdle bounds the ticks in a row that do nothing and ask for the next one at
// once. A few are needed where the clocks differ.
const maxIdle = 100

// A node is a core and its shell.
type node struct {
	w     *World
	index int
	conf  NodeConf

	instance, incarnation legion.ID
	life                  int // of the process; what an earlier one began is dropped
	up                    bool
	unwilling             bool // to be a voter
	paused                bool // no event is handled; they pile up
	suspended             bool // as paused, and the network card is off
	stopping              bool
	hooks                 time.Duration // how long they run when nothing disturbs
	backlog               []backlog
	clock                 clock
	disk                  *disk
	durable               uint64
	core                  *legion.Core
	timer                 int
	idle                  int           // ticks in a row; see maxIdle
	waiting               []legion.Send // for a write
	lords                 map[string]*reign
	held                  map[string]uint64 // by legion: the term whose hooks still run
	gave                  map[string]uint64 // by legion: the latest term given back
	proposals             map[uint64]func(committed bool)
	lastID                uint64
	legions               map[string]legion.Legion // as last configured
	view                  map[string]*view         // what gossip knows of the others
	state                 legion.NodeState         // what gossip says of this node

	jobs      []jobs.Job
	slots     *slots.Core
	inbox     []slots.Event
	deciding  bool // about what is in the inbox, soon
	slotTimer int
	runs      map[string]*run
	orders    uint64          // so far, in this process
	ordered   map[uint64]bool // commands that wait for their claims, by order
	outbox    []jobs.Record   // for the voters
	sending   bool
}

type backlog struct {
	packet bool
	do     func()
}

// A reign is one lordship, as the shell sees it.
type reign struct {
	term uint64
	over bool
	why  string // it is over
}

// awake reports whether the node's process runs and would answer a probe.
func (n *node) awake() bool { return n.up && !n.paused }

// start begins a new process.
func (n *node) start() {
	if n.up {
		return
	}
	w := n.w
	n.life++
	n.unwilling = false
	n.up, n.paused, n.suspended, n.stopping = true, false, false, false
	n.incarnation, n.backlog, n.waiting = w.newID(), nil, nil
	n.durable, n.lastID = 0, 0
	n.lords, n.proposals, n.view = map[string]*reign{}, map[uint64]func(bool){}, map[string]*view{}
	n.held, n.gave = map[string]uint64{}, map[string]uint64{}
	n.state, n.legions = legion.NodeState{}, n.conf.Legions
	w.line("%s starts", n.conf.Name)
	n.core = legion.New(legion.Config{
		Name: cmp.Or(n.conf.As, n.conf.Name), Instance: n.instance, Incarnation: n.incarnation,
		Vote: n.conf.Vote, Size: w.Size, Beat: w.Beat, Lease: w.Lease, Legions: w.standing(n.conf.Legions),
	}, n.disk.load(), n.clock.read(w.now), rand.New(rand.NewPCG(w.rng.Uint64(), 1)))
	n.step(legion.Tick{})
	n.every(w.between(50*time.Millisecond, 500*time.Millisecond), time.Second, n.gossip)
	n.startSlots()
}

// crash ends the process at once.
func (n *node) crash(why string) {
	if !n.up {
		return
	}
	n.w.line("%s %s", n.conf.Name, why)
	if n.suspended {
		n.clock.change(n.w.now, n.clock.bootRate, n.clock.rawRate, false)
	}
	n.clock.stop(n.w.now, false)
	n.life++
	n.up, n.core, n.backlog, n.waiting = false, nil, nil, nil
	n.disk.lose(n.w.maybe(0.5))
	n.w.check.founded(n.w, n.disk.electorate)
	n.w.check.kept(n.w)
}

// stop asks the process to end; it is killed if it does not within 10 s.
func (n *node) stop() {
	if !n.awake() || n.stopping {
		return
	}
	n.stopping = true
	n.w.line("%s is told to stop", n.conf.Name)
	n.decide(slots.Close{})
	n.step(legion.Stop{})
	life := n.life
	n.w.in(10*time.Second, func() {
		if n.life == life {
			n.crash("is killed")
		}
	})
}

// freeze stops the process, or with suspend the machine.
func (n *node) freeze(suspend bool) {
	if !n.awake() {
		return
	}
	n.w.line("%s freezes, suspended: %v", n.conf.Name, suspend)
	n.paused, n.suspended = true, suspend
	if suspend {
		n.clock.change(n.w.now, n.clock.bootRate, n.clock.rawRate, true)
	}
}

// thaw lets it go on: packets first or last, newest first as memberlist has it.
func (n *node) thaw() {
	if n.suspended {
		n.clock.change(n.w.now, n.clock.bootRate, n.clock.rawRate, false)
	}
	n.clock.stop(n.w.now, false)
	if !n.up || !n.paused {
		return
	}
	n.w.line("%s thaws", n.conf.Name)
	n.paused, n.suspended = false, false
	late := n.backlog
	n.backlog = nil
	packetsFirst := n.w.maybe(0.5)
	for _, packets := range []bool{packetsFirst, !packetsFirst} {
		if packets {
			slices.Reverse(late)
		}
		for _, b := range late {
			if b.packet == packets {
				n.later(b.packet, n.w.between(0, 3*time.Millisecond), b.do)
			}
		}
		if packets {
			slices.Reverse(late)
		}
	}
}

// event does something in the node's process, when it can.
func (n *node) event(do func()) { n.run(false, do) }

func (n *node) run(packet bool, do func()) {
	switch {
	case !n.up:
	case !n.paused:
		do()
	case len(n.backlog) < 1000:
		n.backlog = append(n.backlog, backlog{packet, do})
	}
}

func (n *node) later(packet bool, d time.Duration, do func()) {
	life := n.life
	n.w.in(d, func() {
		if n.life == life {
			n.run(packet, do)
		}
	})
}

// in does something in this process after d of true time.
func (n *node) in(d time.Duration, do func()) { n.later(false, d, do) }

// every does something in this process again and again, but for when it is
// frozen.
func (n *node) every(first, d time.Duration, do func()) {
	life := n.life
	n.w.in(first, func() {
		if n.life == life {
			if !n.paused {
				do()
			}
			if n.life == life {
				n.every(d, d, do)
			}
		}
	})
}

// receive takes a packet from the network.
func (n *node) receive(b []byte) {
	n.run(true, func() {
		m, err := legion.DecodeMessage(b)
		if err != nil {
			n.w.fail("%s cannot decode a message: %v", n.conf.Name, err)
			return
		}
		n.step(legion.Receive{Message: m})
	})
}

// step hands an event to the core and does what it asks for.
func (n *node) step(ev legion.Event) {
	w := n.w
	if n.core == nil || w.failed != nil {
		return
	}
	w.trace.steps++
	if w.trace.lines != nil {
		w.line("%s < %s", n.conf.Name, describe(ev))
	}
	actions := n.core.Step(n.clock.read(w.now), ev)
	w.mark(uint64(n.index), uint64(len(actions)))
	if len(actions) > maxActions {
		w.fail("%s: one step returned %d actions", n.conf.Name, len(actions))
	}
	stopped := false
	for _, a := range actions {
		if w.trace.watch != nil {
			w.trace.watch(n, a)
		}
		if w.trace.lines != nil {
			w.line("%s   > %s", n.conf.Name, describe(a))
		}
		stopped = n.do(a) || stopped
	}
	n.write()
	if stopped {
		n.crash("has stopped")
		return
	}
	if _, ok := ev.(legion.Tick); ok {
		n.idle++
		if len(actions) > 0 || n.core.Wake(n.clock.read(w.now)) > time.Millisecond {
			n.idle = 0
		} else if n.idle == maxIdle {
			w.fail("%s asks to be woken at once, and does nothing", n.conf.Name)
		}
	}
	n.arm()
	w.check.step(n)
}

// arm sets the timer that the core asks for.
func (n *node) arm() {
	n.timer++
	timer := n.timer
	d := n.clock.after(n.core.Wake(n.clock.read(n.w.now)))
	late := n.w.between(0, time.Millisecond)
	if !n.w.calm && n.w.maybe(0.01) {
		late = n.w.between(0, 100*time.Millisecond)
	}
	n.in(d+late, func() {
		if n.timer == timer {
			n.step(legion.Tick{})
		}
	})
}

// do carries out one action; it reports whether that was the last.
func (n *node) do(a legion.Action) (stopped bool) {
	w := n.w
	switch a := a.(type) {
	case legion.Persist:
		n.disk.queue = append(n.disk.queue, write{Persist: a})
	case legion.Send:
		w.mark(a.Message.Seq, a.After)
		w.check.sends(n, a.Message.Body)
		if a.After > n.durable {
			n.waiting = append(n.waiting, a)
		} else {
			n.send(a)
		}
	case legion.Announce:
		n.announce(a.State)
	case legion.Reign:
		w.check.reign(n, a)
		n.lords[a.Legion] = &reign{term: a.Term}
		if a.Legion == legion.ClusterLegion {
			break
		}
		n.decide(slots.Reign{Reign: a})
		ready := func() { n.decide(slots.Ready{Legion: a.Legion, Term: a.Term}) }
		if w.calm || w.maybe(0.5) {
			ready()
		} else {
			n.in(w.between(0, 500*time.Millisecond), ready)
		}
	case legion.Unreign:
		w.mark(a.Term)
		if r := n.lords[a.Legion]; r != nil && r.term == a.Term {
			r.over, r.why = true, a.Reason
			delete(n.lords, a.Legion)
		}
		hooks := w.between(0, 300*time.Millisecond)
		if w.calm {
			hooks = n.hooks
		}
		n.held[a.Legion] = a.Term
		if a.Legion == legion.ClusterLegion {
			n.in(hooks, func() { n.act(slots.LetGo{Legion: a.Legion, Term: a.Term}) })
			break
		}
		n.decide(slots.Unreign{Unreign: a})
		n.in(hooks, func() { n.decide(slots.Unhooked{Legion: a.Legion, Term: a.Term}) })
	case legion.Wrote:
		done := n.proposals[a.ID]
		delete(n.proposals, a.ID)
		done(a.Committed)
	case legion.Merge:
		n.merge(a)
	case legion.Stopped:
		return true
	}
	return false
}

// synced is told that a write has been done.
func (n *node) synced(seq uint64) {
	n.durable = max(n.durable, seq)
	var ready []legion.Send
	n.waiting = slices.DeleteFunc(n.waiting, func(s legion.Send) bool {
		if s.After > n.durable {
			return false
		}
		ready = append(ready, s)
		return true
	})
	for _, s := range ready {
		n.send(s)
	}
	n.step(legion.Durable{Seq: seq})
}

// send fills in what is the shell's part, now that what the message depends on
// is durable, and sends it.
func (n *node) send(s legion.Send) {
	s = n.fill(s)
	to := n.w.named[s.To]
	if s.To == n.conf.As {
		to = n
	}
	if to != nil {
		n.w.packet(n, to, s.Message)
	}
}

func (n *node) fill(s legion.Send) legion.Send {
	switch b := s.Message.Body.(type) {
	case legion.Ask:
		_, b.Hash = n.disk.state(b.Legion)
		s.Message.Body = b
	case legion.Vote:
		if s.Attach {
			state, hash := n.disk.state(b.Legion)
			if b.Same = bytes.Equal(hash, s.Hash); !b.Same {
				b.State = state
			}
			s.Message.Body = b
		}
	case legion.Standing:
		b.States = n.disk.states()
		s.Message.Body = b
	}
	return s
}

// trusted reports whether the node is lord by its own clocks, now.
func (n *node) trusted(l string) bool {
	r := n.lords[l]
	if !n.up || r == nil {
		return false
	}
	_, ok := n.core.Trusted(n.clock.read(n.w.now), l, r.term)
	return ok
}

// setWall has the wall clock be wrong by d, or right again.
func (n *node) setWall(d time.Duration) {
	if n.clock.wrong != d {
		n.w.line("%s has its wall clock wrong by %v", n.conf.Name, d)
		n.clock.set(d)
	}
	n.w.check.doubt(n.w)
}

// setRate makes the clocks run at a rate, Boot slewed against Raw.
func (n *node) setRate(rate float64) {
	slew := 1 + (n.w.rng.Float64()-0.5)/50
	n.clock.change(n.w.now, rate*slew, rate, n.clock.suspended)
}

// retune changes the node's part in a legion: what its checks say, or nothing.
func (n *node) retune() {
	if !n.awake() {
		return
	}
	legions := maps.Clone(n.conf.Legions)
	for _, name := range slices.Sorted(maps.Keys(legions)) {
		l := legions[name]
		switch n.w.rng.IntN(4) {
		case 0:
			l.Unfit = "a check fails"
		case 1:
			l.Weight = n.w.rng.IntN(60) - 30
		case 2:
			delete(legions, name)
			continue
		}
		legions[name] = l
	}
	n.w.line("%s is retuned", n.conf.Name)
	n.legions = legions
	n.step(legion.Configure{Legions: n.w.standing(legions)})
}

// stepDown gives up one lordship by hand.
func (n *node) stepDown() {
	for _, l := range slices.Sorted(maps.Keys(n.lords)) {
		if n.awake() && n.lords[l] != nil && n.w.maybe(0.5) {
			n.step(legion.Abandon{Legion: l, Reason: "told to"})
			return
		}
	}
}

// diskFull fills the disk, or makes room.
func (n *node) diskFull(full bool) {
	if n.disk.full == full || !n.up {
		return
	}
	n.disk.full = full
	n.w.line("%s disk full: %v", n.conf.Name, full)
	n.event(func() {
		trouble := ""
		if n.disk.full {
			trouble = "no space left on device"
		}
		n.step(legion.DiskTrouble{Trouble: trouble})
		n.write()
	})
}
