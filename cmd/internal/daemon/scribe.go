package daemon

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

const (
	scribeBatch = 500         // records of one write
	scribeRetry = time.Second // after a write that a quorum could not take
)

// A scribe sends what this node says of its own runs: to its own disk at
// once, and to the voters until a quorum has it.
type scribe struct {
	disk     *disk
	protocol *protocol
	log      *zap.Logger
	// lone reports that this node is the only voter: its own disk is the quorum.
	lone  func() bool
	ended func(...jobs.Record) // told what put is given

	queue   *mailbox[jobs.Record]
	pending sync.WaitGroup // records that no quorum has yet
	done    chan struct{}
}

func newScribe(d *disk, p *protocol, log *zap.Logger) *scribe {
	return &scribe{disk: d, protocol: p, log: log, queue: newMailbox[jobs.Record](), done: make(chan struct{})}
}

// put writes records here and, for those of a legion, to a quorum. It does not wait.
func (s *scribe) put(recs ...jobs.Record) {
	s.disk.put(ledger.Writes{Records: recs}, func(error) {})
	s.publish(recs...)
	s.ended(recs...)
}

// publish has the voters know of records that this disk has.
func (s *scribe) publish(recs ...jobs.Record) {
	for _, r := range recs {
		if err := r.Normal().Validate(); err != nil { // it would keep all that come after it from being sent
			s.log.Error("no voter would take a record", logging.Run(r.Run), zap.Error(err))
			continue
		}
		if !r.Slot.Local() && !s.lone() {
			s.pending.Add(1)
			s.queue.put(r)
		}
	}
}

// settled returns when a quorum has everything, or when ctx ends.
func (s *scribe) settled(ctx context.Context) {
	done := make(chan struct{})
	go func() { // ends with the last record or, at the latest, with run
		s.pending.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (s *scribe) run(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case <-ctx.Done():
			for range s.queue.take() {
				s.pending.Done()
			}
			return
		case <-s.queue.ready:
		}
		recs := s.queue.take()
		for len(recs) > 0 {
			n := min(len(recs), scribeBatch)
			s.send(ctx, recs[:n])
			recs = recs[n:]
		}
	}
}

// send writes until a quorum has the records or ctx ends.
func (s *scribe) send(ctx context.Context, recs []jobs.Record) {
	defer s.pending.Add(-len(recs))
	for {
		c := make(chan error, 1)
		s.protocol.propose(legion.Propose{}, jobs.Batch{Records: recs}, func(err error) { c <- err })
		select {
		case err := <-c:
			if err == nil {
				return
			}
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(scribeRetry):
		case <-ctx.Done():
			return
		}
	}
}
