package slots

import (
	"cmp"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/scheduler"
)

const (
	// punctual is how late a slot may be noticed without being late.
	punctual = 2 * time.Second
	// defaultCatchUp is how late a slot may be, where the job does not say.
	defaultCatchUp = 5 * time.Minute
)

// A decision is what one owner's due slots came to: what is to be written
// and, once it is, which of the claims are to be started.
type decision struct {
	jobs.Batch
	starts []jobs.Record
	stops  []Stop // runs to be replaced
	then   func() // when it is committed

	// room is how many more attempts may become unsettled, once counted.
	room    int
	counted bool
}

// maxUnsettled bounds the attempts of one owner that wait or run. What falls
// due beyond it is skipped: more could not be told to the next lord, and then
// there would be none.
const maxUnsettled = jobs.MaxUnsettled

// room is how many more attempts of an owner a decision may claim or queue.
func (c *Core) room(r *reign, b *decision) int {
	if !b.counted {
		b.room, b.counted = maxUnsettled, true
		for _, q := range c.queued {
			if q[0].Slot.Legion == r.legion {
				b.room -= len(q)
			}
		}
		for _, runs := range c.living {
			for _, rec := range runs {
				if rec.Slot.Legion != r.legion {
					break // all are of one job
				}
				b.room--
			}
		}
	}
	return b.room
}

func (b *decision) add(rec jobs.Record) { b.Records = append(b.Records, rec) }

func (c *Core) slot(e *Entry, at time.Time) jobs.Slot {
	s := jobs.Slot{Legion: e.Legion, Job: e.Name, At: at.UTC()}
	if e.Legion == "" {
		s.Node = c.cfg.Node
	}
	return s
}

// mark is the job's mark at an instant, or where it is if that is further on:
// in one reign it never goes back.
func (c *Core) mark(r *reign, e *Entry, at time.Time) jobs.Mark {
	m := jobs.Mark{Legion: e.Legion, Job: e.Name, Timing: e.Timing(), At: at.UTC(), Term: r.term}
	if e.Legion == "" {
		m.Node = c.cfg.Node
	}
	if old := r.marks[e.Name]; old.At.After(m.At) {
		m.At = old.At
	}
	m = m.Normal()
	r.marks[e.Name] = m
	return m
}

// record is the first record of a slot.
func (c *Core) record(r *reign, e *Entry, at time.Time) jobs.Record {
	return jobs.Record{
		Slot: c.slot(e, at), Attempt: 1, Term: r.term, Node: c.cfg.Node, Incarnation: c.cfg.Incarnation,
		Definition: e.Definition(), Scheduled: at,
	}.Normal()
}

// decide says what becomes of the due slots of one job.
func (c *Core) decide(r *reign, e *Entry, d scheduler.Due, b *decision) {
	b.Marks = append(b.Marks, c.mark(r, e, d.At))
	if d.Older.Count > 0 {
		c.decideOlder(r, e, d.Older, b)
	}
	if c.inTime(r, e, d.At) {
		c.decideSlot(r, e, d.At, b)
	} else {
		b.add(c.missed(r, e, scheduler.Range{From: d.At, To: d.At, Count: 1}, c.whyMissed(r, d.At)))
	}
}

// decideOlder records the slots that a newer one supersedes, or runs them.
func (c *Core) decideOlder(r *reign, e *Entry, older scheduler.Range, b *decision) {
	// The slots in time are the last ones of the row.
	late, in := scheduler.Range{}, scheduler.Range{}
	at := older.From
	if older.Count >= scheduler.MaxOlder {
		if at = c.tail(r, e, older); at.After(older.From) {
			to := scheduler.Last(e.Schedule, older.From.Add(-1), at.Add(-1))
			late = scheduler.Range{From: older.From, To: to, Count: scheduler.MaxOlder}
		}
	}
	for n := 0; !at.After(older.To) && n < scheduler.MaxOlder; at = e.Schedule.Next(at) {
		n++
		if c.inTime(r, e, at) {
			grow(&in, at)
		} else {
			grow(&late, at)
		}
	}
	if late.Count > 0 {
		b.add(c.missed(r, e, late, c.whyMissed(r, late.From)))
	}
	if in.Count == 0 {
		return
	}
	if e.CatchUpRuns != jobs.CatchUpAll {
		b.add(c.missed(r, e, in, "superseded"))
		return
	}
	at = in.From
	if extra := in.Count - maxCatchUp; extra > 0 {
		skipped := scheduler.Range{}
		for ; extra > 0; extra-- {
			grow(&skipped, at)
			at = e.Schedule.Next(at)
		}
		b.add(c.missed(r, e, skipped, "superseded"))
	}
	for ; !at.IsZero() && !at.After(in.To); at = e.Schedule.Next(at) {
		c.decideSlot(r, e, at, b)
	}
}

// tail is where those slots of a long row begin that are looked at one by one:
// all that may be in time, unless they are too many themselves.
func (c *Core) tail(r *reign, e *Entry, row scheduler.Range) time.Time {
	from := c.now.Wall.Add(-max(e.longest(), punctual) - max(r.opened.Sub(r.since), 0))
	if from.After(row.To) {
		from = row.To
	}
	if from.Before(row.From) {
		from = row.From
	}
	for ; ; from = from.Add(row.To.Sub(from)/2 + 1) {
		first := e.Schedule.Next(from.Add(-1))
		n := 0
		for at := first; !at.After(row.To) && n <= scheduler.MaxOlder; at = e.Schedule.Next(at) {
			n++
		}
		if n <= scheduler.MaxOlder {
			return first
		}
	}
}

func grow(r *scheduler.Range, at time.Time) {
	if r.Count == 0 {
		r.From = at
	}
	r.To = at
	r.Count++
}

// inTime reports whether a slot may be started now. It is not late for the
// time that the reign made it wait before it was open.
func (c *Core) inTime(r *reign, e *Entry, at time.Time) bool {
	due := at
	if due.Before(r.since) {
		due = r.since
	}
	late := c.now.Wall.Sub(at) - max(r.opened.Sub(due), 0)
	return late <= max(c.catchUp(e, at), punctual)
}

// catchUp is how late a slot may be started.
func (c *Core) catchUp(e *Entry, at time.Time) time.Duration { return e.Patience(at) }

// Patience is how late the slot at a time may be started.
func (e *Entry) Patience(at time.Time) time.Duration {
	if e.CatchUp == jobs.CatchUpDefault {
		if next := e.Schedule.Next(at); !next.IsZero() {
			return min(e.longest(), next.Sub(at))
		}
	}
	return e.longest()
}

// longest is how late any slot may be started.
func (e *Entry) longest() time.Duration {
	if e.CatchUp == jobs.CatchUpDefault {
		return defaultCatchUp
	}
	return e.CatchUp
}

// whyMissed says why nobody took a slot when it was due.
func (c *Core) whyMissed(r *reign, at time.Time) string {
	switch {
	case at.After(c.over.From) && at.Before(c.over.To):
		return "clock jumped"
	case r.legion == "" && at.Before(c.started):
		return "daemon down"
	case r.legion != "" && at.Before(r.since):
		return "no lord"
	}
	return "too late"
}

func (c *Core) missed(r *reign, e *Entry, row scheduler.Range, why string) jobs.Record {
	rec := c.record(r, e, row.From)
	rec.State, rec.Reason, rec.Attempt = jobs.Missed, why, 0
	if row.Count > 1 {
		rec.To, rec.Count = row.To.UTC(), row.Count
	}
	return rec
}

// decideSlot applies the job's policies to one slot.
func (c *Core) decideSlot(r *reign, e *Entry, at time.Time, b *decision) {
	rec := c.record(r, e, at)
	why := c.heldBack(r, e)
	if why == "" {
		why = c.place(r, e, rec, b)
	}
	if why != "" {
		rec.State, rec.Reason, rec.Attempt = jobs.Skipped, why, 0
		b.add(rec)
	}
}

// place claims or queues an attempt, or says why it is to be skipped.
func (c *Core) place(r *reign, e *Entry, rec jobs.Record, b *decision) (why string) {
	living := c.living[e.Key()]
	switch {
	case !e.Enabled:
		return "disabled"
	case c.room(r, b) <= 0:
		return "queue full"
	case e.Overlap == jobs.OverlapAllow:
	case len(living) == 0 && len(c.queued[e.Key()]) == 0:
	case e.Overlap == jobs.OverlapReplace:
		for _, run := range sorted(living) {
			if living[run].Incarnation == c.cfg.Incarnation { // another node's ends by itself
				b.stops = append(b.stops, Stop{Run: run, Why: "replaced by " + rec.Slot.String()})
			}
		}
		c.enqueue(r, e, rec, b, 1)
		return ""
	case e.Overlap == jobs.OverlapQueue:
		c.enqueue(r, e, rec, b, 1)
		return ""
	case e.Overlap == jobs.OverlapQueueAll:
		c.enqueue(r, e, rec, b, maxQueue)
		return ""
	default:
		return "overlap"
	}
	if why := c.mutexHeld(e); why != "" {
		return why
	}
	c.claim(r, rec, b)
	return ""
}

// enqueue has a slot wait for the runs before it. Where only most may wait,
// the older ones are skipped for it.
func (c *Core) enqueue(r *reign, e *Entry, rec jobs.Record, b *decision, most int) {
	rec.State, rec.Run = jobs.Queued, c.newRun()
	q := c.queued[e.Key()]
	for len(q) >= most {
		b.add(c.skipped(r, q[0], "overlap"))
		q = q[1:]
	}
	c.queued[e.Key()] = append(q, rec)
	b.room--
	b.add(rec)
	c.decided(r, rec, b)
}

// skipped is the end of a queued slot that is not run.
func (c *Core) skipped(r *reign, rec jobs.Record, why string) jobs.Record {
	rec.State, rec.Reason, rec.Term, rec.Ended = jobs.Skipped, why, r.term, c.wall()
	return rec
}

// mutexHeld names the mutex of e, if another job's run holds it.
func (c *Core) mutexHeld(e *Entry) string {
	if c.mutexHolder(e) != "" {
		return "mutex " + e.Mutex
	}
	return ""
}

// mutexHolder names the job whose run holds the mutex of e; "": none does.
func (c *Core) mutexHolder(e *Entry) string {
	if e.Mutex == "" {
		return ""
	}
	for key, runs := range c.living {
		if o := c.jobs[key]; o != nil && key != e.Key() && o.Legion == e.Legion && o.Mutex == e.Mutex && len(runs) > 0 {
			return o.Name
		}
	}
	return ""
}

// claim makes rec a claim that is to be started once it is committed. It
// counts as living from now, so that nothing overlaps with it meanwhile.
func (c *Core) claim(r *reign, rec jobs.Record, b *decision) {
	rec.State, rec.Node, rec.Incarnation, rec.Term = jobs.Claimed, c.cfg.Node, c.cfg.Incarnation, r.term
	rec.Run = cmp.Or(rec.Run, c.newRun())
	b.add(rec)
	b.starts = append(b.starts, rec)
	b.room--
	c.live(rec)
	c.decided(r, rec, b)
}

// decided has the mark of a slot's job be committed together with what is said
// of the slot. It is there already, mostly. But a lord may have its mark from
// one disk alone, left there by a write that no quorum took; and a lord after
// it that has neither seen that mark nor, once the slot is settled, the slot,
// would decide about it once more.
func (c *Core) decided(r *reign, rec jobs.Record, b *decision) {
	if c.scheduled(rec) {
		b.Marks = append(b.Marks, c.mark(r, c.jobs[Key(rec.Slot.Legion, rec.Job)], rec.At))
	}
}

// nextAttempt is the attempt after last of the same slot.
func (c *Core) nextAttempt(r *reign, e *Entry, last jobs.Record) jobs.Record {
	again := c.record(r, e, last.Scheduled)
	again.Slot, again.Attempt, again.Manual = last.Slot, last.Attempt+1, last.Manual
	return again
}

// claimNext claims again, the attempt after last. The end of the last one goes
// into the same write, so that whoever finds that one without an end knows
// that a quorum has no claim of the attempt after it.
func (c *Core) claimNext(r *reign, last, again jobs.Record, b *decision) {
	b.add(last)
	c.claim(r, again, b)
}
