// Package slots decides what becomes of every slot: which are claimed, queued,
// skipped and missed, which go on after a failure, and which runs are given up
// for lost. It does nothing itself: the daemon, or the simulator, carries out
// what [Core.Step] returns, and tells it what came of it.
//
// # Authority
//
// A node decides about the slots of a legion while it reigns, and about its own
// jobs as long as it lives. That it may is not this package's to prove: every
// decision about a legion's slots is an [Commit], a quorum write fenced by the
// reign's term, and counts only once it has been [Done]. A process is started
// by [Start], which is returned for claims that are committed and for no other.
//
// What other lords decided is read before anything is decided: the marks and
// the records that are not settled come with the votes, and what a voter did
// not tell of is asked for ([AskVoters]), because a voter that knows a record
// to be settled does not tell of it, and neither does one that never heard of
// it. Two quorums share a voter; so of whatever was committed, one of them knows.
// Of a mark that not every voter has it is asked what was decided with it, and
// both are written once more before anything else (unsure.go).
//
// # The way of a reign
//
//	Reign ---> what the votes say is written here ---> the voters are asked
//	             |                                       |
//	             | cannot be read or written             v
//	             +------> Abandon <------ one is silent / all is known
//	                                                     |  and Ready (its hooks have ended)
//	                                                     v
//	Unreign ---> claims without an answer are closed <-- open: slots are decided
//	             -> LetGo, when what must end has ended
//
// Slots that fall due before a reign is open wait for it, and are not late for
// that.
//
// # The way of a slot
//
//	                  mark moves, in the same write
//	due --+--> skipped (overlap, mutex, paused, drained, disabled, queue full)
//	      +--> missed (no lord, daemon down, too late, superseded, clock jumped)
//	      +--> queued ----+
//	      +--> claimed <--+   a run id, this node, this term
//	             | committed
//	             v
//	           Start ---> starting, running ---> succeeded, failed, timed out, killed
//	             |                      |              |
//	       never started              lost          retries, RetryDelay x Backoff^n
//	             |                      |              |
//	             +--- may it go on? ----+--------------+--> the next attempt is claimed
//
// Whether a slot may still go on is decided in one place, goOn: a claim that
// never started goes on while it is within catch_up; a lost run only with
// on_lost = "rerun"; neither if anything else has become of the slot, or if the
// engine has yet to come to it, which then decides anew.
//
// A claim or skip that no quorum has, left behind by a lord that was frozen or
// cut off while it wrote, may come to light later. [jobs.Standing] says which
// of the records of a slot stand then.
//
// A drained node is no lord, so a legion's slots never meet one: the next lord
// takes them, and if there is none they are missed. Its own jobs have nobody
// else, and it is not to begin anything: their slots are skipped as drained, as
// those of a paused job are. What is asked for by hand runs.
//
// A slot that waits has an outcome when its job goes: skipped, by the lord when
// it reads its configuration, or by the next one. So has that of a node's own
// job when the node has a new name. But when a legion is gone from every file
// at once, before its lord could say so, nobody may write about its slots any
// more: what waited stays queued in the ledger, and `runs --outcome queued`
// shows it, until the legion is there again; its first lord then skips it, or
// runs it where the job has come back as well. No process is behind it.
//
// # What people ask for
//
// [Trigger], [Rerun] and [Exec] take the same way: a claim, committed, and then
// a start. A pause is a mark ([jobs.Pause]), and so is what [Exec] has claimed:
// marks are told to every lord to come, so none starts what is paused, or a
// slot of a command a second time. That of a command whose claim never started,
// because the lordship ended before its answer came, is claimed once more when a
// lord is asked for it; nobody is told that it is taken before that is known. [Rerun] asks the voters for the attempts of
// its slot first. An order is answered when it is committed; ErrNotLord, when
// the reign ends before, says that its claims are never started here.
//
// # Failures
//
//   - A write that is refused, or not answered, while the reign lasts is asked
//     for again, before any other: its slots are decided, and nobody else will, nor
//     the next lord if it finds a later mark. With the reign end the claims in it:
//     they are recorded as never started by this node's own word, which is true,
//     because only a committed claim is started here.
//   - A disk that takes no write holds a node's own jobs back until it does.
//   - A node that is silent is asked how its runs are; one that is dead, or has
//     not been heard for lost_after, has lost them.
//   - The wall clock is set forward: slots in between are late. Back: nothing
//     behind the mark is decided again. Whether a lord's clock is to be believed
//     the protocol decides, before it writes.
//
// # Not promised
//
// A retry that waits for its delay when the reign ends is not made up for: the
// failed attempt stands. Slots of a job whose schedule was changed have no past.
//
// # Concurrency
//
// A Core belongs to one goroutine. Step never blocks but for the reads of
// [Ledger], which must see all that was reported done to the Core.
package slots
