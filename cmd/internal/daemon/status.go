package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

// A backend answers the control API for a node.
type backend struct{ d *Daemon }

var _ control.Backend = backend{}

// Status implements control.Watcher.
func (b backend) Status(context.Context) (control.Status, error) {
	d := b.d
	s := d.protocol.status()
	out := control.Status{Node: d.name, Incarnation: d.incarnation, Version: d.opts.Version, Process: d.process()}
	out.Cluster = b.electorate(s)
	out.Cluster.Members = b.members(s)
	for _, l := range s.Legions {
		if l.Legion == legion.ClusterLegion {
			continue // it is the cluster's, and no legion with jobs
		}
		out.Legions = append(out.Legions, b.legion(s, l))
	}
	return out, nil
}

// process is what this agent takes.
func (d *Daemon) process() control.Process {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	return control.Process{Started: control.At(d.started), Goroutines: runtime.NumGoroutine(), HeapBytes: int(heap[0].Value.Uint64())}
}

func (b backend) members(s legion.Status) []control.Member {
	d := b.d
	version := map[string]string{}
	for _, n := range s.Nodes {
		version[n.Name] = n.Software
	}
	ms := []control.Member{{Name: d.name, Addr: d.Addr(), State: "alive", Incarnation: d.incarnation, Version: d.opts.Version, ClockSkewMS: new(int64)}}
	for _, n := range d.sightings() {
		m := control.Member{Name: n.Name, Addr: n.Addr, State: "dead", Incarnation: n.Incarnation, Version: version[n.Name]}
		if n.up {
			m.State = "alive"
			if n.measured {
				skew := n.skew.Milliseconds()
				m.ClockSkewMS = &skew
			}
		}
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b control.Member) int { return strings.Compare(a.Name, b.Name) })
	return ms
}

// sightings are the other nodes as gossip tells of them, but for those whose
// death certificate is known: of a death gossip learns seconds later.
func (d *Daemon) sightings() []sighting {
	all := d.presence.all()
	for i := range all {
		all[i].up = all[i].up && !d.protocol.dead(all[i].Incarnation)
	}
	return all
}

func (b backend) legion(s legion.Status, l legion.LegionStatus) control.Legion {
	out := control.Legion{
		Name: l.Legion, Lord: l.Lord, Term: l.Term, TrustedMS: l.Trusted.Milliseconds(), Quorum: l.Quorum, Votes: l.Votes,
		Safe: 2*l.Quorum > len(s.Electorate.Voters), Agreed: l.Agreed, Succession: l.Succession,
	}
	if p, ok := b.d.pause(l.Legion); ok {
		out.Paused = describePause(p)
	}
	out.Doubles = b.d.doubles.of(l.Legion)
	out.LastChange = b.d.lords.of(l.Legion)
	out.Since = control.At(b.d.lords.since(l.Legion, l.Lord))
	for i := range s.Nodes {
		n := &s.Nodes[i]
		c := slices.IndexFunc(n.Legions, func(c legion.Candidacy) bool { return c.Legion == l.Legion })
		vote := ""
		for _, v := range n.Votes {
			if v.Legion == l.Legion {
				vote = v.Name
			}
		}
		if c < 0 {
			continue // a voter for it at most, and none of its members
		}
		out.Members = append(out.Members, b.member(n, n.Legions[c], l, vote, s.Trouble))
	}
	for _, v := range s.Electorate.Voters {
		out.Voters = append(out.Voters, voteOf(s, l, v))
	}
	return out
}

// voteOf says what a voter does for a legion's lord, and why not more.
func voteOf(s legion.Status, l legion.LegionStatus, v legion.Voter) control.Vote {
	out := control.Vote{Name: v.Name}
	i := slices.IndexFunc(s.Nodes, func(n legion.NodeState) bool { return n.Name == v.Name })
	if i < 0 {
		out.Why = "away"
		return out
	}
	n := &s.Nodes[i]
	for _, f := range n.Votes {
		if f.Legion == l.Legion {
			out.For, out.Term = f.Name, f.Term
		}
	}
	switch e := n.Electorate; {
	case n.Instance != v.Instance:
		out.Why = "another instance: its state directory is not the one that was admitted"
	case e == nil || e.Cluster != s.Electorate.Cluster:
		out.Why = "follows another electorate"
	case e.Epoch != s.Electorate.Epoch:
		out.Why = fmt.Sprintf("follows epoch %d, not %d", e.Epoch, s.Electorate.Epoch)
	case l.Lord == "":
	case out.For == "":
		out.Why = "has no living grant: it has promised a higher term, or has just started"
	case out.For != l.Lord || out.Term != l.Term:
		out.Why = fmt.Sprintf("votes for %s in term %d", out.For, out.Term)
	}
	return out
}

func (b backend) member(n *legion.NodeState, c legion.Candidacy, l legion.LegionStatus, vote, trouble string) control.LegionMember {
	m := control.LegionMember{Name: n.Name, Valor: c.Valor, Fit: c.Fit, VoteFor: vote, Role: "candidate"}
	r, stands := n.Rank(l.Legion)
	m.Effective = r.Effective
	switch {
	case n.Name == l.Lord:
		m.Role = "lord"
	case c.Valor == 0:
		m.Role = "arbiter"
	}
	vetoed := showChecks(&m, n, c)
	if c.Told != "" {
		m.Reasons = append(m.Reasons, c.Told)
	}
	if c.Held && !strings.Contains(c.Told, "ranks last") {
		m.Reasons = append(m.Reasons, "ranks last: it lost this lordship too often")
	}
	if stands {
		if load := r.Effective - c.Valor - c.Weight; load != 0 {
			m.Reasons = append(m.Reasons, "lordships elsewhere "+signed(load))
		}
	} else if c.Valor > 0 {
		why := ""
		if n.Name == b.d.name {
			why = trouble
		}
		if why == "" && !vetoed {
			why = cmp.Or(c.Why, unfitBy(n, c), "unfit")
		}
		if why != "" {
			m.Reasons = append(m.Reasons, why)
		}
	}
	return m
}

func signed(n int) string {
	if n > 0 {
		return "+" + strconv.Itoa(n)
	}
	return strconv.Itoa(n)
}

// Lord implements control.Watcher.
func (b backend) Lord(_ context.Context, name string) (control.Lord, error) {
	s := b.d.protocol.status()
	for _, l := range s.Legions {
		if l.Legion == name {
			return control.Lord{Legion: name, Lord: l.Lord, Term: l.Term, Here: l.Trusted > 0}, nil
		}
	}
	if _, ok := b.d.config().Legions[name]; ok {
		return control.Lord{Legion: name}, nil
	}
	return control.Lord{}, b.unknownLegion(name)
}

func (b backend) unknownLegion(name string) error {
	known := slices.Sorted(maps.Keys(b.d.config().Legions))
	hint := "this node knows no legion"
	if len(known) > 0 {
		hint = "this node knows " + strings.Join(known, ", ")
	}
	return control.NotFound(hint, "no legion %q", name)
}

// Next implements control.Planner.
func (b backend) Next(ctx context.Context, q control.NextQuery) (control.Next, error) {
	found, err := query(ctx, b.d.foreman, func() *slots.Entry {
		for _, e := range b.d.foreman.core.Jobs() {
			if e.Name == q.Job {
				return e.Entry
			}
		}
		return nil
	})
	if err != nil {
		return control.Next{}, control.Unavailable("", "%v", err)
	}
	if found == nil {
		return control.Next{}, control.NotFound("legion-cron jobs lists them", "no job %q", q.Job)
	}
	out := control.Next{Spec: strings.Join(found.Schedules, " | "), Timezone: b.d.zone(found.Timezone), Description: found.Schedule.Describe()}
	upcoming, notes := cronspec.Upcoming(found.Schedule, q.From, q.N)
	for _, at := range upcoming {
		out.Next = append(out.Next, control.At(at))
	}
	out.Notes = notes
	if !found.Enabled {
		out.Notes = append(out.Notes, "the job is disabled: its slots are recorded as skipped")
	}
	return out, nil
}

// Reload implements control.Reloader.
func (b backend) Reload(context.Context) (done control.Reload, err error) {
	over := b.d.Reloading()
	defer func() { over(err) }()
	cfg, problems := config.Load(b.d.config().Path)
	if len(problems) > 0 {
		var lines []string
		for _, p := range problems {
			lines = append(lines, p.String())
		}
		return control.Reload{}, control.Invalid("nothing was changed", "%s", strings.Join(lines, "\n"))
	}
	changes, err := b.d.apply(cfg)
	if err != nil {
		return control.Reload{}, control.Refused("nothing was changed", "%v", err)
	}
	return control.Reload{Changes: changes}, nil
}
