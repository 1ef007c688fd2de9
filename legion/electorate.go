package legion

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// An ID names a cluster, an instance (made with a state directory) or an
// incarnation (made at each start). The zero ID names nothing.
type ID = uuid.UUID

// MaxVoters is the largest electorate. Every lord writes to and beats for
// every voter, so more voters cost traffic and buy little.
const MaxVoters = 7

// A Voter is a node as the electorate names it. A node of the same name with
// another instance is not that voter: its memory is not that voter's memory.
type Voter struct {
	Name     string `cbor:"1,keyasint"`
	Instance ID     `cbor:"2,keyasint"`
}

// An Electorate is the committed record of who votes. There is one for the
// whole cluster; it is a value and never changed in place.
type Electorate struct {
	Cluster ID            `cbor:"1,keyasint"`
	Epoch   uint64        `cbor:"2,keyasint"`
	Voters  []Voter       `cbor:"3,keyasint"` // by name
	Quorum  int           `cbor:"4,keyasint"` // more than half of the voters
	Beat    time.Duration `cbor:"5,keyasint"`
	Lease   time.Duration `cbor:"6,keyasint"`
	// Base is the Unix time in seconds at the founding. Terms begin above it,
	// so that they grow even where every disk was lost in between.
	Base uint64 `cbor:"7,keyasint"`
}

// majority is the smallest number that is more than half of n.
func majority(n int) int { return n/2 + 1 }

// Check returns an error if the record cannot be safe or is not well formed.
func (e *Electorate) Check() error {
	switch {
	case e.Cluster == ID{}:
		return fmt.Errorf("check electorate: no cluster id")
	case e.Epoch == 0:
		return fmt.Errorf("check electorate: no epoch")
	case len(e.Voters) == 0 || len(e.Voters) > MaxVoters:
		return fmt.Errorf("check electorate: %d voters, want 1 to %d", len(e.Voters), MaxVoters)
	case e.Quorum < majority(len(e.Voters)) || e.Quorum > len(e.Voters):
		return fmt.Errorf("check electorate: quorum %d of %d voters", e.Quorum, len(e.Voters))
	case e.Beat <= 0 || share(e.Lease, holderShare) < 3*e.Beat:
		return fmt.Errorf("check electorate: lease %v is too short for beat %v", e.Lease, e.Beat)
	}
	for i, v := range e.Voters {
		if v.Name == "" || v.Instance == (ID{}) || i > 0 && e.Voters[i-1].Name >= v.Name {
			return fmt.Errorf("check electorate: bad voter %q", v.Name)
		}
	}
	return nil
}

// names reports whether the record names the node (name, instance) a voter.
func (e *Electorate) names(name string, instance ID) bool {
	return e != nil && slices.Contains(e.Voters, Voter{name, instance})
}

// quorumth returns the q-th latest of the stamps, and false if there are fewer.
func quorumth(stamps []Stamp, q int) (Stamp, bool) {
	if q <= 0 || len(stamps) < q {
		return Stamp{}, false
	}
	slices.SortFunc(stamps, func(a, b Stamp) int { return cmp.Compare(b.Boot, a.Boot) })
	return stamps[q-1], true
}
