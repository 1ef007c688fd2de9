package daemon

import (
	"context"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

// runs starts processes for claims and says how they ended.
type runs struct {
	host     *runner.Host
	logs     *logging.Log
	log      *zap.Logger
	clock    clock
	disk     *disk
	scribe   *scribe
	dir      string // of output files
	trusted  func(legion string, term uint64) bool
	guard    func(jobs.Job, jobs.Record) (ended func())
	lordship lordship
	limit    chan struct{} // max_runs; nil: no limit
	stopping <-chan struct{}

	mu      sync.Mutex
	living  map[string]*runner.Process // by run id
	files   map[string]*runner.OutputFile
	wanted  map[string]wish                // runs to be ended that have no process yet
	waits   map[string]wait                // claims that wait for their turn or the disk, by run id
	killed  bool                           // no new ones
	callers map[string]chan syscall.Signal // of commands that their callers run, by run id
	quit    chan struct{}                  // closed when all are to end
	ending  string                         // why all are to end politely, new ones too
}

// A wish is that a run end.
type wish struct {
	why      string
	forGood  bool // and its slot with it; else the slot goes on with another attempt
	lordless bool // because the lordship is gone
}

// A wait is a claim's, until its process may be begun.
type wait struct {
	legion string // empty: it does not end with a lordship
	end    context.CancelFunc
}

// await takes note of a claim that is to be begun, until done is called. The
// context ends when there is nothing to wait for any more: the run is not
// wanted, the agent stops, or the lordship of the claim is gone, if it needs
// one. What others know to be claimed stands in the way of later slots, and its
// turn or room on the disk may be hours away.
func (r *runs) await(ctx context.Context, rec jobs.Record, lordly bool) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	w := wait{end: cancel}
	if lordly {
		w.legion = rec.Slot.Legion
	}
	r.mu.Lock()
	r.waits[rec.Run] = w
	r.mu.Unlock()
	if end := r.unwanted(rec); end.why != "" && (lordly || !end.lordless) {
		cancel() // since before it could be told
	}
	return ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waits, rec.Run)
		cancel()
	}
}

// unlord has the claims of a lordship that is gone wait no longer.
func (r *runs) unlord(legion string) {
	r.hurry(func(w wait) bool { return w.legion == legion && legion != "" })
}

// hurry ends waits.
func (r *runs) hurry(which func(wait) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.waits {
		if which(w) {
			w.end()
		}
	}
}

// stop ends a run politely, kill at once. A run that has no process yet never
// gets one.
func (r *runs) stop(run, why string) {
	r.end(run, wish{why: why, forGood: true}, (*runner.Process).Stop)
}
func (r *runs) kill(run, why string) { r.end(run, wish{why: why}, (*runner.Process).Kill) }

func (r *runs) end(run string, w wish, how func(*runner.Process, string)) {
	r.mu.Lock()
	p, caller := r.living[run], r.callers[run]
	if p == nil && caller == nil {
		r.wanted[run] = w
		if waits, ok := r.waits[run]; ok {
			waits.end()
		}
	}
	r.mu.Unlock()
	switch {
	case p != nil:
		how(p, w.why)
	case caller != nil:
		deliver(caller, syscall.SIGTERM)
	}
}

// forget takes note that a run is over, so that it can no longer be ended.
func (r *runs) forget(run string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.living, run)
	delete(r.wanted, run)
}

// stopAll ends every run politely.
func (r *runs) stopAll(why string) {
	r.mu.Lock()
	r.ending = why
	r.dismiss()
	r.mu.Unlock()
	for _, p := range r.all() {
		p.Stop(why)
	}
}

// dismiss has the agent attend to no caller any more; the lock is held.
func (r *runs) dismiss() {
	if !closedChan(r.quit) {
		close(r.quit)
	}
}

func closedChan(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (r *runs) all() []*runner.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.living))
}

// killAll ends every run at once.
func (r *runs) killAll(why string) {
	r.mu.Lock()
	r.killed = true
	r.dismiss()
	r.mu.Unlock()
	r.hurry(func(wait) bool { return true })
	for _, p := range r.all() {
		p.Kill(why)
	}
}

// unwanted says why a claimed run must not start any more; the zero wish: it may.
func (r *runs) unwanted(rec jobs.Record) wish {
	r.mu.Lock()
	w, ok := r.wanted[rec.Run]
	killed := r.killed
	r.mu.Unlock()
	select {
	case <-r.stopping:
		killed = true
	default:
	}
	switch {
	case ok:
		return w
	case killed:
		return wish{why: "stopping"}
	case rec.Slot.Legion != "" && !r.trusted(rec.Slot.Legion, rec.Term):
		return wish{why: "no longer lord", lordless: true}
	}
	return wish{}
}

// execute runs a claimed attempt to its end and returns its last record,
// which is on this disk, or will be, and on its way to the voters.
func (r *runs) execute(j jobs.Job, rec jobs.Record) jobs.Record {
	log := r.log.With(logging.Legion(rec.Slot.Legion), logging.Term(rec.Term), logging.Job(rec.Job),
		logging.Slot(rec.Slot.String()), logging.Run(rec.Run), logging.Attempt(rec.Attempt))
	turn, done := r.await(context.Background(), rec, true)
	defer done()
	if r.limit != nil {
		select {
		case r.limit <- struct{}{}:
			defer func() { <-r.limit }()
		case <-turn.Done():
		}
	}
	// That it is about to start is durable before there is a process: an agent
	// that dies in between finds it, and does not take it for never started.
	end := r.unwanted(rec)
	if end.why == "" {
		rec.State = jobs.Starting
		err := r.disk.write(turn, ledger.Writes{Records: []jobs.Record{rec}})
		if end = r.unwanted(rec); end.why == "" && err != nil { // the disk may have taken long
			end.why = err.Error()
		}
	}
	if end.why != "" {
		rec.State, rec.Reason, rec.Ended = jobs.NeverStarted, end.why, r.clock().Wall.UTC()
		if end.forGood {
			rec.State, rec.ExitCode = jobs.Killed, -1 // before it began
		}
		r.scribe.put(rec)
		log.Warn("run "+rec.State.String(), logging.Event("run-ended"), logging.Outcome(rec.State.String()), zap.String("reason", end.why))
		return rec
	}
	rec = r.process(j, rec, log)
	r.scribe.put(rec)
	fields := []zap.Field{logging.Event("run-ended"), logging.Outcome(rec.State.String())}
	if rec.Signal == "" && rec.ExitCode >= 0 {
		fields = append(fields, logging.Exit(rec.ExitCode))
	}
	if !rec.Started.IsZero() {
		fields = append(fields, logging.Took(rec.Ended.Sub(rec.Started)))
	}
	if rec.State == jobs.Succeeded {
		log.Info("run succeeded", fields...)
	} else {
		log.Warn("run "+rec.State.String(), append(fields, zap.String("reason", rec.Reason))...)
	}
	return rec
}

func (r *runs) outputPath(run string) string { return filepath.Join(r.dir, run+".log") }

// output returns what copies the output of a run: what there is, or with
// follow until the run ends.
func (r *runs) output(ctx context.Context, run string, follow bool) (func(io.Writer) error, error) {
	r.mu.Lock()
	file := r.files[run]
	r.mu.Unlock()
	if follow && file != nil {
		return func(w io.Writer) error { return file.Follow(ctx, w) }, nil
	}
	whole, err := runner.ReadOutput(r.outputPath(run))
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error {
		defer whole.Close()
		_, err := io.Copy(w, whole)
		return err
	}, nil
}

// process starts the process of rec, waits for it, and returns rec with the outcome.
func (r *runs) process(j jobs.Job, rec jobs.Record, log *zap.Logger) jobs.Record {
	spec := runner.FromJob(j)
	spec.Run = rec.Run
	spec.Set = environment(rec)
	failed := func(err error) jobs.Record {
		rec.State, rec.Reason, rec.ExitCode, rec.Ended = jobs.Failed, err.Error(), -1, r.clock().Wall.UTC()
		return rec
	}
	file, err := runner.CreateOutput(r.outputPath(rec.Run), j.MaxOutput)
	if err != nil {
		return failed(err)
	}
	r.mu.Lock()
	r.files[rec.Run] = file
	r.mu.Unlock()
	defer func() {
		defer func() {
			r.mu.Lock()
			delete(r.files, rec.Run)
			r.mu.Unlock()
		}()
		if err := file.Close(); err != nil {
			log.Warn("output is not complete", zap.Error(err))
		}
	}()
	lines := r.logs.Output(rec.Job, logging.Legion(rec.Slot.Legion), logging.Term(rec.Term), logging.Job(rec.Job),
		logging.Slot(rec.Slot.String()), logging.Run(rec.Run), logging.Attempt(rec.Attempt))
	defer r.guard(j, rec)()
	p, err := r.host.Start(spec, runner.Tee(file, lines))
	if err != nil {
		return failed(err)
	}
	r.mu.Lock()
	r.living[rec.Run] = p
	w, stop := r.wanted[rec.Run]
	killed, ending := r.killed, r.ending
	r.mu.Unlock()
	switch {
	case killed:
		p.Kill("stopping")
	case ending != "":
		p.Stop(ending)
	case stop:
		p.Stop(w.why)
	}
	rec.State, rec.Started = jobs.Running, r.clock().Wall.UTC()
	r.scribe.put(rec)
	log.Debug("run started", logging.Event("run-started"), zap.Int("pid", p.PID()), zap.Duration("late", rec.Started.Sub(rec.Scheduled)))
	r.lordship.heed(j, rec, p)
	res := p.Wait()
	rec.State, rec.Reason, rec.ExitCode, rec.Signal = res.State, res.Reason, res.ExitCode, res.Signal
	rec.Started, rec.Ended = res.Started.UTC(), res.Ended.UTC()
	if rec.Signal == "KILL" && rec.State == jobs.Failed && j.OnUnlord == jobs.OnUnlordKill &&
		rec.Slot.Legion != "" && !r.trusted(rec.Slot.Legion, rec.Term) {
		rec.State, rec.Reason = jobs.Killed, "no longer lord" // by the guardian: the agent was frozen
	}
	return rec
}

// environment is what a run is told of itself.
func environment(rec jobs.Record) []string {
	return []string{
		"LEGION=" + rec.Slot.Legion,
		"LEGION_JOB=" + rec.Job,
		"LEGION_SLOT=" + rec.Slot.String(),
		"LEGION_SCHEDULED=" + rec.Scheduled.UTC().Format(time.RFC3339),
		"LEGION_RUN=" + rec.Run,
		"LEGION_ATTEMPT=" + strconv.Itoa(rec.Attempt),
		"LEGION_TERM=" + strconv.FormatUint(rec.Term, 10),
		"LEGION_NODE=" + rec.Node,
		"LEGION_INCARNATION=" + rec.Incarnation,
	}
}
