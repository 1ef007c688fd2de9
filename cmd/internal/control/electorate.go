package control

import (
	"context"
	"net/http"
	"net/url"
)

// clusterLegion is the built-in legion whose lord changes the electorate.
const clusterLegion = "_cluster"

// Electorate is who votes, after a request that changed it.
type Electorate struct {
	Epoch  uint64       `json:"epoch"`
	Voters List[string] `json:"voters"`
}

// Steward changes who votes. Each method returns when it is done, or with
// Unavailable when it has waited long enough.
type Steward interface {
	// Leave makes this node no voter any more; its agent then stops.
	Leave(ctx context.Context) (Electorate, error)
	// Forget removes a voter that is gone. Only the lord of the cluster can.
	Forget(ctx context.Context, node string) (Electorate, error)
	// Refound makes this node the only voter. It is refused while a quorum of
	// voters is here, unless force says that they are not what they seem.
	Refound(ctx context.Context, force bool) (Electorate, error)
}

// steward are the resources of a Steward.
func steward(b Backend, rs routes) {
	rs.slow(here, "/v1/node/leave", func(r *http.Request) (any, error) { return b.Leave(r.Context()) })
	rs.slow(here, "/v1/node/refound", func(r *http.Request) (any, error) {
		return b.Refound(r.Context(), r.URL.Query().Get("force") == "true")
	})
	lord := func(*http.Request) (string, error) {
		name, err := rs.LordOf(clusterLegion)
		if err != nil {
			return "", Unavailable("try again soon; if a majority of the voters is lost for good: legion-cron refound",
				"nobody can change the electorate now: the cluster has no lord")
		}
		return name, nil
	}
	rs.slow(lord, "/v1/members/{name}/forget", func(r *http.Request) (any, error) {
		return b.Forget(r.Context(), r.PathValue("name"))
	})
}

// Leave makes the node no voter any more, and its agent stops.
func (c *Client) Leave(ctx context.Context) (Electorate, error) {
	return change[Electorate](ctx, c, "/v1/node/leave", nil)
}

// Forget removes a voter that is gone.
func (c *Client) Forget(ctx context.Context, node string) (Electorate, error) {
	return change[Electorate](ctx, c, "/v1/members/"+url.PathEscape(node)+"/forget", nil)
}

// Refound makes the node the only voter.
func (c *Client) Refound(ctx context.Context, force bool) (Electorate, error) {
	path := "/v1/node/refound"
	if force {
		path += "?force=true"
	}
	return change[Electorate](ctx, c, path, nil)
}
