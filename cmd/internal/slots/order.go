package slots

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// Orders are what people ask for: a run now, a pause, the slot of a command
// that runs outside of the agent. They take the way of every slot: what is
// decided is committed by the lord, in its term, before anything is started.

// Why an order is refused, to be told apart with errors.Is.
var (
	// ErrNotLord: another node has to be asked, or this one later.
	ErrNotLord = errors.New("not the lord")
	// ErrTaken: the slot has been decided about, or a later one of its job.
	ErrTaken = errors.New("the slot is taken")
	// ErrNoJob: there is no such job in this node's configuration.
	ErrNoJob = errors.New("no such job")
	// ErrBusy: the job's policies do not let it run now.
	ErrBusy = errors.New("not now")
	// ErrUnclear: the slot is claimed, and may come to be never started.
	ErrUnclear = errors.New("it is being claimed")
)

// execTiming is the timing of the mark of a job that is not in the
// configuration: an instant when it was last claimed, by hand as it were.
const execTiming = "exec"

// maxCommands is how many commands of a legion may have slots. Each has a mark
// that is never forgotten, and that every voter tells a new lord: a name made
// of a date or a file would have the legion without one in the end.
const maxCommands = 10_000

type (
	// Trigger asks for a run of a job now. The answer is [Reply].
	Trigger struct {
		ID          uint64
		Legion, Job string
	}
	// Rerun asks for the next attempt of the slot of a run that is over. The
	// answer is [Reply].
	Rerun struct {
		ID  uint64
		Run jobs.Record
	}
	// Exec asks for the claim of a slot whose command the caller runs itself,
	// of a job that is not in the configuration. At zero is a slot of its own,
	// now. The answer is [Reply]; there is no [Start]. When the command is over
	// the caller says so with Ended.
	Exec struct {
		ID          uint64
		Legion, Job string
		At          time.Time
		Definition  string
	}
	// SetPause asks for a pause to be committed. At and Term are the Core's to
	// fill in. The answer is [Reply].
	SetPause struct {
		ID    uint64
		Pause jobs.Pause
	}
	// Reply answers an order, with the claim or the queued record if it asked
	// for a run. Nil: it is committed.
	Reply struct {
		ID     uint64
		Record jobs.Record
		Err    error
	}
)

func (Trigger) event()  {}
func (Rerun) event()    {}
func (Exec) event()     {}
func (SetPause) event() {}
func (Reply) action()   {}

// order returns the reign that an order is for, nil if it is refused.
func (c *Core) order(id uint64, legion string) *reign {
	r := c.reigns[legion]
	if r == nil || !r.open || c.closing {
		c.do(Reply{ID: id, Err: ErrNotLord})
		return nil
	}
	return r
}

// answer has an order answered when its write has been: with yes once it is
// committed, or with no when the reign ends before.
func (c *Core) answer(r *reign, id uint64, rec jobs.Record) (committed func()) {
	if r.orders == nil {
		r.orders = map[uint64]bool{}
	}
	r.orders[id] = true
	return func() {
		delete(r.orders, id)
		c.do(Reply{ID: id, Record: rec})
	}
}

// refuseOrders answers what will not be committed any more, as far as is known.
func (c *Core) refuseOrders(r *reign) {
	for _, id := range sorted(r.orders) {
		c.do(Reply{ID: id, Err: ErrNotLord})
	}
	clear(r.orders)
}

func (c *Core) trigger(ev Trigger) {
	r := c.order(ev.ID, ev.Legion)
	if r == nil {
		return
	}
	e := c.jobs[Key(ev.Legion, ev.Job)]
	if e == nil {
		c.do(Reply{ID: ev.ID, Err: ErrNoJob})
		return
	}
	rec := c.record(r, e, c.wall())
	rec.Slot.At, rec.Slot.Manual, rec.Manual = time.Time{}, c.newRun(), true
	c.runByHand(r, e, ev.ID, rec, nil)
}

// runByHand claims or queues an attempt as its job's policies say; before it,
// in the same write, stands what came before it in its slot.
func (c *Core) runByHand(r *reign, e *Entry, id uint64, rec jobs.Record, before []jobs.Record) {
	b := &decision{}
	b.Records = append(b.Records, before...)
	if why := c.place(r, e, rec, b); why != "" {
		c.do(Reply{ID: id, Err: busy(why)})
		return
	}
	c.sortQueue(e.Key())
	b.then = c.answer(r, id, b.Records[len(b.Records)-1])
	c.commit(r, b)
}

// busy is an ErrBusy that says why.
func busy(why string) error { return &busyError{why} }

type busyError struct{ why string }

func (e *busyError) Error() string        { return e.why }
func (e *busyError) Is(target error) bool { return target == ErrBusy }

// rerun claims the next attempt of a slot. The voters are asked first what they
// know of the slot: attempts that were settled long ago are not told to a new
// lord, and no attempt may be started twice.
func (c *Core) rerun(ev Rerun) {
	ev.Run = ev.Run.Normal()
	r := c.order(ev.ID, ev.Run.Slot.Legion)
	if r == nil {
		return
	}
	if c.jobs[Key(ev.Run.Slot.Legion, ev.Run.Job)] == nil {
		c.do(Reply{ID: ev.ID, Err: ErrNoJob})
		return
	}
	c.lookUp(r, ev.ID, ev.Run, []jobs.Record{ev.Run}, func(last jobs.Record) { c.rerunAfter(r, ev, last) })
}

// lookUp finds the last attempt of the slot of a record, for an order: of what
// is known already, what this node has written, and what the voters have.
func (c *Core) lookUp(r *reign, id uint64, about jobs.Record, known []jobs.Record, then func(last jobs.Record)) {
	if len(r.voters) == 0 {
		c.lookedUp(id, about.Slot, known, then)
		return
	}
	questions := map[string][]jobs.Record{}
	for _, v := range r.voters {
		questions[v] = []jobs.Record{about}
	}
	c.lastID++
	c.recalls[c.lastID] = func(said []jobs.Record, err error) {
		switch {
		case c.reigns[r.legion] != r || c.closing:
			c.do(Reply{ID: id, Err: ErrNotLord})
		case err != nil:
			c.do(Reply{ID: id, Err: err})
		default:
			c.lookedUp(id, about.Slot, append(said, known...), then)
		}
	}
	c.do(AskVoters{ID: c.lastID, Legion: r.legion, Term: r.term, Questions: questions})
}

func (c *Core) lookedUp(id uint64, slot jobs.Slot, known []jobs.Record, then func(last jobs.Record)) {
	own, err := c.cfg.Ledger.Slots(slot)
	if err != nil {
		c.do(Reply{ID: id, Err: err})
		return
	}
	one := map[jobs.Key]jobs.Record{}
	for b := range c.reigns[slot.Legion].asked { // and is being written
		known = append(known, b.Records...)
	}
	for _, rec := range append(own, known...) {
		if !rec.Concerns(slot) {
			continue
		}
		if old, ok := one[rec.Key()]; ok {
			rec = jobs.Merge(old, rec)
		}
		one[rec.Key()] = rec
	}
	all := slices.SortedFunc(maps.Values(one), func(a, b jobs.Record) int { return a.Key().Compare(b.Key()) })
	var last jobs.Record
	for _, rec := range jobs.Standing(all) {
		switch {
		case rec.Attempt == 0 && rec.Concerns(slot):
			c.do(Reply{ID: id, Err: busy("the slot was " + rec.State.String())}) // its attempts are void
			return
		case rec.Slot == slot && (rec.Attempt > last.Attempt || rec.Attempt == last.Attempt && rec.State.Rank() > last.State.Rank()):
			last = rec
		}
	}
	then(last)
}

// rerunAfter goes on when it is known what there is of a slot.
func (c *Core) rerunAfter(r *reign, ev Rerun, last jobs.Record) {
	e := c.jobs[Key(ev.Run.Slot.Legion, ev.Run.Job)]
	if e == nil {
		c.do(Reply{ID: ev.ID, Err: ErrNoJob})
		return
	}
	underWay := slices.ContainsFunc(c.queued[e.Key()], func(rec jobs.Record) bool { return rec.Slot == last.Slot })
	for _, rec := range c.living[e.Key()] {
		underWay = underWay || rec.Slot == last.Slot
	}
	switch {
	case underWay || !last.State.Settled():
		c.do(Reply{ID: ev.ID, Err: busy("the slot is under way")})
		return
	case c.undecided(r, last): // of a lord whose clock was ahead, say: the mark would keep others away until then
		c.do(Reply{ID: ev.ID, Err: busy("the slot is yet to be decided about")})
		return
	}
	again := c.nextAttempt(r, e, last)
	again.Manual = true
	c.runByHand(r, e, ev.ID, again, []jobs.Record{last})
}

// exec claims a slot for a command that is run elsewhere than in the agent.
// With the claim goes a mark, which every later lord is told: so a slot is
// claimed once, and none behind it. Only a claim that never started, because
// its lordship ended in between, is followed by another.
func (c *Core) exec(ev Exec) {
	r := c.order(ev.ID, ev.Legion)
	if r == nil {
		return
	}
	if c.jobs[Key(ev.Legion, ev.Job)] != nil {
		c.do(Reply{ID: ev.ID, Err: busy("it is a job of the configuration")})
		return
	}
	if c.room(r, &decision{}) <= 0 {
		c.do(Reply{ID: ev.ID, Err: busy("queue full")})
		return
	}
	if _, known := r.execs[ev.Job]; !known && !ev.At.IsZero() && len(r.execs) >= maxCommands {
		c.do(Reply{ID: ev.ID, Err: busy("too many commands have had slots: one whose arguments change needs one name")})
		return
	}
	if ev.At.After(c.now.Wall.Add(legion.MaxAhead)) { // its mark would keep others away until then
		c.do(Reply{ID: ev.ID, Err: busy("the slot is in the future")})
		return
	}
	rec := jobs.Record{
		Slot: jobs.Slot{Legion: ev.Legion, Job: ev.Job, At: ev.At}, Attempt: 1, Run: c.newRun(), State: jobs.Claimed,
		Term: r.term, Node: c.cfg.Node, Incarnation: c.cfg.Incarnation, Definition: ev.Definition, Scheduled: ev.At,
	}
	if ev.Legion == "" {
		rec.Slot.Node = c.cfg.Node
	}
	if ev.At.IsZero() {
		rec.Slot.Manual, rec.Manual, rec.Scheduled = c.newRun(), true, c.wall()
		c.claimExec(r, ev, rec, jobs.Batch{})
		return
	}
	rec = rec.Normal()
	switch m := r.execs[ev.Job]; {
	case ev.At.After(m.asked):
		c.claimExec(r, ev, rec, jobs.Batch{})
	case ev.At.Before(m.asked):
		c.do(Reply{ID: ev.ID, Err: ErrTaken})
	case m.asked.After(m.taken) || c.unclear(r, rec.Slot):
		c.do(Reply{ID: ev.ID, Err: ErrUnclear})
	default:
		c.lookUp(r, ev.ID, rec, nil, func(last jobs.Record) { c.execAfter(r, ev, rec, last) })
	}
}

// execAfter goes on when it is known what there is of a slot that is claimed.
func (c *Core) execAfter(r *reign, ev Exec, rec, last jobs.Record) {
	switch {
	case c.unclear(r, rec.Slot):
		c.do(Reply{ID: ev.ID, Err: ErrUnclear})
	case last.State != jobs.NeverStarted || ev.At.Before(r.execs[ev.Job].asked):
		c.do(Reply{ID: ev.ID, Err: ErrTaken})
	default:
		rec.Attempt = last.Attempt + 1
		c.claimExec(r, ev, rec, jobs.Batch{Records: []jobs.Record{last}})
	}
}

// unclear reports whether a slot of a command has a claim that this lord does
// not know to stand: it has yet to be answered, or is an earlier lord's.
func (c *Core) unclear(r *reign, slot jobs.Slot) bool {
	for _, rec := range r.claims {
		if rec.Slot == slot {
			return true
		}
	}
	for _, rec := range c.living[Key(slot.Legion, slot.Job)] {
		if rec.Slot == slot && rec.State == jobs.Claimed && rec.Incarnation != c.cfg.Incarnation {
			return true
		}
	}
	return false
}

// claimExec claims an attempt of a command's slot; before it, in the same
// write, stands what came before it. What no ledger would take is refused here:
// the reign would ask for it for ever, and for nothing that comes after it.
func (c *Core) claimExec(r *reign, ev Exec, rec jobs.Record, b jobs.Batch) {
	rec = rec.Normal()
	if err := rec.Validate(); err != nil {
		c.do(Reply{ID: ev.ID, Err: busy(err.Error())})
		return
	}
	if !ev.At.IsZero() {
		if r.execs == nil {
			r.execs = map[string]execMark{}
		}
		m := r.execs[ev.Job]
		m.asked = ev.At
		r.execs[ev.Job] = m
		b.Marks = append(b.Marks, jobs.Mark{Legion: ev.Legion, Node: rec.Slot.Node, Job: ev.Job, Timing: execTiming, At: ev.At, Term: r.term})
	}
	b.Records = append(b.Records, rec)
	r.claims[rec.Run] = rec
	c.insist(r, b, c.answer(r, ev.ID, rec), func() {
		delete(r.claims, rec.Run)
		c.mine[rec.Run] = true
		c.live(rec)
		if m := r.execs[ev.Job]; ev.At.After(m.taken) {
			m.taken = ev.At
			r.execs[ev.Job] = m
		}
	})
}

// An execMark is up to which slot those of a command have been asked for, and
// committed.
type execMark struct{ asked, taken time.Time }

// insist writes until it is committed or the reign ends.
func (c *Core) insist(r *reign, b jobs.Batch, answer, then func()) {
	c.write(r, b, func() {
		if c.closing {
			return // it was answered with no, and its claim is closed
		}
		then()
		answer()
	})
}

// Taken reports whether a slot of a command is claimed for good, or one after
// it: not if it never started and is to be claimed again. It fails with
// ErrNotLord.
func (c *Core) Taken(legion, job string, at time.Time) (bool, error) {
	r := c.reigns[legion]
	if r == nil || !r.open {
		return false, ErrNotLord
	}
	if m := r.execs[job]; !at.Equal(m.taken) {
		return at.Before(m.taken), nil
	}
	slot := jobs.Slot{Legion: legion, Job: job, At: at}.Normal()
	if legion == "" {
		slot.Node = c.cfg.Node
	}
	known, err := c.cfg.Ledger.Slots(slot)
	if err != nil {
		return false, err
	}
	stillborn := len(known) > 0 && !slices.ContainsFunc(known, func(rec jobs.Record) bool { return rec.State != jobs.NeverStarted })
	return !stillborn && !c.unclear(r, slot), nil
}

// setPause commits a pause, or the end of one. What waits is skipped: it is
// not meant to run when nobody expects it any more.
func (c *Core) setPause(ev SetPause) {
	p := ev.Pause
	r := c.order(ev.ID, p.Legion)
	if r == nil {
		return
	}
	p.Term, p.At = r.term, c.wall()
	if p.Legion == "" {
		p.Node = c.cfg.Node
	}
	if old := r.pauses[p.Job]; !p.At.After(old.At) {
		p.At = old.At.Add(time.Millisecond) // the clock of the lord before was ahead
	}
	b := jobs.Batch{Marks: []jobs.Mark{p.Mark()}}
	c.insist(r, b, c.answer(r, ev.ID, jobs.Record{}), func() {
		if r.pauses == nil {
			r.pauses = map[string]jobs.Pause{}
		}
		r.pauses[p.Job] = p
		c.skipHeldBack(r)
	})
}

// pauseOf is the pause that holds back the slots of a job, if one does.
func (c *Core) pauseOf(r *reign, e *Entry) jobs.Pause {
	for _, job := range []string{e.Name, ""} {
		if p := r.pauses[job]; p.Holds(c.now.Wall) {
			return p
		}
	}
	return jobs.Pause{}
}

// heldBack says why the slots of a job are skipped for now; "": they are not.
func (c *Core) heldBack(r *reign, e *Entry) (why string) {
	switch {
	case c.pauseOf(r, e).On:
		return "paused"
	case c.drained && r.legion == "":
		return "drained"
	case !e.Enabled:
		return "disabled"
	}
	return ""
}

// drain takes note that the node stands back, or no longer does. Its lordships
// are the protocol's to move; what is left here are its own jobs.
func (c *Core) drain(drained bool) {
	c.drained = drained
	if own := c.reigns[""]; own.open && !c.closing {
		c.skipHeldBack(own)
	}
}

// skipHeldBack skips what waits of jobs that are paused, drained or disabled,
// but for what was asked for by hand.
func (c *Core) skipHeldBack(r *reign) {
	b := &decision{}
	for _, key := range sorted(c.queued) {
		e := c.jobs[key]
		if e == nil || e.Legion != r.legion {
			continue
		}
		why := c.heldBack(r, e)
		if why == "" {
			continue
		}
		var stay []jobs.Record
		for _, rec := range c.queued[key] {
			if rec.Manual {
				stay = append(stay, rec)
			} else {
				b.add(c.skipped(r, rec, why))
			}
		}
		if c.queued[key] = stay; len(stay) == 0 {
			delete(c.queued, key)
		}
	}
	c.commit(r, b)
}

// recollectOrders takes over what the marks say of pauses and commands.
func (r *reign) recollectOrders(marks []jobs.Mark) {
	r.pauses, r.execs = map[string]jobs.Pause{}, map[string]execMark{}
	for _, m := range marks {
		if p, ok := jobs.PauseOf(m); ok {
			r.pauses[p.Job] = p
		} else if m.Timing == execTiming {
			r.execs[m.Job] = execMark{m.At, m.At}
		}
	}
}
