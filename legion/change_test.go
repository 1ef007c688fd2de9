package legion

import (
	"slices"
	"testing"
	"time"
)

// TestCopiedDisk: a state directory that has counted fewer starts than was
// heard of, or as many in another life, is disowned; a restart is not.
func TestCopiedDisk(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	hear := func(incarnation ID, starts uint64) bool {
		actions := c.Step(at(0), Announced{NodeState{Name: "b", Instance: ID{2}, Incarnation: incarnation, Seq: 1, Starts: starts}})
		return len(sends[Disown](actions)) == 0
	}
	for _, s := range []struct {
		incarnation ID
		starts      uint64
		genuine     bool
	}{
		{ID{21}, 4, true}, {ID{21}, 4, true}, {ID{22}, 5, true}, {ID{23}, 5, false}, {ID{24}, 4, false}, {ID{23}, 5, false}, {ID{25}, 6, true},
	} {
		if got := hear(s.incarnation, s.starts); got != s.genuine {
			t.Errorf("%d starts in life %d: genuine %v", s.starts, s.incarnation[0], got)
		}
	}
	actions := receive(c, at(time.Second), "b", Disown{c.cfg.Incarnation, 9}, 0, 1)
	if !slices.ContainsFunc(actions, func(a Action) bool { d, ok := a.(Disowned); return ok && d.Starts == 9 }) {
		t.Error("not disowned")
	}
	c.Step(at(time.Second), DiskTrouble{})
	if vote := sends[Vote](receive(c, at(time.Second), "b", Ask{Legion: "g", Term: 1001}, 0, 2)); vote[0].Message.Body.(Vote).Granted {
		t.Error("votes by what it finds on a copy")
	}
}
