package legion

import (
	"maps"
	"slices"
	"time"
)

// A refill is how a voter becomes whole in an epoch: it merges what so many
// voters of the epoch before had promised and taken that no quorum could do
// without them, each read after that voter turned its back on that epoch.
type refill struct {
	sent  map[uint64]string
	from  map[string]Standing // by voter of the epoch before
	next  Stamp
	full  Stamp // when the last of them answered
	asked bool  // the shell was asked to merge
	again Stamp // when all is begun anew, if it has not
	done  bool  // and has
}

// mergePatience is how long the shell may take to merge, at least. Less asks
// other voters sooner if one has gone meanwhile, more spares a slow disk.
const mergePatience = 10 * time.Second

// isWhole reports whether this voter holds all that was promised and taken in
// the epochs before.
func (c *Core) isWhole() bool { return c.electorate.Prior == nil || c.whole == c.electorate.Epoch }

// refilling reports whether there is something to do to become whole.
func (c *Core) refilling() bool {
	return c.electorate != nil && c.voter() && !c.isWhole() && c.durable >= c.adopted && c.trouble == "" && !c.stopping
}

// makeWhole asks the voters of the epoch before, and finishes once their
// answers are merged and every lease of that epoch has ended.
func (c *Core) makeWhole() {
	if !c.refilling() || !c.due(c.refill.next) {
		return
	}
	r, p := &c.refill, c.electorate.Prior
	r.next = c.in(c.beatEvery())
	need := p.enough()
	if slices.Contains(p.Voters, Voter{c.cfg.Name, c.cfg.Instance}) {
		need-- // its own word
	}
	if r.from == nil {
		r.from, r.sent, r.full = map[string]Standing{}, map[uint64]string{}, c.now.Stamp()
	}
	switch {
	case len(r.from) < need:
		for _, v := range p.Voters {
			if _, ok := r.from[v.Name]; !ok && v.Name != c.cfg.Name {
				r.sent[c.send(v.Name, Read{}, sendOpts{})] = v.Name
			}
		}
		if len(r.sent) > answersKept {
			clear(r.sent)
		}
	case len(r.from) == 0:
		r.done = true
		fallthrough
	case r.done:
		if c.now.since(r.full) >= share(c.electorate.longest(), restartShare) {
			c.becomeWhole()
		}
	case r.asked && c.due(r.again): // of other voters, perhaps
		*r = refill{}
	case !r.asked:
		states := map[string][]LegionState{}
		for name, s := range r.from {
			states[name] = s.States
		}
		r.asked, r.again = true, c.in(max(2*c.lease(), mergePatience))
		c.do(Merge{Epoch: c.electorate.Epoch, States: states})
	}
}

// onRead answers with all that this node promised and took. It is of the
// asker's epoch by now, so that nothing of an older one can follow.
func (c *Core) onRead(h Header) {
	if c.disowned {
		return // it does not remember all
	}
	s := Standing{}
	for _, name := range slices.Sorted(maps.Keys(c.thrones)) {
		if t := c.thrones[name]; t.Term > 0 { // to somebody, or to nobody: see raise
			s.Promises = append(s.Promises, t.Grant)
		}
	}
	c.answer(h, s, sendOpts{after: c.persist, attach: true})
}

func (c *Core) onStanding(h Header, b Standing) {
	r, p := &c.refill, c.electorate.Prior
	if c.isWhole() || p == nil || r.from == nil || r.asked || r.sent[h.Echo] != h.From || !slices.Contains(p.Voters, Voter{h.From, h.Instance}) {
		return
	}
	r.from[h.From] = b
	r.full, r.next = c.now.Stamp(), c.now.Stamp()
}

func (c *Core) merged(epoch uint64) {
	if c.electorate != nil && epoch == c.electorate.Epoch && c.refill.asked {
		c.refill.done, c.refill.next = true, c.now.Stamp()
	}
}

// becomeWhole takes over the promises, so that a term that was promised before
// still fences the older ones.
func (c *Core) becomeWhole() {
	highest := map[string]Grant{}
	for _, voter := range slices.Sorted(maps.Keys(c.refill.from)) { // a term may have been promised to two
		for _, g := range c.refill.from[voter].Promises {
			if g.Term > highest[g.Legion].Term {
				highest[g.Legion] = g
			}
		}
	}
	w := Persist{Whole: c.electorate.Epoch}
	var raised []*throne
	for _, name := range slices.Sorted(maps.Keys(highest)) {
		if t := c.throne(name); t != nil && highest[name].Term > t.Term {
			c.raise(t, highest[name])
			w.Grants = append(w.Grants, t.Grant)
			raised = append(raised, t)
		}
	}
	seq := c.write(w)
	for _, t := range raised {
		t.written = seq
	}
	c.whole, c.refill = c.electorate.Epoch, refill{}
	c.note(Note{Event: "whole", Text: "holds all that was promised and written in the epochs before"})
}

// raise makes a promise that another voter gave this one's own. It ends no
// grant: while one lasts the new promise is to nobody, for its holder has no
// more right to the throne than any other.
func (c *Core) raise(t *throne, g Grant) {
	if c.occupied(t) {
		g.Holder, g.Instance, g.Incarnation, g.Lease = "", ID{}, ID{}, t.Lease
	} else {
		t.live = false
	}
	t.Grant, t.seq, t.release = g, 0, 0
	c.changed = true
}
