package daemon

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

const (
	orderTimeout = 5 * time.Second       // for an order to be committed
	orderAgain   = 50 * time.Millisecond // while a new lord reads what was written
)

// demand gives the core an order and waits for the answer. If it does not wait
// any more when the answer comes, and that is yes, late is told.
func (d *Daemon) demand(ctx context.Context, ev func(id uint64) slots.Event, late func(jobs.Record)) (jobs.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	f := d.foreman
	c := make(chan slots.Reply, 1)
	var id uint64 // the foreman's goroutine's alone
	f.do(func() {
		f.lastOrder++
		id = f.lastOrder
		f.replies[id] = func(r slots.Reply) { c <- r }
		f.step(ev(id))
	})
	select {
	case r := <-c:
		return r.Record, r.Err
	case <-f.done:
		return jobs.Record{}, control.Unavailable("", "the node is stopping")
	case <-ctx.Done():
	}
	f.do(func() {
		tooLate := func(r slots.Reply) {
			if r.Err == nil && late != nil {
				late(r.Record)
			}
		}
		select {
		case r := <-c:
			tooLate(r)
		default:
			f.replies[id] = tooLate
		}
	})
	return jobs.Record{}, control.Unavailable("it may be done all the same: see legion-cron runs", "no quorum has committed it in time")
}

// reply passes an answer on to whoever waits for it.
func (f *foreman) reply(a slots.Reply) {
	if answer := f.replies[a.ID]; answer != nil {
		delete(f.replies, a.ID)
		answer(a)
	}
}

// lordly gives an order about a legion, and again while this node is its lord
// and not ready yet. That it is not the lord is an error for the router.
func (b backend) lordly(ctx context.Context, legionName string, ev func(id uint64) slots.Event) (jobs.Record, error) {
	for deadline := time.Now().Add(orderTimeout); ; {
		rec, err := b.d.demand(ctx, ev, nil)
		if !errors.Is(err, slots.ErrNotLord) {
			return rec, err
		}
		if lord, err := b.LordOf(legionName); legionName != "" && (err != nil || lord != b.d.name) || time.Now().After(deadline) {
			return rec, &control.Error{Code: http.StatusMisdirectedRequest, Message: b.d.name + " is not the lord of " + legionName, Hint: "try again: it is changing hands"}
		}
		select {
		case <-time.After(orderAgain):
		case <-ctx.Done():
			return rec, ctx.Err()
		}
	}
}

// JobNode implements control.Commander.
func (b backend) JobNode(ctx context.Context, job string) (string, error) {
	for _, j := range b.d.config().Jobs {
		if j.Name == job {
			if j.Legion == "" {
				return b.d.name, nil
			}
			return b.LordOf(j.Legion)
		}
	}
	e, _, err := b.Explain(ctx, job, false)
	switch {
	case err != nil:
		return "", err
	case e.Legion != "":
		return b.LordOf(e.Legion)
	}
	return e.Nodes[0], nil
}

// RerunNode implements control.Commander.
func (b backend) RerunNode(ctx context.Context, run string) (string, error) {
	rec, err := b.d.run(ctx, run)
	switch {
	case err != nil:
		return "", err
	case rec.Slot.Legion != "":
		return b.LordOf(rec.Slot.Legion)
	}
	return rec.Slot.Node, nil
}

// legionOf is the legion of a job of this node.
func (b backend) legionOf(job string) (string, error) {
	for _, j := range b.d.config().Jobs {
		if j.Name == job {
			return j.Legion, nil
		}
	}
	return "", control.Refused("its configuration has to have the job: nobody can be told a command", "%s has no job %q", b.d.name, job)
}

// busyWords say more than the reasons that skipped slots are recorded with.
var busyWords = map[string]string{
	"overlap":    "a run of it has not ended (overlap)",
	"disabled":   "it is disabled",
	"queue full": "too many runs of the legion run or wait",
}

// refusal puts into words why the core does not do it.
func (b backend) refusal(err error, rec jobs.Record) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, slots.ErrNoJob):
		return control.Refused("its configuration has to have the job: nobody can be told a command", "%s has no job %q", b.d.name, rec.Job)
	case errors.Is(err, slots.ErrBusy):
		why := err.Error()
		if long := busyWords[why]; long != "" {
			why = long
		}
		return control.Refused("legion-cron explain says more", "%s cannot run now: %s", rec.Job, why)
	}
	return err
}

// Trigger implements control.Commander.
func (b backend) Trigger(ctx context.Context, job string) (control.Run, error) {
	legionName, err := b.legionOf(job)
	if err != nil {
		return control.Run{}, err
	}
	rec, err := b.lordly(ctx, legionName, func(id uint64) slots.Event { return slots.Trigger{ID: id, Legion: legionName, Job: job} })
	if err != nil {
		return control.Run{}, b.refusal(err, jobs.Record{Slot: jobs.Slot{Job: job}})
	}
	b.told(ctx, "triggered", rec)
	return wireRun(rec), nil
}

// Rerun implements control.Commander.
func (b backend) Rerun(ctx context.Context, run string) (control.Run, error) {
	old, err := b.d.run(ctx, run)
	if err != nil {
		return control.Run{}, err
	}
	rec, err := b.lordly(ctx, old.Slot.Legion, func(id uint64) slots.Event { return slots.Rerun{ID: id, Run: old} })
	if err != nil {
		return control.Run{}, b.refusal(err, old)
	}
	b.told(ctx, "run again", rec)
	return wireRun(rec), nil
}

// told logs what somebody asked for.
func (b backend) told(ctx context.Context, what string, rec jobs.Record) {
	b.d.log.Info(what+" by "+control.Asker(ctx), logging.Event("ordered"), logging.Legion(rec.Slot.Legion), logging.Term(rec.Term),
		logging.Job(rec.Job), logging.Slot(rec.Slot.String()), logging.Run(rec.Run), logging.Attempt(rec.Attempt))
}

// KillNode implements control.Commander.
func (b backend) KillNode(ctx context.Context, run string) (string, error) {
	rec, err := b.d.run(ctx, run)
	if err != nil {
		return "", err
	}
	return killer(rec, b.Nodes(), b.LordOf)
}

// killer is the node that can end a run. One that waits for its turn is begun by
// whoever is lord then, and not by the node that had it wait.
func killer(rec jobs.Record, nodes []string, lordOf func(legionName string) (string, error)) (string, error) {
	switch {
	case rec.State == jobs.Queued && rec.Slot.Legion != "":
		return lordOf(rec.Slot.Legion)
	case rec.Node == "":
		return "", noNode(rec.Run)
	case rec.State.Settled() && !slices.Contains(nodes, rec.Node):
		return "", ended(rec) // that its node is away as well does not matter
	}
	return rec.Node, nil
}

// ended refuses to end a run once more.
func ended(rec jobs.Record) error {
	return control.Refused("legion-cron show "+rec.Run+" says how", "run %s has ended: %v", rec.Run, rec.State)
}

// Kill implements control.Commander.
func (b backend) Kill(ctx context.Context, run, signal string) (control.Run, error) {
	rec, err := b.d.run(ctx, run)
	if err != nil {
		return control.Run{}, err
	}
	if rec.State.Settled() {
		return control.Run{}, ended(rec)
	}
	if signal == "" {
		b.d.runs.stop(run, "killed by "+control.Asker(ctx))
	} else {
		sig, err := runner.ParseSignal(signal)
		if err != nil {
			return control.Run{}, control.BadRequest("a name like TERM or HUP, or a number", "%v", err)
		}
		switch err := b.d.runs.signal(run, sig); {
		case errors.Is(err, os.ErrProcessDone):
			return control.Run{}, control.Refused("try again, or see legion-cron show "+run, "run %s has no process now", run)
		case err != nil:
			return control.Run{}, err
		}
	}
	b.told(ctx, strings.TrimSpace("killed "+signal), rec)
	return wireRun(rec), nil
}

// Pause implements control.Commander.
func (b backend) Pause(ctx context.Context, legionName, job string, p *control.PauseOrder) error {
	if job != "" {
		var err error
		if legionName, err = b.legionOf(job); err != nil {
			return err
		}
	}
	by := " (" + control.Asker(ctx) + ")"
	set := jobs.Pause{Legion: legionName, Job: job}
	if p != nil {
		if !p.Until.IsZero() && !b.d.clock().Wall.Before(p.Until.Time) {
			return control.BadRequest("a time to come", "%s is past", p.Until.Format(time.RFC3339))
		}
		if len(p.Reason)+len(by) > jobs.MaxPauseReason {
			return control.BadRequest("", "the reason has %d bytes, it may have %d", len(p.Reason), jobs.MaxPauseReason-len(by))
		}
		set.On, set.Until, set.Reason = true, p.Until.Time, "by "+control.Asker(ctx)
		if reason := strings.TrimSpace(strings.ToValidUTF8(p.Reason, "?")); reason != "" {
			set.Reason = reason + by
		}
	}
	if _, err := b.lordly(ctx, legionName, func(id uint64) slots.Event { return slots.SetPause{ID: id, Pause: set} }); err != nil {
		return err
	}
	what := "resumed"
	var why []zap.Field
	if set.On {
		what, why = "paused", []zap.Field{zap.String("reason", describePause(set))}
	}
	b.d.log.Info(what+" by "+control.Asker(ctx), append(why, logging.Event(what), logging.Legion(legionName), logging.Job(job))...)
	return nil
}

// pause is what holds back all jobs of a legion, as this node's ledger has it.
func (d *Daemon) pause(legionName string) (jobs.Pause, bool) {
	marks := d.store.Unsettled(legionName).Marks
	i := slices.IndexFunc(marks, func(m jobs.Mark) bool {
		p, ok := jobs.PauseOf(m)
		return ok && p.Job == "" && p.Holds(d.clock().Wall)
	})
	if i < 0 {
		return jobs.Pause{}, false
	}
	return jobs.PauseOf(marks[i])
}

// describePause says why and for how long.
func describePause(p jobs.Pause) string {
	text := p.Reason
	if !p.Until.IsZero() {
		text += ", until " + p.Until.Format(time.RFC3339)
	}
	return strings.TrimPrefix(text, ", ")
}
