package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/legion-cron/legion-cron/jobs"
)

// Questions between nodes: a byte that says what is asked, then an encoded
// batch. The answer is an encoded batch; an empty one: no answer.
const askRun = 'r' // how is this run of yours? One record each way.

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
func (d *Daemon) serve(ctx context.Context, _ string, q []byte) []byte {
	if len(q) == 0 || q[0] != askRun {
		return nil
	}
	rec, err := oneRecord(q[1:])
	if err != nil || rec.Node != d.name {
		return nil
	}
	said, err := query(ctx, d.foreman, func() []jobs.Record { return d.foreman.account(rec) })
	if err != nil {
		return nil
	}
	a, err := jobs.Batch{Records: said}.Encode()
	if err != nil {
		return nil
	}
	return a
}
