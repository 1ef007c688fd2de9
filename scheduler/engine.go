package scheduler

import (
	"math"
	"slices"
	"time"
)

const (
	// MaxWake caps what Wake answers. Timers run on the monotonic clock, slots
	// on the wall clock: after a step or a suspend the engine is at most this
	// late, and waking twice a minute costs nothing.
	MaxWake = 30 * time.Second

	// MaxOlder is how many passed slots of one entry are counted one by one: a
	// week of minutes.
	MaxOlder = 10_000

	// countBudget is how many slots one call of Due counts over all entries
	// before it returns with fewer than it was allowed to.
	countBudget = 100_000

	never      = math.MaxInt64
	unanchored = math.MinInt64
)

// Sane is the earliest wall clock the engine believes. A clock before it was
// never set (a board without a battery, before NTP): nothing is due, and an
// entry that would begin then begins at the first believable moment instead.
var Sane = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// A Schedule is what the engine needs of one: robfig's cron.Schedule. Next is
// the first slot strictly after t, or the zero time. It must be a pure
// function of t.
type Schedule interface {
	Next(t time.Time) time.Time
}

// A Due is an entry whose slot has come.
type Due struct {
	Key   string
	At    time.Time // the newest slot that is not after now, in UTC
	Older Range     // the slots since the last Due that At supersedes
}

// A Range is a row of slots that passed before anybody looked: From the first,
// To the last, Count how many there are. The zero Range is empty. Count stops
// at MaxOlder; then there are at least that many.
type Range struct {
	From, To time.Time
	Count    int
}

// An Engine knows which slots are due. Entries whose next slot is the same
// instant hang in one bucket, and the buckets are in a heap: jobs share their
// instants, so the heap is small, and a question costs what is due, not what
// exists. It is not safe for concurrent use; Loop is.
type Engine struct {
	entries []entry
	index   map[string]uint32 // into entries
	order   uint32            // of the next addition

	buckets []bucket
	at      map[int64]uint32 // the bucket of an instant
	heap    []node

	freeEntries, freeBuckets []uint32 // holes
	scratch                  []uint64 // of sort
	due                      []Due    // the last answer, to be written over by the next
	recent                   uint32   // the bucket that was last hung into, or none: mostly the next one, too
}

// An entry's position is the newest slot that was decided about: it is in the
// past of every answer to come.
type entry struct {
	key      string
	schedule Schedule
	position int64  // Unix nanoseconds
	order    uint32 // what was added first comes first among those due together
	bucket   uint32 // none: no slot to come
	prev     uint32 // in the bucket, or none
	next     uint32
}

// A bucket is a list of entries with the same next slot.
type bucket struct {
	instant     int64
	first, last uint32
	count       int32
	at          int32 // in the heap
	unsorted    bool  // some entry hangs before one that was added earlier
}

// Nodes hold no pointers, so the garbage collector does not walk the heap, and
// comparing two of them touches no other memory.
type node struct {
	instant int64
	bucket  uint32
}

const none = math.MaxUint32

// NewEngine makes an empty engine with room for size entries.
func NewEngine(size int) *Engine {
	return &Engine{
		entries: make([]entry, 0, size),
		index:   make(map[string]uint32, size),
		at:      make(map[int64]uint32),
		recent:  none,
	}
}

// Set adds the entry key or replaces its schedule. Its first slot is the first
// one after after, which is its mark: what was last decided about it. The zero
// time means an entry without a past, which begins at now. Other entries are
// not touched, and a replaced one keeps its place among those due together.
func (e *Engine) Set(now time.Time, key string, schedule Schedule, after time.Time) {
	i, ok := e.index[key]
	if !ok {
		i = hole(&e.freeEntries, &e.entries)
		e.index[key] = i
		e.entries[i] = entry{key: key, order: e.order, bucket: none}
		e.order++
	}
	en := &e.entries[i]
	en.schedule = schedule
	if after.IsZero() {
		after = now
	}
	if after.Before(Sane) {
		en.position = unanchored
		e.place(i, unanchored)
		return
	}
	en.position = after.UnixNano()
	e.place(i, following(schedule, after))
}

// Remove forgets the entry key, if there is one.
func (e *Engine) Remove(key string) {
	i, ok := e.index[key]
	if !ok {
		return
	}
	e.place(i, never)
	delete(e.index, key)
	e.entries[i] = entry{}
	e.freeEntries = append(e.freeEntries, i)
}

// Len is the number of entries.
func (e *Engine) Len() int { return len(e.index) }

// Next is the next slot of the entry key in UTC; zero: there is none.
func (e *Engine) Next(key string) time.Time {
	i, ok := e.index[key]
	if !ok || e.entries[i].bucket == none {
		return time.Time{}
	}
	next := e.buckets[e.entries[i].bucket].instant
	if next == unanchored {
		return time.Time{}
	}
	return instant(next)
}

// Position is the newest slot of the entry key that was decided about, or the
// moment it began at: what a replacement with the same timing passes to Set.
// It is zero for an entry that does not exist or has not begun.
func (e *Engine) Position(key string) time.Time {
	i, ok := e.index[key]
	if !ok || e.entries[i].position == unanchored {
		return time.Time{}
	}
	return instant(e.entries[i].position)
}

// Wake is how long to sleep before asking Due again, at most MaxWake. It is
// measured on the wall clock and therefore a guess: ask again after it.
func (e *Engine) Wake(now time.Time) time.Duration {
	if len(e.heap) == 0 || now.Before(Sane) {
		return MaxWake
	}
	next := e.heap[0].instant
	if next == unanchored {
		return 0
	}
	return min(max(instant(next).Sub(now), 0), MaxWake)
}

// Due takes at most most entries whose slot has come, in the order in which they
// came, and moves each behind the slot it answers with. An entry is answered
// with once, however many of its slots passed. The answer may be shorter than
// what is due; Wake is then 0.
//
// A clock that was set back finds every entry where it was: what was answered
// is not answered again, and the next slot comes when the clock gets there.
//
// The answer is the caller's until it asks again.
func (e *Engine) Due(now time.Time, most int) []Due {
	if now.Before(Sane) {
		return nil
	}
	limit := now.UnixNano()
	clear(e.due)
	due := e.due[:0]
	budget := countBudget
	for len(e.heap) > 0 && e.heap[0].instant <= limit && len(due) < most && budget > 0 {
		top := e.heap[0]
		e.sort(top.bucket)
		i := e.buckets[top.bucket].first
		en := &e.entries[i]
		if top.instant == unanchored {
			en.position = limit
			e.place(i, following(en.schedule, now))
			continue
		}
		if due == nil {
			due = make([]Due, 0, min(most, int(e.buckets[top.bucket].count)))
		}
		d, next := newest(en, top.instant, now, &budget)
		en.position = d.At.UnixNano()
		due = append(due, d)
		e.place(i, next)
	}
	e.due = nil
	if cap(due) <= MaxBurst {
		e.due = due
	}
	return due
}

// newest finds the newest slot of an entry that is not after now, counts the
// ones before it, and returns the one after it.
func newest(en *entry, first int64, now time.Time, budget *int) (Due, int64) {
	limit := now.UnixNano()
	d := Due{Key: en.key, At: instant(first)}
	next := following(en.schedule, d.At)
	if next > limit {
		return d, next
	}
	d.Older.From = d.At
	for next <= limit && d.Older.Count < MaxOlder {
		d.Older.To, d.At = d.At, instant(next)
		d.Older.Count++
		next = following(en.schedule, d.At)
	}
	*budget -= d.Older.Count
	if next <= limit {
		d.At = Last(en.schedule, d.At, now)
		d.Older.To = Last(en.schedule, d.Older.To, d.At.Add(-1))
		next = following(en.schedule, d.At)
	}
	return d, next
}

// Last is the newest slot not after limit. There is one after from.
func Last(s Schedule, from, limit time.Time) time.Time {
	// Next(low) is not after limit, Next(high) is.
	low, high := from.UnixNano(), limit.UnixNano()
	for high-low > 1 {
		mid := low + (high-low)/2
		if following(s, instant(mid)) <= limit.UnixNano() {
			low = mid
		} else {
			high = mid
		}
	}
	return instant(following(s, instant(low)))
}

// following is the first slot after t in Unix nanoseconds, which end in 2262. A
// schedule that does not move on has ended: it must not be able to hang the loop.
func following(s Schedule, t time.Time) int64 {
	next := s.Next(t)
	if next.IsZero() || next.Unix() > never/int64(time.Second)-1 || !next.After(t) {
		return never
	}
	return next.UnixNano()
}

func instant(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// hole is the index of an unused element.
func hole[T any](free *[]uint32, all *[]T) uint32 {
	if n := len(*free); n > 0 {
		i := (*free)[n-1]
		*free = (*free)[:n-1]
		return i
	}
	var zero T
	*all = append(*all, zero)
	return uint32(len(*all) - 1)
}

// place hangs an entry into the bucket of its next slot; never: into none.
func (e *Engine) place(i uint32, next int64) {
	en := &e.entries[i]
	if en.bucket != none {
		if e.buckets[en.bucket].instant == next {
			return
		}
		e.unhang(i)
	}
	if next == never {
		return
	}
	at, ok := e.recent, e.recent != none && e.buckets[e.recent].instant == next && e.buckets[e.recent].first != none
	if !ok {
		at, ok = e.at[next]
	}
	if !ok {
		at = hole(&e.freeBuckets, &e.buckets)
		e.at[next] = at
		e.buckets[at] = bucket{instant: next, first: none, last: none}
		e.heap = append(e.heap, node{})
		e.settle(len(e.heap)-1, node{next, at})
	}
	e.recent = at
	b := &e.buckets[at]
	b.count++
	en.bucket, en.prev, en.next = at, b.last, none
	if b.last == none {
		b.first = i
	} else {
		last := &e.entries[b.last]
		last.next = i
		b.unsorted = b.unsorted || last.order > en.order
	}
	b.last = i
}

// unhang takes an entry out of its bucket, and an empty bucket out of the heap.
func (e *Engine) unhang(i uint32) {
	en := &e.entries[i]
	at := en.bucket
	b := &e.buckets[at]
	if en.prev == none {
		b.first = en.next
	} else {
		e.entries[en.prev].next = en.next
	}
	if en.next == none {
		b.last = en.prev
	} else {
		e.entries[en.next].prev = en.prev
	}
	en.bucket = none
	b.count--
	if b.first != none {
		return
	}
	delete(e.at, b.instant)
	e.freeBuckets = append(e.freeBuckets, at)
	end := len(e.heap) - 1
	moved := e.heap[end]
	e.heap = e.heap[:end]
	if int(b.at) < end {
		e.settle(int(b.at), moved)
	}
}

// sort puts the entries of a bucket in the order of their addition.
func (e *Engine) sort(at uint32) {
	b := &e.buckets[at]
	if !b.unsorted {
		return
	}
	all := e.scratch[:0]
	for i := b.first; i != none; i = e.entries[i].next {
		all = append(all, uint64(e.entries[i].order)<<32|uint64(i))
	}
	slices.Sort(all)
	b.first, b.last, b.unsorted = none, none, false
	for _, pair := range all {
		i := uint32(pair)
		e.entries[i].prev, e.entries[i].next = b.last, none
		if b.last == none {
			b.first = i
		} else {
			e.entries[b.last].next = i
		}
		b.last = i
	}
	e.scratch = all
}

// settle puts n into the hole at and restores the order of the heap around it.
func (e *Engine) settle(at int, n node) {
	for at > 0 && n.instant < e.heap[(at-1)/2].instant {
		e.put(at, e.heap[(at-1)/2])
		at = (at - 1) / 2
	}
	for {
		child := 2*at + 1
		if child+1 < len(e.heap) && e.heap[child+1].instant < e.heap[child].instant {
			child++
		}
		if child >= len(e.heap) || e.heap[child].instant >= n.instant {
			break
		}
		e.put(at, e.heap[child])
		at = child
	}
	e.put(at, n)
}

func (e *Engine) put(at int, n node) {
	e.heap[at] = n
	e.buckets[n.bucket].at = int32(at)
}
