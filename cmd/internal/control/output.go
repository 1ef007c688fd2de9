package control

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
)

// Archivist keeps what runs printed.
type Archivist interface {
	// RunNode names the node that a run is on, or was. It fails with NotFound
	// if nobody knows the run, or it had no node.
	RunNode(ctx context.Context, run string) (string, error)
	// Output returns what copies the output of a run of this node: what there
	// is, or with follow until the run and ctx end. It fails with NotFound if
	// there is none.
	Output(ctx context.Context, run string, follow bool) (func(io.Writer) error, error)
}

// runNode is the node of the run that the path names as {id}.
func runNode(a Archivist) place {
	return func(r *http.Request) (string, error) { return a.RunNode(r.Context(), r.PathValue("id")) }
}

// output is the resource of what a run printed.
func output(rs routes, a Archivist) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write, err := a.Output(r.Context(), r.PathValue("id"), r.URL.Query().Get("follow") == "true")
		if err != nil {
			fail(w, asError(err))
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if flushNow(w) != nil {
			return
		}
		if err := write(flushing{w}); err != nil {
			panic(http.ErrAbortHandler) // so that the reader sees that it is cut off
		}
	})
	rs.mux.Handle("/v1/runs/{id}/output", only(http.MethodGet, at(rs, runNode(a), h)))
}

// flushing sends on each write.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = flushNow(f.w)
	}
	return n, err
}

// Output copies to w what a run printed, on whichever node it was; with
// follow until it ends.
func (c *Client) Output(ctx context.Context, run string, follow bool, w io.Writer) error {
	path := "/v1/runs/" + url.PathEscape(run) + "/output"
	if follow {
		path += "?follow=true"
	}
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, err := decode[struct{}](resp, "to "+path)
		return err
	}
	_, err = io.Copy(w, resp.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return Unavailable("legion-cron members shows who is there", "the output is cut off: its node does not answer any more")
	}
	return err
}
