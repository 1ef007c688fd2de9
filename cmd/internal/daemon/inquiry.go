package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
)

// Questions between nodes: a byte that says what is asked, then an encoded
// batch. The answer is an encoded batch; an empty one: no answer.
const (
	askRun = 'r' // how is this run of yours? One record each way.
	// askSlots: what do you know of the slots of these records? And of a row, what
	// was decided after its first slot? Records each way.
	askSlots = 's'
	askTime  = 't' // what time is it? Unix nanoseconds, 8 bytes, big-endian.
)

const (
	// lookAtClocks is how often one node's clock is looked at: the cost does not
	// grow with the cluster, but the time until every clock was looked at does.
	lookAtClocks = 10 * time.Second
	// clockStays is for how long none is looked at again: each look takes two
	// connections, which where there are few nodes is much of what an idle one does.
	clockStays = time.Minute
)

// inquire asks a run's node how the run is.
func (d *Daemon) inquire(ctx context.Context, rec jobs.Record) (jobs.Record, error) {
	q, err := jobs.Batch{Records: []jobs.Record{rec}}.Encode()
	if err != nil {
		return rec, err
	}
	a, err := d.gossip.Call(ctx, rec.Node, append([]byte{askRun}, q...))
	if err != nil {
		return rec, fmt.Errorf("ask %s: %w", rec.Node, err)
	}
	return oneRecord(a)
}

func oneRecord(b []byte) (jobs.Record, error) {
	batch, err := jobs.DecodeBatch(b)
	if err != nil {
		return jobs.Record{}, err
	}
	if len(batch.Records) != 1 {
		return jobs.Record{}, errors.New("decode answer: not one record")
	}
	return batch.Records[0], nil
}

// serve answers a question of another node.
func (d *Daemon) serve(ctx context.Context, from string, q []byte) []byte {
	if len(q) == 0 {
		return nil
	}
	switch kind, q := q[0], q[1:]; kind {
	case askTime:
		return binary.BigEndian.AppendUint64(nil, uint64(d.clock().Wall.UnixNano()))
	case askRequest:
		return d.courier.Serve(ctx, from, q)
	case askKeys:
		return d.serveKeys(q)
	case askDigests, askHour:
		return d.filler.answer(kind, q)
	case askRecords:
		return d.ownRecords(q)
	case askSlots:
		return d.recollection(q)
	case askRun:
		return d.account(ctx, q)
	}
	return nil
}

// account answers inquire; nil, which is no answer, if it cannot.
func (d *Daemon) account(ctx context.Context, q []byte) []byte {
	rec, err := oneRecord(q)
	if err != nil || rec.Node != d.name {
		return nil
	}
	said, err := query(ctx, d.foreman, func() []jobs.Record { return d.foreman.core.Account(d.clock().Wall, rec) })
	if err != nil {
		return nil
	}
	a, err := jobs.Batch{Records: said}.Encode()
	if err != nil {
		return nil
	}
	return a
}

// recollect asks a voter what it knows of the slots of records.
func (d *Daemon) recollect(ctx context.Context, voter string, slots []jobs.Record) ([]jobs.Record, error) {
	q, err := jobs.Batch{Records: slots}.Encode()
	if err != nil {
		return nil, err
	}
	a, err := d.gossip.Call(ctx, voter, append([]byte{askSlots}, q...))
	if err != nil {
		return nil, err
	}
	b, err := jobs.DecodeBatch(a)
	if err != nil {
		return nil, err
	}
	asked := map[string]bool{}
	for _, rec := range slots {
		asked[slotsOf(rec)] = true
	}
	return slices.DeleteFunc(b.Records, func(rec jobs.Record) bool { return !asked[slotsOf(rec)] }), nil
}

// slotsOf names the job whose slots a record is about.
func slotsOf(rec jobs.Record) string { return rec.Slot.Legion + "/" + rec.Job }

// recollection answers recollect; nil, which is no answer, if it cannot.
func (d *Daemon) recollection(q []byte) []byte {
	b, err := jobs.DecodeBatch(q)
	if err != nil || len(b.Records) > recallChunk {
		return nil
	}
	var about []jobs.Slot
	var said []jobs.Record
	for _, rec := range b.Records {
		if rec.Count <= 1 {
			about = append(about, rec.Slot)
			continue
		}
		within, err := d.store.Within(rec, slots.MaxWithin)
		if err != nil {
			d.log.Error("recollect slots", zap.Error(err))
			return nil
		}
		said = append(said, within...)
	}
	known, err := d.store.About(about...)
	if err != nil {
		d.log.Error("recollect slots", zap.Error(err))
		return nil
	}
	said = append(said, known...)
	a, err := jobs.Batch{Records: said}.Encode()
	if err != nil {
		d.log.Error("recollect slots", zap.Error(err))
		return nil
	}
	return a
}

// watchClocks compares the clocks of other nodes with ours, one at a time.
func (d *Daemon) watchClocks(ctx context.Context) {
	t := time.NewTicker(lookAtClocks)
	defer t.Stop()
	for {
		if name, ok := d.presence.stalest(d.clock().Boot); ok {
			d.lookAtClock(ctx, name)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// lookAtClock asks a node for the time. Its answer is taken to be from the
// middle of the time that the question took.
func (d *Daemon) lookAtClock(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	began := d.clock().Wall
	a, err := d.gossip.Call(ctx, name, []byte{askTime})
	now := d.clock().Wall
	if err != nil || len(a) != 8 {
		return // it is gossip's to say whether it is there
	}
	theirs := time.Unix(0, int64(binary.BigEndian.Uint64(a)))
	skew := theirs.Sub(began.Add(now.Sub(began) / 2))
	if !d.presence.measured(name, skew) {
		return
	}
	if skew.Abs() > maxSkew {
		d.log.Warn("clocks differ: is time synchronised on both hosts?", logging.Event("clock-skew"),
			zap.String("member", name), zap.Duration("ahead", skew.Round(time.Millisecond)))
	} else {
		d.log.Info("clocks agree again", logging.Event("clock-skew"), zap.String("member", name))
	}
}
