package logging

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// The bounds of the queue. At a thousand lines a second it holds for a journald
// that is stalled for sixteen; more would only be memory.
const (
	queueLines = 16 << 10
	queueBytes = 8 << 20
	// entryCost is what an entry takes besides its text, roughly, in bytes.
	entryCost = 256
	// outputRoom is what a line of a job may take once it is rendered. No work is
	// done for one while there is less room: most of it would be for nothing.
	outputRoom = 64 << 10
	// retryDelay is how often a destination that is away is tried again.
	retryDelay = 100 * time.Millisecond
)

// How much of the queue may be filled, in quarters: by everybody, and by what
// jobs write.
const (
	fullShare   = 4
	outputShare = 2
)

// An entry is one rendered line: text, or message, priority and fields.
type entry struct {
	text     []byte
	message  string
	priority journal.Priority
	fields   map[string]string

	reached chan struct{} // no line: closed when all before it are written
}

func (e entry) cost() int {
	n := entryCost + len(e.text) + len(e.message)
	for k, v := range e.fields {
		n += len(k) + len(v)
	}
	return n
}

// A queue holds entries until one goroutine has written them.
type queue struct {
	write func(entry) error
	away  func(error) bool
	told  func(dropped uint64) entry // the line that tells of drops

	mu      sync.Mutex
	waiting []entry
	bytes   int // of waiting, and of what is being written
	lines   int
	dropped uint64
	closed  bool

	wake    chan struct{} // cap 1: something is waiting, or closed
	abandon chan struct{} // closed: nobody waits for the rest
	done    chan struct{} // closed: the goroutine has ended
}

func newQueue(write func(entry) error, away func(error) bool, told func(uint64) entry) *queue {
	q := &queue{
		write: write, away: away, told: told,
		wake: make(chan struct{}, 1), abandon: make(chan struct{}), done: make(chan struct{}),
	}
	go q.run()
	return q
}

func (q *queue) put(e entry, share int) {
	cost := e.cost()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.over(share, cost) {
		q.dropped++
		return
	}
	q.waiting = append(q.waiting, e)
	q.lines++
	q.bytes += cost
	q.signal()
}

// over reports whether there is no room for so many bytes more. mu is held.
func (q *queue) over(share, cost int) bool {
	return q.lines >= queueLines*share/fullShare || q.bytes+cost > queueBytes*share/fullShare
}

func (q *queue) full(share int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed || q.over(share, outputRoom)
}

func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped++
}

func (q *queue) lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run writes until the queue is closed and empty, or abandoned.
func (q *queue) run() {
	defer close(q.done)
	told := uint64(0)
	for {
		batch, closed := q.take()
		switch {
		case len(batch) == 0 && closed:
			return
		case len(batch) == 0:
			<-q.wake
			continue
		}
		for i, e := range batch {
			if !q.deliver(e) {
				return
			}
			q.written(e)
			batch[i] = entry{} // the next ones take its place in memory
		}
		if dropped := q.lost(); dropped > told {
			if !q.deliver(q.told(dropped - told)) {
				return
			}
			told = dropped
		}
	}
}

// take takes all that is waiting.
func (q *queue) take() (batch []entry, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch, q.waiting = q.waiting, nil
	return batch, q.closed
}

// deliver writes one entry, or drops it where that is better than to wait.
// False: it was abandoned.
func (q *queue) deliver(e entry) bool {
	if e.reached != nil {
		close(e.reached)
		return true
	}
	for {
		err := q.write(e)
		if err == nil {
			return true
		}
		if !q.away(err) {
			q.drop()
			return true
		}
		select {
		case <-q.abandon:
			return false
		case <-time.After(retryDelay):
		}
	}
}

func (q *queue) written(e entry) {
	if e.reached != nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines--
	q.bytes -= e.cost()
}

// flush waits until what is in the queue now is written, or ctx is done.
func (q *queue) flush(ctx context.Context) error {
	reached := make(chan struct{})
	q.mu.Lock()
	if !q.closed {
		q.waiting = append(q.waiting, entry{reached: reached})
		q.signal()
	}
	q.mu.Unlock()
	select {
	case <-reached:
		return nil
	case <-q.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush log: %w", ctx.Err())
	}
}

// close takes no more and waits until the rest is written or ctx is done.
func (q *queue) close(ctx context.Context) error {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.signal()
	q.mu.Unlock()
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if first {
		close(q.abandon)
	}
	return fmt.Errorf("%d lines were not written: %w", q.lines, ctx.Err())
}
