package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	maxReroute    = 5                      // a lordship may move while its lord is being asked
	reroutePause  = 200 * time.Millisecond // until the next look who it is
	gatherTimeout = 3 * time.Second        // for all nodes to answer
	// silentHeader names, in an answer put together from all nodes', those
	// that gave none.
	silentHeader = "Legion-Silent"
)

// A Router knows the nodes, and which of them must act.
type Router interface {
	// Node names this node.
	Node() string
	// Nodes names the nodes that are thought to be alive, this one among them.
	Nodes() []string
	// LordOf names the lord of a legion. It fails with NotFound for an unknown
	// legion and with Unavailable while it has none.
	LordOf(legion string) (string, error)
	// Reach has a node, this one or another, serve r as if it had been asked
	// there. RoutedFrom tells its handler so.
	Reach(r *http.Request, node string) (*http.Response, error)
}

// A place says which node must serve a request; "": whichever was asked.
type place func(*http.Request) (node string, err error)

// here is the node that was asked, or the one named by ?node=.
func here(r *http.Request) (string, error) { return r.URL.Query().Get("node"), nil }

// lordOf is the lord of the legion that the path names as {name}.
func lordOf(rt Router) place {
	return func(r *http.Request) (string, error) { return rt.LordOf(r.PathValue("name")) }
}

// at has h serve what is for this node, and another node what is for that one.
func at(rt Router, where place, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		node, err := where(r)
		if err != nil {
			fail(w, asError(err))
			return
		}
		if node == "" || node == rt.Node() {
			h.ServeHTTP(w, r)
			return
		}
		if from, routed := RoutedFrom(r.Context()); routed {
			fail(w, &Error{Code: http.StatusMisdirectedRequest, Message: fmt.Sprintf("%s asked %s for what is %s's to do", from, rt.Node(), node), Hint: "try again"})
			return
		}
		forward(w, r, rt, where, node, h)
	})
}

// forward has node serve r; if that node says that it is another's to do, that one.
func forward(w http.ResponseWriter, r *http.Request, rt Router, where place, node string, h http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, BadRequest("", "read request: %v", err))
		return
	}
	for try := range maxReroute {
		r.Body = io.NopCloser(bytes.NewReader(body))
		if try > 0 {
			select {
			case <-time.After(reroutePause):
			case <-r.Context().Done():
			}
			if node, err = where(r); err != nil {
				fail(w, asError(err))
				return
			}
			if node == "" || node == rt.Node() {
				h.ServeHTTP(w, r)
				return
			}
		}
		resp, err := rt.Reach(r, node)
		if err != nil {
			fail(w, unreached(node, r, err))
			return
		}
		if resp.StatusCode == http.StatusMisdirectedRequest && try < maxReroute-1 {
			resp.Body.Close()
			continue
		}
		relay(w, resp)
		return
	}
}

// unreached says that a node did not answer, and whether it may have acted. An
// *Error is the router's own: it did not try.
func unreached(node string, r *http.Request, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	hint := "legion-cron members shows who is there"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		hint = "it may have been done all the same; " + hint
	}
	return &Error{Code: http.StatusServiceUnavailable, Message: fmt.Sprintf("%s does not answer: %v", node, err), Hint: hint, cause: err}
}

// relay passes on another node's answer as it arrives.
func relay(w http.ResponseWriter, resp *http.Response) {
	defer resp.Body.Close()
	for key, values := range resp.Header {
		w.Header()[http.CanonicalHeaderKey(key)] = values
	}
	w.WriteHeader(resp.StatusCode)
	long := resp.ContentLength < 0
	buf := make([]byte, maxPiece)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if long {
				if flushNow(w) != nil {
					return
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // so that the reader sees that it is cut off
		}
	}
}

// flushNow sends on what was written, and gives the reader time to take it.
func flushNow(w http.ResponseWriter) error {
	rc := http.NewResponseController(w)
	// What the server allows for a whole request, a long answer may take for
	// each piece. With a read deadline it would be taken for cancelled.
	err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Now().Add(serveTimeout)))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return rc.Flush()
}

// An Answer is what one of several nodes says.
type Answer[T any] struct {
	Node  string
	Value T
	Err   error // it says no, or nothing
}

// Gather asks all living nodes, this one among them, to GET a path of /v1, at
// once, and returns their answers in the order of their names, when all have
// answered or gatherTimeout has passed. A handler that gathers must first ask
// RoutedFrom whether it is itself being gathered from.
func Gather[T any](ctx context.Context, rt Router, path string) []Answer[T] {
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	nodes := rt.Nodes()
	slices.Sort(nodes)
	answers := make([]Answer[T], len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			answers[i].Node = node
			answers[i].Value, answers[i].Err = From[T](ctx, rt, node, path)
		})
	}
	wg.Wait()
	return answers
}

// From asks one node, this one or another, to GET a path of /v1.
func From[T any](ctx context.Context, rt Router, node, path string) (T, error) {
	var v T
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://legion-cron"+path, nil)
	if err != nil {
		return v, fmt.Errorf("ask %s: %w", node, err)
	}
	resp, err := rt.Reach(r, node)
	if err != nil {
		return v, unreached(node, r, err)
	}
	defer resp.Body.Close()
	return decode[T](resp, "of "+node)
}

// decode reads an answer, which errors call "the answer "+which: a T, or an *Error.
func decode[T any](resp *http.Response, which string) (T, error) {
	var v, none T
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return none, fmt.Errorf("read the answer %s: %w", which, err)
	}
	if len(body) > maxAnswer {
		return none, fmt.Errorf("read the answer %s: longer than %d bytes", which, maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		e := &Error{Code: resp.StatusCode}
		if err := json.Unmarshal(body, e); err == nil && e.Message != "" {
			return none, e
		}
		if resp.StatusCode != http.StatusServiceUnavailable { // that one may still be the answer "not the lord"
			return none, &Error{Code: resp.StatusCode, Message: "the answer " + which + " is " + resp.Status}
		}
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return none, fmt.Errorf("decode the answer %s: %w", which, err)
	}
	return v, nil
}

// Partial is an answer put together from those of several nodes.
type Partial struct {
	Value  any
	Silent []string // nodes that gave none
}

// Silent names the nodes among answers that gave none.
func Silent[T any](answers []Answer[T]) (names []string) {
	for _, a := range answers {
		if a.Err != nil {
			names = append(names, a.Node)
		}
	}
	return names
}
