package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// An exec is a conversation over one request, lines of JSON in both
// directions, for as long as the caller's command runs: the connection is how
// the agent knows that its caller lives. It is for this host alone, and the
// command stays with the caller: nobody else is ever told what it is.
//
//	caller                       agent
//	  | ExecAsk   ------------->  |   is the slot claimed? is this the lord?
//	  | <----------  ExecVerdict  |   run, with a run's environment, or do not
//	  | ExecNews{PID} --------->  |
//	  | <------- ExecNews{Signal} |   legion-cron kill
//	  | ExecNews{Ended} ------->  |   or the connection breaks: lost
//	  | <----- ExecNews{Recorded} |

// ExecAsk asks whether a command may be run.
type ExecAsk struct {
	Job        string `json:"job"`
	Definition string `json:"definition"` // a hash of the command
	Slot       Time   `json:"slot"`       // null: on the lord, whenever it is
}

// ExecVerdict answers an ExecAsk.
type ExecVerdict struct {
	Run string       `json:"run"` // empty: do not run the command
	Env List[string] `json:"env"`
	// Unclaimed says that nobody ran the slot, as far as could be found out in
	// time, and why.
	Unclaimed string `json:"unclaimed"`
}

// ExecNews is what becomes of the command.
type ExecNews struct {
	PID      int    `json:"pid,omitempty"`    // it runs
	Failed   string `json:"failed,omitempty"` // it could not be started
	Ended    bool   `json:"ended,omitempty"`
	ExitCode int    `json:"exit_code,omitempty"` // -1: by a signal
	Died     string `json:"died,omitempty"`      // of this signal
	Signal   string `json:"signal,omitempty"`    // to be sent to it
	Recorded bool   `json:"recorded,omitempty"`
}

// Host lets commands run that are the caller's own.
type Host interface {
	// Exec answers an ask by say, once, and if the command is to be run sees it
	// through: news comes until it has ended; the channel is closed when the
	// caller is gone.
	Exec(ctx context.Context, legion string, ask ExecAsk, say func(any) error, news <-chan ExecNews) error
	// Taken reports whether the slot of a job that is not in the configuration
	// is claimed, or a later one. Only the lord knows.
	Taken(ctx context.Context, legion, job string, at time.Time) (bool, error)
}

// Taken says whether a slot is claimed.
type Taken struct {
	Taken bool `json:"taken"`
}

// TakenPath is where the lord of a legion says so.
func TakenPath(legion, job string, at time.Time) string {
	v := url.Values{"job": {job}, "at": {at.UTC().Format(time.RFC3339Nano)}}
	return "/v1/legions/" + url.PathEscape(legion) + "/taken?" + v.Encode()
}

func execs(rs routes, b Host) {
	rs.at(lordOf(rs), http.MethodGet, "/v1/legions/{name}/taken", func(r *http.Request) (any, error) {
		at, err := time.Parse(time.RFC3339, r.URL.Query().Get("at"))
		if err != nil {
			return nil, BadRequest("RFC 3339 like 2026-03-01T02:00:00Z", "bad time %q", r.URL.Query().Get("at"))
		}
		taken, err := b.Taken(r.Context(), r.PathValue("name"), r.URL.Query().Get("job"), at)
		return Taken{taken}, err
	})
	rs.mux.Handle("/v1/legions/{name}/exec", only(http.MethodPost, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, routed := RoutedFrom(r.Context()); routed {
			fail(w, Refused("", "%s may not exec here: only callers on this host", from))
			return
		}
		converse(w, r, b)
	})))
}

// converse reads news beside the backend's Exec.
func converse(w http.ResponseWriter, r *http.Request, b Host) {
	in := json.NewDecoder(r.Body)
	var ask ExecAsk
	if err := in.Decode(&ask); err != nil {
		fail(w, BadRequest("legion-cron exec --help", "decode exec: %v", err))
		return
	}
	rc := http.NewResponseController(w)
	if err := errors.Join(rc.EnableFullDuplex(), rc.SetReadDeadline(time.Time{})); err != nil {
		fail(w, BadRequest("use the unix socket", "exec: %v", err))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	news := make(chan ExecNews)
	done := make(chan struct{})
	go func() { // ends with the body, which the server closes after us
		defer close(done)
		defer close(news)
		defer cancel()
		for {
			var n ExecNews
			if in.Decode(&n) != nil {
				return
			}
			select {
			case news <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	said := false
	say := func(v any) error {
		said = true
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return flushNow(w)
	}
	err := b.Exec(ctx, r.PathValue("name"), ask, say, news)
	if err != nil && !said {
		fail(w, asError(err))
	}
	cancel()
	_ = rc.SetReadDeadline(time.Now()) // or the reader would wait for the caller's next word
	<-done
}

// Exec asks whether a command may be run and, if it may, has run do so, and
// tells the agent what becomes of it. It returns what the agent said; an error
// after that is that the agent could not be told.
func (c *Client) Exec(ctx context.Context, legion string, ask ExecAsk, run func(v ExecVerdict, tell func(ExecNews), signals <-chan string)) (ExecVerdict, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := json.Marshal(ask)
	if err != nil {
		return ExecVerdict{}, fmt.Errorf("ask to exec: %w", err)
	}
	out, more := io.Pipe()
	defer more.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://legion-cron/v1/legions/"+url.PathEscape(legion)+"/exec",
		io.MultiReader(bytes.NewReader(append(first, '\n')), out))
	if err != nil {
		return ExecVerdict{}, fmt.Errorf("ask to exec: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return ExecVerdict{}, c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, err := decode[struct{}](resp, "to exec")
		return ExecVerdict{}, err
	}
	in := json.NewDecoder(resp.Body)
	var v ExecVerdict
	if err := in.Decode(&v); err != nil {
		return v, fmt.Errorf("decode the answer to exec: %w", err)
	}
	if v.Run == "" {
		return v, nil
	}
	signals := make(chan string)
	recorded := make(chan error, 1)
	go func() { // ends with the answer, which ends with ctx at the latest
		for {
			var n ExecNews
			if err := in.Decode(&n); err != nil {
				recorded <- errors.New("the agent is gone")
				return
			}
			switch {
			case n.Recorded:
				recorded <- nil
				return
			case n.Signal != "":
				select {
				case signals <- n.Signal:
				case <-ctx.Done():
				}
			}
		}
	}()
	var told error
	run(v, func(n ExecNews) {
		line, err := json.Marshal(n)
		if err == nil {
			_, err = more.Write(append(line, '\n'))
		}
		told = errors.Join(told, err)
	}, signals)
	if told != nil {
		cancel()
		return v, errors.New("the agent is gone")
	}
	select {
	case err = <-recorded:
	case <-time.After(recordTimeout):
		err = errors.New("the agent does not answer")
	}
	return v, err
}

// recordTimeout is how long a command that has ended waits to be recorded.
const recordTimeout = 5 * time.Second
