package legion

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// A Founding is a proposal for the first electorate. It stands when every
// voter it names has accepted it, durably. The proposer accepts last, so its
// own acceptance is the moment of decision, and until then it can still refuse.
//
// Two foundings that share a voter cannot both stand: a voter that accepted
// one takes another only if that has a higher number and says that one of the
// first one's voters has refused it for good. Two that share none are two
// clusters, which never merge.
type Founding struct {
	N          uint64     `cbor:"1,keyasint"`
	Proposer   string     `cbor:"2,keyasint"`
	Electorate Electorate `cbor:"3,keyasint"`
}

// A FoundingState is what a node has durably said about foundings while it has
// no electorate.
type FoundingState struct {
	Accepted *Founding `cbor:"1,keyasint,omitempty"`
	// Refused lists foundings that name this node and will never have its yes.
	Refused []ID `cbor:"2,keyasint,omitempty"`
}

// maxRefused bounds the list; a cluster is founded once, and rivals are few. A
// node that has refused so many refuses no more, and forgets none.
const maxRefused = 64

// maxRivals bounds the foundings in the way of one's own.
const maxRivals = 8

// A founding is a node's part in the foundings under way.
type founding struct {
	FoundingState
	mine    *Founding       // proposed by this node and not yet accepted by it
	acks    map[string]bool // of mine
	rivals  []Founding      // that stand in the way of mine
	dead    []ID            // rivals known to be refused
	highest uint64
	next    Stamp
	foreign []ID // clusters complained about, the latest last
}

// found proposes a founding, carries on with one, and decides it.
func (c *Core) found() {
	f := &c.founding
	if c.electorate != nil || !c.due(f.next) || c.stopping {
		return
	}
	f.next = c.in(c.cfg.Beat)
	switch {
	case f.mine != nil:
		c.carryOn()
	case f.Accepted != nil:
		// Its proposer decides. Ask the others whether it has.
		for _, v := range f.Accepted.Electorate.Voters {
			if v.Name != c.cfg.Name {
				c.send(v.Name, Found{Proposal: *f.Accepted, Dead: f.dead}, sendOpts{})
			}
		}
		f.next = c.in(4 * c.cfg.Beat)
	case c.cfg.Vote:
		c.proposeFounding()
	}
}

// proposeFounding proposes the first Size willing nodes by name, if this node
// is the first of them.
func (c *Core) proposeFounding() {
	voters := []Voter{{c.cfg.Name, c.cfg.Instance}}
	for name, p := range c.peers {
		s := &p.state
		if c.living(p) && s.Willing && s.Electorate == nil && s.Size == c.cfg.Size {
			voters = append(voters, Voter{name, s.Instance})
		}
	}
	slices.SortFunc(voters, func(a, b Voter) int { return strings.Compare(a.Name, b.Name) })
	if len(voters) < c.cfg.Size || voters[0].Name != c.cfg.Name {
		return
	}
	voters = voters[:c.cfg.Size]
	f := &c.founding
	f.highest++
	f.acks = map[string]bool{}
	f.mine = &Founding{N: f.highest, Proposer: c.cfg.Name, Electorate: Electorate{
		Cluster: c.newID(), Epoch: 1, Voters: voters, Quorum: majority(len(voters)),
		Beat: c.cfg.Beat, Lease: c.cfg.Lease, Base: uint64(max(c.now.Wall.Unix(), 1)), Size: c.cfg.Size,
	}}
	c.carryOn()
}

// carryOn asks those that have not answered, and decides when all others have.
func (c *Core) carryOn() {
	f := &c.founding
	missing := 0
	for _, v := range f.mine.Electorate.Voters {
		if v.Name == c.cfg.Name || f.acks[v.Name] {
			continue
		}
		missing++
		if p := c.peers[v.Name]; p == nil || !c.living(p) || p.state.Instance != v.Instance {
			c.dropMine() // it is gone; propose others
			return
		}
		c.send(v.Name, Found{Proposal: *f.mine, Dead: f.dead}, sendOpts{})
	}
	if missing > 0 {
		return
	}
	e := f.mine.Electorate
	c.note(Note{Event: "founded", Text: fmt.Sprintf("cluster %s with voters %s", e.Cluster, names(e.Voters))})
	c.adopt(&e)
	for _, v := range e.Voters {
		if v.Name != c.cfg.Name {
			c.send(v.Name, Committed{e}, sendOpts{after: c.persist})
		}
	}
}

// dropMine gives up this node's own proposal. That needs no write: without it
// in memory this node never accepts it, so that it can never stand.
func (c *Core) dropMine() { c.founding.mine, c.founding.acks = nil, nil }

func (c *Core) writeFounding() uint64 {
	f := &c.founding
	s := FoundingState{Accepted: f.Accepted, Refused: slices.Clone(f.Refused)}
	return c.write(Persist{Founding: &s})
}

func (c *Core) onFound(h Header, b Found) {
	f, p := &c.founding, b.Proposal
	if c.electorate != nil {
		c.answer(h, Committed{*c.electorate}, sendOpts{after: c.persist})
		if c.electorate.Cluster != p.Electorate.Cluster {
			c.answer(h, FoundAck{Cluster: p.Electorate.Cluster}, sendOpts{after: c.persist})
		}
		return
	}
	f.highest = max(f.highest, p.N)
	if f.mine != nil && f.mine.Electorate.Cluster == p.Electorate.Cluster {
		return // somebody asks what became of it: it is not decided
	}
	if !p.Electorate.names(c.cfg.Name, c.cfg.Instance) || slices.Contains(f.Refused, p.Electorate.Cluster) || p.Proposer == c.cfg.Name {
		c.answer(h, FoundAck{Cluster: p.Electorate.Cluster}, sendOpts{after: c.persist})
		return
	}
	if f.mine != nil {
		if c.cfg.Name < p.Proposer {
			c.answer(h, FoundAck{Cluster: p.Electorate.Cluster, Rival: f.mine}, sendOpts{})
			return
		}
		c.dropMine()
	}
	switch a := f.Accepted; {
	case a == nil:
	case a.Electorate.Cluster == p.Electorate.Cluster:
	case p.N > a.N && slices.Contains(b.Dead, a.Electorate.Cluster):
	default:
		c.answer(h, FoundAck{Cluster: p.Electorate.Cluster, Rival: a}, sendOpts{})
		return
	}
	if f.Accepted == nil || f.Accepted.Electorate.Cluster != p.Electorate.Cluster {
		f.Accepted = &p
		c.writeFounding()
	}
	c.answer(h, FoundAck{Cluster: p.Electorate.Cluster, Accepted: true}, sendOpts{after: c.persist})
}

func (c *Core) onFoundAck(h Header, b FoundAck) {
	f := &c.founding
	if c.electorate != nil {
		return
	}
	if a := f.Accepted; a != nil && a.Electorate.Cluster == b.Cluster {
		if !b.Accepted && b.Rival == nil && a.Electorate.names(h.From, h.Instance) {
			f.Accepted = nil // one that it needs has refused it for good
			c.buried(b.Cluster)
			c.writeFounding()
		}
		return
	}
	if f.mine == nil || f.mine.Electorate.Cluster != b.Cluster || !f.mine.Electorate.names(h.From, h.Instance) {
		return
	}
	switch {
	case b.Accepted:
		f.acks[h.From] = true
		f.next = c.now.Stamp()
	case b.Rival == nil:
		c.dropMine() // refused for good: it can never stand
	case b.Rival.Electorate.names(c.cfg.Name, c.cfg.Instance) && b.Rival.Proposer < c.cfg.Name:
		f.highest = max(f.highest, b.Rival.N)
		c.dropMine() // the rival's proposer comes first, and will ask
	default:
		f.highest = max(f.highest, b.Rival.N)
		if f.rival(b.Rival.Electorate.Cluster) == nil {
			f.rivals = append(f.rivals[max(0, len(f.rivals)-maxRivals+1):], *b.Rival)
		}
		for _, v := range b.Rival.Electorate.Voters {
			c.send(v.Name, Refuse{b.Rival.Electorate.Cluster}, sendOpts{})
		}
	}
}

func (c *Core) onRefuse(h Header, b Refuse) {
	f := &c.founding
	if c.electorate != nil {
		if c.electorate.Cluster == b.Cluster {
			c.answer(h, Committed{*c.electorate}, sendOpts{after: c.persist})
		} else {
			c.answer(h, RefuseAck{b.Cluster, true}, sendOpts{after: c.persist})
		}
		return
	}
	if f.Accepted != nil && f.Accepted.Electorate.Cluster == b.Cluster {
		return // too late: it may stand
	}
	if f.mine != nil && f.mine.Electorate.Cluster == b.Cluster {
		c.dropMine()
	} else if !slices.Contains(f.Refused, b.Cluster) {
		if len(f.Refused) >= maxRefused {
			return // to forget one would be to take back a word that others went by
		}
		f.Refused = append(f.Refused, b.Cluster)
		c.writeFounding()
	}
	c.answer(h, RefuseAck{b.Cluster, true}, sendOpts{after: c.persist})
}

// onRefuseAck counts the word of a voter whom the rival names. Another node of
// that voter's name, one that lost its disk, does not know what was accepted.
func (c *Core) onRefuseAck(h Header, b RefuseAck) {
	f := &c.founding
	r := f.rival(b.Cluster)
	if c.electorate != nil || !b.Refused || r == nil || !r.Electorate.names(h.From, h.Instance) || slices.Contains(f.dead, b.Cluster) {
		return
	}
	c.buried(b.Cluster)
	if f.mine != nil {
		// The same record under a higher number: nobody who refused it is asked
		// to think again, and those who could not drop the rival now can.
		f.highest++
		f.mine.N = f.highest
		f.next = c.now.Stamp()
	}
}

// rival returns what is known of a founding in the way of this node's own.
func (f *founding) rival(cluster ID) *Founding {
	i := slices.IndexFunc(f.rivals, func(r Founding) bool { return r.Electorate.Cluster == cluster })
	if i < 0 {
		return nil
	}
	return &f.rivals[i]
}

// buried notes that a founding can never stand.
func (c *Core) buried(cluster ID) {
	f := &c.founding
	f.dead = append(f.dead[max(0, len(f.dead)-maxRefused+1):], cluster)
}

// ForeignHelp says what to do about two clusters that hear each other. They do not
// merge: each has promised and decided on its own. Nodes that ran alone before they
// had a cluster have founded one each.
const ForeignHelp = "they do not merge, and each runs the jobs of its legions; if they belong together, stop the agents of one, " +
	"move their state directories away and start them again; if not, give them other keys"

// learn takes an electorate that stands. A node that has accepted a founding
// which might still stand elsewhere takes no other: only if the two share a
// voter is it certain that its own never stood.
func (c *Core) learn(e *Electorate) {
	f := &c.founding
	switch {
	case c.electorate != nil && c.electorate.Cluster == e.Cluster:
		if e.Epoch > c.electorate.Epoch {
			c.adopt(e)
		}
	case c.electorate != nil:
		if !slices.Contains(f.foreign, e.Cluster) {
			f.foreign = append(f.foreign[max(0, len(f.foreign)-maxRefused+1):], e.Cluster)
			c.note(Note{Event: "foreign", Warn: true, Text: fmt.Sprintf("nodes of another cluster are here, %s with voters %s; this one is %s: %s",
				e.Cluster, names(e.Voters), c.electorate.Cluster, ForeignHelp)})
		}
	case f.Accepted != nil && f.Accepted.Electorate.Cluster != e.Cluster && !share1(f.Accepted.Electorate.Voters, e.Voters):
		return
	default:
		c.note(Note{Event: "founded", Text: fmt.Sprintf("follows cluster %s with voters %s", e.Cluster, names(e.Voters))})
		c.adopt(e)
	}
}

// adopt makes e the electorate of this node. It is durable before anybody is
// told of it, and before any vote given under it, which is a later write.
func (c *Core) adopt(e *Electorate) {
	old := c.electorate
	c.electorate = e
	c.founding.FoundingState = FoundingState{}
	c.founding.mine = nil
	c.adopted = c.write(Persist{Electorate: e, Founding: &FoundingState{}, Starts: c.startsOfVoters()})
	c.changed, c.look = true, true
	for _, name := range slices.Sorted(maps.Keys(c.campaigns)) {
		c.withdraw(c.campaigns[name])
	}
	c.turnOver(old)
}

// newID returns a random ID.
func (c *Core) newID() ID {
	id, err := uuid.NewRandomFromReader(randReader{c})
	if err != nil {
		panic(err) // the reader below never fails
	}
	return id
}

type randReader struct{ c *Core }

func (r randReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.c.rng.Uint32())
	}
	return len(b), nil
}

var _ io.Reader = randReader{}

func share1(a, b []Voter) bool {
	return slices.ContainsFunc(a, func(v Voter) bool { return slices.Contains(b, v) })
}

func names(vs []Voter) string {
	var s []string
	for _, v := range vs {
		s = append(s, v.Name)
	}
	return strings.Join(s, " ")
}
