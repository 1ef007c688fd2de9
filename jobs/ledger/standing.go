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

// Standing returns the records of the slots that stand, and the rows of missed
// slots that they are in.
func (s *Store) Standing(about ...jobs.Slot) ([]jobs.Record, error) {
	all, err := s.About(about...)
	if err != nil {
		return nil, err
	}
	asked := make(map[jobs.Slot]bool, len(about))
	for _, slot := range about {
		asked[slot.Normal()] = true
	}
	all = slices.DeleteFunc(all, func(r jobs.Record) bool { // what else became of the slots with which rows begin
		return !asked[r.Slot] && (r.Count <= 1 || !slices.ContainsFunc(about, func(slot jobs.Slot) bool { return r.Concerns(slot.Normal()) }))
	})
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
		related, err := s.About(r.Slot)
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

// maxWithin is how many later decisions within a row of missed slots are
// looked at, the latest first; one that stands makes it void.
const maxWithin = 100

// overruling returns the slots of a row that a later lord decided about.
func (s *Store) overruling(row jobs.Record) (slots []jobs.Slot, err error) {
	within, err := queryRecords(context.Background(), s.readDB,
		"SELECT "+runColumns+" FROM runs WHERE job = ? AND legion = ? AND at > ? AND at <= ? AND term > ? ORDER BY term DESC LIMIT ?",
		row.Job, row.Legion, row.At.UnixMilli(), row.To.UnixMilli(), int64(row.Term), maxWithin)
	if err != nil {
		return nil, fmt.Errorf("look up a row of slots: %w", s.explain(err))
	}
	for _, r := range within {
		slots = append(slots, r.Slot)
	}
	return slots, nil
}

// Within returns at most limit settled records, of the newest slots, that the
// lord of the row's term wrote about slots of the row after its first; rows that
// reach into it among them, beyond the limit.
func (s *Store) Within(row jobs.Record, limit int) ([]jobs.Record, error) {
	from, to := row.At.UnixMilli(), row.To.UnixMilli()
	found, err := queryRecords(context.Background(), s.readDB,
		"SELECT "+runColumns+" FROM runs WHERE job = ? AND legion = ? AND at > ? AND at <= ? AND term = ? AND rank >= ? "+newestFirst+" LIMIT ?",
		row.Job, row.Legion, from, to, int64(row.Term), jobs.RankLost, limit)
	if err != nil {
		return nil, fmt.Errorf("look up what was decided: %w", s.explain(err))
	}
	rows, err := queryRecords(context.Background(), s.readDB,
		"SELECT "+runColumns+" FROM runs WHERE job = ? AND legion = ? AND count > 1 AND at <= ? AND until > ? AND term = ?",
		row.Job, row.Legion, from, from, int64(row.Term))
	if err != nil {
		return nil, fmt.Errorf("look up rows of slots: %w", s.explain(err))
	}
	return append(found, rows...), nil
}

// About returns all that there is about slots, whether or not it stands: what
// Slots returns, and what there is of the rows of missed slots that they are in:
// of the slots with which those begin, and of those that a later lord decided about.
func (s *Store) About(slots ...jobs.Slot) ([]jobs.Record, error) {
	known, looked := map[jobs.Slot]bool{}, map[jobs.Key]bool{}
	var about []jobs.Slot
	add := func(slots ...jobs.Slot) {
		for _, slot := range slots {
			if slot = slot.Normal(); !known[slot] {
				known[slot] = true
				about = append(about, slot)
			}
		}
	}
	add(slots...)
	for i := 0; i < len(about); i++ { // which grows meanwhile
		slot := about[i]
		if slot.Manual != "" {
			continue
		}
		rows, err := queryRecords(context.Background(), s.readDB,
			"SELECT "+runColumns+" FROM runs WHERE job = ? AND legion = ? AND count > 1 AND at <= ? AND until >= ?",
			slot.Job, slot.Legion, slot.At.UnixMilli(), slot.At.UnixMilli())
		if err != nil {
			return nil, fmt.Errorf("look up rows of slots: %w", s.explain(err))
		}
		for _, row := range rows {
			if looked[row.Key()] {
				continue
			}
			looked[row.Key()] = true
			later, err := s.overruling(row)
			if err != nil {
				return nil, err
			}
			add(row.Slot)
			add(later...)
		}
	}
	return s.Slots(about...)
}
