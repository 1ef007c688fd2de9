package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/guardian"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/metrics"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/legion/gossip"
)

// maxInbox bounds the messages of others that wait for the core. What does
// not fit is dropped, as the network might have done.
const maxInbox = 4096

// maxHeld bounds the messages that wait for the disk. While it stalls, others
// ask again and again; what does not fit is lost, and they ask once more.
const maxHeld = 4096

// A network carries messages to other nodes. Send must not block.
type network interface {
	Send(name string, msg []byte) error
	Announce()
}

// alone is the network of a node that has no cluster.
type alone struct{}

func (alone) Send(string, []byte) error { return errors.New("no cluster") }
func (alone) Announce()                 {}

// A protocol is the shell around the legion core. One goroutine steps it.
type protocol struct {
	name  string
	clock clock
	store *ledger.Store
	disk  *disk
	log   *zap.Logger

	reign   func(legion.Reign)    // told in order; must not block
	unreign func(legion.Unreign)  // likewise
	observe func([]jobs.Record)   // told what was stored for others
	elected func()                // told of another electorate; must not block
	refill  func(legion.Merge)    // has what other voters had written merged; must not block
	disown  func(legion.Disowned) // told that the state directory is a copy; must not block
	changed func()                // told that nodes may have come, gone or changed; likewise

	systemd  *supervisor        // set before run
	guardian *guardian.Guardian // nil: none; set before run
	metrics  *metrics.Metrics   // set before run

	mu    sync.Mutex
	core  *legion.Core
	net   network // set before run
	epoch uint64  // of the electorate that elected was told of

	events    *mailbox[legion.Event]
	standings *mailbox[legion.Send] // to be filled in and sent, beside the core
	inbox     chan legion.Event     // from the network, bounded
	own       []legion.Event        // messages to this node itself
	durable   atomic.Uint64         // Persist that is on disk
	broken    atomic.Bool           // a Persist failed for good
	synced    chan struct{}         // holds a token when durable has grown
	held      []legion.Send         // wait for durable
	now       legion.Now            // of the step whose actions are being done
	state     atomic.Pointer[[]byte]

	dropped atomic.Uint64
	// tooLarge are the kinds of messages of which one did not fit, said once.
	tooLarge sync.Map

	proposalsMu sync.Mutex
	proposals   map[uint64]func(error)
	nextID      uint64

	stopped chan struct{} // the core has said its last
	done    chan struct{} // run has returned
}

func newProtocol(cfg legion.Config, st legion.State, clk clock, store *ledger.Store, d *disk, log *zap.Logger) *protocol {
	now := clk()
	return &protocol{
		name: cfg.Name, clock: clk, store: store, disk: d, log: log,
		core:      legion.New(cfg, st, now, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
		net:       alone{},
		elected:   func() {},
		changed:   func() {},
		events:    newMailbox[legion.Event](),
		standings: newMailbox[legion.Send](),
		inbox:     make(chan legion.Event, maxInbox),
		synced:    make(chan struct{}, 1),
		proposals: map[uint64]func(error){},
		stopped:   make(chan struct{}),
		done:      make(chan struct{}),
	}
}

// post gives the core an event of this node.
func (p *protocol) post(ev legion.Event) { p.events.put(ev) }

// deliver gives the core a message from the network, or drops it.
func (p *protocol) deliver(b []byte) {
	m, err := legion.DecodeMessage(b)
	if err == nil {
		err = checkPayload(m)
	}
	if err != nil {
		p.dropped.Add(1)
		return
	}
	select {
	case p.inbox <- legion.Receive{Message: m}:
	default:
		p.dropped.Add(1)
	}
}

// checkPayload keeps a write that the ledger would refuse from being accepted:
// what the core accepts must become durable.
func checkPayload(m legion.Message) error {
	a, ok := m.Body.(legion.Accept)
	if !ok {
		return nil
	}
	b, err := jobs.DecodeBatch(a.Payload)
	if err != nil {
		return err
	}
	for _, r := range b.Records {
		if r.Slot.Legion != a.Legion && a.Term > 0 || r.Slot.Local() {
			return fmt.Errorf("check write: record of another owner: %v", r.Slot)
		}
	}
	for _, m := range b.Marks {
		if m.Legion != a.Legion || a.Term == 0 {
			return fmt.Errorf("check write: mark of another owner: %s", m.Job)
		}
	}
	return nil
}

// announced takes another node's announcement; false: it is not one.
func (p *protocol) announced(b []byte) (legion.NodeState, bool) {
	s, err := legion.DecodeState(b)
	if err != nil {
		p.dropped.Add(1)
		return s, false
	}
	p.post(legion.Announced{State: s})
	return s, true
}

// announcement is what this node announces.
func (p *protocol) announcement() []byte {
	if b := p.state.Load(); b != nil {
		return *b
	}
	return nil
}

// trusted reports whether this node is lord now, in this very term.
func (p *protocol) trusted(legionName string, term uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.core.Trusted(p.clock(), legionName, term)
	return ok
}

// electorate is nil before there is one. It costs less than status.
func (p *protocol) electorate() *legion.Electorate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Electorate()
}

// left is how much longer that holds without another answer.
func (p *protocol) left(legionName string, term uint64) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Trusted(p.clock(), legionName, term)
}

func (p *protocol) status() legion.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Status(p.clock())
}

// reignedUntil is when a reign that has just ended did so, at the latest, by
// CLOCK_BOOTTIME: now, or before that when its trust ran out, which an agent
// that was frozen learns late. It belongs to the goroutine that steps.
func (p *protocol) reignedUntil(legionName string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock().Boot
	if until, ok := p.core.HeldUntil(legionName); ok {
		return min(now, until.Boot)
	}
	return now
}

// propose asks for a quorum write of a batch; done is called once, with nil when
// it is committed. Term 0 asks for an unfenced write.
func (p *protocol) propose(ev legion.Propose, batch jobs.Batch, done func(error)) {
	payload, err := batch.Encode()
	if err != nil {
		done(err)
		return
	}
	if ev.Term > 0 {
		began, answer := p.clock().Boot, done
		done = func(err error) {
			if err == nil {
				p.metrics.Claimed(p.clock().Boot - began)
				p.metrics.Decided(batch.Records)
			}
			answer(err)
		}
	}
	p.proposalsMu.Lock()
	p.nextID++
	ev.ID, ev.Payload = p.nextID, payload
	p.proposals[ev.ID] = done
	p.proposalsMu.Unlock()
	p.post(ev)
}

// run steps the core until ctx ends.
func (p *protocol) run(ctx context.Context) {
	defer close(p.done)
	defer p.failProposals()
	told := make(chan struct{})
	go func() { defer close(told); p.runStandings(ctx) }()
	defer func() { <-told }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ev legion.Event
		select {
		case <-ctx.Done():
			return
		case <-p.synced:
			ev = legion.Durable{Seq: p.durable.Load()}
		case <-p.events.ready:
			for _, ev := range p.events.take() {
				p.step(ev)
			}
			ev = legion.Tick{}
		case ev = <-p.inbox:
		case <-timer.C:
			ev = legion.Tick{}
		}
		p.step(ev)
		for len(p.own) > 0 {
			ev, p.own = p.own[0], p.own[1:]
			p.step(ev)
		}
		p.mu.Lock()
		wake := p.core.Wake(p.clock())
		p.mu.Unlock()
		p.systemd.alive(time.Now())
		timer.Reset(p.systemd.within(wake))
	}
}

func (p *protocol) step(ev legion.Event) {
	n, noticed := ev.(notice)
	if noticed {
		ev = n.Receive
	}
	p.mu.Lock()
	p.now = p.clock()
	actions := p.core.Step(p.now, ev)
	p.vouch()
	p.mu.Unlock()
	switch ev := ev.(type) {
	case legion.Receive:
		if _, ok := ev.Message.Body.(legion.BeatAck); ok {
			p.metrics.BeatAnswered()
		}
	case legion.Announced, legion.Membership:
		p.changed()
	}
	if d, ok := ev.(legion.Durable); ok {
		// After the step, so that nothing leaves before the core knows.
		held := p.held
		p.held = nil
		for _, s := range held {
			if s.After <= d.Seq {
				p.send(s)
			} else {
				p.held = append(p.held, s)
			}
		}
	}
	for _, a := range actions {
		if !noticed || !n.answered(a) {
			p.do(a)
		}
	}
}

func (p *protocol) do(a legion.Action) {
	switch a := a.(type) {
	case legion.Persist:
		p.persist(a)
	case legion.Send:
		switch {
		case a.After <= p.durable.Load():
			p.send(a)
		case len(p.held) < maxHeld:
			p.held = append(p.held, a)
		default:
			p.dropped.Add(1)
		}
	case legion.Announce:
		b, err := a.State.Encode()
		if err != nil {
			p.log.Error("encode announcement", zap.Error(err))
			return
		}
		p.state.Store(&b)
		p.net.Announce()
		p.changed()
	case legion.Reign:
		p.reign(a)
	case legion.Unreign:
		p.unreign(a)
	case legion.Merge:
		p.refill(a)
	case legion.Disowned:
		p.disown(a)
	case legion.Wrote:
		p.proposalsMu.Lock()
		done := p.proposals[a.ID]
		delete(p.proposals, a.ID)
		p.proposalsMu.Unlock()
		if done == nil {
			return
		}
		if a.Committed {
			done(nil)
		} else {
			done(errors.New(a.Reason))
		}
	case legion.Note:
		fields := []zap.Field{logging.Event(a.Event)}
		if a.Legion != "" {
			fields = append(fields, logging.Legion(a.Legion), logging.Term(a.Term))
		}
		if a.Event == "lord" {
			fields = append(fields, logging.Boot(p.now.Boot))
		}
		if a.Warn {
			p.log.Warn(a.Text, fields...)
		} else {
			p.log.Info(a.Text, fields...)
		}
	case legion.Stopped:
		close(p.stopped)
	}
}

// persist makes the core's promises durable. After one that fails for another
// reason than a full disk none is acknowledged any more, because they are
// acknowledged in order: this node votes no more until it is started again.
func (p *protocol) persist(a legion.Persist) {
	w, err := encodePersist(a)
	if err != nil {
		p.log.Error("encode promise", zap.Error(err))
		return
	}
	p.disk.put(w, func(err error) {
		if err != nil {
			if !p.broken.Swap(true) {
				p.log.Error("promise is not durable; restart the agent when the state directory is well", zap.Error(err))
				p.diskTrouble(err.Error())
			}
		}
		if p.broken.Load() {
			return
		}
		for _, b := range w.Batches {
			if b, err := jobs.DecodeBatch(b); err == nil && len(b.Records) > 0 {
				p.observe(b.Records)
			}
		}
		p.durable.Store(max(p.durable.Load(), a.Seq))
		select {
		case p.synced <- struct{}{}:
		default:
		}
	})
}

// diskTrouble tells the core what keeps the disk from taking writes; "": nothing
// any more. A promise that failed for good is not over with a full disk.
func (p *protocol) diskTrouble(trouble string) {
	if trouble != "" || !p.broken.Load() {
		p.post(legion.DiskTrouble{Trouble: trouble})
	}
}

// send sends one message, filled in with what only the ledger knows.
func (p *protocol) send(s legion.Send) {
	m := s.Message
	switch b := m.Body.(type) {
	case legion.Beat:
		p.metrics.Beat()
	case legion.Ask:
		h := p.store.UnsettledHash(b.Legion)
		b.Hash = h[:]
		m.Body = b
	case legion.Vote:
		if s.Attach {
			if h := p.store.UnsettledHash(b.Legion); slices.Equal(h[:], s.Hash) {
				b.Same = true
			} else if state, err := p.store.Unsettled(b.Legion).Encode(); err == nil {
				b.State = state
			} else {
				p.log.Error("encode ledger state", logging.Legion(b.Legion), zap.Error(err))
				return // a vote without what was written is worse than none
			}
			m.Body = b
		}
	case legion.Standing:
		p.standings.put(s)
		return
	}
	if s.To == p.name {
		p.own = append(p.own, legion.Receive{Message: m})
		return
	}
	p.dispatch(s.To, m)
}

// runStandings fills in and sends what other voters are to be told of all
// legions, until ctx ends. With a thousand of them, or after an accident with as
// many lost runs, to read it takes so long that the beats must not wait for it.
// A voter asks until it is answered; its last question is the one that counts.
func (p *protocol) runStandings(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.standings.ready:
		}
		last := map[string]legion.Message{}
		for _, s := range p.standings.take() {
			last[s.To] = s.Message
		}
		for _, name := range slices.Sorted(maps.Keys(last)) {
			if ctx.Err() != nil {
				return
			}
			m := last[name]
			b, ok := m.Body.(legion.Standing)
			if !ok {
				continue
			}
			var err error
			if b.States, err = legionStates(p.store, p.clock().Wall); err != nil {
				p.log.Error("read ledger state for a voter", zap.Error(err))
				continue
			}
			m.Body = b
			p.dispatch(name, m)
		}
	}
}

// dispatch sends a message to another node.
func (p *protocol) dispatch(name string, m legion.Message) {
	b, err := m.Encode()
	if err != nil {
		p.log.Error("encode message", zap.Error(err))
		return
	}
	// A message that cannot be sent is a lost one; the core repeats itself. But
	// that is of no use to one that is too large.
	if err := p.net.Send(name, b); errors.Is(err, gossip.ErrTooLarge) {
		kind := fmt.Sprintf("%T", m.Body)
		if _, said := p.tooLarge.LoadOrStore(kind, true); !said {
			p.log.Error("there is more to tell another node than one message carries: fewer jobs, or fewer that wait or run, would do",
				zap.String("message", kind), zap.String("member", name), zap.Int("bytes", len(b)), zap.Error(err))
		}
	}
}

// failProposals answers what will never be answered.
func (p *protocol) failProposals() {
	p.proposalsMu.Lock()
	defer p.proposalsMu.Unlock()
	for id, done := range p.proposals {
		delete(p.proposals, id)
		done(errors.New("stopping"))
	}
}
