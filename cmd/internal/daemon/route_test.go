package daemon_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// get asks an agent over its socket for what the client has no method for.
func (a *agent) get(t *testing.T, path string, into any) (code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", a.socket)
		},
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://x"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// TestAskAnotherNode: each node answers for each other, by name.
func TestAskAnotherNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "[legion.g]\nvalor = VALOR\n")
	c.waitLord("g", 30*time.Second)
	for _, asked := range c.agents {
		for _, meant := range c.agents {
			var s control.Status
			lab.Eventually(t, 10*time.Second, asked.name+" to know "+meant.name, func() bool {
				return asked.get(t, "/v1/status?node="+meant.name, &s) == http.StatusOK
			})
			if s.Node != meant.name {
				t.Errorf("%s answers for %s when asked for %s", asked.name, s.Node, meant.name)
			}
		}
	}
	var e control.Error
	if code := c.agents[0].get(t, "/v1/status?node=nobody", &e); code != http.StatusNotFound || e.Hint == "" {
		t.Errorf("an unknown node: %d %+v", code, e)
	}
}
