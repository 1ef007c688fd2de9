package sim

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/legion-cron/legion-cron/legion"
)

// A checker knows what was promised.
type checker struct {
	terms       map[string]uint64 // by cluster and legion: the latest reign's
	reigns      map[string]bool   // by cluster, legion and term
	slots       slotChecker
	electorates map[legion.ID]*legion.Electorate // by cluster: the first seen
	records     map[string]*legion.Electorate    // by cluster and epoch
	claims      int                              // started
	silenced    bool                             // so many clocks were ahead that a quorum may have believed it
}

func (c *checker) init() {
	c.terms = map[string]uint64{}
	c.reigns = map[string]bool{}
	c.slots.init()
	c.records = map[string]*legion.Electorate{}
	c.electorates = map[legion.ID]*legion.Electorate{}
}

// cluster names the cluster of a node, whose lords are not those of another.
func (n *node) cluster() string {
	if n.disk.electorate == nil {
		return ""
	}
	return n.disk.electorate.Cluster.String()
}

// step checks P1 after a step of n, the only node whose trust can have grown.
func (c *checker) step(n *node) {
	if n.w.stops {
		return
	}
	for l := range n.lords {
		if !n.trusted(l) || n.unsafe(l) {
			continue
		}
		for _, m := range n.w.nodes {
			if m != n && m.trusted(l) && m.cluster() == n.cluster() {
				n.w.fail("P1: %s (term %d) and %s (term %d) are both lord of %s",
					n.conf.Name, n.lords[l].term, m.conf.Name, m.lords[l].term, l)
			}
		}
	}
}

// reign checks P7.
func (c *checker) reign(n *node, a legion.Reign) {
	n.w.mark(a.Term)
	if n.unsafe(a.Legion) {
		return
	}
	key := n.cluster() + "/" + a.Legion
	reign := key + "/" + strconv.FormatUint(a.Term, 10)
	if c.reigns[reign] {
		n.w.fail("P7: %s reigns over %s in term %d, which was given before", n.conf.Name, a.Legion, a.Term)
	}
	c.reigns[reign] = true
	if n.w.stops { // a vote may be counted after its time
		c.terms[key] = max(a.Term, c.terms[key])
		return
	}
	if a.Term <= c.terms[key] {
		n.w.fail("P7: %s reigns over %s in term %d, after term %d", n.conf.Name, a.Legion, a.Term, c.terms[key])
	}
	c.terms[key] = a.Term
}

// sends checks that nothing is given back while its hooks run, and that a term
// given back is never asked for again: a release that is late would end it.
func (c *checker) sends(n *node, b legion.Body) {
	switch b := b.(type) {
	case legion.Release:
		for _, r := range b.Thrones {
			if n.held[r.Legion] == r.Term {
				n.w.fail("%s gives %s back in term %d before it has let go", n.conf.Name, r.Legion, r.Term)
			}
			n.gave[r.Legion] = max(n.gave[r.Legion], r.Term)
		}
	case legion.Ask:
		if b.Term <= n.gave[b.Legion] {
			n.w.fail("%s asks for %s in term %d, having given back %d", n.conf.Name, b.Legion, b.Term, n.gave[b.Legion])
		}
	}
}

// founded checks that there is one record of each epoch, and that no voter is
// in two clusters, now that e is on a disk.
func (c *checker) founded(w *World, e *legion.Electorate) {
	if e == nil {
		return
	}
	key := fmt.Sprintf("%s/%d", e.Cluster, e.Epoch)
	if o := c.records[key]; o == nil {
		c.records[key] = e
	} else if o != e && !reflect.DeepEqual(o, e) {
		w.fail("two records of epoch %d: %v and %v", e.Epoch, o.Voters, e.Voters)
	}
	c.doubt(w)
	if c.electorates[e.Cluster] != nil {
		return
	}
	c.electorates[e.Cluster] = e
	for id, o := range c.electorates {
		if id == e.Cluster {
			continue
		}
		for _, v := range e.Voters {
			if slices.Contains(o.Voters, v) {
				w.fail("two electorates name %s: %s and %s", v.Name, id, e.Cluster)
			}
		}
	}
}

// lord returns the node that is lord of l in the cluster, nil if none is.
func (w *World) lord(l, cluster string) *node {
	for _, n := range w.nodes {
		if n.trusted(l) && n.cluster() == cluster {
			return n
		}
	}
	return nil
}
