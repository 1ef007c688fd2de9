package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// What has been written stays written, but only some of it stands: see
// jobs.Standing. The file holds everything, so that nodes that have heard the
// same come to the same end; what is read for people, and for decisions, is
// what stands.

// Standing returns the records of the slots that stand, as Slots does.
func (s *Store) Standing(slots ...jobs.Slot) ([]jobs.Record, error) {
	all, err := s.Slots(slots...)
	if err != nil {
		return nil, err
	}
	return s.standing(all)
}

// Stranded returns at most limit records of a legion, or of jobs without one,
// that are never started or lost, and stand: the newest slots since a time.
func (s *Store) Stranded(legion string, since time.Time, limit int) ([]jobs.Record, error) {
	records, err := queryRecords(context.Background(), s.readDB,
		"SELECT "+runColumns+" FROM runs WHERE legion = ? AND at >= ? AND state IN ('never started', 'lost') "+newestFirst+" LIMIT ?",
		legion, since.UnixMilli(), limit)
	if err != nil {
		return nil, fmt.Errorf("read stranded slots: %w", s.explain(err))
	}
	return s.standing(records)
}

// standing leaves out what does not stand.
func (s *Store) standing(records []jobs.Record) ([]jobs.Record, error) {
	var void []jobs.Key
	for _, r := range records {
		if !r.Voidable() {
			continue
		}
		related, err := s.related(r)
		if err != nil {
			return nil, err
		}
		key := r.Key()
		if !slices.ContainsFunc(jobs.Standing(related), func(o jobs.Record) bool { return o.Key() == key }) {
			void = append(void, key)
		}
	}
	if len(void) == 0 {
		return records, nil
	}
	return slices.DeleteFunc(slices.Clone(records), func(r jobs.Record) bool { return slices.Contains(void, r.Key()) }), nil
}

// related returns all that has a say in whether r stands: what is known of its
// slot, the rows of missed slots that it is in, and what is known of the slots
// that those begin with.
func (s *Store) related(r jobs.Record) ([]jobs.Record, error) {
	about := []jobs.Slot{r.Slot}
	if r.Slot.Manual == "" {
		rows, err := queryRecords(context.Background(), s.readDB,
			"SELECT "+runColumns+" FROM runs WHERE job = ? AND legion = ? AND count > 1 AND at < ? AND until >= ?",
			r.Job, r.Legion, r.At.UnixMilli(), r.At.UnixMilli())
		if err != nil {
			return nil, fmt.Errorf("look up rows of slots: %w", s.explain(err))
		}
		for _, row := range rows {
			about = append(about, row.Slot)
		}
	}
	return s.Slots(about...)
}
