package control

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Story is all that is known of a run, or of a slot that had none.
type Story struct {
	Run         Run          `json:"run"`
	Incarnation string       `json:"incarnation"` // of the node's agent
	Definition  string       `json:"definition"`  // hash of the job when it was claimed
	Count       int          `json:"count"`       // slots that the record stands for; 1 but for missed ones in a row
	Until       Time         `json:"until"`       // the last of these
	Attempts    List[Run]    `json:"attempts"`    // of the slot, oldest first, this one among them
	Timeline    List[Moment] `json:"timeline"`    // of all attempts
	Output      *Tail        `json:"output"`      // null: there is none, or it cannot be had now
}

// Moment is something that happened to a slot.
type Moment struct {
	At      Time   `json:"at"`
	Event   string `json:"event"` // due, asked for, started, or an outcome
	Attempt int    `json:"attempt"`
	Node    string `json:"node"`
	Term    uint64 `json:"term"`
	Detail  string `json:"detail"`
}

// Tail is where the output of a run is, and its end.
type Tail struct {
	Node  string `json:"node"`
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"` // that were kept
	Tail  string `json:"tail"`
}

// Listing is a job as one node has it in its configuration.
type Listing struct {
	Job
	Definition string `json:"definition"`
}

// Explanation is why a job will or will not run next, and where.
type Explanation struct {
	Job         string `json:"job"`
	Legion      string `json:"legion"`
	Verdict     string `json:"verdict"`  // in one line
	WillRun     bool   `json:"will_run"` // its next slot, as things stand
	Schedule    string `json:"schedule"`
	Timezone    string `json:"timezone"`
	Description string `json:"description"`
	Definition  string `json:"definition"`
	Next        Time   `json:"next"`
	NextLocal   string `json:"next_local"` // the same in the job's zone
	JitterMS    int64  `json:"jitter_ms"`  // by which it is later than the schedule says
	Enabled     bool   `json:"enabled"`
	Paused      bool   `json:"paused"`
	Pause       string `json:"pause"`   // why, and until when
	Drained     bool   `json:"drained"` // the node is, and the job its own

	Lord  string `json:"lord"`
	Term  uint64 `json:"term"`
	Since Time   `json:"since"`
	Node  string `json:"node"` // whose view of the rest this is: the lord's, if it answers

	Overlap     string    `json:"overlap"`
	Mutex       string    `json:"mutex"`
	MutexHeldBy string    `json:"mutex_held_by"` // a job
	MaxRuns     int       `json:"max_runs"`      // of the node; 0: no limit
	Running     int       `json:"running"`       // runs of all jobs on the node
	Living      List[Run] `json:"living"`        // runs of the job, anywhere
	Queued      int       `json:"queued"`        // slots of the job that wait
	CatchUpMS   int64     `json:"catch_up_ms"`
	CatchUpRuns string    `json:"catch_up_runs"`
	OnLost      string    `json:"on_lost"`
	OnUnlord    string    `json:"on_unlord"`

	Last  List[Run]    `json:"last"` // newest first
	Nodes List[string] `json:"nodes"`
	Drift List[string] `json:"drift"`
	Why   List[string] `json:"why"` // all of it, for people
}

// scopeNode, as ?scope=, asks for what one node knows by itself. Without it
// history and jobs are those of the whole cluster.
const scopeNode = "node"

func scoped(r *http.Request) bool { return r.URL.Query().Get("scope") == scopeNode }

// ScopedPath is the path that asks a node for what it knows by itself.
func ScopedPath(path string) string { return path + "?scope=" + scopeNode }

// history adds what has run and why, of the whole cluster.
func history(b Backend, rs routes) {
	partial := func(v any, silent []string, err error) (any, error) { return Partial{Value: v, Silent: silent}, err }
	rs.get("/v1/jobs", func(r *http.Request) (any, error) {
		if scoped(r) {
			js, err := b.Listings(r.Context())
			return List[Listing](js), err
		}
		js, silent, err := b.Jobs(r.Context())
		return partial(List[Job](js), silent, err)
	})
	rs.get("/v1/jobs/{name}", func(r *http.Request) (any, error) {
		e, silent, err := b.Explain(r.Context(), r.PathValue("name"), scoped(r))
		return partial(e, silent, err)
	})
	rs.get("/v1/runs", func(r *http.Request) (any, error) {
		q, err := parseRunsQuery(r.URL.Query(), time.Now())
		if err != nil {
			return nil, err
		}
		runs, silent, err := b.Runs(r.Context(), q)
		return partial(List[Run](runs), silent, err)
	})
	rs.get("/v1/runs/{id}", func(r *http.Request) (any, error) {
		if scoped(r) {
			return b.Tail(r.Context(), r.PathValue("id"))
		}
		s, silent, err := b.Story(r.Context(), r.PathValue("id"))
		return partial(s, silent, err)
	})
}

// Story asks for all that is known of a run: its id, or the name of a slot.
func (c *Client) Story(ctx context.Context, run string) (Story, error) {
	return ask[Story](ctx, c, "/v1/runs/"+url.PathEscape(run))
}

// Explain asks why a job will or will not run next, and where.
func (c *Client) Explain(ctx context.Context, job string) (Explanation, error) {
	return ask[Explanation](ctx, c, "/v1/jobs/"+url.PathEscape(job))
}
