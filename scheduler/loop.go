package scheduler

import (
	"context"
	"sync"
	"time"
)

// MaxBurst is the most entries a Loop hands over at once unless told otherwise.
const MaxBurst = 10_000

// A Clock is where a Loop gets the time from. Now is the wall clock. NewTimer
// returns a channel that receives once after d, and a function that stops it.
type Clock interface {
	Now() time.Time
	NewTimer(d time.Duration) (c <-chan time.Time, stop func())
}

// A Loop is an Engine that runs: entries may be set and removed from any
// goroutine while Run hands over what is due. The zero Loop is not usable.
type Loop struct {
	clock Clock
	burst int
	poke  chan struct{} // holds one: look again

	mu     sync.Mutex
	engine *Engine
}

// NewLoop makes a Loop without entries that hands over at most burst entries
// at once; 0 means MaxBurst.
func NewLoop(clock Clock, burst int) *Loop {
	if burst <= 0 {
		burst = MaxBurst
	}
	return &Loop{clock: clock, burst: burst, poke: make(chan struct{}, 1), engine: NewEngine(0)}
}

// Set is Engine.Set, now.
func (l *Loop) Set(key string, schedule Schedule, after time.Time) {
	l.mu.Lock()
	now := l.clock.Now()
	before := l.engine.Wake(now)
	l.engine.Set(now, key, schedule, after)
	sooner := l.engine.Wake(now) < before
	l.mu.Unlock()
	if sooner {
		l.Poke()
	}
}

// Remove is Engine.Remove.
func (l *Loop) Remove(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.engine.Remove(key)
}

// Next is Engine.Next.
func (l *Loop) Next(key string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.engine.Next(key)
}

// Position is Engine.Position.
func (l *Loop) Position(key string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.engine.Position(key)
}

// Len is Engine.Len.
func (l *Loop) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.engine.Len()
}

// Poke makes Run look at the clock at once: after the wall clock is known to
// have been set, or on waking up from a suspend.
func (l *Loop) Poke() {
	select {
	case l.poke <- struct{}{}:
	default: // it will look anyway
	}
}

// Run hands over what is due, oldest slot first, until ctx ends. It starts no
// goroutine: act is called from here, never twice at a time, and what falls due
// meanwhile waits its turn, so nothing piles up beyond one slot for each entry.
// act may call the Loop's other methods, Run excepted.
func (l *Loop) Run(ctx context.Context, act func(now time.Time, due []Due)) {
	for ctx.Err() == nil {
		l.mu.Lock()
		now := l.clock.Now()
		due := l.engine.Due(now, l.burst)
		wake := l.engine.Wake(now)
		l.mu.Unlock()
		if len(due) > 0 {
			act(now, due)
			continue
		}
		timer, stop := l.clock.NewTimer(wake)
		select {
		case <-ctx.Done():
		case <-l.poke:
		case <-timer:
		}
		stop()
	}
}
