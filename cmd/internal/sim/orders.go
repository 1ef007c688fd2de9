package sim

import (
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
)

// What people ask of a node: runs by hand, pauses, and the slots of commands
// that run outside of the agent (legion-cron exec). They ask every node, for
// they do not know which one is lord.

const (
	ordersEvery = 700 * time.Millisecond
	// command is a job that no configuration has.
	command = "command"
)

// order gives an order.
func (n *node) order() {
	w := n.w
	if len(w.jobs) == 0 || w.calm || n.stopping {
		return
	}
	j := w.jobs[w.rng.IntN(len(w.jobs))]
	n.orders++
	switch w.rng.IntN(8) {
	case 0:
		n.decide(slots.Trigger{ID: n.orders, Legion: j.Legion, Job: j.Name})
	case 1:
		for _, key := range n.disk.store.sorted(n.disk.store.stranded) {
			if r := n.disk.store.records[key]; r.Legion == j.Legion && w.maybe(0.2) {
				n.decide(slots.Rerun{ID: n.orders, Run: r})
				return
			}
		}
	case 2:
		until := n.wall().Add(w.between(time.Second, 5*time.Second))
		n.decide(slots.SetPause{ID: n.orders, Pause: jobs.Pause{Legion: j.Legion, Job: j.Name, On: w.maybe(0.7), Until: until}})
	default: // its crond, late by as much as it likes
		at := n.wall().Add(-w.between(0, 500*time.Millisecond)).Truncate(time.Second)
		n.ordered[n.orders] = true
		n.decide(slots.Exec{ID: n.orders, Legion: j.Legion, Job: command, At: at, Definition: command})
	}
}

// attend sees a command through that its caller runs, if that is still there.
// Its claim is enough, whoever reigns now.
func (n *node) attend(rec jobs.Record) {
	r := &run{Record: rec}
	n.runs[r.Run] = r
	if n.w.maybe(0.1) {
		r.end = "its caller was gone"
		n.neverStarted(r)
		return
	}
	r.State = jobs.Starting
	n.keep(jobs.Batch{Records: []jobs.Record{r.Record}}, func() {
		if n.stopping || r.end != "" {
			n.neverStarted(r)
			return
		}
		n.process(r)
	})
}
