package legion

// A legion may be told to do with fewer votes than a majority ([Legion.Unsafe]):
// then every side of a split has its lord, as with uWSGI's default quorum of 1,
// and neither P1 nor P2 holds in it. What does hold:
//
//   - Within one side there is one lord. A candidate waits a beat for all voters
//     that it can reach, and one refusal for another's sake is enough to end its
//     campaign: what a quorum does elsewhere, all that are there must do here.
//   - Once the split has healed, a beat finds voters that support another. The
//     two lords compare their ranks, and the lower one gives way within a lease.
//   - The one that stays takes the other side's voters along in a new term, if
//     they have promised a higher one than its own.
//
// Whether a legion is unsafe each node takes from its own configuration; the
// electorate does not say it. Where the nodes differ, those that are told so
// can take a throne with few votes, and the others cannot.

// unsafe reports whether the legion's lord needs less than a majority.
func (c *Core) unsafe(legion string) bool {
	part := c.cfg.Legions[legion]
	return part.Unsafe && part.Quorum > 0 && part.Quorum < c.electorate.Quorum
}

// needed is how many votes of an electorate a legion's lord needs.
func (c *Core) needed(e *Electorate, legion string) int {
	part := c.cfg.Legions[legion]
	if !part.Unsafe || part.Quorum == 0 {
		return min(max(e.Quorum, part.Quorum), len(e.Voters))
	}
	return min(part.Quorum, len(e.Voters))
}

// unsafeQuorum is what is announced of it.
func (c *Core) unsafeQuorum(legion string) int {
	if part := c.cfg.Legions[legion]; part.Unsafe {
		return part.Quorum
	}
	return 0
}

// enough reports whether so many voters are for a campaign that it may go on.
// all is how many might be.
func (c *Core) enough(k *campaign, yes, all int) bool {
	return yes >= c.quorum(k.legion) && (!c.unsafe(k.legion) || yes >= all || c.due(k.patience))
}

// ends reports whether one refusal alone ends a campaign.
func (c *Core) ends(k *campaign, why Refusal) bool {
	return c.unsafe(k.legion) && (why == Occupied || why == Preferred || why == StaleTerm)
}

// contested hears from a voter that it does not support l: it has promised a
// term, to a holder whose grant lives if that is not empty.
func (c *Core) contested(l *lordship, promise uint64, holder string) {
	if l.leaving || !c.unsafe(l.legion) || holder == c.cfg.Name {
		return
	}
	switch {
	case holder != "":
		if own, ok := c.rank(l.legion); ok {
			c.send(holder, Rival{Legion: l.legion, Term: l.term, Rank: own, Of: promise}, sendOpts{})
		}
	case promise > l.term:
		l.heir = c.cfg.Name // to itself, in a higher term
		c.abandon(l.legion, "the split has healed: to be elected by all voters")
	}
}

// onRival hears from another lord of the same legion.
func (c *Core) onRival(h Header, b Rival) {
	l := c.lordships[b.Legion]
	if l == nil || l.leaving || l.term != b.Of || !c.unsafe(b.Legion) {
		return // or it is of a reign before: late, or recorded
	}
	own, ok := c.rank(b.Legion)
	if ok && own.compare(b.Rank) > 0 {
		if !b.Answer {
			c.answer(h, Rival{Legion: l.legion, Term: l.term, Rank: own, Answer: true, Of: b.Term}, sendOpts{})
		}
		return
	}
	c.abandon(l.legion, "the split has healed: "+h.From+" reigns as well, and ranks higher")
}
