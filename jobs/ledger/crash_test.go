package ledger

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

var (
	crashes   = flag.Int("ledger.crashes", 20, "how often TestKill kills the writer")
	crashSeed = flag.Uint64("ledger.seed", 0, "seed of TestKill; 0: random")
)

// childDir, in the environment, makes the test binary write to the ledger in
// that directory until it is killed.
const childDir = "LEDGER_TEST_CHILD"

// child writes as fast as it can and prints what was acknowledged, a line for
// each Write: the keys of its runs, and the term it granted.
func child(dir string) {
	s, err := Open(Config{Dir: dir}, start)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var out sync.Mutex
	for w := range 3 {
		go func() {
			for i := 0; ; i++ {
				var records []jobs.Record
				for j := range i%5 + 1 {
					records = append(records, record(fmt.Sprintf("job-%d-%d-%d", s.Starts(), w, j), i, jobs.Claimed))
				}
				grant := Grant{Legion: fmt.Sprint("legion", w), Term: s.Starts()<<32 + uint64(i)}
				if err := s.Write(Writes{Records: records, Grants: []Grant{grant}}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				var ids []string
				for _, r := range records {
					ids = append(ids, r.Run)
				}
				out.Lock()
				fmt.Printf("%s %d %s\n", grant.Legion, grant.Term, strings.Join(ids, " "))
				out.Unlock()
			}
		}()
	}
	select {}
}

// TestKill is P10: kill -9 at any moment, as often as you like, loses nothing
// that was acknowledged, and leaves a file without a fault.
func TestKill(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-ledger.seed=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	runs := map[string]bool{}
	terms := map[string]uint64{}
	for round := range *crashes {
		writeAndKill(t, self, dir, rnd.IntN(60), runs, terms)

		s, err := Open(Config{Dir: dir}, start)
		must(t, err)
		if want := uint64(2 * (round + 1)); s.Fresh() || s.Starts() != want {
			t.Fatalf("round %d: fresh %v, starts %d, want %d", round, s.Fresh(), s.Starts(), want)
		}
		found := map[string]bool{}
		for more := true; more; {
			page := runIDs(t, s, Query{Limit: MaxRuns, Skip: len(found)})
			for _, run := range page {
				found[run] = true
			}
			more = len(page) == MaxRuns
		}
		for run := range runs {
			if !found[run] {
				t.Fatalf("round %d: run %s was acknowledged, and is not there", round, run)
			}
		}
		p, err := s.Load()
		must(t, err)
		for _, g := range p.Grants {
			if g.Term < terms[g.Legion] {
				t.Fatalf("round %d: term %d of %s was acknowledged, and now: %d", round, terms[g.Legion], g.Legion, g.Term)
			}
			delete(terms, g.Legion)
		}
		if len(terms) > 0 {
			t.Fatalf("round %d: no grant for %v", round, terms)
		}
		var verdict string
		if err := s.writer.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
			t.Fatalf("round %d: integrity_check: %s, %v", round, verdict, err)
		}
		must(t, s.Close())
	}
	t.Logf("%d runs acknowledged", len(runs))
}

// writeAndKill kills a child after some acknowledgements and adds to runs and
// terms all that it made until it died.
func writeAndKill(t *testing.T, self, dir string, after int, runs map[string]bool, terms map[string]uint64) {
	t.Helper()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // a torn last line was not yet told, so it does not count
		}
		fields := strings.Fields(line)
		var term uint64
		if _, err := fmt.Sscan(fields[1], &term); err != nil {
			t.Fatalf("child says %q", line)
		}
		terms[fields[0]] = max(terms[fields[0]], term)
		for _, run := range fields[2:] {
			runs[run] = true
		}
		if n == after {
			must(t, cmd.Process.Kill())
		}
	}
	err = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(interface{ Signaled() bool }); !ok || !status.Signaled() {
		t.Fatalf("child: %v", err)
	}
}

// TestFullDisk fills the disk under the ledger: writes are refused with
// ErrFull and without a trace, and the first one after room came back succeeds.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := tinyDisk(t)
	s := mustOpen(t, dir)
	ballast := filepath.Join(dir, "ballast")
	acknowledged := 0
	next := func() Writes { // a few at a time, or it takes long to fill the disk
		records := make([]jobs.Record, 20)
		for i := range records {
			records[i] = record("a", acknowledged+i, jobs.Running)
		}
		return Writes{Records: records}
	}
	fillDisk := func() { fill(t, ballast) }
	makeRoom := func() { must(t, os.Remove(ballast)) }
	for round := range 4 {
		if round == 3 { // at last the ledger itself is what fills the disk
			fillDisk = func() {}
			makeRoom = func() { must(t, unix.Mount("", dir, "tmpfs", unix.MS_REMOUNT, "size=16m")) }
		}
		fillDisk()
		var err error
		var before [16]byte
		for err == nil {
			before = s.UnsettledHash("db")
			if err = s.Write(next()); err == nil {
				acknowledged += len(next().Records)
			}
		}
		for range 3 { // and it says so as often as it is asked
			if !errors.Is(err, ErrFull) {
				t.Fatalf("round %d: got %v", round, err)
			}
			err = s.Write(next())
		}
		if s.UnsettledHash("db") != before || len(s.Unsettled("db").Records) != acknowledged {
			t.Errorf("round %d: a refused write shows in the image", round)
		}
		if _, err := s.Load(); err != nil {
			t.Errorf("round %d: a full disk cannot be read: %v", round, err)
		}
		makeRoom()
		mustWrite(t, s, next())
		acknowledged += len(next().Records)
	}
	hash := s.UnsettledHash("db")
	must(t, s.Close())
	s = mustOpen(t, dir)
	if s.Fresh() || s.UnsettledHash("db") != hash {
		t.Errorf("after a restart: fresh %v, or something is lost", s.Fresh())
	}
	var verdict string
	if err := s.writer.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check: %s, %v", verdict, err)
	}
}

// What changes without growing is still written on a full disk, because the
// log gives its room back.
func TestFullDiskTakesUpdates(t *testing.T) {
	t.Parallel()
	dir := tinyDisk(t)
	s := mustOpen(t, dir)
	grant := Grant{Legion: "db"}
	for grant.Term = range 100 {
		if grant.Term == 10 {
			fill(t, filepath.Join(dir, "ballast"))
		}
		if err := s.Write(Writes{Grants: []Grant{grant}}); err != nil {
			t.Fatalf("term %d: %v", grant.Term, err)
		}
	}
}

// A start on a full disk fails as such, and leaves the ledger where it is.
func TestOpenOnFullDisk(t *testing.T) {
	t.Parallel()
	dir := tinyDisk(t)
	s := mustOpen(t, dir)
	mustWrite(t, s, Writes{Records: []jobs.Record{record("a", 1, jobs.Running)}})
	must(t, s.Close())
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	if _, err := Open(Config{Dir: dir}, start); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v", err)
	}
	must(t, os.Remove(ballast))
	if s := mustOpen(t, dir); s.Fresh() || len(s.Unsettled("db").Records) != 1 {
		t.Error("the ledger was given up")
	}
}

// tinyDisk is a directory with a file system of 4 MiB of its own.
func tinyDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		if errors.Is(err, unix.EPERM) && os.Getenv("CI") != "true" {
			t.Skip("only root can make a small disk")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

// fill takes all the room that is left beside path.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}
