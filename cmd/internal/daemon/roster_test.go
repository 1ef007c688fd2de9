package daemon

import (
	"fmt"
	"testing"

	"github.com/legion-cron/legion-cron/legion"
)

func TestRoster(t *testing.T) {
	e := &legion.Electorate{Cluster: legion.ID{1}, Voters: []legion.Voter{{Name: "a", Instance: legion.ID{1}}, {Name: "b", Instance: legion.ID{2}}, {Name: "c", Instance: legion.ID{3}}}}
	node := func(name string, id byte, incarnation byte, in ...string) legion.NodeState {
		n := legion.NodeState{Name: name, Instance: legion.ID{id}, Incarnation: legion.ID{incarnation}, Electorate: e}
		for _, l := range in {
			n.Legions = append(n.Legions, legion.Candidacy{Legion: l})
		}
		return n
	}
	r := roster{self: "a", joined: map[string]bool{}, members: map[string]map[string]legion.ID{}}
	expect := func(what, want string, nodes ...legion.NodeState) {
		t.Helper()
		s := legion.Status{Electorate: e, Nodes: nodes, Legions: []legion.LegionStatus{{Legion: "x", Quorum: 2}, {Legion: "y", Quorum: 3}}}
		if got := fmt.Sprint(r.look(s)); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	a := node("a", 1, 10, "x", "y")
	expect("alone", "[]", a)
	expect("a quorum of x", "[{join x } {node-joined x b} {node-joined y b}]", a, node("b", 2, 20, "x", "y"))
	expect("nothing new", "[]", a, node("b", 2, 20, "x", "y"))
	expect("a restart, and a member that is no voter", "[{node-joined x b} {node-joined x d} {node-joined y b}]",
		a, node("b", 2, 21, "x", "y"), node("d", 4, 40, "x"))
	expect("one leaves a legion, a stranger of the same name votes", "[{node-joined x c} {node-left y b}]",
		a, node("b", 2, 21, "x"), node("c", 9, 90, "x"), node("d", 4, 40, "x"))
	expect("all voters", "[{join y } {node-joined x c}]",
		a, node("b", 2, 21, "x"), node("c", 3, 91, "x"), node("d", 4, 40, "x"))
	expect("all are gone", "[{node-left x b} {node-left x c} {node-left x d}]", a)
	expect("a quorum again is not the first", "[{node-joined x b}]", a, node("b", 2, 21, "x"))
}
