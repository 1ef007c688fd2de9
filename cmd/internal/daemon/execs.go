package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

// A command that legion-cron exec runs is its caller's: the agent gives it a
// slot, keeps its record, and is told what becomes of it. Its claim alone, and
// no lease, keeps it from being run twice: so a lordship that ends between the
// claim and the start takes nothing with it.

const (
	lookForClaim = 200 * time.Millisecond // by another host, again
	maxExecs     = 64                     // at a time
)

// execName is what a job of exec may be called: as in a configuration.
var execName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Exec implements control.Host.
func (b backend) Exec(ctx context.Context, legionName string, ask control.ExecAsk, say func(any) error, news <-chan control.ExecNews) error {
	if !execName.MatchString(ask.Job) {
		return control.BadRequest("letters, digits and . _ - only, at most 64", "%q is no name for a job", ask.Job)
	}
	if _, err := b.Lord(ctx, legionName); err != nil {
		return err
	}
	rec, unclaimed, err := b.claimExec(ctx, legionName, ask)
	switch {
	case err != nil:
		return err
	case rec.Run == "":
		if unclaimed != "" {
			b.d.log.Warn("nobody ran the command: "+unclaimed, logging.Event("exec"), logging.Legion(legionName), logging.Job(ask.Job))
		}
		return say(control.ExecVerdict{Unclaimed: unclaimed})
	}
	if end := b.d.attend(ctx, rec, say, news); end.State == jobs.NeverStarted {
		return control.Unavailable("try again", "the command was not begun: %s", end.Reason) // or it would pass for one that others run
	}
	return nil
}

// claimExec claims the slot for this host. Without one it says why nobody has
// it, or nothing, if somebody does or nobody is meant to.
func (b backend) claimExec(ctx context.Context, legionName string, ask control.ExecAsk) (rec jobs.Record, unclaimed string, err error) {
	claim := func() (jobs.Record, error) {
		return b.d.demand(ctx, func(id uint64) slots.Event {
			return slots.Exec{ID: id, Legion: legionName, Job: ask.Job, At: ask.Slot.Time, Definition: ask.Definition}
		}, func(rec jobs.Record) {
			rec.State, rec.Reason, rec.Ended = jobs.NeverStarted, "its caller was gone", b.d.clock().Wall.UTC()
			b.d.scribe.put(rec)
			b.d.foreman.post(slots.Ended{Record: rec})
		})
	}
	beat, lease := b.d.tempo()
	for deadline := time.Now().Add(lease + 2*beat); ; {
		lord, err := b.LordOf(legionName)
		switch {
		case err != nil:
			unclaimed = err.Error()
		case lord == b.d.name:
			rec, err := claim()
			switch {
			case err == nil:
				return rec, "", nil
			case errors.Is(err, slots.ErrTaken):
				return rec, "", nil
			case errors.Is(err, slots.ErrBusy):
				return rec, "", control.Refused("choose another --name", "no slot for %s: %v", ask.Job, err)
			}
			unclaimed = err.Error()
		case ask.Slot.IsZero():
			return rec, "", nil // the lord's to run
		default:
			t, err := control.From[control.Taken](ctx, b, lord, control.TakenPath(legionName, ask.Job, ask.Slot.Time))
			if err == nil && t.Taken {
				return rec, "", nil
			}
			unclaimed = lord + " is the lord, and has not claimed it"
			if err != nil {
				unclaimed = err.Error()
			}
		}
		if !time.Now().Before(deadline) {
			if ask.Slot.IsZero() {
				unclaimed = "" // nobody reigns, here least of all
			}
			return jobs.Record{}, unclaimed, nil
		}
		select {
		case <-time.After(lookForClaim):
		case <-ctx.Done():
			return rec, "", ctx.Err()
		}
	}
}

// Taken implements control.Host.
func (b backend) Taken(ctx context.Context, legionName, job string, at time.Time) (bool, error) {
	type answer struct {
		taken bool
		err   error
	}
	a, err := query(ctx, b.d.foreman, func() answer {
		taken, err := b.d.foreman.core.Taken(legionName, job, at)
		return answer{taken, err}
	})
	if err != nil {
		return false, control.Unavailable("", "%v", err)
	}
	if a.err != nil {
		return false, control.Unavailable("try again: it is changing hands", "%s is not the lord of %s", b.d.name, legionName)
	}
	return a.taken, nil
}

// tempo is the cluster's beat and lease.
func (d *Daemon) tempo() (beat, lease time.Duration) {
	if e := d.protocol.electorate(); e != nil {
		return e.Beat, e.Lease
	}
	return lanBeat, lanLease
}

// attend sees a command through that its caller runs, writes down what becomes
// of it, and returns that.
func (d *Daemon) attend(ctx context.Context, rec jobs.Record, say func(any) error, news <-chan control.ExecNews) jobs.Record {
	end := d.attendTo(ctx, rec, say, news)
	end.Ended = d.clock().Wall.UTC()
	d.scribe.put(end)
	d.foreman.post(slots.Ended{Record: end})
	// The caller ends when it is told that this is recorded.
	if err := d.disk.write(context.WithoutCancel(ctx), ledger.Writes{Records: []jobs.Record{end}}); err != nil {
		d.log.Warn("record a run", logging.Run(end.Run), zap.Error(err))
	}
	log := d.log.Info
	if end.State != jobs.Succeeded {
		log = d.log.Warn
	}
	fields := []zap.Field{logging.Event("run-ended"), logging.Legion(end.Slot.Legion), logging.Term(end.Term), logging.Job(end.Job),
		logging.Slot(end.Slot.String()), logging.Run(end.Run), logging.Attempt(end.Attempt), logging.Outcome(end.State.String())}
	if end.Signal == "" && end.ExitCode >= 0 {
		fields = append(fields, logging.Exit(end.ExitCode))
	}
	if end.Reason != "" {
		fields = append(fields, zap.String("reason", end.Reason))
	}
	log("run "+end.State.String(), fields...)
	if end.State != jobs.NeverStarted {
		_ = say(control.ExecNews{Recorded: true}) // the caller does not wait for ever
	}
	return end
}

// attendTo returns the last record but for the moment of its end.
func (d *Daemon) attendTo(ctx context.Context, rec jobs.Record, say func(any) error, news <-chan control.ExecNews) jobs.Record {
	give := func(state jobs.State, why string) jobs.Record {
		rec.State, rec.Reason, rec.ExitCode = state, why, -1
		return rec
	}
	signals, leave, err := d.runs.admit(rec.Run)
	if err != nil {
		return give(jobs.NeverStarted, err.Error())
	}
	defer leave()
	rec.State = jobs.Starting
	soon, done := d.runs.await(ctx, rec, false) // its claim is enough, without the lordship
	err = d.disk.write(soon, ledger.Writes{Records: []jobs.Record{rec}})
	done()
	switch end := d.runs.unwanted(rec); {
	case err == nil:
	case ctx.Err() != nil:
		return give(jobs.NeverStarted, "its caller was gone")
	case end.why != "" && !end.lordless:
		return give(jobs.NeverStarted, end.why)
	default:
		return give(jobs.NeverStarted, err.Error())
	}
	env := slices.DeleteFunc(environment(rec), func(v string) bool {
		return strings.HasPrefix(v, "LEGION_INCARNATION=") // or it would be taken for a child of this agent's
	})
	if err := say(control.ExecVerdict{Run: rec.Run, Env: env}); err != nil {
		return give(jobs.NeverStarted, "its caller was gone")
	}
	sent := ""
	for {
		select {
		case n, open := <-news:
			switch {
			case !open && rec.State == jobs.Starting:
				return give(jobs.Lost, "its caller died before it said that it runs")
			case !open:
				return give(jobs.Lost, "its caller died while it ran")
			case n.Failed != "":
				return give(jobs.Failed, n.Failed)
			case n.Ended:
				if !credible(n) { // no ledger would take it, or nobody could read it
					return give(jobs.Lost, "its caller told nonsense of its end")
				}
				rec.State, rec.ExitCode, rec.Signal = jobs.Succeeded, n.ExitCode, n.Died
				switch {
				case n.Died != "" && n.Died == sent:
					rec.State, rec.Reason = jobs.Killed, "killed by request"
				case n.ExitCode != 0 || n.Died != "":
					rec.State = jobs.Failed
				}
				return rec
			case n.PID != 0:
				rec.State, rec.Started = jobs.Running, d.clock().Wall.UTC()
				d.scribe.put(rec)
			}
		case sig := <-signals:
			sent = runner.SignalName(sig)
			_ = say(control.ExecNews{Signal: sent}) // if it is gone, news ends
		case <-d.runs.quit:
			return give(jobs.Lost, "the agent ended while it ran")
		}
	}
}

// credible reports whether a process can have ended like that.
func credible(n control.ExecNews) bool {
	if n.Died != "" {
		sig, err := runner.ParseSignal(n.Died)
		return err == nil && runner.SignalName(sig) == n.Died && n.ExitCode == -1
	}
	return n.ExitCode >= 0 && n.ExitCode <= 255
}

// admit takes in a command that is its caller's to run. Signals for it arrive
// until leave is called.
func (r *runs) admit(run string) (signals <-chan syscall.Signal, leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.callers) >= maxExecs {
		return nil, nil, fmt.Errorf("%d commands run already", maxExecs)
	}
	c := make(chan syscall.Signal, 1)
	r.callers[run] = c
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.callers, run)
	}, nil
}

// signal sends a signal to a run; os.ErrProcessDone: it has no process.
func (r *runs) signal(run string, sig syscall.Signal) error {
	r.mu.Lock()
	p, caller := r.living[run], r.callers[run]
	r.mu.Unlock()
	switch {
	case p != nil:
		return p.Signal(sig)
	case caller != nil:
		deliver(caller, sig)
		return nil
	}
	return os.ErrProcessDone
}

func deliver(caller chan<- syscall.Signal, sig syscall.Signal) {
	select {
	case caller <- sig:
	default: // one is on its way
	}
}
