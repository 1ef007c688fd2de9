package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

const (
	// DefaultSocket is where an agent listens unless told otherwise.
	DefaultSocket = "/run/legion-cron/control.sock"

	dialTimeout = 2 * time.Second
	askTimeout  = 10 * time.Second // a question, with its answer
	doTimeout   = 60 * time.Second // a request that changes something
	maxAnswer   = 64 << 20
)

// Client asks the agent that listens on a unix socket. It is safe for
// concurrent use, and keeps no connection open between requests.
type Client struct {
	// Silent, if set before the first request, is told the names of the nodes
	// that gave no answer where all were asked.
	Silent func(names string)

	path string
	http *http.Client
}

// NewClient returns a client of the agent at path. It does not connect yet.
func NewClient(path string) *Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	return &Client{
		path: path,
		http: &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", path)
			},
		}},
	}
}

// Status asks how things are.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, "/v1/status")
}

// Members asks who is there.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	return ask[[]Member](ctx, c, "/v1/members")
}

// Jobs asks for all jobs the node knows.
func (c *Client) Jobs(ctx context.Context) ([]Job, error) {
	return ask[[]Job](ctx, c, "/v1/jobs")
}

// Listings asks for the jobs in the node's own configuration.
func (c *Client) Listings(ctx context.Context) ([]Listing, error) {
	return ask[[]Listing](ctx, c, ScopedPath("/v1/jobs"))
}

// Next asks when a job is due.
func (c *Client) Next(ctx context.Context, q NextQuery) (Next, error) {
	return ask[Next](ctx, c, withQuery("/v1/jobs/"+url.PathEscape(q.Job)+"/next", q.values()))
}

// Runs asks for runs, newest first.
func (c *Client) Runs(ctx context.Context, q RunsQuery) ([]Run, error) {
	return ask[[]Run](ctx, c, withQuery("/v1/runs", q.values()))
}

// Lord asks who is the lord of a legion. That it is somebody else is an
// answer, not an error; an unknown legion is an *Error with code 404.
func (c *Client) Lord(ctx context.Context, legion string) (Lord, error) {
	return ask[Lord](ctx, c, "/v1/lord/"+url.PathEscape(legion))
}

// Reload has the node read its configuration again.
func (c *Client) Reload(ctx context.Context) (Reload, error) {
	return change[Reload](ctx, c, "/v1/node/reload", nil)
}

func withQuery(path string, v url.Values) string {
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

func ask[T any](ctx context.Context, c *Client, path string) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return do[T](ctx, c, http.MethodGet, path, nil)
}

// change asks for something to be done; body, unless nil, goes with it as JSON.
func change[T any](ctx context.Context, c *Client, path string, body any) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, doTimeout)
	defer cancel()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			var zero T
			return zero, fmt.Errorf("ask %s: %w", path, err)
		}
	}
	return do[T](ctx, c, http.MethodPost, path, text)
}

// do sends one request and decodes the answer: a T, or an *Error.
func do[T any](ctx context.Context, c *Client, method, path string, send []byte) (T, error) {
	var zero T
	resp, err := c.send(ctx, method, path, send)
	if err != nil {
		return zero, err
	}
	defer resp.Body.Close()
	if names := resp.Header.Get(silentHeader); names != "" && c.Silent != nil {
		c.Silent(names)
	}
	v, err := decode[T](resp, "to "+path)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return zero, c.unreachable(err)
	}
	return v, err
}

// send sends one request; body, unless nil, goes with it.
func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://legion-cron"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return resp, nil
}

// unreachable says in one line why there was no answer.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &Error{
			Message: "no agent answers on " + c.path,
			Hint:    "is legion-cron running? --socket PATH or LEGION_CRON_SOCKET says where",
			cause:   ErrNoAgent,
		}
	case errors.Is(err, fs.ErrPermission):
		return &Error{
			Message: "may not open " + c.path,
			Hint:    "be root, the agent's user, or a member of [control] group",
			cause:   fs.ErrPermission,
		}
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return &Error{
			Message: "the agent on " + c.path + " does not answer in time",
			Hint:    "is it stopped or its disk stuck? see journalctl -u legion-cron",
			cause:   context.DeadlineExceeded,
		}
	}
	return fmt.Errorf("ask the agent on %s: %w", c.path, cause(err))
}

// cause strips the layers of an error that only repeat the address.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err
	}
	return err
}
