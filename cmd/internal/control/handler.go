package control

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Backend is the node behind the handler. Its methods are called concurrently,
// must not block longer than their context, and return an *Error for anything
// but a fault of the node itself. What they return is not changed afterwards.
type Backend interface {
	Router
	Watcher
	Planner
	Historian
	Archivist
	Commander
	Host
	Reloader
	Locksmith
	Crier
	Steward
	Marshal
	Meter
}

// Meter measures the node.
type Meter interface {
	// Metrics serves them in the format of Prometheus.
	Metrics() http.Handler
}

// Watcher tells how things are now.
type Watcher interface {
	Status(ctx context.Context) (Status, error)
	// Lord fails with NotFound if this node knows no such legion.
	Lord(ctx context.Context, legion string) (Lord, error)
}

// Planner tells what is to run, and when.
type Planner interface {
	// Jobs returns those of all nodes, and the nodes that did not answer;
	// Listings those of this node's configuration.
	Jobs(ctx context.Context) (js []Job, silent []string, err error)
	Listings(ctx context.Context) ([]Listing, error)
	// Explain fails with NotFound if no node knows such a job; if own is set,
	// if this one does not, and it then says nothing of others.
	Explain(ctx context.Context, job string, own bool) (e Explanation, silent []string, err error)
	// Next returns the first q.N instants after q.From at which the job is
	// due. It fails with NotFound if this node knows no such job.
	Next(ctx context.Context, q NextQuery) (Next, error)
}

// Historian tells what has run.
type Historian interface {
	// Runs returns at most q.Limit runs of all nodes, newest first, and the
	// nodes that did not answer.
	Runs(ctx context.Context, q RunsQuery) (runs []Run, silent []string, err error)
	// Story tells all about a run id or the name of a slot.
	Story(ctx context.Context, run string) (s Story, silent []string, err error)
	// Tail is the end of what a run of this node printed; it fails with
	// NotFound if there is none.
	Tail(ctx context.Context, run string) (Tail, error)
}

// Reloader reads the configuration again: all of it, or on any error nothing.
type Reloader interface {
	Reload(ctx context.Context) (Reload, error)
}

// Handler serves /v1 from b. It may be served on several listeners at once,
// and by the couriers of b's cluster.
func Handler(b Backend) http.Handler {
	mux := http.NewServeMux()
	rs := routes{b, mux}
	get, post := rs.get, rs.post

	get("/v1/status", func(r *http.Request) (any, error) { return b.Status(r.Context()) })
	get("/v1/members", func(r *http.Request) (any, error) {
		s, err := b.Status(r.Context())
		return s.Cluster.Members, err
	})
	get("/v1/jobs/{name}/next", func(r *http.Request) (any, error) {
		q, err := parseNextQuery(r.PathValue("name"), r.URL.Query(), time.Now())
		if err != nil {
			return nil, err
		}
		return b.Next(r.Context(), q)
	})
	get("/v1/lord/{legion}", func(r *http.Request) (any, error) { return b.Lord(r.Context(), r.PathValue("legion")) })
	post("/v1/node/reload", func(r *http.Request) (any, error) { return b.Reload(r.Context()) })
	mux.Handle("/v1/metrics", only(http.MethodGet, at(rs, here, b.Metrics())))
	output(rs, b)
	demands(rs, b)
	execs(rs, b)
	history(b, rs)
	keys(b, get, post)
	scrolls(b, rs)
	steward(b, rs)
	marshal(b, rs)

	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, NotFound("see GET /v1/status, members, jobs, runs, lord/LEGION, metrics", "no such resource %s", r.URL.Path))
	})
	return mux
}

// routes are the resources that a handler has so far.
type routes struct {
	Router
	mux *http.ServeMux
}

func (rs routes) get(path string, answer func(*http.Request) (any, error)) {
	rs.at(here, http.MethodGet, path, answer)
}

func (rs routes) post(path string, answer func(*http.Request) (any, error)) {
	rs.at(here, http.MethodPost, path, answer)
}

// at adds a resource that only the node at a place can answer for.
func (rs routes) at(where place, method, path string, answer func(*http.Request) (any, error)) {
	rs.mux.Handle(path, only(method, at(rs, where, answering(answer))))
}

// slow adds one that answers when lordships have moved, or voters changed.
func (rs routes) slow(where place, path string, answer func(*http.Request) (any, error)) {
	rs.mux.Handle(path, only(http.MethodPost, patiently(at(rs, where, answering(answer)))))
}

// only lets one method through, and tells all others what is allowed.
func only(method string, h http.Handler) http.Handler {
	allow := []string{method}
	if method == http.MethodGet {
		allow = append(allow, http.MethodHead)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(allow, r.Method) {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			fail(w, &Error{Code: http.StatusMethodNotAllowed, Message: r.Method + " is not for " + r.URL.Path, Hint: "use " + method})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// answering writes down what answer returns.
func answering(answer func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := answer(r)
		if err != nil {
			fail(w, asError(err))
			return
		}
		if p, ok := v.(Partial); ok {
			if len(p.Silent) > 0 {
				w.Header().Set(silentHeader, strings.Join(p.Silent, ", "))
			}
			v = p.Value
		}
		code := http.StatusOK
		if l, ok := v.(Lord); ok && !l.Here {
			code = http.StatusServiceUnavailable // for load balancers
		}
		write(w, code, v)
	})
}

func fail(w http.ResponseWriter, e *Error) { write(w, e.Code, e) }

func write(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a float that is no number, say: the wire types hold none
		code, body = http.StatusInternalServerError, []byte(`{"error":"encode answer","hint":""}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // a reader who has gone is no failure of ours
}
