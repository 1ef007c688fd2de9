package slots

import (
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

// A reign is a lordship that this node acts on; the one over no legion is over
// the node's own jobs. A pointer to it is good as long as c.reigns has it.
type reign struct {
	legion   string
	term     uint64
	since    time.Time         // on the wall
	voters   []string          // the others of the quorum that elected it
	tables   []table           // what each of the quorum told, this node among them
	own      table             // what was here before they were heard
	heard    []jobs.Mark       // told of, and not written here yet
	doubted  map[jobs.Key]bool // unsettled, and not told of by every voter
	inquired map[jobs.Key]bool // stranded, and asked about
	unsure   []jobs.Mark       // that not every voter has
	rows     []jobs.Record     // of slots that may have been decided with those
	found    []jobs.Record     // about these
	known    bool              // what the voters had written has been read
	ready    bool              // nothing else holds it back
	open     bool              // its slots are decided
	opened   time.Time
	// claims have been asked for, by run id, and not been answered with yes.
	claims map[string]jobs.Record
	stray  []jobs.Record      // claims of this node's that were found without a run
	asked  map[*decision]bool // that no quorum has taken yet
	// writing: a write is under way, and unwritten waits for it.
	writing   bool
	unwritten []unwritten
	marks     map[string]jobs.Mark  // by job: the latest, found or asked for
	pauses    map[string]jobs.Pause // by job; "": of all
	execs     map[string]execMark   // by job
	orders    map[uint64]bool       // that wait for their write
}

func newReign(legionName string, term uint64, since time.Time) *reign {
	return &reign{
		legion: legionName, term: term, since: since,
		claims: map[string]jobs.Record{}, asked: map[*decision]bool{}, marks: map[string]jobs.Mark{},
	}
}

// begin takes over what the voters had written.
func (c *Core) begin(a legion.Reign) {
	if old := c.reigns[a.Legion]; old != nil {
		c.drop(old)
	}
	r := newReign(a.Legion, a.Term, c.wall())
	r.doubted, r.inquired = map[jobs.Key]bool{}, map[jobs.Key]bool{}
	c.reigns[a.Legion] = r
	for _, s := range a.States {
		if s.Voter != c.cfg.Node {
			r.voters = append(r.voters, s.Voter)
		}
	}
	told, err := c.tables(r, a.States)
	if err != nil {
		c.abandon(r, err)
		return
	}
	r.heard = told.Marks
	r.unsure, r.rows = c.unsure(r)
	c.keep(r, jobs.Batch{Records: told.Records}, func() { c.recall(r) })
}

// keep has this node's ledger take what others had written, before anything
// is decided on the strength of it.
func (c *Core) keep(r *reign, b jobs.Batch, then func()) {
	if len(b.Records) == 0 && len(b.Marks) == 0 {
		then()
		return
	}
	c.lastID++
	c.waiting[c.lastID] = func(err error) {
		switch {
		case c.reigns[r.legion] != r:
		case err != nil:
			c.abandon(r, err)
		default:
			then()
		}
	}
	c.do(Write{ID: c.lastID, Batch: b})
}

func (c *Core) abandon(r *reign, err error) {
	c.do(Note{Warn: true, Text: "cannot reign", Legion: r.legion, Term: r.term, Err: err})
	c.do(Abandon{Legion: r.legion, Reason: err.Error()})
}

// ready takes note that nothing else holds a reign back.
func (c *Core) ready(ev Ready) {
	if r := c.reigns[ev.Legion]; r != nil && r.term == ev.Term {
		r.ready = true
		c.tryOpen(r)
	}
}

// tryOpen begins to decide, once all is known and nothing holds it back.
func (c *Core) tryOpen(r *reign) {
	if r.known && r.ready && !r.open && !c.closing {
		c.open(r)
	}
}

// open takes over the living runs and the queue of a legion, and sets its jobs
// going.
func (c *Core) open(r *reign) {
	r.open, r.opened, r.tables, r.own = true, c.wall(), nil, table{}
	known := c.cfg.Ledger.Unsettled(r.legion)
	r.recollectOrders(known.Marks)
	for _, m := range known.Marks {
		if m.Node == "" || m.Node == c.cfg.Node {
			r.marks[m.Job] = m
		}
	}
	if err := c.adopt(r, known.Records); err != nil {
		c.abandon(r, err)
		return
	}
	c.look = 0
	c.setJobs(r, func(*Entry) bool { return true })
	c.skipHeldBack(r)
	c.resume(r)
	c.nextAll(r.legion)
	var occasions cronspec.Kind
	if r.legion != "" {
		occasions |= cronspec.OnLord
	}
	// @start jobs run once in the life of the agent: a node's own at its start,
	// a legion's when the agent first becomes its lord.
	if !c.greeted[r.legion] {
		c.greeted[r.legion] = true
		occasions |= cronspec.OnStart
	}
	c.occasion(r, occasions, r.since)
}

// adopt takes over what is not settled of a legion.
func (c *Core) adopt(r *reign, known []jobs.Record) error {
	void, err := c.void(known)
	if err != nil {
		return err
	}
	b := c.confirm(r, &decision{})
	// Perhaps one voter alone has a record, and with it a mark that will tell
	// everybody that the slot has been decided: then a lord after this one would
	// know the mark, and nothing of the slot.
	again := func(rec jobs.Record) {
		if r.doubted[rec.Key()] {
			b.add(rec)
		}
	}
	for _, rec := range known {
		key := Key(r.legion, rec.Job)
		_, lives := c.living[key][rec.Run]
		own := rec.Node == c.cfg.Node && rec.Incarnation == c.cfg.Incarnation
		switch {
		case lives:
		case void[rec.Key()] || rec.State <= jobs.Claimed && c.ahead(r, rec):
			// Whoever wrote it had no quorum: it was never started. That it is
			// settled keeps it from being told to every lord to come.
			b.add(c.neverStarted(rec, "no quorum had it"))
		case own && rec.State > jobs.Claimed:
			// It began here and is not alive: its end is on the way to the disk.
		case rec.State == jobs.Queued && c.jobs[key] == nil:
			b.add(c.skipped(r, rec, "the job is gone from the configuration"))
		case rec.State == jobs.Queued && rec.Slot.Node != "" && rec.Slot.Node != c.cfg.Node:
			b.add(c.skipped(r, rec, "the node is "+c.cfg.Node+" now"))
		case rec.State == jobs.Queued:
			again(rec)
			if !slices.ContainsFunc(c.queued[key], func(q jobs.Record) bool { return q.Run == rec.Run }) {
				c.queued[key] = append(c.queued[key], rec)
			}
		case rec.State == jobs.Claimed && (own || c.earlier(rec)):
			// The lordship was lost, or the agent killed, between asking for the
			// claim and hearing that it was committed.
			rec = c.neverStarted(rec, "the claim's answer was lost")
			b.add(rec)
			r.stray = append(r.stray, rec)
		default:
			again(rec)
			c.live(rec)
		}
	}
	r.doubted = nil
	for key := range c.queued {
		c.sortQueue(key)
	}
	c.commit(r, b)
	return nil
}

// earlier reports whether a record is of an agent of this node's that has ended,
// and that wrote down here whatever it started.
func (c *Core) earlier(rec jobs.Record) bool {
	return rec.Node == c.cfg.Node && slices.Contains(c.cfg.Earlier, rec.Incarnation)
}

// ahead reports whether a slot is one that the engine has yet to come to: had
// the record of it been committed, so had a mark that is as far on.
func (c *Core) ahead(r *reign, rec jobs.Record) bool {
	m, ok := r.marks[rec.Job]
	return ok && rec.At.After(m.At) && c.scheduled(rec)
}

// scheduled reports whether a slot is one of its job's schedule.
func (c *Core) scheduled(rec jobs.Record) bool {
	e := c.jobs[Key(rec.Slot.Legion, rec.Job)]
	return e != nil && !rec.At.IsZero() && e.Schedule.Kind().Has(cronspec.Clock) && e.Schedule.Next(rec.At.Add(-1)).Equal(rec.At)
}

// sortQueue has the oldest slot be the next.
func (c *Core) sortQueue(key string) {
	slices.SortStableFunc(c.queued[key], func(a, b jobs.Record) int { return a.Scheduled.Compare(b.Scheduled) })
}

// void returns which of these records do not stand.
func (c *Core) void(recs []jobs.Record) (map[jobs.Key]bool, error) {
	var slots []jobs.Slot
	void := map[jobs.Key]bool{}
	for _, rec := range recs {
		if rec.State <= jobs.Claimed {
			slots = append(slots, rec.Slot)
			void[rec.Key()] = true
		}
	}
	standing, err := c.cfg.Ledger.Slots(slots...)
	if err != nil {
		return nil, err
	}
	for _, rec := range standing {
		delete(void, rec.Key())
	}
	return void, nil
}

// setJobs sets the wanted jobs of an owner going from their marks. One
// without a mark of its timing has no past: its first mark is written before
// its first slot can be due.
func (c *Core) setJobs(r *reign, wanted func(*Entry) bool) {
	now := c.wall()
	first := &decision{}
	fresh := map[string]string{}
	for _, key := range sorted(c.jobs) {
		e := c.jobs[key]
		if e.Legion != r.legion || !e.Schedule.Kind().Has(cronspec.Clock) || !wanted(e) {
			continue
		}
		m, ok := r.marks[e.Name]
		if ok && m.Timing == e.Timing() {
			c.engine.Set(now, key, e.Schedule, m.At)
			continue
		}
		// A clock that was ahead of this one may have set a mark that is yet to
		// come; what it started has the names of slots until then.
		m = c.mark(r, e, beginning(e, now))
		first.Marks = append(first.Marks, m)
		fresh[key] = m.Timing
	}
	if len(fresh) > 0 {
		c.firstMarks(r, first, fresh)
	}
}

// beginning is the first mark of a job that is first seen now. A slot that is due
// at this very moment is yet to be decided: a mark on it would say that it was.
func beginning(e *Entry, now time.Time) time.Time {
	before := now.Add(-time.Millisecond) // marks have no finer time
	if e.Schedule.Next(before).Equal(now) {
		return before
	}
	return now
}

// firstMarks has the marks written of jobs, by key, and then those begin that
// still have the timing. The configuration may have been read again meanwhile,
// and they may even have begun.
func (c *Core) firstMarks(r *reign, first *decision, fresh map[string]string) {
	r.asked[first] = true
	c.write(r, first.Batch, func() {
		delete(r.asked, first)
		for _, key := range sorted(c.jobs) { // the engine keeps the order
			if e := c.jobs[key]; fresh[key] == e.Timing() {
				c.engine.Set(c.now.Wall, key, e.Schedule, r.marks[e.Name].At)
			}
		}
	})
}

// occasion runs the jobs of an owner that no clock starts. Their slot is the
// moment of the occasion: of two at the same moment a job has one.
func (c *Core) occasion(r *reign, kinds cronspec.Kind, at time.Time) {
	b := &decision{}
	for _, key := range sorted(c.jobs) {
		if e := c.jobs[key]; e.Legion == r.legion && e.Schedule.Kind()&kinds != 0 {
			c.decideSlot(r, e, at, b)
		}
	}
	c.commit(r, b)
}

// A leaving is a lordship that has ended and is not let go yet, because its
// unlord hooks have not ended or runs that must end with it still live.
type leaving struct {
	legion.Unreign
	unhooked bool // the unlord hooks have ended; they have a limit of their own
	runs     map[string]bool
	late     bool // letGoBound has passed
}

// end stops acting on a lordship. What waits and what others run is the next
// lord's to see to; what must end with it is dead before it is let go.
func (c *Core) end(a legion.Unreign) {
	r := c.reigns[a.Legion]
	if r == nil || r.term != a.Term {
		c.do(LetGo{Legion: a.Legion, Term: a.Term})
		return
	}
	c.drop(r)
	l := &leaving{Unreign: a, runs: map[string]bool{}}
	for _, key := range sorted(c.jobs) {
		e := c.jobs[key]
		if e.Legion != a.Legion || e.OnUnlord != jobs.OnUnlordKill {
			continue
		}
		for _, run := range sorted(c.living[key]) {
			l.runs[run] = true
			c.do(Stop{Run: run, Why: "no longer lord", Kill: true})
		}
	}
	c.leaving[a.Legion] = l
	c.later(nil, letGoBound, func() {
		l.late = true
		c.letGoIfDone(l)
	})
	c.letGoIfDone(l)
}

// drop forgets what a reign knew, but for the runs of this node that live.
func (c *Core) drop(r *reign) {
	delete(c.reigns, r.legion)
	c.closeClaims(r, "the lordship ended before it was started")
	c.refuseOrders(r)
	for _, key := range sorted(c.living) {
		for _, run := range sorted(c.living[key]) {
			if rec := c.living[key][run]; rec.Slot.Legion == r.legion && !c.mine[run] {
				c.unlive(rec)
			}
		}
	}
	for key, e := range c.jobs {
		if e.Legion == r.legion {
			c.engine.Remove(key)
		}
	}
	for key, q := range c.queued {
		if q[0].Slot.Legion == r.legion {
			delete(c.queued, key)
		}
	}
}

// letGoIfDone lets a successor come, once nothing is left that must end before.
func (c *Core) letGoIfDone(l *leaving) {
	if c.leaving[l.Legion] == l && l.unhooked && (len(l.runs) == 0 || l.late) {
		delete(c.leaving, l.Legion)
		c.do(LetGo{Legion: l.Legion, Term: l.Term})
	}
}

// configure replaces the jobs. Those whose timing is the same keep their place.
func (c *Core) configure(entries map[string]*Entry) {
	old := c.jobs
	c.jobs = entries
	changed := func(e *Entry) bool {
		o := old[e.Key()]
		return o == nil || o.Timing() != e.Timing()
	}
	for key := range old {
		if n := entries[key]; n == nil || changed(n) {
			c.engine.Remove(key)
		}
	}
	for _, owner := range sorted(c.reigns) {
		r := c.reigns[owner]
		if owner == "" {
			c.tryOpen(r)
		}
		if !r.open || c.closing {
			continue
		}
		b := &decision{}
		for _, key := range sorted(c.queued) {
			if q := c.queued[key]; entries[key] == nil && q[0].Slot.Legion == owner {
				for _, rec := range q {
					b.add(c.skipped(r, rec, "the job is gone from the configuration"))
				}
				delete(c.queued, key)
			}
		}
		c.commit(r, b)
		c.skipHeldBack(r)
		c.setJobs(r, changed)
	}
}
