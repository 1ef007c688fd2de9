package legion

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// MaxState bounds an encoded announcement, in bytes.
const MaxState = 4 << 20

// Encode writes the announcement in CBOR, behind a version byte.
func (s NodeState) Encode() ([]byte, error) {
	b, err := cbor.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode announcement: %w", err)
	}
	return append([]byte{Version}, b...), nil
}

// DecodeState reads what Encode wrote.
func DecodeState(b []byte) (NodeState, error) {
	var s NodeState
	switch {
	case len(b) == 0 || len(b) > MaxState:
		return s, fmt.Errorf("decode announcement: %d bytes", len(b))
	case b[0] != Version:
		return s, ErrVersion
	}
	if err := decoding.Unmarshal(b[1:], &s); err != nil {
		return s, fmt.Errorf("decode announcement: %w", err)
	}
	if s.Name == "" || len(s.Name) > MaxName || s.Incarnation == (ID{}) {
		return s, fmt.Errorf("decode announcement: no sender")
	}
	s.Checks = s.Checks[:min(len(s.Checks), MaxChecks)]
	return s, nil
}

// A Status is what a node knows of the protocol's state, for people to see.
type Status struct {
	Electorate *Electorate
	Voter      bool
	Trouble    string      // why this node takes no part, if so
	Nodes      []NodeState // announced, this node included, by name
	// Change says what is under way with the electorate, as far as this node
	// knows; empty: nothing.
	Change  string
	Legions []LegionStatus
}

// A LegionStatus is a node's view of one legion.
type LegionStatus struct {
	Legion string
	Lord   string // empty: none known
	Term   uint64
	Since  time.Time // of this node's own reign; zero elsewhere
	// Trusted is how long this node's own reign lasts without another answer.
	Trusted time.Duration
	Quorum  int
	Votes   int // living grants for Term that this node knows of
	// Agreed says that every voter this node knows votes for the same lord in
	// the same term and follows the same electorate.
	Agreed     bool
	Succession []string // fit candidates but the lord, best first
}

// Status returns this node's view. It changes nothing.
func (c *Core) Status(now Now) Status {
	self := c.own
	s := Status{Electorate: c.electorate, Voter: c.voter(), Trouble: c.trouble, Nodes: []NodeState{self}}
	known := map[string]bool{}
	for name := range c.cfg.Legions {
		known[name] = true
	}
	for _, p := range c.peers {
		if c.living(p) {
			s.Nodes = append(s.Nodes, p.state)
			for _, l := range p.state.Legions {
				known[l.Legion] = true
			}
		}
	}
	slices.SortFunc(s.Nodes, func(a, b NodeState) int { return compareNames(a.Name, b.Name) })
	if c.electorate == nil {
		return s
	}
	s.Change = c.changing()
	views := make([]view, len(s.Nodes))
	for i := range s.Nodes {
		views[i] = viewOf(&s.Nodes[i])
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		s.Legions = append(s.Legions, c.legionStatus(now, name, views))
	}
	return s
}

// A view is a node's announcement by legion: with a thousand legions it would
// be searched a thousand times.
type view struct {
	*NodeState
	reigns map[string]uint64 // terms
	votes  map[string]VoteFor
}

func viewOf(n *NodeState) view {
	v := view{n, make(map[string]uint64, len(n.Reigns)), make(map[string]VoteFor, len(n.Votes))}
	for _, r := range n.Reigns {
		v.reigns[r.Legion] = r.Term
	}
	for _, f := range n.Votes {
		v.votes[f.Legion] = f
	}
	return v
}

func (c *Core) legionStatus(now Now, legion string, nodes []view) LegionStatus {
	s := LegionStatus{Legion: legion, Quorum: c.quorum(legion)}
	if t := c.thrones[legion]; t != nil {
		s.Term = max(t.Term, t.told)
	}
	lord, term := "", uint64(0)
	for _, n := range nodes {
		if n.Foreign(c.electorate) {
			continue // it reigns over a legion of that name elsewhere
		}
		if of, ok := n.reigns[legion]; ok && of >= term {
			lord, term = n.Name, of
		}
	}
	// This voter may have promised a higher term: to the next lord, or to one that
	// failed. Then it is the others who know which.
	if votes, _ := c.votesFor(nodes, legion, lord, term); lord != "" && (term >= s.Term || votes >= s.Quorum) {
		s.Lord, s.Term = lord, term
	}
	if t := c.thrones[legion]; s.Lord == "" && t != nil && t.Term == s.Term && c.reignsBy(t) {
		s.Lord = t.Holder // its announcement may be half a minute away: a cut shorter than gossip notices loses it
	}
	if l := c.lordships[legion]; l != nil {
		if left, ok := c.Trusted(now, legion, l.term); ok {
			s.Lord, s.Term, s.Since, s.Trusted = c.cfg.Name, l.term, l.since.Wall, left
		}
	}
	votes, voters := c.votesFor(nodes, legion, s.Lord, s.Term)
	s.Votes = votes
	if _, member := c.cfg.Legions[legion]; !member { // its members know better
		for i := range nodes {
			if part := nodes[i].candidacy(legion); part != nil && part.Quorum > 0 {
				s.Quorum = min(s.Quorum, part.Quorum)
			}
		}
	}
	s.Agreed = s.Lord != "" && voters == len(c.electorate.Voters)
	for _, h := range c.line(legion) {
		if h.name != s.Lord {
			s.Succession = append(s.Succession, h.name)
		}
	}
	return s
}

// votesFor counts the voters that say that they vote for a lord in a term, and
// those of them that follow the same electorate.
func (c *Core) votesFor(nodes []view, legion, lord string, term uint64) (votes, same int) {
	for _, n := range nodes {
		if v, ok := n.votes[legion]; !ok || v.Name != lord || v.Term != term || !c.electorate.names(n.Name, n.Instance) {
			continue
		}
		votes++
		if n.Electorate != nil && n.Electorate.Cluster == c.electorate.Cluster && n.Electorate.Epoch == c.electorate.Epoch {
			same++
		}
	}
	return votes, same
}

// reignsBy reports whether the holder of a grant of this voter beats to it as
// the lord: the grant alone may be one of too few.
func (c *Core) reignsBy(t *throne) bool {
	o := c.holders[t.Incarnation]
	return c.voter() && c.occupied(t) && o != nil && slices.Contains(o.set, Reigning{t.Legion, t.Term})
}

// Rank returns the node's rank in a legion by its own announcement, and false
// if it does not stand there.
func (s *NodeState) Rank(legion string) (Rank, bool) { return s.rank(legion) }
