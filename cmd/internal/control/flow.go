package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// An inflow is the body of a long answer, as it arrives.
type inflow struct {
	c      *Courier
	stream uint64
	from   string
	ctx    context.Context
	pieces chan []byte // closed at the end
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	taken uint64 // pieces that arrived
	ended bool
	fault error // set before pieces is closed

	rest []byte // the reader's alone
}

// expect makes ready for a long answer.
func (c *Courier) expect(ctx context.Context, stream uint64, from string) (*inflow, error) {
	in := &inflow{c: c, stream: stream, from: from, ctx: ctx, pieces: make(chan []byte, maxWindow), closed: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over:
		return nil, errors.New("the node is stopping")
	case len(c.open) >= maxFlows:
		return nil, errors.New("too many requests to other nodes")
	}
	c.open[stream] = in
	return in, nil
}

// take gives a piece to its reader.
func (c *Courier) take(from string, p parcel) fate {
	c.mu.Lock()
	in := c.open[p.Stream]
	c.mu.Unlock()
	if in == nil || in.from != from || in.ctx.Err() != nil || c.ctx.Err() != nil {
		return gone
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case p.Seq <= in.taken:
		return taken // its receipt was lost
	case in.ended, p.Seq > in.taken+1, len(p.Body) > maxPiece:
		return gone
	}
	select {
	case in.pieces <- p.Body:
	default:
		return full
	}
	in.taken++
	if p.End {
		if p.Fault != "" {
			in.fault = fmt.Errorf("read answer of %s: %s", from, p.Fault)
		}
		in.ended = true
		close(in.pieces)
	}
	return taken
}

// Read implements io.Reader.
func (in *inflow) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	lost := time.NewTimer(flowLost)
	defer lost.Stop()
	for len(in.rest) == 0 {
		select {
		case piece, more := <-in.pieces:
			if !more {
				if in.fault != nil {
					return 0, in.fault
				}
				return 0, io.EOF
			}
			in.rest = piece
			lost.Reset(flowLost)
		case <-in.ctx.Done():
			return 0, in.ctx.Err()
		case <-in.closed:
			return 0, http.ErrBodyReadAfterClose
		case <-in.c.ctx.Done():
			return 0, errors.New("the node is stopping")
		case <-lost.C:
			return 0, fmt.Errorf("read answer of %s: not a sign of life for %v", in.from, flowLost)
		}
	}
	n := copy(b, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// Close implements io.Closer. What still arrives is told that nobody reads it.
func (in *inflow) Close() error {
	in.once.Do(func() { close(in.closed) })
	in.c.mu.Lock()
	defer in.c.mu.Unlock()
	delete(in.c.open, in.stream)
	return nil
}

// An outflow is the http.ResponseWriter of a routed request.
type outflow struct {
	c      *Courier
	to     string
	stream uint64
	ctx    context.Context // ends when nobody reads any more
	cancel context.CancelFunc
	head   chan receipt // how the answer begins, once

	turn   chan struct{} // full while the handler's goroutine or the keep-alive's is at it
	header http.Header
	code   int
	buf    []byte
	seq    uint64
	long   bool // it follows in pieces
	alive  time.Time
	err    error
	wg     sync.WaitGroup // the keep-alive
}

func newOutflow() *outflow {
	return &outflow{turn: make(chan struct{}, 1), header: http.Header{}, head: make(chan receipt, 1)}
}

func (o *outflow) release() { <-o.turn }

// Header implements http.ResponseWriter.
func (o *outflow) Header() http.Header { return o.header }

// WriteHeader implements http.ResponseWriter.
func (o *outflow) WriteHeader(code int) {
	o.turn <- struct{}{}
	defer o.release()
	if o.code == 0 {
		o.code = code
	}
}

// Write implements http.ResponseWriter. It waits for a slow reader.
func (o *outflow) Write(b []byte) (int, error) {
	o.turn <- struct{}{}
	defer o.release()
	n := len(b)
	for {
		k := min(len(b), maxPiece-len(o.buf))
		o.buf = append(o.buf, b[:k]...)
		if b = b[k:]; len(b) == 0 {
			return n, o.err
		}
		if err := o.flush(); err != nil {
			return n - len(b), err
		}
	}
}

// FlushError sends on what was written; see http.ResponseController.
func (o *outflow) FlushError() error {
	o.turn <- struct{}{}
	defer o.release()
	if o.long && len(o.buf) == 0 {
		return o.err
	}
	return o.flush()
}

// Flush implements http.Flusher.
func (o *outflow) Flush() { _ = o.FlushError() }

// start is how the answer begins.
func (o *outflow) start(more bool) {
	if o.code == 0 {
		o.code = http.StatusOK
	}
	o.head <- receipt{Code: o.code, Header: o.header.Clone(), Body: o.buf, More: more}
	o.buf = nil
}

func (o *outflow) flush() error {
	if o.err != nil {
		return o.err
	}
	if o.long {
		piece := parcel{Body: o.buf}
		o.buf = nil
		return o.push(piece)
	}
	o.c.mu.Lock()
	room := o.c.flows < maxFlows
	if room {
		o.c.flows++
	}
	o.c.mu.Unlock()
	if !room {
		o.err = errors.New("too many long answers")
		o.head <- failed(Unavailable("", "too many long answers at a time"))
		return o.err
	}
	o.long, o.alive = true, time.Now()
	o.start(true)
	o.wg.Go(o.keepAlive)
	return nil
}

// push sends one piece until it is taken.
func (o *outflow) push(p parcel) error {
	o.seq++
	p.Stream, p.Seq = o.stream, o.seq
	lost := time.Now().Add(flowLost)
	for {
		rec, err := o.c.send(o.ctx, o.to, p, routeTimeout)
		if err == nil && rec.State == full {
			lost = time.Now().Add(flowLost) // there, and slow
		}
		switch {
		case err == nil && rec.State == taken:
			o.alive = time.Now()
			return nil
		case o.ctx.Err() != nil:
			o.err = o.ctx.Err()
		case err == nil && rec.State != full:
			o.err = errors.New("nobody reads the answer")
		case time.Now().After(lost):
			o.err = fmt.Errorf("send answer to %s: %w", o.to, err)
		}
		if o.err != nil {
			o.cancel()
			return o.err
		}
		select {
		case <-time.After(fullPause):
		case <-o.ctx.Done():
		}
	}
}

// keepAlive tells the reader that the answer goes on, and finds out whether
// there is one.
func (o *outflow) keepAlive() {
	t := time.NewTicker(keepAlive)
	defer t.Stop()
	for {
		select {
		case <-o.ctx.Done():
			return
		case <-t.C:
		}
		o.turn <- struct{}{}
		if o.err == nil && time.Since(o.alive) >= keepAlive/2 {
			_ = o.push(parcel{}) // the handler learns of it from its context
		}
		<-o.turn
	}
}

// finish ends the answer, be it with what the handler panicked with: as in
// net/http, one bad request is no reason to end the node.
func (o *outflow) finish() {
	panicked := recover()
	o.turn <- struct{}{}
	switch {
	case o.long && o.err == nil:
		end := parcel{End: true, Body: slices.Clip(o.buf)}
		if panicked != nil {
			end.Fault = "fault of the node"
		}
		_ = o.push(end)
	case o.long || o.err != nil:
	case panicked != nil:
		o.head <- failed(&Error{Code: http.StatusInternalServerError, Message: fmt.Sprintf("fault of the node: %v", panicked)})
	default:
		o.start(false)
	}
	long := o.long
	<-o.turn
	if long {
		o.cancel()
		o.wg.Wait()
		o.c.mu.Lock()
		o.c.flows--
		o.c.mu.Unlock()
	}
}
