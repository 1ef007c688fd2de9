package control

import (
	"encoding/json"
	"fmt"
	"time"
)

// Time is a moment on the wire: RFC 3339 in UTC, to the millisecond, or
// null when it is zero (not known, never, not yet).
type Time struct{ time.Time }

// At returns t as a Time.
func At(t time.Time) Time { return Time{t} }

const timeLayout = "2006-01-02T15:04:05.999Z07:00"

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.UTC().Format(timeLayout) + `"`), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Time) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("decode time: %w", err)
	}
	if text == nil {
		*t = Time{}
		return nil
	}
	at, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		return fmt.Errorf("decode time: %w", err)
	}
	*t = Time{at.UTC()}
	return nil
}

// List is a list that is [] on the wire when it is empty, never null.
type List[T any] []T

// MarshalJSON implements json.Marshaler.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// Status is what one node knows of itself, its cluster and its legions.
type Status struct {
	Node        string       `json:"node"`
	Incarnation string       `json:"incarnation"`
	Version     string       `json:"version"`
	Cluster     Cluster      `json:"cluster"`
	Legions     List[Legion] `json:"legions"`
	Process     Process      `json:"process"`
}

// Process is what the agent itself takes.
type Process struct {
	Started    Time `json:"started"`
	Goroutines int  `json:"goroutines"`
	HeapBytes  int  `json:"heap_bytes"` // in use, with what is not yet collected
}

// Cluster is the electorate and everybody who has been heard of.
type Cluster struct {
	ID      string       `json:"id"` // empty before the founding
	Epoch   uint64       `json:"epoch"`
	Voters  List[string] `json:"voters"` // names
	Size    int          `json:"size"`   // how many voters there are to be
	Quorum  int          `json:"quorum"`
	BeatMS  int64        `json:"beat_ms"`  // between two renewals
	LeaseMS int64        `json:"lease_ms"` // how long a vote holds
	Lord    string       `json:"lord"`     // who changes the electorate; empty: nobody now
	Change  string       `json:"change"`   // what is under way with it; empty: nothing
	Drift   List[string] `json:"drift"`    // what files say and the electorate does not
	Members List[Member] `json:"members"`
}

// Member is a node as this node sees it.
type Member struct {
	Name        string `json:"name"`
	Addr        string `json:"addr"`
	State       string `json:"state"` // alive, dead
	Incarnation string `json:"incarnation"`
	Version     string `json:"version"`
	ClockSkewMS *int64 `json:"clock_skew_ms"` // its wall clock minus ours; null: not known, as of one that is dead
}

// Legion is one legion as this node sees it.
type Legion struct {
	Name       string             `json:"name"`
	Lord       string             `json:"lord"` // empty: no lord, or none known
	Term       uint64             `json:"term"`
	Since      Time               `json:"since"`      // when this lord's reign began
	TrustedMS  int64              `json:"trusted_ms"` // how long the lordship still holds by itself; 0 elsewhere
	Quorum     int                `json:"quorum"`
	Votes      int                `json:"votes"`
	Safe       bool               `json:"safe"`   // quorum is more than half of the voters
	Agreed     bool               `json:"agreed"` // all voters name the same lord in the same epoch
	Succession List[string]       `json:"succession"`
	Members    List[LegionMember] `json:"members"`
	LastChange *Change            `json:"last_change"` // null: none since the agent started
	Voters     List[Vote]         `json:"voters"`      // of the cluster, and what each says of this legion
	Paused     string             `json:"paused"`      // why all its jobs are, and until when; empty: they are not
	Doubles    int                `json:"doubles"`     // runs too many that this node has found since it started; only where Safe is false
}

// Vote is what a voter has announced of a legion.
type Vote struct {
	Name string `json:"name"`
	For  string `json:"for"`  // whom its living grant is to; empty: nobody
	Term uint64 `json:"term"` // of that grant
	Why  string `json:"why"`  // empty: it votes for the lord
}

// LegionMember is a node's standing in one legion.
type LegionMember struct {
	Name      string       `json:"name"`
	Valor     int          `json:"valor"`
	Effective int          `json:"effective"` // valor with checks and the lordships held elsewhere
	Fit       bool         `json:"fit"`
	VoteFor   string       `json:"vote_for"`
	Role      string       `json:"role"` // lord, candidate, arbiter
	Checks    List[Check]  `json:"checks"`
	Reasons   List[string] `json:"reasons"` // what made effective differ from valor, or the node unfit
}

// Check is the state of one health check.
type Check struct {
	Name  string `json:"name"`
	State string `json:"state"` // unknown, passing, failing
	Valor int    `json:"valor"` // what it weighs at this moment
}

// Change is a lordship that moved.
type Change struct {
	At     Time   `json:"at"`
	From   string `json:"from"` // empty: the throne was vacant
	To     string `json:"to"`   // empty: the throne fell vacant
	Reason string `json:"reason"`
}

// Job is one job and where it stands.
type Job struct {
	Name     string       `json:"name"`
	Legion   string       `json:"legion"`   // empty: on every node that lists it
	Schedule string       `json:"schedule"` // several are joined by " | "
	Next     Time         `json:"next"`
	Last     Time         `json:"last"` // when its newest run started
	Paused   bool         `json:"paused"`
	Running  int          `json:"running"` // living runs
	Nodes    List[string] `json:"nodes"`   // who lists it
	Drift    List[string] `json:"drift"`   // who lists it with another definition
	Disabled bool         `json:"disabled"`
}

// Run is one run, or one slot that had none.
type Run struct {
	Run        string `json:"run"` // empty: skipped or missed
	Job        string `json:"job"`
	Legion     string `json:"legion"`
	Slot       string `json:"slot"`
	Attempt    int    `json:"attempt"`
	Term       uint64 `json:"term"`
	Node       string `json:"node"`
	Outcome    string `json:"outcome"` // or the state it is in: queued, claimed, starting, running
	Reason     string `json:"reason"`
	Scheduled  Time   `json:"scheduled"`
	Started    Time   `json:"started"`
	Ended      Time   `json:"ended"`
	LatenessMS *int64 `json:"lateness_ms"` // null: not started
	ExitCode   *int   `json:"exit_code"`   // null: not ended, or by a signal
	Signal     string `json:"signal"`
	Manual     bool   `json:"manual"`
}

// Lord answers who is the lord of a legion.
type Lord struct {
	Legion string `json:"legion"`
	Lord   string `json:"lord"` // empty: nobody, or nobody known
	Term   uint64 `json:"term"`
	Here   bool   `json:"here"` // this node is the lord at this moment
}

// Reload says what a reload changed, one line per change; no lines: nothing.
type Reload struct {
	Changes List[string] `json:"changes"`
}

// Next is when something is due: a schedule, or a job with several of them.
type Next struct {
	Spec        string       `json:"spec"` // several are joined by " | "
	Timezone    string       `json:"timezone"`
	Description string       `json:"description"`
	Next        List[Time]   `json:"next"`
	Notes       List[string] `json:"notes"` // jitter, DST, why it will not run
}
