package jobs

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of an encoded batch. A table of 10,000 jobs, each with a mark and a
// living run, is about 2.5 MiB.
const (
	// MaxBatchBytes is what a message of 8 MiB has room for: a batch that no
	// message can carry would be sent again for ever.
	MaxBatchBytes = 8<<20 - 64<<10
	MaxBatchItems = 1 << 17 // records, and as many marks

	// MaxUnsettled bounds the attempts of one legion that wait or run, so that
	// a voter can tell a new lord of them. With names of 64 bytes, the longest
	// that a configuration may have, they leave room in a batch for 10,000 marks;
	// with the usual ones there is room for twice as many attempts, left by
	// lords whose claims no quorum took.
	MaxUnsettled = 1 << 14
)

// batchVersion is the first byte of an encoded batch. It changes only when an
// older program would misunderstand the rest; a new field does not.
const batchVersion = 1

// ErrBatch is what every refusal of an encoded batch wraps.
var ErrBatch = errors.New("not a batch")

// A Batch is the payload of one fenced quorum write, and the table a voter
// answers with: records and marks, to be merged by whoever gets them.
type Batch struct {
	Records []Record
	Marks   []Mark
}

// wireBatch keeps its items raw, so that a short message cannot make the
// decoder reserve much memory before the first item is found wanting.
type wireBatch struct {
	Records []cbor.RawMessage `cbor:"1,keyasint,omitempty"`
	Marks   []cbor.RawMessage `cbor:"2,keyasint,omitempty"`
}

// wireRecord is a Record on the wire. A number is never used twice.
type wireRecord struct {
	Legion      string `cbor:"1,keyasint,omitempty"`
	SlotNode    string `cbor:"2,keyasint,omitempty"`
	Job         string `cbor:"3,keyasint,omitempty"`
	At          int64  `cbor:"4,keyasint,omitempty"`
	SlotManual  string `cbor:"5,keyasint,omitempty"`
	Attempt     int    `cbor:"6,keyasint,omitempty"`
	Run         string `cbor:"7,keyasint,omitempty"`
	State       State  `cbor:"8,keyasint,omitempty"`
	Term        uint64 `cbor:"9,keyasint,omitempty"`
	Node        string `cbor:"10,keyasint,omitempty"`
	Incarnation string `cbor:"11,keyasint,omitempty"`
	Definition  string `cbor:"12,keyasint,omitempty"`
	Reason      string `cbor:"13,keyasint,omitempty"`
	Scheduled   int64  `cbor:"14,keyasint,omitempty"`
	Started     int64  `cbor:"15,keyasint,omitempty"`
	Ended       int64  `cbor:"16,keyasint,omitempty"`
	ExitCode    int    `cbor:"17,keyasint,omitempty"`
	Signal      string `cbor:"18,keyasint,omitempty"`
	Manual      bool   `cbor:"19,keyasint,omitempty"`
	To          int64  `cbor:"20,keyasint,omitempty"`
	Count       int    `cbor:"21,keyasint,omitempty"`
}

// wireMark is a Mark on the wire. A number is never used twice.
type wireMark struct {
	Legion string `cbor:"1,keyasint,omitempty"`
	Node   string `cbor:"2,keyasint,omitempty"`
	Job    string `cbor:"3,keyasint,omitempty"`
	Timing string `cbor:"4,keyasint,omitempty"`
	At     int64  `cbor:"5,keyasint,omitempty"`
	Term   uint64 `cbor:"6,keyasint,omitempty"`
}

func (r Record) wire() wireRecord {
	return wireRecord{
		Legion: r.Legion, SlotNode: r.Slot.Node, Job: r.Job, At: millis(r.At), SlotManual: r.Slot.Manual,
		Attempt: r.Attempt, Run: r.Run, State: r.State, Term: r.Term,
		Node: r.Node, Incarnation: r.Incarnation, Definition: r.Definition, Reason: r.Reason,
		Scheduled: millis(r.Scheduled), Started: millis(r.Started), Ended: millis(r.Ended),
		ExitCode: r.ExitCode, Signal: r.Signal, Manual: r.Manual, To: millis(r.To), Count: r.Count,
	}
}

func (w wireRecord) record() Record {
	return Record{
		Slot:    Slot{Legion: w.Legion, Node: w.SlotNode, Job: w.Job, At: fromMillis(w.At), Manual: w.SlotManual},
		Attempt: w.Attempt, Run: w.Run, State: w.State, Term: w.Term,
		Node: w.Node, Incarnation: w.Incarnation, Definition: w.Definition, Reason: w.Reason,
		Scheduled: fromMillis(w.Scheduled), Started: fromMillis(w.Started), Ended: fromMillis(w.Ended),
		ExitCode: w.ExitCode, Signal: w.Signal, Manual: w.Manual, To: fromMillis(w.To), Count: w.Count,
	}
}

func (m Mark) wire() wireMark {
	return wireMark{Legion: m.Legion, Node: m.Node, Job: m.Job, Timing: m.Timing, At: millis(m.At), Term: m.Term}
}

func (w wireMark) mark() Mark {
	return Mark{Legion: w.Legion, Node: w.Node, Job: w.Job, Timing: w.Timing, At: fromMillis(w.At), Term: w.Term}
}

func (r Record) canonical() []byte { return mustEncode(r.wire()) }
func (m Mark) canonical() []byte   { return mustEncode(m.wire()) }

func mustEncode(v any) []byte {
	b, err := canonical.Marshal(v)
	if err != nil {
		panic(err) // only strings and numbers
	}
	return b
}

// Encode is the batch in CBOR with integer keys, after one version byte. It
// fails if an item is not valid or a limit is passed.
func (b Batch) Encode() ([]byte, error) {
	if len(b.Records) > MaxBatchItems || len(b.Marks) > MaxBatchItems {
		return nil, fmt.Errorf("encode batch: %d records and %d marks, at most %d of each", len(b.Records), len(b.Marks), MaxBatchItems)
	}
	w := wireBatch{Records: make([]cbor.RawMessage, len(b.Records)), Marks: make([]cbor.RawMessage, len(b.Marks))}
	for i, r := range b.Records {
		r = r.Normal()
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("encode batch: %w", err)
		}
		w.Records[i] = r.canonical()
	}
	for i, m := range b.Marks {
		if err := m.Validate(); err != nil {
			return nil, fmt.Errorf("encode batch: %w", err)
		}
		w.Marks[i] = m.canonical()
	}
	encoded := append([]byte{batchVersion}, mustEncode(w)...)
	if len(encoded) > MaxBatchBytes {
		return nil, fmt.Errorf("encode batch: %d bytes, at most %d", len(encoded), MaxBatchBytes)
	}
	return encoded, nil
}

// strict takes nothing that Encode could not have made, except fields of the future.
var strict = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  8,
		MaxArrayElements: MaxBatchItems,
		MaxMapPairs:      64,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// DecodeBatch is the inverse of Encode for bytes that anybody may have sent.
// It takes all of them or none; errors wrap ErrBatch. The items are Normal.
func DecodeBatch(encoded []byte) (Batch, error) {
	if len(encoded) == 0 || len(encoded) > MaxBatchBytes {
		return Batch{}, fmt.Errorf("decode batch: %w: %d bytes", ErrBatch, len(encoded))
	}
	if encoded[0] != batchVersion {
		return Batch{}, fmt.Errorf("decode batch: %w: version %d, want %d", ErrBatch, encoded[0], batchVersion)
	}
	var w wireBatch
	if err := strict.Unmarshal(encoded[1:], &w); err != nil {
		return Batch{}, fmt.Errorf("decode batch: %w: %w", ErrBatch, err)
	}
	var b Batch
	for i, raw := range w.Records {
		var item wireRecord
		if err := strict.Unmarshal(raw, &item); err != nil {
			return Batch{}, fmt.Errorf("decode batch: %w: record %d: %w", ErrBatch, i, err)
		}
		r := item.record()
		if err := r.Validate(); err != nil {
			return Batch{}, fmt.Errorf("decode batch: %w: record %d: %w", ErrBatch, i, err)
		}
		b.Records = append(b.Records, r)
	}
	for i, raw := range w.Marks {
		var item wireMark
		if err := strict.Unmarshal(raw, &item); err != nil {
			return Batch{}, fmt.Errorf("decode batch: %w: mark %d: %w", ErrBatch, i, err)
		}
		m := item.mark()
		if err := m.Validate(); err != nil {
			return Batch{}, fmt.Errorf("decode batch: %w: mark %d: %w", ErrBatch, i, err)
		}
		b.Marks = append(b.Marks, m)
	}
	return b, nil
}
