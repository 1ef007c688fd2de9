package sim

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
)

// A store is what is durable of slots: jobs/ledger without a file. It merges as
// that does, and returns what that returns.
type store struct {
	records  map[jobs.Key]jobs.Record
	slots    map[jobs.Slot][]jobs.Key
	rows     map[jobs.Key]bool // of missed slots
	stranded map[jobs.Key]bool
	owed     map[jobs.Key]bool // this node's own last words that no quorum is known to have
	marks    map[jobs.MarkKey]jobs.Mark
	tables   map[string]*jobs.Table
}

func newStore() *store {
	return &store{
		records: map[jobs.Key]jobs.Record{}, slots: map[jobs.Slot][]jobs.Key{}, rows: map[jobs.Key]bool{},
		stranded: map[jobs.Key]bool{}, owed: map[jobs.Key]bool{}, marks: map[jobs.MarkKey]jobs.Mark{}, tables: map[string]*jobs.Table{},
	}
}

func (s *store) table(legion string) *jobs.Table {
	if s.tables[legion] == nil {
		s.tables[legion] = &jobs.Table{}
	}
	return s.tables[legion]
}

func (s *store) merge(b jobs.Batch) {
	for _, r := range b.Records {
		key := r.Key()
		if old, ok := s.records[key]; ok {
			if r = jobs.Merge(old, r); r == old {
				continue
			}
		} else {
			r = r.Normal()
			s.slots[r.Slot] = append(s.slots[r.Slot], key)
		}
		s.records[key] = r
		set(s.rows, key, r.Count > 1)
		set(s.stranded, key, r.State == jobs.NeverStarted || r.State == jobs.Lost)
		s.table(r.Legion).Put(r)
	}
	for _, m := range b.Marks {
		if old, ok := s.marks[m.Key()]; ok {
			m = jobs.MergeMark(old, m)
		}
		s.marks[m.Key()] = m.Normal()
		s.table(m.Legion).PutMark(m)
	}
}

func set[K comparable](m map[K]bool, key K, in bool) {
	if in {
		m[key] = true
	} else {
		delete(m, key)
	}
}

// Unsettled implements slots.Ledger.
func (s *store) Unsettled(legion string) jobs.Batch { return s.table(legion).Batch() }

// Slots implements slots.Ledger.
func (s *store) Slots(about ...jobs.Slot) ([]jobs.Record, error) {
	return s.standing(slices.DeleteFunc(s.about(about), func(r jobs.Record) bool {
		return !slices.ContainsFunc(about, func(slot jobs.Slot) bool { return r.Concerns(slot.Normal()) })
	})), nil
}

// raw is all that is known of slots, in the order of keys.
func (s *store) raw(about []jobs.Slot) (all []jobs.Record) {
	for _, slot := range about {
		for _, key := range slices.SortedFunc(slices.Values(s.slots[slot.Normal()]), jobs.Key.Compare) {
			all = append(all, s.records[key])
		}
	}
	return all
}

// about is all that there is about slots, with the rows that they are in, and what
// later lords decided about the slots of those.
func (s *store) about(slots []jobs.Slot) []jobs.Record {
	all := slices.Clone(slots)
	rows, looked := s.sorted(s.rows), map[jobs.Key]bool{}
	add := func(slot jobs.Slot) {
		if !slices.Contains(all, slot) {
			all = append(all, slot)
		}
	}
	for i := 0; i < len(all); i++ { // which grows meanwhile
		for _, key := range rows {
			row := s.records[key]
			if looked[key] || !row.Concerns(all[i].Normal()) {
				continue
			}
			looked[key] = true
			add(row.Slot)
			for _, slot := range s.overruling(row) {
				add(slot)
			}
		}
	}
	return s.raw(all)
}

// overruling returns the slots of a row that a later lord decided about.
func (s *store) overruling(row jobs.Record) (found []jobs.Slot) {
	for slot, keys := range s.slots {
		if slot != row.Slot && row.Concerns(slot) && slices.ContainsFunc(keys, func(key jobs.Key) bool { return s.records[key].Term > row.Term }) {
			found = append(found, slot)
		}
	}
	slices.SortFunc(found, func(a, b jobs.Slot) int { return a.At.Compare(b.At) })
	return found
}

// standing leaves out what is void.
func (s *store) standing(records []jobs.Record) []jobs.Record {
	return slices.DeleteFunc(records, func(r jobs.Record) bool {
		if !r.Voidable() {
			return false
		}
		key := r.Key()
		return !slices.ContainsFunc(jobs.Standing(s.about([]jobs.Slot{r.Slot})), func(o jobs.Record) bool { return o.Key() == key })
	})
}

func (s *store) sorted(keys map[jobs.Key]bool) []jobs.Key {
	return slices.SortedFunc(maps.Keys(keys), jobs.Key.Compare)
}

// Stranded implements slots.Ledger.
func (s *store) Stranded(legion string, since time.Time, limit int) (found []jobs.Record, _ error) {
	for _, key := range s.sorted(s.stranded) {
		if r := s.records[key]; r.Legion == legion && !r.Scheduled.Before(since) {
			found = append(found, r)
		}
	}
	slices.SortStableFunc(found, func(a, b jobs.Record) int { return b.Scheduled.Compare(a.Scheduled) })
	return s.standing(found[:min(len(found), limit)]), nil
}

// Within implements slots.Ledger.
func (s *store) Within(row jobs.Record, limit int) (found []jobs.Record, _ error) {
	for _, r := range s.records {
		if r.Legion != row.Legion || r.Job != row.Job || r.Term != row.Term || !r.State.Settled() {
			continue
		}
		if r.At.After(row.At) && !r.At.After(row.To) || r.Count > 1 && !r.At.After(row.At) && r.To.After(row.At) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b jobs.Record) int {
		return cmp.Or(b.At.Compare(a.At), a.Key().Compare(b.Key()))
	})
	return found[:min(len(found), limit)], nil
}

// recollect answers a question of another node.
func (s *store) recollect(questions []jobs.Record) (said []jobs.Record) {
	var about []jobs.Slot
	for _, q := range questions {
		if q.Count > 1 {
			within, _ := s.Within(q, slots.MaxWithin)
			said = append(said, within...)
		} else {
			about = append(about, q.Slot)
		}
	}
	return append(said, s.about(about)...)
}

// legions names those that anything is known of.
func (s *store) legions() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.tables)), func(l string) bool { return l == "" })
}

// all is every record of a legion's job that stands, in the order of slots.
func (s *store) all(legion, job string) []jobs.Record {
	var found []jobs.Record
	for _, r := range s.records {
		if r.Legion == legion && r.Job == job {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b jobs.Record) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.Key().Slot+a.Run, b.Key().Slot+b.Run)
	})
	return jobs.Standing(found)
}
