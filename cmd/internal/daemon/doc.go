// Package daemon is one node assembled: the only place that knows everybody.
//
// # Parts, and who owns what
//
//	protocol   owns the legion.Core: one goroutine steps it
//	disk       one goroutine writes; everything that waits is one transaction
//	foreman    steps the slots.Core, which decides about slots: one goroutine
//	filler     asks other voters for the history that this one has missed
//	scribe     sends outcomes to the voters until a quorum has them
//	runs       one goroutine for each living process
//	herald     calls hooks: one goroutine for each legion that has something to call
//	watch      probes the checks; a change reconfigures the core
//	guardian   another process, for when this one is killed or frozen
//
// A slot flows one way: the foreman's engine says it is due; the foreman asks
// protocol to commit its claim; on commit a run starts it; the outcome goes to
// the disk and from there, by the scribe, to the voters.
//
// # Authority
//
// The protocol's term is handed to the foreman with a reign, and with every
// claim to the run. Right before a process is started the run asks the core
// once more whether this node is lord in that very term; the claim alone
// already keeps the slot from being started twice.
//
// # States
//
//	New -> Start -> running -> Stop -> stopped
//
// A lordship's hooks run beside all this: slots wait (slots.Ready) for
// the lord hooks, and the release (slots.Unhooked) for the unlord hooks. Nothing
// else does.
//
// Start returns when the control socket answers and the protocol runs; a
// lordship comes later, by itself. Stop gives up the lordships at once, lets
// runs end (at most stop_timeout, or until Kill), sends their outcomes, and
// ends the incarnation with a death certificate. Reload applies a new
// configuration or, on any error, nothing of it.
//
// # Failures
//
//   - The disk is full: nothing that must be durable is acknowledged; the core
//     is told and gives up its lordships until writes work again.
//   - The agent is killed: its guardian kills what it left running and tells
//     the voters, so that others take over at once and record its runs lost
//     (package guardian). Where the guardian was killed, too, the lease decides,
//     and what is left running is found and killed by the next start.
//   - The agent is frozen: its guardian kills the on_unlord="kill" runs when
//     their lordships are over.
//   - The core's loop stalls: no beats leave, and the lordships go elsewhere.
//
// # Not promised
//
// A run's end is recorded when it is known here; between a claim and the start
// of its process the node can die, and then the slot is recorded as never
// started, or as lost.
package daemon
