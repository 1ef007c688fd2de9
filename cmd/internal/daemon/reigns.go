package daemon

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

// A reign is a lordship that this node acts on.
type reign struct {
	legion string
	term   uint64
	since  time.Time
	ctx    context.Context // ends with the reign
	cancel context.CancelFunc

	known    bool      // nothing of the past is in doubt any more
	admitted time.Time // when the lord hooks had ended; zero: not yet
	acting   bool      // its jobs are scheduled
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
			f.recall(r, a.States, func(said []jobs.Record, err error) { f.recalled(r, said, err) })
		})
	})
}

// recalled goes on with a reign once nothing is in doubt any more.
func (f *foreman) recalled(r *reign, said []jobs.Record, err error) {
	switch {
	case err != nil:
		f.protocol.post(legion.Abandon{Legion: r.legion, Reason: err.Error()})
	case len(said) == 0:
		f.known(r)
	default:
		f.heard(said, func(err error) {
			f.do(func() {
				if f.reigns[r.legion] == r {
					f.recalled(r, nil, err)
				}
			})
		})
	}
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
	f.resume(r)
	for key, e := range f.jobs {
		if e.Legion == r.legion && len(f.queued[key]) > 0 {
			f.next(e)
		}
	}
	f.occasion(r.legion, cronspec.OnLord, r.since)
	f.greet(r.legion, r.since)
}

// greet runs the @start jobs of an owner, once in the life of the agent: a
// node's own at its start, a legion's when the agent first becomes its lord.
func (f *foreman) greet(owner string, at time.Time) {
	if !f.greeted[owner] {
		f.greeted[owner] = true
		f.occasion(owner, cronspec.OnStart, at)
	}
}

// occasion runs the jobs of an owner that no clock starts. Their slot is the
// moment of the occasion.
func (f *foreman) occasion(owner string, kind cronspec.Kind, at time.Time) {
	b := &decision{}
	for _, key := range slices.Sorted(maps.Keys(f.jobs)) {
		if e := f.jobs[key]; e.Legion == owner && e.schedule.Kind().Has(kind) {
			f.decideSlot(e, at, b)
		}
	}
	f.commit(owner, b)
}

// neverStarted closes a claim of this node that no run of it goes by: its
// agent died, or lost its lordship, between asking for the claim and hearing
// that it was committed. The slot goes on as the next attempt, never as the
// same one again.
func (f *foreman) neverStarted(key string, rec jobs.Record) {
	now := f.clock().Wall
	rec.State, rec.Ended, rec.Reason = jobs.NeverStarted, now.UTC(), "the claim's answer was lost"
	f.scribe.put(rec)
	f.goOn(key, rec)
}

// goOn claims the next attempt of a slot whose last one never started.
func (f *foreman) goOn(key string, rec jobs.Record) {
	e := f.jobs[key]
	if e == nil || !f.mayGoOn(e, rec, f.clock().Wall) || f.superseded(rec) {
		return
	}
	b := &decision{}
	f.claimNext(e, rec, f.nextAttempt(e, rec), b)
	f.commit(e.Legion, b)
}

func (f *foreman) mayGoOn(e *entry, rec jobs.Record, now time.Time) bool {
	return e.Enabled && now.Sub(rec.Scheduled) <= f.catchUp(e, rec.Scheduled)
}

// superseded reports whether something else has become of the slot of rec: a
// later attempt, or, where the claim of rec never reached a quorum, what a
// later lord that had not heard of it decided.
func (f *foreman) superseded(rec jobs.Record) bool {
	all, err := f.store.Slots(rec.Slot)
	if err != nil {
		f.log.Error("look a slot up", logging.Slot(rec.Slot.String()), zap.Error(err))
		return true
	}
	key := rec.Key()
	return slices.ContainsFunc(all, func(other jobs.Record) bool {
		return other.Key() != key && (other.Attempt >= rec.Attempt || other.Attempt == 0)
	})
}

// nextAttempt is the attempt after rec of the same slot.
func (f *foreman) nextAttempt(e *entry, rec jobs.Record) jobs.Record {
	again := f.record(e, rec.Scheduled)
	again.Slot, again.Attempt, again.Manual = rec.Slot, rec.Attempt+1, rec.Manual
	return again
}

// claimNext claims again, the attempt after last. The end of the last one goes
// into the same write, so that whoever finds that one without an end knows
// that a quorum has no claim of the attempt after it.
func (f *foreman) claimNext(e *entry, last, again jobs.Record, b *decision) {
	b.Records = append(b.Records, last)
	f.claim(e, again, b)
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
// lord's to see to; what must end with it is dead before it is let go.
func (f *foreman) end(a legion.Unreign) {
	r := f.reigns[a.Legion]
	if r == nil || r.term != a.Term {
		f.protocol.post(legion.LetGo{Legion: a.Legion, Term: a.Term})
		return
	}
	r.cancel()
	delete(f.reigns, a.Legion)
	l := &leaving{Unreign: a, runs: map[string]bool{}}
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
				l.runs[id] = true
				f.runs.kill(id, "no longer lord")
			}
		}
	}
	f.leaving[a.Legion] = l
	l.bound = time.AfterFunc(letGoBound, func() {
		f.do(func() {
			l.late = true
			f.letGoIfDone(l)
		})
	})
	f.letGoIfDone(l)
}

// A leaving is a lordship that has ended and is not let go yet, because its
// unlord hooks have not ended or runs that must end with it still live.
type leaving struct {
	legion.Unreign
	unhooked bool // the unlord hooks have ended; they have a limit of their own
	runs     map[string]bool
	late     bool // letGoBound has passed
	bound    *time.Timer
}

// letGoBound is how long runs that do not die keep a lordship that this node
// gives up by itself. One that ran out is over whatever they do.
const letGoBound = 10 * time.Second

func (f *foreman) letGoIfDone(l *leaving) {
	if l.unhooked && (len(l.runs) == 0 || l.late) {
		f.letGo(l)
	}
}

// letGo lets a successor come.
func (f *foreman) letGo(l *leaving) {
	if f.leaving[l.Legion] == l {
		l.bound.Stop()
		delete(f.leaving, l.Legion)
		f.protocol.post(legion.LetGo{Legion: l.Legion, Term: l.Term})
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
		if f.acting(owner) {
			f.setJobs(owner, f.store.Unsettled(owner).Marks, changed)
		}
	}
	f.greet("", f.started)
}
