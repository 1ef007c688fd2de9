package slots

import (
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// ended takes the end of a run, here or elsewhere: its place is free, the slot
// may go on, and what waited for it may go.
func (c *Core) ended(rec jobs.Record) {
	if l := c.leaving[rec.Slot.Legion]; l != nil && l.runs[rec.Run] {
		delete(l.runs, rec.Run)
		c.letGoIfDone(l)
	}
	c.unlive(rec)
	r := c.reigns[rec.Slot.Legion]
	if r == nil || !r.open || c.closing {
		return
	}
	if c.retry(r, rec) || c.goOn(rec) {
		return
	}
	c.nextAll(r.legion)
}

// nextAll claims what waits in an owner's queues and is stopped by nothing any more:
// first what has waited longest, or a job that is always waiting might keep a mutex
// from another for ever.
func (c *Core) nextAll(owner string) {
	var waiting []*Entry
	for _, key := range sorted(c.queued) {
		if e := c.jobs[key]; e != nil && e.Legion == owner {
			waiting = append(waiting, e)
		}
	}
	slices.SortStableFunc(waiting, func(a, b *Entry) int {
		return c.queued[a.Key()][0].Scheduled.Compare(c.queued[b.Key()][0].Scheduled)
	})
	for _, e := range waiting {
		c.next(e)
	}
}

// next claims the slot that has waited longest, if nothing stands in its way.
func (c *Core) next(e *Entry) {
	key, r := e.Key(), c.reigns[e.Legion]
	q := c.queued[key]
	if len(q) == 0 || len(c.living[key]) > 0 || c.mutexHeld(e) != "" || r == nil || !r.open || c.closing {
		return
	}
	c.queued[key] = q[1:]
	if len(q) == 1 {
		delete(c.queued, key)
	}
	b := &decision{}
	c.claim(r, q[0], b)
	c.commit(r, b)
}

// retry has the next attempt of a failed run claimed after a delay, if that
// comes before the next slot.
func (c *Core) retry(r *reign, rec jobs.Record) bool {
	e := c.jobs[Key(rec.Slot.Legion, rec.Job)]
	if e == nil || rec.State != jobs.Failed && rec.State != jobs.TimedOut || rec.Attempt > e.Retries ||
		c.heldBack(r, e) != "" && !rec.Manual {
		return false
	}
	// Another lord may have given the run up, and gone on without it.
	if !c.newest(rec) {
		return false
	}
	delay := e.RetryDelay
	for range rec.Attempt - 1 {
		delay = time.Duration(float64(delay) * e.Backoff)
	}
	if next := c.engine.Next(e.Key()); !next.IsZero() && !c.now.Wall.Add(delay).Before(next) {
		return false
	}
	again := c.nextAttempt(r, e, rec)
	again.Run = c.newRun()
	c.live(again) // nothing else may take its place while it waits
	c.later(r, delay, func() {
		now := c.jobs[e.Key()]
		if now == nil || c.closing || c.heldBack(r, now) != "" && !rec.Manual { // since it failed
			c.unlive(again)
			c.nextAll(r.legion)
			return
		}
		b := &decision{}
		c.claimNext(r, rec, again, b)
		c.commit(r, b)
	})
	return true
}
