package slots

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/scheduler"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

const (
	maxDue = 10_000 // slots taken from the engine at a time
	// maxDecision is how many records go in one write: one job adds no more
	// than about maxCatchUp beyond it. With names as long as they may be that
	// fits a message, and a disk has it in less than a lease.
	maxDecision = 10_000

	maxQueue   = 1_000 // slots of one job that wait behind a run
	maxCatchUp = 1_000 // slots of one job that catch_up_runs = "all" runs
	maxAsking  = 32    // runs whose nodes are being asked at a time

	// maxStep is how far the wall clock may run off CLOCK_BOOTTIME between two
	// steps, which are idleWake apart at most; further, and it was set.
	maxStep = 10 * time.Second

	lookAround  = time.Second     // how often the runs of others are looked after
	askAgain    = 2 * time.Second // a node how its run is
	commitRetry = time.Second     // after a write that was refused
	idleWake    = time.Minute     // with nothing to look after

	// letGoBound is how long runs that do not die keep a lordship that this
	// node gives up by itself. One that ran out is over whatever they do.
	letGoBound = 10 * time.Second
)

// A Config says who decides.
type Config struct {
	Node, Incarnation string
	// Earlier are incarnations of this node that wrote this very ledger. Of
	// others it cannot say what they began.
	Earlier   []string
	LostAfter time.Duration // without word of a node, until its runs are lost
	Ledger    Ledger
	Peers     Peers
}

// An Entry is a job and its schedule. It is a value that nobody changes.
type Entry struct {
	jobs.Job
	Schedule cronspec.Schedule
}

// Key names a job among all of a node's: legion/name, or /name without a legion.
func Key(legion, job string) string { return legion + "/" + job }

// Key is the entry's own.
func (e *Entry) Key() string { return Key(e.Legion, e.Name) }

// A Core decides about the slots of one node. See the package comment.
type Core struct {
	cfg     Config
	rng     *rand.Rand
	now     legion.Now
	started time.Time
	actions []Action

	engine  *scheduler.Engine
	jobs    map[string]*Entry   // by key
	reigns  map[string]*reign   // by legion; "" is the node's own, which lasts
	leaving map[string]*leaving // by legion
	greeted map[string]bool     // owners whose @start jobs have had their turn
	// living are the runs that count for overlap, by job key and run id: this
	// node's own, from the claim on, and those that a reign found in the ledger.
	living map[string]map[string]jobs.Record
	queued map[string][]jobs.Record // slots that wait, by job key, oldest first
	mine   map[string]bool          // runs that were started here and have not ended
	asked  map[string]time.Duration // on Boot: when a run's node was last asked, by run id
	look   time.Duration            // on Boot: when the runs of others are looked after next
	stale  map[string]stale         // attempts that nobody looks after, by run id

	nextStale time.Duration // on Boot: when they are looked for next

	waiting map[uint64]func(error)                // for Done
	recalls map[uint64]func([]jobs.Record, error) // for Recalled
	lastID  uint64
	timers  []timer // in no order: there are few

	// over is the latest stretch of time that the wall clock was set over.
	over scheduler.Range

	drained, closing, idle bool
}

// A timer has something done at a moment, if the reign lasts until then.
type timer struct {
	at    time.Duration // on Boot
	reign *reign
	do    func()
}

// New returns a Core without jobs. Randomness is for run ids alone: no two
// nodes may be given the same.
func New(cfg Config, now legion.Now, rng *rand.Rand) *Core {
	own := newReign("", 0, normal(now.Wall))
	own.known, own.ready = true, true
	return &Core{
		cfg: cfg, rng: rng, now: now, started: own.since,
		engine:  scheduler.NewEngine(0),
		jobs:    map[string]*Entry{},
		reigns:  map[string]*reign{"": own},
		leaving: map[string]*leaving{},
		greeted: map[string]bool{},
		living:  map[string]map[string]jobs.Record{},
		queued:  map[string][]jobs.Record{},
		mine:    map[string]bool{},
		asked:   map[string]time.Duration{},
		waiting: map[uint64]func(error){},
		recalls: map[uint64]func([]jobs.Record, error){},
	}
}

// Step takes one event, and whatever is due by now. The actions are the
// caller's.
func (c *Core) Step(now legion.Now, ev Event) []Action {
	c.lookAtClock(now)
	c.now = now
	switch ev := ev.(type) {
	case Configure:
		c.configure(ev.Jobs)
	case Reign:
		c.begin(ev.Reign)
	case Ready:
		c.ready(ev)
	case Unreign:
		c.end(ev.Unreign)
	case Drain:
		c.drain(ev.On)
	case Unhooked:
		if l := c.leaving[ev.Legion]; l != nil && l.Term == ev.Term {
			l.unhooked = true
			c.letGoIfDone(l)
		}
	case Done:
		if then := c.waiting[ev.ID]; then != nil {
			delete(c.waiting, ev.ID)
			then(ev.Err)
		}
	case Recalled:
		if then := c.recalls[ev.ID]; then != nil {
			delete(c.recalls, ev.ID)
			then(ev.Records, ev.Err)
		}
	case Ended:
		delete(c.mine, ev.Record.Run)
		c.ended(ev.Record)
	case Observed:
		c.observe(ev.Records)
	case Told:
		c.told(ev)
	case Trigger:
		c.trigger(ev)
	case Rerun:
		c.rerun(ev)
	case Exec:
		c.exec(ev)
	case SetPause:
		c.setPause(ev)
	case Close:
		c.close()
	}
	c.tick()
	if c.closing && !c.idle && len(c.mine) == 0 {
		c.idle = true
		c.do(Idle{})
	}
	actions := c.actions
	c.actions = nil
	return actions
}

// lookAtClock notices that the wall clock was set. Suspend is no such thing.
func (c *Core) lookAtClock(now legion.Now) {
	passed := now.Boot - c.now.Boot
	step := now.Wall.Sub(c.now.Wall) - passed
	if step.Abs() <= maxStep {
		return
	}
	how := "forward"
	if step < 0 {
		how = "back"
	} else {
		c.over = scheduler.Range{From: c.now.Wall, To: now.Wall.Add(-passed)}
	}
	c.do(Note{Warn: true, Event: "clock-set", Text: fmt.Sprintf("the wall clock was set %s by %v", how, step.Abs().Round(time.Millisecond))})
}

// Wake says after how long, at the latest, Step wants a [Tick].
func (c *Core) Wake(now legion.Now) time.Duration {
	wake := idleWake
	if !c.closing { // else nothing but timers is looked at
		wake = min(wake, c.engine.Wake(now.Wall))
	}
	if !c.closing && (len(c.living) > 0 || len(c.queued) > 0) {
		wake = min(wake, c.look-now.Boot)
	}
	for _, t := range c.timers {
		wake = min(wake, t.at-now.Boot)
	}
	return max(wake, time.Millisecond)
}

func (c *Core) do(a Action) { c.actions = append(c.actions, a) }

// wall is the time of day, in the form that records have it.
func (c *Core) wall() time.Time { return normal(c.now.Wall) }

func normal(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }

// tick does what is due. All slots of one owner go in one write, unless there
// are very many.
func (c *Core) tick() {
	c.fire()
	if c.closing {
		return
	}
	if c.now.Boot >= c.look {
		c.look = c.now.Boot + lookAround
		c.findLost()
		c.askAround()
	}
	c.lookAtStale()
	batches := map[string]*decision{}
	for _, d := range c.engine.Due(c.now.Wall, maxDue) {
		e := c.jobs[d.Key]
		r := c.reigns[e.Legion] // both are there: the engine forgets with them
		b := batches[e.Legion]
		if b == nil {
			b = &decision{}
			batches[e.Legion] = b
		}
		c.decide(r, e, d, b)
		if len(b.Records) >= maxDecision {
			c.commit(r, b)
			delete(batches, e.Legion)
		}
	}
	for _, owner := range sorted(batches) {
		c.commit(c.reigns[owner], batches[owner])
	}
}

// later has something done after a delay, if the reign still lasts.
func (c *Core) later(r *reign, delay time.Duration, do func()) {
	c.timers = append(c.timers, timer{c.now.Boot + delay, r, do})
}

// fire does what was to be done later, and forgets what never will be.
func (c *Core) fire() {
	var due []timer
	c.timers = slices.DeleteFunc(c.timers, func(t timer) bool {
		if t.reign != nil && c.reigns[t.reign.legion] != t.reign {
			return true
		}
		if t.at > c.now.Boot {
			return false
		}
		due = append(due, t)
		return true
	})
	for _, t := range due {
		if t.reign == nil || c.reigns[t.reign.legion] == t.reign {
			t.do()
		}
	}
}

// commit writes a decision, to a quorum for a legion and to this disk alone
// for a node's own jobs, and starts what was claimed.
func (c *Core) commit(r *reign, b *decision) {
	for _, s := range b.stops {
		c.do(s)
	}
	b.stops = nil
	if len(b.Records) == 0 && len(b.Marks) == 0 {
		return
	}
	r.asked[b] = true
	for _, rec := range b.starts {
		r.claims[rec.Run] = rec
	}
	c.write(r, b.Batch, func() { c.committed(r, b) })
}

// write has a batch written as its owner's are; then is told when it is, unless
// the reign has ended before. A reign writes one batch at a time, and what comes
// meanwhile goes with the next; one that was refused is asked for once more, as
// nobody else will decide about its slots, and before any other: so whoever has a
// mark also has what was decided before it, or a quorum has. It is dated by the
// clock that it was decided by, which may be another one when it is written.
func (c *Core) write(r *reign, b jobs.Batch, then func()) {
	r.unwritten = append(r.unwritten, unwritten{b, c.wall(), then})
	c.flush(r)
}

// An unwritten batch waits for the write before it.
type unwritten struct {
	jobs.Batch
	dated time.Time // by what time of day it was decided
	then  func()
}

// flush begins the next write of a reign, if none is under way.
func (c *Core) flush(r *reign) {
	if r.writing || len(r.unwritten) == 0 {
		return
	}
	r.writing = true
	n := 0
	var all jobs.Batch
	var dated time.Time
	for _, w := range r.unwritten {
		if n > 0 && max(len(all.Records)+len(w.Records), len(all.Marks)+len(w.Marks)) > maxDecision {
			break
		}
		all.Records, all.Marks = append(all.Records, w.Records...), append(all.Marks, w.Marks...)
		if w.dated.After(dated) {
			dated = w.dated
		}
		n++
	}
	written := r.unwritten[:n:n]
	r.unwritten = r.unwritten[n:]
	c.lastID++
	c.waiting[c.lastID] = func(err error) {
		if c.reigns[r.legion] != r {
			return
		}
		if err != nil {
			c.do(Note{Warn: true, Text: "decisions not committed", Legion: r.legion, Term: r.term, Err: err})
			c.later(r, commitRetry, func() {
				r.writing, r.unwritten = false, append(written, r.unwritten...)
				c.flush(r)
			})
			return
		}
		r.writing = false
		for _, w := range written {
			w.then()
		}
		c.flush(r)
	}
	if r.legion == "" {
		c.do(Write{ID: c.lastID, Batch: all})
	} else {
		c.do(Commit{ID: c.lastID, Legion: r.legion, Term: r.term, Batch: all, Dated: dated})
	}
}

// committed starts what is claimed.
func (c *Core) committed(r *reign, b *decision) {
	if c.closing {
		return
	}
	delete(r.asked, b)
	for _, rec := range b.starts {
		delete(r.claims, rec.Run)
		if e := c.jobs[Key(r.legion, rec.Job)]; e != nil {
			c.mine[rec.Run] = true
			c.do(Start{Job: e.Job, Record: rec})
		} else {
			c.giveUp(rec, "the job is gone from the configuration")
		}
	}
	if b.then != nil {
		b.then()
	}
}

// giveUp closes a claim of this node's that is not started and never will be.
func (c *Core) giveUp(rec jobs.Record, why string) {
	c.unlive(rec)
	c.do(Publish{Records: []jobs.Record{c.neverStarted(rec, why)}})
}

func (c *Core) neverStarted(rec jobs.Record, why string) jobs.Record {
	rec.State, rec.Reason, rec.Ended = jobs.NeverStarted, why, c.wall()
	return rec
}

// live has a run count for overlap from now.
func (c *Core) live(rec jobs.Record) {
	key := Key(rec.Slot.Legion, rec.Job)
	if c.living[key] == nil {
		c.living[key] = map[string]jobs.Record{}
	}
	c.living[key][rec.Run] = rec
}

func (c *Core) unlive(rec jobs.Record) {
	key := Key(rec.Slot.Legion, rec.Job)
	delete(c.living[key], rec.Run)
	if len(c.living[key]) == 0 {
		delete(c.living, key)
	}
}

// close keeps anything new from being started.
func (c *Core) close() {
	if c.closing {
		return
	}
	c.closing = true
	for _, owner := range sorted(c.reigns) {
		c.closeClaims(c.reigns[owner], "the agent was stopped before it was started")
		c.refuseOrders(c.reigns[owner])
	}
}

// closeClaims gives up the claims of a reign that have not been answered.
func (c *Core) closeClaims(r *reign, why string) {
	for _, run := range sorted(r.claims) {
		c.giveUp(r.claims[run], why)
	}
	clear(r.claims)
}

// newRun returns a new run id: a UUIDv7, so that ids sort by time.
func (c *Core) newRun() string {
	var id uuid.UUID
	ms := uint64(max(c.now.Wall.UnixMilli(), 0))
	binary.BigEndian.PutUint64(id[:8], ms<<16|c.rng.Uint64()&0x0fff|0x7000)
	binary.BigEndian.PutUint64(id[8:], c.rng.Uint64()&(1<<62-1)|1<<63)
	return id.String()
}

// A View is what a job's status is made of.
type View struct {
	*Entry
	Next   time.Time     // zero: not this node's to say, or never
	Living []jobs.Record // of legions that this node does not reign over: its own alone
	Queued int
	HeldBy string     // the job whose run holds this one's mutex
	Pause  jobs.Pause // that holds its slots back, as far as this node reigns; see Pause.On
}

// Jobs returns all jobs by key.
func (c *Core) Jobs() []View {
	var all []View
	for _, key := range sorted(c.jobs) {
		e := c.jobs[key]
		v := View{Entry: e, Next: c.engine.Next(key), Queued: len(c.queued[key]), HeldBy: c.mutexHolder(e)}
		for _, run := range sorted(c.living[key]) {
			v.Living = append(v.Living, c.living[key][run])
		}
		if r := c.reigns[e.Legion]; r != nil {
			v.Pause = c.pauseOf(r, e)
		}
		all = append(all, v)
	}
	return all
}

// sorted returns the keys of a map in order, so that the same events lead to
// the same actions.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
