package scheduler

import (
	"math"
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

// An Engine knows which slots are due. It is a heap of the next slot of every
// entry: a question costs what is due, not what exists. It is not safe for
// concurrent use; Loop is.
type Engine struct {
	entries []entry
	free    []uint32          // holes in entries
	index   map[string]uint32 // into entries
	heap    []node
	order   uint32 // of addition
}

// An entry's position is the newest slot that was decided about: it is in the
// past of every answer to come.
type entry struct {
	key      string
	schedule Schedule
	position int64 // Unix nanoseconds
	order    uint32
	at       int32 // in the heap; -1: no slot to come
}

// Nodes hold no pointers, so the garbage collector does not walk the heap, and
// comparing two of them touches no other memory.
type node struct {
	next  int64
	order uint32 // breaks ties: what was added first comes first
	entry uint32
}

func (a node) before(b node) bool {
	return a.next < b.next || a.next == b.next && a.order < b.order
}

// NewEngine makes an empty engine with room for size entries.
func NewEngine(size int) *Engine {
	return &Engine{
		entries: make([]entry, 0, size),
		index:   make(map[string]uint32, size),
		heap:    make([]node, 0, size),
	}
}

// Set adds the entry key or replaces its schedule. Its first slot is the first
// one after after, which is its mark: what was last decided about it. The zero
// time means an entry without a past, which begins at now. Other entries are
// not touched, and a replaced one keeps its place among those due together.
func (e *Engine) Set(now time.Time, key string, schedule Schedule, after time.Time) {
	i, ok := e.index[key]
	switch {
	case ok:
	case len(e.free) > 0:
		i = e.free[len(e.free)-1]
		e.free = e.free[:len(e.free)-1]
	default:
		i = uint32(len(e.entries))
		e.entries = append(e.entries, entry{})
	}
	if !ok {
		e.index[key] = i
		e.entries[i] = entry{key: key, order: e.order, at: -1}
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
	e.entries[i] = entry{at: -1}
	e.free = append(e.free, i)
}

// Len is the number of entries.
func (e *Engine) Len() int { return len(e.index) }

// Next is the next slot of the entry key in UTC; zero: there is none.
func (e *Engine) Next(key string) time.Time {
	i, ok := e.index[key]
	if !ok || e.entries[i].at < 0 {
		return time.Time{}
	}
	next := e.heap[e.entries[i].at].next
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
	next := e.heap[0].next
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
func (e *Engine) Due(now time.Time, most int) []Due {
	if now.Before(Sane) {
		return nil
	}
	limit := now.UnixNano()
	var due []Due
	budget := countBudget
	for len(e.heap) > 0 && e.heap[0].next <= limit && len(due) < most && budget > 0 {
		top := e.heap[0]
		en := &e.entries[top.entry]
		if top.next == unanchored {
			en.position = limit
			e.place(top.entry, following(en.schedule, now))
			continue
		}
		d, next := e.newest(en, top.next, now, &budget)
		en.position = d.At.UnixNano()
		due = append(due, d)
		e.place(top.entry, next)
	}
	return due
}

// newest finds the newest slot of an entry that is not after now, counts the
// ones before it, and returns the one after it.
func (e *Engine) newest(en *entry, first int64, now time.Time, budget *int) (Due, int64) {
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
		d.At = last(en.schedule, d.At, now)
		d.Older.To = last(en.schedule, d.Older.To, d.At.Add(-1))
		next = following(en.schedule, d.At)
	}
	return d, next
}

// last is the newest slot not after limit. There is one after from.
func last(s Schedule, from, limit time.Time) time.Time {
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

// following is the first slot after t, as the heap wants it. A schedule that
// does not move on has ended: it must not be able to hang the loop.
func following(s Schedule, t time.Time) int64 {
	next := s.Next(t)
	if next.IsZero() || next.Year() > 2261 { // what Unix nanoseconds can hold
		return never
	}
	if !next.After(t) {
		return never
	}
	return next.UnixNano()
}

func instant(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// place moves an entry to where its next slot belongs; never: out of the heap.
func (e *Engine) place(i uint32, next int64) {
	en := &e.entries[i]
	at := int(en.at)
	switch {
	case next == never && at < 0:
		return
	case next == never:
		end := len(e.heap) - 1
		moved := e.heap[end]
		e.heap = e.heap[:end]
		en.at = -1
		if at < end {
			e.settle(at, moved)
		}
		return
	case at < 0:
		at = len(e.heap)
		e.heap = append(e.heap, node{})
	}
	e.settle(at, node{next, en.order, i})
}

// arity makes a flat heap: half the levels of a binary one, and the children
// of a node share a cache line.
const arity = 4

// settle puts n into the hole at and restores the order of the heap around it.
func (e *Engine) settle(at int, n node) {
	for at > 0 {
		parent := (at - 1) / arity
		if !n.before(e.heap[parent]) {
			break
		}
		e.put(at, e.heap[parent])
		at = parent
	}
	for {
		child := at*arity + 1
		if child >= len(e.heap) {
			break
		}
		least := child
		for c := child + 1; c < min(child+arity, len(e.heap)); c++ {
			if e.heap[c].before(e.heap[least]) {
				least = c
			}
		}
		if !e.heap[least].before(n) {
			break
		}
		e.put(at, e.heap[least])
		at = least
	}
	e.put(at, n)
}

func (e *Engine) put(at int, n node) {
	e.heap[at] = n
	e.entries[n.entry].at = int32(at)
}
