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
	// Size is how many voters there are to be; 0: as many as there are.
	Size int `cbor:"8,keyasint,omitempty"`
	// Prior is the record before this one; nil if there was none.
	Prior *Prior `cbor:"9,keyasint,omitempty"`
}

// A Prior is what a voter must know of the electorate before its own, to
// become whole: see the package's text on changes.
type Prior struct {
	Voters []Voter       `cbor:"1,keyasint"`
	Quorum int           `cbor:"2,keyasint"`
	Lease  time.Duration `cbor:"3,keyasint"`
}

// enough is how many of the voters no quorum can do without.
func (p *Prior) enough() int { return len(p.Voters) - p.Quorum + 1 }

// longest is for how long a grant may have been given in this epoch or in the
// one before.
func (e *Electorate) longest() time.Duration {
	if e.Prior != nil {
		return max(e.Lease, e.Prior.Lease)
	}
	return e.Lease
}

// follows returns an error unless e is one change away from old, so that every
// quorum of the one shares a voter with every quorum of the other.
func (e *Electorate) follows(old *Electorate) error {
	if err := e.Check(); err != nil {
		return err
	}
	if e.Cluster != old.Cluster || e.Epoch != old.Epoch+1 || e.Base != old.Base {
		return fmt.Errorf("check electorate: epoch %d does not follow %d", e.Epoch, old.Epoch)
	}
	p := e.Prior
	if p == nil || !slices.Equal(p.Voters, old.Voters) || p.Quorum != old.Quorum || p.Lease != old.Lease {
		return fmt.Errorf("check electorate: epoch %d does not name what it follows", e.Epoch)
	}
	changed := 0
	for _, pair := range [][2]*Electorate{{e, old}, {old, e}} {
		for _, v := range pair[0].Voters {
			if !slices.Contains(pair[1].Voters, v) {
				changed++
			}
		}
	}
	if changed > 1 {
		return fmt.Errorf("check electorate: %d voters change at once", changed)
	}
	return nil
}

// with returns the record that follows e: its voters are those of e but the
// one named drop and with add, if they are given.
func (e *Electorate) with(drop string, add *Voter) Electorate {
	next := *e
	next.Epoch++
	next.Prior = &Prior{Voters: e.Voters, Quorum: e.Quorum, Lease: e.Lease}
	next.Voters = slices.DeleteFunc(slices.Clone(e.Voters), func(v Voter) bool { return v.Name == drop })
	if add != nil {
		next.Voters = append(next.Voters, *add)
		slices.SortFunc(next.Voters, func(a, b Voter) int { return cmp.Compare(a.Name, b.Name) })
	}
	next.Quorum = majority(len(next.Voters))
	return next
}

// size is how many voters there are to be.
func (e *Electorate) size() int {
	if e.Size > 0 {
		return e.Size
	}
	return len(e.Voters)
}

// majority is the smallest number that is more than half of n.
func majority(n int) int { return n/2 + 1 }

// Check returns an error if the record cannot be safe or is not well formed.
func (e *Electorate) Check() error {
	switch {
	case e.Cluster == ID{}:
		return fmt.Errorf("check electorate: no cluster id")
	case e.Epoch == 0 || e.Epoch > MaxNumber || e.Base > MaxNumber:
		return fmt.Errorf("check electorate: epoch %d, terms above %d", e.Epoch, e.Base)
	case len(e.Voters) == 0 || len(e.Voters) > MaxVoters:
		return fmt.Errorf("check electorate: %d voters, want 1 to %d", len(e.Voters), MaxVoters)
	case e.Quorum < majority(len(e.Voters)) || e.Quorum > len(e.Voters):
		return fmt.Errorf("check electorate: quorum %d of %d voters", e.Quorum, len(e.Voters))
	case e.Beat <= 0 || e.Beat > MaxLease || e.Lease > MaxLease || share(e.Lease, holderShare) < 3*e.Beat:
		return fmt.Errorf("check electorate: lease %v does not go with beat %v", e.Lease, e.Beat)
	}
	if e.Size < 0 || e.Size > MaxVoters {
		return fmt.Errorf("check electorate: size %d", e.Size)
	}
	if p := e.Prior; p != nil && (len(p.Voters) > MaxVoters || p.Quorum < majority(len(p.Voters)) || p.Quorum > len(p.Voters) || p.Lease <= 0 || p.Lease > MaxLease) {
		return fmt.Errorf("check electorate: bad record before it: quorum %d of %d voters", p.Quorum, len(p.Voters))
	}
	for i, v := range e.Voters {
		if v.Name == "" || len(v.Name) > MaxName || v.Instance == (ID{}) || i > 0 && e.Voters[i-1].Name >= v.Name {
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
