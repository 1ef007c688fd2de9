package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/legion-cron/legion-cron/jobs"
)

var (
	// ErrFull means that the disk has no room. Nothing was changed, and the
	// same call succeeds once there is.
	ErrFull = errors.New("disk is full")
	// ErrDamaged means that the file contradicts itself. The next Open moves
	// it aside; until then nothing the Store says can be relied on.
	ErrDamaged = errors.New("ledger is damaged")
)

// MaxValue bounds every blob in Writes, in bytes.
const MaxValue = 1 << 20

// A Grant is what a voter promised to a candidate, as the disk remembers it.
// There is one per legion; the last one written stands.
type Grant struct {
	Legion      string
	Term        uint64
	Holder      string // node
	Instance    string // of the holder: made with its state directory
	Incarnation string // of the holder
	Lease       time.Duration
	Released    bool
}

// Writes is what one transaction changes. The zero Writes changes nothing.
type Writes struct {
	Grants     []Grant
	Electorate []byte            // nil: unchanged
	Founding   []byte            // nil: unchanged
	Values     map[string][]byte // small blobs by name; a nil value deletes
	Batches    [][]byte          // encoded jobs.Batch, merged
	Records    []jobs.Record     // merged
	Marks      []jobs.Mark       // merged
}

// Protocol is the part of the ledger that the legion protocol starts from.
type Protocol struct {
	Grants     []Grant // by legion
	Electorate []byte  // nil: never written
	Founding   []byte  // nil: never written
	Values     map[string][]byte
}

// A Store is an open ledger. All its methods are safe for concurrent use;
// writes happen one after the other.
type Store struct {
	cfg      Config
	lock     *os.File // nil: closed
	fresh    bool
	instance string
	starts   atomic.Uint64

	writing sync.Mutex // held over every transaction and by Close
	writeDB *sql.DB
	writer  *sql.Conn
	stmts   struct {
		run, newRun, putRun, noRun, putMark, grant, blob, noBlob, retain, digest, putDigest, noDigest *sql.Stmt
	}
	readDB *sql.DB

	image  sync.RWMutex // guards tables
	tables map[string]*jobs.Table

	retaining sync.Mutex
	retained  cursor // guarded by retaining
}

// Fresh reports whether this Open made the instance.
func (s *Store) Fresh() bool { return s.fresh }

// Instance is the random id made with the file.
func (s *Store) Instance() string { return s.instance }

// Starts is how many times the file has been opened, this time included, and
// counted on.
func (s *Store) Starts() uint64 { return s.starts.Load() }

// CountOn makes Starts one more, durably. What was copied from the file before
// then counts no more than this, however it is opened.
func (s *Store) CountOn() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.lock == nil {
		return fmt.Errorf("write ledger: %w", os.ErrClosed)
	}
	ctx := context.Background()
	var starts uint64
	if err := s.explain(transact(ctx, s.writer, func() error { return s.count(ctx, &starts) })); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	s.starts.Store(starts)
	return nil
}

func (s *Store) statements() []**sql.Stmt {
	p := &s.stmts
	return []**sql.Stmt{
		&p.run, &p.newRun, &p.putRun, &p.noRun, &p.putMark, &p.grant, &p.blob, &p.noBlob, &p.retain,
		&p.digest, &p.putDigest, &p.noDigest,
	}
}

const insertRun = `INSERT INTO runs (` + runColumns + `, job, at, rank) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
	ON CONFLICT (slot, legion, attempt, run) DO `

// The statements of the writer, in the order of statements.
var writerSQL = []string{
	"SELECT " + runColumns + " FROM runs WHERE slot = ? AND legion = ? AND attempt = ? AND run = ?",
	insertRun + "NOTHING",
	// What is not updated is part of the key, or follows from it.
	insertRun + `UPDATE SET
		state = excluded.state, rank = excluded.rank, term = excluded.term, node = excluded.node,
		incarnation = excluded.incarnation, definition = excluded.definition, reason = excluded.reason,
		scheduled = excluded.scheduled, started = excluded.started, ended = excluded.ended,
		exit_code = excluded.exit_code, signal = excluded.signal, manual = excluded.manual,
		until = excluded.until, count = excluded.count`,
	"DELETE FROM runs WHERE slot = ? AND legion = ? AND attempt = ? AND run = ?",
	"INSERT OR REPLACE INTO marks (" + markColumns + ") VALUES (?,?,?,?,?,?)",
	"INSERT OR REPLACE INTO grants (" + grantColumns + ") VALUES (?,?,?,?,?,?,?)",
	"INSERT OR REPLACE INTO blobs (kind, name, value) VALUES (?,?,?)",
	"DELETE FROM blobs WHERE kind = ? AND name = ?",
	retainSQL,
	"SELECT " + digestColumns + " FROM digests WHERE hour = ?",
	"INSERT OR REPLACE INTO digests (" + digestColumns + ") VALUES (?,?,?)",
	"DELETE FROM digests WHERE hour = ?",
}

func (s *Store) prepare(ctx context.Context) (err error) {
	for i, stmt := range s.statements() {
		if *stmt, err = s.writer.PrepareContext(ctx, writerSQL[i]); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	return nil
}

// table is the image of one legion. The caller has image, or is Open.
func (s *Store) table(legion string) *jobs.Table {
	t := s.tables[legion]
	if t == nil {
		t = &jobs.Table{}
		s.tables[legion] = t
	}
	return t
}

// Write makes all of writes durable in one transaction, or none of it. In it,
// what stands later wins, and records and marks are merged with what is there.
// It returns ErrFull if the disk is full. An item that is not valid fails the
// whole call.
func (s *Store) Write(writes ...Writes) error {
	c, err := gather(writes)
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, err := s.write(c); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// Merge writes one batch from another node.
func (s *Store) Merge(batch jobs.Batch) error {
	return s.Write(Writes{Records: batch.Records, Marks: batch.Marks})
}

// changes is the sum of many Writes.
type changes struct {
	grants  map[string]Grant
	blobs   map[blobKey][]byte // nil: delete
	records map[jobs.Key]jobs.Record
	marks   map[jobs.MarkKey]jobs.Mark
	hearsay bool // lost runs do not settle what is unsettled here
}

type blobKey struct{ kind, name string }

const (
	kindElectorate = "electorate"
	kindFounding   = "founding"
	kindValue      = "value"
)

func gather(writes []Writes) (changes, error) {
	c := changes{
		grants:  map[string]Grant{},
		blobs:   map[blobKey][]byte{},
		records: map[jobs.Key]jobs.Record{},
		marks:   map[jobs.MarkKey]jobs.Mark{},
	}
	for _, w := range writes {
		for _, g := range w.Grants {
			if g.Term > math.MaxInt64 {
				return c, fmt.Errorf("grant of %s: term is out of range", g.Legion)
			}
			c.grants[g.Legion] = g
		}
		if w.Electorate != nil {
			c.blobs[blobKey{kind: kindElectorate}] = w.Electorate
		}
		if w.Founding != nil {
			c.blobs[blobKey{kind: kindFounding}] = w.Founding
		}
		for name, value := range w.Values {
			c.blobs[blobKey{kindValue, name}] = value
		}
		if err := c.merge(jobs.Batch{Records: w.Records, Marks: w.Marks}); err != nil {
			return c, err
		}
		for _, encoded := range w.Batches {
			batch, err := jobs.DecodeBatch(encoded)
			if err != nil {
				return c, err
			}
			if err := c.merge(batch); err != nil {
				return c, err
			}
		}
	}
	for key, value := range c.blobs {
		if len(value) > MaxValue || len(key.name) > jobs.MaxName {
			return c, fmt.Errorf("%s %.100q: %d bytes, at most %d", key.kind, key.name, len(value), MaxValue)
		}
	}
	return c, nil
}

func (c *changes) merge(batch jobs.Batch) error {
	for _, r := range batch.Records {
		r = r.Normal()
		if err := r.Validate(); err != nil {
			return err
		}
		key := r.Key()
		if other, ok := c.records[key]; ok {
			r = jobs.Merge(r, other)
		}
		c.records[key] = r
	}
	for _, m := range batch.Marks {
		m = m.Normal()
		if err := m.Validate(); err != nil {
			return err
		}
		key := m.Key()
		if other, ok := c.marks[key]; ok {
			m = jobs.MergeMark(m, other)
		}
		c.marks[key] = m
	}
	return nil
}

// write commits c and then brings the image up to date; it returns what has
// changed. The caller has writing.
func (s *Store) write(c changes) (jobs.Batch, error) {
	if s.lock == nil {
		return jobs.Batch{}, os.ErrClosed
	}
	changed, err := s.commit(c)
	if errors.Is(err, ErrFull) {
		// The log may hold the room that is missing. It is not a failure if it
		// cannot be folded back: the second try says what there is to say.
		_ = s.checkpoint("TRUNCATE")
		changed, err = s.commit(c)
	}
	if err != nil {
		return jobs.Batch{}, err
	}
	s.image.Lock()
	defer s.image.Unlock()
	for _, r := range changed.Records {
		s.table(r.Legion).Put(r)
	}
	for _, m := range changed.Marks {
		s.table(m.Legion).PutMark(m)
	}
	return changed, nil
}

// commit returns the records and marks that are on disk now and were not before.
func (s *Store) commit(c changes) (changed jobs.Batch, err error) {
	ctx := context.Background()
	err = transact(ctx, s.writer, func() error {
		for _, g := range c.grants {
			if _, err := s.stmts.grant.ExecContext(ctx, g.Legion, int64(g.Term), g.Holder, g.Instance, g.Incarnation, int64(g.Lease), g.Released); err != nil {
				return err
			}
		}
		for key, value := range c.blobs {
			if err := s.putBlob(ctx, key, value); err != nil {
				return err
			}
		}
		if changed.Marks, err = s.putMarks(ctx, c.marks); err != nil {
			return err
		}
		changed.Records, err = s.putRecords(ctx, c)
		return err
	})
	return changed, s.explain(err)
}

func (s *Store) putBlob(ctx context.Context, key blobKey, value []byte) error {
	if value == nil {
		_, err := s.stmts.noBlob.ExecContext(ctx, key.kind, key.name)
		return err
	}
	_, err := s.stmts.blob.ExecContext(ctx, key.kind, key.name, value)
	return err
}

// putRecords merges in the order of keys, which is the order of the index.
func (s *Store) putRecords(ctx context.Context, c changes) (changed []jobs.Record, err error) {
	sums := digests{}
	for _, key := range slices.SortedFunc(maps.Keys(c.records), jobs.Key.Compare) {
		r := c.records[key]
		old, known, err := s.known(ctx, key, r)
		if err != nil {
			return nil, err
		}
		if !known {
			sums.add(r, +1)
			changed = append(changed, r)
			continue
		}
		r = jobs.Merge(r, old)
		if r == old || c.hearsay && r.State == jobs.Lost && !old.State.Settled() {
			continue
		}
		if orderedBy(r) != orderedBy(old) { // only if somebody changed his mind
			if _, err := s.stmts.noRun.ExecContext(ctx, key.Slot, r.Legion, key.Attempt, key.Run); err != nil {
				return nil, err
			}
		}
		if _, err := s.stmts.putRun.ExecContext(ctx, recordArgs(r)...); err != nil {
			return nil, err
		}
		sums.replace(old, r)
		changed = append(changed, r)
	}
	return changed, s.putDigests(ctx, sums)
}

// known returns what there is under a record's key. If that is nothing, the
// record is put there: most are new, and then it is all that there is to do.
func (s *Store) known(ctx context.Context, key jobs.Key, r jobs.Record) (old jobs.Record, known bool, err error) {
	if t := s.tables[r.Legion]; t != nil { // only write, which has writing, changes the image
		if old, known = t.Record(key); known {
			return old, true, nil
		}
	}
	result, err := s.stmts.newRun.ExecContext(ctx, recordArgs(r)...)
	if err != nil {
		return old, false, err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return old, false, err
	}
	old, err = scanRecord(s.stmts.run.QueryRowContext(ctx, key.Slot, r.Legion, key.Attempt, key.Run))
	return old, true, err
}

// putMarks merges with the image, which has every mark that is on disk.
func (s *Store) putMarks(ctx context.Context, marks map[jobs.MarkKey]jobs.Mark) (changed []jobs.Mark, err error) {
	for _, key := range slices.SortedFunc(maps.Keys(marks), jobs.MarkKey.Compare) {
		m := marks[key]
		if t := s.tables[m.Legion]; t != nil {
			old, known := t.Mark(key)
			if known {
				m = jobs.MergeMark(m, old)
			}
			if known && m == old {
				continue
			}
		}
		if _, err := s.stmts.putMark.ExecContext(ctx, markArgs(m)...); err != nil {
			return nil, err
		}
		changed = append(changed, m)
	}
	return changed, nil
}

// checkpoint folds the log back into the file: PASSIVE as far as that needs no
// waiting, TRUNCATE all of it, to give the log's room back.
func (s *Store) checkpoint(mode string) error {
	var busy, pages, done int
	return s.writer.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &done)
}

// Unsettled is a copy of every mark and every unsettled record of the legion
// (of jobs without one: ""), in the order of keys, as it is on disk.
func (s *Store) Unsettled(legion string) jobs.Batch {
	s.image.RLock()
	defer s.image.RUnlock()
	if t := s.tables[legion]; t != nil {
		return t.Batch()
	}
	return jobs.Batch{}
}

// Legions names the legions of which Unsettled has something to say, in order.
func (s *Store) Legions() []string {
	s.image.RLock()
	defer s.image.RUnlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.tables)), func(name string) bool { return name == "" })
}

// Disown has the next Open make a new instance, and move the file aside.
func (s *Store) Disown() error {
	if err := os.WriteFile(filepath.Join(s.cfg.Dir, damagedName), nil, 0o640); err != nil {
		return fmt.Errorf("disown ledger: %w", err)
	}
	return syncDir(s.cfg.Dir)
}

// UnsettledHash is the hash of Unsettled: equal on two nodes if and only if
// that is. It is kept up to date by Write and costs nothing to ask.
func (s *Store) UnsettledHash(legion string) [16]byte {
	s.image.RLock()
	defer s.image.RUnlock()
	if t := s.tables[legion]; t != nil {
		return t.Hash()
	}
	return [16]byte{}
}

const grantColumns = "legion, term, holder, instance, incarnation, lease_ns, released"

// Load reads what the protocol starts from.
func (s *Store) Load() (Protocol, error) {
	s.writing.Lock() // both queries see one state
	defer s.writing.Unlock()
	p, err := load(context.Background(), s.readDB)
	if err != nil {
		return Protocol{}, fmt.Errorf("load ledger: %w", s.explain(err))
	}
	return p, nil
}

func load(ctx context.Context, db *sql.DB) (Protocol, error) {
	p := Protocol{Values: map[string][]byte{}}
	rows, err := db.QueryContext(ctx, "SELECT "+grantColumns+" FROM grants ORDER BY legion")
	if err != nil {
		return p, err
	}
	defer rows.Close()
	for rows.Next() {
		var g Grant
		if err := rows.Scan(&g.Legion, &g.Term, &g.Holder, &g.Instance, &g.Incarnation, &g.Lease, &g.Released); err != nil {
			return p, err
		}
		p.Grants = append(p.Grants, g)
	}
	if err := rows.Err(); err != nil {
		return p, err
	}
	blobs, err := db.QueryContext(ctx, "SELECT kind, name, value FROM blobs")
	if err != nil {
		return p, err
	}
	defer blobs.Close()
	for blobs.Next() {
		var kind, name string
		var value []byte
		if err := blobs.Scan(&kind, &name, &value); err != nil {
			return p, err
		}
		if value == nil {
			value = []byte{} // it was written, if empty
		}
		switch kind {
		case kindElectorate:
			p.Electorate = value
		case kindFounding:
			p.Founding = value
		case kindValue:
			p.Values[name] = value
		}
	}
	return p, blobs.Err()
}

// explain says what an error of SQLite means to the caller. Damage is
// remembered on disk for the next Open, which might not find it by itself.
func (s *Store) explain(err error) error {
	err = explain(s.cfg.Dir, err)
	if errors.Is(err, ErrDamaged) {
		if markErr := os.WriteFile(filepath.Join(s.cfg.Dir, damagedName), nil, 0o640); markErr != nil {
			err = errors.Join(err, markErr)
		}
		if s.cfg.Damaged != nil {
			s.cfg.Damaged(err)
		}
	}
	return err
}

// littleRoom is how much a file system must have left before an I/O error on
// it is something else than a full disk. SQLite reports some ways of finding
// no room (for its shared memory, for a file it makes) as plain I/O errors.
const littleRoom = 256 << 10

func explain(dir string, err error) error {
	if err == nil || errors.Is(err, ErrFull) || errors.Is(err, ErrDamaged) {
		return err
	}
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff { // without the extension
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		case sqlite3.SQLITE_FULL:
			full = true
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
			var fs unix.Statfs_t
			full = unix.Statfs(dir, &fs) == nil && fs.Bavail*uint64(fs.Bsize) < littleRoom
		}
	}
	if full {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
