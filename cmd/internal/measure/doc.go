// Package measure holds the tests that measure what the program promises about
// time, and watch what it promises at all times, with real agents on the hosts
// of a lab. It has no code but tests.
//
//   - TestSuccession: how long a legion is without a lord, for each way to lose
//     one (promise P4).
//   - TestOneLord: never two lords at once, whatever is done to the network and
//     the processes (P1, P7).
//   - TestMerge: how soon a partition has grown together.
//   - TestIdle: what a node costs when nothing happens (P8).
//   - TestSoak: all of that at random, for a long time, and nothing grows.
//
// As ordinary tests they are short and judge what must never happen, not how
// long anything took. With -measure (make measure, measure-idle, soak) they run
// in full and write their figures into docs/measurements.md, each run its rows.
//
// # When is a node lord?
//
// Each node says it itself: its "lord" line has, as boot, the CLOCK_BOOTTIME at
// which the step began that made it lord, before it acted; its "unlord" line
// the one at which it had surely stopped: when it learnt of it, or when its
// trust had run out, whichever came first. A frozen agent writes its line late,
// but trust that has run out is not renewed, and every act of a lord asks for
// it first; so what counts is the moment in the line, not that of the line. The
// reign of an agent that is killed with KILL ends when the signal was sent: none
// of its threads gets back to its own code after that. All namespaces of a machine share that clock.
package measure
