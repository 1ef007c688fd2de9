// Package sim runs a whole cluster in virtual time, from one seed: the cores of
// [legion] are real, everything around them is a model that misbehaves. The
// same seed gives the same run, event for event, so a failure can be replayed.
//
// # The model
//
//   - Clocks: each node's runs at a rate of its own between 0.9 and 1.1 of true
//     time, from an offset of its own; Boot is slewed a little against Raw;
//     while a node is suspended Raw stands still and Boot goes on. In one of
//     four runs hypervisors stop both at times; there no lease can hold, but
//     P2 must, and no term is given twice.
//   - Network: packets are lost, delayed, doubled and reordered; any direction
//     of any pair can be cut. Every packet passes Encode and DecodeMessage.
//   - Disk: writes take a random time, sometimes seconds, and are grouped. A
//     crash loses what is not durable; a write under way may or may not be.
//     A full disk takes nothing until there is room again.
//   - Gossip: announcements are lost and late, with an occasional push/pull; a
//     silent node is noticed after 6 to 9 s, a quick restart perhaps never.
//   - Processes: crash and restart with their disk, freeze and thaw (the
//     backlog then arrives newest first), stop with a death certificate.
//   - The shell is what the daemon is: it fills in hashes and states from the
//     durable ledger, carries out what the core of slots says, starts processes
//     that take their time and may fail, answers other nodes' questions, and
//     closes at its start what an earlier process left.
//   - The ledger merges as jobs/ledger does, and forgets what was not durable.
//   - Jobs of every overlap, catch_up, on_lost and on_unlord, with retries and
//     mutexes, every second to every five, some of them on one node changed or
//     gone for a while; wall clocks up to 3 s apart, and set an hour wrong at times.
//     In two of five runs people give orders as well, to any node: runs by hand,
//     reruns, pauses, and slots of commands that are run elsewhere.
//
// # What is checked
//
// After every crash: what a quorum acknowledged is on some disk (P10). At every
// step: one lord per legion ([legion.Core.Trusted], P1); one start per
// slot, whoever starts it and whether or not it is trusted (P2); terms only
// grow, and none is given to two incarnations (P7); no two electorates share a
// voter; no step of a core returns more than a bounded number of actions, and no
// core keeps its shell busy with nothing to do.
//
// A run has three parts: faults; then everything is healed and within
// [Settle] there must be one lord and a committed claim in every legion that
// has a fit candidate, and one electorate; then, in a quiet network, lords are
// crashed and stopped one after the other, and each succession must take no
// longer than P4 says (see succession.go for the figures).
package sim
