package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

const (
	// clusterValor is every node's in the legion that changes the electorate.
	clusterValor = 100
	// electorateWait is how long a request waits for the electorate to change.
	electorateWait = 40 * time.Second
	electorateLook = 50 * time.Millisecond // how often it looks
	maxStranded    = 1_000                 // slots of one legion that another voter is told of
	refillTimeout  = 8 * time.Second       // of one attempt to merge what other voters had
)

// legionStates is what this voter has of all legions: what a lord would be told
// with its vote, and the slots that somebody may still have to carry on with.
func legionStates(store *ledger.Store, now time.Time) (all []legion.LegionState, err error) {
	for _, name := range store.Legions() {
		b := store.Unsettled(name)
		stranded, err := store.Stranded(name, now.Add(-slots.StrandedBack), maxStranded)
		if err != nil {
			return nil, err
		}
		for _, r := range stranded { // and what has become of them since
			about, err := store.Slots(r.Slot)
			if err != nil {
				return nil, err
			}
			b.Records = append(b.Records, about...)
		}
		state, err := b.Encode()
		if err != nil {
			return nil, err
		}
		all = append(all, legion.LegionState{Legion: name, State: state})
	}
	return all, nil
}

// refill has what other voters had written merged. One that is asked for while
// another is under way is dropped: the core asks again.
func (d *Daemon) refill(a legion.Merge) {
	select {
	case d.merges <- a:
	default:
	}
}

func (d *Daemon) refills(ctx context.Context) {
	for {
		select {
		case a := <-d.merges:
			try, cancel := context.WithTimeout(ctx, refillTimeout)
			err := d.mergeStates(try, a.States)
			cancel()
			if err == nil {
				d.protocol.post(legion.Merged{Epoch: a.Epoch})
			} else if ctx.Err() == nil {
				d.log.Warn("take over what other voters had written; it is tried again", zap.Uint64("epoch", a.Epoch), zap.Error(err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// mergeStates returns when all is on disk. A voter that knows an attempt to be
// settled says so only by not telling of it; so each is asked about what it did
// not tell of, as a new lord asks (see recall).
func (d *Daemon) mergeStates(ctx context.Context, states map[string][]legion.LegionState) error {
	for voter := range states {
		if voter == d.name {
			continue
		}
		if err := d.filler.recent(ctx, voter); err != nil {
			return fmt.Errorf("ask %s for its history: %w", voter, err)
		}
	}
	var all jobs.Batch
	told := map[string]map[jobs.Key]bool{}
	open := map[jobs.Key]jobs.Record{}
	for voter, list := range states {
		told[voter] = map[jobs.Key]bool{}
		for _, s := range list {
			b, err := jobs.DecodeBatch(s.State)
			if err != nil {
				return fmt.Errorf("decode the state of %s: %w", voter, err)
			}
			for _, r := range b.Records {
				told[voter][r.Key()] = true
				if !r.State.Settled() {
					open[r.Key()] = r
				}
			}
			all.Records, all.Marks = append(all.Records, b.Records...), append(all.Marks, b.Marks...)
		}
	}
	for _, name := range d.store.Legions() {
		for _, r := range d.store.Unsettled(name).Records {
			open[r.Key()] = r
		}
	}
	questions := map[string][]jobs.Record{}
	for voter := range states {
		for key, r := range open {
			if !told[voter][key] {
				questions[voter] = append(questions[voter], r)
			}
		}
	}
	said, err := d.foreman.recallAll(ctx, questions)
	if err != nil {
		return err
	}
	all.Records = append(all.Records, said...)
	return d.disk.write(ctx, ledger.Writes{Records: all.Records, Marks: all.Marks})
}

// disown is told that the state directory is a copy, or was restored. What it
// remembers is not all that its instance promised, so this node must not vote
// by it: it stops, and starts the next time as another instance.
func (d *Daemon) disown(a legion.Disowned) {
	err := fmt.Errorf("%s: a copy of another, or restored from a backup: it counts %d starts, and %s has seen %d. "+
		"It is set aside, and this node is a new one when it starts again", d.config().Node.StateDir, d.store.Starts(), a.By, a.Starts)
	if e := d.store.Disown(); e != nil {
		err = errors.Join(err, e)
	}
	d.log.Error("stopping: "+err.Error(), logging.Event("disowned"))
	d.leave(err)
}

// damage stops the node: it must not vote, or decide, by a ledger that
// contradicts itself. The next start sets the file aside.
func (d *Daemon) damage(dir string, err error) {
	if closedChan(d.left) {
		return // it stops already
	}
	err = fmt.Errorf("%s: %w; it is set aside, and this node is a new one when it starts again", dir, err)
	d.log.Error("stopping: "+err.Error(), logging.Event("damaged"))
	d.leave(err)
}

// leave has whoever runs this node stop it.
func (d *Daemon) leave(why error) {
	d.leaving.Do(func() {
		d.leftBy = why
		close(d.left)
	})
}

// Left is closed when the node is to be stopped by its own wish; LeftBy then
// says why, nil if it was told to leave.
func (d *Daemon) Left() <-chan struct{} { return d.left }

// LeftBy is for after Left.
func (d *Daemon) LeftBy() error { return d.leftBy }

// reloadElectorate has the electorate changed, if it is this node's to do, and
// says so where it is not.
func (d *Daemon) reloadElectorate(cfg *config.Config) []string {
	cl := cfg.Cluster
	if cl == nil || d.gossip == nil {
		return nil
	}
	d.protocol.post(legion.Willing{Vote: cl.Vote, ForgetAfter: cl.ForgetAfter})
	drift := electorateDrift(cl, d.protocol.status())
	if len(drift) == 0 {
		return nil
	}
	lord, err := backend{d}.LordOf(legion.ClusterLegion)
	switch {
	case err != nil:
		return []string{"the electorate has no lord, and keeps to what it is: " + strings.Join(drift, ", ")}
	case lord != d.name:
		return []string{fmt.Sprintf("the electorate keeps to what it is until %s reloads: %s", lord, strings.Join(drift, ", "))}
	}
	d.protocol.post(legion.Settings{Size: cl.Size, Beat: cl.Beat, Lease: cl.Lease})
	return []string{"the electorate is being changed: " + strings.Join(drift, ", ")}
}

// electorateDrift says in what this node's file differs from the electorate.
func electorateDrift(cl *config.Cluster, s legion.Status) (drift []string) {
	e := s.Electorate
	if cl == nil || e == nil {
		return nil
	}
	differs := func(key string, file, record any) {
		if file != record {
			drift = append(drift, fmt.Sprintf("cluster.%s is %v in the file, %v in the electorate", key, file, record))
		}
	}
	if e.Size > 0 {
		differs("size", cl.Size, e.Size)
	}
	differs("beat", cl.Beat, e.Beat)
	differs("lease", cl.Lease, e.Lease)
	return drift
}

// foreigners says which nodes follow another electorate than this one.
func foreigners(s legion.Status) (all []string) {
	for _, n := range s.Nodes {
		if n.Foreign(s.Electorate) {
			all = append(all, fmt.Sprintf("%s is of another cluster (%s): %s", n.Name, n.Electorate.Cluster, legion.ForeignHelp))
		}
	}
	return all
}

// electorate is what status says of it.
func (b backend) electorate(s legion.Status) control.Cluster {
	var out control.Cluster
	e := s.Electorate
	if e == nil {
		out.Change = founding(s, b.d.name)
		return out
	}
	out.ID, out.Epoch, out.Size, out.Quorum, out.Change = e.Cluster.String(), e.Epoch, e.Size, e.Quorum, s.Change
	out.BeatMS, out.LeaseMS = e.Beat.Milliseconds(), e.Lease.Milliseconds()
	for _, v := range e.Voters {
		out.Voters = append(out.Voters, v.Name)
	}
	for _, l := range s.Legions {
		if l.Legion == legion.ClusterLegion {
			out.Lord = l.Lord
		}
	}
	out.Drift = append(electorateDrift(b.d.config().Cluster, s), foreigners(s)...)
	for _, n := range s.Nodes {
		if n.Name != b.d.name && e.Size > 0 && n.Size != e.Size {
			out.Drift = append(out.Drift, fmt.Sprintf("cluster.size is %d in the file of %s, %d in the electorate", n.Size, n.Name, e.Size))
		}
	}
	return out
}

// founding says what a cluster that is not there yet waits for.
func founding(s legion.Status, own string) string {
	size, willing := 0, 0
	for _, n := range s.Nodes {
		if n.Name == own {
			size = n.Size
		}
	}
	var others []string // they would found another electorate
	for _, n := range s.Nodes {
		switch {
		case !n.Willing:
		case n.Size != size:
			others = append(others, fmt.Sprintf("cluster.size is %d in the file of %s", n.Size, n.Name))
		default:
			willing++
		}
	}
	if willing >= size {
		return "" // it takes a moment
	}
	if len(others) > 0 {
		return fmt.Sprintf("it takes %d nodes that may vote and have cluster.size = %d, and %d can be heard here; %s", size, size, willing, strings.Join(others, ", "))
	}
	return fmt.Sprintf("it takes %d nodes that may vote, and %d can be heard here; cluster.join, keys_file and firewalls decide who is", size, willing)
}

// voterNamed reports whether the electorate names a voter so.
func voterNamed(s legion.Status, name string) bool {
	return s.Electorate != nil && slices.ContainsFunc(s.Electorate.Voters, func(v legion.Voter) bool { return v.Name == name })
}

// until waits for the electorate to be as done wants it.
func (b backend) until(ctx context.Context, done func(legion.Status) bool) (control.Electorate, error) {
	ctx, cancel := context.WithTimeout(ctx, electorateWait)
	defer cancel()
	look := time.NewTicker(electorateLook)
	defer look.Stop()
	for {
		s := b.d.protocol.status()
		if done(s) {
			c := b.electorate(s)
			return control.Electorate{Epoch: c.Epoch, Voters: c.Voters}, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			why, hint := unchanged(s)
			return control.Electorate{}, control.Unavailable(hint, "the electorate has not changed in %v: %s", electorateWait, why)
		}
	}
}

// unchanged says why an electorate did not change, as far as this node can tell,
// and what to do about it.
func unchanged(s legion.Status) (why, hint string) {
	const look = "legion-cron status shows the electorate"
	e := s.Electorate
	if e == nil {
		return "there is none yet", look
	}
	var away []string
	for _, v := range e.Voters {
		if !slices.ContainsFunc(s.Nodes, func(n legion.NodeState) bool { return n.Name == v.Name && n.Instance == v.Instance }) {
			away = append(away, v.Name)
		}
	}
	switch {
	case len(e.Voters)-len(away) < e.Quorum:
		return "no quorum of its voters answers", look + "; a majority that is lost for good: legion-cron refound"
	case s.Change != "":
		return s.Change, look
	case len(away) > 0:
		return "a voter goes only while a quorum of those that are left answers; away: " + strings.Join(away, ", "),
			"start what is away; what is gone for good: legion-cron forget " + away[0]
	}
	return "its lord has not begun", look
}

var (
	errNoCluster = control.Refused("there is no [cluster] in its configuration", "this node has no cluster")
	errUnfounded = control.Refused("legion-cron status says what it waits for; to take the node away, stop the agent", "the cluster is not founded yet")
)

// Leave implements control.Steward.
func (b backend) Leave(ctx context.Context) (control.Electorate, error) {
	d := b.d
	cl := d.config().Cluster
	if cl == nil || d.gossip == nil {
		return control.Electorate{}, errNoCluster
	}
	switch s := d.protocol.status(); {
	case s.Electorate == nil:
		return control.Electorate{}, errUnfounded
	case s.Voter && len(s.Electorate.Voters) == 1 && len(s.Nodes) == 1:
		return control.Electorate{}, control.Refused("to end the cluster, stop the agent", "%s is the last node", d.name)
	}
	d.protocol.post(legion.Willing{ForgetAfter: cl.ForgetAfter})
	e, err := b.until(ctx, func(s legion.Status) bool { return s.Electorate != nil && !voterNamed(s, d.name) })
	if err != nil {
		d.protocol.post(legion.Willing{Vote: cl.Vote, ForgetAfter: cl.ForgetAfter})
		return e, err
	}
	d.log.Info("left the electorate; stopping", logging.Event("left"))
	d.leave(nil)
	return e, nil
}

// Forget implements control.Steward. It is asked of the lord of the cluster.
func (b backend) Forget(ctx context.Context, name string) (control.Electorate, error) {
	d := b.d
	s := d.protocol.status()
	switch {
	case d.gossip == nil:
		return control.Electorate{}, errNoCluster
	case !voterNamed(s, name):
		return control.Electorate{}, control.Refused("only voters are remembered for good; they are "+voterList(s), "%s is no voter", name)
	case slices.ContainsFunc(s.Nodes, func(n legion.NodeState) bool { return n.Name == name }):
		return control.Electorate{}, control.Refused("legion-cron leave, on "+name, "%s is alive", name)
	}
	if lord, err := b.LordOf(legion.ClusterLegion); err != nil || lord != d.name {
		return control.Electorate{}, control.Unavailable("try again", "%s is no longer lord of the cluster", d.name)
	}
	d.protocol.post(legion.Forget{Name: name})
	return b.until(ctx, func(s legion.Status) bool { return !voterNamed(s, name) })
}

func voterList(s legion.Status) string {
	if s.Electorate == nil {
		return "not known"
	}
	var all []string
	for _, v := range s.Electorate.Voters {
		all = append(all, v.Name)
	}
	return strings.Join(all, ", ")
}

// Refound implements control.Steward.
func (b backend) Refound(ctx context.Context, force bool) (control.Electorate, error) {
	d := b.d
	if d.gossip == nil {
		return control.Electorate{}, errNoCluster
	}
	s := d.protocol.status()
	var epoch uint64
	if e := s.Electorate; e != nil {
		epoch = e.Epoch
		here := map[string]bool{}
		for _, n := range s.Nodes {
			for _, v := range e.Voters {
				if v == (legion.Voter{Name: n.Name, Instance: n.Instance}) {
					here[n.Name] = true
				}
			}
		}
		if len(here) >= e.Quorum && !force {
			return control.Electorate{}, control.Refused("legion-cron forget NODE removes one that is gone", "a quorum of voters is here: %s",
				strings.Join(slices.Sorted(maps.Keys(here)), ", "))
		}
	}
	d.log.Warn("founding the cluster again, by hand", logging.Event("refound"))
	d.protocol.post(legion.Refound{})
	return b.until(ctx, func(s legion.Status) bool { return s.Electorate != nil && s.Electorate.Epoch > epoch })
}
