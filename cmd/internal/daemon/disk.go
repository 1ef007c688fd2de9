package daemon

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
)

// diskRetry is how long a failed write waits before it is tried again. Less
// notices room on a full disk sooner; more spares a broken one.
const diskRetry = 500 * time.Millisecond

// A durable returns from Write when all of it is on disk, or none.
type durable interface {
	Write(...ledger.Writes) error
}

// A disk writes to the ledger from one goroutine. Everything that waits is
// written in one transaction, so its cost is shared.
type disk struct {
	store   durable
	log     *zap.Logger
	wrote   func([]jobs.Record) // told of records that are durable, not of those in batches
	trouble func(string)        // told when writes fail, and with "" when they work again
	queue   *mailbox[write]
	done    chan struct{}
}

type write struct {
	ledger.Writes
	done func(error) // called once, from the writing goroutine; must not block
}

func newDisk(store durable, log *zap.Logger, trouble func(string)) *disk {
	return &disk{store: store, log: log, trouble: trouble, queue: newMailbox[write](), done: make(chan struct{})}
}

// put queues a write. done is called with nil when it is durable, or with an
// error if it never will be.
func (d *disk) put(w ledger.Writes, done func(error)) { d.queue.put(write{w, done}) }

// write returns when w is durable.
func (d *disk) write(ctx context.Context, w ledger.Writes) error {
	c := make(chan error, 1)
	d.put(w, func(err error) { c <- err })
	select {
	case err := <-c:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes until ctx ends, and then what is still waiting.
func (d *disk) run(ctx context.Context) {
	defer close(d.done)
	for {
		select {
		case <-d.queue.ready:
			d.flush(ctx, d.queue.take())
		case <-ctx.Done():
			d.flush(ctx, d.queue.take())
			return
		}
	}
}

// flush writes a group. While the disk is full it tries again, because what
// waits has been promised to nobody yet; any other error is looked for one by
// one, so that a bad write takes no good one with it.
func (d *disk) flush(ctx context.Context, group []write) {
	if len(group) == 0 {
		return
	}
	all := make([]ledger.Writes, len(group))
	for i, w := range group {
		all[i] = w.Writes
	}
	told := false
	for {
		err := d.store.Write(all...)
		if told && !errors.Is(err, ledger.ErrFull) { // whatever else is wrong with it
			told = false
			d.trouble("")
		}
		switch {
		case err == nil:
			for _, w := range group {
				w.done(nil)
				d.wrote(w.Records)
			}
			return
		case errors.Is(err, ledger.ErrFull):
			if !told {
				told = true
				d.trouble(err.Error())
			}
			select {
			case <-time.After(diskRetry):
				continue
			case <-ctx.Done():
			}
		case errors.Is(err, ledger.ErrDamaged): // the node is told, and stops
		case len(group) > 1:
			for _, w := range group {
				d.flush(ctx, []write{w})
			}
			return
		default:
			d.log.Error("write refused", zap.Error(err))
		}
		for _, w := range group {
			w.done(err)
		}
		return
	}
}
