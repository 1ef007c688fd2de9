package metrics

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/legion-cron/legion-cron/jobs"
)

// scrape returns the samples, each by its name with labels.
func scrape(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	all := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		if name, value, ok := cutLast(strings.TrimSpace(line)); ok && !strings.HasPrefix(line, "#") {
			all[name] = value
		}
	}
	return all
}

func cutLast(line string) (name, value string, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return "", "", false
	}
	return line[:i], line[i+1:], true
}

// expect compares some of the samples; "none" says that there must be none.
func expect(t *testing.T, m *Metrics, want map[string]string) {
	t.Helper()
	all := scrape(t, m)
	for name, value := range want {
		got, ok := all[name]
		if !ok {
			got = "none"
		}
		if got != value {
			t.Errorf("%s is %s, want %s", name, got, value)
		}
	}
}

func at(seconds float64) time.Time {
	return time.UnixMilli(1_800_000_000_000).Add(time.Duration(seconds * float64(time.Second)))
}

func record(job string, state jobs.State, change ...func(*jobs.Record)) jobs.Record {
	r := jobs.Record{
		Slot: jobs.Slot{Legion: "foobar", Job: job}, Run: "r1", State: state,
		Scheduled: at(0), Started: at(0.25), Ended: at(2.25),
	}
	for _, f := range change {
		f(&r)
	}
	return r
}

func unrun(r *jobs.Record) { r.Run, r.Started = "", time.Time{} }

// Everything is there with 0 before anything has happened, and lint is content.
func TestZero(t *testing.T) {
	m := New("1.2.3", func() State {
		return State{
			Legions: []Legion{{Name: "foobar"}}, Checks: []Check{{"redis", "unknown"}},
			Members: map[string]int{"alive": 1, "dead": 0}, Skews: map[string]time.Duration{"n2": -1500 * time.Millisecond},
			Next: map[JobName]time.Time{{"foobar", "backup"}: at(60)},
		}
	})
	m.Configure([]string{"foobar"}, []JobName{{"foobar", "backup"}, {"", "local"}})
	want := map[string]string{
		`legion_cron_build_info{version="1.2.3"}`:                                      "1",
		`legion_cron_is_lord{legion="foobar"}`:                                         "0",
		`legion_cron_term{legion="foobar"}`:                                            "0",
		`legion_cron_trusted_seconds{legion="foobar"}`:                                 "0",
		`legion_cron_effective_valor{legion="foobar"}`:                                 "0",
		`legion_cron_lord_changes_total{legion="foobar",reason="check"}`:               "0",
		`legion_cron_doubles_total{legion="foobar"}`:                                   "0",
		`legion_cron_check_state{check="redis",state="unknown"}`:                       "1",
		`legion_cron_check_state{check="redis",state="failing"}`:                       "0",
		`legion_cron_checks_stuck`:                                                     "0",
		`legion_cron_members{state="dead"}`:                                            "0",
		`legion_cron_clock_skew_seconds{member="n2"}`:                                  "-1.5",
		`legion_cron_job_last_success_timestamp_seconds{job="backup",legion="foobar"}`: "0",
		`legion_cron_job_last_outcome{job="backup",legion="foobar",outcome="failed"}`:  "0",
		`legion_cron_job_next_run_timestamp_seconds{job="backup",legion="foobar"}`:     "1.80000006e+09",
		`legion_cron_job_next_run_timestamp_seconds{job="local",legion=""}`:            "0",
		`legion_cron_job_lateness_seconds_count{job="backup",legion="foobar"}`:         "0",
		`legion_cron_job_duration_seconds_bucket{job="local",legion="",le="+Inf"}`:     "0",
		`legion_cron_runs_total{job="backup",legion="foobar",outcome="timed out"}`:     "0",
		`legion_cron_runs_total{job="local",legion="",outcome="missed"}`:               "0",
		`legion_cron_slots_missed_total{job="backup",legion="foobar"}`:                 "0",
		`legion_cron_claims_seconds_count`:                                             "0",
		`legion_cron_beats_sent_total`:                                                 "0",
		`legion_cron_beats_answered_total`:                                             "0",
		`legion_cron_messages_dropped_total`:                                           "0",
		`legion_cron_log_lines_dropped_total`:                                          "0",
	}
	expect(t, m, want)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/metrics", nil))
	problems, err := promlint.New(w.Body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestRuns(t *testing.T) {
	m := New("test", func() State { return State{} })
	m.Configure([]string{"foobar"}, []JobName{{"foobar", "backup"}})
	later := func(r *jobs.Record) { r.Ended = at(100) }
	m.Ended(
		record("backup", jobs.Succeeded),
		record("backup", jobs.Failed, later),
		record("backup", jobs.Succeeded, func(r *jobs.Record) { r.Manual, r.Ended = true, at(3.25) }),
		record("backup", jobs.Running), // not over
		record("backup", jobs.Lost),    // its lord's to count
		record("unknown", jobs.Succeeded),
	)
	m.Decided([]jobs.Record{
		record("backup", jobs.Claimed),
		record("backup", jobs.Lost),
		record("backup", jobs.Skipped, unrun),
		record("backup", jobs.Missed, unrun, func(r *jobs.Record) { r.Count = 7 }),
	})
	m.Heard([]jobs.Record{record("backup", jobs.Succeeded, func(r *jobs.Record) { r.Ended = at(50) })}) // elsewhere
	m.Claimed(3 * time.Millisecond)
	m.Beat()
	m.BeatAnswered()
	const labels = `{job="backup",legion="foobar"`
	expect(t, m, map[string]string{
		`legion_cron_runs_total` + labels + `,outcome="succeeded"}`:           "2",
		`legion_cron_runs_total` + labels + `,outcome="failed"}`:              "1",
		`legion_cron_runs_total` + labels + `,outcome="lost"}`:                "1",
		`legion_cron_runs_total` + labels + `,outcome="skipped"}`:             "1",
		`legion_cron_runs_total` + labels + `,outcome="missed"}`:              "7",
		`legion_cron_runs_total{job="(other)",legion="",outcome="succeeded"}`: "1",
		`legion_cron_slots_missed_total` + labels + `}`:                       "7",
		`legion_cron_job_lateness_seconds_count` + labels + `}`:               "2", // not the manual one
		`legion_cron_job_lateness_seconds_sum` + labels + `}`:                 "0.5",
		`legion_cron_job_duration_seconds_sum` + labels + `}`:                 fmt.Sprint(2 + 99.75 + 3),
		`legion_cron_job_last_success_timestamp_seconds` + labels + `}`:       "1.80000005e+09",
		`legion_cron_job_last_outcome` + labels + `,outcome="failed"}`:        "1",
		`legion_cron_job_last_outcome` + labels + `,outcome="succeeded"}`:     "0",
		`legion_cron_claims_seconds_bucket{le="0.005"}`:                       "1",
		`legion_cron_beats_sent_total`:                                        "1",
		`legion_cron_beats_answered_total`:                                    "1",
	})

	// What is gone from the configuration is gone; what stays keeps its count.
	m.Configure([]string{"foobar", "new"}, []JobName{{"foobar", "other"}, {"foobar", "backup"}})
	expect(t, m, map[string]string{
		`legion_cron_runs_total` + labels + `,outcome="missed"}`:               "7",
		`legion_cron_runs_total{job="other",legion="foobar",outcome="missed"}`: "0",
		`legion_cron_lord_changes_total{legion="new",reason="elected"}`:        "0",
	})
	m.Configure([]string{"new"}, []JobName{{"foobar", "other"}})
	expect(t, m, map[string]string{
		`legion_cron_runs_total` + labels + `,outcome="missed"}`:               "none",
		`legion_cron_job_last_outcome` + labels + `,outcome="failed"}`:         "none",
		`legion_cron_lord_changes_total{legion="foobar",reason="elected"}`:     "none",
		`legion_cron_doubles_total{legion="foobar"}`:                           "none",
		`legion_cron_runs_total{job="other",legion="foobar",outcome="missed"}`: "0",
	})
}

func TestLordChanges(t *testing.T) {
	m := New("test", func() State { return State{} })
	m.Configure([]string{"foobar"}, nil)
	for _, reason := range []string{"elected", "check redis is failing (required): gone", "checks leave nothing of its valor", "never heard of"} {
		m.LordChanged("foobar", reason)
		m.LordChanged("not ours", reason)
	}
	m.Doubled("foobar", 2)
	m.Doubled("not ours", 1)
	expect(t, m, map[string]string{
		`legion_cron_lord_changes_total{legion="foobar",reason="elected"}`:   "1",
		`legion_cron_lord_changes_total{legion="foobar",reason="check"}`:     "2",
		`legion_cron_lord_changes_total{legion="foobar",reason="other"}`:     "1",
		`legion_cron_lord_changes_total{legion="not ours",reason="elected"}`: "none",
		`legion_cron_doubles_total{legion="foobar"}`:                         "2",
		`legion_cron_doubles_total{legion="not ours"}`:                       "none",
	})
}

// Beyond MaxJobs there is one name for all.
func TestManyJobs(t *testing.T) {
	var all []JobName
	for i := range MaxJobs + 10 {
		all = append(all, JobName{"foobar", fmt.Sprintf("job%04d", i)})
	}
	m := New("test", func() State { return State{} })
	m.Configure(nil, all)
	m.Ended(record("job0000", jobs.Succeeded), record("job1000", jobs.Succeeded), record("job1009", jobs.Succeeded))
	expect(t, m, map[string]string{
		`legion_cron_runs_total{job="job0000",legion="foobar",outcome="succeeded"}`: "1",
		`legion_cron_runs_total{job="job0999",legion="foobar",outcome="succeeded"}`: "0",
		`legion_cron_runs_total{job="job1000",legion="foobar",outcome="succeeded"}`: "none",
		`legion_cron_runs_total{job="(other)",legion="",outcome="succeeded"}`:       "2",
	})
}
