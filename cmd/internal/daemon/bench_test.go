package daemon

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

// benchNodes are the nodes of a cluster in this process: real ones, but for
// the network, which is loopback, and the disk, which they share.
const benchNodes = 3

// startNodes starts a cluster whose configuration ends with text, in dirs.
func startNodes(b *testing.B, dirs []string, text string) []*Daemon {
	b.Helper()
	var nodes []*Daemon
	for i, dir := range dirs {
		var join string
		if i > 0 {
			join = fmt.Sprintf("join = [%q]\n", nodes[0].Addr())
		}
		path := filepath.Join(dir, "config.toml")
		text := fmt.Sprintf("[node]\nname = \"n%d\"\nstate_dir = \"state\"\n[cluster]\nbind = \"127.0.0.1:0\"\n%s[control]\nsocket = \"sock\"\n[log]\nlevel = \"error\"\nformat = \"console\"\n[legion.db]\n%s", i+1, join, text)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		cfg, problems := config.Load(path)
		if len(problems) > 0 {
			b.Fatal(problems[0])
		}
		d, err := New(cfg, Options{Version: "bench"})
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := d.Stop(b.Context()); err != nil {
				b.Error(err)
			}
		})
		nodes = append(nodes, d)
	}
	return nodes
}

func benchDirs(b *testing.B) []string {
	b.Helper()
	var dirs []string
	for range benchNodes {
		dir, err := os.MkdirTemp("", "lc") // a socket's path must be short
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
		dirs = append(dirs, dir)
	}
	return dirs
}

// poll waits until cond holds.
func poll(b *testing.B, what string, cond func() bool) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Minute); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			b.Fatal("waited in vain for " + what)
		}
	}
}

// lordOfNodes waits for the lord, and returns it with its term.
func lordOfNodes(b *testing.B, nodes []*Daemon) (lord *Daemon, term uint64) {
	b.Helper()
	poll(b, "a lord", func() bool {
		for _, d := range nodes {
			for _, l := range d.protocol.status().Legions {
				if l.Legion == "db" && l.Trusted > 0 {
					lord, term = d, l.Term
				}
			}
		}
		return lord != nil
	})
	return lord, term
}

// claims is the write of one instant at which n slots are due.
func claims(n, round int, term uint64) jobs.Batch {
	var b jobs.Batch
	at := time.Unix(1_700_000_000+int64(round), 0)
	for i := range n {
		job := fmt.Sprintf("job-%05d", i)
		b.Records = append(b.Records, jobs.Record{
			Slot: jobs.Slot{Legion: "db", Job: job, At: at}, Attempt: 1, Run: fmt.Sprintf("0195a2d4-2b1c-7a9e-%04x-%012x", round, i),
			State: jobs.Claimed, Term: term, Node: "n1", Incarnation: "5e7c0f6e-9d6c-4c05-8d8c-000000000001", Definition: "0123456789abcdef", Scheduled: at,
		})
		b.Marks = append(b.Marks, jobs.Mark{Legion: "db", Job: job, Timing: "0123456789abcdef", At: at, Term: term})
	}
	return b
}

// quantile is the q-th of samples, in milliseconds.
func quantile(samples []time.Duration, q float64) float64 {
	slices.Sort(samples)
	return float64(samples[int(q*float64(len(samples)-1))].Microseconds()) / 1000
}

// BenchmarkClaims has a quorum of three nodes commit the claims of one instant,
// beside the least that it could take: one SQLite transaction of as many rows,
// and a file written and flushed, each on the same disk between two commits.
func BenchmarkClaims(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nodes := startNodes(b, benchDirs(b), "")
			lord, term := lordOfNodes(b, nodes)
			sqlite, flush := bareSQLite(b), bareFile(b)
			var took, bare, file []time.Duration
			round, lost := 0, 0
			for b.Loop() {
				round++
				batch := claims(n, round, term)
				c := make(chan error, 1)
				began := time.Now()
				lord.protocol.propose(legion.Propose{Legion: "db", Term: term}, batch, func(err error) { c <- err })
				if err := <-c; err != nil { // on a machine that is too busy for its leases
					b.Log(err)
					lost++
					lord, term = lordOfNodes(b, nodes)
					continue
				}
				took = append(took, time.Since(began))
				b.StopTimer()
				bare = append(bare, sqlite(batch))
				file = append(file, flush(batch))
				batch.Marks = nil // the runs end, or the lords after this one would have to hear of all of them
				for i := range batch.Records {
					batch.Records[i].State = jobs.Succeeded
				}
				lord.protocol.propose(legion.Propose{}, batch, func(err error) { c <- err })
				if err := <-c; err != nil {
					b.Log(err)
				}
				b.StartTimer()
			}
			if len(took) == 0 {
				b.Fatal("nothing was committed")
			}
			b.ReportMetric(float64(lost), "refused")
			p50, p50bare, p50file := quantile(took, .5), quantile(bare, .5), quantile(file, .5)
			b.ReportMetric(float64(n)/p50*1000, "claims/s")
			b.ReportMetric(p50, "p50-ms")
			b.ReportMetric(quantile(took, .99), "p99-ms")
			b.ReportMetric(p50bare, "sqlite-ms")
			b.ReportMetric(p50/p50bare, "x-sqlite")
			b.ReportMetric(p50file, "fsync-ms")
			b.ReportMetric(p50/p50file, "x-fsync")
		})
	}
}

// bareSQLite writes a row of the same size for each record in one transaction
// that is as durable as the ledger's.
func bareSQLite(b *testing.B) func(jobs.Batch) time.Duration {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "bare.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE runs (slot TEXT PRIMARY KEY, run TEXT, node TEXT, incarnation TEXT, definition TEXT)"); err != nil {
		b.Fatal(err)
	}
	return func(batch jobs.Batch) time.Duration {
		began := time.Now()
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		put, err := tx.Prepare("INSERT INTO runs VALUES (?,?,?,?,?)")
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range batch.Records {
			if _, err := put.Exec(r.Slot.String(), r.Run, r.Node, r.Incarnation, r.Definition); err != nil {
				b.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
}

// bareFile appends as many bytes to a file and flushes it.
func bareFile(b *testing.B) func(jobs.Batch) time.Duration {
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return func(batch jobs.Batch) time.Duration {
		encoded, err := batch.Encode()
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if _, err := f.Write(encoded); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
}

// BenchmarkTakeOver measures from the moment at which a lord gives up to the
// first process that the next one starts: election, reading of what a quorum
// had written, marks of all jobs, claim, fork. Old runs must not matter.
func BenchmarkTakeOver(b *testing.B) {
	for _, size := range []struct{ jobs, runs int }{{1, 0}, {10_000, 0}, {10_000, 1_000_000}} {
		b.Run(fmt.Sprintf("jobs=%d/runs=%d", size.jobs, size.runs), func(b *testing.B) {
			dirs := benchDirs(b)
			for _, dir := range dirs {
				oldRuns(b, filepath.Join(dir, "state"), size.runs, size.jobs)
			}
			var text strings.Builder
			text.WriteString("[[job]]\nname = \"crowned\"\nlegion = \"db\"\nschedule = \"@lord\"\ncommand = [\"true\"]\n")
			for i := range size.jobs {
				fmt.Fprintf(&text, "[[job]]\nname = \"job-%05d\"\nlegion = \"db\"\nschedule = \"@yearly\"\ncommand = [\"true\"]\n", i)
			}
			nodes := startNodes(b, dirs, text.String())
			started := func() (newest time.Time) {
				for _, d := range nodes {
					records, err := d.store.Runs(ledger.Query{Job: "crowned", Limit: 1})
					if err != nil {
						b.Fatal(err)
					}
					if len(records) > 0 && records[0].Started.After(newest) {
						newest = records[0].Started
					}
				}
				return newest
			}
			poll(b, "the first reign's run", func() bool { return !started().IsZero() })
			var took []time.Duration
			for b.Loop() {
				lord, _ := lordOfNodes(b, nodes)
				began := time.Now().Truncate(time.Millisecond)
				lord.protocol.post(legion.Abandon{Legion: "db", Reason: "benchmark"})
				poll(b, "the next reign's run", func() bool { return started().After(began) })
				took = append(took, started().Sub(began))
			}
			b.ReportMetric(quantile(took, .5), "p50-ms")
			b.ReportMetric(quantile(took, 1), "max-ms")
		})
	}
}

// oldRuns fills a ledger behind its back with n runs of the last days.
func oldRuns(b *testing.B, dir string, n, jobs int) {
	b.Helper()
	s, err := ledger.Open(ledger.Config{Dir: dir}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil || n == 0 {
		return
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "ledger.db")+"?_pragma=synchronous(OFF)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err = db.Exec(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
		INSERT INTO runs (slot, legion, attempt, run, job, at, state, rank, term, node, incarnation, definition, reason,
			scheduled, started, ended, exit_code, signal, manual, until, count)
		SELECT printf('db/job-%05d@%s', i % ?2, strftime('%Y-%m-%dT%H:%M:%SZ', ?3 - i / ?2 * 600, 'unixepoch')),
			'db', 1, printf('0195a2d4-2b1c-7a9e-8f00-%012x', i), printf('job-%05d', i % ?2), (?3 - i / ?2 * 600) * 1000,
			'succeeded', 6, 7, 'n1', 'incarnation', '0123456789abcdef', '', NULL, NULL, NULL, 0, '', 0, NULL, 0
		FROM n`, n, jobs, time.Now().Unix()/600*600-600); err != nil {
		b.Fatal(err)
	}
}
