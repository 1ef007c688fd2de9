package daemon

import (
	"cmp"
	"time"

	"github.com/google/uuid"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/scheduler"
)

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
	if f.lateness(e, d.At, now) > f.catchUp(e, d.At) {
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
			if f.lateness(e, at, now) > f.catchUp(e, at) {
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
	if next := e.schedule.Next(at); !next.IsZero() {
		return min(defaultCatchUp, next.Sub(at))
	}
	return defaultCatchUp
}

// whyMissed says why nobody took a slot when it was due.
func (f *foreman) whyMissed(e *entry, at time.Time) string {
	if e.Legion == "" {
		if at.Before(f.started) {
			return "daemon down"
		}
	} else if r := f.reigns[e.Legion]; r != nil && at.Before(r.since) {
		return "no lord"
	} else if r != nil && at.Before(r.admitted) {
		return "superseded"
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
		for id, old := range living {
			if old.Incarnation == f.incarnation { // another node's ends by itself
				b.stops = append(b.stops, stop{e.key, id, "replaced by " + rec.Slot.String()})
			}
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
