package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

// A foreman is the shell around what decides about slots: one goroutine steps
// the core and carries out what it says.
type foreman struct {
	clock    clock
	log      *zap.Logger
	store    *ledger.Store
	disk     *disk
	protocol *protocol
	scribe   *scribe
	runs     *runs

	// These ask other nodes, if there are any: a run's node how the run is, and
	// a voter what it knows of the slots of records.
	inquire   func(ctx context.Context, rec jobs.Record) (jobs.Record, error)
	recollect func(ctx context.Context, voter string, slots []jobs.Record) ([]jobs.Record, error)

	inbox *mailbox[func()]
	core  *slots.Core

	asking   context.Context // of questions to other nodes; ends when the node is told to stop
	silence  context.CancelFunc
	reigning map[string]reigning // by legion: what is asked for a reign ends with it

	replies   map[uint64]func(slots.Reply) // to orders, by their number
	lastOrder uint64

	stopping chan struct{} // closed when nothing new is to be started
	idle     chan struct{} // closed when besides nothing runs
	wg       sync.WaitGroup
	done     chan struct{}
}

// A reigning lasts as long as a reign does.
type reigning struct {
	ctx context.Context
	end context.CancelFunc
}

func newForeman(cfg slots.Config, now legion.Now) *foreman {
	f := &foreman{
		inbox:    newMailbox[func()](),
		core:     slots.New(cfg, now, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
		reigning: map[string]reigning{},
		replies:  map[uint64]func(slots.Reply){},
		stopping: make(chan struct{}),
		idle:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	f.asking, f.silence = context.WithCancel(context.Background())
	return f
}

// do has g run on the foreman's goroutine, after what was asked before.
func (f *foreman) do(g func()) { f.inbox.put(g) }

// post gives the core an event. It does not wait.
func (f *foreman) post(ev slots.Event) { f.do(func() { f.step(ev) }) }

// query returns what g returns on the foreman's goroutine.
func query[T any](ctx context.Context, f *foreman, g func() T) (T, error) {
	c := make(chan T, 1)
	f.do(func() { c <- g() })
	var none T
	select {
	case v := <-c:
		return v, nil
	case <-f.done:
		return none, errors.New("the node is stopping")
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// close keeps anything new from being started; idle is closed once nothing runs.
func (f *foreman) close() {
	f.do(func() {
		f.silence()
		close(f.stopping)
		f.runs.hurry(func(wait) bool { return true })
		f.step(slots.Close{})
	})
}

func (f *foreman) run(ctx context.Context) {
	defer close(f.done)
	defer f.wg.Wait()
	defer f.silence()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.inbox.ready:
			for _, g := range f.inbox.take() {
				g()
			}
		case <-timer.C:
			f.step(slots.Tick{})
		}
		timer.Reset(f.core.Wake(f.clock()))
	}
}

func (f *foreman) step(ev slots.Event) {
	switch ev := ev.(type) {
	case slots.Reign:
		f.reigned(ev.Legion)
		ctx, end := context.WithCancel(f.asking)
		f.reigning[ev.Legion] = reigning{ctx, end}
	case slots.Unreign:
		f.reigned(ev.Legion)
		f.runs.unlord(ev.Legion)
	}
	for _, a := range f.core.Step(f.clock(), ev) {
		f.act(a)
	}
}

// reigned ends what is asked for a reign.
func (f *foreman) reigned(legionName string) {
	if r, ok := f.reigning[legionName]; ok {
		r.end()
		delete(f.reigning, legionName)
	}
}

func (f *foreman) act(a slots.Action) {
	switch a := a.(type) {
	case slots.Commit:
		f.commit(a)
	case slots.Write:
		f.disk.put(ledger.Writes{Records: a.Batch.Records, Marks: a.Batch.Marks}, func(err error) { f.post(slots.Done{ID: a.ID, Err: err}) })
	case slots.Publish:
		f.scribe.put(a.Records...)
	case slots.Start:
		f.start(a)
	case slots.Stop:
		if a.Kill {
			f.runs.kill(a.Run, a.Why)
		} else {
			f.runs.stop(a.Run, a.Why)
		}
	case slots.AskNode:
		f.askNode(a.Record)
	case slots.AskVoters:
		f.askVoters(a)
	case slots.Abandon:
		f.protocol.post(legion.Abandon{Legion: a.Legion, Reason: a.Reason})
	case slots.LetGo:
		f.protocol.post(legion.LetGo{Legion: a.Legion, Term: a.Term})
	case slots.Note:
		f.note(a)
	case slots.Reply:
		f.reply(a)
	case slots.Idle:
		close(f.idle)
	}
}

// commit has a quorum take a write, and then this node's own disk: the core
// decides by its own ledger, and a quorum may be there without it.
func (f *foreman) commit(a slots.Commit) {
	done := func(err error) { f.post(slots.Done{ID: a.ID, Err: err}) }
	f.protocol.propose(legion.Propose{Legion: a.Legion, Term: a.Term, Dated: a.Dated}, a.Batch, func(err error) {
		if err != nil {
			done(err)
			return
		}
		// Mostly it is there already, and this costs no flush.
		f.disk.put(ledger.Writes{Records: a.Batch.Records, Marks: a.Batch.Marks}, done)
	})
}

// start has a claimed slot run.
func (f *foreman) start(a slots.Start) {
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		end := f.runs.execute(a.Job, a.Record)
		f.do(func() {
			f.runs.forget(a.Record.Run)
			f.step(slots.Ended{Record: end})
		})
	}()
}

// askNode asks a run's node how the run is. Alone there is nobody to ask.
func (f *foreman) askNode(rec jobs.Record) {
	if f.inquire == nil {
		return
	}
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		ctx, cancel := context.WithTimeout(f.asking, askTimeout)
		defer cancel()
		said, err := f.inquire(ctx, rec)
		f.post(slots.Told{Asked: rec, Said: said, Err: err})
	}()
}

func (f *foreman) note(a slots.Note) {
	log := f.log.Info
	if a.Warn {
		log = f.log.Warn
	}
	var fields []zap.Field
	if a.Event != "" {
		fields = append(fields, logging.Event(a.Event))
	}
	if a.Legion != "" {
		fields = append(fields, logging.Legion(a.Legion), logging.Term(a.Term))
	}
	if r := a.Record; r.Job != "" {
		fields = append(fields, logging.Job(r.Job), logging.Slot(r.Slot.String()), logging.Run(r.Run), logging.Attempt(r.Attempt))
		if r.State.Settled() {
			fields = append(fields, logging.Outcome(r.State.String()), zap.String("reason", r.Reason))
		}
	}
	if a.Err != nil {
		fields = append(fields, zap.Error(a.Err))
	}
	log(a.Text, fields...)
}

// A reader reads the ledger as the core needs it.
type reader struct{ *ledger.Store }

// Slots implements slots.Ledger.
func (r reader) Slots(slots ...jobs.Slot) ([]jobs.Record, error) { return r.Standing(slots...) }

// peers are the others, as gossip and the protocol know them.
type peers struct {
	*presence
	*protocol
	now clock
}

// Away implements slots.Peers.
func (p peers) Away(node, incarnation string, long time.Duration) bool {
	return p.away(node, incarnation, p.now().Boot-long)
}

// Dead implements slots.Peers.
func (p peers) Dead(incarnation string) bool { return p.dead(incarnation) }
