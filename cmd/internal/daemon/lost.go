package daemon

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
)

// findLost declares the runs lost whose agent is dead, or whose node has not
// been heard for long.
func (f *foreman) findLost(now time.Time) {
	batches := map[string]*decision{}
	for key, runs := range f.living {
		e := f.jobs[key]
		for id, rec := range runs {
			r := f.reigns[rec.Slot.Legion]
			if r == nil || rec.Node == f.node || rec.State == jobs.Queued {
				continue
			}
			why := ""
			switch {
			case f.dead(rec.Incarnation):
				why = "the agent on " + rec.Node + " died"
			case f.away(rec.Node, rec.Incarnation, now.Add(-f.lostAfter)):
				why = "no word of " + rec.Node + " for " + f.lostAfter.String()
			default:
				continue
			}
			b := batches[r.legion]
			if b == nil {
				b = &decision{}
				batches[r.legion] = b
			}
			lost := rec
			lost.State, lost.Term, lost.Ended, lost.Reason = jobs.Lost, r.term, now.UTC(), why
			b.Records = append(b.Records, lost)
			delete(runs, id)
			if e != nil && e.OnLost == jobs.OnLostRerun && !f.superseded(rec) {
				f.claim(e, f.nextAttempt(e, rec), b)
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

// observe takes note of what other nodes say of their runs: one that has ended
// stands in nobody's way any more.
func (f *foreman) observe(records []jobs.Record) {
	for _, rec := range records {
		key := jobKey(rec.Slot.Legion, rec.Job)
		if _, ok := f.living[key][rec.Run]; ok && rec.State.Settled() && rec.Node != f.node {
			f.over(key, rec)
		}
	}
}

// askAround asks the nodes of other nodes' runs how they are. Mostly they have
// told already; but a node that was lord when it claimed may not know whether
// the claim was committed, and one without a vote hears of outcomes only so.
func (f *foreman) askAround(now time.Time) {
	if f.inquire == nil {
		return
	}
	for key, runs := range f.living {
		for id, rec := range runs {
			if rec.Node == f.node || f.reigns[rec.Slot.Legion] == nil || len(f.asked) >= maxAsking || now.Sub(f.asked[id]) < askAgain {
				continue
			}
			f.asked[id] = now
			f.wg.Add(1)
			go func() {
				defer f.wg.Done()
				ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
				defer cancel()
				said, err := f.inquire(ctx, rec)
				f.do(func() { f.told(key, rec, said, err) })
			}()
		}
	}
	for id, at := range f.asked {
		if now.Sub(at) > 2*askAgain {
			delete(f.asked, id)
		}
	}
}

// told takes a node's own word about its run. It is the node's to write down,
// but if it never started the run it may not know that there is anything to
// be said, so it is passed on.
func (f *foreman) told(key string, rec, said jobs.Record, err error) {
	if _, ok := f.living[key][rec.Run]; !ok || err != nil || said.Key() != rec.Key() || !said.State.Settled() {
		return
	}
	f.scribe.put(said)
	f.over(key, said)
}

// over takes the end of another node's run.
func (f *foreman) over(key string, rec jobs.Record) {
	e, reigning := f.jobs[key], f.reigns[rec.Slot.Legion] != nil
	switch {
	case e == nil || !reigning || f.closing:
	case rec.State == jobs.NeverStarted:
		delete(f.living[key], rec.Run)
		f.goOn(key, rec)
	case rec.State == jobs.Lost && e.OnLost == jobs.OnLostRerun && !f.superseded(rec):
		// Its node was back before anybody had missed it.
		delete(f.living[key], rec.Run)
		b := &decision{}
		f.claimNext(e, rec, f.nextAttempt(e, rec), b)
		f.commit(e.Legion, b)
		return
	}
	f.ended(key, rec)
}

// account is what this node answers when it is asked about a run that was
// claimed in its name.
func (f *foreman) account(rec jobs.Record) []jobs.Record {
	if living, ok := f.living[jobKey(rec.Slot.Legion, rec.Job)][rec.Run]; ok && living.Node == f.node {
		return []jobs.Record{living}
	}
	known, err := f.store.Lookup(rec.Key())
	if err != nil {
		f.log.Error("look a run up", logging.Run(rec.Run), zap.Error(err))
		return nil
	}
	for _, k := range known {
		if k.State > jobs.Claimed {
			return []jobs.Record{k}
		}
	}
	// It is not under way, and whatever is started is first written down here:
	// so it was never started, and never will be.
	rec.State, rec.Ended, rec.Reason = jobs.NeverStarted, f.clock().Wall.UTC(), "the claim's answer was lost"
	return []jobs.Record{rec}
}
