package daemon_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// sample reads one sample of the node's metrics; false: there is none.
func (n *node) sample(name string) (float64, bool) {
	n.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(filepath.Dir(n.path), "sock"))
	}}}
	resp, err := client.Get("http://node/v1/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		n.t.Fatalf("status %d, %v: %s", resp.StatusCode, err, b)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return v, true
		}
	}
	return 0, false
}

// What a node does shows in its metrics, and what it did before its restart in
// those that speak of the past.
func TestMetrics(t *testing.T) {
	dir := shortDir(t)
	text := single + `
[[job]]
name = "good"
legion = "foobar"
schedule = "@every 1s"
command = "true"
[[job]]
name = "bad"
schedule = "@every 1s"
command = "false"
[[job]]
name = "off"
schedule = "@every 1s"
command = "true"
enabled = false
[[check]]
name = "load"
kind = "load"
max_load = 10000
valor = 5
`
	n := startNode(t, dir, text)
	if v, ok := n.sample(`legion_cron_runs_total{job="good",legion="foobar",outcome="lost"}`); !ok || v != 0 {
		t.Errorf("a series of what has never happened: %v %v, want 0", v, ok)
	}
	above := func(name string, least float64) {
		t.Helper()
		lab.Eventually(t, 15*time.Second, name, func() bool { v, _ := n.sample(name); return v >= least })
	}
	began := float64(time.Now().Add(-time.Minute).Unix())
	above(`legion_cron_runs_total{job="good",legion="foobar",outcome="succeeded"}`, 2)
	above(`legion_cron_runs_total{job="bad",legion="",outcome="failed"}`, 2)
	above(`legion_cron_runs_total{job="off",legion="",outcome="skipped"}`, 1)
	above(`legion_cron_job_lateness_seconds_count{job="good",legion="foobar"}`, 2)
	above(`legion_cron_job_duration_seconds_count{job="bad",legion=""}`, 2)
	above(`legion_cron_job_last_outcome{job="bad",legion="",outcome="failed"}`, 1)
	above(`legion_cron_job_last_success_timestamp_seconds{job="good",legion="foobar"}`, began)
	above(`legion_cron_job_next_run_timestamp_seconds{job="good",legion="foobar"}`, began)
	above(`legion_cron_claims_seconds_count`, 2)
	above(`legion_cron_is_lord{legion="foobar"}`, 1)
	above(`legion_cron_term{legion="foobar"}`, 1)
	above(`legion_cron_trusted_seconds{legion="foobar"}`, 0.01)
	above(`legion_cron_effective_valor{legion="foobar"}`, 105)
	above(`legion_cron_check_state{check="load",state="passing"}`, 1)
	above(`legion_cron_lord_changes_total{legion="foobar",reason="elected"}`, 1)
	above(`legion_cron_members{state="alive"}`, 1)
	above(`legion_cron_beats_sent_total`, 2)
	above(`legion_cron_beats_answered_total`, 2)
	n.stop()

	n = startNode(t, dir, strings.ReplaceAll(text, "@every 1s", "@yearly"))
	above(`legion_cron_job_last_success_timestamp_seconds{job="good",legion="foobar"}`, began)
	above(`legion_cron_job_last_outcome{job="bad",legion="",outcome="failed"}`, 1)
	if v, ok := n.sample(`legion_cron_runs_total{job="good",legion="foobar",outcome="succeeded"}`); !ok || v != 0 {
		t.Errorf("runs_total after the restart: %v %v, want 0", v, ok)
	}
}
