// Package scheduler says which slots are due. It does not decide who runs
// them, starts nothing and remembers nothing beyond the process: the caller
// brings each entry's mark and takes away what is due.
//
// # Positions
//
// Every entry has a position, the newest slot that was decided about, and a
// next slot, the first one after it. Both are instants on the wall clock.
//
//	Set(after) --> waiting --(now >= next)--> Due: position = At, next = Next(At)
//	                 ^                                  |
//	                 +----------------------------------+
//
// A position only moves forward, one answer of Due at a time, and by nothing
// but Due and Set. From that follows how clocks may behave:
//
//   - Set forward, or asleep in between: the newest slot that passed is At, the
//     older ones are the range Older, for the caller to record or to run. The
//     engine notices within MaxWake, at once if the Loop is poked.
//   - Set back: what was answered is not answered again. Entries wait until the
//     clock is where it was; slots have the names of instants, and those
//     instants have had their runs. A caller that knows the old clock was wrong
//     calls Set with a position of its own.
//   - Never set (before the year 2000): nothing is due, and entries without a
//     past begin when the clock is believable.
//
// # Cost
//
// Due costs what is due, Set and Remove the logarithm of the number of distinct
// next instants. Counting Older is bounded by MaxOlder for an entry and by a
// budget for a call; finding the newest slot is a binary search however long
// the sleep was.
//
// # Concurrency
//
// An Engine is a plain value for one goroutine, with now as an argument: the
// simulator drives it. A Loop puts a mutex around one and sleeps on an injected
// Clock; Run is the only thing that waits, in its caller's goroutine.
//
// # Not promised
//
// Slots between Set and the first Due of a process that died are the caller's
// to find again, from its marks. Count stops at MaxOlder.
package scheduler
