package control

import (
	"context"
	"net/http"
	"net/url"
)

// Scroll is what one node says in a legion.
type Scroll struct {
	Node   string `json:"node"`
	Role   string `json:"role"` // as in LegionMember
	Scroll string `json:"scroll"`
}

// Crier tells what the nodes of a legion say.
type Crier interface {
	// Scrolls returns the scrolls of all members, the lord's first. It fails
	// with NotFound if this node knows no such legion.
	Scrolls(ctx context.Context, legion string) ([]Scroll, error)
}

func scrolls(b Backend, rs routes) {
	rs.get("/v1/legions/{name}/scrolls", func(r *http.Request) (any, error) {
		ss, err := b.Scrolls(r.Context(), r.PathValue("name"))
		return List[Scroll](ss), err
	})
}

// Scrolls asks for the scrolls of a legion, the lord's first.
func (c *Client) Scrolls(ctx context.Context, legion string) ([]Scroll, error) {
	return ask[[]Scroll](ctx, c, "/v1/legions/"+url.PathEscape(legion)+"/scrolls")
}
