package legion

import "math"

// A Certificate is a message that ends an incarnation, and who must hear it
// for its thrones to be free. It may be made long before and be delivered by
// anybody: what matters is that the incarnation does nothing any more.
type Certificate struct {
	Message Message
	Voters  []string // but the node itself
	Quorum  int      // of Voters; with that many a successor can be elected
}

// Certificate returns this incarnation's own, and false before there is an
// electorate. It stands in every epoch; only Voters and Quorum change.
func (c *Core) Certificate() (Certificate, bool) {
	if c.electorate == nil {
		return Certificate{}, false
	}
	d := Certificate{Message: Message{
		Header: Header{
			Cluster: c.electorate.Cluster, Epoch: c.electorate.Epoch,
			From: c.cfg.Name, Instance: c.cfg.Instance, Incarnation: c.cfg.Incarnation,
			Seq: math.MaxUint64, // nothing comes after it
		},
		Body: Death{c.cfg.Incarnation},
	}}
	for _, v := range c.electorate.Voters {
		if v.Name != c.cfg.Name {
			d.Voters = append(d.Voters, v.Name)
		}
	}
	d.Quorum = min(c.electorate.Quorum, len(d.Voters))
	return d, true
}

// Epoch returns the electorate's, 0 before there is one.
func (c *Core) Epoch() uint64 {
	if c.electorate == nil {
		return 0
	}
	return c.electorate.Epoch
}

// Electorate returns the one this node follows, nil before there is one. It is
// not changed afterwards.
func (c *Core) Electorate() *Electorate { return c.electorate }

// Dead reports whether the incarnation has a death certificate that was
// delivered here.
func (c *Core) Dead(incarnation ID) bool { return c.dead[incarnation] }

// HeldUntil returns until when, by either clock, this node may act on what it
// began as lord of a legion. It is false once the lordship is let go.
func (c *Core) HeldUntil(legion string) (Stamp, bool) {
	l := c.lordships[legion]
	if l == nil {
		return Stamp{}, false
	}
	until, _ := c.trust(c.now, l)
	return until, true
}

// Passed reports whether the moment has come by either clock: this is how a
// holder counts. A voter counts by both.
func (n Now) Passed(s Stamp) bool { return n.held(s) >= 0 }
