package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/scheduler"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

const (
	maxDue      = 10_000 // slots taken from the engine at a time
	maxQueue    = 1_000  // slots of one job that wait behind a run
	maxCatchUp  = 1_000  // slots of one job that catch_up_runs = "all" runs
	lookAround  = time.Second
	askAgain    = 2 * time.Second // a node how its run is
	askTimeout  = 2 * time.Second
	maxAsking   = 32 // runs whose nodes are being asked at a time
	commitRetry = time.Second
)

// A foreman decides what is run: it owns the engine, the reigns and the list
// of what runs and waits, on one goroutine.
type foreman struct {
	node, incarnation string
	lostAfter         time.Duration

	clock    clock
	log      *zap.Logger
	store    *ledger.Store
	disk     *disk
	protocol *protocol
	scribe   *scribe
	runs     *runs
	away     func(node, incarnation string, since time.Time) bool // no word of it since
	dead     func(incarnation string) bool                        // it has a death certificate

	// These ask other nodes, if there are any: a run's node how the run is, and
	// a voter what it knows of the slots of records.
	inquire   func(ctx context.Context, rec jobs.Record) (jobs.Record, error)
	recollect func(ctx context.Context, voter string, slots []jobs.Record) ([]jobs.Record, error)

	inbox   *mailbox[func()]
	engine  *scheduler.Engine
	jobs    map[string]*entry   // by key
	reigns  map[string]*reign   // by legion
	leaving map[string]*leaving // by legion
	greeted map[string]bool     // owners whose @start jobs have had their turn
	// living are the runs that count for overlap, by job key and run id: this
	// node's own, and those that a reign found in the ledger.
	living  map[string]map[string]jobs.Record
	queued  map[string][]jobs.Record // slots that wait, oldest first
	look    time.Time                // when the runs of others are looked after next
	asked   map[string]time.Time     // when a run's node was last asked how it is, by run id
	started time.Time
	closing bool

	stopping chan struct{} // closed when closing is set
	idle     chan struct{} // closed when closing is set and nothing runs
	busy     int           // claims on their way, and runs
	wg       sync.WaitGroup
	done     chan struct{}
}

// An entry is a job and its schedule.
type entry struct {
	jobs.Job
	key      string
	schedule cronspec.Schedule
}

// jobKey names a job in the engine: legion/name, or /name for a local one.
func jobKey(legionName, job string) string { return legionName + "/" + job }

func newForeman() *foreman {
	return &foreman{
		inbox:    newMailbox[func()](),
		engine:   scheduler.NewEngine(0),
		jobs:     map[string]*entry{},
		reigns:   map[string]*reign{},
		leaving:  map[string]*leaving{},
		greeted:  map[string]bool{},
		living:   map[string]map[string]jobs.Record{},
		queued:   map[string][]jobs.Record{},
		asked:    map[string]time.Time{},
		stopping: make(chan struct{}),
		idle:     make(chan struct{}),
		done:     make(chan struct{}),
	}
}

// do has g run on the foreman's goroutine, after what was asked before.
func (f *foreman) do(g func()) { f.inbox.put(g) }

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
	if !f.closing {
		f.closing = true
		close(f.stopping)
		f.busy++
		f.rest()
	}
}

// rest takes note that one thing less is under way.
func (f *foreman) rest() {
	f.busy--
	if f.closing && f.busy == 0 {
		close(f.idle)
	}
}

func (f *foreman) run(ctx context.Context) {
	defer close(f.done)
	defer f.wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			for _, r := range f.reigns {
				r.cancel()
			}
			return
		case <-f.inbox.ready:
			for _, g := range f.inbox.take() {
				g()
			}
		case <-timer.C:
		}
		now := f.clock().Wall
		f.tick(now)
		timer.Reset(max(min(f.engine.Wake(now), f.lookIn(now)), time.Millisecond))
	}
}

func (f *foreman) lookIn(now time.Time) time.Duration {
	if len(f.living) == 0 && len(f.queued) == 0 {
		return time.Minute
	}
	return f.look.Sub(now)
}

// tick takes what is due. All slots of one owner go in one write.
func (f *foreman) tick(now time.Time) {
	if f.closing {
		return
	}
	if !now.Before(f.look) {
		f.look = now.Add(lookAround)
		f.findLost(now)
		f.askAround(now)
	}
	due := f.engine.Due(now, maxDue)
	batches := map[string]*decision{}
	for _, d := range due {
		e := f.jobs[d.Key]
		if e == nil {
			continue
		}
		b := batches[e.Legion]
		if b == nil {
			b = &decision{}
			batches[e.Legion] = b
		}
		f.decide(e, d, now, b)
	}
	for _, owner := range slices.Sorted(maps.Keys(batches)) {
		f.commit(owner, batches[owner])
	}
}

// commit writes a decision, to a quorum for a legion and to this disk alone
// for a node's own jobs, and starts what was claimed.
func (f *foreman) commit(owner string, b *decision) {
	for _, s := range b.stops {
		f.runs.stop(s.run, s.why)
	}
	if len(b.Records) == 0 && len(b.Marks) == 0 {
		return
	}
	term := f.term(owner)
	f.busy++
	done := func(err error) {
		f.do(func() { f.committed(owner, term, b, err) })
	}
	if owner == "" {
		f.disk.put(ledger.Writes{Records: b.Records, Marks: b.Marks}, done)
		return
	}
	f.protocol.propose(owner, term, b.Batch, done)
}

func (f *foreman) committed(owner string, term uint64, b *decision, err error) {
	defer f.rest()
	for _, rec := range b.starts {
		e := f.jobs[jobKey(owner, rec.Job)]
		if err == nil && e != nil {
			f.start(e, rec)
			continue
		}
		delete(f.living[jobKey(owner, rec.Job)], rec.Run)
		if err == nil {
			rec.State, rec.Ended, rec.Reason = jobs.NeverStarted, f.clock().Wall.UTC(), "the job is gone from the configuration"
			f.scribe.put(rec)
		}
	}
	if r := f.reigns[owner]; err != nil && r != nil && r.term == term && !f.closing {
		f.again(r, b)
	}
	if err != nil && !f.closing {
		f.log.Warn("slots not claimed", logging.Legion(owner), logging.Term(term), zap.Int("slots", len(b.starts)), zap.Error(err))
	}
}

// again asks once more for a write that this reign could not have taken: the
// slots in it are decided, and nobody else will.
func (f *foreman) again(r *reign, b *decision) {
	for _, rec := range b.starts {
		f.live(jobKey(r.legion, rec.Job), rec)
	}
	f.later(r, commitRetry, func() { f.commit(r.legion, b) }, func() {
		for _, rec := range b.starts {
			delete(f.living[jobKey(r.legion, rec.Job)], rec.Run)
		}
	})
}

// later has f1 run after a delay if the reign still lasts, else or run. A nil
// reign lasts as long as the node.
func (f *foreman) later(r *reign, delay time.Duration, f1, or func()) {
	var over <-chan struct{}
	if r != nil {
		over = r.ctx.Done()
	}
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		select {
		case <-time.After(delay):
		case <-f.stopping:
		case <-over:
		}
		f.do(func() {
			if f.closing || r != nil && f.reigns[r.legion] != r {
				or()
			} else {
				f1()
			}
		})
	}()
}

// start has a claimed slot run.
func (f *foreman) start(e *entry, rec jobs.Record) {
	f.busy++
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		end := f.runs.execute(e.Job, rec)
		f.do(func() {
			f.runs.forget(rec.Run)
			f.ended(e.key, end)
			f.rest()
		})
	}()
}

// ended takes the end of a run: its place is free, a failed one may be tried
// again, and what waited may go.
func (f *foreman) ended(key string, rec jobs.Record) {
	if l := f.leaving[rec.Slot.Legion]; l != nil && l.runs[rec.Run] {
		delete(l.runs, rec.Run)
		f.letGoIfDone(l)
	}
	delete(f.living[key], rec.Run)
	if len(f.living[key]) == 0 {
		delete(f.living, key)
	}
	e := f.jobs[key]
	if e == nil || f.closing {
		return
	}
	if e.Legion != "" && f.reigns[e.Legion] == nil {
		return
	}
	if (rec.State == jobs.Failed || rec.State == jobs.TimedOut) && rec.Attempt <= e.Retries {
		f.retry(e, rec)
		return
	}
	f.next(e)
	if e.Mutex == "" {
		return
	}
	for key := range f.queued {
		if o := f.jobs[key]; o != nil && o != e && o.Legion == e.Legion && o.Mutex == e.Mutex {
			f.next(o)
		}
	}
}

// next claims the slot that has waited longest, if nothing stands in its way.
func (f *foreman) next(e *entry) {
	q := f.queued[e.key]
	if len(q) == 0 || len(f.living[e.key]) > 0 || f.mutexHeld(e) != "" {
		return
	}
	f.queued[e.key] = q[1:]
	if len(q) == 1 {
		delete(f.queued, e.key)
	}
	b := &decision{}
	f.claim(e, q[0], b)
	f.commit(e.Legion, b)
}

// retry claims the next attempt after a delay, if it comes before the next slot.
func (f *foreman) retry(e *entry, rec jobs.Record) {
	delay := e.RetryDelay
	for range rec.Attempt - 1 {
		delay = time.Duration(float64(delay) * e.Backoff)
	}
	now := f.clock().Wall
	if next := f.engine.Next(e.key); !next.IsZero() && !now.Add(delay).Before(next) {
		f.next(e)
		return
	}
	again := f.nextAttempt(e, rec)
	again.Run = newRun()
	f.live(e.key, again) // nothing else may take its place while it waits
	f.later(f.reigns[e.Legion], delay, func() {
		cur := f.jobs[e.key]
		if cur == nil {
			delete(f.living[e.key], again.Run)
			return
		}
		b := &decision{}
		f.claimNext(cur, rec, again, b)
		f.commit(cur.Legion, b)
	}, func() { delete(f.living[e.key], again.Run) })
}
