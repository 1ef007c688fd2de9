// Package ledger is what a node does not forget: the grants it gave, the
// electorate it belongs to, and every slot and run it has heard of. It is one
// SQLite file in the state directory.
//
// # Authority
//
// The protocol's safety rests on this package for one thing: what Write has
// acknowledged is there after a kill, a panic or a power cut. A voter that
// forgot a grant or a claim could help to elect a second lord or start a slot
// twice. So Write is one transaction with synchronous=FULL, and it returns
// after the disk's own word. Grants, electorate, founding and values are
// opaque here; records and marks are merged with jobs.Merge and
// jobs.MergeMark inside the transaction, so that the file holds the maximum of
// all that was ever written to it, in whatever order it came.
//
// What a voter answers a new lord with (Unsettled and its hash) is kept in
// memory and changed only after the commit: it never says more than the disk
// knows, and a failed transaction leaves no trace in it.
//
// # One process, one instance
//
// A state directory belongs to one process at a time: Open takes a flock on
// the file "lock", which holds the pid, and gives ErrInUse to a second one.
// The lock dies with the process, so that whoever holds it knows that the one
// before is gone.
//
// The file carries an instance (a random id, made with it) and counts its
// starts; CountOn counts on in between. Peers remember both: a lower or doubled
// counter betrays a copied or restored directory. A missing or damaged file gives a
// new instance, for a voter that has lost its memory is a new voter.
//
//	ledger.db, -wal, -shm         the ledger; see docs/ledger.md for its tables
//	lock                          flock, and the pid of who holds it
//	ledger.damaged                asks the next Open to move the file aside
//	ledger.damaged-<time>         a file that was moved aside, for the curious
//
// # History
//
// The settled records are summed up by hour in digests, which change in the
// transaction that changes the records: two nodes find out with a few bytes an
// hour whether they have the same past, and need to exchange only the hours in
// which they differ (Digests, Settled, Fill). Fill merges like Write, with one
// exception: a run that is unsettled here is not settled by the mere hearsay
// that it is lost. Whoever exchanges must leave out the hours that a lord may
// still act upon, for a lord reads the unsettled table and the newest history
// as what a quorum has told it.
//
// # Schema
//
// PRAGMA user_version counts the migrations that a file has had; Open does the
// missing ones, each in a transaction. docs/ledger.md describes the tables for
// people, who may read them with sqlite3 -readonly at any time:
//
//	runs      every slot and run, one row for each (slot, legion, attempt, run)
//	history   a view of runs with times as text
//	marks     up to when each job has been decided about
//	grants    the last promise of each legion's throne
//	blobs     electorate, founding, values
//	meta      instance, starts
//	digests   count and hash of the settled runs of each hour
//
// # Failures
//
//   - Disk full: Write returns ErrFull and changes nothing. Before it does, it
//     folds the write-ahead log back once and tries again. The store stays
//     usable; the first Write after room came back succeeds.
//   - Damage found by Open (no SQLite header, a failed quick_check, rows that
//     make no sense): the file is moved aside with its log, a new one is made,
//     Fresh is true. Above checkWhole bytes only the tables that the protocol
//     rests on are checked, because the history can take minutes.
//   - Damage found later: the call returns ErrDamaged, Config.Damaged is told,
//     and the next Open moves the file aside. The owner should stop.
//   - A schema of a newer program: Open returns ErrSchema and touches nothing.
//   - Any other error of the disk is returned as it is and moves nothing.
//
// # Not promised
//
// SQLite has no checksum on its pages: a disk that returns wrong bytes for
// right ones may go unnoticed. A disk that acknowledges a flush it has not
// done breaks the promise of Write. Retention never removes marks or unsettled
// records, so both grow with the number of jobs ever seen.
package ledger
