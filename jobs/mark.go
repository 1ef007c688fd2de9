package jobs

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"
)

// A Mark says up to which instant the slots of a job have been decided about:
// nothing at or before At is started again, and catch-up begins after it. It
// belongs to one timing; a job whose schedule changed has no past.
// Exactly one of Legion and Node is set.
type Mark struct {
	Legion string
	Node   string
	Job    string
	Timing string // Job.Timing
	At     time.Time
	Term   uint64 // of the lord that set it; 0 for a job without a legion
}

// A MarkKey tells marks apart: there is one mark of each job.
type MarkKey struct{ Legion, Node, Job string }

// Key is the mark's identity in every table.
func (m Mark) Key() MarkKey { return MarkKey{m.Legion, m.Node, m.Job} }

// Compare orders keys by legion, node and job.
func (k MarkKey) Compare(o MarkKey) int {
	return cmp.Or(strings.Compare(k.Legion, o.Legion), strings.Compare(k.Node, o.Node), strings.Compare(k.Job, o.Job))
}

// Normal is the mark in the form of the package: UTC, to the millisecond.
func (m Mark) Normal() Mark {
	m.At = normalTime(m.At)
	return m
}

// Validate says what keeps the mark out of every table, or nil.
func (m Mark) Validate() error {
	if err := validateOwner(m.Legion, m.Node, m.Job); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	if m.Term > math.MaxInt64 {
		return fmt.Errorf("mark of %s: term is out of range", m.Job)
	}
	if err := validateName("timing", m.Timing); err != nil {
		return fmt.Errorf("mark of %s: %w", m.Job, err)
	}
	return validateTime("mark", m.At)
}

// MergeMark makes one of two copies of a mark: the one of higher term, then the
// newer, then the one of the greater timing. A lord begins at the newest mark
// that a quorum has, so a mark of an earlier term that is further on was left
// behind by a lord whom no quorum heard. The result is Normal.
func MergeMark(a, b Mark) Mark {
	a, b = a.Normal(), b.Normal()
	if cmp.Or(cmp.Compare(a.Term, b.Term), a.At.Compare(b.At), strings.Compare(a.Timing, b.Timing)) > 0 {
		return a
	}
	return b
}

// Hash is a hash of every field of the mark, the same on every node.
func (m Mark) Hash() Hash { return sum('m', m.Normal().canonical()) }
