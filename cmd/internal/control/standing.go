package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// StepDownQuery says how a lord is to step down.
type StepDownQuery struct {
	Legion string
	For    time.Duration // how long it ranks behind all others; 0: a minute
	To     string        // who is to reign; empty: the best that is ready
}

// SteppedDown is what became of stepping down.
type SteppedDown struct {
	Legion string `json:"legion"`
	From   string `json:"from"`
	To     string `json:"to"`   // empty: nobody reigns yet
	Term   uint64 `json:"term"` // of the new lord
	Away   Time   `json:"away"` // until when From ranks behind all others
}

// Drained says whether a node stands back from everything.
type Drained struct {
	Node      string       `json:"node"`
	Drained   bool         `json:"drained"`
	Lordships List[string] `json:"lordships"` // that it still has
}

// Valor is a node's valor in a legion, before checks and load.
type Valor struct {
	Node       string `json:"node"`
	Legion     string `json:"legion"`
	Valor      int    `json:"valor"`
	Configured int    `json:"configured"`
	Set        bool   `json:"set"` // by hand, until it is reset
}

// Marshal moves lordships by hand. What it is told survives a restart.
type Marshal interface {
	// StepDown is asked of the lord. It returns when another reigns, or with
	// Refused if the lord stays.
	StepDown(ctx context.Context, q StepDownQuery) (SteppedDown, error)
	// Drain has this node give up all lordships and take none, or ends that.
	// Unless now is set it hands them to those that are ready.
	Drain(ctx context.Context, drained, now bool) (Drained, error)
	// SetValor overrides this node's valor in a legion; nil ends that.
	SetValor(ctx context.Context, legion string, valor *int) (Valor, error)
}

// marshal are the resources of a Marshal.
func marshal(b Backend, rs routes) {
	rs.slow(lordOf(rs), "/v1/legions/{name}/step-down", func(r *http.Request) (any, error) {
		v := r.URL.Query()
		q := StepDownQuery{Legion: r.PathValue("name"), To: v.Get("to")}
		if text := v.Get("for"); text != "" {
			var err error
			if q.For, err = time.ParseDuration(text); err != nil || q.For < 0 {
				return nil, BadRequest("90s, 10m, 2h", "for=%q is no duration", text)
			}
		}
		return b.StepDown(r.Context(), q)
	})
	rs.slow(here, "/v1/node/drain", func(r *http.Request) (any, error) {
		return b.Drain(r.Context(), true, r.URL.Query().Get("now") == "true")
	})
	rs.post("/v1/node/undrain", func(r *http.Request) (any, error) { return b.Drain(r.Context(), false, false) })
	rs.post("/v1/legions/{name}/valor", func(r *http.Request) (any, error) {
		text := r.URL.Query().Get("valor")
		if text == "" {
			return b.SetValor(r.Context(), r.PathValue("name"), nil)
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, BadRequest("a whole number; leave it out for the one in the configuration", "valor=%q is no number", text)
		}
		return b.SetValor(r.Context(), r.PathValue("name"), &n)
	})
}

// StepDown has the lord of a legion give it up.
func (c *Client) StepDown(ctx context.Context, q StepDownQuery) (SteppedDown, error) {
	v := url.Values{}
	if q.For > 0 {
		v.Set("for", q.For.String())
	}
	if q.To != "" {
		v.Set("to", q.To)
	}
	return change[SteppedDown](ctx, c, withQuery("/v1/legions/"+url.PathEscape(q.Legion)+"/step-down", v), nil)
}

// Drain has a node give up all lordships and take none; node "" is the one
// that is asked.
func (c *Client) Drain(ctx context.Context, node string, now bool) (Drained, error) {
	v := onNode(node)
	if now {
		v.Set("now", "true")
	}
	return change[Drained](ctx, c, withQuery("/v1/node/drain", v), nil)
}

// Undrain ends what Drain began.
func (c *Client) Undrain(ctx context.Context, node string) (Drained, error) {
	return change[Drained](ctx, c, withQuery("/v1/node/undrain", onNode(node)), nil)
}

// SetValor overrides a node's valor in a legion; nil ends that.
func (c *Client) SetValor(ctx context.Context, node, legion string, valor *int) (Valor, error) {
	v := onNode(node)
	if valor != nil {
		v.Set("valor", strconv.Itoa(*valor))
	}
	return change[Valor](ctx, c, withQuery("/v1/legions/"+url.PathEscape(legion)+"/valor", v), nil)
}

// onNode asks for a node other than the one that listens; "": that one.
func onNode(node string) url.Values {
	v := url.Values{}
	if node != "" {
		v.Set("node", node)
	}
	return v
}
