package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/checks/probe"
	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/guardian"
	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/metrics"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/jobs/runner"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/legion/gossip"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

const (
	sweepTimeout  = 10 * time.Second // to kill what an earlier agent left
	settleTimeout = 3 * time.Second  // at the end, to have outcomes taken by a quorum
	farewellLimit = 3 * time.Second  // at the end, to have the certificate acknowledged
	gossipStop    = 200 * time.Millisecond
	logStop       = 2 * time.Second
	controlStop   = time.Second
	retainEvery   = time.Minute // a bounded piece of work each time
	retainAfter   = 10 * time.Minute
	// countEvery is between two counts that the others remember. What was promised
	// since the last one is forgotten, unseen, if a backup from before is put back.
	// Less costs writes, here and on the voters.
	countEvery    = 10 * time.Minute
	conflictAgain = time.Minute // between two complaints about a namesake

	// keepLeast is how long finished runs stay, whatever is configured: a lord that
	// was cut off asks what became of the slots of lost runs before it goes on with
	// them, and another voter must know. The hour is for clocks that differ.
	keepLeast = slots.LostBack + time.Hour

	// A node without a cluster beats to itself.
	lanBeat  = 300 * time.Millisecond
	lanLease = 2 * time.Second
)

// Options are what the configuration does not say.
type Options struct {
	Version string
	Clock   func() legion.Now // nil: the machine's clocks
}

// A Daemon is one node. Its methods are safe for concurrent use; Start and
// Stop are for one caller, once each.
type Daemon struct {
	opts    Options
	clock   clock
	started time.Time

	mu      sync.Mutex
	cfg     *config.Config
	unfit   string     // why the node stands back from every legion; empty: it does not
	telling sync.Mutex // held while the core is told of its part
	reloads sync.Mutex // held while the configuration is read and applied
	keysMu  sync.Mutex // one change of the keys at a time
	// suspended says which legions the node stands back from for a while.
	suspended map[string]*suspension
	orders    orders // by hand

	name, incarnation string
	earlier           []string // incarnations of this instance

	logs     *logging.Log
	log      *zap.Logger
	store    *ledger.Store
	host     *runner.Host
	disk     *disk
	protocol *protocol
	scribe   *scribe
	runs     *runs
	foreman  *foreman
	filler   *filler
	gossip   *gossip.Node // nil: alone
	api      http.Handler
	systemd  *supervisor
	courier  *control.Courier
	presence *presence
	guardian *guardian.Guardian
	watch    *probe.Watch
	metrics  *metrics.Metrics
	doubles  *doubles
	calendar []dated       // guarded by mu
	recount  chan struct{} // holds a token when jobs may have come
	left     chan struct{} // closed when the node is to stop, and why: leaving
	leaving  sync.Once
	leftBy   error
	merges   chan legion.Merge // what other voters had written, to be taken over
	// uncertified holds a token when the death certificate may be out of date.
	uncertified chan struct{}
	herald      *hooks.Herald
	mustered    chan struct{} // holds a token when nodes may have come or gone
	lords       *chronicle
	ordering    chan struct{} // full while an order is given: one at a time
	ordered     chan struct{} // holds a token when the orders have changed
	conflict    time.Time     // when a namesake was last complained about; only gossip looks

	undo []undo
}

// An undo takes back one step of Start.
type undo struct {
	what string
	f    func() error
}

// New returns a node of that configuration. It acquires nothing.
func New(cfg *config.Config, opts Options) (*Daemon, error) {
	if _, err := entries(cfg); err != nil {
		return nil, err
	}
	d := &Daemon{
		opts: opts, clock: opts.Clock, cfg: cfg, name: cfg.Node.Name, lords: newChronicle(),
		uncertified: make(chan struct{}, 1), mustered: make(chan struct{}, 1), ordering: make(chan struct{}, 1), ordered: make(chan struct{}, 1), recount: make(chan struct{}, 1), left: make(chan struct{}), merges: make(chan legion.Merge, 1),
		suspended: map[string]*suspension{},
	}
	if d.clock == nil {
		d.clock = systemClock
	}
	return d, nil
}

// entries makes what the foreman schedules of the configured jobs.
func entries(cfg *config.Config) (map[string]*slots.Entry, error) {
	all := map[string]*slots.Entry{}
	for _, j := range cfg.Jobs {
		loc := cfg.Node.Location()
		if j.Timezone != "" {
			var err error
			if loc, err = cronspec.LoadLocation(j.Timezone); err != nil {
				return nil, fmt.Errorf("%s: job %s: %w", j.Source, j.Name, err)
			}
		}
		s, err := cronspec.ParseAll(j.Schedules, cronspec.Options{
			Job: j.Name, Seconds: j.Seconds, UWSGI: j.Dialect == jobs.UWSGI, Location: loc, DST: j.DST,
		})
		if err != nil {
			return nil, fmt.Errorf("%s: job %s: %w", j.Source, j.Name, err)
		}
		e := &slots.Entry{Job: j, Schedule: cronspec.Delay(s, cronspec.Jitter(j.Name, j.Jitter))}
		all[e.Key()] = e
	}
	return all, nil
}

// whyStopping is why a node stands back that is told to stop.
const whyStopping = "stopping"

// standBack makes the node unfit for every legion; without a reason it is as
// fit again as the rest allows. One that stops stays unfit: it would be a lord
// that begins nothing.
func (d *Daemon) standBack(reason string) {
	d.mu.Lock()
	if d.unfit != whyStopping {
		d.unfit = reason
	}
	d.mu.Unlock()
	d.reconfigure()
}

// reconfigure tells the core of this node's part in the legions. It is called
// whenever something has changed that [Daemon.legions] looks at.
func (d *Daemon) reconfigure() {
	d.telling.Lock() // whoever looks last must also be the last to tell
	defer d.telling.Unlock()
	d.protocol.post(legion.Configure{Legions: d.legions(), Checks: announcedChecks(d.watch.Reports())})
}

// legions is this node's part in each legion as things are now.
func (d *Daemon) legions() map[string]legion.Legion {
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg, now := d.cfg, d.clock().Wall
	all := map[string]legion.Legion{}
	for name, l := range cfg.Legions {
		unfit := d.unfit
		if s := d.suspended[name]; s != nil && unfit == "" {
			unfit = s.why
		}
		s := d.watch.Standing(name)
		part := legion.Legion{
			Valor: l.Valor, Weight: s.Weight, Quorum: l.Quorum, Spread: l.Spread, Unfit: cmp.Or(unfit, s.Veto),
			Scroll: []byte(l.Scroll), Jobs: jobSet(cfg, name),
			Unsafe: l.UnsafeQuorum, Preempt: l.Preempt, PreemptDelay: l.PreemptDelay, Stickiness: l.Stickiness,
		}
		d.orders.part(name, &part, now)
		all[name] = part
	}
	if cfg.Cluster != nil {
		all[legion.ClusterLegion] = legion.Legion{Valor: clusterValor, Unfit: d.unfit}
	}
	return all
}

// jobSet is a hash of the definitions of a legion's jobs, which nodes compare.
func jobSet(cfg *config.Config, legionName string) []byte {
	var defs []string
	for _, j := range cfg.Jobs {
		if j.Legion == legionName {
			defs = append(defs, j.Name+" "+j.Definition())
		}
	}
	slices.Sort(defs)
	sum := sha256.Sum256(fmt.Append(nil, defs))
	return sum[:8]
}

// Start starts the node. It returns when the control socket answers and the
// protocol runs, or with the one reason why not, having taken everything back.
func (d *Daemon) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			d.takeBack()
		}
	}()
	now := d.clock()
	d.started = now.Wall
	d.presence = newPresence(now.Boot)
	d.incarnation = uuid.NewString()
	d.systemd = newSupervisor() // before anything is started

	if d.logs, err = logging.Open(logging.Config{Level: d.cfg.Log.Level, Format: d.cfg.Log.Format, Node: d.name}); err != nil {
		return err
	}
	d.onUndo("close log", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), logStop)
		defer cancel()
		return d.logs.Close(ctx)
	})
	d.log = d.logs.Logger
	d.warn(d.cfg)

	if cl := d.cfg.Cluster; cl != nil && !tunedUntested() {
		if err := selfTest(ctx, cl.Beat, cl.Lease, os.DirFS("/"), sleep); err != nil {
			return atPlace(d.cfg.Place("cluster.profile"), err)
		}
	}
	dir := d.cfg.Node.StateDir
	if d.store, err = ledger.Open(ledger.Config{
		Dir: dir, Keep: kept(d.cfg.Node), Damaged: func(err error) { d.damage(dir, err) }, Forgot: d.forgot,
	}, now.Wall); err != nil {
		return fmt.Errorf("%s: open the state directory: %w", d.cfg.Place("node.state_dir"), err)
	}
	d.onUndo("close ledger", d.store.Close)
	if d.host, err = runner.New(runner.Config{Incarnation: d.incarnation}); err != nil {
		return err
	}
	d.onUndo("close runner", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), sweepTimeout)
		defer cancel()
		if err := d.host.Close(ctx); err != nil {
			return err
		}
		d.part()
		return nil
	})
	d.spawn("burying", d.host.ReapOrphans, nil)
	orphans, err := d.orphans(ctx)
	if err != nil {
		return err
	}

	d.startGuardian()

	d.disk = newDisk(d.store, d.log, func(trouble string) { d.protocol.diskTrouble(trouble) })
	if err := d.loadOrders(); err != nil {
		return err
	}
	st, err := loadState(d.store)
	if err != nil {
		return err
	}
	looks, err := d.watched(d.cfg)
	if err != nil {
		return err
	}
	d.watch = probe.NewWatch(d.name, d.checked)
	if err := d.watch.Configure(looks); err != nil {
		return err
	}
	lc, err := d.legionConfig()
	if err != nil {
		return err
	}
	d.protocol = newProtocol(lc, st, d.clock, d.store, d.disk, d.log)
	d.assemble()
	d.spawn("disk", d.disk.run, d.disk.done)
	if err := d.startGossip(lc); err != nil {
		return err
	}
	d.onUndo("close courier", func() error { d.courier.Close(); return nil })
	d.spawn("certificate", d.certify, nil)
	d.spawn("scribe", d.scribe.run, d.scribe.done)
	d.spawn("foreman", d.foreman.run, d.foreman.done)
	all, err := entries(d.cfg)
	if err != nil {
		return err
	}
	server, err := control.Start(control.Socket{
		Path: d.cfg.Control.Socket, Group: d.cfg.Control.Group, ErrorLog: zap.NewStdLog(d.log.Named("control")),
	}, d.api)
	if err != nil {
		return fmt.Errorf("%s: %w", d.cfg.Place("control.socket"), err)
	}
	d.onUndo("close control socket", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), controlStop)
		defer cancel()
		return server.Stop(ctx)
	})
	// Nothing can fail any more, so runs may start: what takes back a failed
	// start does not wait for any.
	d.measured(d.cfg, all)
	d.spawn("metrics", d.recallLasts, nil)
	d.spawn("doubles", d.doubles.run, nil)
	d.ordering <- struct{}{} // an order may come already
	d.foreman.post(slots.Drain{On: d.orders.Drained})
	<-d.ordering
	d.foreman.post(slots.Configure{Jobs: all})
	d.onUndo("end suspensions", d.endSuspensions)
	d.herald.Configure(hooksOf(d.cfg))
	d.onUndo("end hooks", func() error { d.herald.Close(); return nil })
	d.spawn("muster", d.muster, nil)
	d.spawn("protocol", d.protocol.run, d.protocol.done)
	d.spawn("checks", d.watch.Run, nil)
	d.scribe.publish(append(orphans, d.retell()...)...)
	d.spawn("retention", d.retain, nil)
	d.spawn("orders", d.watchOrders, nil)
	if d.gossip != nil {
		d.spawn("clocks", d.watchClocks, nil)
		d.spawn("history", d.filler.run, nil)
		d.spawn("refill", d.refills, nil)
		d.spawn("count", d.countOn, nil)
	}
	d.systemd.ready()
	d.log.Info("agent started", logging.Event("started"), zap.String("version", d.opts.Version),
		zap.Int("jobs", len(d.cfg.Jobs)), zap.Int("legions", len(d.cfg.Legions)), zap.String("socket", d.cfg.Control.Socket))
	return nil
}

// assemble makes the parts and tells them of each other.
func (d *Daemon) assemble() {
	d.metrics = metrics.New(d.opts.Version, d.measure)
	d.api = control.Handler(backend{d})
	d.courier = control.NewCourier(d.call, d.api)
	d.scribe = newScribe(d.disk, d.protocol, d.log)
	d.scribe.lone = func() bool { return d.gossip == nil }
	d.doubles = newDoubles(d.store, d.log, d.metrics, func(legion string) bool {
		l, own := d.config().Legions[legion]
		return l.UnsafeQuorum || !own // of another's, this voter cannot tell
	})
	d.count()
	f := newForeman(slots.Config{
		Node: d.name, Incarnation: d.incarnation, Earlier: d.earlier, LostAfter: d.cfg.Node.LostAfter,
		Ledger: reader{d.store}, Peers: peers{d.presence, d.protocol, d.clock},
	}, d.clock())
	d.foreman = f
	d.runs = &runs{
		host: d.host, logs: d.logs, log: d.log, clock: d.clock, disk: d.disk, scribe: d.scribe,
		dir: filepath.Join(d.cfg.Node.StateDir, "output"), trusted: d.protocol.trusted, guard: d.protocol.guard, lordship: lordship{d.protocol.left, d.tempo}, stopping: f.stopping,
		living: map[string]*runner.Process{}, files: map[string]*runner.OutputFile{}, callers: map[string]chan syscall.Signal{}, quit: make(chan struct{}), wanted: map[string]wish{}, waits: map[string]wait{},
	}
	if n := d.cfg.Node.MaxRuns; n > 0 {
		d.runs.limit = make(chan struct{}, n)
	}
	f.clock, f.log, f.store, f.disk, f.protocol, f.scribe, f.runs = d.clock, d.log, d.store, d.disk, d.protocol, d.scribe, d.runs
	d.protocol.guardian, d.protocol.elected, d.protocol.changed = d.guardian, d.recertify, d.remuster
	d.herald = d.newHerald()
	d.protocol.observe = func(recs []jobs.Record) {
		d.metrics.Heard(recs)
		d.doubles.look(recs)
		f.post(slots.Observed{Records: recs})
	}
	d.filler = &filler{
		store: d.store, log: d.log, clock: d.clock, voters: d.otherVoters, learnt: d.protocol.observe,
		keep: func() time.Duration { return d.config().Node.Keep },
	}
	d.protocol.systemd = d.systemd
	d.protocol.refill, d.protocol.disown = d.refill, d.disown
	d.protocol.reign = func(a legion.Reign) {
		d.lords.reigns(d.name, a.Legion, a.Term, "", d.clock().Wall)
		if a.Legion != legion.ClusterLegion { // which has no jobs and no hooks
			d.systemd.reigns(a.Legion, a.Term)
			d.reigns(a)
		}
	}
	d.protocol.unreign = func(a legion.Unreign) {
		d.lords.fell(d.name, a.Legion, a.Term, a.Reason, d.clock().Wall)
		d.log.Info("no longer lord: "+a.Reason, logging.Event("unlord"), logging.Legion(a.Legion), logging.Term(a.Term),
			logging.Boot(d.protocol.reignedUntil(a.Legion)))
		if a.Legion == legion.ClusterLegion {
			d.protocol.post(legion.LetGo{Legion: a.Legion, Term: a.Term})
			return
		}
		d.systemd.fell(a.Legion, a.Term)
		d.unreigns(a)
	}
}

// spawn runs f on a goroutine until its undo, which waits for it.
func (d *Daemon) spawn(what string, f func(context.Context), done chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	if done == nil {
		done = make(chan struct{})
		go func() { defer close(done); f(ctx) }()
	} else {
		go f(ctx)
	}
	d.onUndo("stop "+what, func() error { cancel(); <-done; return nil })
}

func (d *Daemon) onUndo(what string, f func() error) { d.undo = append(d.undo, undo{what, f}) }

// takeBack undoes what Start did, last first, and returns the first error.
func (d *Daemon) takeBack() error {
	var first error
	for len(d.undo) > 0 {
		u := d.undo[len(d.undo)-1]
		d.undo = d.undo[:len(d.undo)-1]
		if err := u.f(); err != nil && first == nil {
			first = fmt.Errorf("%s: %w", u.what, err)
		}
	}
	return first
}

func (d *Daemon) legionConfig() (legion.Config, error) {
	instance, err := uuid.Parse(d.store.Instance())
	if err != nil {
		return legion.Config{}, fmt.Errorf("read instance: %w", err)
	}
	c := legion.Config{
		Name: d.name, Instance: instance, Incarnation: uuid.MustParse(d.incarnation), Software: d.opts.Version,
		Vote: true, Size: 1, Beat: lanBeat, Lease: lanLease, Legions: d.legions(), Checks: announcedChecks(d.watch.Reports()),
	}
	if cl := d.cfg.Cluster; cl != nil {
		c.Vote, c.Size, c.Beat, c.Lease, c.ForgetAfter = cl.Vote, cl.Size, cl.Beat, cl.Lease, cl.ForgetAfter
		c.Starts = d.store.Starts()
	}
	return c, nil
}

// startGossip joins the cluster, if there is one.
func (d *Daemon) startGossip(lc legion.Config) error {
	cl := d.cfg.Cluster
	if cl == nil {
		return nil
	}
	g, err := gossip.Start(gossip.Config{
		Name: d.name, Instance: lc.Instance.String(), Incarnation: d.incarnation,
		Bind: cl.Bind, Advertise: cl.Advertise, Join: cl.Join, Keys: cl.Keys, Insecure: cl.Insecure,
		WAN: cl.Profile == "wan", ProbeInterval: tunedProbe(), Log: d.log.Named("gossip"),
		Deliver: d.protocol.deliver,
		Notice:  d.protocol.notice,
		Serve:   d.serve,
		State:   d.protocol.announcement,
		Merge:   d.merge,
		Member:  d.member,
		Conflict: func(addr string) {
			if addr == "" {
				d.log.Info("no other node has this name any more", zap.String("name", d.name))
				d.standBack("")
				return
			}
			if now := time.Now(); now.Sub(d.conflict) > conflictAgain {
				d.conflict = now
				d.log.Error("another node has this name; this one stands back", zap.String("name", d.name), zap.String("addr", addr))
			}
			d.standBack("its name is taken by " + addr)
		},
	})
	if err != nil {
		if errors.Is(err, gossip.ErrNameTaken) {
			return fmt.Errorf("%s: join the cluster as %q: %w", d.cfg.Place("node.name"), d.name, err)
		}
		return fmt.Errorf("%s: join the cluster: %w", d.cfg.Place("cluster.bind"), err)
	}
	d.gossip, d.filler.call = g, g.Call
	d.onUndo("stop gossip", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), gossipStop)
		defer cancel()
		if err := g.Stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil
	})
	d.protocol.net = g
	d.foreman.inquire, d.foreman.recollect = d.inquire, d.recollect
	return nil
}

// merge takes another node's announcement.
func (d *Daemon) merge(b []byte) {
	now := d.clock().Wall
	s, ok := d.protocol.announced(b)
	if !ok {
		return
	}
	for _, c := range s.Legions {
		d.lords.fits(s.Name, c.Legion, unfitBy(&s, c), now)
	}
	for _, e := range s.Ended {
		d.lords.ended(s.Name, e.Legion, e.Term, e.Why, now)
	}
	for _, r := range s.Reigns {
		d.lords.reigns(s.Name, r.Legion, r.Term, "", now)
	}
}

func (d *Daemon) member(ev gossip.Event) {
	d.presence.note(ev, d.clock().Boot)
	d.recertify()
	id, err := uuid.Parse(ev.Incarnation)
	if err != nil {
		return // not one of ours
	}
	up := ev.Kind != gossip.Down
	if ev.Kind != gossip.Update {
		event, text := "node-left", "node is gone"
		if up {
			event, text = "node-joined", "node is here"
		}
		d.log.Info(text, logging.Event(event), zap.String("member", ev.Name), zap.String("addr", ev.Addr))
	}
	d.protocol.post(legion.Membership{Name: ev.Name, Incarnation: id, Alive: up})
}

// Values of the ledger: the incarnations of this instance, newest first, whose
// names what they left carries; and those that left nothing.
const (
	incarnationsKey  = "incarnations"
	partedKey        = "parted"
	keptIncarnations = 16
)

// orphans kills what earlier incarnations of this node left running, and
// returns their runs with the outcome that this makes of them.
func (d *Daemon) orphans(ctx context.Context) ([]jobs.Record, error) {
	st, err := d.store.Load()
	if err != nil {
		return nil, err
	}
	before, parted := splitNames(st.Values[incarnationsKey]), splitNames(st.Values[partedKey])
	d.earlier = before
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	if len(before) > 0 {
		left, err := d.host.Sweep(ctx, func(t runner.Tag) bool {
			return slices.Contains(before, t.Incarnation) && !slices.Contains(parted, t.Incarnation)
		})
		if err != nil {
			return nil, err
		}
		for _, t := range left {
			d.log.Warn("killed what an earlier agent left running", logging.Run(t.Run))
		}
	}
	before = append([]string{d.incarnation}, before...)
	before = before[:min(len(before), keptIncarnations)]
	var ended []jobs.Record
	for _, owner := range append(d.store.Legions(), "") { // configured any more or not
		for _, rec := range d.store.Unsettled(owner).Records {
			if rec.Node != d.name || rec.Incarnation == d.incarnation || rec.State == jobs.Queued {
				continue
			}
			rec.Ended = d.clock().Wall.UTC()
			switch {
			case rec.State > jobs.Claimed:
				rec.State, rec.Reason = jobs.Lost, "the agent ended while it ran"
			case slices.Contains(d.earlier, rec.Incarnation): // and it wrote down here whatever it started
				rec.State, rec.Reason = jobs.NeverStarted, "the agent ended before it was started"
			default:
				rec.State, rec.Reason = jobs.Lost, "the agent ended, and what it had written is lost"
			}
			d.log.Warn("run "+rec.State.String(), logging.Event("run-ended"), logging.Legion(rec.Slot.Legion), logging.Job(rec.Job),
				logging.Slot(rec.Slot.String()), logging.Run(rec.Run), logging.Attempt(rec.Attempt), logging.Outcome(rec.State.String()))
			ended = append(ended, rec)
		}
	}
	if err := d.store.Write(ledger.Writes{Values: map[string][]byte{incarnationsKey: joinNames(before)}, Records: ended}); err != nil {
		return nil, err
	}
	return ended, nil
}

// part writes down that this incarnation left no run behind, so that the next one
// does not look for any: what it would find without cgroups are processes that
// runs had left in peace.
func (d *Daemon) part() {
	st, err := d.store.Load()
	if err == nil {
		parted := append([]string{d.incarnation}, splitNames(st.Values[partedKey])...)
		parted = parted[:min(len(parted), keptIncarnations)]
		err = d.store.Write(ledger.Writes{Values: map[string][]byte{partedKey: joinNames(parted)}})
	}
	if err != nil {
		d.log.Warn("the next start kills whatever runs have left running", zap.Error(err))
	}
}

func (d *Daemon) config() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

// warn says what is accepted of a configuration, but may not be what was meant.
func (d *Daemon) warn(cfg *config.Config) {
	for _, w := range cfg.Warnings {
		d.log.Warn(w.String())
	}
}

// Reloading tells whoever supervises the agent that it reloads, before the new
// configuration is read; what it returns is to be called at the end, with what
// is wrong, a line for each. Until then it keeps others from reloading: what was
// read last is in force.
func (d *Daemon) Reloading() (over func(error)) {
	d.reloads.Lock()
	d.systemd.reloading()
	return func(err error) {
		defer d.reloads.Unlock()
		defer d.systemd.ready()
		if err == nil {
			return
		}
		for line := range strings.Lines(err.Error()) {
			d.log.Warn("reload: "+strings.TrimSuffix(line, "\n"), logging.Event("reload"))
		}
		d.log.Warn("reload refused: nothing was changed", logging.Event("reload"))
	}
}

// Reload replaces the configuration: all of it, or with an error nothing.
func (d *Daemon) Reload(_ context.Context, cfg *config.Config) error {
	_, err := d.apply(cfg)
	return err
}

// apply is Reload, and returns what changed in lines for people.
func (d *Daemon) apply(cfg *config.Config) ([]string, error) {
	all, err := entries(cfg)
	if err != nil {
		return nil, err
	}
	looks, err := d.watched(cfg)
	if err != nil {
		return nil, err
	}
	before := d.config()
	if err := d.reloadKeys(cfg); err != nil {
		return nil, err
	}
	if err := d.watch.Configure(looks); err != nil {
		return nil, err
	}
	if err := d.logs.SetLevel(cfg.Log.Level); err != nil {
		return nil, err
	}
	d.warn(cfg)
	d.mu.Lock()
	d.cfg = cfg
	d.mu.Unlock()
	d.foreman.post(slots.Configure{Jobs: all})
	d.measured(cfg, all)
	d.herald.Configure(hooksOf(cfg))
	d.standBack("")
	changes := append(config.Diff(before, cfg), d.reloadElectorate(cfg)...)
	for _, c := range changes {
		d.log.Info("reloaded: "+c, logging.Event("reload"))
	}
	return changes, nil
}

// Stop gives up all lordships, waits for runs as long as stop_timeout says (or
// until Kill), and ends the node. It does not return before everything that
// Start began is over.
func (d *Daemon) Stop(ctx context.Context) error {
	cfg := d.config()
	d.log.Info("stopping", logging.Event("stopping"))
	d.systemd.stopping()
	d.standBack(whyStopping)
	d.foreman.close()
	if !d.waitRuns(time.After(cfg.Node.StopTimeout)) {
		d.log.Warn("stop_timeout has passed: stopping what still runs", zap.Duration("stop_timeout", cfg.Node.StopTimeout))
		d.runs.stopAll("stop_timeout of the agent")
		d.waitRuns(nil)
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	d.scribe.settled(ctx)
	cancel()
	d.protocol.post(legion.Stop{})
	for said := false; !said; {
		select {
		case <-d.protocol.stopped:
			said = true
		case <-time.After(farewellLimit):
			said = !d.herald.Busy() // a release waits for the unlord hooks
		}
	}
	d.herald.Close()
	return d.takeBack()
}

// waitRuns returns true when nothing runs any more, false when it is late; never for nil.
func (d *Daemon) waitRuns(late <-chan time.Time) bool {
	select {
	case <-d.foreman.idle:
		return true
	case <-late:
		return false
	}
}

// Kill ends every run at once; Stop then has nothing to wait for.
func (d *Daemon) Kill() { d.runs.killAll("the agent was told to stop at once") }

// Addr is where the node listens for its cluster; empty without one.
func (d *Daemon) Addr() string {
	if d.gossip == nil {
		return ""
	}
	return d.gossip.Addr()
}

// kept is how long finished runs stay in the ledger.
func kept(n config.Node) time.Duration { return max(n.Keep, keepLeast) }

// countOn has the others remember that this state directory has got on, so that
// a copy of it as it was before is known to be one.
func (d *Daemon) countOn(ctx context.Context) {
	t := time.NewTicker(countEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := d.store.CountOn(); err != nil {
			d.log.Warn("count on", zap.Error(err))
			continue
		}
		d.protocol.post(legion.Counted{Starts: d.store.Starts()})
	}
}

// retain forgets old runs now and then. It cannot be undone, so it waits until the
// clock may have been set after a start, and believes the earliest of all clocks.
func (d *Daemon) retain(ctx context.Context) {
	t := time.NewTimer(retainAfter)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := d.store.Retain(d.presence.earliest(d.clock().Wall)); err != nil {
			d.log.Warn("forget old runs", zap.Error(err))
		}
		t.Reset(retainEvery)
	}
}
