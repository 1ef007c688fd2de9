package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// An era is the time for which a job of one cluster has had one timing.
type era struct {
	timing   string
	from, to time.Time // marks
}

// slotChecker knows what was promised about slots.
type slotChecker struct {
	starts   map[string]string // by cluster, slot and attempt: who
	runs     map[string]bool   // that were started
	words    map[string]map[jobs.Key]jobs.Record
	eras     map[string][]era // by cluster and job
	schedule map[string]*slots.Entry
	outcomes int
}

func (c *slotChecker) init() {
	c.starts, c.words, c.eras = map[string]string{}, map[string]map[jobs.Key]jobs.Record{}, map[string][]era{}
	c.schedule, c.runs = map[string]*slots.Entry{}, map[string]bool{}
}

// started checks P2.
func (c *checker) started(n *node, r jobs.Record) {
	c.claims++
	n.w.line("%s starts slot %v", n.conf.Name, r)
	if n.unsafe(r.Legion) {
		return
	}
	key := n.cluster() + "/" + r.Slot.String() + "#" + strconv.Itoa(r.Attempt)
	if by, ok := c.slots.starts[key]; ok {
		n.w.fail("P2: %s starts slot %s, attempt %d, which %s has started", n.conf.Name, r.Slot, r.Attempt, by)
	}
	c.slots.starts[key] = n.conf.Name
	c.slots.runs[r.Run] = true
	c.goesOn(n, r)
}

// goesOn checks that no attempt follows one that is said never to have started,
// and did. Of those before that one this node may have old news.
func (c *checker) goesOn(n *node, r jobs.Record) {
	for _, before := range n.disk.store.raw([]jobs.Slot{r.Slot}) {
		key := n.cluster() + "/" + r.Slot.String() + "#" + strconv.Itoa(before.Attempt)
		if before.Attempt == r.Attempt-1 && before.State == jobs.NeverStarted && c.slots.runs[before.Run] {
			n.w.fail("P2: %s starts %v, after attempt %d, which %s had started", n.conf.Name, r, before.Attempt, c.slots.starts[key])
		}
	}
}

// decided checks that nothing is missed that might have been run. A job without
// a past begins an era, whether or not this node hears that its mark stands.
func (c *checker) decided(n *node, a slots.Commit) {
	now := epoch.Add(n.w.now + n.clock.step + n.clock.furthest) // or it was decided before the clock was set
	for _, m := range a.Batch.Marks {
		entry := c.slots.schedule[m.Timing]
		if entry == nil {
			continue // of a pause or a command
		}
		if !entry.Schedule.Next(m.At.Add(-1)).Equal(m.At) {
			key := n.cluster() + "/" + slots.Key(m.Legion, m.Job)
			c.slots.eras[key] = append(c.slots.eras[key], era{m.Timing, m.At, m.At})
		}
	}
	for _, r := range a.Batch.Records {
		if r.State != jobs.Missed || r.Reason == "superseded" || r.Node != n.conf.Name { // or it is said once more
			continue
		}
		last := r.At
		if r.Count > 1 {
			last = r.To
		}
		for _, j := range n.jobs {
			if j.Legion == r.Legion && j.Name == r.Job && j.CatchUp > 0 && now.Sub(last) < j.CatchUp {
				n.w.fail("P3: %s misses %v %v after it was due, with catch_up = %v", n.conf.Name, r, now.Sub(last), j.CatchUp)
			}
		}
	}
}

// acknowledged takes note of what must not be lost any more.
func (c *checker) acknowledged(n *node, b jobs.Batch) {
	cluster := n.cluster()
	words := c.slots.words[cluster]
	if words == nil {
		words = map[jobs.Key]jobs.Record{}
		c.slots.words[cluster] = words
	}
	for _, r := range b.Records {
		if old, ok := words[r.Key()]; ok {
			r = jobs.Merge(old, r)
		}
		words[r.Key()] = r.Normal()
	}
	for _, m := range b.Marks {
		key := cluster + "/" + slots.Key(m.Legion, m.Job)
		all := c.slots.eras[key]
		if len(all) == 0 || all[len(all)-1].timing != m.Timing {
			all = append(all, era{timing: m.Timing, from: m.At, to: m.At})
		}
		last := &all[len(all)-1]
		if m.At.After(last.to) {
			last.to = m.At
		}
		c.believed(n, m)
		c.slots.eras[key] = all
	}
	for _, r := range b.Records {
		c.tooSoon(n, r)
	}
}

// kept checks P10 after a crash: what was acknowledged is on some disk.
func (c *checker) kept(w *World) {
	if w.wiped {
		return
	}
	for cluster, words := range c.slots.words {
		for key, word := range words {
			if !slices.ContainsFunc(w.nodes, func(n *node) bool {
				got, ok := n.disk.store.records[key]
				return ok && jobs.Merge(got, word) == got && (n.cluster() == cluster || cluster == "") // whose electorate was not on disk
			}) {
				w.fail("P10: %v was acknowledged, and is on no disk", word)
			}
		}
	}
}

// doubt notices that so many clocks were set forward that a quorum may have been
// among them.
func (c *checker) doubt(w *World) {
	ahead := 0
	for _, n := range w.nodes {
		if n.clock.furthest > 0 {
			ahead++
		}
	}
	for _, e := range c.records {
		c.silenced = c.silenced || ahead >= e.Quorum
	}
}

// believed checks that a quorum might believe what time it is by a mark that
// stands: one that is far ahead silences its job.
func (c *checker) believed(n *node, m jobs.Mark) {
	e := n.core.Electorate()
	if e == nil || c.silenced || n.w.unsafe(m.Legion) {
		return
	}
	k := 0
	for _, o := range n.w.nodes {
		if !m.At.After(epoch.Add(n.w.now + o.clock.step + o.clock.furthest + legion.MaxAhead)) {
			k++
		}
	}
	if k < e.Quorum {
		n.w.fail("P3: %s sets the mark of %s/%s to %v, which is ahead of the clocks of all nodes but %d", n.conf.Name, m.Legion, m.Job, m.At, k)
	}
}

// tooSoon checks that nothing is written off before its time by a clock that
// was set forward.
func (c *checker) tooSoon(n *node, r jobs.Record) {
	if c.silenced || r.State != jobs.Missed || r.Reason == "superseded" || n.w.unsafe(r.Legion) {
		return
	}
	last := r.At
	if r.Count > 1 {
		last = r.To
	}
	late := epoch.Add(n.w.now + today + n.w.apart + legion.MaxAhead).Sub(last)
	for _, j := range n.w.jobs {
		if j.Legion == r.Legion && j.Name == r.Job && late < j.CatchUp {
			n.w.fail("P3: %s misses %v %v after it was due at most, with catch_up = %v", n.conf.Name, r, late, j.CatchUp)
		}
	}
}

// learn remembers what schedules there are.
func (c *slotChecker) learn(entries map[string]*slots.Entry) {
	for _, e := range entries {
		c.schedule[e.Timing()] = e
	}
}

// ledgers merges what the nodes of each cluster have written, as a question for
// history does: a node that has lost its vote may be the only one to remember.
func (w *World) ledgers() map[string]*store {
	all := map[string]*store{}
	for _, n := range w.nodes {
		c := n.cluster()
		if c == "" {
			continue
		}
		if all[c] == nil {
			all[c] = newStore()
		}
		for _, r := range n.disk.store.records {
			all[c].merge(jobs.Batch{Records: []jobs.Record{r}})
		}
		for _, m := range n.disk.store.marks {
			all[c].merge(jobs.Batch{Marks: []jobs.Mark{m}})
		}
	}
	return all
}

// slotsSettled waits until every slot must have its outcome, and checks P3 and
// P10. Where a disk was lost nothing is promised of history.
func (w *World) slotsSettled() error {
	if w.wiped || len(w.jobs) == 0 {
		return w.failed
	}
	if err := w.Run(w.now + lostAfter + noticeMax + rejoinMax); err != nil {
		return err
	}
	for cluster, s := range w.ledgers() {
		if problem := w.settled(cluster, s); problem != "" {
			w.fail("%s", problem)
		}
	}
	return w.failed
}

// recent is how young a slot may be that has not ended.
const recent = 8 * time.Second

func (w *World) settled(cluster string, s *store) string {
	for _, key := range slices.SortedFunc(maps.Keys(w.check.slots.words[cluster]), jobs.Key.Compare) {
		word := w.check.slots.words[cluster][key]
		if w.unsafe(word.Legion) {
			continue
		}
		if got, ok := s.records[key]; !ok || jobs.Merge(got, word) != got {
			return fmt.Sprintf("P10: %v was acknowledged, and there is %v", word, got)
		}
	}
	for _, r := range s.standing(slices.Collect(maps.Values(s.records))) {
		old := today+w.now-r.Scheduled.Sub(epoch) > recent+w.apart
		_, promised := w.check.slots.words[cluster][r.Key()]
		refused := r.State == jobs.Queued && !promised // and waits where it was written: see slots/stale.go
		if (r.Manual || r.Job == command) && !r.State.Settled() && old && !refused && !w.underWay(r) && !w.unsafe(r.Legion) {
			return fmt.Sprintf("P3: what was asked for by hand has no outcome: %v", r)
		}
	}
	for _, j := range w.jobs {
		if w.unsafe(j.Legion) {
			continue // every side of a split decided for itself
		}
		key := cluster + "/" + slots.Key(j.Legion, j.Name)
		mark := s.marks[jobs.MarkKey{Legion: j.Legion, Job: j.Name}]
		what := map[time.Time][]jobs.Record{}
		var rows []jobs.Record
		for _, r := range s.all(j.Legion, j.Name) {
			if r.Count > 1 {
				rows = append(rows, r)
			} else {
				what[r.At] = append(what[r.At], r)
			}
		}
		eras := w.check.slots.eras[key]
		for i, e := range eras {
			entry := w.check.slots.schedule[e.timing]
			if i == len(eras)-1 && e.timing == mark.Timing && mark.At.After(e.to) {
				e.to = mark.At
			}
			for at := entry.Schedule.Next(e.from); !at.After(e.to); at = entry.Schedule.Next(at) {
				outcome := slices.Clone(what[at.UTC()])
				for _, row := range rows {
					if !at.Before(row.At) && !at.After(row.To) {
						outcome = append(outcome, row)
					}
				}
				if problem := w.outcome(outcome, e.to.Sub(at) < recent); problem != "" {
					return fmt.Sprintf("P3: %s/%s@%v: %s: %v", j.Legion, j.Name, at.Format(time.TimeOnly), problem, outcome)
				}
				w.check.slots.outcomes++
			}
		}
		if lord := w.lord(j.Legion, cluster); lord != nil && mark.Timing == j.Timing() && lord.wall().Sub(mark.At) > recent {
			return fmt.Sprintf("P3: %s decides nothing about %s/%s since %v", lord.conf.Name, j.Legion, j.Name, mark.At.Format(time.TimeOnly))
		}
	}
	return ""
}

// unsafe reports whether some node needs less than a majority for a legion.
func (w *World) unsafe(l string) bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool { return n.conf.Legions[l].Unsafe })
}

// underWay reports whether the run of r lives, or its slot waits for its turn, or
// has it this moment while others wait: all may take long.
func (w *World) underWay(r jobs.Record) bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool {
		waits := func() bool {
			return slices.ContainsFunc(n.slots.Jobs(), func(v slots.View) bool { return v.Legion == r.Legion && v.Name == r.Job && v.Queued > 0 })
		}
		switch {
		case !n.up:
			return false
		case n.runs[r.Run] != nil:
			return true
		case r.State == jobs.Queued:
			return n.trusted(r.Legion) && waits()
		default:
			return r.State == jobs.Claimed && r.Node == n.conf.Name && n.trustedIn(r.Legion, r.Term) && (w.check.silenced || waits())
		}
	})
}

// outcome says what is wrong with what became of a slot.
func (w *World) outcome(recs []jobs.Record, young bool) string {
	if len(recs) == 0 {
		return "no outcome"
	}
	attempts := map[int]int{}
	for _, r := range recs {
		attempts[r.Attempt]++
		if !r.State.Settled() && !young && !w.underWay(r) {
			return "not settled"
		}
	}
	for n, times := range attempts {
		if times > 1 || n == 0 && len(attempts) > 1 {
			return "more than one outcome"
		}
	}
	return ""
}
