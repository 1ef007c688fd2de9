package daemon

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

const runsHint = "legion-cron runs lists them"

// run finds a run by its id, whoever knows it.
func (d *Daemon) run(ctx context.Context, id string) (jobs.Record, error) {
	if _, err := uuid.Parse(id); err != nil { // it becomes part of a file's name, too
		return jobs.Record{}, control.NotFound(runsHint, "no run %q", id)
	}
	// What does not change of a run is on the node itself or, mostly, here.
	if own, err := d.store.Runs(ledger.Query{Run: id, Limit: 1}); err == nil && len(own) > 0 && (own[0].Node == d.name || own[0].State.Settled()) {
		return own[0], nil
	}
	recs, silent, err := d.history(ctx, ledger.Query{Run: id, Limit: 1})
	if err != nil {
		return jobs.Record{}, err
	}
	if len(recs) == 0 {
		hint := runsHint
		if len(silent) > 0 {
			hint = "those that do not answer may know it: " + strings.Join(silent, ", ")
		}
		return jobs.Record{}, control.NotFound(hint, "no run %s", id)
	}
	return recs[0], nil
}

// RunNode implements control.Archivist.
func (b backend) RunNode(ctx context.Context, id string) (string, error) {
	rec, err := b.d.run(ctx, id)
	if err != nil {
		return "", err
	}
	if rec.Node == "" {
		return "", noNode(id)
	}
	return rec.Node, nil
}

func noNode(run string) error {
	return control.NotFound("it waits for the runs before it", "run %s has no node yet", run)
}

// Output implements control.Archivist.
func (b backend) Output(ctx context.Context, id string, follow bool) (func(io.Writer) error, error) {
	rec, err := b.d.run(ctx, id)
	if err != nil {
		return nil, err
	}
	out, err := b.d.runs.output(ctx, id, follow)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, control.NotFound("what legion-cron exec runs prints where it was called; of other runs it is kept as long as the run", "there is no output of run %s (%v)", id, rec.State)
	}
	return out, err
}

// forgot removes the output of runs that the ledger knows no more: nobody can ask
// for it, and there is one for every run.
func (d *Daemon) forgot(records []jobs.Record) {
	for _, r := range records {
		if _, err := uuid.Parse(r.Run); err != nil {
			continue // another node may have named it, and no path is made of that
		}
		if err := runner.RemoveOutput(d.runs.outputPath(r.Run)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("forget an old run", logging.Run(r.Run), zap.Error(err))
		}
	}
}
