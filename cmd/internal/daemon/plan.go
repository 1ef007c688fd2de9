package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

// views returns where the jobs of this node stand that are wanted, by key.
func (d *Daemon) views(ctx context.Context, wanted func(slots.View) bool) ([]slots.View, error) {
	all, err := query(ctx, d.foreman, d.foreman.core.Jobs)
	if err != nil {
		return nil, control.Unavailable("", "%v", err)
	}
	all = slices.DeleteFunc(all, func(v slots.View) bool { return !wanted(v) })
	now := d.clock().Wall
	for i := range all {
		if v := &all[i]; v.Next.IsZero() { // another node's to say
			v.Next = v.Schedule.Next(now)
		}
		slices.SortFunc(all[i].Living, ledger.NewestFirst)
	}
	return all, nil
}

// Listings implements control.Planner.
func (b backend) Listings(ctx context.Context) ([]control.Listing, error) {
	all, err := b.d.views(ctx, func(slots.View) bool { return true })
	if err != nil {
		return nil, err
	}
	out := make([]control.Listing, 0, len(all))
	for _, v := range all {
		if err := ctx.Err(); err != nil {
			return nil, err // nobody waits for the answer any more
		}
		l := control.Listing{Definition: v.Definition(), Job: control.Job{
			Name: v.Name, Legion: v.Legion, Schedule: strings.Join(v.Schedules, " | "), Running: len(v.Living),
			Paused: v.Pause.On, Disabled: !v.Enabled,
		}}
		if v.Enabled {
			l.Next = control.At(v.Next)
		}
		last, err := b.d.store.LastStart(v.Legion, v.Name)
		if err != nil {
			return nil, err
		}
		l.Last = control.At(last)
		out = append(out, l)
	}
	return out, nil
}

// Jobs implements control.Planner.
func (b backend) Jobs(ctx context.Context) ([]control.Job, []string, error) {
	answers := control.Gather[[]control.Listing](ctx, b, control.ScopedPath("/v1/jobs"))
	lords := map[string]string{}
	for _, l := range b.d.protocol.status().Legions {
		lords[l.Legion] = l.Lord
	}
	return tally(answers, b.d.name, lords), b.silent(answersOf(answers)), nil
}

// silent are the nodes that were asked in vain, and the voters that are not
// even there to be asked.
func (b backend) silent(asked []string) []string {
	_, missing := b.d.nodes()
	all := append(asked, missing...)
	slices.Sort(all)
	return slices.Compact(all)
}

func answersOf[T any](answers []control.Answer[T]) (silent []string) {
	for _, a := range answers {
		var e *control.Error
		if a.Err != nil && (!errors.As(a.Err, &e) || e.Code != http.StatusNotFound) {
			silent = append(silent, a.Node)
		}
	}
	return silent
}

// tally puts together what the nodes say of their jobs. What the lord of a
// job's legion says counts most, then what the node says that was asked.
func tally(answers []control.Answer[[]control.Listing], own string, lords map[string]string) []control.Job {
	type said struct {
		control.Listing
		node string
	}
	byKey := map[string][]said{}
	for _, a := range answers {
		for _, l := range a.Value {
			key := slots.Key(l.Legion, l.Name)
			byKey[key] = append(byKey[key], said{l, a.Node})
		}
	}
	out := make([]control.Job, 0, len(byKey))
	for _, all := range byKey {
		lord := lords[all[0].Legion]
		weight := func(s said) int {
			switch s.node {
			case lord:
				return 0
			case own:
				return 1
			}
			return 2
		}
		slices.SortStableFunc(all, func(a, b said) int { return cmp.Compare(weight(a), weight(b)) })
		j := all[0].Job
		for _, s := range all {
			j.Nodes = append(j.Nodes, s.node)
			if s.Definition != all[0].Definition {
				j.Drift = append(j.Drift, s.node)
			}
			if s.Last.After(j.Last.Time) {
				j.Last = s.Last
			}
			if j.Legion == "" && s.node != all[0].node { // each runs it by itself
				j.Running += s.Running
				j.Disabled = j.Disabled && s.Disabled
				if !s.Next.IsZero() && (j.Next.IsZero() || s.Next.Before(j.Next.Time)) {
					j.Next = s.Next
				}
			}
			j.Paused = j.Paused || s.Paused
		}
		slices.Sort(j.Nodes)
		slices.Sort(j.Drift)
		out = append(out, j)
	}
	slices.SortFunc(out, func(a, b control.Job) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Legion, b.Legion))
	})
	return out
}

// lastRuns is how many of a job's outcomes an explanation has.
const lastRuns = 5

// Explain implements control.Planner.
func (b backend) Explain(ctx context.Context, job string, own bool) (control.Explanation, []string, error) {
	if own {
		e, err := b.explainOwn(ctx, job)
		return e, nil, err
	}
	answers := control.Gather[control.Explanation](ctx, b, control.ScopedPath("/v1/jobs/"+url.PathEscape(job)))
	silent := b.silent(answersOf(answers))
	var known []control.Explanation
	for _, a := range answers {
		if a.Err == nil {
			known = append(known, a.Value)
		}
	}
	if len(known) == 0 {
		hint := "legion-cron jobs lists them"
		if len(silent) > 0 {
			hint = "those that do not answer may have it: " + strings.Join(silent, ", ")
		}
		return control.Explanation{}, nil, control.NotFound(hint, "no job %q", job)
	}
	e := together(known, b.d.name)
	last, quiet, err := b.d.history(ctx, ledger.Query{Job: job, Legion: e.Legion, Limit: lastRuns})
	if err != nil {
		return control.Explanation{}, nil, err
	}
	e.Last = wireRuns(last)
	update(e.Living, e.Last)
	silent = b.silent(append(silent, quiet...))
	vacancy := ""
	if e.Legion != "" && e.Lord == "" {
		vacancy = b.whyNoLord(e.Legion)
	}
	tell(&e, vacancy, silent)
	return e, silent, nil
}

// update has living runs as their own nodes tell of them: the lord of a run
// knows no more than that it is claimed, or over.
func update(living, told []control.Run) {
	for i := range living {
		for _, r := range told {
			if r.Run == living[i].Run && (r.Outcome == jobs.Starting.String() || r.Outcome == jobs.Running.String()) {
				living[i] = r
			}
		}
	}
}

// together makes one of what several nodes say: the lord's view of the job, or
// else this node's own; each of several legions' jobs of the name is another
// definition.
func together(known []control.Explanation, own string) control.Explanation {
	weight := func(e control.Explanation) int {
		switch {
		case e.Legion != "" && e.Node == e.Lord:
			return 0
		case e.Node == own:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(known, func(a, b control.Explanation) int { return cmp.Compare(weight(a), weight(b)) })
	e := known[0]
	e.Nodes, e.Drift = nil, nil
	for _, k := range known {
		e.Nodes = append(e.Nodes, k.Node)
		if k.Definition != e.Definition {
			e.Drift = append(e.Drift, k.Node)
		}
		if e.Legion == "" && k.Node != e.Node {
			e.Living = append(e.Living, k.Living...)
			e.Queued += k.Queued
		}
	}
	slices.Sort(e.Nodes)
	slices.Sort(e.Drift)
	return e
}

// zone is the time zone that a job is in, which names one or not.
func (d *Daemon) zone(named string) string {
	return cmp.Or(named, d.config().Node.Location().String())
}

// explainOwn is what this node knows by itself.
func (b backend) explainOwn(ctx context.Context, job string) (control.Explanation, error) {
	d := b.d
	found, err := d.views(ctx, func(v slots.View) bool { return v.Name == job })
	if err != nil {
		return control.Explanation{}, err
	}
	if len(found) == 0 {
		return control.Explanation{}, control.NotFound("legion-cron jobs lists them", "no job %q on %s", job, d.name)
	}
	v := found[0]
	e := control.Explanation{
		Job: v.Name, Legion: v.Legion, Node: d.name, Definition: v.Definition(), Enabled: v.Enabled,
		Schedule: strings.Join(v.Schedules, " | "), Timezone: d.zone(v.Timezone), Description: v.Schedule.Describe(),
		JitterMS: cronspec.Jitter(v.Name, v.Jitter).Milliseconds(),
		Overlap:  string(v.Overlap), Mutex: v.Mutex, MutexHeldBy: v.HeldBy, Living: wireRuns(v.Living), Queued: v.Queued,
		CatchUpMS: v.Patience(v.Next).Milliseconds(), CatchUpRuns: string(v.CatchUpRuns), OnLost: string(v.OnLost), OnUnlord: string(v.OnUnlord),
		Paused: v.Pause.On, Pause: describePause(v.Pause),
		MaxRuns: cap(d.runs.limit), Running: len(d.runs.all()),
	}
	if v.Legion == "" {
		d.mu.Lock()
		e.Drained = d.orders.Drained
		d.mu.Unlock()
	}
	if !v.Next.IsZero() {
		e.Next, e.NextLocal = control.At(v.Next), v.Next.Format("2006-01-02 15:04:05 MST")
	}
	if v.Legion != "" {
		for _, l := range d.protocol.status().Legions {
			if l.Legion == v.Legion {
				e.Lord, e.Term = l.Lord, l.Term
			}
		}
		e.Since = control.At(d.lords.since(v.Legion, e.Lord))
	}
	return e, nil
}

// whyNoLord says what keeps a legion's throne vacant.
func (b backend) whyNoLord(name string) string {
	s := b.d.protocol.status()
	if s.Electorate == nil {
		return "the cluster is not founded yet: see legion-cron status"
	}
	var why []string
	up, _ := b.d.nodes()
	there := 0
	for _, v := range s.Electorate.Voters {
		if v.Name == b.d.name || slices.Contains(up, v.Name) {
			there++
		}
	}
	for _, l := range s.Legions {
		if l.Legion != name {
			continue
		}
		if there < l.Quorum {
			why = append(why, fmt.Sprintf("%d of %d voters are here, the quorum is %d", there, len(s.Electorate.Voters), l.Quorum))
		}
		for _, m := range b.legion(s, l).Members {
			switch {
			case m.Role == "arbiter":
				why = append(why, m.Name+" has no valor")
			case !m.Fit:
				why = append(why, cmp.Or(strings.Join(append([]string{m.Name}, m.Reasons...), ": "), m.Name))
			}
		}
	}
	if len(why) == 0 {
		return "the election is under way"
	}
	return strings.Join(why, "; ")
}

// tell puts an explanation into words. vacancy says why there is no lord,
// where there should be one.
func tell(e *control.Explanation, vacancy string, silent []string) {
	where := "on each of " + strings.Join(e.Nodes, ", ")
	switch {
	case e.Legion == "" && len(e.Nodes) == 1:
		where = "on " + e.Nodes[0]
	case e.Legion != "":
		where = fmt.Sprintf("on %s, the lord of %s", e.Lord, e.Legion)
	}
	when := "at " + e.NextLocal
	lists := slices.Contains(e.Nodes, e.Lord)
	skips := e.Overlap == string(jobs.OverlapSkip) && len(e.Living) > 0
	switch {
	case !e.Enabled:
		e.Verdict = "will not run: it is disabled, and its slots are recorded as skipped"
	case e.Paused:
		e.Verdict = "will not run: it is paused, and its slots are recorded as skipped"
		if e.Pause != "" {
			e.Verdict += "; " + e.Pause
		}
	case e.Drained:
		e.Verdict = fmt.Sprintf("will not run on %s: it is drained, and the slots of its own jobs are recorded as skipped", e.Node)
	case e.Next.IsZero() && (strings.Contains(e.Schedule, "@lord") || strings.Contains(e.Schedule, "@start")):
		e.Verdict = "runs " + e.Description + ", and by no clock"
	case e.Next.IsZero():
		e.Verdict = "will not run: its schedule has no slot any more"
	case e.Legion != "" && e.Lord == "":
		e.Verdict = fmt.Sprintf("will not run before %s has a lord: %s", e.Legion, vacancy)
	case e.Legion != "" && !lists && !slices.Contains(silent, e.Lord):
		e.Verdict = fmt.Sprintf("will not run: %s is the lord of %s, and its configuration has no such job", e.Lord, e.Legion)
	case skips:
		e.Verdict = fmt.Sprintf("runs next %s %s, if the run that is alive has ended by then", when, where)
	case e.MutexHeldBy != "":
		e.Verdict = fmt.Sprintf("runs next %s %s, if %s has ended by then", when, where, e.MutexHeldBy)
	default:
		e.Verdict = fmt.Sprintf("runs next %s %s", when, where)
	}
	e.WillRun = strings.HasPrefix(e.Verdict, "runs")

	say := func(format string, args ...any) { e.Why = append(e.Why, fmt.Sprintf(format, args...)) }
	switch {
	case e.Legion == "":
		say("it has no legion: every node that lists it runs it")
	case e.Lord == "":
		say("%s has no lord: %s", e.Legion, vacancy)
	default:
		since := ""
		if !e.Since.IsZero() {
			since = ", since " + e.Since.Format(time.RFC3339)
		}
		say("%s is the lord of %s in term %d%s", e.Lord, e.Legion, e.Term, since)
	}
	say("%s: %s", e.Schedule, e.Description)
	if !e.Next.IsZero() {
		say("the next slot is %s, in UTC %s", e.NextLocal, e.Next.UTC().Format(time.RFC3339))
	}
	if e.JitterMS > 0 {
		say("its jitter is %v, on every node", time.Duration(e.JitterMS)*time.Millisecond)
	}
	for _, r := range e.Living {
		say("run %s is %s on %s", r.Run, r.Outcome, r.Node)
	}
	if len(e.Living) > 0 {
		say("%s", overlapWords[jobs.Overlap(e.Overlap)])
	}
	if e.Queued > 0 {
		say("%d slots wait for the run before them", e.Queued)
	}
	if e.MutexHeldBy != "" {
		say("mutex %s is held by a run of %s", e.Mutex, e.MutexHeldBy)
	}
	if e.MaxRuns > 0 && e.Running >= e.MaxRuns {
		say("%s runs %d at a time, and that many are alive: it waits until one ends", e.Node, e.MaxRuns)
	}
	runs := "the newest of several that are late, and not the others"
	if e.CatchUpRuns == string(jobs.CatchUpAll) {
		runs = "each of several that are late"
	}
	if e.CatchUpMS > 0 {
		say("a slot is started up to %v late: %s", time.Duration(e.CatchUpMS)*time.Millisecond, runs)
	} else {
		say("a slot that is late is not started")
	}
	for _, r := range e.Last {
		say("%s", lastWords(r))
	}
	if len(e.Last) == 0 {
		say("no slot of it is on record")
	}
	if len(e.Drift) > 0 {
		say("its definition on %s is another: legion-cron validate there, then reload", strings.Join(e.Drift, ", "))
	}
	if len(silent) > 0 {
		say("no answer from %s", strings.Join(silent, ", "))
	}
}

var overlapWords = map[jobs.Overlap]string{
	jobs.OverlapSkip:     "overlap = skip: a slot that is due meanwhile is recorded as skipped",
	jobs.OverlapQueue:    "overlap = queue: one slot that is due meanwhile waits",
	jobs.OverlapQueueAll: "overlap = queue-all: slots that are due meanwhile wait",
	jobs.OverlapReplace:  "overlap = replace: the next slot ends it",
	jobs.OverlapAllow:    "overlap = allow: the next slot starts beside it",
}

// lastWords says in a line what became of a slot.
func lastWords(r control.Run) string {
	text := fmt.Sprintf("the slot of %s: %s", r.Scheduled.UTC().Format(time.RFC3339), r.Outcome)
	if r.Manual {
		text += ", by hand"
	}
	if r.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", r.Attempt)
	}
	if r.Node != "" {
		text += " on " + r.Node
	}
	switch {
	case r.Reason != "":
		text += ": " + r.Reason
	case r.Signal != "":
		text += ": signal " + r.Signal
	case r.ExitCode != nil && *r.ExitCode != 0:
		text += fmt.Sprintf(": exit %d", *r.ExitCode)
	}
	return text
}
