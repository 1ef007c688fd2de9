package slots

import (
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/scheduler"
)

// A write that no quorum took may be on one disk. A lord that is told of its
// marks begins after them: that its slots are decided it must not doubt, for the
// write may have been committed. But what they were decided to be is told with a
// vote only as far as it is not settled; what was skipped or missed, the new lord
// has to ask for, of those that have the mark. It writes that once more, in its own
// term and together with the marks, as Paxos has a value found under an older
// ballot proposed again: then it stands, whatever other lords of whom nobody here
// has heard may have left about the same slots.
//
// For the same reason marks of others are written here only together with that:
// whoever has a mark also has what was decided before it, or a quorum has.

const (
	// unsureBack is how far back before a mark its write reaches, beside what was
	// still in time. A lord writes one batch at a time, so it is what fell due
	// during one write.
	unsureBack = 5 * time.Minute
	// reachBack is how far before that a slot is looked for: a year has one at least
	// of nearly every schedule.
	reachBack = 366 * 24 * time.Hour
	// MaxWithin is how many settled records of one job are written once more, and
	// so how many a voter that is asked tells of.
	MaxWithin = 50
)

// A table is what one voter told of: its marks, and what is not settled.
type table struct {
	voter   string
	records map[jobs.Key]bool
	marks   map[jobs.MarkKey]jobs.Mark
}

// tables reads what the voters told, and returns all that was told of here.
func (c *Core) tables(r *reign, states []legion.VoterState) (told jobs.Batch, err error) {
	own := table{records: map[jobs.Key]bool{}, marks: map[jobs.MarkKey]jobs.Mark{}}
	before := c.cfg.Ledger.Unsettled(r.legion)
	own.add(before)
	// A voter that has the same has what was here when it was asked. If this node
	// wrote something since, nobody knows what marks that were.
	same := own.marks
	if slices.ContainsFunc(states, func(s legion.VoterState) bool { return s.Voter == c.cfg.Node && !s.Same }) {
		same = nil
	}
	for _, s := range states {
		t := table{s.Voter, own.records, same}
		if !s.Same {
			b, err := jobs.DecodeBatch(s.State)
			if err != nil {
				return told, err
			}
			t.records, t.marks = map[jobs.Key]bool{}, map[jobs.MarkKey]jobs.Mark{}
			t.add(b)
			told.Records, told.Marks = append(told.Records, b.Records...), append(told.Marks, b.Marks...)
		}
		r.tables = append(r.tables, t)
	}
	r.own = own
	return told, nil
}

func (t table) add(b jobs.Batch) {
	for _, rec := range b.Records {
		t.records[rec.Key()] = true
	}
	for _, m := range b.Marks {
		t.marks[m.Key()] = m.Normal()
	}
}

// unsure returns the marks that not every voter has, each with the row of slots
// that may have been decided with it.
func (c *Core) unsure(r *reign) (marks []jobs.Mark, rows []jobs.Record) {
	newest := map[jobs.MarkKey]jobs.Mark{}
	for _, t := range append(slices.Clone(r.tables), r.own) {
		for key, m := range t.marks {
			if old, ok := newest[key]; ok {
				m = jobs.MergeMark(old, m)
			}
			newest[key] = m
		}
	}
	for _, m := range newest {
		if _, pause := jobs.PauseOf(m); pause || m.Timing == execTiming {
			continue // they are all that there is, or the claim is told of
		}
		from, all := m.At, true // since the mark of the voter that is furthest behind
		for _, t := range r.tables {
			old := t.marks[m.Key()]
			all = all && old == m
			if old.Timing != m.Timing {
				old.At = time.Time{}
			}
			if old.At.Before(from) {
				from = old.At
			}
		}
		if all {
			continue
		}
		from = c.reach(m, from)
		marks = append(marks, m)
		rows = append(rows, jobs.Record{
			Slot: jobs.Slot{Legion: m.Legion, Job: m.Job, At: from}, State: jobs.Missed, Term: m.Term, To: m.At, Count: 2,
		}.Normal())
	}
	slices.SortFunc(marks, func(a, b jobs.Mark) int { return a.Key().Compare(b.Key()) })
	slices.SortFunc(rows, func(a, b jobs.Record) int { return a.Key().Compare(b.Key()) })
	return marks, rows
}

// reach returns a moment, from or a later one, after which all slots are that one
// write with a mark was about, but for rows, which are found by their end: those in
// time are decided one by one or in a row, and what is older in one that ends with
// the slot before them.
func (c *Core) reach(m jobs.Mark, from time.Time) time.Time {
	at := m.At.Add(-unsureBack)
	e := c.jobs[Key(m.Legion, m.Job)]
	if e != nil && e.Timing() != m.Timing {
		e = nil
	}
	if e != nil {
		at = at.Add(-max(e.longest(), punctual))
	}
	if e != nil && !from.After(at) { // else the slot before is not asked for
		long := at.Add(-reachBack)
		if next := e.Schedule.Next(long); !next.IsZero() && !next.After(at) {
			at = scheduler.Last(e.Schedule, long, at).Add(-time.Millisecond) // slots have no finer time
		}
	}
	if from.After(at) {
		return from
	}
	return at
}

// confirm adds to what this reign writes first what was found with the marks
// that not every voter has, and these marks.
func (c *Core) confirm(r *reign, b *decision) *decision {
	for _, rec := range r.found {
		if rec.Run == "" { // a lord's word about a slot, and no node's about a run
			rec.Term = r.term
		}
		b.add(rec)
		if len(b.Records) >= maxDecision {
			c.commit(r, b)
			b = &decision{}
		}
	}
	for _, m := range r.unsure {
		m.Term = r.term
		r.marks[m.Job] = m
		b.Marks = append(b.Marks, m)
	}
	r.found, r.unsure = nil, nil
	return b
}
