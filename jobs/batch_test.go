package jobs

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

func TestBatchRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := Batch{
			Records: rapid.SliceOfN(anyRecord(anySlot(fewNames)), 0, 5).Draw(t, "records"),
			Marks:   rapid.SliceOfN(anyMark(), 0, 5).Draw(t, "marks"),
		}
		encoded, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeBatch(encoded)
		if err != nil {
			t.Fatal(err)
		}
		var want Batch
		for _, r := range b.Records {
			want.Records = append(want.Records, r.Normal())
		}
		for _, m := range b.Marks {
			want.Marks = append(want.Marks, m.Normal())
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func sampleBatch(n int) Batch {
	var b Batch
	for i := range n {
		job := fmt.Sprintf("job-%05d", i)
		b.Records = append(b.Records, Record{
			Slot: Slot{Legion: "db", Job: job, At: time.Unix(1e9, 0)}, Attempt: 1,
			Run: "0195a2d4-2b1c-7a9e-8f00-00000000beef", State: Claimed, Term: 1_700_000_000,
			Node: "node-1", Incarnation: "5e7c0f6e-9d6c-4c05-8d8c-000000000001", Definition: "0123456789abcdef",
			Scheduled: time.Unix(1e9, 0),
		})
		b.Marks = append(b.Marks, Mark{Legion: "db", Job: job, Timing: "0123456789abcdef", At: time.Unix(1e9, 0), Term: 1_700_000_000})
	}
	return b
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	good := sampleBatch(1)
	for name, spoil := range map[string]func(r *Record, m *Mark){
		"no job":        func(r *Record, m *Mark) { r.Job = "" },
		"no owner":      func(r *Record, m *Mark) { r.Legion = "" },
		"two owners":    func(r *Record, m *Mark) { r.Slot.Node = "n" },
		"slash":         func(r *Record, m *Mark) { r.Legion = "a/b" },
		"no time":       func(r *Record, m *Mark) { r.At = time.Time{} },
		"time and id":   func(r *Record, m *Mark) { r.Slot.Manual = "x" },
		"before 1970":   func(r *Record, m *Mark) { r.Ended = time.Unix(-1, 0) },
		"after 9999":    func(r *Record, m *Mark) { r.To = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no state":      func(r *Record, m *Mark) { r.State = 0 },
		"attempt":       func(r *Record, m *Mark) { r.Attempt = -1 },
		"count":         func(r *Record, m *Mark) { r.Count = math.MaxInt32 + 1 },
		"term":          func(r *Record, m *Mark) { r.Term = math.MaxUint64 },
		"long name":     func(r *Record, m *Mark) { r.Run = strings.Repeat("x", MaxName+1) },
		"not UTF-8":     func(r *Record, m *Mark) { r.Node = "\xff" },
		"mark, no job":  func(r *Record, m *Mark) { m.Job = "" },
		"mark, owners":  func(r *Record, m *Mark) { m.Node = "n" },
		"mark, term":    func(r *Record, m *Mark) { m.Term = math.MaxUint64 },
		"mark, timing":  func(r *Record, m *Mark) { m.Timing = strings.Repeat("x", MaxName+1) },
		"mark, instant": func(r *Record, m *Mark) { m.At = time.Unix(-1, 0) },
	} {
		r, m := good.Records[0], good.Marks[0]
		spoil(&r, &m)
		if _, err := (Batch{Records: []Record{r}, Marks: []Mark{m}}).Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
		// And the same from somebody who does not check.
		raw := append([]byte{batchVersion}, mustEncode(wireBatch{
			Records: []cbor.RawMessage{r.canonical()}, Marks: []cbor.RawMessage{m.canonical()},
		})...)
		if _, err := DecodeBatch(raw); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: decoded, %v", name, err)
		}
	}
}

func TestDecodeBatchRefuses(t *testing.T) {
	t.Parallel()
	encoded, err := sampleBatch(2).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"version only":   {batchVersion},
		"future version": append([]byte{batchVersion + 1}, encoded[1:]...),
		"cut":            encoded[:len(encoded)-1],
		"more":           append(bytes.Clone(encoded), 0),
		"too large":      make([]byte, MaxBatchBytes+1),
		"empty records":  append([]byte{batchVersion, 0xa1, 1, 0x98, 200}, bytes.Repeat([]byte{0xa0}, 200)...),
		"huge array":     {batchVersion, 0xa1, 1, 0x9a, 0xff, 0xff, 0xff, 0xff},
		"indefinite":     {batchVersion, 0xbf, 0xff},
		"twice a key":    {batchVersion, 0xa2, 1, 0x80, 1, 0x80},
		"deep":           append([]byte{batchVersion, 0xa1, 9}, bytes.Repeat([]byte{0x81}, 100)...),
	} {
		if got, err := DecodeBatch(b); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// A newer program may say more; what is known is taken.
func TestDecodeBatchIgnoresUnknownFields(t *testing.T) {
	t.Parallel()
	m := sampleBatch(1).Marks[0]
	item := map[int]any{1: m.Legion, 3: m.Job, 4: m.Timing, 5: millis(m.At), 6: m.Term, 77: []string{"new"}}
	raw := append([]byte{batchVersion}, mustEncode(map[int]any{2: []any{item}, 99: "new"})...)
	got, err := DecodeBatch(raw)
	if err != nil || len(got.Marks) != 1 || got.Marks[0] != m.Normal() {
		t.Fatalf("got %v, %v, want %v", got, err, m)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		encoded, err := sampleBatch(n).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := DecodeBatch(data)
		if err != nil {
			if !errors.Is(err, ErrBatch) {
				t.Fatalf("%v does not say that this is no batch", err)
			}
			return
		}
		encoded, err := b.Encode()
		if err != nil {
			t.Fatalf("decoded but not encoded: %v", err)
		}
		if again, err := DecodeBatch(encoded); err != nil || !reflect.DeepEqual(again, b) {
			t.Fatalf("%v became %v, %v", b, again, err)
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		batch := sampleBatch(n)
		encoded, err := batch.Encode()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("Encode/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			for b.Loop() {
				if _, err := batch.Encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("Decode/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			for b.Loop() {
				if _, err := DecodeBatch(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
