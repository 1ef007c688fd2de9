// Package jobs has the words that every part of legion-cron speaks: a Job,
// its Slots, the Records of what became of them, and the Marks up to which
// they were decided. It is pure: no clock, no disk, no network.
//
// # A slot's way
//
// A slot (a job and the instant at which it is due) goes through attempts,
// each with a run id of its own. What is known of an attempt is one Record,
// whose State has a rank and only rises:
//
//	rank  state
//	1     queued      due, waits for an earlier run; has its run id, no node yet
//	2     claimed     a quorum promised this attempt to one node
//	3     starting    durable on that node; the process may exist from here on
//	4     running     the process exists
//	5     lost        the lord gave the run up: its node is silent or gone
//	6     succeeded, failed, timed out, killed, never started
//	6     skipped, missed      slots that have no run
//
// Up to running a record is unsettled: somebody still owes the cluster a word
// about it, and a new lord reads it before it does anything else. From lost on
// it is settled. The executing node's own word has rank 6, so it replaces
// lost whenever it arrives, and nothing that is said of the same claim
// replaces it. Every record of a claim has the claim's term.
//
// # Authority
//
// Merge and MergeMark are the only ways in which two copies of a fact become
// one. Both take the maximum of a total order, so they are commutative,
// associative and idempotent: nodes that have seen the same records in any
// order, any number of times, hold the same table, and Table's hash says so in
// 16 bytes. Which records of a slot stand, when more than one lord has decided
// about it, Standing says, a function of the set of them and of nothing else.
// Merge decides nothing about right or wrong: that only the
// executing node writes a final state, and only a lord whose term a quorum has
// promised writes a claim, is the protocol's part.
//
// # Form
//
// Times are UTC and kept to the millisecond; the Unix epoch stands for "no
// time". Texts are valid UTF-8 of bounded length. Normal brings a Record or
// Mark into this form; Merge, Encode, Table and the ledger all do so first,
// which is why a record is the same one on every node after any number of trips.
//
// # Failures
//
// Nothing here panics on input. DecodeBatch takes bytes from the network: it
// is bounded in size, number and nesting, ignores fields it does not know, and
// refuses the whole batch if one record in it is not valid.
package jobs
