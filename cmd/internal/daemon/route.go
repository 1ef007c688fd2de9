package daemon

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/legion/gossip"
)

// askRequest is the question that carries a request of the control API, or a
// piece of the answer to one; see control.Courier.
const askRequest = 'h'

// call asks a node, this one or another, what a courier wants to know.
func (d *Daemon) call(ctx context.Context, node string, question []byte) ([]byte, error) {
	switch {
	case node == d.name:
		return d.courier.Serve(ctx, d.name, question), nil
	case d.gossip == nil:
		return nil, errors.New("this node has no cluster")
	}
	return d.gossip.Call(ctx, node, append([]byte{askRequest}, question...))
}

// Node implements control.Router.
func (b backend) Node() string { return b.d.name }

// Nodes implements control.Router.
func (b backend) Nodes() []string {
	names := []string{b.d.name}
	for _, n := range b.d.sightings() {
		if n.up {
			names = append(names, n.Name)
		}
	}
	return names
}

// LordOf implements control.Router.
func (b backend) LordOf(name string) (string, error) {
	l, err := b.Lord(context.Background(), name)
	if err != nil {
		return "", err
	}
	if l.Lord == "" {
		return "", control.Unavailable("legion-cron status says why; try again when it has one", "%s has no lord", name)
	}
	return l.Lord, nil
}

// Reach implements control.Router.
func (b backend) Reach(r *http.Request, node string) (*http.Response, error) {
	if b.d.gossip != nil && node != b.d.name && !slices.ContainsFunc(b.d.gossip.Members(), func(m gossip.Member) bool {
		return m.Name == node && !b.d.protocol.dead(m.Incarnation)
	}) {
		if b.d.presence.knows(node) || voterNamed(b.d.protocol.status(), node) {
			return nil, control.Unavailable("only that node can answer; legion-cron members shows who is here", "node %q is away", node)
		}
		return nil, control.NotFound("legion-cron members lists them", "no node %q", node)
	}
	return b.d.courier.Reach(r, node)
}
