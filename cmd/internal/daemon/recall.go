package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

// What the voters that elected a lord tell it with their votes is what they
// know to be unsettled. A voter that was cut off may still tell of a run that
// has long ended, and one that knows better says so only by not telling of it:
// as it would if it had never heard of it. So a new lord asks every voter about
// what that voter did not tell of, before it acts on it. Two quorums share a
// voter; therefore, of whatever a quorum has settled, one of them knows.
//
// The same question finds the slots whose last attempt was never started, and
// that nobody has carried on with yet.

const (
	recallChunk    = 500 // slots of one question
	recallTries    = 3
	recallTimeout  = time.Second // of one try
	recallPause    = 100 * time.Millisecond
	maxStranded    = 1_000           // slots of one legion that are carried on with
	maxStrandedAt  = time.Hour       // how far back they are looked for
	minStrandedAt  = defaultCatchUp  // and how far at least
	defaultCatchUp = 5 * time.Minute // at most, where the job does not say
)

// recall asks the voters what they know of the slots that are in doubt, and
// calls done with it, on the foreman's goroutine, unless the reign is over. It
// is an error if a voter does not answer: its vote has not been read then.
func (f *foreman) recall(r *reign, states []legion.VoterState, done func([]jobs.Record, error)) {
	questions, err := f.doubts(r, states)
	if err != nil || len(questions) == 0 || f.recollect == nil {
		done(nil, err)
		return
	}
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		said, err := f.recallAll(r.ctx, questions)
		f.do(func() {
			if f.reigns[r.legion] == r {
				done(said, err)
			}
		})
	}()
}

// doubts returns, for each other voter, records of the slots to ask it about.
func (f *foreman) doubts(r *reign, states []legion.VoterState) (map[string][]jobs.Record, error) {
	known := f.store.Unsettled(r.legion).Records
	stranded, err := f.stranded(r)
	if err != nil {
		return nil, err
	}
	questions := map[string][]jobs.Record{}
	for _, s := range states {
		if s.Voter == f.node {
			continue
		}
		q := slices.Clone(stranded)
		if !s.Same {
			b, err := jobs.DecodeBatch(s.State)
			if err != nil {
				return nil, err
			}
			told := make(map[jobs.Key]bool, len(b.Records))
			for _, rec := range b.Records {
				told[rec.Key()] = true
			}
			for _, rec := range known {
				if !told[rec.Key()] {
					q = append(q, rec)
				}
			}
		}
		if len(q) > 0 {
			questions[s.Voter] = q
		}
	}
	return questions, nil
}

// recallAll asks all voters at once and returns what they know.
func (f *foreman) recallAll(ctx context.Context, questions map[string][]jobs.Record) ([]jobs.Record, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   []jobs.Record
		first error
	)
	for voter, q := range questions {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for chunk := range slices.Chunk(q, recallChunk) {
				said, err := f.recallOne(ctx, voter, chunk)
				mu.Lock()
				all = append(all, said...)
				if first == nil {
					first = err
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		}()
	}
	wg.Wait()
	return all, first
}

func (f *foreman) recallOne(ctx context.Context, voter string, q []jobs.Record) (said []jobs.Record, err error) {
	for range recallTries {
		try, cancel := context.WithTimeout(ctx, recallTimeout)
		said, err = f.recollect(try, voter, q)
		cancel()
		if err == nil {
			return said, nil
		}
		select {
		case <-time.After(recallPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("ask %s what it had written: %w", voter, err)
}

// recollection is what this node, asked by a new lord, knows of slots.
func (f *foreman) recollection(q []jobs.Record) ([]jobs.Record, error) {
	slots := make([]jobs.Slot, 0, len(q))
	for _, rec := range q {
		slots = append(slots, rec.Slot)
	}
	return f.store.Slots(slots...)
}

// stranded returns the last attempts of slots that were never started, if that
// was the last that this node has heard of them, and they may still start.
func (f *foreman) stranded(r *reign) ([]jobs.Record, error) {
	now := f.clock().Wall
	back := minStrandedAt
	for _, e := range f.jobs {
		if e.Legion == r.legion {
			back = max(back, min(e.CatchUp, maxStrandedAt))
		}
	}
	recs, err := f.store.Runs(ledger.Query{
		Legion: r.legion, Since: now.Add(-back), Outcome: jobs.NeverStarted, Limit: maxStranded,
	})
	if err != nil {
		return nil, err
	}
	recs = slices.DeleteFunc(recs, func(rec jobs.Record) bool {
		e := f.jobs[jobKey(r.legion, rec.Job)]
		return e == nil || !f.mayGoOn(e, rec, now)
	})
	if len(recs) == 0 {
		return nil, nil
	}
	all, err := f.recollection(recs)
	if err != nil {
		return nil, err
	}
	last := map[jobs.Slot]int{}
	for _, rec := range all {
		last[rec.Slot] = max(last[rec.Slot], rec.Attempt)
	}
	return slices.DeleteFunc(recs, func(rec jobs.Record) bool { return rec.Attempt < last[rec.Slot] }), nil
}

// resume carries on with the slots that are stranded, oldest first.
func (f *foreman) resume(r *reign) {
	recs, err := f.stranded(r)
	if err != nil {
		f.log.Error("look for slots that were never started", logging.Legion(r.legion), zap.Error(err))
		return
	}
	slices.SortFunc(recs, func(a, b jobs.Record) int { return a.Scheduled.Compare(b.Scheduled) })
	for _, rec := range recs {
		f.goOn(jobKey(r.legion, rec.Job), rec)
	}
}

// heard has the ledger take what voters said, and the voters that do not know
// it what has been settled: else the next lord would have to ask again.
func (f *foreman) heard(said []jobs.Record, done func(error)) {
	one := map[jobs.Key]jobs.Record{}
	for _, rec := range said {
		if old, ok := one[rec.Key()]; ok {
			rec = jobs.Merge(old, rec)
		}
		one[rec.Key()] = rec
	}
	recs := slices.Collect(maps.Values(one))
	f.disk.put(ledger.Writes{Records: recs}, done)
	f.scribe.publish(slices.DeleteFunc(slices.Clone(recs), func(rec jobs.Record) bool { return !rec.State.Settled() })...)
}
