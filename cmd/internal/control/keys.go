package control

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
)

// maxKeyBody bounds a request that carries a key, in bytes.
const maxKeyBody = 4 << 10

// Key is one key of the cluster's keyring, by its name. The key itself is
// never shown.
type Key struct {
	ID      string       `json:"id"`      // begins a hash of the key
	Nodes   List[string] `json:"nodes"`   // living members that have it
	Using   List[string] `json:"using"`   // those of them that encrypt with it
	Missing List[string] `json:"missing"` // living members that have it not
}

// Keyring is what the cluster's members have.
type Keyring struct {
	Keys List[Key] `json:"keys"`
	// Away are the known members that nobody can ask now. They have the keys
	// that stand in their files.
	Away List[string] `json:"away"`
	// Changed are the members on which the request changed something.
	Changed List[string] `json:"changed"`
}

// InstallKey asks for a key to be added on every member.
type InstallKey struct {
	Key string `json:"key"` // as a line of a keys file
}

// Locksmith turns the cluster's keys. Each change is made on every living
// member, and may be asked for again if it failed on some.
type Locksmith interface {
	Keyring(ctx context.Context) (Keyring, error)
	InstallKey(ctx context.Context, key string) (Keyring, error)
	// UseKey and RemoveKey take the beginning of an ID, and are refused where
	// they would shut a member out. With force those that are away do not count.
	UseKey(ctx context.Context, id string, force bool) (Keyring, error)
	RemoveKey(ctx context.Context, id string, force bool) (Keyring, error)
}

// keys are the resources of a Locksmith.
func keys(l Locksmith, get, post func(string, func(*http.Request) (any, error))) {
	get("/v1/keys", func(r *http.Request) (any, error) { return l.Keyring(r.Context()) })
	post("/v1/keys/install", func(r *http.Request) (any, error) {
		var k InstallKey
		if err := json.NewDecoder(io.LimitReader(r.Body, maxKeyBody)).Decode(&k); err != nil {
			return nil, BadRequest(`send {"key": "..."}`, "the request holds no key")
		}
		return l.InstallKey(r.Context(), k.Key)
	})
	forced := func(r *http.Request) bool { return r.URL.Query().Get("force") == "true" }
	post("/v1/keys/{id}/use", func(r *http.Request) (any, error) {
		return l.UseKey(r.Context(), r.PathValue("id"), forced(r))
	})
	post("/v1/keys/{id}/remove", func(r *http.Request) (any, error) {
		return l.RemoveKey(r.Context(), r.PathValue("id"), forced(r))
	})
}

// Keyring asks which keys the members have.
func (c *Client) Keyring(ctx context.Context) (Keyring, error) {
	return ask[Keyring](ctx, c, "/v1/keys")
}

// InstallKey adds a key, a line of a keys file, on every living member.
func (c *Client) InstallKey(ctx context.Context, key string) (Keyring, error) {
	return change[Keyring](ctx, c, "/v1/keys/install", InstallKey{Key: key})
}

// UseKey has every living member encrypt with a key.
func (c *Client) UseKey(ctx context.Context, id string, force bool) (Keyring, error) {
	return change[Keyring](ctx, c, turn(id, "use", force), nil)
}

// RemoveKey removes a key from every living member.
func (c *Client) RemoveKey(ctx context.Context, id string, force bool) (Keyring, error) {
	return change[Keyring](ctx, c, turn(id, "remove", force), nil)
}

func turn(id, what string, force bool) string {
	path := "/v1/keys/" + url.PathEscape(id) + "/" + what
	if force {
		path += "?force=true"
	}
	return path
}
