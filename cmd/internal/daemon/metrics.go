package daemon

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/metrics"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

// recalled is how many of a job's newest runs are looked at for its last success.
const recalled = 20

// Metrics implements control.Meter.
func (b backend) Metrics() http.Handler { return b.d.metrics.Handler() }

// count has the parts tell the metrics what they do.
func (d *Daemon) count() {
	d.lords.moved = d.metrics.LordChanged
	d.protocol.metrics = d.metrics
	d.scribe.ended = d.metrics.Ended
	d.disk.wrote = func(recs []jobs.Record) {
		d.doubles.look(recs)
		// What is decided about a legion's slots is counted when a quorum has it.
		d.metrics.Decided(slices.DeleteFunc(slices.Clone(recs), func(r jobs.Record) bool { return !r.Slot.Local() || r.Run != "" }))
	}
}

// A dated job is one of which the metrics say when it is due.
type dated struct {
	name     metrics.JobName
	schedule cronspec.Schedule
}

// measured says which jobs and legions there are to count.
func (d *Daemon) measured(cfg *config.Config, all map[string]*slots.Entry) {
	d.metrics.Configure(slices.Sorted(maps.Keys(cfg.Legions)), jobNames(cfg))
	var calendar []dated
	for _, e := range all {
		if e.Enabled {
			calendar = append(calendar, dated{metrics.JobName{Legion: e.Legion, Job: e.Name}, e.Schedule})
		}
	}
	d.mu.Lock()
	d.calendar = calendar
	d.mu.Unlock()
	select {
	case d.recount <- struct{}{}:
	default:
	}
}

func jobNames(cfg *config.Config) []metrics.JobName {
	var names []metrics.JobName
	for _, j := range cfg.Jobs {
		names = append(names, metrics.JobName{Legion: j.Legion, Job: j.Name})
	}
	return names
}

// recallLasts reads from the ledger how each job ended last, whenever there may
// be others.
func (d *Daemon) recallLasts(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.recount:
		}
		names := jobNames(d.config())
		for _, j := range names[:min(len(names), metrics.MaxJobs)] {
			if ctx.Err() != nil {
				return
			}
			recs, err := d.store.Runs(ledger.Query{Job: j.Job, Legion: j.Legion, Limit: recalled})
			if err != nil {
				d.log.Warn("read last runs for the metrics", zap.Error(err))
				break
			}
			d.metrics.Heard(recs)
		}
	}
}

// measure is how the node is at this moment.
func (d *Daemon) measure() metrics.State {
	s := d.protocol.status()
	out := metrics.State{
		Members: map[string]int{"alive": 1, "dead": 0}, Skews: map[string]time.Duration{}, Next: map[metrics.JobName]time.Time{},
		Stuck: d.watch.Stuck(), Dropped: d.protocol.dropped.Load(), Unsaid: d.logs.Dropped(),
	}
	effective := map[string]int{}
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Name == d.name {
			for _, c := range n.Legions {
				if r, ok := n.Rank(c.Legion); ok {
					effective[c.Legion] = r.Effective
				}
			}
		}
	}
	seen := map[string]bool{}
	own := d.config().Legions
	for _, l := range s.Legions {
		if _, ok := own[l.Legion]; ok {
			seen[l.Legion] = true
			out.Legions = append(out.Legions, metrics.Legion{
				Name: l.Legion, Lord: l.Trusted > 0, Term: l.Term, Trusted: l.Trusted, Effective: effective[l.Legion],
			})
		}
	}
	for name := range own {
		if !seen[name] { // before the founding
			out.Legions = append(out.Legions, metrics.Legion{Name: name})
		}
	}
	for _, r := range d.watch.Reports() {
		out.Checks = append(out.Checks, metrics.Check{Name: r.Name, State: string(r.State)})
	}
	for _, n := range d.sightings() {
		if n.up {
			out.Members["alive"]++
			out.Skews[n.Name] = n.skew // 0 until it is measured
		} else {
			out.Members["dead"]++
		}
	}
	now := d.clock().Wall
	d.mu.Lock()
	calendar := d.calendar
	d.mu.Unlock()
	for _, j := range calendar {
		if d.metrics.Names(j.name) {
			out.Next[j.name] = j.schedule.Next(now)
		}
	}
	return out
}
