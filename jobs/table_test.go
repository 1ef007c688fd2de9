package jobs

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestTable plays merged records and marks into a table and checks it against
// the plain map of all that was merged: after any history, the table is what
// is unsettled, and its hash is that of a table made from this at once.
func TestTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		slot := rapid.Map(fewNames, func(job string) Slot {
			return Slot{Legion: "db", Job: job, At: time.Unix(1e9, 0)}
		})
		var table Table
		all := map[Key]Record{}
		marks := map[MarkKey]Mark{}
		for _, r := range rapid.SliceOfN(anyRecord(slot), 0, 30).Draw(t, "records") {
			r = r.Normal()
			if old, ok := all[r.Key()]; ok {
				r = Merge(old, r)
			}
			all[r.Key()] = r
			table.Put(r)
		}
		for _, m := range rapid.SliceOfN(anyMark(), 0, 10).Draw(t, "marks") {
			m = m.Normal()
			if old, ok := marks[m.Key()]; ok {
				m = MergeMark(old, m)
			}
			marks[m.Key()] = m
			table.PutMark(m)
		}
		var fresh Table
		unsettled := 0
		for _, r := range all { // in random order
			if !r.State.Settled() {
				unsettled++
				fresh.Put(r)
			}
		}
		for _, m := range marks {
			fresh.PutMark(m)
		}
		if table.Hash() != fresh.Hash() {
			t.Fatal("the hash depends on history")
		}
		if b := table.Batch(); !reflect.DeepEqual(b, fresh.Batch()) || len(b.Records) != unsettled || len(b.Marks) != len(marks) {
			t.Fatalf("table has %v, want %v", b, fresh.Batch())
		}
		if empty := unsettled+len(marks) == 0; empty != (table.Hash() == Hash{}) {
			t.Fatalf("empty is %v, hash %x", empty, table.Hash())
		}
	})
}

func TestTableHashSeesEveryField(t *testing.T) {
	t.Parallel()
	base := Record{Slot: Slot{Legion: "db", Job: "a", At: time.Unix(1e9, 0)}, Attempt: 1, Run: "r", State: Running}
	seen := map[Hash]string{}
	check := func(what string, r Record) {
		var table Table
		table.Put(r)
		if other, ok := seen[table.Hash()]; ok {
			t.Errorf("%s hashes like %s", what, other)
		}
		seen[table.Hash()] = what
	}
	check("the base", base)
	fields := reflect.TypeFor[Record]()
	for i := range fields.NumField() {
		changed := base
		switch f := reflect.ValueOf(&changed).Elem().Field(i); v := f.Addr().Interface().(type) {
		case *Slot:
			v.Job = "b"
		case *time.Time:
			*v = time.Unix(1e9+1, 0)
		case *string:
			*v += "x"
		case *bool:
			*v = !*v
		case *int:
			*v += 7
		case *uint64:
			*v += 7
		case *State:
			*v = Claimed
		default:
			t.Fatalf("field %s: this test does not know how to change a %T", fields.Field(i).Name, v)
		}
		check(fields.Field(i).Name, changed)
	}
}

func BenchmarkTable(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		var table Table
		for i := range n {
			table.PutMark(Mark{Legion: "db", Job: fmt.Sprint("job", i), Timing: "t", At: time.Unix(1e9, 0)})
		}
		r := Record{Slot: Slot{Legion: "db", Job: "a", At: time.Unix(1e9, 0)}, Attempt: 1, Run: "r", State: Claimed}
		b.Run(fmt.Sprintf("PutAndHash/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Term = uint64(i)
				table.Put(r)
				if table.Hash() == (Hash{}) {
					b.Fatal("no hash")
				}
			}
		})
	}
}
