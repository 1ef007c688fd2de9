package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/legion-cron/legion-cron/jobs"
)

// Names in the state directory.
const (
	fileName    = "ledger.db"
	lockName    = "lock"
	damagedName = "ledger.damaged"
)

// Limits of the file and its connections.
const (
	// busyTimeout is how long a write waits for somebody with sqlite3 who
	// holds the file. Longer than a lease: the node would be no lord by then.
	busyTimeout = 5 * time.Second
	// checkpointPages is how long the log grows before it is folded back.
	// More: fewer flushes of the file itself. Fewer: a smaller disk suffices.
	checkpointPages = 512
	// logLimit is what is kept of the log file after a burst made it large.
	logLimit = 8 << 20
	// lockPatience is how long Open waits for what is left of a process that
	// had the state directory and is dead, lockRetry how often it looks.
	lockPatience = 2 * time.Second
	lockRetry    = 10 * time.Millisecond
	// readers is how many queries may run at once.
	readers = 3
	// checkWhole is the size up to which Open checks the whole file.
	checkWhole = 256 << 20
	// keepDamaged is how many files moved aside are kept.
	keepDamaged = 3
)

// ErrInUse is returned by Open if another process has the state directory.
var ErrInUse = errors.New("state directory is in use")

// Config says where the ledger is and how much of the past it keeps.
type Config struct {
	Dir string // the state directory; made if missing
	// Keep is how long settled runs are kept after their slot; 0: 90 days.
	// Longer costs disk, about 1 kB a run, and nothing else.
	Keep time.Duration
	// KeepRuns is how many runs of each job are kept however old; 0: 10.
	KeepRuns int
	// Damaged is told when a call finds that the file contradicts itself, be it
	// one that only reads; nil: nobody. It must not block, nor use the Store.
	Damaged func(error)
	// Forgot is told of what Retain has removed, by Retain; nil: nobody.
	Forgot func([]jobs.Record)
}

// The defaults of Config.
const (
	DefaultKeep     = 90 * 24 * time.Hour
	DefaultKeepRuns = 10
)

// Open locks the state directory, opens the ledger in it and counts the start.
// A missing or damaged ledger is replaced by a new one, and Fresh says so; now
// only names the damaged file. The caller closes the Store.
func Open(cfg Config, now time.Time) (*Store, error) {
	s, err := openLocked(cfg, now)
	if err != nil {
		return nil, fmt.Errorf("open ledger in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func openLocked(cfg Config, now time.Time) (_ *Store, err error) {
	if cfg.Keep == 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.KeepRuns == 0 {
		cfg.KeepRuns = DefaultKeepRuns
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(explain(cfg.Dir, err), unlock(lock))
		}
	}()
	if suspect, err := isSuspect(cfg.Dir); err != nil {
		return nil, err
	} else if suspect {
		if err := setAside(cfg.Dir, now); err != nil {
			return nil, err
		}
	}
	s, err := openFile(cfg)
	if errors.Is(explain(cfg.Dir, err), ErrDamaged) {
		if err := setAside(cfg.Dir, now); err != nil {
			return nil, err
		}
		s, err = openFile(cfg)
	}
	if err != nil {
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// lockDir takes the state directory for this process, until the file is closed
// or the process is gone.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(lockRetry) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		text := make([]byte, 32)
		n, _ := f.ReadAt(text, 0) // io.EOF: it is short
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
		// Of a process that was killed while it forked, a child may hold the
		// lock until it executes.
		if dying := pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH); !dying || time.Since(began) > lockPatience {
			return nil, errors.Join(fmt.Errorf("%w by process %d", ErrInUse, pid), f.Close())
		}
	}
	// Overwritten in place: on a full disk the room of the old pid is all there is.
	pid := fmt.Sprintf("%d\n", os.Getpid())
	if _, err = f.WriteAt([]byte(pid), 0); err == nil {
		err = f.Truncate(int64(len(pid)))
	}
	if err != nil {
		return nil, errors.Join(explain(dir, fmt.Errorf("write pid: %w", err)), unlock(f))
	}
	return f, nil
}

// unlock does not leave it to Close: a child that is between fork and exec
// holds a copy of the file, and with it the lock.
func unlock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

// isSuspect reports whether what lies in dir must be out of the way before a
// ledger is opened there: a file that was found damaged while in use, or the
// log of a file that is gone, which SQLite would replay into the new one.
func isSuspect(dir string) (bool, error) {
	if _, err := os.Stat(filepath.Join(dir, damagedName)); err == nil {
		return true, nil
	}
	_, err := os.Stat(filepath.Join(dir, fileName))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// setAside moves the ledger and its log out of the way, under names with which
// sqlite3 can still open them.
func setAside(dir string, now time.Time) error {
	base := filepath.Join(dir, damagedName+"-"+now.UTC().Format("20060102T150405.000Z"))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := os.Rename(filepath.Join(dir, fileName+suffix), base+suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("move damaged ledger aside: %w", err)
		}
	}
	if err := forgetDamaged(dir); err != nil {
		return err
	}
	// Removed last: after a crash up to here, the next Open does all this again.
	if err := os.Remove(filepath.Join(dir, damagedName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}

// forgetDamaged removes all but the newest files moved aside, so that a bad
// disk does not fill itself with them.
func forgetDamaged(dir string) error {
	files, err := filepath.Glob(filepath.Join(globEscape(dir), damagedName+"-*Z"))
	if err != nil {
		return err
	}
	for i := 0; i < len(files)-keepDamaged; i++ { // sorted by name, so by time
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(files[i] + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove old damaged ledger: %w", err)
			}
		}
	}
	return nil
}

func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openFile opens or makes the ledger file and everything that hangs on it.
func openFile(cfg Config) (_ *Store, err error) {
	path, err := filepath.Abs(filepath.Join(cfg.Dir, fileName))
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, tables: map[string]*jobs.Table{}}
	defer func() {
		if err != nil {
			s.closeFile()
		}
	}()
	ctx := context.Background()
	if s.writeDB, err = sql.Open("sqlite", dsn(path,
		"journal_mode(WAL)", "synchronous(FULL)",
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages), fmt.Sprintf("journal_size_limit(%d)", logLimit))); err != nil {
		return nil, err
	}
	if s.writer, err = s.writeDB.Conn(ctx); err != nil {
		return nil, err
	}
	var mode string
	if err := s.writer.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return nil, err
	} else if mode != "wal" {
		return nil, fmt.Errorf("journal mode is %s: this file system cannot do WAL", mode)
	}
	if _, err := schemaVersion(ctx, s.writer); err != nil {
		return nil, err
	}
	if err := check(ctx, s.writer, path); err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.writer); err != nil {
		return nil, err
	}
	if err := s.countStart(ctx); err != nil {
		return nil, err
	}
	// While there is room: on a full disk, the log can be folded back only
	// into pages that the file already has.
	if err := s.checkpoint("PASSIVE"); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if s.readDB, err = sql.Open("sqlite", dsn(path, "query_only(1)")); err != nil {
		return nil, err
	}
	s.readDB.SetMaxOpenConns(readers)
	s.readDB.SetMaxIdleConns(readers)
	if err := s.loadTables(ctx); err != nil {
		return nil, err
	}
	// The names of a new file and directory are part of what must be durable.
	if err := errors.Join(syncDir(cfg.Dir), syncDir(filepath.Dir(filepath.Dir(path)))); err != nil {
		return nil, err
	}
	return s, nil
}

// dsn is a URI, so that no character of the path means anything to SQLite.
func dsn(path string, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())}, pragmas...)}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// check looks for damage: everywhere in a file of ordinary size, else where
// the protocol's promises are.
func check(ctx context.Context, c *sql.Conn, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	checks := []string{"PRAGMA quick_check(1)"}
	if info.Size() > checkWhole {
		checks = []string{"PRAGMA quick_check(meta)", "PRAGMA quick_check(grants)", "PRAGMA quick_check(blobs)", "PRAGMA quick_check(marks)"}
	}
	for _, pragma := range checks {
		var verdict string
		if err := c.QueryRowContext(ctx, pragma).Scan(&verdict); err != nil {
			return fmt.Errorf("check: %w", err)
		}
		if verdict != "ok" {
			return fmt.Errorf("check: %w: %s", ErrDamaged, verdict)
		}
	}
	return nil
}

// countStart makes the instance if there is none, and the start known for ever.
func (s *Store) countStart(ctx context.Context) error {
	var starts uint64
	err := transact(ctx, s.writer, func() error {
		err := s.writer.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'instance'").Scan(&s.instance)
		if errors.Is(err, sql.ErrNoRows) {
			id, err := uuid.NewRandom()
			if err != nil {
				return err
			}
			s.instance, s.fresh = id.String(), true
			if _, err := s.writer.ExecContext(ctx, "INSERT INTO meta VALUES ('instance', ?), ('starts', 0)", s.instance); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		return s.count(ctx, &starts)
	})
	s.starts.Store(starts)
	return err
}

// count counts one more, inside of a transaction.
func (s *Store) count(ctx context.Context, starts *uint64) error {
	err := s.writer.QueryRowContext(ctx, "UPDATE meta SET value = value + 1 WHERE name = 'starts' RETURNING value").Scan(starts)
	if err != nil {
		return fmt.Errorf("count start: %w", err)
	}
	return nil
}

// loadTables builds the image in memory of what is on disk.
func (s *Store) loadTables(ctx context.Context) error {
	records, err := queryRecords(ctx, s.readDB, "SELECT "+runColumns+" FROM runs WHERE rank < 5")
	if err != nil {
		return fmt.Errorf("read unsettled runs: %w", err)
	}
	for _, r := range records {
		s.table(r.Legion).Put(r)
	}
	rows, err := s.readDB.QueryContext(ctx, "SELECT "+markColumns+" FROM marks")
	if err != nil {
		return fmt.Errorf("read marks: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		m, err := scanMark(rows)
		if err != nil {
			return fmt.Errorf("read marks: %w", err)
		}
		s.table(m.Legion).PutMark(m)
	}
	return rows.Err()
}

// closeFile lets go of everything but the lock. SQLite folds the log back
// when its last connection goes.
func (s *Store) closeFile() error {
	var errs []error
	for _, stmt := range s.statements() {
		if *stmt != nil {
			errs = append(errs, (*stmt).Close())
		}
	}
	if s.readDB != nil {
		errs = append(errs, s.readDB.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.writeDB != nil {
		errs = append(errs, s.writeDB.Close())
	}
	return errors.Join(errs...)
}

// Close waits for the writes under way, closes the file and gives the state
// directory free. Whatever was acknowledged is on disk already.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.lock == nil {
		return nil
	}
	err := errors.Join(s.closeFile(), unlock(s.lock))
	s.lock = nil
	if err != nil {
		return fmt.Errorf("close ledger: %w", err)
	}
	return nil
}
