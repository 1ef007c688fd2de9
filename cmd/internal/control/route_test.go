package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A town is nodes whose couriers reach each other.
type town struct {
	mu       sync.Mutex
	couriers map[string]*Courier
	cut      map[string]bool // nodes that cannot be reached
	lord     string          // of legion g, as everybody thinks unless views says otherwise
	views    map[string]string
}

func newTown() *town {
	return &town{couriers: map[string]*Courier{}, cut: map[string]bool{}, views: map[string]string{}}
}

func (tn *town) settle(t *testing.T, node string, h http.Handler) *Courier {
	c := NewCourier(func(ctx context.Context, to string, q []byte) ([]byte, error) {
		tn.mu.Lock()
		peer, cut := tn.couriers[to], tn.cut[to] || tn.cut[node]
		tn.mu.Unlock()
		if peer == nil || cut {
			return nil, errors.New("no such node")
		}
		return peer.Serve(ctx, node, slices.Clone(q)), nil
	}, h)
	tn.mu.Lock()
	tn.couriers[node] = c
	tn.mu.Unlock()
	t.Cleanup(c.Close)
	return c
}

// A townsman is the Router of one node of a town.
type townsman struct {
	*backend
	town *town
	name string
}

func (m townsman) Node() string { return m.name }

func (m townsman) Nodes() []string { return []string{"c", "b", "a"} }

func (m townsman) LordOf(legion string) (string, error) {
	m.town.mu.Lock()
	defer m.town.mu.Unlock()
	switch v := m.town.views[m.name]; {
	case legion != "g":
		return "", NotFound("", "no legion %q", legion)
	case v != "":
		return v, nil
	case m.town.lord == "":
		return "", Unavailable("", "g has no lord")
	}
	return m.town.lord, nil
}

func (m townsman) Reach(r *http.Request, node string) (*http.Response, error) {
	m.town.mu.Lock()
	c := m.town.couriers[m.name]
	m.town.mu.Unlock()
	return c.Reach(r, node)
}

// newABC is three nodes, each with an API of one route to the lord that says
// who served it, and a way to ask it.
func newABC(t *testing.T) (tn *town, ask func(node, method, path, body string) (int, string), served *atomic.Int32) {
	tn, served = newTown(), &atomic.Int32{}
	apis := map[string]http.Handler{}
	for _, node := range []string{"a", "b", "c"} {
		me := townsman{&backend{status: Status{Node: node}}, tn, node}
		mux := http.NewServeMux()
		mux.Handle("/", Handler(me))
		mux.Handle("/v1/legions/{name}/act", only(http.MethodPost, at(me, lordOf(me), answering(func(r *http.Request) (any, error) {
			served.Add(1)
			body, err := io.ReadAll(r.Body)
			from, routed := RoutedFrom(r.Context())
			return fmt.Sprintf("%s for %q routed=%v asker=%q: %s", node, from, routed, Asker(r.Context()), body), err
		}))))
		apis[node] = mux
		tn.settle(t, node, mux)
	}
	return tn, func(node, method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r = r.WithContext(context.WithValue(r.Context(), peerKey{}, peer{uid: 7}))
		apis[node].ServeHTTP(w, r)
		return w.Code, strings.TrimSpace(w.Body.String())
	}, served
}

func TestRouteToLord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn, ask, served := newABC(t)
		for _, c := range []struct {
			what, lord string
			view       map[string]string
			cut        string
			path       string
			code       int
			body       string
			served     int32
		}{
			{what: "here", lord: "a", code: 200, body: `"a for \"\" routed=false asker=\"uid 7\": x"`, served: 1},
			{what: "elsewhere", lord: "b", code: 200, body: `"b for \"a\" routed=true asker=\"uid 7 on a\": x"`, served: 1},
			{what: "nobody", code: 503, body: "g has no lord"},
			{what: "unknown", lord: "b", path: "/v1/legions/h/act", code: 404, body: "no legion"},
			{what: "cut off", lord: "b", cut: "b", code: 503, body: "b does not answer"},
			{what: "each thinks it another", view: map[string]string{"a": "b", "b": "a"}, code: 421, body: "a asked b for what is a's to do"},
		} {
			tn.mu.Lock()
			tn.lord, tn.views, tn.cut = c.lord, c.view, map[string]bool{c.cut: true}
			tn.mu.Unlock()
			served.Store(0)
			if c.path == "" {
				c.path = "/v1/legions/g/act"
			}
			code, body := ask("a", http.MethodPost, c.path, "x")
			if code != c.code || !strings.Contains(body, c.body) || served.Load() != c.served {
				t.Errorf("%s: %d %s, served %d times; want %d %s, %d", c.what, code, body, served.Load(), c.code, c.body, c.served)
			}
		}
	})
}

// TestRouteFollowsTheLord: the lordship moves while its old lord is being asked.
func TestRouteFollowsTheLord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn, ask, served := newABC(t)
		tn.lord, tn.views = "c", map[string]string{"a": "b"} // a is late to learn of it
		time.AfterFunc(300*time.Millisecond, func() {
			tn.mu.Lock()
			defer tn.mu.Unlock()
			tn.views = nil
		})
		code, body := ask("a", http.MethodPost, "/v1/legions/g/act", "x")
		if code != 200 || !strings.Contains(body, `c for \"a\"`) || served.Load() != 1 {
			t.Errorf("%d %s, served %d times", code, body, served.Load())
		}
	})
}

func TestRouteToNamedNode(t *testing.T) {
	t.Parallel()
	_, ask, _ := newABC(t)
	for node, want := range map[string]string{"a": `"node":"a"`, "b": `"node":"b"`, "x": "x does not answer: no such node"} {
		if _, body := ask("a", http.MethodGet, "/v1/status?node="+node, ""); !strings.Contains(body, want) {
			t.Errorf("?node=%s: %s, want %s", node, body, want)
		}
	}
}

func TestGather(t *testing.T) {
	t.Parallel()
	tn, _, _ := newABC(t)
	tn.cut["b"] = true
	answers := Gather[Status](t.Context(), townsman{town: tn, name: "a"}, "/v1/status")
	var got []string
	for _, a := range answers {
		got = append(got, a.Node+"="+a.Value.Node)
	}
	if want := []string{"a=a", "b=", "c=c"}; !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
	if got := Silent(answers); !slices.Equal(got, []string{"b"}) {
		t.Errorf("silent are %q", got)
	}
}

// TestGatherDeadline: a node that hangs costs gatherTimeout, and no more.
func TestGatherDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTown()
		for _, node := range []string{"a", "b", "c"} {
			tn.settle(t, node, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if node == "b" {
					<-r.Context().Done()
				}
				write(w, 200, Status{Node: node})
			}))
		}
		began := time.Now()
		answers := Gather[Status](t.Context(), townsman{town: tn, name: "a"}, "/v1/status")
		if took := time.Since(began); took != gatherTimeout {
			t.Errorf("took %v", took)
		}
		if got := Silent(answers); !slices.Equal(got, []string{"b"}) {
			t.Errorf("silent are %q", got)
		}
	})
}

// TestLongAnswers: an answer of any length arrives whole, whoever is slow, and
// is never in memory at once.
func TestLongAnswers(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	tn := newTown()
	tn.settle(t, "b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(201)
		line := bytes.Repeat([]byte("0123456789abcdef"), 1000)
		for sent := 0; sent < size; {
			n, err := w.Write(line[:min(len(line), size-sent)])
			if sent += n; err != nil {
				t.Error(err)
				return
			}
		}
	}))
	a := tn.settle(t, "a", nil)
	resp, err := a.RoundTrip(httptest.NewRequest("GET", "http://b/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 201 || resp.Header.Get("Content-Type") != "text/x" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n, err := io.Copy(io.Discard, resp.Body)
	if n != size || err != nil {
		t.Errorf("read %d bytes, %v; want %d", n, err, size)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// TestFlowEnds: whoever of the two goes away, the other learns of it.
func TestFlowEnds(t *testing.T) {
	follow := func(ended chan<- error) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "first\n")
			flushNow(w)
			<-r.Context().Done()
			ended <- r.Context().Err()
		})
	}
	for _, c := range []struct {
		what string
		how  func(tn *town, body io.ReadCloser, cancel func())
	}{
		{"the reader closes", func(_ *town, body io.ReadCloser, _ func()) { body.Close() }},
		{"the reader's request is cancelled", func(_ *town, _ io.ReadCloser, cancel func()) { cancel() }},
		{"the reader's node stops", func(tn *town, _ io.ReadCloser, _ func()) { tn.couriers["a"].Close() }},
		{"the writer's node stops", func(tn *town, _ io.ReadCloser, _ func()) { tn.couriers["b"].Close() }},
		{"the network is cut", func(tn *town, _ io.ReadCloser, _ func()) {
			tn.mu.Lock()
			defer tn.mu.Unlock()
			tn.cut["b"] = true
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			tn, ended := newTown(), make(chan error, 1)
			tn.settle(t, "b", follow(ended))
			a := tn.settle(t, "a", nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, err := a.RoundTrip(httptest.NewRequestWithContext(ctx, "GET", "http://b/", nil))
			if err != nil {
				t.Fatal(c.what, err)
			}
			first := make([]byte, 6)
			if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first\n" {
				t.Fatal(c.what, err)
			}
			began := time.Now()
			c.how(tn, resp.Body, cancel)
			<-ended
			if _, err := resp.Body.Read(first); err == nil {
				t.Error(c.what, ": read more")
			}
			if took := time.Since(began); took > 3*flowLost {
				t.Errorf("%s: noticed after %v", c.what, took)
			}
			resp.Body.Close()
			synctest.Wait()
			if b := tn.couriers["b"]; b.flows != 0 || len(a.open) != 0 {
				t.Errorf("%s: %d flows and %d answers left over", c.what, b.flows, len(a.open))
			}
		})
	}
}

// TestFlowWaits: a reader that pauses loses nothing, and a quiet writer is not
// taken for a dead one.
func TestFlowWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTown()
		tn.settle(t, "b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := range 3 * maxWindow {
				fmt.Fprintln(w, i)
				flushNow(w)
			}
			time.Sleep(10 * flowLost) // in the bubble: a job that prints nothing
			fmt.Fprintln(w, "end")
		}))
		a := tn.settle(t, "a", nil)
		resp, err := a.RoundTrip(httptest.NewRequest("GET", "http://b/", nil))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * flowLost) // in the bubble: a pager
		got, err := io.ReadAll(resp.Body)
		if lines := strings.Fields(string(got)); err != nil || len(lines) != 3*maxWindow+1 || lines[len(lines)-1] != "end" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

// TestCourierLimits: no request, however wrong, ends the node, and what is
// too much is refused.
func TestCourierLimits(t *testing.T) {
	t.Parallel()
	tn := newTown()
	tn.settle(t, "b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("on purpose")
		case "/late":
			io.WriteString(w, "so far")
			flushNow(w)
			panic("on purpose")
		case "/flow":
			flushNow(w)
			<-r.Context().Done()
		}
	}))
	a := tn.settle(t, "a", nil)
	get := func(target string, body io.Reader) (*http.Response, error) {
		return a.RoundTrip(httptest.NewRequestWithContext(t.Context(), "POST", target, body))
	}
	resp, err := get("http://b/panic", nil)
	if err != nil || resp.StatusCode != 500 {
		t.Errorf("panic: %v, %v", resp, err)
	}
	resp, err = get("http://b/late", nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "so far" || err == nil {
		t.Errorf("late panic: %q, %v", body, err)
	}
	resp.Body.Close()
	if _, err := get("http://b/", bytes.NewReader(make([]byte, maxBody+1))); err == nil {
		t.Error("a body over the limit went through")
	}
	var bodies []io.Closer
	for range maxFlows {
		resp, err := get("http://b/flow", nil)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, resp.Body)
	}
	if _, err := get("http://b/flow", nil); err == nil {
		t.Error("one more answer than the limit")
	}
	for _, b := range bodies {
		b.Close()
	}
}

func FuzzCourier(f *testing.F) {
	f.Add([]byte{0xa2, 1, 1, 2, 0x63, 'G', 'E', 'T'})
	f.Fuzz(func(t *testing.T, question []byte) {
		c := NewCourier(func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("nobody") }, Handler(&backend{}))
		defer c.Close()
		c.Serve(t.Context(), "x", question)
	})
}

// A slowman is a townsman whose lordships and voters take their time to change.
type slowman struct {
	townsman
	time.Duration
}

func (m slowman) LordOf(string) (string, error) { return "b", nil }

func (m slowman) dawdle(ctx context.Context) error {
	select {
	case <-time.After(m.Duration): // of the bubble
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m slowman) Drain(ctx context.Context, drained, now bool) (Drained, error) {
	return Drained{Node: m.name}, m.dawdle(ctx)
}

func (m slowman) StepDown(ctx context.Context, q StepDownQuery) (SteppedDown, error) {
	return SteppedDown{From: m.name}, m.dawdle(ctx)
}

func (m slowman) Leave(ctx context.Context) (Electorate, error) {
	return Electorate{}, m.dawdle(ctx)
}

func (m slowman) Forget(ctx context.Context, node string) (Electorate, error) {
	return Electorate{}, m.dawdle(ctx)
}

// What waits for lordships to move, hooks and all, or for the electorate to change
// may take as long on another node as on this one.
func TestRouteWaitsForMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTown()
		var a http.Handler
		for _, node := range []string{"b", "a"} {
			a = Handler(slowman{townsman{&backend{}, tn, node}, 40 * time.Second})
			tn.settle(t, node, a)
		}
		for _, path := range []string{"/v1/node/drain?node=b", "/v1/legions/g/step-down", "/v1/node/leave?node=b", "/v1/members/x/forget"} {
			w := httptest.NewRecorder()
			a.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, nil))
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	})
}
