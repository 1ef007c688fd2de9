package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Limits of what passes between nodes.
const (
	routeTimeout = 5 * time.Second // until an answer begins
	// moveTimeout is the same of what waits for lordships to move, hooks and all, or
	// for the electorate to change. It is shorter than a whole request may take.
	moveTimeout = serveTimeout - routeTimeout
	maxPiece    = 128 << 10       // bytes of an answer that travel together
	maxWindow   = 8               // pieces that wait for a slow reader
	maxFlows    = 64              // long answers at a time, in each direction
	keepAlive   = 5 * time.Second // between two signs of life of a long answer
	flowLost    = 4 * keepAlive   // without one it is over
	fullPause   = 50 * time.Millisecond
	maxParcel   = 1 << 20 // encoded
)

// A Call asks a node a question and returns its answer.
type Call func(ctx context.Context, node string, question []byte) ([]byte, error)

// A Courier carries HTTP requests from node to node by questions and answers.
// It is an http.RoundTripper for which the host of a URL is the name of a
// node. A short answer is one answer; a long one, or one that is flushed
// before its end, follows in pieces, each of which is acknowledged, so that
// neither side holds more than a few of them. It is safe for concurrent use.
//
//	origin                                node that acts
//	  | -- request {stream} ----------->  |   the handler runs
//	  | <- status, header, first bytes -  |   all of it, or more follows
//	  | <- piece 1 ----------------------  |
//	  | -- taken, full or gone --------->  |   again after a pause; or cancelled
//	  | <- piece n, end -----------------  |
type Courier struct {
	call    Call
	handler http.Handler

	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	open  map[uint64]*inflow // answers that arrive here
	flows int                // long answers that leave from here
	wg    sync.WaitGroup
	over  bool
}

// NewCourier returns a courier that asks by call and has handler answer what
// arrives at Serve. The handler learns from RoutedFrom who asked.
func NewCourier(call Call, handler http.Handler) *Courier {
	c := &Courier{call: call, handler: handler, open: map[uint64]*inflow{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends every exchange and waits for the handlers.
func (c *Courier) Close() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// A parcel is what one node sends to another.
type parcel struct {
	Stream uint64 `cbor:"1,keyasint"`
	// A request.
	Method string `cbor:"2,keyasint,omitempty"`
	Target string `cbor:"3,keyasint,omitempty"`
	Asker  string `cbor:"4,keyasint,omitempty"`
	// A piece of an answer, from 1; 0: a request.
	Seq   uint64 `cbor:"5,keyasint,omitempty"`
	End   bool   `cbor:"6,keyasint,omitempty"`
	Fault string `cbor:"7,keyasint,omitempty"` // why it ends too early
	Body  []byte `cbor:"8,keyasint,omitempty"`
}

// A receipt answers a parcel.
type receipt struct {
	Code   int                 `cbor:"1,keyasint,omitempty"`
	Header map[string][]string `cbor:"2,keyasint,omitempty"`
	Body   []byte              `cbor:"3,keyasint,omitempty"`
	More   bool                `cbor:"4,keyasint,omitempty"`
	State  fate                `cbor:"5,keyasint,omitempty"` // of a piece
}

// A fate is what became of a piece.
type fate uint8

const (
	taken fate = 1 + iota
	full       // send it again
	gone       // nobody reads this answer
)

type (
	routedKey   struct{}
	askerKey    struct{}
	patienceKey struct{}
)

// patiently has h's requests to other nodes wait for moveTimeout.
func patiently(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), patienceKey{}, moveTimeout)))
	})
}

// patienceOf is how long a request to another node waits for its answer to begin.
func patienceOf(ctx context.Context) time.Duration {
	if d, ok := ctx.Value(patienceKey{}).(time.Duration); ok {
		return d
	}
	return routeTimeout
}

// RoutedFrom names the node that a request was routed from. Such a request is
// for this node: it is answered here or refused, and never routed again.
func RoutedFrom(ctx context.Context) (node string, ok bool) {
	node, ok = ctx.Value(routedKey{}).(string)
	return node, ok
}

// Asker says who asks, for logs and reasons: "uid 0 on n1".
func Asker(ctx context.Context) string {
	who, _ := ctx.Value(askerKey{}).(string)
	if p, ok := ctx.Value(peerKey{}).(peer); ok && p.err == nil {
		who = fmt.Sprintf("uid %d", p.uid)
	}
	if node, ok := RoutedFrom(ctx); ok {
		if who == "" {
			return node
		}
		who += " on " + node
	}
	return who
}

// RoundTrip implements http.RoundTripper. An error does not say that the
// request was not served. The body must be closed.
func (c *Courier) RoundTrip(r *http.Request) (*http.Response, error) {
	p := parcel{Stream: rand.Uint64(), Method: r.Method, Target: r.URL.RequestURI(), Asker: Asker(r.Context())}
	if r.Body != nil {
		defer r.Body.Close()
		var err error
		if p.Body, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1)); err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
		if len(p.Body) > maxBody {
			return nil, &http.MaxBytesError{Limit: maxBody}
		}
	}
	in, err := c.expect(r.Context(), p.Stream, r.URL.Host)
	if err != nil {
		return nil, err
	}
	rec, err := c.send(r.Context(), r.URL.Host, p, patienceOf(r.Context()))
	if err != nil || !rec.More {
		in.Close()
	}
	if err != nil {
		return nil, err
	}
	if rec.Code < 100 || rec.Code > 999 {
		in.Close()
		return nil, errors.New("decode answer: no status")
	}
	resp := &http.Response{
		Status: fmt.Sprintf("%d %s", rec.Code, http.StatusText(rec.Code)), StatusCode: rec.Code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rec.Header, Request: r, ContentLength: -1,
	}
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	if rec.More {
		in.rest = rec.Body
		resp.Body = in
	} else {
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(rec.Body)), int64(len(rec.Body))
	}
	return resp, nil
}

// Reach is RoundTrip for a request that was made for this node.
func (c *Courier) Reach(r *http.Request, node string) (*http.Response, error) {
	to := r.Clone(r.Context())
	to.URL.Host = node
	return c.RoundTrip(to)
}

// send asks a node about one parcel.
func (c *Courier) send(ctx context.Context, node string, p parcel, limit time.Duration) (receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	var rec receipt
	q, err := cbor.Marshal(p)
	if err != nil {
		return rec, fmt.Errorf("encode request: %w", err)
	}
	a, err := c.call(ctx, node, q)
	if err != nil {
		return rec, err
	}
	if len(a) == 0 || len(a) > maxParcel {
		return rec, errors.New("it refuses requests") // it stops, or is too old to know them
	}
	if err := cbor.Unmarshal(a, &rec); err != nil {
		return rec, fmt.Errorf("decode answer: %w", err)
	}
	return rec, nil
}

// Serve answers what another node's courier asks; nil: not at all.
func (c *Courier) Serve(ctx context.Context, from string, question []byte) []byte {
	var p parcel
	if len(question) > maxParcel || cbor.Unmarshal(question, &p) != nil {
		return nil
	}
	var rec receipt
	if p.Seq > 0 {
		rec.State = c.take(from, p)
	} else {
		rec = c.serve(ctx, from, p)
	}
	a, err := cbor.Marshal(rec)
	if err != nil {
		return nil
	}
	return a
}

// serve has the handler answer a request, until ctx ends or, if the answer
// turns out to be a long one, until nobody reads it.
func (c *Courier) serve(ctx context.Context, from string, p parcel) receipt {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return failed(Unavailable("", "the node is stopping"))
	}
	c.wg.Add(1)
	c.mu.Unlock()
	hctx, cancel := context.WithCancel(c.ctx)
	hctx = context.WithValue(context.WithValue(hctx, routedKey{}, from), askerKey{}, p.Asker)
	r, err := http.NewRequestWithContext(hctx, p.Method, p.Target, bytes.NewReader(p.Body))
	if err != nil {
		cancel()
		c.wg.Done()
		return failed(BadRequest("", "decode request: %v", err))
	}
	r.RequestURI, r.RemoteAddr = p.Target, from
	out := newOutflow()
	out.c, out.to, out.stream, out.ctx, out.cancel = c, from, p.Stream, hctx, cancel
	go func() {
		defer c.wg.Done()
		defer cancel()
		defer out.finish()
		c.handler.ServeHTTP(out, r)
	}()
	select {
	case rec := <-out.head:
		return rec
	case <-ctx.Done():
		cancel()
		return failed(Unavailable("", "no answer in time"))
	}
}

// failed is the answer that tells e.
func failed(e *Error) receipt {
	w := newOutflow()
	fail(w, e)
	return receipt{Code: w.code, Header: w.header, Body: w.buf}
}
