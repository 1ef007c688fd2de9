package ledger

import (
	"database/sql"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

func digestsOf(t testing.TB, s *Store) []Digest {
	t.Helper()
	all, err := s.Digests(0, math.MaxInt32)
	must(t, err)
	return all
}

// catchUp has one store fetch, hour by hour and in small pieces, what another
// has and it does not. It returns how many records were news.
func catchUp(t testing.TB, to, from *Store) (news int) {
	t.Helper()
	own := digestsOf(t, to)
	for _, d := range digestsOf(t, from) {
		if slices.Contains(own, d) {
			continue
		}
		for place, first := (Place{}), true; first || place != (Place{}); first = false {
			var records []jobs.Record
			var err error
			records, place, err = from.Settled(d.Hour, place, 7)
			must(t, err)
			new, err := to.Fill(records)
			must(t, err)
			news += len(new)
		}
	}
	return news
}

// A voter that missed an hour, and other things here and there, has in the end
// what the others have; and the others what only it has.
func TestFill(t *testing.T) {
	t.Parallel()
	a, b := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	var both, onlyA, onlyB []jobs.Record
	for i := range 5 * 60 {
		r := record("often", i, jobs.Succeeded)
		switch {
		case i/60 == 2:
			onlyA = append(onlyA, r)
		case i%50 == 3:
			onlyB = append(onlyB, r)
		default:
			both = append(both, r)
		}
	}
	// Copies that differ: b missed how it ended, or only that it was lost.
	for i, stale := range []jobs.State{jobs.Running, jobs.Lost, jobs.Claimed} {
		r := record("seldom", 60+i, stale)
		onlyB = append(onlyB, r)
		r.State, r.Ended = jobs.Failed, r.At.Add(time.Minute)
		onlyA = append(onlyA, r)
	}
	mustWrite(t, a, Writes{Records: both}, Writes{Records: onlyA})
	mustWrite(t, b, Writes{Records: both}, Writes{Records: onlyB})

	if got := catchUp(t, b, a); got != len(onlyA) {
		t.Errorf("b learnt %d records, want %d", got, len(onlyA))
	}
	if got := catchUp(t, a, b); got != len(onlyB)-3 {
		t.Errorf("a learnt %d records, want %d", got, len(onlyB)-3)
	}
	if !slices.Equal(digestsOf(t, a), digestsOf(t, b)) {
		t.Errorf("the digests differ: %v and %v", digestsOf(t, a), digestsOf(t, b))
	}
	all, err := queryRecords(t.Context(), a.readDB, "SELECT "+runColumns+" FROM runs "+newestFirst)
	must(t, err)
	same, err := queryRecords(t.Context(), b.readDB, "SELECT "+runColumns+" FROM runs "+newestFirst)
	must(t, err)
	if want := len(both) + len(onlyA) + len(onlyB) - 3; !slices.Equal(all, same) || len(all) != want {
		t.Errorf("a has %d runs, b %d, want %d", len(all), len(same), want)
	}
	if b.UnsettledHash("db") != a.UnsettledHash("db") || len(b.Unsettled("db").Records) != 0 {
		t.Errorf("b still waits for %v", b.Unsettled("db").Records)
	}
	if catchUp(t, b, a)+catchUp(t, a, b) != 0 {
		t.Error("there was something left to learn")
	}
}

// Fill does not settle a run that is only said to be lost, and takes nothing unsettled.
func TestFillDoubtsLost(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	running, claimed := record("a", 1, jobs.Running), record("a", 2, jobs.Claimed)
	mustWrite(t, s, Writes{Records: []jobs.Record{running}})
	hash := s.UnsettledHash("db")
	lost, other := running, record("a", 3, jobs.Lost)
	lost.State = jobs.Lost
	news, err := s.Fill([]jobs.Record{lost, claimed, other})
	must(t, err)
	if len(news) != 1 || news[0].Key() != other.Key() {
		t.Errorf("took %v", news)
	}
	if s.UnsettledHash("db") != hash {
		t.Error("hearsay has changed what a new lord is told")
	}
	must(t, s.Merge(jobs.Batch{Records: []jobs.Record{lost}})) // a lord's own word
	if len(s.Unsettled("db").Records) != 0 {
		t.Error("the run is not lost")
	}
}

// Hours are counted down before 1970 as well.
func TestHour(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Hour{
		"1970-01-01T00:00:00Z": 0, "1970-01-01T00:59:59.999Z": 0, "1970-01-01T01:00:00Z": 1, "1969-12-31T23:59:59Z": -1,
	} {
		at, err := time.Parse(time.RFC3339, text)
		must(t, err)
		if got := HourOf(at); got != want || got.Start().After(at) || !at.Before((got + 1).Start()) {
			t.Errorf("%s is in hour %d, from %v, want %d", text, got, got.Start(), want)
		}
	}
}

// openOld makes a ledger as schema 1 had it and opens it.
func openOld(t *testing.T, dir string) *Store {
	t.Helper()
	dump, err := os.ReadFile("testdata/schema-1.sql")
	must(t, err)
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, fileName)))
	must(t, err)
	_, err = db.Exec(string(dump))
	must(t, err)
	must(t, db.Close())
	return mustOpen(t, dir)
}

// A file that an older program made is brought up to date, keeps what it has,
// and is then like one that was new from the start.
func TestMigrate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openOld(t, dir)
	if s.Fresh() || s.Instance() != "4f6f9b82-66df-427c-8d9c-d7e661b0e7f6" || s.Starts() != 2 {
		t.Errorf("fresh %v, instance %s, start %d", s.Fresh(), s.Instance(), s.Starts())
	}
	p, err := s.Load()
	must(t, err)
	if len(p.Grants) != 1 || p.Grants[0].Term != 7 || string(p.Electorate) != "e" || string(p.Values["x"]) != "1" {
		t.Errorf("the protocol starts from %+v", p)
	}
	records, err := s.Runs(Query{})
	must(t, err)
	if len(records) != 8 || len(s.Unsettled("db").Records) != 2 || len(s.Unsettled("db").Marks) != 1 {
		t.Errorf("%d runs, unsettled %v", len(records), s.Unsettled("db"))
	}
	fresh := mustOpen(t, t.TempDir())
	mustWrite(t, fresh, Writes{Records: records})
	if got, want := digestsOf(t, s), digestsOf(t, fresh); !slices.Equal(got, want) || len(got) != 3 {
		t.Errorf("digests %v, want %v", got, want)
	}
	must(t, s.Close())
	if again := mustOpen(t, dir); again.Starts() != 3 || len(digestsOf(t, again)) != 3 {
		t.Errorf("the second time: start %d, %d digests", again.Starts(), len(digestsOf(t, again)))
	}
}

// sqlite3Run has the program of that name read the ledger in dir.
func sqlite3Run(t *testing.T, dir, queries string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("sqlite3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("sqlite3 is not installed")
		}
		t.Skip("sqlite3 is not installed")
	}
	cmd := exec.Command(path, "-readonly", "-bail", filepath.Join(dir, fileName))
	cmd.Stdin = strings.NewReader(queries + "\n;\n")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// People read the file with sqlite3 while the agent has it open, and every
// question that docs/ledger.md answers is one that can be asked.
func TestSQLite3(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	failed := record("backup", 1, jobs.Failed)
	failed.Started, failed.Ended, failed.ExitCode = failed.At.Add(time.Second), failed.At.Add(3*time.Second), 7
	mustWrite(t, s, Writes{Records: []jobs.Record{record("backup", 0, jobs.Running), failed}})
	ask := func(query, want string) {
		t.Helper()
		if got, err := sqlite3Run(t, dir, query); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", query, got, err, want)
		}
	}
	ask("SELECT job, state, seconds FROM history LIMIT 1", "backup|failed|2.0")
	ask("PRAGMA integrity_check", "ok")
	ask("PRAGMA user_version", fmt.Sprint(len(migrations)))
	mustWrite(t, s, Writes{Records: []jobs.Record{record("backup", 0, jobs.Succeeded)}}) // the agent goes on
	ask("SELECT count(*) FROM runs WHERE rank < 5", "0")
	ask("SELECT sum(count) FROM digests", "2")
	if out, err := sqlite3Run(t, dir, "DELETE FROM runs"); err == nil {
		t.Errorf("a read-only reader could write: %s", out)
	}

	doc, err := os.ReadFile("../../docs/ledger.md")
	must(t, err)
	if row := fmt.Sprintf("\n| %d | ", len(migrations)); !strings.Contains(string(doc), row) {
		t.Errorf("docs/ledger.md does not say what is new in schema %d", len(migrations))
	}
	_, after, found := strings.Cut(string(doc), "```sql\n")
	queries, _, closed := strings.Cut(after, "```")
	if !found || !closed || strings.Count(queries, ";") < 5 {
		t.Fatal("docs/ledger.md has no questions")
	}
	if out, err := sqlite3Run(t, dir, queries); err != nil || !strings.Contains(out, "backup|failed") {
		t.Errorf("the questions of docs/ledger.md: %v\n%s", err, out)
	}
}
