package legion

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A Rank orders the candidates of a legion: higher effective valor first,
// then the higher tie-break.
type Rank struct {
	Effective int `cbor:"1,keyasint"`
	// Tie is UUIDv5 of instance and legion: stable over restarts, and ties of
	// many legions spread over the nodes.
	Tie ID `cbor:"2,keyasint"`
	// Held ranks a flapping candidate behind all others (it is not unfit).
	Held bool `cbor:"3,keyasint,omitempty"`
	// Load is how many lordships its node holds in all, and Seq the latest
	// announcement that does not know it yet. They do not order anything: a
	// rank that comes with a request is newer than gossip.
	Load int    `cbor:"4,keyasint,omitempty"`
	Seq  uint64 `cbor:"5,keyasint,omitempty"`
}

// compare returns a positive number if r is the better rank.
func (r Rank) compare(o Rank) int {
	if r.Held != o.Held {
		if o.Held {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(r.Effective, o.Effective), bytes.Compare(r.Tie[:], o.Tie[:]))
}

func tie(instance ID, legion string) ID { return uuid.NewSHA1(instance, []byte(legion)) }

// A NodeState is what a node announces of itself. It travels by gossip, which
// may lose, repeat and reorder it: Seq says which of two is newer. It is a
// hint for choosing well, never a ground for safety.
type NodeState struct {
	Name        string `cbor:"1,keyasint"`
	Instance    ID     `cbor:"2,keyasint"`
	Incarnation ID     `cbor:"3,keyasint"`
	Seq         uint64 `cbor:"4,keyasint"` // newer announcements of an incarnation have higher ones
	Software    string `cbor:"5,keyasint,omitempty"`

	// Willing to be a voter of a new electorate of Size.
	Willing bool `cbor:"6,keyasint,omitempty"`
	Size    int  `cbor:"7,keyasint,omitempty"`
	// Electorate that this node follows, if any.
	Electorate *Electorate `cbor:"8,keyasint,omitempty"`

	Legions []Candidacy `cbor:"9,keyasint,omitempty"`
	Reigns  []Reigning  `cbor:"10,keyasint,omitempty"`
	// Votes are this voter's living grants, for people to see.
	Votes []VoteFor `cbor:"11,keyasint,omitempty"`
	// Wall is the sender's time of day in Unix milliseconds at Seq.
	Wall int64 `cbor:"12,keyasint,omitempty"`
	// Starts is how often the instance has been started; see [Started].
	Starts uint64 `cbor:"20,keyasint,omitempty"`
	// Ended says how the node's latest reigns ended, for people to see: one of each
	// legion in which it does not reign, and only for a minute or so.
	Ended []Ended `cbor:"21,keyasint,omitempty"`
	// Checks of the node, for people to see; the first MaxChecks of them.
	Checks []Check `cbor:"13,keyasint,omitempty"`
}

// MaxChecks is how many checks a node announces. It counts the rest in
// [Legion.Weight] and [Legion.Unfit] all the same.
const MaxChecks = 64

// A Check is what one health check of a node says.
type Check struct {
	Name  string `cbor:"1,keyasint"`
	State string `cbor:"2,keyasint"` // unknown, passing, failing
	// Valor is what it weighs at this moment, Veto that it makes the node unfit.
	Valor int  `cbor:"3,keyasint,omitempty"`
	Veto  bool `cbor:"4,keyasint,omitempty"`
	// Legions whose valor it changes; none: all of the node's.
	Legions []string `cbor:"5,keyasint,omitempty"`
	Reason  string   `cbor:"6,keyasint,omitempty"` // of its last change, in one line
}

// Of reports whether the check concerns a legion.
func (c Check) Of(legion string) bool {
	return len(c.Legions) == 0 || slices.Contains(c.Legions, legion)
}

// A Candidacy is a node's standing in one legion.
type Candidacy struct {
	Legion string `cbor:"1,keyasint"`
	Valor  int    `cbor:"2,keyasint"` // as configured; 0: an arbiter
	Weight int    `cbor:"3,keyasint,omitempty"`
	Fit    bool   `cbor:"4,keyasint,omitempty"`
	Held   bool   `cbor:"5,keyasint,omitempty"`
	Spread bool   `cbor:"6,keyasint,omitempty"` // lordships elsewhere count against it
	Jobs   []byte `cbor:"7,keyasint,omitempty"` // hash of the legion's job set
	Scroll []byte `cbor:"8,keyasint,omitempty"`
	// Why it is not fit, and what was told by hand, for people to see.
	Why  string `cbor:"9,keyasint,omitempty"`
	Told string `cbor:"10,keyasint,omitempty"`
	// Quorum is how many votes do, if that may be less than a majority.
	Quorum int `cbor:"11,keyasint,omitempty"`
}

// An Ended is a reign that is over.
type Ended struct {
	Legion string `cbor:"1,keyasint"`
	Term   uint64 `cbor:"2,keyasint"`
	Why    string `cbor:"3,keyasint,omitempty"`
}

// endedKept is for how long it is announced how a reign ended.
const endedKept = time.Minute

// maxBrief bounds what is announced for people to see, in bytes.
const maxBrief = 256

func brief(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxBrief)], "") }

// A VoteFor is one living grant.
type VoteFor struct {
	Legion string `cbor:"1,keyasint"`
	Term   uint64 `cbor:"2,keyasint"`
	Name   string `cbor:"3,keyasint"`
}

// Foreign reports whether the node follows another cluster than that of e: it can
// neither take a throne there nor be in the way of somebody who does. Where either
// is not known it is not foreign.
func (s *NodeState) Foreign(e *Electorate) bool {
	return s.Electorate != nil && e != nil && s.Electorate.Cluster != e.Cluster
}

// sort puts the lists in order of their legions, as its sender should have
// done. It changes nothing in place.
func (s *NodeState) sort() {
	if order := (func(a, b Candidacy) int { return compareNames(a.Legion, b.Legion) }); !slices.IsSortedFunc(s.Legions, order) {
		s.Legions = slices.SortedFunc(slices.Values(s.Legions), order)
	}
	if order := (func(a, b Reigning) int { return compareNames(a.Legion, b.Legion) }); !slices.IsSortedFunc(s.Reigns, order) {
		s.Reigns = slices.SortedFunc(slices.Values(s.Reigns), order)
	}
}

// candidacy returns the node's standing in a legion, nil if it has none.
func (s *NodeState) candidacy(legion string) *Candidacy {
	i, ok := slices.BinarySearchFunc(s.Legions, legion, func(c Candidacy, legion string) int { return compareNames(c.Legion, legion) })
	if !ok {
		return nil
	}
	return &s.Legions[i]
}

// reigns reports whether the node says that it is lord of a legion.
func (s *NodeState) reigns(legion string) bool {
	_, ok := slices.BinarySearchFunc(s.Reigns, legion, func(r Reigning, legion string) int { return compareNames(r.Legion, legion) })
	return ok
}

// load is how many lordships the node says that it holds.
func (s *NodeState) load() int {
	if s.reigns(ClusterLegion) {
		return len(s.Reigns) - 1
	}
	return len(s.Reigns)
}

// rank returns the node's rank in a legion, and false if it is no candidate.
func (s *NodeState) rank(legion string) (Rank, bool) {
	c := s.candidacy(legion)
	if c == nil || !c.Fit || c.Valor <= 0 {
		return Rank{}, false
	}
	return c.rank(s.load(), s.reigns(legion), tie(s.Instance, legion)), true
}

// rank is the candidacy's with that many lordships, its own legion's among
// them or not.
func (c *Candidacy) rank(load int, reigns bool, tie ID) Rank {
	r := Rank{Effective: c.bare(), Tie: tie, Held: c.Held, Load: load}
	if !c.Spread || c.Legion == ClusterLegion {
		return r
	}
	r.Effective -= load
	if reigns {
		r.Effective++
	}
	return r
}

// bare is the valor without what is held elsewhere.
func (c *Candidacy) bare() int { return c.Valor + c.Weight }
