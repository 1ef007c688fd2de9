package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/legion-cron/legion-cron/jobs"
)

var start = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func mustOpen(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir}, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustWrite(t testing.TB, s *Store, w ...Writes) {
	t.Helper()
	if err := s.Write(w...); err != nil {
		t.Fatal(err)
	}
}

// record is attempt 1 of the slot i minutes after start.
func record(job string, i int, state jobs.State) jobs.Record {
	at := start.Add(time.Duration(i) * time.Minute)
	return jobs.Record{
		Slot:    jobs.Slot{Legion: "db", Job: job, At: at},
		Attempt: 1, Run: fmt.Sprintf("%s-%d", job, i), State: state, Term: 7,
		Node: "n1", Incarnation: "inc", Definition: "0123456789abcdef", Scheduled: at,
	}
}

func TestStartsAndInstance(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "odd ?#%dir", "state")
	var instance string
	for i := uint64(1); i <= 3; i++ {
		s := mustOpen(t, dir)
		if s.Fresh() != (i == 1) || s.Starts() != i || s.Instance() == "" {
			t.Fatalf("start %d: fresh %v, starts %d, instance %q", i, s.Fresh(), s.Starts(), s.Instance())
		}
		if instance != "" && s.Instance() != instance {
			t.Fatalf("instance changed from %s to %s", instance, s.Instance())
		}
		instance = s.Instance()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCountOn: a copy of the file as it was before, opened, does not count more
// than the file has.
func TestCountOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	copied := filepath.Join(t.TempDir(), "ledger.db")
	if _, err := s.writer.ExecContext(context.Background(), "VACUUM INTO ?", copied); err != nil {
		t.Fatal(err)
	}
	if err := s.CountOn(); err != nil || s.Starts() != 2 {
		t.Fatalf("counts %d, %v", s.Starts(), err)
	}
	if c := mustOpen(t, filepath.Dir(copied)); c.Fresh() || c.Instance() != s.Instance() || c.Starts() > s.Starts() {
		t.Errorf("the copy: fresh %v, counts %d", c.Fresh(), c.Starts())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = mustOpen(t, dir); s.Starts() != 3 {
		t.Errorf("counts %d when it is opened again", s.Starts())
	}
}

// The durability of Write is two pragmas; a test cannot cut the power.
func TestWriterSyncs(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "busy_timeout": "5000"} {
		var got string
		if err := s.writer.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, %v, want %s", pragma, got, err, want)
		}
	}
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if p, err := s.Load(); err != nil || !reflect.DeepEqual(p, Protocol{Values: map[string][]byte{}}) {
		t.Fatalf("a new ledger has %+v, %v", p, err)
	}
	a := Grant{Legion: "a", Term: 9, Holder: "n1", Instance: "x1", Incarnation: "i1", Lease: 2*time.Second + 1}
	b := Grant{Legion: "b", Term: 1, Holder: "n2", Incarnation: "i2", Lease: time.Second}
	mustWrite(t, s,
		Writes{Grants: []Grant{b, {Legion: "a", Term: 8}}, Electorate: []byte("e1"), Values: map[string][]byte{"x": []byte("1"), "y": {}, "z": []byte("3")}},
		Writes{Grants: []Grant{a}, Electorate: []byte("e2"), Founding: []byte{}, Values: map[string][]byte{"z": nil}})
	b.Released = true
	mustWrite(t, s, Writes{Grants: []Grant{b}}) // nil blobs change nothing
	want := Protocol{
		Grants: []Grant{a, b}, Electorate: []byte("e2"), Founding: []byte{},
		Values: map[string][]byte{"x": []byte("1"), "y": {}},
	}
	for range 2 {
		if p, err := s.Load(); err != nil || !reflect.DeepEqual(p, want) {
			t.Fatalf("got %+v, %v, want %+v", p, err, want)
		}
		s.Close()
		s = mustOpen(t, dir)
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	bad := record("a", 1, jobs.Claimed)
	bad.Job = ""
	for name, w := range map[string]Writes{
		"value":  {Values: map[string][]byte{"x": make([]byte, MaxValue+1)}},
		"name":   {Values: map[string][]byte{strings.Repeat("x", 256): nil}},
		"term":   {Grants: []Grant{{Legion: "a", Term: 1 << 63}}},
		"record": {Records: []jobs.Record{bad}},
		"mark":   {Marks: []jobs.Mark{{Legion: "a"}}},
		"batch":  {Batches: [][]byte{{1, 2, 3}}},
	} {
		good := Writes{Grants: []Grant{{Legion: "db"}}, Records: []jobs.Record{record("a", 0, jobs.Claimed)}}
		if err := s.Write(good, w); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if p, err := s.Load(); err != nil || len(p.Grants) != 0 || s.UnsettledHash("db") != [16]byte{} {
		t.Errorf("a refused write left %+v, %v", p, err)
	}
}

func TestWriteAfterClose(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	s.Close()
	if err := s.Write(Writes{Electorate: []byte("e")}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := s.Retain(start); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestStoreIsTheFoldOfMerge writes random records and marks in random groups,
// by every door there is, and checks the store against maps and jobs.Merge:
// what it holds, what it shows of it, and that another store which heard the
// same in another order has the same hashes, before and after a restart.
func TestStoreIsTheFoldOfMerge(t *testing.T) {
	t.Parallel()
	stores := [2]*Store{mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())}
	defer func() { must(t, stores[1].Close()) }() // not the one that was opened first
	rapid.Check(t, func(t *rapid.T) {
		for _, s := range stores { // as new
			if _, err := s.writer.ExecContext(t.Context(), "DELETE FROM runs; DELETE FROM marks; DELETE FROM digests"); err != nil {
				t.Fatal(err)
			}
			s.tables = map[string]*jobs.Table{}
		}
		records := rapid.SliceOfN(anyRecord, 0, 30).Draw(t, "records")
		marks := rapid.SliceOfN(anyMark, 0, 10).Draw(t, "marks")
		write := func(s *Store, records []jobs.Record, marks []jobs.Mark) {
			for len(records)+len(marks) > 0 {
				r := rapid.IntRange(0, len(records)).Draw(t, "some records")
				m := rapid.IntRange(0, len(marks)).Draw(t, "some marks")
				batch := jobs.Batch{Records: records[:r], Marks: marks[:m]}
				records, marks = records[r:], marks[m:]
				var err error
				switch rapid.IntRange(0, 2).Draw(t, "door") {
				case 0:
					err = s.Merge(batch)
				case 1:
					err = s.Write(Writes{Records: batch.Records}, Writes{Marks: batch.Marks})
				case 2:
					encoded, encodeErr := batch.Encode()
					err = errors.Join(encodeErr, s.Write(Writes{Batches: [][]byte{encoded}}))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		write(stores[0], records, marks)
		write(stores[1], rapid.Permutation(append(records, records...)).Draw(t, "again"), rapid.Permutation(marks).Draw(t, "order"))

		all := map[jobs.Key]jobs.Record{}
		for _, r := range records {
			if old, ok := all[r.Key()]; ok {
				r = jobs.Merge(r, old)
			}
			all[r.Key()] = r.Normal()
		}
		newest := map[jobs.MarkKey]jobs.Mark{}
		for _, m := range marks {
			if old, ok := newest[m.Key()]; ok {
				m = jobs.MergeMark(m, old)
			}
			newest[m.Key()] = m.Normal()
		}
		want := map[string]*jobs.Table{"": {}, "a": {}, "b": {}}
		for _, r := range all {
			want[r.Legion].Put(r)
		}
		for _, m := range newest {
			want[m.Legion].PutMark(m)
		}

		sums := digests{}
		for _, r := range all {
			sums.add(r, +1)
		}
		check := func(s *Store) {
			kept, err := s.Digests(0, math.MaxInt32)
			if err != nil || len(kept) != len(sums) {
				t.Fatalf("%d digests, want %d, %v", len(kept), len(sums), err)
			}
			for _, d := range kept {
				if want := sums[d.Hour]; want == nil || d != *want {
					t.Fatalf("digest %+v, want %+v", d, want)
				}
			}
			got, err := queryRecords(t.Context(), s.readDB, "SELECT "+runColumns+" FROM runs "+newestFirst)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.IsSortedFunc(got, NewestFirst) {
				t.Fatalf("not in order: %v", got)
			}
			found := map[jobs.Key]jobs.Record{}
			for _, r := range got {
				found[r.Key()] = r
			}
			if len(got) != len(all) || !maps.Equal(found, all) {
				t.Fatalf("store has\n%v, want\n%v", found, all)
			}
			looked, err := s.Lookup(slices.Collect(maps.Keys(all))...)
			if err != nil || len(looked) != len(all) {
				t.Fatalf("looked up %d of %d, %v", len(looked), len(all), err)
			}
			for legion, table := range want {
				if s.UnsettledHash(legion) != table.Hash() {
					t.Fatalf("legion %q: hash is not that of its content", legion)
				}
				got, want := s.Unsettled(legion), table.Batch()
				if !slices.Equal(got.Records, want.Records) || !slices.Equal(got.Marks, want.Marks) {
					t.Fatalf("legion %q: got %v, want %v", legion, got, want)
				}
			}
		}
		check(stores[0])
		check(stores[1])
		if err := stores[1].Close(); err != nil {
			t.Fatal(err)
		}
		s, err := Open(stores[1].cfg, start)
		if err != nil {
			t.Fatal(err)
		}
		stores[1] = s
		check(s)
	})
}

var (
	fewNames = rapid.SampledFrom([]string{"a", "b"})
	anyTime  = rapid.Map(rapid.Int64Range(0, 5), func(ms int64) time.Time { return start.Add(time.Duration(ms) * time.Hour / 2) })
)

var anyRecord = rapid.Custom(func(t *rapid.T) jobs.Record {
	r := jobs.Record{
		Slot:    jobs.Slot{Legion: fewNames.Draw(t, "legion"), Job: fewNames.Draw(t, "job"), At: anyTime.Draw(t, "at")},
		Attempt: rapid.IntRange(0, 1).Draw(t, "attempt"), Run: rapid.SampledFrom([]string{"", "r"}).Draw(t, "run"),
		State: jobs.State(rapid.IntRange(int(jobs.Queued), int(jobs.Missed)).Draw(t, "state")),
		Term:  rapid.Uint64Range(0, 2).Draw(t, "term"),
		Node:  fewNames.Draw(t, "node"), Incarnation: fewNames.Draw(t, "incarnation"),
		Definition: fewNames.Draw(t, "definition"), Reason: rapid.String().Draw(t, "reason"),
		Started: anyTime.Draw(t, "started"), ExitCode: rapid.IntRange(-1, 1).Draw(t, "exit"),
		Signal: fewNames.Draw(t, "signal"), Manual: rapid.Bool().Draw(t, "manual"),
		Count: rapid.IntRange(0, 1).Draw(t, "count"),
	}
	if rapid.Bool().Draw(t, "many") {
		r.To, r.Ended = anyTime.Draw(t, "to"), anyTime.Draw(t, "ended")
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		r.Slot.Legion, r.Slot.Node = "", r.Legion
	case 1:
		r.Slot.Manual, r.At, r.Scheduled = "0195", time.Time{}, r.At
	}
	return r
})

var anyMark = rapid.Custom(func(t *rapid.T) jobs.Mark {
	m := jobs.Mark{
		Legion: fewNames.Draw(t, "legion"), Job: fewNames.Draw(t, "job"), Timing: fewNames.Draw(t, "timing"),
		At: anyTime.Draw(t, "at"), Term: rapid.Uint64Range(0, 2).Draw(t, "term"),
	}
	if rapid.Bool().Draw(t, "local") {
		m.Legion, m.Node = "", m.Legion
	}
	return m
})

// Writers, and readers of everything, at once: each record is in the end where
// it belongs, and the image never shows what is not on disk.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	const writers, each = 4, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			job := fmt.Sprint("job", w)
			for i := range each {
				for _, state := range []jobs.State{jobs.Claimed, jobs.Running} {
					r := record(job, i, state)
					if err := s.Write(Writes{Records: []jobs.Record{r}}); err != nil {
						t.Error(err)
						return
					}
				}
				for _, r := range s.Unsettled("db").Records {
					onDisk, err := s.Lookup(r.Key())
					if err != nil || len(onDisk) != 1 || jobs.Merge(onDisk[0], r) != onDisk[0] {
						t.Errorf("the image has %v, the disk %v, %v", r, onDisk, err)
						return
					}
				}
				if err := s.Merge(jobs.Batch{Records: []jobs.Record{record(job, i, jobs.Succeeded)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.Runs(Query{Outcome: jobs.Succeeded, Limit: MaxRuns})
	if err != nil || len(got) != writers*each {
		t.Errorf("got %d runs, %v", len(got), err)
	}
	if s.UnsettledHash("db") != [16]byte{} {
		t.Error("something is left unsettled")
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	_, err := Open(Config{Dir: dir}, start) // flock is per open file, so the same process will do
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("by process %d", os.Getpid())) {
		t.Fatalf("got %v", err)
	}
	s.Close()
	mustOpen(t, dir)
}

// What a killed process left behind may hold the lock for a moment.
func TestLockOfTheDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, mustOpen(t, dir).Close())
	cmd := exec.Command("true")
	must(t, cmd.Run())
	path := filepath.Join(dir, lockName)
	must(t, os.WriteFile(path, fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o600))
	held, err := os.Open(path)
	must(t, err)
	must(t, unix.Flock(int(held.Fd()), unix.LOCK_EX))
	time.AfterFunc(5*lockRetry, func() { held.Close() })
	mustOpen(t, dir)
}

func TestDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, path string){
		"header": func(t *testing.T, path string) { overwrite(t, path, 0, 16) },
		"pages":  func(t *testing.T, path string) { overwrite(t, path, 4096, 8*4096) },
		"text": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte(strings.Repeat("hello\n", 2000)), 0o600))
		},
		"cut":   func(t *testing.T, path string) { must(t, os.Truncate(path, 3*4096)) },
		"gone":  func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"empty": func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
		"gone, but not its log": func(t *testing.T, path string) {
			must(t, os.Rename(path, path+"-wal"))
		},
		"found in use": func(t *testing.T, path string) {
			must(t, os.WriteFile(filepath.Join(filepath.Dir(path), damagedName), nil, 0o600))
		},
		"no such state": func(t *testing.T, path string) {
			sqlExec(t, path, "UPDATE runs SET state = 'resting' WHERE rank < 5")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, fileName)
			s := mustOpen(t, dir)
			for i := range 50 {
				mustWrite(t, s, Writes{Records: []jobs.Record{record("a", i, jobs.Running)}, Electorate: []byte("e")})
			}
			instance := s.Instance()
			must(t, s.Close())
			before, err := os.ReadFile(path)
			must(t, err)
			damage(t, path)
			s = mustOpen(t, dir)
			if !s.Fresh() || s.Instance() == instance || s.Starts() != 1 {
				t.Errorf("fresh %v, starts %d, instance %s was %s", s.Fresh(), s.Starts(), s.Instance(), instance)
			}
			if p, err := s.Load(); err != nil || p.Electorate != nil || s.UnsettledHash("db") != [16]byte{} {
				t.Errorf("the new ledger remembers %+v, %v", p, err)
			}
			mustWrite(t, s, Writes{Electorate: []byte("new")})
			must(t, s.Close())
			aside, err := filepath.Glob(filepath.Join(dir, damagedName+"-*"))
			must(t, err)
			if nothing := strings.HasPrefix(name, "gone") && name != "gone, but not its log" || name == "empty"; nothing != (len(aside) == 0) {
				t.Errorf("moved aside: %v", aside)
			}
			if name == "found in use" {
				moved, err := os.ReadFile(aside[0])
				if err != nil || !bytes.Equal(moved, before) {
					t.Errorf("what was moved aside is not what was there: %v", err)
				}
			}
			if s = mustOpen(t, dir); s.Fresh() || s.Starts() != 2 {
				t.Errorf("the new ledger did not last: fresh %v, starts %d", s.Fresh(), s.Starts())
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, n), at)
	must(t, err)
}

func TestOnlyTheNewestDamagedAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range keepDamaged + 3 {
		must(t, os.WriteFile(filepath.Join(dir, fileName), []byte("no database, and far too short a text for one"), 0o600))
		s, err := Open(Config{Dir: dir}, start.Add(time.Duration(i)*time.Second))
		must(t, err)
		must(t, s.Close())
	}
	aside, err := filepath.Glob(filepath.Join(dir, damagedName+"-*Z"))
	must(t, err)
	newest := filepath.Join(dir, damagedName+"-"+start.Add((keepDamaged+2)*time.Second).Format("20060102T150405.000Z"))
	if len(aside) != keepDamaged || aside[len(aside)-1] != newest {
		t.Errorf("kept %v", aside)
	}
}

// A file of a newer program is not damaged, only not ours to touch.
func TestFutureSchema(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, fileName)
	must(t, mustOpen(t, dir).Close())
	sqlExec(t, path, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)+1))
	before, err := os.ReadFile(path)
	must(t, err)
	if _, err := Open(Config{Dir: dir}, start); !errors.Is(err, ErrSchema) {
		t.Fatalf("got %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed, %v", err)
	}
	sqlExec(t, path, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)))
	if s := mustOpen(t, dir); s.Fresh() {
		t.Error("the file was replaced")
	}
}

// Damage that shows while the ledger is in use is said, fails the whole
// transaction and nothing but it, and is acted on by the next Open.
func TestDamageInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	told := 0
	s, err := Open(Config{Dir: dir, Damaged: func(err error) {
		if told++; !errors.Is(err, ErrDamaged) {
			t.Errorf("told of %v", err)
		}
	}}, time.Now())
	must(t, err)
	mustWrite(t, s, Writes{Records: []jobs.Record{record("a", 1, jobs.Failed)}})
	sqlExec(t, filepath.Join(dir, fileName), "UPDATE runs SET state = 'resting'")
	if _, err := s.Runs(Query{}); !errors.Is(err, ErrDamaged) || told != 1 {
		t.Errorf("Runs: %v, told %d times", err, told)
	}
	w := Writes{Grants: []Grant{{Legion: "db"}}, Records: []jobs.Record{record("a", 1, jobs.Running)}}
	if err := s.Write(w); !errors.Is(err, ErrDamaged) {
		t.Errorf("Write: %v", err)
	}
	mustWrite(t, s, Writes{Grants: []Grant{{Legion: "web"}}})
	if p, err := s.Load(); err != nil || len(p.Grants) != 1 || p.Grants[0].Legion != "web" {
		t.Errorf("got %+v, %v", p, err)
	}
	must(t, s.Close())
	if s := mustOpen(t, dir); !s.Fresh() {
		t.Error("the damaged file is still there")
	}
}
