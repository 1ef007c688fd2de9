package jobs

import (
	"maps"
	"slices"
)

// A Table is what a voter tells a new lord about one legion: every mark and
// every record that is not settled. It has a hash that is kept up to date with
// every change, so that two nodes find out in 16 bytes that they agree.
// The zero Table is empty. It is not safe for concurrent use.
type Table struct {
	records map[Key]hashed[Record]
	marks   map[MarkKey]hashed[Mark]
	hash    Hash // xor of the hashes of all items: order does not matter, and taking out is putting in
}

type hashed[T any] struct {
	item T
	hash Hash
}

// Put replaces what the table has under the record's key; a settled record
// only removes it. The caller has merged: Put does not.
func (t *Table) Put(r Record) {
	r = r.Normal()
	key := r.Key()
	if old, ok := t.records[key]; ok {
		t.toggle(old.hash)
		delete(t.records, key)
	}
	if r.State.Settled() {
		return
	}
	if t.records == nil {
		t.records = map[Key]hashed[Record]{}
	}
	hash := r.Hash()
	t.records[key] = hashed[Record]{r, hash}
	t.toggle(hash)
}

// PutMark replaces the job's mark. The caller has merged: PutMark does not.
func (t *Table) PutMark(m Mark) {
	m = m.Normal()
	key := m.Key()
	if old, ok := t.marks[key]; ok {
		t.toggle(old.hash)
	}
	if t.marks == nil {
		t.marks = map[MarkKey]hashed[Mark]{}
	}
	hash := m.Hash()
	t.marks[key] = hashed[Mark]{m, hash}
	t.toggle(hash)
}

// Record returns what the table has under a key.
func (t *Table) Record(key Key) (Record, bool) {
	h, ok := t.records[key]
	return h.item, ok
}

// Mark returns the job's mark.
func (t *Table) Mark(key MarkKey) (Mark, bool) {
	h, ok := t.marks[key]
	return h.item, ok
}

// Hash is equal for equal tables, whatever the order of changes that led
// there. An empty table has the zero hash. It costs nothing to ask.
func (t *Table) Hash() Hash { return t.hash }

// Batch is a copy of the table, in the order of keys.
func (t *Table) Batch() Batch {
	return Batch{
		Records: sortedItems(t.records, Key.Compare),
		Marks:   sortedItems(t.marks, MarkKey.Compare),
	}
}

func sortedItems[K comparable, T any](m map[K]hashed[T], compare func(a, b K) int) []T {
	items := make([]T, 0, len(m))
	for _, key := range slices.SortedFunc(maps.Keys(m), compare) {
		items = append(items, m[key].item)
	}
	return items
}

func (t *Table) toggle(h Hash) {
	for i := range h {
		t.hash[i] ^= h[i]
	}
}
