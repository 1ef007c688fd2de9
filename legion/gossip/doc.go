// Package gossip finds the other nodes of a cluster and carries bytes between
// them. It wraps hashicorp/memberlist, and nothing else in the program imports
// that library. It is ignorant of its payload.
//
// # What it knows
//
// Each node has a name (unique in the cluster), an instance (made with its
// state directory) and an incarnation (new at each start). The last two travel
// in memberlist's node metadata, so that a restart within the detection time,
// which memberlist alone does not report, is seen as Down of the old
// incarnation and Up of the new one.
//
//	          Up                    Update (address)
//	unknown ------> live(incarnation) --.
//	   ^              |  ^              |
//	   |     Down     |  '--------------'
//	   '--------------'   Down, Up: another incarnation
//
// Membership is a hint. A crash is noticed after 6 to 10 s, a one-way cut
// perhaps never, because other nodes vouch for the one that cannot be reached.
// Whoever needs certainty must use answers of its own.
//
// # What it carries
//
//   - Send: a message to one node. Up to maxPacket bytes it is one UDP
//     packet, otherwise a TCP connection made by that peer's own sender. It may
//     be lost, duplicated, reordered (memberlist delivers bursts last in, first
//     out) and, by an attacker, replayed; an error from Send means it surely was
//     not sent, nil means nothing.
//   - Announce: a state that every node should know in its newest version. It
//     goes out at once, is passed on by those who hear it, and is compared
//     again at every push/pull (30 s), by its number where it is large. An older version never follows a newer
//     one of the same incarnation.
//   - Call: a question and its answer. The callee hands out a ticket for each
//     question, so a recorded question cannot be asked a second time.
//   - Notice: a sealed datagram that somebody else sends for this node when it
//     no longer can. It is answered to where it came from.
//
// # Failures
//
// After a partition memberlist does not find the other half again. So a loop
// tries, about every 10 s and for ever, every configured address (names are
// resolved anew each time, and by multicast DNS the links of this host are asked)
// and the addresses ever seen whose node is missing (of many a few, the latest and
// any of the others). Two rounds that reach nobody at all are said in the log, with
// the last error, again every five minutes while it lasts, and once when it is over.
//
// Two nodes of one name: whoever learns that its name is held at another
// address asks there. A younger node (less time since its start, each by its
// own clock) gives way: Start fails with ErrNameTaken, later Config.Conflict
// is called, and called again when there is no more word of the elder. A holder that
// does not answer is a ghost, of our previous life for instance; the name is ours
// once the others have buried it. If it is this process that answers there, at
// another address of its host, it takes nothing more at that one until then.
//
// Packets and streams that are not encrypted with one of the keys are dropped
// and counted, but a stream is read to its end before that is known: of all that
// are under way so much is read (maxHeldBytes), and the rest refused. A key holder
// is trusted: there is no node identity beyond it.
//
// # Not promised
//
// Delivery, order, uniqueness, agreement on who is a member. Without keys
// there is no protection at all against whoever can reach the port, and a
// packet built for the purpose may exhaust memory; Start refuses that outside
// loopback unless told otherwise.
package gossip
