package jobs

import (
	"cmp"
	"slices"
)

// Standing returns those of some records that stand, in their order; others
// are void, and nothing is to be made of them. The records are copies of
// distinct facts (of distinct keys), and all that is known of the slots in
// question: a record that is missing can make nothing void.
//
// A lord may write a decision about a slot that no quorum gets: it was frozen
// or cut off while it wrote. The lord after it, which has read a quorum and
// found nothing, decides about the same slot anew. When the first decision
// comes to light there are two, and only the second one counts. So a record of
// an attempt that never reached its process is void if a record that stands
// was written in a later term and does not go on from it: had the earlier one
// been committed, the later lord would have known and gone on from it; as it
// was not committed, nothing was started for it and nothing ever will.
//
// Records only ever rise ([Merge]), none is thrown away for being void, and
// Standing is a function of the set: so nodes that have the same records agree
// on what stands, whatever the order in which they came.
func Standing(records []Record) []Record {
	if len(records) < 2 {
		return records
	}
	// The latest term stands; whoever decided later is looked at first.
	late := slices.Clone(records)
	slices.SortStableFunc(late, func(a, b Record) int { return cmp.Compare(b.Term, a.Term) })
	stand := make(map[Key]bool, len(records))
	for i, r := range late {
		stand[r.Key()] = !slices.ContainsFunc(late[:i], func(later Record) bool {
			return later.Term > r.Term && stand[later.Key()] && later.overrules(r)
		})
	}
	return slices.DeleteFunc(slices.Clone(records), func(r Record) bool { return !stand[r.Key()] })
}

// Voidable reports whether a later decision about its slot could make the
// record void: it is of no attempt that has reached its process.
func (r Record) Voidable() bool {
	switch r.State {
	case Queued, Claimed, NeverStarted, Skipped, Missed:
		return r.Term > 0 // what a node decides about its own jobs is on its disk or nowhere
	case Lost: // of a claim that nobody has seen running
		return r.Term > 0 && r.Started.IsZero()
	}
	return false
}

// overrules reports whether r, of a later term, was decided by a lord that did
// not know of old.
func (r Record) overrules(old Record) bool {
	if !old.Voidable() || !r.Concerns(old.Slot) && !old.Concerns(r.Slot) || r.Key() == old.Key() {
		return false
	}
	// A slot that was skipped or missed is at its end; an attempt is followed
	// by later ones, and by nothing else.
	return old.State == Skipped || old.State == Missed || r.Attempt <= old.Attempt
}

// Concerns reports whether the record is about a slot: its own, or one of the
// row that it stands for.
func (r Record) Concerns(s Slot) bool {
	if r.Slot == s {
		return true
	}
	return r.Count > 1 && s.Manual == "" && r.Legion == s.Legion && r.Slot.Node == s.Node && r.Job == s.Job &&
		!s.At.Before(r.At) && !s.At.After(r.To)
}
