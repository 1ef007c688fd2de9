package jobs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxReason bounds Record.Reason, in bytes; Normal cuts what is longer.
const MaxReason = 1024

// State is how far an attempt has come. The zero State is none at all.
type State uint8

// The states; the package comment says what each means. Their numbers are
// part of the wire format.
const (
	Queued State = iota + 1
	Claimed
	Starting
	Running
	Lost
	Succeeded
	Failed
	TimedOut
	Killed
	NeverStarted
	Skipped
	Missed
)

// RankLost is the rank from which on a record is settled.
const RankLost = int(Lost)

var stateNames = [...]string{
	Queued: "queued", Claimed: "claimed", Starting: "starting", Running: "running", Lost: "lost",
	Succeeded: "succeeded", Failed: "failed", TimedOut: "timed out", Killed: "killed",
	NeverStarted: "never started", Skipped: "skipped", Missed: "missed",
}

// Valid reports whether s is one of the states above.
func (s State) Valid() bool { return s >= Queued && s <= Missed }

// Rank orders states for Merge. All final states have the same rank, the highest.
func (s State) Rank() int {
	if s.Final() {
		return RankLost + 1
	}
	return int(s)
}

// Final reports whether nothing can replace the state.
func (s State) Final() bool { return s > Lost && s.Valid() }

// Settled reports whether a new lord need not be told of it: final, or lost.
func (s State) Settled() bool { return s.Rank() >= RankLost }

// String is the state as people and the ledger's columns see it.
func (s State) String() string {
	if !s.Valid() {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return stateNames[s]
}

// ParseState is the inverse of State.String.
func ParseState(text string) (State, error) {
	for s := Queued; s.Valid(); s++ {
		if stateNames[s] == text {
			return s, nil
		}
	}
	return 0, fmt.Errorf("parse state %.100q: no such state", text)
}

// A Record is what is known of one attempt of one slot, or of a slot (or of
// many in a row) that has no run. It is a value, and comparable with == once Normal.
//
// Slot.Node and Slot.Manual name the slot. Record.Node is the node that
// executes, which for a legion's job is not the same thing, and Record.Manual
// says that this attempt was asked for by hand, be it of a scheduled slot.
type Record struct {
	Slot
	Attempt     int    // from 1; 0 where there is no run
	Run         string // UUIDv7, given when the attempt is queued or claimed; empty where there is no run
	State       State
	Term        uint64 // of the lord that claimed the attempt or wrote the slot off; 0 for a job without a legion
	Node        string // executes it
	Incarnation string // of that node
	Definition  string // Job.Definition at the claim
	Reason      string // why it was skipped, missed, lost, killed or failed
	Scheduled   time.Time
	Started     time.Time
	Ended       time.Time
	ExitCode    int
	Signal      string // that ended the process; empty: it exited by itself
	Manual      bool
	To          time.Time // missed slots in a row: the last of them; the first is Slot.At
	Count       int       // how many slots the record stands for, if more than one
}

// A Key tells records apart: two records with the same key are two copies of
// one fact, to be merged. Local keeps a node apart from a legion of the same name.
type Key struct {
	Slot    string
	Local   bool
	Attempt int
	Run     string
}

// Key is the record's identity in every table.
func (r Record) Key() Key {
	return Key{Slot: r.Slot.String(), Local: r.Slot.Local(), Attempt: r.Attempt, Run: r.Run}
}

// Compare orders keys by slot, attempt and run.
func (k Key) Compare(o Key) int {
	local := 0
	if k.Local != o.Local {
		local = 1
		if o.Local {
			local = -1
		}
	}
	return cmp.Or(strings.Compare(k.Slot, o.Slot), local, cmp.Compare(k.Attempt, o.Attempt), strings.Compare(k.Run, o.Run))
}

// String describes the record in one line.
func (r Record) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v #%d %v", r.Slot, r.Attempt, r.State)
	if r.Count > 1 {
		fmt.Fprintf(&b, " x%d to %s", r.Count, normalTime(r.To).Format(slotLayout))
	}
	if r.Node != "" {
		fmt.Fprintf(&b, " on %s", r.Node)
	}
	if r.Term != 0 {
		fmt.Fprintf(&b, " in term %d", r.Term)
	}
	if r.Reason != "" {
		fmt.Fprintf(&b, ": %s", r.Reason)
	}
	return b.String()
}

// Normal is the record in the form of the package: times in UTC and to the
// millisecond, the reason valid UTF-8 and cut to MaxReason.
func (r Record) Normal() Record {
	r.Slot = r.Slot.Normal()
	r.Scheduled, r.Started, r.Ended, r.To =
		normalTime(r.Scheduled), normalTime(r.Started), normalTime(r.Ended), normalTime(r.To)
	r.Reason = strings.ToValidUTF8(r.Reason, string(utf8.RuneError))
	if len(r.Reason) > MaxReason {
		r.Reason = strings.ToValidUTF8(r.Reason[:MaxReason], "") // the cut may split one rune
	}
	return r
}

// Validate says what keeps the record out of every table, or nil.
func (r Record) Validate() error {
	if err := r.Slot.Validate(); err != nil {
		return err
	}
	if !r.State.Valid() {
		return fmt.Errorf("record %v: no such state", r.Slot)
	}
	if r.Attempt < 0 || r.Attempt > math.MaxInt32 || r.Count < 0 || r.Count > math.MaxInt32 ||
		r.ExitCode < math.MinInt32 || r.ExitCode > math.MaxInt32 || r.Term > math.MaxInt64 {
		return fmt.Errorf("record %v: a number is out of range", r.Slot)
	}
	if len(r.Reason) > MaxReason || !utf8.ValidString(r.Reason) {
		return fmt.Errorf("record %v: reason is not UTF-8 of at most %d bytes", r.Slot, MaxReason)
	}
	if err := errors.Join(
		validateName("run", r.Run), validateName("node", r.Node), validateName("incarnation", r.Incarnation),
		validateName("definition", r.Definition), validateName("signal", r.Signal),
		validateTime("scheduled", r.Scheduled), validateTime("started", r.Started),
		validateTime("ended", r.Ended), validateTime("to", r.To),
	); err != nil {
		return fmt.Errorf("record %v: %w", r.Slot, err)
	}
	return nil
}

// Merge makes one of two copies of a record: the one of higher term, then of
// higher rank. All that is said of one claim has the claim's term, and a later
// lord claims a queued slot again only if no quorum has the earlier claim; so
// the earlier one was never started, and its end says nothing about the later
// one. Of two that say lost the earlier counts: the node itself says so, too, when
// it is started again, and knows no better time for it than its start. What is left
// of ties (which only a fault of somebody's makes) is broken by content, so that
// every node breaks them alike. The result is Normal.
func Merge(a, b Record) Record {
	a, b = a.Normal(), b.Normal()
	if a == b || compareRecords(a, b) > 0 {
		return a
	}
	return b
}

// compareRecords is a total order of Normal records: 0 only for equal ones.
func compareRecords(a, b Record) int {
	if c := cmp.Or(
		cmp.Compare(a.Term, b.Term),
		cmp.Compare(a.State.Rank(), b.State.Rank()),
		cmp.Compare(a.State, b.State),
	); c != 0 {
		return c
	}
	if a.State == Lost { // of both, and whoever said so first knew better
		if c := b.Ended.Compare(a.Ended); c != 0 {
			return c
		}
	}
	return bytes.Compare(a.canonical(), b.canonical())
}

// A Hash is 128 bits of a table's or record's content.
type Hash [16]byte

// Hash is a hash of every field of the record, the same on every node.
func (r Record) Hash() Hash { return sum('r', r.Normal().canonical()) }

// sum keeps records and marks apart by kind.
func sum(kind byte, content []byte) Hash {
	full := sha256.Sum256(append([]byte{kind}, content...))
	return Hash(full[:len(Hash{})])
}
