package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrSchema is returned by Open for a file that a newer program has made.
var ErrSchema = errors.New("made by a newer version")

// migrations lead from one PRAGMA user_version to the next. They are never
// changed once released, only added to. docs/ledger.md describes the result.
//
// No STRICT tables: people read the file with the sqlite3 of their
// distribution, which may be older than those.
var migrations = []migration{{sql: `
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,      -- instance, starts
	value
) WITHOUT ROWID;

CREATE TABLE grants (
	legion      TEXT PRIMARY KEY,
	term        INTEGER NOT NULL,
	holder      TEXT NOT NULL,   -- node
	instance    TEXT NOT NULL, -- of the holder: its state directory
	incarnation TEXT NOT NULL,   -- of the holder
	lease_ns    INTEGER NOT NULL,
	released    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE blobs (
	kind  TEXT NOT NULL,         -- electorate, founding, value
	name  TEXT NOT NULL,         -- of the value; else empty
	value BLOB NOT NULL,
	PRIMARY KEY (kind, name)
) WITHOUT ROWID;

CREATE TABLE marks (
	legion TEXT NOT NULL,        -- empty: a job of one node
	node   TEXT NOT NULL,        -- empty: a job of a legion
	job    TEXT NOT NULL,
	timing TEXT NOT NULL,
	at     INTEGER,              -- ms since 1970, as all times
	term   INTEGER NOT NULL,
	PRIMARY KEY (legion, node, job)
) WITHOUT ROWID;

CREATE TABLE runs (
	id          INTEGER PRIMARY KEY,
	slot        TEXT NOT NULL,
	legion      TEXT NOT NULL,   -- empty: a job of one node
	attempt     INTEGER NOT NULL,
	run         TEXT NOT NULL,   -- empty: the slot has no run
	job         TEXT NOT NULL,
	at          INTEGER NOT NULL,-- what history is ordered by: the slot's time
	state       TEXT NOT NULL,
	rank        INTEGER NOT NULL,-- of the state; below 5 the run is unsettled
	term        INTEGER NOT NULL,
	node        TEXT NOT NULL,   -- executes it
	incarnation TEXT NOT NULL,
	definition  TEXT NOT NULL,
	reason      TEXT NOT NULL,
	scheduled   INTEGER,
	started     INTEGER,
	ended       INTEGER,
	exit_code   INTEGER NOT NULL,
	signal      TEXT NOT NULL,
	manual      INTEGER NOT NULL,
	until       INTEGER,         -- of many slots in a row: the last
	count       INTEGER NOT NULL,
	UNIQUE (slot, legion, attempt, run)
);
CREATE INDEX runs_by_job    ON runs (job, at);
CREATE INDEX runs_by_time   ON runs (at);
CREATE INDEX runs_by_id     ON runs (run) WHERE run <> '';
CREATE INDEX runs_unsettled ON runs (rank) WHERE rank < 5;

CREATE VIEW history AS SELECT
	job, legion, slot, attempt, run, state, reason, node, term,
	strftime('%Y-%m-%dT%H:%M:%fZ', scheduled / 1000.0, 'unixepoch') AS scheduled,
	strftime('%Y-%m-%dT%H:%M:%fZ', started / 1000.0, 'unixepoch') AS started,
	strftime('%Y-%m-%dT%H:%M:%fZ', ended / 1000.0, 'unixepoch') AS ended,
	(ended - started) / 1000.0 AS seconds,
	exit_code, signal, manual, count,
	strftime('%Y-%m-%dT%H:%M:%fZ', until / 1000.0, 'unixepoch') AS until
FROM runs ORDER BY at DESC, id DESC;
`}, {sql: `
CREATE TABLE digests (
	hour  INTEGER PRIMARY KEY,   -- hours since 1970, of runs.at
	count INTEGER NOT NULL,      -- settled runs of it, of jobs that have a legion
	hash  BLOB NOT NULL          -- of these, in any order
);
`, then: digestAll}, {sql: `
CREATE INDEX runs_rows     ON runs (job, legion, at) WHERE count > 1;
CREATE INDEX runs_stranded ON runs (legion, at) WHERE state IN ('never started', 'lost');
`}}

// A migration is one step: some SQL, and what SQL cannot do.
type migration struct {
	sql  string
	then func(ctx context.Context, c *sql.Conn) error // nil: nothing
}

// digestAll makes the digests of a file that has had none. It takes about ten
// seconds for a million runs.
func digestAll(ctx context.Context, c *sql.Conn) error {
	rows, err := c.QueryContext(ctx, "SELECT "+runColumns+" FROM runs WHERE rank >= 5")
	if err != nil {
		return err
	}
	defer rows.Close()
	sums := digests{}
	for rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return err
		}
		sums.add(r, +1)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, d := range sums {
		if _, err := c.ExecContext(ctx, "INSERT INTO digests VALUES (?,?,?)", int64(d.Hour), d.Count, d.Hash[:]); err != nil {
			return err
		}
	}
	return nil
}

// migrate brings the schema up to date, each step in a transaction of its own.
func migrate(ctx context.Context, c *sql.Conn) error {
	version, err := schemaVersion(ctx, c)
	if err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		if err := transact(ctx, c, func() error {
			step := migrations[version]
			if _, err := c.ExecContext(ctx, step.sql); err != nil {
				return err
			}
			if step.then != nil {
				if err := step.then(ctx, c); err != nil {
					return err
				}
			}
			_, err := c.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version+1))
			return err
		}); err != nil {
			return fmt.Errorf("migrate to schema %d: %w", version+1, err)
		}
	}
	return nil
}

func schemaVersion(ctx context.Context, c *sql.Conn) (int, error) {
	var version int
	if err := c.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if version > len(migrations) {
		return 0, fmt.Errorf("schema %d, this program knows up to %d: %w", version, len(migrations), ErrSchema)
	}
	return version, nil
}

// transact runs f in a transaction that is on disk when transact returns nil.
// database/sql's Tx is not used because it forgets a transaction whose COMMIT
// failed, and SQLite may not have.
func transact(ctx context.Context, c *sql.Conn, f func() error) error {
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = c.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = c.ExecContext(ctx, "ROLLBACK") // fails if SQLite has rolled back by itself
	}
	return err
}
