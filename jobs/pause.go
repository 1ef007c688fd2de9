package jobs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// pausePrefix keeps a pause's mark apart from those of jobs, in whose names
	// there is no colon.
	pausePrefix = "pause:"
	pauseOff    = "off"
	// MaxPauseReason bounds Pause.Reason, in bytes.
	MaxPauseReason = 200
)

// A Pause keeps the slots of a job, or of all jobs of a legion, from being run.
// It is stored, merged and told to a new lord as a Mark: so it is as durable
// as what has been decided, and no lord can come without knowing it.
type Pause struct {
	Legion, Node string // exactly one of them
	Job          string // empty: every job of the legion
	On           bool
	Until        time.Time // zero: until it is taken back
	Reason       string    // with who asked; MaxPauseReason bytes
	At           time.Time // when it was said; a later word beats an earlier one
	Term         uint64
}

// Mark is the pause as voters keep it.
func (p Pause) Mark() Mark {
	m := Mark{Legion: p.Legion, Node: p.Node, Job: pausePrefix + p.Job, Timing: pauseOff, At: p.At, Term: p.Term}
	if p.On {
		m.Timing = fmt.Sprintf("%d %s", millis(p.Until), p.Reason)
	}
	return m.Normal()
}

// PauseOf is the inverse of Pause.Mark; false for the mark of something else.
func PauseOf(m Mark) (Pause, bool) {
	job, ok := strings.CutPrefix(m.Job, pausePrefix)
	if !ok {
		return Pause{}, false
	}
	p := Pause{Legion: m.Legion, Node: m.Node, Job: job, At: m.At, Term: m.Term}
	if until, reason, ok := strings.Cut(m.Timing, " "); ok {
		ms, err := strconv.ParseInt(until, 10, 64)
		if err != nil || ms < 0 || ms > maxMillis {
			return Pause{}, false
		}
		p.On, p.Until, p.Reason = true, fromMillis(ms), reason
	}
	return p, true
}

// Holds reports whether the pause is in force at a moment.
func (p Pause) Holds(now time.Time) bool { return p.On && (p.Until.IsZero() || now.Before(p.Until)) }
