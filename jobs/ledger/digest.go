package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// An Hour is a piece of history: what is ordered by a time in [Start, Start +
// 1 h). It is counted in hours since 1970.
type Hour int64

// HourOfRecord is the hour that a record belongs to: that of its slot, or of a
// manual run the one in which it was asked for.
func HourOfRecord(r jobs.Record) Hour { return Hour(floorDiv(orderedBy(r), millisPerHour)) }

// HourOf is the hour that t is in.
func HourOf(t time.Time) Hour { return Hour(floorDiv(t.UnixMilli(), millisPerHour)) }

// Start is the first moment of the hour.
func (h Hour) Start() time.Time { return time.UnixMilli(int64(h) * millisPerHour).UTC() }

const millisPerHour = int64(time.Hour / time.Millisecond)

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// A Digest sums up the settled records of one hour, of all jobs that have a
// legion. Two nodes whose digests of an hour are equal have the same of them.
type Digest struct {
	Hour  Hour
	Count int
	Hash  jobs.Hash // xor of the records' hashes: the order does not matter
}

// add takes a record's hash in, or out again.
func (d *Digest) add(h jobs.Hash, n int) {
	d.Count += n
	for i := range h {
		d.Hash[i] ^= h[i]
	}
}

// digests are changes, by hour.
type digests map[Hour]*Digest

// replace notes that one record takes the place of another; a record that is
// not settled, or the zero Record for none, does not count, nor does one of a
// job without a legion, which only its own node has.
func (ds digests) replace(old, new jobs.Record) {
	ds.add(old, -1)
	ds.add(new, +1)
}

func (ds digests) add(r jobs.Record, n int) {
	if !r.State.Settled() || r.Slot.Local() {
		return
	}
	h := HourOfRecord(r)
	if ds[h] == nil {
		ds[h] = &Digest{Hour: h}
	}
	ds[h].add(r.Hash(), n)
}

// putDigests adds changes to what is on disk. It is part of the transaction
// that makes the changes.
func (s *Store) putDigests(ctx context.Context, changes digests) error {
	for hour, change := range changes {
		d, err := scanDigest(s.stmts.digest.QueryRowContext(ctx, int64(hour)))
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		d.Hour = hour
		d.add(change.Hash, change.Count)
		if d.Count == 0 {
			_, err = s.stmts.noDigest.ExecContext(ctx, int64(hour))
		} else {
			_, err = s.stmts.putDigest.ExecContext(ctx, int64(hour), d.Count, d.Hash[:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const digestColumns = "hour, count, hash"

func scanDigest(row scanner) (Digest, error) {
	var d Digest
	var hash []byte
	if err := row.Scan(&d.Hour, &d.Count, &hash); err != nil {
		return Digest{}, err
	}
	if copy(d.Hash[:], hash) != len(d.Hash) {
		return Digest{}, fmt.Errorf("%w: digest of hour %d", ErrDamaged, d.Hour)
	}
	return d, nil
}

// Digests returns the digests of the hours from one to before another that
// have any settled records, oldest first.
func (s *Store) Digests(from, before Hour) ([]Digest, error) {
	all, err := readDigests(context.Background(), s.readDB, from, before)
	if err != nil {
		return nil, fmt.Errorf("read digests: %w", s.explain(err))
	}
	return all, nil
}

func readDigests(ctx context.Context, db *sql.DB, from, before Hour) ([]Digest, error) {
	rows, err := db.QueryContext(ctx,
		"SELECT "+digestColumns+" FROM digests WHERE hour >= ? AND hour < ? ORDER BY hour", int64(from), int64(before))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Digest
	for rows.Next() {
		d, err := scanDigest(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, rows.Err()
}

// A Place is how far a reader of an hour has come. The zero Place is its beginning.
type Place struct{ At, ID int64 }

// Settled returns the settled records of an hour, of jobs that have a legion:
// at most limit of them, from a place on, and the place to go on from; the zero
// Place: that was all.
func (s *Store) Settled(h Hour, from Place, limit int) ([]jobs.Record, Place, error) {
	records, next, err := s.settled(context.Background(), h, from, limit)
	if err != nil {
		return nil, Place{}, fmt.Errorf("read hour of history: %w", s.explain(err))
	}
	return records, next, nil
}

func (s *Store) settled(ctx context.Context, h Hour, from Place, limit int) (records []jobs.Record, next Place, err error) {
	first := int64(h) * millisPerHour
	if from == (Place{}) {
		from = Place{At: first, ID: -1}
	}
	rows, err := s.readDB.QueryContext(ctx, "SELECT "+runColumns+", at, id FROM runs WHERE (at, id) > (?, ?) AND at < ? ORDER BY at, id LIMIT ?",
		from.At, from.ID, first+millisPerHour, limit)
	if err != nil {
		return nil, Place{}, err
	}
	defer rows.Close()
	looked := 0
	for rows.Next() {
		r, err := scanRecord(trailing{rows, []any{&next.At, &next.ID}})
		if err != nil {
			return nil, Place{}, err
		}
		if looked++; r.State.Settled() && !r.Slot.Local() {
			records = append(records, r)
		}
	}
	if looked < limit {
		next = Place{}
	}
	return records, next, rows.Err()
}

// trailing is a row with more columns than its reader knows.
type trailing struct {
	scanner
	more []any
}

func (t trailing) Scan(dest ...any) error { return t.scanner.Scan(slices.Concat(dest, t.more)...) }

// Fill writes settled records that another node has, as Merge does, and returns
// those that are news here. A lost run stays unsettled where it is unsettled: it
// was perhaps given up by a lord whose word never reached a quorum, and whether
// it is lost is then for the next lord to find out.
func (s *Store) Fill(records []jobs.Record) ([]jobs.Record, error) {
	c, err := gather([]Writes{{Records: records}})
	if err != nil {
		return nil, fmt.Errorf("fill ledger: %w", err)
	}
	for key, r := range c.records {
		if !r.State.Settled() {
			delete(c.records, key)
		}
	}
	c.hearsay = true
	s.writing.Lock()
	defer s.writing.Unlock()
	news, err := s.write(c)
	if err != nil {
		return nil, fmt.Errorf("fill ledger: %w", err)
	}
	return news.Records, nil
}
