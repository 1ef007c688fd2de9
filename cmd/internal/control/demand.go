package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// PauseOrder asks for the slots of a job, or of a legion, to be skipped.
type PauseOrder struct {
	Until  Time   `json:"until"` // null: until it is taken back
	Reason string `json:"reason"`
}

// Commander does what people ask of the node that must act. Asker says who
// they are.
type Commander interface {
	// JobNode names the node that runs a job: the lord of its legion or, of one
	// without, this node or another that lists it.
	JobNode(ctx context.Context, job string) (string, error)
	// RerunNode names the node that may run the slot of a run again.
	RerunNode(ctx context.Context, run string) (string, error)
	// KillNode names the node that a run is on. It fails with Refused if the run
	// has ended and that node is away.
	KillNode(ctx context.Context, run string) (string, error)
	// Trigger has a job run now, and Rerun the slot of a run once more. Both
	// return when the claim is committed, or the run waits for those before it.
	Trigger(ctx context.Context, job string) (Run, error)
	Rerun(ctx context.Context, run string) (Run, error)
	// Kill ends a run of this node as its job says, or with a signal sends that
	// and does no more. It does not wait.
	Kill(ctx context.Context, run, signal string) (Run, error)
	// Pause pauses a job or, if that is empty, all jobs of a legion; nil ends it.
	Pause(ctx context.Context, legion, job string, p *PauseOrder) error
}

// demands are the resources of a Commander.
func demands(rs routes, c Commander) {
	jobNode := func(r *http.Request) (string, error) {
		if node, _ := here(r); node != "" {
			return node, nil
		}
		return c.JobNode(r.Context(), r.PathValue("name"))
	}
	rerunNode := func(r *http.Request) (string, error) { return c.RerunNode(r.Context(), r.PathValue("id")) }
	post := func(path string, where place, do func(*http.Request) (any, error)) {
		rs.at(where, http.MethodPost, path, do)
	}
	post("/v1/jobs/{name}/trigger", jobNode, func(r *http.Request) (any, error) { return c.Trigger(r.Context(), r.PathValue("name")) })
	post("/v1/runs/{id}/rerun", rerunNode, func(r *http.Request) (any, error) { return c.Rerun(r.Context(), r.PathValue("id")) })
	killNode := func(r *http.Request) (string, error) { return c.KillNode(r.Context(), r.PathValue("id")) }
	post("/v1/runs/{id}/kill", killNode, func(r *http.Request) (any, error) {
		return c.Kill(r.Context(), r.PathValue("id"), r.URL.Query().Get("signal"))
	})
	done := struct{}{}
	pause := func(legion, job string, r *http.Request) (any, error) {
		var p PauseOrder
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil && !errors.Is(err, io.EOF) {
			return nil, BadRequest(`send {"until": null, "reason": "..."}`, "decode pause: %v", err)
		}
		return done, c.Pause(r.Context(), legion, job, &p)
	}
	post("/v1/jobs/{name}/pause", jobNode, func(r *http.Request) (any, error) { return pause("", r.PathValue("name"), r) })
	post("/v1/jobs/{name}/resume", jobNode, func(r *http.Request) (any, error) {
		return done, c.Pause(r.Context(), "", r.PathValue("name"), nil)
	})
	post("/v1/legions/{name}/pause", lordOf(rs), func(r *http.Request) (any, error) { return pause(r.PathValue("name"), "", r) })
	post("/v1/legions/{name}/resume", lordOf(rs), func(r *http.Request) (any, error) {
		return done, c.Pause(r.Context(), r.PathValue("name"), "", nil)
	})
}

// Trigger has a job run now, on the node that runs it.
func (c *Client) Trigger(ctx context.Context, job string) (Run, error) {
	return change[Run](ctx, c, "/v1/jobs/"+url.PathEscape(job)+"/trigger", nil)
}

// Rerun has the slot of a run that is over run once more.
func (c *Client) Rerun(ctx context.Context, run string) (Run, error) {
	return change[Run](ctx, c, "/v1/runs/"+url.PathEscape(run)+"/rerun", nil)
}

// Kill ends a run as its job says, or sends it a signal ("": does not).
func (c *Client) Kill(ctx context.Context, run, signal string) (Run, error) {
	path := "/v1/runs/" + url.PathEscape(run) + "/kill"
	if signal != "" {
		path += "?signal=" + url.QueryEscape(signal)
	}
	return change[Run](ctx, c, path, nil)
}

// Pause has the slots of a job skipped, of a legion's jobs if legion is given
// instead, until a time (zero: until Resume).
func (c *Client) Pause(ctx context.Context, legion, job string, until time.Time, reason string) error {
	_, err := change[struct{}](ctx, c, pausePath(legion, job)+"/pause", PauseOrder{Until: At(until), Reason: reason})
	return err
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, legion, job string) error {
	_, err := change[struct{}](ctx, c, pausePath(legion, job)+"/resume", nil)
	return err
}

func pausePath(legion, job string) string {
	if legion != "" {
		return "/v1/legions/" + url.PathEscape(legion)
	}
	return "/v1/jobs/" + url.PathEscape(job)
}
