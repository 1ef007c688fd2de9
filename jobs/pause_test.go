package jobs

import (
	"strings"
	"testing"
	"time"
)

func TestPauseIsAMark(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 2, 0, 0, 5e6, time.UTC)
	for _, p := range []Pause{
		{Legion: "g", Job: "backup", On: true, Until: at.Add(time.Hour), Reason: "moving the disks (uid 0 on a)", At: at, Term: 7},
		{Legion: "g", On: true, At: at, Term: 7},
		{Node: "n1", Job: "tidy", On: true, Reason: "  odd  words ", At: at},
		{Legion: "g", Job: "backup", At: at, Term: 8},
		{Legion: strings.Repeat("l", 64), Job: strings.Repeat("j", 64), On: true, Until: time.UnixMilli(maxMillis).UTC(), Reason: strings.Repeat("r", MaxPauseReason), At: at},
	} {
		m := p.Mark()
		if err := m.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
		if back, ok := PauseOf(m); !ok || back != p {
			t.Errorf("%+v came back as %+v, %v", p, back, ok)
		}
	}
	for _, m := range []Mark{{Legion: "g", Job: "backup", Timing: "0 x"}, {Legion: "g", Job: "pause:x", Timing: "soon x"}, {Legion: "g", Job: "pause:x", Timing: "-1 "}} {
		if p, ok := PauseOf(m); ok {
			t.Errorf("%+v is the pause %+v", m, p)
		}
	}
}

// TestPauseMerge: the later word counts, whoever hears it in which order.
func TestPauseMerge(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	on := Pause{Legion: "g", Job: "j", On: true, At: at, Term: 1}
	off := Pause{Legion: "g", Job: "j", At: at.Add(time.Millisecond), Term: 1}
	for _, m := range []Mark{MergeMark(on.Mark(), off.Mark()), MergeMark(off.Mark(), on.Mark())} {
		if p, ok := PauseOf(m); !ok || p.On {
			t.Errorf("merged to %+v", m)
		}
	}
}

func TestPauseHolds(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		p    Pause
		now  time.Time
		want bool
	}{
		{Pause{On: true}, at, true},
		{Pause{}, at, false},
		{Pause{On: true, Until: at}, at.Add(-time.Millisecond), true},
		{Pause{On: true, Until: at}, at, false},
	} {
		if got := c.p.Holds(c.now); got != c.want {
			t.Errorf("%+v at %v: %v", c.p, c.now, got)
		}
	}
}
