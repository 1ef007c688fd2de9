package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
)

const (
	askTimeout    = 2 * time.Second
	recallChunk   = 500 // slots of one question
	recallTries   = 3
	recallTimeout = time.Second // of one try
	recallPause   = 100 * time.Millisecond
)

// askVoters asks voters what they know of slots, as long as the reign lasts
// for which it is asked.
func (f *foreman) askVoters(a slots.AskVoters) {
	ctx := f.reigning[a.Legion].ctx
	if ctx == nil {
		return // it is over
	}
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		said, err := f.recallAll(ctx, a.Questions)
		f.post(slots.Recalled{ID: a.ID, Records: said, Err: err})
	}()
}

// recallAll asks all voters at once and returns what they know.
func (f *foreman) recallAll(ctx context.Context, questions map[string][]jobs.Record) ([]jobs.Record, error) {
	if f.recollect == nil {
		return nil, nil
	}
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
