package slots

import (
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// findLost declares the runs lost whose agent is dead, or whose node has not
// been heard for long.
func (c *Core) findLost() {
	for _, key := range sorted(c.living) {
		for _, run := range sorted(c.living[key]) {
			rec := c.living[key][run]
			r := c.reigns[rec.Slot.Legion]
			if r == nil || !r.open || rec.Node == c.cfg.Node && rec.Incarnation == c.cfg.Incarnation {
				continue
			}
			why := ""
			switch {
			case c.cfg.Peers.Dead(rec.Incarnation):
				why = "the agent on " + rec.Node + " died"
			case c.cfg.Peers.Away(rec.Node, rec.Incarnation, c.cfg.LostAfter):
				why = "no word of " + rec.Node + " for " + c.cfg.LostAfter.String()
			case c.endedWithReign(r, key, rec) && c.cfg.Peers.Away(rec.Node, rec.Incarnation, 0):
				why = rec.Node + " is gone, and so is its lordship"
			default:
				continue
			}
			c.lose(r, rec, why)
		}
	}
	for _, owner := range sorted(c.reigns) {
		c.nextAll(owner)
	}
}

// endedWithReign reports whether a run of an earlier reign cannot be alive any
// more: its job has it killed before there can be another lord.
func (c *Core) endedWithReign(r *reign, key string, rec jobs.Record) bool {
	e := c.jobs[key]
	return e != nil && e.OnUnlord == jobs.OnUnlordKill && rec.Term < r.term && rec.Definition == e.Definition()
}

// lose records a run as lost. It keeps the term of its claim: the word of its
// own node, which has that term, must beat it.
func (c *Core) lose(r *reign, rec jobs.Record, why string) {
	rec.State, rec.Ended, rec.Reason = jobs.Lost, c.wall(), why
	c.do(Note{Warn: true, Event: "run-ended", Text: "run lost", Legion: r.legion, Term: r.term, Record: rec})
	b := &decision{}
	b.add(rec)
	c.decided(r, rec, b)
	c.commit(r, b)
	c.ended(rec)
}

// observe takes note of what other nodes say of their runs: one that has ended
// stands in nobody's way any more.
func (c *Core) observe(recs []jobs.Record) {
	for _, rec := range recs {
		if rec.Slot.Legion == "" || !rec.State.Settled() || c.mine[rec.Run] {
			continue
		}
		living, ok := c.living[Key(rec.Slot.Legion, rec.Job)][rec.Run]
		switch {
		case !ok:
			c.surprise(rec)
		case rec.Term >= living.Term: // else it is the end of an earlier claim of what was queued
			c.ended(rec)
		}
	}
}

// surprise takes the end of a run that this lord had not heard of, and whose
// slot may have been left to go on. What else became of the slot it may not
// have heard of either, so it asks before it acts.
func (c *Core) surprise(rec jobs.Record) {
	e, r := c.jobs[Key(rec.Slot.Legion, rec.Job)], c.reigns[rec.Slot.Legion]
	if e == nil || r == nil || !r.open || c.closing || !c.willing(e, rec) || !c.newest(rec) || len(c.recalls) >= maxAsking {
		return
	}
	questions := map[string][]jobs.Record{}
	for _, voter := range r.voters {
		questions[voter] = []jobs.Record{rec}
	}
	c.ask(r, questions, func(said []jobs.Record, err error) {
		if err == nil { // else the next reign finds it
			c.keep(r, jobs.Batch{Records: said}, func() { c.goOn(rec) })
		}
	})
}

// askAround asks the nodes of other nodes' runs how they are. Mostly they have
// told already; but a node that was lord when it claimed may not know whether
// the claim was committed, and one without a vote hears of outcomes only so.
func (c *Core) askAround() {
	for _, run := range sorted(c.asked) {
		if c.now.Boot-c.asked[run] > 2*askAgain {
			delete(c.asked, run)
		}
	}
	for _, key := range sorted(c.living) {
		for _, run := range sorted(c.living[key]) {
			rec := c.living[key][run]
			r := c.reigns[rec.Slot.Legion]
			if r == nil || !r.open || rec.Node == c.cfg.Node || len(c.asked) >= maxAsking {
				continue
			}
			if at, ok := c.asked[run]; ok && c.now.Boot-at < askAgain {
				continue
			}
			c.asked[run] = c.now.Boot
			c.do(AskNode{Record: rec})
		}
	}
}

// told takes a node's own word about its run. It is the node's to write down,
// but if it never started the run it may not know that there is anything to
// be said, so it is passed on.
func (c *Core) told(ev Told) {
	rec := ev.Said
	_, lives := c.living[Key(ev.Asked.Slot.Legion, ev.Asked.Job)][ev.Asked.Run]
	_, old := c.stale[ev.Asked.Run]
	if !lives && !old || ev.Err != nil || rec.Key() != ev.Asked.Key() || !rec.State.Settled() {
		return
	}
	delete(c.stale, rec.Run)
	c.do(Publish{Records: []jobs.Record{rec}})
	if lives {
		c.ended(rec)
	}
}

// Account is what this node answers when it is asked about a run that was
// claimed in its name; nothing, if it cannot say.
func (c *Core) Account(now time.Time, rec jobs.Record) []jobs.Record {
	if living, ok := c.living[Key(rec.Slot.Legion, rec.Job)][rec.Run]; ok && living.Incarnation == c.cfg.Incarnation {
		return []jobs.Record{living}
	}
	if r := c.reigns[rec.Slot.Legion]; r != nil {
		if claim, ok := r.claims[rec.Run]; ok {
			return []jobs.Record{claim} // it may be answered yet
		}
	}
	known, err := c.cfg.Ledger.Slots(rec.Slot)
	if err != nil {
		return nil
	}
	key := rec.Key()
	for _, k := range known {
		// A queued slot keeps its run id: what became of an earlier claim of it
		// says nothing of this one.
		if k.Key() == key && k.State > jobs.Claimed && k.Term >= rec.Term {
			return []jobs.Record{k}
		}
	}
	// It is not under way, and whatever is started is first written down here:
	// so it was never started, and never will be. But a disk that was lost has
	// taken with it what was written on it.
	if rec.State > jobs.Claimed || rec.Incarnation != c.cfg.Incarnation && !c.earlier(rec) {
		return nil
	}
	rec.State, rec.Ended, rec.Reason = jobs.NeverStarted, now.UTC(), "the claim's answer was lost"
	return []jobs.Record{rec}
}
