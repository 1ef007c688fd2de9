// Package hooks calls what a configuration ties to the events of a legion:
// commands and log messages, beside everything else that the agent does.
//
// # Authority
//
// None. It is told of events and runs what its own configuration says. It asks,
// right before each command of the lord event, whether this node still is lord
// in that term. How a lord hook ends is for others to act upon; the end of the
// unlord hooks is what a release waits for.
//
// # States
//
// Each legion has two lanes, in each of which one event is called after the
// other, and of each event one hook after the other:
//
//	throne   setup, lord, unlord, death
//	news     join, node-joined, node-left
//
// What a reign does to the throne's lane:
//
//	 Reign                 its turn, still lord             Unreign
//	------> waiting lord -----------------------> entered ---------> unlord -> left
//	             |                                   |
//	             | Unreign: nothing has happened,    | Unreign while a lord hook runs:
//	             v so nothing is undone              | that is stopped first (or killed,
//	           left                                  | if the trust ran out)
//
// So the unlord hooks of a term run exactly if its lord hooks have begun, after
// these have ended or were killed, and before the next lord hook. A reign ends
// with the unlord hooks of the configuration that it began with.
//
// # Failures
//
// A hook that takes longer than [Timeout] is told to stop (TERM), and [Grace]
// later killed (KILL), each time with everything that it started. One that
// fails is told to the log. The first lord hook that fails is the last one to
// run, and the lord call has failed; after any other event the next hook runs
// all the same: an address is to be gone even if a mail cannot be sent.
//
// Of what a hook writes the first [MaxOutput] bytes come to the log.
//
// While maxNews events wait in a lane for news, because a hook takes its time,
// further ones are left out, and said to be.
//
// # Not promised
//
// Nothing here survives the agent. Its guardian runs the unlord and death
// hooks of an agent that was killed, with [Caller] as well; it may run one
// that the agent has run already, so unlord hooks must be harmless when there
// is nothing left to undo.
package hooks
