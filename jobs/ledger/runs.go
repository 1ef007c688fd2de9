package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// Limits of Runs.
const (
	DefaultRuns = 100
	MaxRuns     = 10_000
)

// A Query says which records Runs returns; an empty field matches all.
type Query struct {
	Job     string
	Legion  string
	Run     string
	Node    string     // that executes
	Since   time.Time  // the slot's time, or of a manual run the time it was asked for
	Outcome jobs.State // any state
	Limit   int        // 0: DefaultRuns; at most MaxRuns
	Skip    int        // how many of the newest to pass over: the next page
}

// newestFirst is the order of Runs. It is the same on every node, so that the
// newest few of all nodes are among the newest few of each.
const newestFirst = "ORDER BY at DESC, slot DESC, legion DESC, attempt DESC, run DESC"

// NewestFirst compares records for sorting in the order of Runs.
func NewestFirst(a, b jobs.Record) int {
	return cmp.Or(cmp.Compare(orderedBy(b), orderedBy(a)), strings.Compare(b.Slot.String(), a.Slot.String()),
		strings.Compare(b.Legion, a.Legion), cmp.Compare(b.Attempt, a.Attempt), strings.Compare(b.Run, a.Run))
}

// Runs returns the records that match and stand, newest slot first. The newest of all,
// of a job, or a run by its id come from an index; Legion and Outcome are
// looked for from the newest back.
func (s *Store) Runs(q Query) ([]jobs.Record, error) {
	var where []string
	var args []any
	match := func(condition string, arg any) {
		where, args = append(where, condition), append(args, arg)
	}
	if q.Run != "" {
		match("run <> '' AND run = ?", q.Run) // the first half names the partial index
	}
	if q.Job != "" {
		match("job = ?", q.Job)
	}
	if q.Legion != "" {
		match("legion = ?", q.Legion)
	}
	if q.Node != "" {
		match("node = ?", q.Node)
	}
	if !q.Since.IsZero() {
		match("at >= ?", q.Since.UnixMilli())
	}
	if q.Outcome != 0 {
		match("state = ?", q.Outcome.String())
	}
	from := "runs INDEXED BY runs_by_time" // which SQLite does not find by itself: it would rather sort
	if q.Run != "" || q.Job != "" {
		from = "runs"
	}
	query := "SELECT " + runColumns + " FROM " + from
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	limit := q.Limit
	if limit <= 0 {
		limit = DefaultRuns
	}
	query += " " + newestFirst + " LIMIT ? OFFSET ?"
	limit = min(limit, MaxRuns)
	var found []jobs.Record
	for skip := max(q.Skip, 0); ; skip += limit {
		page, err := queryRecords(context.Background(), s.readDB, query, append(slices.Clip(args), limit, skip)...)
		if err != nil {
			return nil, fmt.Errorf("read runs: %w", s.explain(err))
		}
		stand, err := s.standing(page)
		if err != nil {
			return nil, err
		}
		found = append(found, stand...)
		if len(page) < limit || len(found) >= limit {
			return found[:min(len(found), limit)], nil
		}
	}
}

// LastStart is when the newest run of a job that has started did so, if that
// is among its newest few slots; else the zero time.
func (s *Store) LastStart(legion, job string) (time.Time, error) {
	const few = 20
	var at sql.NullInt64
	err := s.readDB.QueryRow("SELECT max(started) FROM (SELECT started FROM runs WHERE job = ? AND legion = ? ORDER BY at DESC LIMIT ?)",
		job, legion, few).Scan(&at)
	if err != nil {
		return time.Time{}, fmt.Errorf("read last start: %w", s.explain(err))
	}
	return fromMillis(at), nil
}

// Lookup returns what the ledger has under the keys, settled or not, and
// leaves out what it does not have. A node that is asked about runs which it
// knows to have ended answers with this.
func (s *Store) Lookup(keys ...jobs.Key) ([]jobs.Record, error) {
	var found []jobs.Record
	for _, key := range keys {
		slot, err := jobs.ParseSlot(key.Slot, key.Local)
		if err != nil {
			return nil, fmt.Errorf("look up runs: %w", err)
		}
		r, err := scanRecord(s.readDB.QueryRow(writerSQL[0], key.Slot, slot.Legion, key.Attempt, key.Run))
		if err == nil {
			found = append(found, r)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("look up runs: %w", s.explain(err))
		}
	}
	return found, nil
}

// Slots returns all that the ledger has of the slots: every attempt, and what
// else became of them, in the order of the slots asked for and then of attempts.
func (s *Store) Slots(slots ...jobs.Slot) ([]jobs.Record, error) {
	var found []jobs.Record
	for _, slot := range slots {
		records, err := queryRecords(context.Background(), s.readDB,
			"SELECT "+runColumns+" FROM runs WHERE slot = ? AND legion = ? ORDER BY attempt, run", slot.String(), slot.Legion)
		if err != nil {
			return nil, fmt.Errorf("look up slots: %w", s.explain(err))
		}
		found = append(found, records...)
	}
	return found, nil
}

// Limits of one call of Retain.
const (
	retainChunk  = 500    // rows of one transaction: what a claim may have to wait for
	retainAtMost = 10_000 // rows looked at in one call
)

// A cursor is how far Retain has looked: up to this time and, at it, this row.
type cursor struct{ at, id int64 }

// A run goes if it is settled and at least KeepRuns of its job are newer.
const retainSQL = `DELETE FROM runs WHERE id = ? AND rank >= 5 AND EXISTS (
	SELECT 1 FROM runs newer WHERE newer.job = runs.job AND newer.legion = runs.legion
	AND (newer.at, newer.id) > (runs.at, runs.id) ORDER BY newer.at, newer.id LIMIT 1 OFFSET ?)
	RETURNING ` + runColumns

// Retain removes settled runs older than Keep, except the last KeepRuns of
// each job. It looks at a bounded number of rows, in short transactions, and
// goes on where the call before stopped; call it now and then.
func (s *Store) Retain(now time.Time) error {
	s.retaining.Lock()
	defer s.retaining.Unlock()
	before := now.Add(-s.cfg.Keep).UnixMilli()
	for looked := 0; looked < retainAtMost; looked += retainChunk {
		more, err := s.retainSome(before)
		if err != nil {
			return fmt.Errorf("retain runs: %w", err)
		}
		if !more {
			s.retained = cursor{} // once around; the next call begins with the oldest
			return nil
		}
	}
	return nil
}

// retainSome looks at the next chunk of old rows and reports whether there may be more.
func (s *Store) retainSome(before int64) (more bool, err error) {
	var forgotten []jobs.Record
	defer func() { // what waits to be written does not wait for this as well
		if err == nil && len(forgotten) > 0 && s.cfg.Forgot != nil {
			s.cfg.Forgot(forgotten)
		}
	}()
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.lock == nil {
		return false, os.ErrClosed
	}
	ctx := context.Background()
	chunk, err := s.oldRows(ctx, before)
	if err != nil || len(chunk) == 0 {
		return false, s.explain(err)
	}
	if err := transact(ctx, s.writer, func() error {
		sums := digests{}
		for _, row := range chunk {
			gone, err := scanRecord(s.stmts.retain.QueryRowContext(ctx, row.id, s.cfg.KeepRuns-1))
			if err == nil {
				sums.add(gone, -1)
				forgotten = append(forgotten, gone)
			} else if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		return s.putDigests(ctx, sums)
	}); err != nil {
		return false, s.explain(err)
	}
	s.retained = chunk[len(chunk)-1]
	return len(chunk) == retainChunk, nil
}

func (s *Store) oldRows(ctx context.Context, before int64) (chunk []cursor, err error) {
	rows, err := s.readDB.QueryContext(ctx,
		"SELECT at, id FROM runs WHERE (at, id) > (?, ?) AND at < ? ORDER BY at, id LIMIT ?",
		s.retained.at, s.retained.id, before, retainChunk)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c cursor
		if err := rows.Scan(&c.at, &c.id); err != nil {
			return nil, err
		}
		chunk = append(chunk, c)
	}
	return chunk, rows.Err()
}

const runColumns = `slot, legion, attempt, run, state, term, node, incarnation, definition, reason,
	scheduled, started, ended, exit_code, signal, manual, until, count`

type scanner interface{ Scan(...any) error }

// scanRecord reads runColumns. A row that is no record is damage.
func scanRecord(row scanner) (jobs.Record, error) {
	var r jobs.Record
	var slot, legion, state string
	var scheduled, started, ended, until sql.NullInt64
	if err := row.Scan(&slot, &legion, &r.Attempt, &r.Run, &state, &r.Term, &r.Node, &r.Incarnation, &r.Definition, &r.Reason,
		&scheduled, &started, &ended, &r.ExitCode, &r.Signal, &r.Manual, &until, &r.Count); err != nil {
		return jobs.Record{}, err
	}
	var err error
	if r.Slot, err = jobs.ParseSlot(slot, legion == ""); err != nil {
		return jobs.Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if r.State, err = jobs.ParseState(state); err != nil {
		return jobs.Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r.Scheduled, r.Started, r.Ended, r.To = fromMillis(scheduled), fromMillis(started), fromMillis(ended), fromMillis(until)
	return r, nil
}

// recordArgs are the values of runColumns and of job, at, rank.
func recordArgs(r jobs.Record) []any {
	return []any{r.Slot.String(), r.Legion, r.Attempt, r.Run, r.State.String(), int64(r.Term), r.Node, r.Incarnation, r.Definition, r.Reason,
		millis(r.Scheduled), millis(r.Started), millis(r.Ended), r.ExitCode, r.Signal, r.Manual, millis(r.To), r.Count,
		r.Job, orderedBy(r), r.State.Rank()}
}

// orderedBy is the time, in milliseconds, by which history is ordered: the
// slot's, or of a manual run the one at which it was asked for.
func orderedBy(r jobs.Record) int64 {
	for _, at := range []time.Time{r.At, r.Scheduled, r.Started} {
		if !at.IsZero() {
			return at.UnixMilli()
		}
	}
	return 0
}

const markColumns = "legion, node, job, timing, at, term"

func scanMark(row scanner) (jobs.Mark, error) {
	var m jobs.Mark
	var at sql.NullInt64
	err := row.Scan(&m.Legion, &m.Node, &m.Job, &m.Timing, &at, &m.Term)
	m.At = fromMillis(at)
	return m, err
}

func markArgs(m jobs.Mark) []any {
	return []any{m.Legion, m.Node, m.Job, m.Timing, millis(m.At), int64(m.Term)}
}

func queryRecords(ctx context.Context, db *sql.DB, query string, args ...any) ([]jobs.Record, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var records []jobs.Record
	for rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, rows.Err()
}

// millis is a time as the file has it: NULL for none.
func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

func fromMillis(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}
