package daemon

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/scheduler"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

const (
	maxDue     = 10_000 // slots taken from the engine at a time
	maxQueue   = 1_000  // slots of one job that wait behind a run
	maxCatchUp = 1_000  // slots of one job that catch_up_runs = "all" runs
	lookAround = time.Second
)

// A foreman decides what is run: it owns the engine, the reigns and the list
// of what runs and waits, on one goroutine.
type foreman struct {
	node, incarnation string
	lostAfter         time.Duration
	maxRuns           int

	clock    clock
	log      *zap.Logger
	store    *ledger.Store
	disk     *disk
	protocol *protocol
	scribe   *scribe
	runs     *runs
	away     func(node, incarnation string, since time.Time) bool // no word of it since

	inbox  *mailbox[func()]
	engine *scheduler.Engine
	jobs   map[string]*entry // by key
	reigns map[string]*reign // by legion
	// living are the runs that count for overlap, by job key and run id: this
	// node's own, and those that a reign found in the ledger.
	living  map[string]map[string]jobs.Record
	queued  map[string][]jobs.Record // slots that wait, oldest first
	look    time.Time                // when lost runs are looked for next
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

// A reign is a lordship that this node acts on.
type reign struct {
	legion string
	term   uint64
	since  time.Time
	ctx    context.Context // ends with the reign
	cancel context.CancelFunc
}

// jobKey names a job in the engine: legion/name, or /name for a local one.
func jobKey(legionName, job string) string { return legionName + "/" + job }

func newForeman() *foreman {
	return &foreman{
		inbox:    newMailbox[func()](),
		engine:   scheduler.NewEngine(0),
		jobs:     map[string]*entry{},
		reigns:   map[string]*reign{},
		living:   map[string]map[string]jobs.Record{},
		queued:   map[string][]jobs.Record{},
		stopping: make(chan struct{}),
		idle:     make(chan struct{}),
		done:     make(chan struct{}),
	}
}

// do has f run on the foreman's goroutine, after what was asked before.
func (f *foreman) do(f1 func()) { f.inbox.put(f1) }

// ask has f run on the foreman's goroutine and returns when it has.
func (f *foreman) ask(ctx context.Context, f1 func()) error {
	c := make(chan struct{})
	f.do(func() { f1(); close(c) })
	select {
	case <-c:
		return nil
	case <-f.done:
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
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
	if len(f.living) == 0 {
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

// A decision is what one owner's due slots came to: what is to be written
// and, once it is, which of the claims are to be started.
type decision struct {
	jobs.Batch
	starts []jobs.Record
	stops  []stop // runs to be replaced
}

type stop struct{ job, run, why string }

func (f *foreman) slot(e *entry, at time.Time) jobs.Slot {
	s := jobs.Slot{Legion: e.Legion, Job: e.Name, At: at.UTC()}
	if e.Legion == "" {
		s.Node = f.node
	}
	return s
}

func (f *foreman) mark(e *entry, at time.Time) jobs.Mark {
	m := jobs.Mark{Legion: e.Legion, Job: e.Name, Timing: e.Timing(), At: at.UTC(), Term: f.term(e.Legion)}
	if e.Legion == "" {
		m.Node = f.node
	}
	return m
}

func (f *foreman) term(legionName string) uint64 {
	if r := f.reigns[legionName]; r != nil {
		return r.term
	}
	return 0
}

// decide says what becomes of the due slots of one job.
func (f *foreman) decide(e *entry, d scheduler.Due, now time.Time, b *decision) {
	b.Marks = append(b.Marks, f.mark(e, d.At))
	if d.Older.Count > 0 {
		f.decideOlder(e, d.Older, now, b)
	}
	if late := now.Sub(d.At); late > f.catchUp(e, d.At) {
		b.Records = append(b.Records, f.missed(e, scheduler.Range{From: d.At, To: d.At, Count: 1}, f.whyMissed(e, d.At)))
		return
	}
	f.decideSlot(e, d.At, b)
}

// decideOlder records the slots that a newer one supersedes, or runs them.
func (f *foreman) decideOlder(e *entry, older scheduler.Range, now time.Time, b *decision) {
	if e.CatchUpRuns == jobs.CatchUpAll {
		n := 0
		for at := older.From; !at.IsZero() && !at.After(older.To) && n < maxCatchUp; at = e.schedule.Next(at) {
			if now.Sub(at) > f.catchUp(e, at) {
				continue
			}
			if n == 0 && at.After(older.From) {
				b.Records = append(b.Records, f.missed(e, scheduler.Range{From: older.From, To: at.Add(-time.Second), Count: 1}, f.whyMissed(e, older.From)))
			}
			n++
			f.decideSlot(e, at, b)
		}
		if n > 0 {
			return
		}
	}
	b.Records = append(b.Records, f.missed(e, older, f.whyMissed(e, older.From)))
}

// catchUp is how late a slot may be started.
func (f *foreman) catchUp(e *entry, at time.Time) time.Duration {
	if e.CatchUp != jobs.CatchUpDefault {
		return e.CatchUp
	}
	const most = 5 * time.Minute
	if next := e.schedule.Next(at); !next.IsZero() {
		return min(most, next.Sub(at))
	}
	return most
}

// whyMissed says why nobody took a slot when it was due.
func (f *foreman) whyMissed(e *entry, at time.Time) string {
	if e.Legion == "" {
		if at.Before(f.started) {
			return "daemon down"
		}
	} else if r := f.reigns[e.Legion]; r != nil && at.Before(r.since) {
		return "no lord"
	}
	return "too late"
}

func (f *foreman) missed(e *entry, r scheduler.Range, why string) jobs.Record {
	rec := f.record(e, r.From)
	rec.State, rec.Reason, rec.Attempt = jobs.Missed, why, 0
	if r.Count > 1 {
		rec.To, rec.Count = r.To.UTC(), r.Count
	}
	return rec
}

func (f *foreman) record(e *entry, at time.Time) jobs.Record {
	return jobs.Record{
		Slot: f.slot(e, at), Attempt: 1, Term: f.term(e.Legion), Node: f.node, Incarnation: f.incarnation,
		Definition: e.Definition(), Scheduled: at.UTC(),
	}
}

// decideSlot applies the job's policies to one slot.
func (f *foreman) decideSlot(e *entry, at time.Time, b *decision) {
	rec := f.record(e, at)
	skip := func(why string) {
		rec.State, rec.Reason, rec.Attempt = jobs.Skipped, why, 0
		b.Records = append(b.Records, rec)
	}
	living := f.living[e.key]
	switch {
	case !e.Enabled:
		skip("disabled")
		return
	case len(living) == 0 || e.Overlap == jobs.OverlapAllow:
	case e.Overlap == jobs.OverlapReplace:
		for id := range living {
			b.stops = append(b.stops, stop{e.key, id, "replaced by " + rec.Slot.String()})
		}
		f.enqueue(e, rec, b, 1)
		return
	case e.Overlap == jobs.OverlapQueue:
		f.enqueue(e, rec, b, 1)
		return
	case e.Overlap == jobs.OverlapQueueAll:
		f.enqueue(e, rec, b, maxQueue)
		return
	default:
		skip("overlap")
		return
	}
	if why := f.mutexHeld(e); why != "" {
		skip(why)
		return
	}
	f.claim(e, rec, b)
}

// enqueue has a slot wait for the runs before it. Where only most may wait,
// the older ones are skipped for it.
func (f *foreman) enqueue(e *entry, rec jobs.Record, b *decision, most int) {
	rec.State, rec.Run = jobs.Queued, newRun()
	q := f.queued[e.key]
	for len(q) >= most {
		old := q[0]
		q = q[1:]
		old.State, old.Reason, old.Term = jobs.Skipped, "overlap", f.term(e.Legion)
		b.Records = append(b.Records, old)
	}
	f.queued[e.key] = append(q, rec)
	b.Records = append(b.Records, rec)
}

// mutexHeld names the job that holds the mutex of e, if one does.
func (f *foreman) mutexHeld(e *entry) string {
	if e.Mutex == "" {
		return ""
	}
	for key, runs := range f.living {
		if o := f.jobs[key]; o != nil && key != e.key && o.Legion == e.Legion && o.Mutex == e.Mutex && len(runs) > 0 {
			return "mutex " + e.Mutex
		}
	}
	return ""
}

// claim makes rec a claim that is to be started once it is committed. It
// counts as living from now, so that nothing overlaps with it meanwhile.
func (f *foreman) claim(e *entry, rec jobs.Record, b *decision) {
	rec.State, rec.Node, rec.Incarnation, rec.Term = jobs.Claimed, f.node, f.incarnation, f.term(e.Legion)
	rec.Run = cmp.Or(rec.Run, newRun())
	b.Records = append(b.Records, rec)
	b.starts = append(b.starts, rec)
	f.live(e.key, rec)
}

func (f *foreman) live(key string, rec jobs.Record) {
	if f.living[key] == nil {
		f.living[key] = map[string]jobs.Record{}
	}
	f.living[key][rec.Run] = rec
}

// newRun returns a new run id: UUIDv7, so that ids sort by time.
func newRun() string { return uuid.Must(uuid.NewV7()).String() }

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
		if err != nil || e == nil {
			delete(f.living[jobKey(owner, rec.Job)], rec.Run)
			continue
		}
		f.start(e, rec)
	}
	if err != nil && !f.closing {
		f.log.Warn("slots not claimed", logging.Legion(owner), logging.Term(term), zap.Int("slots", len(b.starts)), zap.Error(err))
	}
}

// start has a claimed slot run.
func (f *foreman) start(e *entry, rec jobs.Record) {
	f.busy++
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		end := f.runs.execute(e.Job, rec)
		f.do(func() {
			f.ended(e.key, end)
			f.rest()
		})
	}()
}

// ended takes the end of a run: its place is free, a failed one may be tried
// again, and what waited may go.
func (f *foreman) ended(key string, rec jobs.Record) {
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
	again := f.record(e, rec.Scheduled)
	again.Slot, again.Attempt, again.Manual = rec.Slot, rec.Attempt+1, rec.Manual
	again.Run = newRun()
	f.live(e.key, again) // nothing else may take its place while it waits
	term, over := f.term(e.Legion), f.reignOver(e.Legion)
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		select {
		case <-time.After(delay):
		case <-f.stopping:
		case <-over:
		}
		f.do(func() {
			cur := f.jobs[e.key]
			if cur == nil || f.closing || f.term(e.Legion) != term {
				delete(f.living[e.key], again.Run)
				return
			}
			b := &decision{}
			f.claim(cur, again, b)
			f.commit(cur.Legion, b)
		})
	}()
}

// begin acts on a lordship: what the voters had written is taken over, and
// then the jobs are scheduled from their marks on.
func (f *foreman) begin(a legion.Reign) {
	r := &reign{legion: a.Legion, term: a.Term, since: f.clock().Wall}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if old := f.reigns[a.Legion]; old != nil {
		old.cancel()
	}
	f.reigns[a.Legion] = r
	w, err := f.takeOver(a)
	if err != nil {
		f.log.Error("read the votes", logging.Legion(a.Legion), logging.Term(a.Term), zap.Error(err))
		f.protocol.post(legion.Abandon{Legion: a.Legion, Reason: err.Error()})
		return
	}
	f.disk.put(w, func(err error) {
		f.do(func() {
			if f.reigns[a.Legion] != r {
				return
			}
			if err != nil {
				f.protocol.post(legion.Abandon{Legion: a.Legion, Reason: err.Error()})
				return
			}
			f.schedule(r)
		})
	})
}

// takeOver returns what the voters had written, to be merged into the ledger
// of this node before it acts.
func (f *foreman) takeOver(a legion.Reign) (ledger.Writes, error) {
	var w ledger.Writes
	for _, s := range a.States {
		if s.Same {
			continue
		}
		b, err := jobs.DecodeBatch(s.State)
		if err != nil {
			return w, err
		}
		w.Records = append(w.Records, b.Records...)
		w.Marks = append(w.Marks, b.Marks...)
	}
	return w, nil
}

// schedule takes over the legion's living runs and queue, and sets its jobs
// going. A job without a mark of its timing has no past: its first mark is
// written before its first slot can be due.
func (f *foreman) schedule(r *reign) {
	known := f.store.Unsettled(r.legion)
	for _, rec := range known.Records {
		key := jobKey(r.legion, rec.Job)
		switch {
		case f.living[key][rec.Run].Run != "":
		case rec.Node == f.node && rec.State >= jobs.Claimed:
			f.neverStarted(key, rec)
		case rec.State == jobs.Queued:
			if !slices.ContainsFunc(f.queued[key], func(q jobs.Record) bool { return q.Run == rec.Run }) {
				f.queued[key] = append(f.queued[key], rec)
			}
		default:
			f.live(key, rec)
		}
	}
	for key, q := range f.queued {
		if strings.HasPrefix(key, r.legion+"/") {
			slices.SortFunc(q, func(a, b jobs.Record) int { return a.Scheduled.Compare(b.Scheduled) })
		}
	}
	f.look = time.Time{}
	f.setJobs(r.legion, known.Marks, func(*entry) bool { return true })
	for key, e := range f.jobs {
		if e.Legion == r.legion && len(f.queued[key]) > 0 {
			f.next(e)
		}
	}
}

// neverStarted closes a claim of this node that no run of it goes by: its
// agent died, or lost its lordship, between asking for the claim and hearing
// that it was committed. The slot goes on as the next attempt, never as the
// same one again.
func (f *foreman) neverStarted(key string, rec jobs.Record) {
	now := f.clock().Wall
	rec.State, rec.Ended, rec.Reason = jobs.NeverStarted, now.UTC(), "the claim's answer was lost"
	f.scribe.put(rec)
	e := f.jobs[key]
	if e == nil || !e.Enabled || now.Sub(rec.Scheduled) > f.catchUp(e, rec.Scheduled) {
		return
	}
	again := f.record(e, rec.Scheduled)
	again.Slot, again.Attempt, again.Manual = rec.Slot, rec.Attempt+1, rec.Manual
	b := &decision{}
	f.claim(e, again, b)
	f.commit(e.Legion, b)
}

// setJobs sets the wanted jobs of an owner going from their marks. A job that
// goes already must not be wanted: its newest mark may still be on its way.
func (f *foreman) setJobs(owner string, marks []jobs.Mark, wanted func(*entry) bool) {
	past := map[string]jobs.Mark{}
	for _, m := range marks {
		past[m.Job] = m
	}
	now := f.clock().Wall
	first := &decision{}
	var fresh []*entry
	for _, key := range slices.Sorted(maps.Keys(f.jobs)) {
		e := f.jobs[key]
		if e.Legion != owner || !e.schedule.Kind().Has(cronspec.Clock) || !wanted(e) {
			continue
		}
		if m, ok := past[e.Name]; ok && m.Timing == e.Timing() {
			f.engine.Set(now, key, e.schedule, m.At)
			continue
		}
		first.Marks = append(first.Marks, f.mark(e, now))
		fresh = append(fresh, e)
	}
	if len(fresh) == 0 {
		return
	}
	term := f.term(owner)
	done := func(err error) {
		f.do(func() {
			if err != nil || owner != "" && f.term(owner) != term {
				return // the next reign sees to it
			}
			for _, e := range fresh {
				if f.jobs[e.key] == e {
					f.engine.Set(f.clock().Wall, e.key, e.schedule, now)
				}
			}
		})
	}
	if owner == "" {
		f.disk.put(ledger.Writes{Marks: first.Marks}, done)
	} else {
		f.protocol.propose(owner, term, first.Batch, done)
	}
}

// end stops acting on a lordship. What waits and what others run is the next
// lord's to see to.
func (f *foreman) end(a legion.Unreign) {
	r := f.reigns[a.Legion]
	if r != nil && r.term == a.Term {
		r.cancel()
		delete(f.reigns, a.Legion)
		for key, e := range f.jobs {
			if e.Legion != a.Legion {
				continue
			}
			f.engine.Remove(key)
			delete(f.queued, key)
			for id, rec := range f.living[key] {
				if rec.Node != f.node || rec.Incarnation != f.incarnation {
					delete(f.living[key], id)
				} else if e.OnUnlord == jobs.OnUnlordKill {
					f.runs.kill(id, "no longer lord")
				}
			}
		}
	}
	f.protocol.post(legion.LetGo{Legion: a.Legion, Term: a.Term})
}

// findLost declares the runs lost whose node has not been heard for long.
func (f *foreman) findLost(now time.Time) {
	batches := map[string]*decision{}
	for key, runs := range f.living {
		e := f.jobs[key]
		for id, rec := range runs {
			r := f.reigns[rec.Slot.Legion]
			if r == nil || rec.Node == f.node || rec.State == jobs.Queued || !f.away(rec.Node, rec.Incarnation, now.Add(-f.lostAfter)) {
				continue
			}
			b := batches[r.legion]
			if b == nil {
				b = &decision{}
				batches[r.legion] = b
			}
			lost := rec
			lost.State, lost.Term, lost.Ended = jobs.Lost, r.term, now.UTC()
			lost.Reason = "no word of " + rec.Node + " for " + f.lostAfter.String()
			b.Records = append(b.Records, lost)
			delete(runs, id)
			if e != nil && e.OnLost == jobs.OnLostRerun {
				again := f.record(e, rec.Scheduled)
				again.Slot, again.Attempt, again.Manual = rec.Slot, rec.Attempt+1, rec.Manual
				f.claim(e, again, b)
			}
			f.log.Warn("run lost", logging.Legion(r.legion), logging.Term(r.term), logging.Job(rec.Job),
				logging.Slot(rec.Slot.String()), logging.Run(rec.Run), logging.Attempt(rec.Attempt), logging.Outcome(lost.State.String()), zap.String("reason", lost.Reason))
		}
		if len(runs) == 0 {
			delete(f.living, key)
		}
	}
	for owner, b := range batches {
		f.commit(owner, b)
	}
	for key := range f.queued {
		if e := f.jobs[key]; e != nil {
			f.next(e)
		}
	}
}

// configure replaces the jobs. Those whose timing is the same keep their place.
func (f *foreman) configure(entries map[string]*entry) {
	old := f.jobs
	f.jobs = entries
	owners := map[string]bool{}
	changed := func(e *entry) bool { return old[e.key] == nil || old[e.key].Timing() != e.Timing() }
	for key, e := range old {
		if n := entries[key]; n == nil || n.Timing() != e.Timing() {
			f.engine.Remove(key)
		}
		if entries[key] == nil {
			delete(f.queued, key)
		}
	}
	for _, e := range entries {
		if changed(e) {
			owners[e.Legion] = true
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(owners)) {
		if owner == "" || f.reigns[owner] != nil {
			f.setJobs(owner, f.store.Unsettled(owner).Marks, changed)
		}
	}
}

// observe takes note of what other nodes say of their runs: one that has ended
// stands in nobody's way any more.
func (f *foreman) observe(records []jobs.Record) {
	for _, rec := range records {
		key := jobKey(rec.Slot.Legion, rec.Job)
		if _, ok := f.living[key][rec.Run]; ok && rec.State.Settled() && rec.Node != f.node {
			f.ended(key, rec)
		}
	}
}

// reignOver is closed when the reign over a legion ends; for a node's own jobs never.
func (f *foreman) reignOver(legionName string) <-chan struct{} {
	if r := f.reigns[legionName]; r != nil {
		return r.ctx.Done()
	}
	return nil
}
