package sim

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

// lostAfter is how long a node is silent until its runs are given up.
const lostAfter = 5 * time.Second

// A run is a claim that is being carried out.
type run struct {
	jobs.Record
	job     jobs.Job
	started bool
	end     string // why it is to end; empty: by itself
	forGood bool   // and its slot with it
}

// makeJobs returns the jobs of some legions, and what may become of them.
func (w *World) makeJobs(legions []string) {
	r := w.rng
	for _, l := range legions {
		for i := range 1 + r.IntN(3) {
			j := jobs.Job{
				Name: "j" + strconv.Itoa(i), Legion: l, Enabled: true, Schedules: []string{w.schedule()}, Seconds: true,
				Overlap:     []jobs.Overlap{jobs.OverlapSkip, jobs.OverlapQueue, jobs.OverlapQueueAll, jobs.OverlapReplace, jobs.OverlapAllow}[r.IntN(5)],
				CatchUp:     []time.Duration{jobs.CatchUpDefault, jobs.CatchUpDefault, 0, 10 * time.Second, time.Hour}[r.IntN(5)],
				CatchUpRuns: []jobs.CatchUpRuns{jobs.CatchUpLast, jobs.CatchUpAll}[r.IntN(2)],
				OnLost:      []jobs.OnLost{jobs.OnLostSkip, jobs.OnLostRerun}[r.IntN(2)],
				OnUnlord:    []jobs.OnUnlord{jobs.OnUnlordFinish, jobs.OnUnlordKill}[r.IntN(2)],
				Retries:     r.IntN(3), RetryDelay: 300 * time.Millisecond, Backoff: 2,
			}
			if r.IntN(4) == 0 {
				j.Mutex = "m"
			}
			w.jobs = append(w.jobs, j)
		}
	}
}

// schedule returns one that is due every second or every few.
func (w *World) schedule() string {
	return []string{"@every 1s", "@every 2s", "@every 5s", "* * * * * *", "*/3 * * * * *"}[w.rng.IntN(5)]
}

// entries are the jobs in one version of the configuration.
func (w *World) entries(of []jobs.Job) map[string]*slots.Entry {
	all := map[string]*slots.Entry{}
	for _, j := range of {
		s, err := cronspec.ParseAll(j.Schedules, cronspec.Options{Job: j.Name, Seconds: j.Seconds, Location: time.UTC, DST: "cron"})
		if err != nil {
			panic(err) // the texts are above
		}
		e := &slots.Entry{Job: j, Schedule: s}
		all[e.Key()] = e
	}
	w.check.slots.learn(all)
	return all
}

// reconfigure gives a node other jobs than the rest: one is gone, or is due at
// other times, or disabled.
func (n *node) reconfigure() {
	if !n.awake() || len(n.w.jobs) == 0 {
		return
	}
	other := slices.Clone(n.w.jobs)
	i := n.w.rng.IntN(len(other))
	switch n.w.rng.IntN(3) {
	case 0:
		other = slices.Delete(other, i, i+1)
	case 1:
		other[i].Schedules = []string{n.w.schedule()}
	default:
		other[i].Enabled = false
	}
	n.jobs = other
	n.w.line("%s has other jobs", n.conf.Name)
	n.decide(slots.Configure{Jobs: n.w.entries(other)})
}

// configured gives it the jobs of all others again.
func (n *node) configured() {
	if n.up {
		n.jobs = n.w.jobs
		n.event(func() { n.decide(slots.Configure{Jobs: n.w.entries(n.w.jobs)}) })
	}
}

// startSlots is the part of a start that concerns slots: what an earlier
// process left is closed.
func (n *node) startSlots() {
	w := n.w
	n.ordered, n.orders = map[uint64]bool{}, 0
	n.runs, n.inbox, n.outbox, n.sending, n.deciding = map[string]*run{}, nil, nil, false, false
	var left []jobs.Record
	for _, l := range n.disk.store.legions() {
		for _, r := range n.disk.store.Unsettled(l).Records {
			switch {
			case r.Node != n.conf.Name || r.State == jobs.Queued:
				continue
			case r.State > jobs.Claimed:
				r.State, r.Reason = jobs.Lost, "the agent ended while it ran"
			case slices.Contains(n.disk.lives, r.Incarnation):
				r.State, r.Reason = jobs.NeverStarted, "the agent ended before it was started"
			default:
				r.State, r.Reason = jobs.Lost, "the agent ended, and what it had written is lost"
			}
			r.Ended = n.wall()
			left = append(left, r)
		}
	}
	n.disk.store.merge(jobs.Batch{Records: left})
	for _, key := range n.disk.store.sorted(n.disk.store.owed) {
		left = append(left, n.disk.store.records[key])
	}
	n.jobs = w.jobs
	n.slots = slots.New(slots.Config{
		Node: n.conf.Name, Incarnation: n.incarnation.String(), Earlier: slices.Clone(n.disk.lives),
		LostAfter: lostAfter, Ledger: n.disk.store, Peers: n,
	}, n.clock.read(w.now), rand.New(rand.NewPCG(w.rng.Uint64(), 2)))
	n.disk.lives = append(n.disk.lives, n.incarnation.String())
	n.decide(slots.Configure{Jobs: w.entries(n.jobs)})
	n.publish(left)
	if w.people {
		n.every(w.between(0, ordersEvery), ordersEvery, n.order)
	}
}

func (n *node) wall() time.Time { return n.clock.read(n.w.now).Wall }

// Away implements slots.Peers.
func (n *node) Away(name, incarnation string, long time.Duration) bool {
	v := n.view[name]
	switch {
	case v == nil:
		return true
	case v.alive && v.incarnation.String() == incarnation:
		return false
	}
	return n.w.now-v.since > long
}

// Dead implements slots.Peers.
func (n *node) Dead(incarnation string) bool {
	for _, m := range n.w.nodes {
		if m.incarnation.String() == incarnation {
			return n.core.Dead(m.incarnation)
		}
	}
	return false
}

// decide hands an event to what decides about slots, in order and a little later.
func (n *node) decide(ev slots.Event) {
	n.inbox = append(n.inbox, ev)
	if n.deciding {
		return
	}
	n.deciding = true
	n.in(n.w.between(0, 500*time.Microsecond), func() {
		evs := n.inbox
		n.inbox, n.deciding = nil, false
		for _, ev := range evs {
			n.slotStep(ev)
		}
	})
}

func (n *node) slotStep(ev slots.Event) {
	w := n.w
	if !n.up || w.failed != nil {
		return
	}
	w.trace.steps++
	if w.trace.lines != nil {
		w.line("%s < %s", n.conf.Name, describe(ev))
	}
	life := n.life
	actions := n.slots.Step(n.clock.read(w.now), ev)
	w.mark(uint64(n.index), uint64(len(actions)))
	for _, a := range actions {
		if w.trace.lines != nil {
			w.line("%s   > %s", n.conf.Name, describe(a))
		}
		if n.act(a); n.life != life {
			return
		}
	}
	n.write()
	n.slotTimer++
	timer := n.slotTimer
	n.in(n.clock.after(n.slots.Wake(n.clock.read(w.now)))+w.between(0, time.Millisecond), func() {
		if n.slotTimer == timer {
			n.slotStep(slots.Tick{})
		}
	})
}

// act carries out one action.
func (n *node) act(a slots.Action) {
	switch a := a.(type) {
	case slots.Commit:
		n.commit(a)
	case slots.Write:
		n.keep(a.Batch, func() { n.decide(slots.Done{ID: a.ID}) })
	case slots.Publish:
		n.say(a.Records)
	case slots.Start:
		n.execute(a)
	case slots.Stop:
		n.stopRun(a)
	case slots.AskNode:
		n.askNode(a.Record)
	case slots.AskVoters:
		n.askVoters(a)
	case slots.Abandon:
		n.step(legion.Abandon{Legion: a.Legion, Reason: a.Reason})
	case slots.Reply:
		if n.ordered[a.ID] && a.Err == nil {
			n.attend(a.Record)
		}
		delete(n.ordered, a.ID)
	case slots.LetGo:
		delete(n.held, a.Legion)
		n.step(legion.LetGo{Legion: a.Legion, Term: a.Term})
	}
}

// keep has this disk take a batch.
func (n *node) keep(b jobs.Batch, then func()) {
	n.disk.queue = append(n.disk.queue, write{batch: b, then: then})
	n.write()
}

// propose asks the core for a quorum write.
func (n *node) propose(l string, term uint64, b jobs.Batch, dated time.Time, done func(committed bool)) {
	payload, err := b.Encode()
	if err != nil {
		n.w.fail("%s cannot encode a batch: %v", n.conf.Name, err)
		return
	}
	n.lastID++
	n.proposals[n.lastID] = done
	n.step(legion.Propose{ID: n.lastID, Legion: l, Term: term, Payload: payload, Dated: dated})
}

var errRefused = errors.New("refused")

func (n *node) commit(a slots.Commit) {
	n.w.check.decided(n, a)
	n.propose(a.Legion, a.Term, a.Batch, a.Dated, func(committed bool) {
		if !committed {
			n.decide(slots.Done{ID: a.ID, Err: errRefused})
			return
		}
		n.w.check.acknowledged(n, a.Batch)
		n.keep(a.Batch, func() { n.decide(slots.Done{ID: a.ID}) })
	})
}

// say writes down what this node says of runs, and tells the voters.
func (n *node) say(recs []jobs.Record) {
	n.keep(jobs.Batch{Records: recs}, nil)
	n.publish(recs)
}

// publish tells the voters until a quorum knows.
func (n *node) publish(recs []jobs.Record) {
	for _, r := range recs {
		if r.Legion != "" {
			n.outbox = append(n.outbox, r)
		}
	}
	if n.sending || len(n.outbox) == 0 || n.stopping {
		return
	}
	n.sending = true
	batch := jobs.Batch{Records: n.outbox}
	n.outbox = nil
	n.propose("", 0, batch, time.Time{}, func(committed bool) {
		n.sending = false
		if committed {
			n.w.check.acknowledged(n, batch)
			for _, r := range batch.Records {
				delete(n.disk.store.owed, r.Key())
			}
			n.publish(nil)
			return
		}
		n.outbox = append(batch.Records, n.outbox...)
		n.in(time.Second, func() { n.publish(nil) })
	})
}

// execute carries out a claim.
func (n *node) execute(a slots.Start) {
	r := &run{Record: a.Record, job: a.Job}
	n.runs[r.Run] = r
	n.in(n.w.between(0, 2*time.Millisecond), func() {
		if n.unwanted(r) {
			n.neverStarted(r)
			return
		}
		r.State = jobs.Starting
		n.keep(jobs.Batch{Records: []jobs.Record{r.Record}}, func() {
			if n.unwanted(r) {
				n.neverStarted(r)
				return
			}
			n.process(r)
		})
	})
}

// unwanted reports whether a claim must not be started any more.
func (n *node) unwanted(r *run) bool {
	if r.end == "" && (n.stopping || !n.trustedIn(r.Legion, r.Term)) {
		r.end = "no longer lord"
	}
	return r.end != ""
}

// trustedIn reports whether the core says that this node reigns.
func (n *node) trustedIn(l string, term uint64) bool {
	_, ok := n.core.Trusted(n.clock.read(n.w.now), l, term)
	return ok
}

func (n *node) neverStarted(r *run) {
	r.State = jobs.NeverStarted
	if r.forGood {
		r.State = jobs.Killed
	}
	n.ended(r)
}

func (n *node) ended(r *run) {
	r.Ended, r.Reason = n.wall(), r.end
	r.Record = r.Normal()
	delete(n.runs, r.Run)
	n.say([]jobs.Record{r.Record})
	n.decide(slots.Ended{Record: r.Record})
}

// process is the life of a process. It goes on while the agent is frozen.
func (n *node) process(r *run) {
	w := n.w
	w.check.started(n, r.Record)
	r.started = true
	r.State, r.Started = jobs.Running, n.wall()
	n.say([]jobs.Record{r.Normal()})
	took := w.between(5*time.Millisecond, 300*time.Millisecond)
	if w.maybe(0.2) && !w.calm {
		took = w.between(time.Second, 6*time.Second)
	}
	n.in(took, func() {
		if n.runs[r.Run] != r || r.end != "" {
			return
		}
		r.State = jobs.Succeeded
		if w.maybe(0.2) {
			r.State = jobs.Failed
		}
		n.ended(r)
	})
}

// stopRun ends a run, soon.
func (n *node) stopRun(a slots.Stop) {
	r := n.runs[a.Run]
	if r == nil || r.end != "" {
		return
	}
	r.end, r.forGood = a.Why, !a.Kill
	if !r.started {
		return // it notices
	}
	n.in(n.w.between(0, 50*time.Millisecond), func() {
		r.State = jobs.Killed
		n.ended(r)
	})
}

// call asks another node; then is called once, with nil if there is no answer.
func (n *node) call(name string, timeout time.Duration, ask func(m *node) any, then func(answer any)) {
	w, life, done := n.w, n.life, false
	finish := func(answer any) {
		if !done && n.life == life {
			done = true
			n.event(func() { then(answer) })
		}
	}
	w.in(timeout, func() { finish(nil) })
	m := w.named[name]
	if m == nil {
		return
	}
	delay := func() time.Duration { return w.Net.Delay + w.between(0, w.Net.Jitter) }
	w.in(delay(), func() {
		if !m.up || m.suspended || w.net.cut[n.index][m.index] {
			return
		}
		m.event(func() {
			answer := ask(m)
			w.in(delay(), func() {
				if !w.net.cut[m.index][n.index] {
					finish(answer)
				}
			})
		})
	})
}

func (n *node) askNode(rec jobs.Record) {
	n.call(rec.Node, 2*time.Second, func(m *node) any {
		return m.slots.Account(m.wall(), rec)
	}, func(answer any) {
		said, _ := answer.([]jobs.Record)
		if len(said) != 1 {
			n.decide(slots.Told{Asked: rec, Err: errRefused})
			return
		}
		n.decide(slots.Told{Asked: rec, Said: said[0]})
	})
}

func (n *node) askVoters(a slots.AskVoters) {
	n.askAll(a.Questions, func(said []jobs.Record, ok bool) {
		if !ok {
			n.decide(slots.Recalled{ID: a.ID, Err: errRefused})
			return
		}
		n.decide(slots.Recalled{ID: a.ID, Records: said})
	})
}

// askAll asks other nodes what they know of slots. It is not ok if one of them
// does not answer.
func (n *node) askAll(questions map[string][]jobs.Record, then func(said []jobs.Record, ok bool)) {
	waits := len(questions)
	if waits == 0 {
		then(nil, true)
		return
	}
	var all []jobs.Record
	for _, name := range sortedKeys(questions) {
		about := questions[name]
		n.call(name, 3*time.Second, func(m *node) any { return m.disk.store.recollect(about) }, func(answer any) {
			said, ok := answer.([]jobs.Record)
			all = append(all, said...)
			waits--
			switch {
			case !ok && waits >= 0:
				waits = -1 // told once
				then(nil, false)
			case waits == 0:
				then(all, true)
			}
		})
	}
}
