package legion

import (
	"testing"
	"time"
)

// TestStatusNamesTheHolder: a voter to which a new lord beats names it before
// gossip has told of it, and not the old one; but a vote alone makes no lord.
func TestStatusNamesTheHolder(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	old := testConfig("c").Incarnation
	c.Step(at(0), Membership{"c", old, true})
	c.Step(at(0), Announced{NodeState{Name: "c", Instance: old, Incarnation: old, Seq: 1,
		Electorate: testElectorate(), Reigns: []Reigning{{"g", 1000}}}})
	lord := func(now Now) LegionStatus {
		t.Helper()
		for _, l := range c.Status(now).Legions {
			if l.Legion == "g" {
				return l
			}
		}
		t.Fatal("legion unknown")
		return LegionStatus{}
	}
	if l := lord(at(0)); l.Lord != "c" || l.Term != 1000 {
		t.Fatalf("the announced lord is %q in term %d", l.Lord, l.Term)
	}

	vote := sends[Vote](receive(c, at(0), "b", Ask{Legion: "g", Term: 1001, Rank: Rank{Effective: 999}}, 0, 1))
	c.Step(at(0), Durable{1})
	if l := lord(at(0)); l.Lord != "" || l.Term != 1001 {
		t.Errorf("after a vote: lord %q in term %d, want none yet", l.Lord, l.Term)
	}
	beat := Beat{Heard: vote[0].Message.Seq, Version: 1, Full: true, Set: []Reigning{{"g", 1001}}}
	id := testConfig("b").Incarnation
	h := Header{Cluster: ID{1}, Epoch: 1, From: "b", Instance: id, Incarnation: id, Seq: 2, To: c.cfg.Incarnation}
	c.Step(at(time.Second), Receive{Message{h, beat}})
	if l := lord(at(time.Second)); l.Lord != "b" || l.Term != 1001 {
		t.Errorf("after a beat: lord %q in term %d, want b in 1001", l.Lord, l.Term)
	}

	receive(c, at(time.Second), "b", Release{Thrones: []Reigning{{"g", 1001}}}, 0, 3)
	if l := lord(at(time.Second)); l.Lord != "" {
		t.Errorf("after its release: lord %q, want none", l.Lord)
	}
}

// TestStatusBesidesAPromise: a voter that has promised a higher term to a
// candidate which failed is told by the others who reigns all the same, and says
// so; before they vote for it, it takes it for the last lord.
func TestStatusBesidesAPromise(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	announce := func(seq uint64, name string, vote string, reigns ...Reigning) {
		id := testConfig(name).Incarnation
		c.Step(at(0), Membership{name, id, true})
		c.Step(at(0), Announced{NodeState{Name: name, Instance: id, Incarnation: id, Seq: seq,
			Electorate: testElectorate(), Reigns: reigns, Votes: []VoteFor{{"g", 1001, vote}}}})
	}
	lord := func(now Now) LegionStatus {
		for _, l := range c.Status(now).Legions {
			if l.Legion == "g" {
				return l
			}
		}
		return LegionStatus{}
	}
	receive(c, at(0), "b", Ask{Legion: "g", Term: 1002, Rank: Rank{Effective: 999}}, 0, 1)
	c.Step(at(0), Durable{1})
	receive(c, at(0), "b", Release{Thrones: []Reigning{{"g", 1002}}}, 0, 2) // it lost

	announce(1, "c", "c", Reigning{"g", 1001})
	if l := lord(at(0)); l.Lord != "" || l.Term != 1002 {
		t.Errorf("with the vote of one: lord %q in term %d, want none yet", l.Lord, l.Term)
	}
	announce(1, "b", "c")
	if l := lord(at(0)); l.Lord != "c" || l.Term != 1001 || l.Votes != 2 || l.Agreed {
		t.Errorf("with the votes of two: lord %q in term %d with %d votes, agreed: %v; want c in 1001", l.Lord, l.Term, l.Votes, l.Agreed)
	}
}
