package daemon

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/legion-cron/legion-cron/legion"
)

// Why a voter does not vote for the lord.
func TestVoteOf(t *testing.T) {
	cluster, instance := uuid.New(), uuid.New()
	e := &legion.Electorate{Cluster: cluster, Epoch: 3, Voters: []legion.Voter{{Name: "a", Instance: instance}}}
	voter := func(change func(*legion.NodeState)) []legion.NodeState {
		n := legion.NodeState{Name: "a", Instance: instance, Electorate: e, Votes: []legion.VoteFor{{Legion: "g", Term: 7, Name: "b"}}}
		change(&n)
		return []legion.NodeState{n}
	}
	for _, tt := range []struct {
		nodes []legion.NodeState
		lord  string
		want  string
	}{
		{voter(func(*legion.NodeState) {}), "b", ""},
		{nil, "b", "away"},
		{voter(func(n *legion.NodeState) { n.Instance = uuid.New() }), "b", "another instance"},
		{voter(func(n *legion.NodeState) { n.Electorate = nil }), "b", "another electorate"},
		{voter(func(n *legion.NodeState) { n.Electorate = &legion.Electorate{Cluster: cluster, Epoch: 2} }), "b", "epoch 2, not 3"},
		{voter(func(n *legion.NodeState) { n.Votes = nil }), "b", "no living grant"},
		{voter(func(*legion.NodeState) {}), "c", "votes for b in term 7"},
		{voter(func(n *legion.NodeState) { n.Votes = nil }), "", ""},
	} {
		v := voteOf(legion.Status{Electorate: e, Nodes: tt.nodes}, legion.LegionStatus{Legion: "g", Lord: tt.lord, Term: 7}, e.Voters[0])
		if v.Name != "a" || !strings.Contains(v.Why, tt.want) || (v.Why == "") != (tt.want == "") {
			t.Errorf("lord %q: %+v, want %q", tt.lord, v, tt.want)
		}
	}
}

// TestUnchanged: refound is spoken of only where no quorum is heard.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	instance := uuid.New()
	e := &legion.Electorate{Quorum: 2, Voters: []legion.Voter{{Name: "a", Instance: instance}, {Name: "b", Instance: instance}, {Name: "c", Instance: instance}}}
	here := func(names ...string) (all []legion.NodeState) {
		for _, name := range names {
			all = append(all, legion.NodeState{Name: name, Instance: instance})
		}
		return all
	}
	for _, tt := range []struct {
		s         legion.Status
		why, hint string
	}{
		{legion.Status{}, "none yet", "status"},
		{legion.Status{Electorate: e, Nodes: here("a")}, "no quorum", "refound"},
		{legion.Status{Electorate: e, Nodes: here("a"), Change: "epoch 2 is proposed"}, "no quorum", "refound"},
		{legion.Status{Electorate: e, Nodes: here("a", "b")}, "away: c", "forget c"},
		{legion.Status{Electorate: e, Nodes: append(here("a", "b"), legion.NodeState{Name: "c", Instance: uuid.New()})}, "away: c", "forget c"},
		{legion.Status{Electorate: e, Nodes: here("a", "b"), Change: "epoch 2 is proposed"}, "epoch 2 is proposed", "status"},
		{legion.Status{Electorate: e, Nodes: here("a", "b", "c")}, "not begun", "status"},
	} {
		why, hint := unchanged(tt.s)
		if !strings.Contains(why, tt.why) || !strings.Contains(hint, tt.hint) || strings.Contains(hint, "refound") != (tt.hint == "refound") {
			t.Errorf("%+v: %q, %q; want %q, %q", tt.s, why, hint, tt.why, tt.hint)
		}
	}
}
