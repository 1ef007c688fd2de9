package jobs

import "slices"

// Ran reports whether the attempt has reached its process, as far as the record says.
func (r Record) Ran() bool {
	switch r.State {
	case Starting, Running, Succeeded, Failed, TimedOut, Killed:
		return r.Run != ""
	case Lost: // else nobody has seen more than its claim
		return !r.Started.IsZero()
	}
	return false
}

// Doubles returns the records of the same slot and attempt as r that ran under
// another id, by their ids; none if r did not run itself. There are none while
// every two quorums share a voter. Where a legion wants it otherwise, both sides
// of a split run the slot, and it has the same name on both.
func Doubles(r Record, records []Record) []Record {
	if !r.Ran() {
		return nil
	}
	key := r.Key()
	key.Run = ""
	runs := map[string]Record{}
	for _, o := range records {
		k := o.Key()
		if k.Run = ""; k == key && o.Run != r.Run && o.Ran() {
			runs[o.Run] = o
		}
	}
	doubles := make([]Record, 0, len(runs))
	for _, o := range runs {
		doubles = append(doubles, o)
	}
	slices.SortFunc(doubles, func(a, b Record) int { return a.Key().Compare(b.Key()) })
	return doubles
}
