package ledger

import (
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// sqlExec does to the file what a person with sqlite3 would.
func sqlExec(t testing.TB, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path))
	must(t, err)
	defer db.Close()
	_, err = db.Exec(statement)
	must(t, err)
}

func runIDs(t *testing.T, s *Store, q Query) []string {
	t.Helper()
	records, err := s.Runs(q)
	must(t, err)
	ids := []string{}
	for _, r := range records {
		ids = append(ids, r.Run)
	}
	return ids
}

func TestRuns(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	manual := jobs.Record{
		Slot: jobs.Slot{Legion: "web", Job: "b", Manual: "0195"}, Attempt: 1, Run: "b-manual",
		State: jobs.Failed, Scheduled: start.Add(90 * time.Second), Manual: true,
	}
	mustWrite(t, s, Writes{Records: []jobs.Record{ // not in order
		record("a", 2, jobs.Failed), record("a", 0, jobs.Succeeded), manual,
		record("b", 1, jobs.Running), record("a", 1, jobs.Succeeded),
	}})
	for _, tt := range []struct {
		name string
		q    Query
		want []string
	}{
		{"all", Query{}, []string{"a-2", "b-manual", "b-1", "a-1", "a-0"}},
		{"job", Query{Job: "a"}, []string{"a-2", "a-1", "a-0"}},
		{"legion", Query{Legion: "web"}, []string{"b-manual"}},
		{"run", Query{Run: "b-1"}, []string{"b-1"}},
		{"since", Query{Since: start.Add(time.Minute)}, []string{"a-2", "b-manual", "b-1", "a-1"}},
		{"outcome", Query{Outcome: jobs.Failed}, []string{"a-2", "b-manual"}},
		{"limit", Query{Limit: 2}, []string{"a-2", "b-manual"}},
		{"next page", Query{Limit: 2, Skip: 2}, []string{"b-1", "a-1"}},
		{"all at once", Query{Job: "a", Legion: "db", Since: start, Outcome: jobs.Succeeded, Limit: 1}, []string{"a-1"}},
		{"nothing", Query{Job: "c"}, []string{}},
		{"no injection", Query{Job: "a' OR 1 --"}, []string{}},
	} {
		if got := runIDs(t, s, tt.q); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestLastStart(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	started, other := record("a", 1, jobs.Succeeded), record("a", 5, jobs.Running)
	started.Started = started.At.Add(time.Second)
	other.Legion, other.Started = "web", other.At
	mustWrite(t, s, Writes{Records: []jobs.Record{started, other, record("a", 2, jobs.Skipped), record("b", 9, jobs.Missed)}})
	for _, tt := range []struct {
		legion, job string
		want        time.Time
	}{{"db", "a", started.Started}, {"web", "a", other.Started}, {"db", "b", time.Time{}}, {"", "a", time.Time{}}} {
		if got, err := s.LastStart(tt.legion, tt.job); err != nil || !got.Equal(tt.want) {
			t.Errorf("%s of %s: %v, %v, want %v", tt.job, tt.legion, got, err, tt.want)
		}
	}
}

// The queries that must be fast in a large ledger are answered by an index,
// without looking at all rows and without sorting.
func TestRunsUseIndexes(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	for query, index := range map[string]string{
		"SELECT * FROM runs INDEXED BY runs_by_time " + newestFirst + " LIMIT 50":                                              "runs_by_time",
		"SELECT * FROM runs WHERE job = 'a' " + newestFirst + " LIMIT 50":                                                      "runs_by_job",
		"SELECT * FROM runs WHERE run <> '' AND run = 'r' " + newestFirst + " LIMIT 50":                                        "runs_by_id",
		"SELECT * FROM runs WHERE rank < 5":                                                                                    "runs_unsettled",
		"SELECT at, id FROM runs WHERE (at, id) > (1, 1) AND at < 9 ORDER BY at, id LIMIT 500":                                 "runs_by_time",
		strings.NewReplacer("DELETE", "SELECT *", "?", "1", "\n\tRETURNING "+runColumns, "").Replace(retainSQL):                "runs_by_job",
		"SELECT * FROM runs WHERE slot = 'a' AND legion = 'b' AND attempt = 1 AND run = 'r'":                                   "autoindex",
		"SELECT * FROM runs WHERE job = 'a' AND legion = 'b' AND count > 1 AND at < 9 AND until >= 1":                          "runs_rows",
		"SELECT * FROM runs WHERE legion = 'b' AND at >= 1 AND state IN ('never started', 'lost') " + newestFirst + " LIMIT 9": "runs_stranded",
	} {
		rows, err := s.readDB.Query("EXPLAIN QUERY PLAN " + query)
		must(t, err)
		var plan strings.Builder
		for rows.Next() {
			var id, parent, unused int
			var detail string
			must(t, rows.Scan(&id, &parent, &unused, &detail))
			fmt.Fprintln(&plan, detail)
		}
		must(t, rows.Err())
		// A scan is right only along the order of an index, up to the limit.
		if p := plan.String(); !strings.Contains(p, index) || strings.Contains(p, "TEMP B-TREE FOR ORDER BY") && index != "runs_by_id" {
			t.Errorf("%s:\n%s", query, p)
		}
	}
}

func TestRetain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir, Keep: time.Hour, KeepRuns: 3}, start)
	must(t, err)
	defer s.Close()
	var records []jobs.Record
	for i := range 2*retainChunk + 10 {
		records = append(records, record("often", i, jobs.Succeeded))
	}
	for i := range 5 {
		records = append(records, record("seldom", i, jobs.Failed))
	}
	records = append(records, record("often", -5, jobs.Running), record("often", -6, jobs.Lost))
	mark := jobs.Mark{Legion: "db", Job: "often", Timing: "t", At: start}
	mustWrite(t, s, Writes{Records: records, Marks: []jobs.Mark{mark}})
	hash := s.UnsettledHash("db")

	now := start.Add(2*time.Hour + 30*time.Minute)
	must(t, s.Retain(now))
	left := runIDs(t, s, Query{Job: "often", Limit: MaxRuns})
	want := []string{}
	for i := 2*retainChunk + 9; i >= 90; i-- { // an hour before now and newer
		want = append(want, fmt.Sprint("often-", i))
	}
	want = append(want, "often--5") // not settled
	if !slices.Equal(left, want) {
		t.Errorf("often: kept %d, want %d: %v", len(left), len(want), left)
	}
	if left := runIDs(t, s, Query{Job: "seldom"}); !slices.Equal(left, []string{"seldom-4", "seldom-3", "seldom-2"}) {
		t.Errorf("seldom: kept %v", left)
	}

	// Years later only the last of each job are left, whatever their age.
	now = now.AddDate(5, 0, 0)
	must(t, s.Retain(now))
	must(t, s.Retain(now))
	if left := runIDs(t, s, Query{Job: "often"}); len(left) != 4 {
		t.Errorf("often: kept %v", left)
	}
	if len(runIDs(t, s, Query{Job: "seldom"})) != 3 {
		t.Error("seldom lost its last runs")
	}
	if s.UnsettledHash("db") != hash || len(s.Unsettled("db").Marks) != 1 {
		t.Error("retention touched what is unsettled")
	}
}

// One call looks at a bounded number of rows and the next one goes on.
func TestRetainGoesOn(t *testing.T) {
	t.Parallel()
	s, err := Open(Config{Dir: t.TempDir(), Keep: time.Hour, KeepRuns: 1}, start)
	must(t, err)
	defer s.Close()
	addRuns(t, s.cfg.Dir, retainAtMost+2, 1)
	now := start.AddDate(1, 0, 0)
	for _, want := range []int{2, 1} {
		must(t, s.Retain(now))
		if left := runIDs(t, s, Query{Limit: MaxRuns}); len(left) != want {
			t.Fatalf("%d rows are left, want %d", len(left), want)
		}
	}
}

// People read the file while the agent writes it.
func TestReadFromOutside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	r := record("a", 1, jobs.TimedOut)
	r.Started, r.Ended = start.Add(time.Minute), start.Add(time.Minute+1500*time.Millisecond)
	mustWrite(t, s, Writes{Records: []jobs.Record{r}})
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, fileName), "query_only(1)"))
	must(t, err)
	defer db.Close()
	tx, err := db.Begin()
	must(t, err)
	defer tx.Rollback()
	var slot, state, started string
	var seconds float64
	must(t, tx.QueryRow("SELECT slot, state, started, seconds FROM history").Scan(&slot, &state, &started, &seconds))
	if slot != "db/a@2026-03-01T02:01:00Z" || state != "timed out" || started != "2026-03-01T02:01:00.000Z" || seconds != 1.5 {
		t.Errorf("got %s, %s, %s, %v", slot, state, started, seconds)
	}
	mustWrite(t, s, Writes{Records: []jobs.Record{record("a", 2, jobs.Claimed)}}) // the reader's transaction is still open
}

const ordinaryHuge = 20_000

var hugeLedger = flag.Int("ledger.huge", ordinaryHuge, "runs in the ledger of TestNewestOfMany; with more, it may take 10 ms a query")

// The newest 50 runs of a job among all that there are. With 10,000,000 (make
// huge) it takes 10 ms at most, the first time as well.
func TestNewestOfMany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, mustOpen(t, dir).Close())
	const jobs, newest = 1000, 50
	addRuns(t, dir, *hugeLedger, jobs)
	s := mustOpen(t, dir)
	want := make([]string, 0, newest)
	for i := *hugeLedger/jobs*jobs - jobs + 500; i >= 0 && len(want) < newest; i -= jobs {
		want = append(want, fmt.Sprintf("0195a2d4-2b1c-7a9e-8f00-%012x", i))
	}
	const limit = 10 * time.Millisecond
	for range 20 {
		began := time.Now()
		got := runIDs(t, s, Query{Job: "job-500", Limit: newest})
		took := time.Since(began)
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if *hugeLedger > ordinaryHuge {
			t.Log(took)
			if took > limit {
				t.Errorf("%v, want %v at most", took, limit)
			}
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := mustOpen(b, b.TempDir())
			records := make([]jobs.Record, n)
			for i := 0; b.Loop(); i++ {
				for j := range records {
					records[j] = record(fmt.Sprintf("job-%05d", j), i, jobs.Claimed)
				}
				mustWrite(b, s, Writes{Records: records})
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

var manyRuns = flag.Int("ledger.runs", 100_000, "size of the ledger in BenchmarkRuns and BenchmarkOpen")

// largeLedger makes a ledger of manyRuns runs of 1,000 jobs.
func largeLedger(b *testing.B) string {
	dir := b.TempDir()
	must(b, mustOpen(b, dir).Close())
	addRuns(b, dir, *manyRuns, 1000)
	return dir
}

// addRuns fills the ledger behind its back with n old runs, a slot a minute of each job.
func addRuns(t testing.TB, dir string, n, jobs int) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, fileName), "synchronous(OFF)"))
	must(t, err)
	defer db.Close()
	_, err = db.Exec(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
		INSERT INTO runs (slot, legion, attempt, run, job, at, state, rank, term, node, incarnation, definition, reason,
			scheduled, started, ended, exit_code, signal, manual, until, count)
		SELECT printf('db/job-%03d@%s', i % ?2, strftime('%Y-%m-%dT%H:%M:%SZ', 1700000000 + i / ?2 * 60, 'unixepoch')),
			'db', 1, printf('0195a2d4-2b1c-7a9e-8f00-%012x', i), printf('job-%03d', i % ?2), (1700000000 + i / ?2 * 60) * 1000,
			'succeeded', 6, 7, 'node-1', 'incarnation', '0123456789abcdef', '', NULL, NULL, NULL, 0, '', 0, NULL, 0
		FROM n`, n, jobs)
	must(t, err)
}

func BenchmarkRuns(b *testing.B) {
	s := mustOpen(b, largeLedger(b))
	for name, q := range map[string]Query{
		"newest": {Limit: 50},
		"job":    {Job: "job-500", Limit: 50},
		"run":    {Run: fmt.Sprintf("0195a2d4-2b1c-7a9e-8f00-%012x", *manyRuns/2)},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if records, err := s.Runs(q); err != nil || len(records) == 0 {
					b.Fatal(len(records), err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := largeLedger(b)
	info, err := os.Stat(filepath.Join(dir, fileName))
	must(b, err)
	b.ReportMetric(float64(info.Size())/float64(*manyRuns), "bytes/run")
	for b.Loop() {
		must(b, mustOpen(b, dir).Close())
	}
}

// Asking for the hash does not depend on how much it is the hash of.
func BenchmarkUnsettledHash(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := mustOpen(b, b.TempDir())
			records := make([]jobs.Record, n)
			for i := range records {
				records[i] = record("a", i, jobs.Running)
			}
			mustWrite(b, s, Writes{Records: records})
			for b.Loop() {
				if s.UnsettledHash("db") == [16]byte{} {
					b.Fatal("no hash")
				}
			}
		})
	}
}
