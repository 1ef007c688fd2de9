package daemon

import (
	"testing"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/jobs"
)

// TestKiller: a run is ended by the node that it is on. One that waits is nowhere:
// whoever is lord when its turn comes would start it.
func TestKiller(t *testing.T) {
	t.Parallel()
	lordOf := func(string) (string, error) { return "lord", nil }
	for _, c := range []struct {
		legion, node string
		state        jobs.State
		want         string
	}{
		{"g", "n1", jobs.Running, "n1"},
		{"g", "away", jobs.Running, "away"},
		{"g", "n1", jobs.Queued, "lord"},
		{"", "n1", jobs.Queued, "n1"},
		{"g", "n1", jobs.Failed, "n1"}, // which says that it has ended
		{"g", "away", jobs.Failed, ""},
		{"g", "", jobs.Skipped, ""},
	} {
		rec := jobs.Record{Slot: jobs.Slot{Legion: c.legion, Job: "j"}, Node: c.node, State: c.state, Run: "r"}
		got, err := killer(rec, []string{"n1", "lord"}, lordOf)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%v on %q: %q, %v", c.state, c.node, got, err)
		}
	}
	none := func(string) (string, error) { return "", control.Unavailable("", "g has no lord") }
	if _, err := killer(jobs.Record{Slot: jobs.Slot{Legion: "g"}, State: jobs.Queued}, nil, none); err == nil {
		t.Error("without a lord nobody says that it was killed")
	}
}
