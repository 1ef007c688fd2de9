package jobs

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Overlap says what happens when a slot is due while another run of the same
// job is alive anywhere in the cluster.
type Overlap string

// The overlap policies. Skip records the new slot as skipped(overlap). Queue
// keeps at most one slot waiting, QueueAll keeps all of them in order. Replace
// kills the living run and starts the new one. Allow starts it beside the others.
const (
	OverlapSkip     Overlap = "skip"
	OverlapQueue    Overlap = "queue"
	OverlapQueueAll Overlap = "queue-all"
	OverlapReplace  Overlap = "replace"
	OverlapAllow    Overlap = "allow"
)

// OnLost says what a lord does about a run that is lost.
type OnLost string

// Skip leaves a lost run lost (at most once); Rerun claims the next attempt of
// its slot (at least once).
const (
	OnLostSkip  OnLost = "skip"
	OnLostRerun OnLost = "rerun"
)

// OnUnlord says what happens to a living run when its node loses the lordship.
type OnUnlord string

// Finish lets the run end in peace; Kill has it dead before a successor can be lord.
const (
	OnUnlordFinish OnUnlord = "finish"
	OnUnlordKill   OnUnlord = "kill"
)

// CatchUpRuns says which of the slots that passed without a lord are run.
type CatchUpRuns string

// Last runs the newest and records the older ones as missed(superseded); All runs every one.
const (
	CatchUpLast CatchUpRuns = "last"
	CatchUpAll  CatchUpRuns = "all"
)

// Dialect is the language a schedule text is written in.
type Dialect uint8

// Crontab texts are crontab(5) with the descriptors and extensions of
// scheduler/cronspec. UWSGI texts are uWSGI's five integers.
const (
	Crontab Dialect = iota
	UWSGI
)

// A Job is one entry of the configuration: what to run, when, where and how.
// Its zero value is not valid; the configuration fills in every default.
// A Job is a value: nobody changes one that others can see.
type Job struct {
	Name   string `cbor:"1,keyasint"`
	Legion string `cbor:"2,keyasint"` // empty: the job runs on every node that lists it

	Schedules []string      `cbor:"3,keyasint"` // the union of these
	Dialect   Dialect       `cbor:"4,keyasint"`
	Seconds   bool          `cbor:"5,keyasint"` // six fields, seconds first
	Timezone  string        `cbor:"6,keyasint"` // IANA name; empty: the node's
	DST       string        `cbor:"7,keyasint"` // "cron", "skip" or "utc"
	Jitter    time.Duration `cbor:"8,keyasint"`

	Command string   `cbor:"9,keyasint"`  // a text for Shell -c; empty if Argv is set
	Argv    []string `cbor:"10,keyasint"` // run directly; empty if Command is set
	Shell   string   `cbor:"11,keyasint"` // default /bin/sh

	User    string            `cbor:"12,keyasint"` // empty: the daemon's own
	Group   string            `cbor:"13,keyasint"` // empty: the user's primary group
	Dir     string            `cbor:"14,keyasint"` // empty: the user's home, or / without User
	Env     map[string]string `cbor:"15,keyasint"`
	EnvFile string            `cbor:"16,keyasint"`
	Umask   int               `cbor:"17,keyasint"` // -1: the daemon's
	Nice    int               `cbor:"18,keyasint"`
	IONice  string            `cbor:"19,keyasint"` // "", "idle", "best-effort[:0-7]", "realtime[:0-7]"
	Limits  map[string]string `cbor:"20,keyasint"` // rlimits: nofile = "1024", as = "2G", ...
	Stdin   string            `cbor:"21,keyasint"` // text for the child's standard input

	Timeout    time.Duration `cbor:"22,keyasint"` // 0: none
	StopSignal string        `cbor:"23,keyasint"` // "TERM"
	Grace      time.Duration `cbor:"24,keyasint"` // from StopSignal to KILL; 10 s

	Overlap      Overlap       `cbor:"25,keyasint"`
	Mutex        string        `cbor:"26,keyasint"`
	Exclusive    bool          `cbor:"27,keyasint"`
	Retries      int           `cbor:"28,keyasint"`
	RetryDelay   time.Duration `cbor:"29,keyasint"`
	Backoff      float64       `cbor:"30,keyasint"` // each delay is the one before times this; 1: constant
	SuccessCodes []int         `cbor:"31,keyasint"` // {0}

	CatchUp     time.Duration `cbor:"32,keyasint"` // CatchUpDefault: the smaller of 5 min and the time to the next slot
	CatchUpRuns CatchUpRuns   `cbor:"33,keyasint"`
	OnLost      OnLost        `cbor:"34,keyasint"`
	OnUnlord    OnUnlord      `cbor:"35,keyasint"`

	MaxOutput int64    `cbor:"36,keyasint"` // bytes kept in the run's output file; 1 MiB
	Notify    []string `cbor:"37,keyasint"`
	PingURL   string   `cbor:"38,keyasint"`
	Enabled   bool     `cbor:"39,keyasint"`

	Source string `cbor:"-"` // "file:line", for messages only
}

// CatchUpDefault as Job.CatchUp means: at most five minutes, and never past
// the next slot. Zero means that a late slot is never run.
const CatchUpDefault time.Duration = -1

// canonical encodes deterministically, so that equal jobs have equal hashes on every node.
var canonical = func() cbor.EncMode {
	m, err := cbor.CanonicalEncOptions().EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// Definition is a short hash of everything that makes the job what it is.
// Nodes compare it to find drift; a claim carries it. It does not depend on
// where the job was written down.
func (j Job) Definition() string { return hash(j) }

// Timing is a short hash of when the job runs. A mark belongs to one timing:
// a job whose schedule has changed has no past.
func (j Job) Timing() string {
	return hash([]any{j.Schedules, j.Dialect, j.Seconds, j.Timezone, j.DST, j.Jitter})
}

func hash(v any) string {
	b, err := canonical.Marshal(v)
	if err != nil {
		panic(err) // only strings, numbers, lists and maps of strings
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
