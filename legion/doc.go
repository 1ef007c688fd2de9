// Package legion decides which node is the lord of a legion, and makes sure
// that what a lord writes down is seen by every lord after it. It is a pure
// state machine: [Core.Step] takes the time and one event and returns the
// actions that follow from them. It holds no clock, no socket, no goroutine
// and no file; the daemon and the simulator are its two shells.
//
// # Two mechanisms, on different ground
//
// Leases give "one lord at a time". A voter promises not to vote for anybody
// else for a lease; a candidate with a quorum of such promises reigns until
// the first moment at which fewer than a quorum of them are sure to last. This
// needs clocks that run within 10 % of true time, and nothing else: no clock is
// ever compared with another host's. It is PaxosLease (Trencseni, Gazso,
// Reinhardt, arXiv 1209.4187) with durable terms.
//
// Fenced quorum writes give "one start per slot". A voter that has promised a
// term takes no write of an older one, and every new lord hears, with the
// vote, all that the voter took before. This needs no clock at all, only
// voters that do not forget: it is phase 1 and phase 2 of Paxos (Lamport,
// Paxos Made Simple, 2001), the vote being phase 1 and [Propose] phase 2.
//
// Where a guest's clocks are stopped unseen (live migration, snapshots) only
// the second holds.
//
// # Roles
//
//	voter      named in the electorate; grants, promises, accepts
//	candidate  has a valor above 0 in a legion, and is fit
//	lord       a candidate with a quorum of living grants
//
// A node may be any of these, and none excludes another. The electorate is
// one record for the whole cluster and its voters vote for every legion.
// A legion may ask for more votes than a majority of them; what is left of all
// this where it makes do with fewer says unsafe.go.
//
//	         throne vacant, rank says my turn
//	idle ------------------------------------> probing ("would you?")
//	 ^  ^                                         | a quorum would
//	 |  |        refused, or no quorum            v
//	 |  +------------------------------------- asking (a new term)
//	 |    releases what it got, waits 1-3 beats   | a quorum granted
//	 |    or until a voter said to ask again      |
//	 |                                            v
//	 +----------- leaving <------------------- reigning
//	   let go,      |   told to, not fit, or
//	   released     |   a better one is Ready:
//	                |   hooks run, it still beats
//	                |
//	                +-- trustedUntil passed: not lord from that very moment, no
//	                    matter what; it beats no more, and nothing brings it back
//
// # Why at most one lord
//
// Let a voter's grant for (legion, term, incarnation) count, for the voter,
// from when it received the request and for a lease L of its slowest clock
// (the smaller of CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW), and for the holder
// from before it sent the request and for 0.8 L of its fastest clock. The
// request was sent before it was received, and 0.8 <= (1-r)/(1+r) for rates
// within r = 10 %, so the holder's time ends before the voter's. A holder
// reigns only while the quorum-th latest of its grants has not ended. Two
// quorums share a voter; that voter gave no second grant while the first
// lasted; so the two reigns do not overlap. What could break this, and the
// rule that keeps it:
//
//   - An answer credited to a later request than the one it answers: answers
//     echo the sequence number of their request, and the time of sending is
//     looked up by it (model/lease.pml: COUNT_FROM_ANSWER, ANSWER_UNMATCHED).
//   - A release that overtakes, or is overtaken by, a newer grant: releases
//     carry the sender's sequence number; a voter ignores one that is older
//     than its last grant, and requests older than a release (RELEASE_UNNUMBERED). And
//     no incarnation asks twice in one term, so a term given back is over (TERM_ASKED_TWICE).
//   - A release while work of the reign still runs: it is sent only once the
//     shell has let go. A shell that never does lets the grants run out
//     (RELEASE_BEFORE_STOP).
//   - Answers that arrive after the holder let go: letting go forgets every
//     request, so nothing is left that they could be credited to (OLD_ANSWERS_COUNT).
//   - A voter that restarts and forgets whom it votes for: the grant is on
//     disk before the answer leaves ([Persist] before [Send], by Send.After).
//     Renewals are not written, so a recovered grant counts as fresh, and for
//     1.25 L (RESTART_FORGETS).
//   - A renewal acknowledged before its grant is durable: the voter counts a
//     grant as extended only once it has been told [Durable] (RENEW_BEFORE_DISK).
//
// # Why at most one start
//
// A voter accepts a write of (legion, term) only if that term is its promise,
// and stores it before it answers. Its answer to a vote carries, read after
// the promise and after every earlier write, all that it ever took. Whatever
// a quorum accepted in an older term is therefore known to every lord after
// it: two quorums share a voter, which either accepted before it promised (so
// the answer holds the write) or promised first (so it refused the write).
// The core does not look inside payloads. See model/claims.pml, and
// model/founding.pml for how an electorate comes to be; model/README.md says
// where the code holds each rule whose removal they show to be fatal.
//
// # Who should reign
//
// A [Rank] orders the candidates: effective valor, which is valor, and what the
// checks add, and one less for each lordship held elsewhere; then a hash of
// instance and legion. Choosing well is never a ground for safety: all of it
// goes by gossip, by what came with requests, and by guesses that expire.
//
//   - A vacant throne: the best stands at once, the next half a beat later, and
//     so on; and for two beats after a throne fell vacant a voter that knows of a
//     better candidate refuses a worse one. Then it votes for whoever asks.
//   - The first election of a legion waits until all voters are here, or for a
//     lease once a quorum of them is, so that the first to start does not win all.
//   - Nobody takes a throne from a living lord. A lord gives it away, to a
//     candidate that has been better for preempt_delay, or because it is unfit,
//     drained or told to, or its wall clock is wrong; with preempt off, for the
//     latter reasons alone.
//   - It asks first. The successor answers Ready only if it has just heard a
//     quorum of voters itself and is taking no other; then the lord stops,
//     lets go, and releases naming it; voters prefer it for up to two beats
//     (yield.go draws it). A better node that hears nobody therefore moves nothing.
//   - A lord that must go and finds nobody ready gives up after two beats, or
//     after a lease if it was told to; at once if nobody else is fit, and then
//     there is no lord.
//   - Lordships spread because the most loaded lord offers them, one at a
//     time, and the candidate accepts on its own true load (spread.go). With
//     equal valors the counts end within one of each other, and then rest.
//   - A node whose wall clock is wrong by more than 10 s, by the voters' clocks,
//     does not reign over anything with slots while another can (clock.go).
//   - A node that lost the same lordship three times in a minute through its
//     own condition ranks last there for a minute, doubling (held.go). This is
//     kept in memory: one that is restarted again and again is not held back.
//   - What a node announced while it heard no quorum it announces again when one
//     answers: nobody else could know that it ranks last by now.
//
// # How the first electorate comes to be
//
// While there is none there is no lord. Once as many nodes see each other as there
// are to be voters (size), all of them willing, without an electorate and of one
// opinion about the size, the first of them by name proposes the first so many of
// them. The [Founding] stands when all that it names have accepted it, durably; who
// has accepted one takes another only on proof that the first can never stand. Fewer
// nodes found nothing, however long they wait; with a size of 1 a node founds at
// once. Two clusters that were founded apart never merge: each calls the other
// foreign. Terms begin above the Unix time of the founding, so that they grow even
// where every disk was lost.
//
// # Why the electorate may change
//
// An electorate is a record with an epoch. The next one is a value of Paxos
// whose acceptors are the voters of the one that stands, and whose ballots are
// the terms of the built-in legion [ClusterLegion]: its lord sends [Amend], a
// voter that has promised it that term stores the record, and with a quorum of
// them it is chosen. A voter that has stored a record does not act on it; it
// carries it with its votes for ClusterLegion, and a new lord begins with the
// latest that it was told of. So there is one record for each epoch, and only
// what is chosen spreads and is adopted. Whoever has adopted an epoch takes no
// message of an older one, and answers with the record.
//
// One voter is added or removed at a time, so a quorum of one epoch shares a
// voter with each of the next: that voter keeps its promise to a lord of the
// epoch before until its lease is over, and has what that lord wrote. With two
// changes nothing is shared any more. What bridges them is that a voter stores
// the next amendment only once it is *whole* in the epoch that stands:
//
//   - It has merged what so many voters of the epoch before had promised and
//     taken that no quorum of that epoch could do without them. Each of these
//     answers after its own adoption is on disk. So nothing can be added to what
//     it told, and nothing be committed, nobody elected in that epoch any more.
//   - Since the last of those answers 1.25 of the longest lease has passed, so
//     that every reign of that epoch has ended or is known to the new one.
//
// The amendment needs a quorum of whole voters, and each quorum of the epoch
// after it shares one with them. So whatever was committed, in whichever epoch,
// is known to a voter of every quorum of the epoch that stands; and a promise of
// a higher term is too, which keeps older lords from writing.
//
// A voter that lost its disk is another instance and no voter any more. It is
// removed, and then added as any other node would be: two changes. There is no
// blank voter that must be kept silent, because none is ever put in the place
// of one that knew something; a new one counts beside the others, in an
// electorate whose other voters are whole. (Put in its place in one step, it
// would share nothing with a quorum of its predecessor's: TWO_AT_ONCE.)
//
// A write is committed by voters that all took it in the same epoch: one that
// took it two epochs ago may have promised a higher term since, to a quorum
// that shares nothing with those who take it now (OLD_ACKS). So a lord that
// learns of an epoch asks all of them again for what is not committed.
//
// A lord goes on across a change. Its grants from the epoch before will do until
// they end, since they are a quorum of that one; a voter that was removed is not
// asked for more. They end by the shorter of the two leases, because a voter may
// extend one by that; and a voter extends none by a longer lease before the
// epoch is on its disk, since after a crash it would abstain for the shorter one.
//
// A voter is removed only while a quorum of those that would be left answer beats,
// even one that is lost: where two are, the wrong one might go first.
//
// [Refound] is outside all this: somebody says by hand that a quorum is lost for
// good. The node becomes the only voter, whole by decree, in an epoch and with
// terms far above any other. What only the lost voters knew is forgotten, so
// that slots they had accepted may start again; and if they are not lost, there
// are two clusters until they meet, and then theirs gives way.
//
// # Failures, and what a stranger may expect
//
//   - A split: the side with a quorum of voters has a lord within lease + 2
//     beats, by its own clocks, and at worst 5 beats more for each further
//     lordship that was lost at once; the other side's lords stop by themselves
//     within 0.8 lease, by their own clocks, before the first side can elect. A
//     lord that still has a quorum stays. Where no side has one there is no lord.
//   - The split heals: the nodes find each other within about 10 s, and the lord
//     stays. Whoever was cut off has raised no term meanwhile; if it is the better
//     one it is offered the throne like any node that joins.
//   - The lord's host dies or is cut off: as a split.
//   - The lord's process dies and its host lives: whoever knows that for certain
//     delivers the certificate that the core made beforehand ([Core.Certificate]);
//     then as if it had stopped.
//   - The lord stops (SIGTERM): it lets go first, then sends a death
//     certificate; voters free its thrones and the next best campaigns at once.
//   - A voter restarts: it takes the sitting lord back at once. For another it
//     votes only after 1.25 leases, even if what it promised was given back
//     since, for that is not on its disk. What it promised to itself is void. So
//     when all voters are restarted together, by power or by hand, there is no
//     lord for 1.25 leases; a node that is its own only voter reigns at once.
//   - A voter loses its disk: it comes back as another instance, which the
//     electorate does not name: it may be lord but has no vote. The lord of the
//     cluster removes the old one and adds the new, some seconds apart, if a quorum
//     of those that are left answers. Until then one voter less may fail.
//   - A disk is restored, or copied with a machine: a state directory counts its
//     starts, and the others remember them. The node that is found out is told,
//     and takes no part any more until it starts as another instance.
//   - A majority of voters is lost for good: there is no lord and no change of
//     electorate until a survivor is told to found the cluster again.
//   - One-way cuts: a lord that is heard but does not hear falls by its own
//     clock and gives the throne back, so that another has it at once; were it to
//     go on, a voter extends a grant only if the beat echoes an answer of its own
//     from within the last lease. A lord that hears but is not heard has no
//     answers either, and falls as in a split. A candidate that hears nobody, or
//     that nobody hears, asks whether it might stand, and raises no term.
//   - Two stand at once and share the votes: the one that thinks itself the
//     lesser gives its votes back at once, and voters tell the other.
//   - A candidate fails with some of the votes it asked for: those voters have
//     promised its term, and vote for no lord of a term before. Such a lord goes
//     on with the others, and one voter less may fail; the next election is in
//     a higher term. The lord does not take a new one for that alone: its reign
//     would end, and with it what it runs.
//   - A clock jump moves no lease: wall time numbers the first term and is no
//     part of any promise. But it says which slots are due, so a lord whose wall
//     clock is more than 10 s ahead of so many voters' that the rest is no quorum
//     gives its thrones back before anything of it is written, with the next
//     answers to its beats, and wins none; one that a quorum is as far ahead of
//     yields to whoever is ready, and stands for a vacant throne only if nobody
//     else has for a lease (clock.go). Where a quorum is wrong together, or a node
//     is alone, nobody notices.
//   - A node is suspended: for what it holds as a lord that time has passed, and
//     it may be none when it wakes; what it promised as a voter lasts as much longer.
//   - The core freezes: beats stop with it, and the lordships go.
//   - The disk stalls: no vote or write is answered before it is durable, and
//     a write outstanding for longer than a lease withholds beats. A disk that
//     takes no writes ([DiskTrouble]) has the node give up its lordships, and it
//     neither votes nor stands until there is room again.
//   - A second node of the same name: the gossip refuses it, or has the younger
//     one stand back. What it sends until then takes nothing from the first:
//     voters are known by name and instance, holders by incarnation.
//
// # Not promised
//
// One lord, or one start, in a legion that was told to do with fewer votes than
// a majority; unsafe.go says what holds there instead.
//
// One lord with a stopped guest clock; anything against a host whose root is
// hostile or that holds the cluster's key; progress without a quorum.
package legion
