package slots

import (
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// What the voters that elected a lord tell it with their votes is what they
// know to be unsettled. A voter that was cut off may still tell of a run that
// has long ended, and one that knows better says so only by not telling of it:
// as it would if it had never heard of it. So a new lord asks every voter about
// what that voter did not tell of, before it acts on it. Two quorums share a
// voter; therefore, of whatever a quorum has settled, one of them knows.
//
// A voter's table also tells of claims and queued slots that later decisions,
// settled long ago, have made void; it tells of them as of any other. So it is
// asked about those in any case.
//
// The same question finds the slots whose last attempt was never started, and
// that nobody has carried on with yet.

// How far back a new lord looks in its own ledger for slots to carry on with:
// those that never started, and, where a job is to be run again, lost ones too.
const (
	StrandedBack = time.Hour
	LostBack     = 24 * time.Hour
)

const maxStranded = 1_000 // slots of one owner that are carried on with

// recall asks the voters what they know of the slots that are in doubt.
func (c *Core) recall(r *reign) {
	questions, err := c.doubts(r)
	switch {
	case err != nil:
		c.abandon(r, err)
		return
	case len(questions) == 0:
		c.learn(r, nil)
		return
	}
	c.ask(r, questions, func(said []jobs.Record, err error) { c.recalled(r, said, err) })
}

// ask asks voters; then is told, unless the reign has ended before.
func (c *Core) ask(r *reign, questions map[string][]jobs.Record, then func([]jobs.Record, error)) {
	if len(questions) == 0 {
		then(nil, nil)
		return
	}
	c.lastID++
	c.recalls[c.lastID] = func(said []jobs.Record, err error) {
		if c.reigns[r.legion] == r {
			then(said, err)
		}
	}
	c.do(AskVoters{ID: c.lastID, Legion: r.legion, Term: r.term, Questions: questions})
}

// recalled takes what voters said, and has those that do not know it told what
// has been settled: else the next lord would have to ask again.
func (c *Core) recalled(r *reign, said []jobs.Record, err error) {
	if err != nil {
		c.abandon(r, err)
		return
	}
	one := map[jobs.Key]jobs.Record{}
	var order []jobs.Key
	for _, rec := range said {
		old, ok := one[rec.Key()]
		if ok {
			rec = jobs.Merge(old, rec)
		} else {
			order = append(order, rec.Key())
		}
		one[rec.Key()] = rec
	}
	var b jobs.Batch
	var settled []jobs.Record
	for _, key := range order {
		b.Records = append(b.Records, one[key])
		if one[key].State.Settled() {
			settled = append(settled, one[key])
		}
	}
	if len(settled) > 0 {
		c.do(Publish{Records: settled})
	}
	c.learn(r, b.Records)
}

// learn has what voters said written here, and now their marks.
func (c *Core) learn(r *reign, said []jobs.Record) {
	rows, found := map[string]jobs.Record{}, map[jobs.Key]bool{}
	for _, row := range r.rows { // one of each job
		rows[row.Job] = row
	}
	for _, rec := range r.found {
		found[rec.Key()] = true
	}
	for _, rec := range said {
		row, ok := rows[rec.Job]
		if ok && row.Term == rec.Term && (row.Concerns(rec.Slot) || rec.Concerns(row.Slot)) && rec.State.Settled() && !found[rec.Key()] {
			found[rec.Key()] = true
			r.found = append(r.found, rec)
		}
	}
	c.keep(r, jobs.Batch{Records: said, Marks: r.heard}, func() {
		r.heard, r.known = nil, true
		c.tryOpen(r)
	})
}

// doubts returns, for each other voter, records of the slots to ask it about.
func (c *Core) doubts(r *reign) (map[string][]jobs.Record, error) {
	known := c.cfg.Ledger.Unsettled(r.legion).Records
	stranded, err := c.stranded(r)
	if err != nil {
		return nil, err
	}
	questions := map[string][]jobs.Record{}
	for _, rec := range stranded {
		r.inquired[rec.Key()] = true
	}
	for i, m := range r.unsure {
		if r.own.marks[m.Key()] == m {
			within, err := c.cfg.Ledger.Within(r.rows[i], MaxWithin)
			if err != nil {
				return nil, err
			}
			r.found = append(r.found, within...)
		}
	}
	for _, t := range r.tables {
		if t.voter == c.cfg.Node {
			continue
		}
		q := slices.Clone(stranded)
		for _, rec := range known {
			if !t.records[rec.Key()] {
				r.doubted[rec.Key()] = true
			}
			// A voter may tell of a claim and know what has made it void.
			if !t.records[rec.Key()] || rec.Voidable() {
				q = append(q, rec)
			}
		}
		for i, m := range r.unsure {
			if t.marks[m.Key()] == m {
				q = append(q, r.rows[i])
			}
		}
		if len(q) > 0 {
			questions[t.voter] = q
		}
	}
	return questions, nil
}

// stranded returns the attempts that never started or were lost, and whose
// slots may go on as far as their job is asked.
func (c *Core) stranded(r *reign) ([]jobs.Record, error) {
	recs, err := c.cfg.Ledger.Stranded(r.legion, c.wall().Add(-c.strandedSince(r)), maxStranded)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(recs, func(rec jobs.Record) bool {
		e := c.jobs[Key(r.legion, rec.Job)]
		return e == nil || !c.willing(e, rec) || !c.newest(rec)
	}), nil
}

// strandedSince says how far back an owner's jobs have slots that may go on.
func (c *Core) strandedSince(r *reign) time.Duration {
	back := defaultCatchUp
	for _, e := range c.jobs {
		switch {
		case e.Legion != r.legion:
		case e.OnLost == jobs.OnLostRerun:
			return LostBack
		default:
			back = max(back, min(e.CatchUp, StrandedBack))
		}
	}
	return back
}

// resume carries on with the slots that are stranded, oldest first.
func (c *Core) resume(r *reign) {
	recs, err := c.stranded(r)
	if err != nil {
		c.do(Note{Warn: true, Text: "look for slots that were never started", Legion: r.legion, Err: err})
	}
	// By the clock, or the configuration, of now there may be more; but only
	// about these were the voters asked.
	recs = slices.DeleteFunc(recs, func(rec jobs.Record) bool { return len(r.voters) > 0 && !r.inquired[rec.Key()] })
	recs = append(recs, r.stray...) // whose end is not written yet
	r.stray = nil
	slices.SortStableFunc(recs, func(a, b jobs.Record) int { return a.Scheduled.Compare(b.Scheduled) })
	for _, rec := range recs {
		c.goOn(rec)
	}
}

// willing reports whether a job wants the slot of an attempt to go on that
// never started or was lost.
func (c *Core) willing(e *Entry, last jobs.Record) bool {
	if !e.Enabled {
		return false
	}
	switch last.State {
	case jobs.NeverStarted:
		// One that is yet to come was claimed by a clock that was ahead.
		late := c.now.Wall.Sub(last.Scheduled)
		return late >= -legion.MaxAhead && late <= max(c.catchUp(e, last.Scheduled), punctual)
	case jobs.Lost:
		// A job that was changed in between does not want the past back.
		return e.OnLost == jobs.OnLostRerun && e.Definition() == last.Definition
	}
	return false
}

// goOn claims the attempt after last, which never started or was lost, and
// reports whether the slot goes on. Nothing else decides so.
func (c *Core) goOn(last jobs.Record) bool {
	e, r := c.jobs[Key(last.Slot.Legion, last.Job)], c.reigns[last.Slot.Legion]
	if e == nil || r == nil || !r.open || c.closing || !c.willing(e, last) || c.heldBack(r, e) != "" && !last.Manual {
		return false
	}
	// The engine may have yet to come to the slot: the mark that went with the
	// claim was not committed. It decides anew.
	if c.undecided(r, last) {
		return false
	}
	if waits := len(c.living[e.Key()])+len(c.queued[e.Key()]) > 0; waits && e.Overlap != jobs.OverlapAllow && e.Overlap != jobs.OverlapQueueAll {
		return false // a newer slot is there, and only one may be
	}
	if !c.newest(last) {
		return false
	}
	b := &decision{}
	again := c.nextAttempt(r, e, last)
	if why := c.place(r, e, again, b); why != "" {
		return false // it stands as it is
	}
	c.sortQueue(e.Key())
	b.Records = append([]jobs.Record{last}, b.Records...)
	c.commit(r, b)
	return true
}

// undecided reports whether the engine has yet to come to the slot of an attempt.
func (c *Core) undecided(r *reign, last jobs.Record) bool {
	return last.At.After(r.marks[last.Job].At) && c.scheduled(last)
}

// newest reports whether nothing has become of a slot after an attempt of it,
// as far as is written here or asked for.
func (c *Core) newest(last jobs.Record) bool {
	for _, runs := range c.living {
		for _, rec := range runs {
			if rec.Slot == last.Slot && rec.Attempt > last.Attempt {
				return false
			}
		}
	}
	for _, rec := range c.queued[Key(last.Slot.Legion, last.Job)] {
		if rec.Slot == last.Slot {
			return false
		}
	}
	key := last.Key()
	for b := range c.reigns[last.Slot.Legion].asked {
		for _, rec := range b.Records {
			if rec.Concerns(last.Slot) && rec.Key() != key && (rec.Attempt == 0 || rec.Attempt >= last.Attempt) {
				return false
			}
		}
	}
	all, err := c.cfg.Ledger.Slots(last.Slot)
	if err != nil {
		c.do(Note{Warn: true, Text: "look a slot up", Legion: last.Slot.Legion, Record: last, Err: err})
		return false
	}
	stands := false
	for _, other := range all {
		switch {
		case other.Key() == key:
			stands = true
		case other.Attempt >= last.Attempt || other.Attempt == 0:
			return false
		}
	}
	return stands
}
