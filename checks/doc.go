// Package checks decides what a node's health checks say, when each is to be
// probed, and what that does to the node's valor. It probes nothing: package
// probe does, and brings the results. It is pure; now is an argument, a
// duration on any clock that never goes back (steps of the wall clock change
// nothing here).
//
// # States
//
//	            a failure: the first is enough
//	         +------------------------------------+
//	         |                                    v
//	unknown -+                                 failing
//	         |  rise successes in a row         ^   |
//	         +-------------------> passing -----+   |
//	                                 ^  fall fails  |
//	                                 +--------------+
//	                                  rise successes
//
// A check is unknown until its first result, and a check that has never passed
// need not fail twice: there is nothing yet that would be worth the patience.
// One result of the other kind starts the row anew, so a probe that comes and
// goes moves nothing: that is all the damping there is, and all that is needed.
//
// # What a check does
//
//	                 unknown   passing   failing
//	required          unfit       -       unfit
//	valor below 0       -         -       valor
//	valor above 0       -       valor       -
//
// Veto and weight are different things. A veto makes the node unfit whatever
// its valor, and also where nobody may preempt; a weight makes it less wanted.
// The weights of a legion are added up; a node whose valor they bring to 0 or
// below is unfit, too:
//
//	fit = valor > 0, no veto, valor + weights > 0 (and neither drained nor suspended)
//
// # When
//
// A check is probed as soon as it is defined, and from then on at instants
// interval apart whose phase is a hash of the node's and the check's name, so
// that neither the checks of a node nor the nodes of a cluster go in step. A
// probe never overlaps with another of the same check: one that is still going
// at the next instant takes its place.
//
//	waiting --(due, a place is free)--> under way --(Done)--> waiting
//	                                       |
//	                                       | timeout + Patience
//	                                       v
//	                                     stuck: a failure now and at every
//	                                     instant, until it comes back
//
// At most [MaxRunning] probes are under way; others wait their turn, oldest
// first. A probe that ignores its timeout gives its place up and is counted;
// with [MaxStuck] of these nothing is probed any more and what falls due fails.
//
// # Reload
//
// A definition of the same name and the same [Definition.Probe] keeps state,
// row and phase, whatever else of it has changed. Any other is a new check.
//
// # Not promised
//
// That a check notices sooner than fall intervals and a timeout; that its probe
// is right. Results are not remembered over a restart: a check begins unknown.
package checks
