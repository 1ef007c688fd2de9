package logging

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A gate is a destination that can be stalled, or away.
type gate struct {
	open chan struct{} // closed: writes go through

	mu      sync.Mutex
	fail    error
	written []string
}

func (g *gate) write(e entry) error {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail == nil {
		g.written = append(g.written, string(e.text))
	}
	return g.fail
}

func (g *gate) set(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = err
}

var errAway = errors.New("away")

func (g *gate) queue() *queue {
	return newQueue(g.write, func(err error) bool { return errors.Is(err, errAway) },
		func(n uint64) entry { return entry{text: fmt.Appendf(nil, "dropped %d", n)} })
}

func line(n int) entry { return entry{text: fmt.Appendf(nil, "line %d", n)} }

func TestStalledDestinationDropsAndTells(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	q := g.queue()
	const flood = 3 * queueLines
	for i := range flood {
		q.put(line(i), outputShare)
	}
	if got, want := q.lost(), uint64(flood-queueLines/2); got != want {
		t.Errorf("a flood of output lost %d lines, want %d: it may fill half of the queue", got, want)
	}
	before := q.lost()
	for i := range 100 {
		q.put(entry{text: fmt.Appendf(nil, "daemon %d", i)}, fullShare)
	}
	if q.lost() != before {
		t.Error("job output has pushed out the daemon's own lines")
	}
	close(g.open)
	if err := q.close(bounded(t)); err != nil {
		t.Fatal(err)
	}
	want := queueLines/2 + 100 + 1
	if len(g.written) != want {
		t.Fatalf("%d lines written, want %d", len(g.written), want)
	}
	told := 0
	for _, l := range g.written {
		if rest, ok := strings.CutPrefix(l, "dropped "); ok {
			told++
			if rest != fmt.Sprint(before) {
				t.Errorf("told of %s drops, want %d", rest, before)
			}
		}
	}
	if told != 1 {
		t.Errorf("told of drops %d times", told)
	}
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	q := g.queue()
	big := entry{text: make([]byte, 1<<20)}
	for range 100 {
		q.put(big, fullShare)
	}
	if kept := 100 - int(q.lost()); kept < 7 || kept > 8 {
		t.Errorf("%d MiB are held, want at most %d bytes", kept, queueBytes)
	}
	close(g.open)
	if err := q.close(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if q.bytes != 0 || q.lines != 0 {
		t.Errorf("an empty queue counts %d lines of %d bytes", q.lines, q.bytes)
	}
}

func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	q := g.queue()
	for i := range 3 {
		q.put(line(i), fullShare)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := q.close(over); err == nil || !strings.Contains(err.Error(), "3 lines were not written") {
			t.Errorf("close said %v", err)
		}
	}
	q.put(line(4), fullShare)
	if q.lost() != 1 {
		t.Error("a line after close was not counted as dropped")
	}
	close(g.open)
	<-q.done
}

func TestQueueHoldsWhileDestinationIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), fail: errAway}
		close(g.open)
		q := g.queue()
		for i := range 5 {
			q.put(line(i), fullShare)
		}
		time.Sleep(time.Minute) // of the bubble's clock
		synctest.Wait()
		if len(g.written) != 0 || q.lost() != 0 {
			t.Fatalf("away: %d written, %d lost", len(g.written), q.lost())
		}
		g.set(nil)
		if err := q.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(g.written, ","); got != "line 0,line 1,line 2,line 3,line 4" {
			t.Errorf("written: %s", got)
		}
		g.set(errors.New("broken"))
		q.put(line(5), fullShare)
		if err := q.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if q.lost() == 0 {
			t.Error("a line that cannot ever be written was not dropped")
		}
		g.set(errAway)
		q.put(line(6), fullShare)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.close(ctx); err == nil {
			t.Error("close waited for a destination that is away")
		}
		<-q.done
	})
}

func TestFlushWaits(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	q := g.queue()
	q.put(line(0), fullShare)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.flush(over); err == nil {
		t.Error("flush of a stalled queue returned no error")
	}
	close(g.open)
	if err := q.flush(bounded(t)); err != nil {
		t.Error(err)
	}
	if err := q.close(bounded(t)); err != nil {
		t.Error(err)
	}
	if err := q.flush(bounded(t)); err != nil {
		t.Error(err)
	}
}

func TestConcurrentWritersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	close(g.open)
	q := g.queue()
	const writers, lines = 8, 200
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range lines {
				q.put(entry{text: fmt.Appendf(nil, "%d %d", w, i)}, fullShare)
			}
		})
	}
	all.Wait()
	if err := q.close(bounded(t)); err != nil {
		t.Fatal(err)
	}
	next := make([]int, writers)
	for _, l := range g.written {
		var w, i int
		if _, err := fmt.Sscan(l, &w, &i); err != nil {
			t.Fatal(err)
		}
		if next[w] != i {
			t.Fatalf("writer %d: line %d came after %d", w, i, next[w]-1)
		}
		next[w]++
	}
	for w, n := range next {
		if n != lines {
			t.Errorf("writer %d: %d of %d lines", w, n, lines)
		}
	}
}
