package control

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultRuns is how many runs an answer holds unless asked otherwise.
	DefaultRuns = 100
	// MaxRuns is how many it holds at most.
	MaxRuns = 10_000
	// DefaultNext is how many instants of a schedule an answer holds unless asked otherwise.
	DefaultNext = 5
	// MaxNext is how many it holds at most.
	MaxNext = 1000
)

// RunsQuery says which runs are wanted. Zero fields do not restrict.
type RunsQuery struct {
	Job     string
	Since   time.Time // scheduled at or after
	Outcome string    // as in Run.Outcome
	Limit   int       // newest first; 1 to MaxRuns
}

// values writes q as a URL query; parseRunsQuery reads it back.
func (q RunsQuery) values() url.Values {
	v := url.Values{}
	if q.Job != "" {
		v.Set("job", q.Job)
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Outcome != "" {
		v.Set("outcome", q.Outcome)
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

func parseRunsQuery(v url.Values, now time.Time) (RunsQuery, error) {
	q := RunsQuery{Job: v.Get("job")}
	if text := v.Get("since"); text != "" {
		since, err := ParseSince(text, now)
		if err != nil {
			return RunsQuery{}, err
		}
		q.Since = since
	}
	if text := v.Get("outcome"); text != "" {
		outcome, err := ParseOutcome(text)
		if err != nil {
			return RunsQuery{}, err
		}
		q.Outcome = outcome
	}
	var err error
	q.Limit, err = parseCount(v, "limit", DefaultRuns, MaxRuns)
	return q, err
}

// NextQuery says which instants of a job are wanted.
type NextQuery struct {
	Job  string
	From time.Time // zero: now
	N    int       // 1 to MaxNext; zero: DefaultNext
}

func (q NextQuery) values() url.Values {
	v := url.Values{}
	if !q.From.IsZero() {
		v.Set("from", q.From.UTC().Format(time.RFC3339Nano))
	}
	if q.N != 0 {
		v.Set("n", strconv.Itoa(q.N))
	}
	return v
}

func parseNextQuery(job string, v url.Values, now time.Time) (NextQuery, error) {
	q := NextQuery{Job: job, From: now.UTC()}
	if text := v.Get("from"); text != "" {
		from, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return NextQuery{}, BadRequest("RFC 3339 like 2026-03-01T02:00:00Z", "bad time %q", text)
		}
		q.From = from.UTC()
	}
	var err error
	q.N, err = parseCount(v, "n", DefaultNext, MaxNext)
	return q, err
}

func parseCount(v url.Values, key string, unset, most int) (int, error) {
	text := v.Get(key)
	if text == "" {
		return unset, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, BadRequest("a number from 1 to "+strconv.Itoa(most), "bad %s %q", key, text)
	}
	return n, nil
}

// ParseSince reads a moment as people write it: how long before now (90m, 2d),
// today, yesterday or a date (their beginnings, in now's zone), or RFC 3339.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		return t.UTC(), nil
	}
	midnight := func(days int) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()-days, 0, 0, 0, 0, now.Location()).UTC()
	}
	switch text {
	case "today":
		return midnight(0), nil
	case "yesterday":
		return midnight(1), nil
	}
	d, err := ParsePeriod(text)
	if err != nil {
		return time.Time{}, BadRequest("a duration like 90m or 2d, today, yesterday, a date, or RFC 3339 like 2026-03-01T02:00:00Z", "bad time %q", text)
	}
	return now.Add(-d).UTC(), nil
}

// ParsePeriod reads a duration of at least 0, as in 90m, or whole days, as in 2d.
func ParsePeriod(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok && err != nil {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 16); err == nil {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || d < 0 {
		return 0, BadRequest("a duration like 90s, 1h30m or 2d", "%q is not a duration", text)
	}
	return d, nil
}

// outcomes are the values of Run.Outcome.
var outcomes = []string{
	"queued", "claimed", "starting", "running",
	"succeeded", "failed", "timed out", "killed", "lost", "never started",
	"skipped", "missed",
}

// ParseOutcome reads an outcome; hyphens stand for spaces.
func ParseOutcome(text string) (string, error) {
	want := strings.ReplaceAll(text, "-", " ")
	if slices.Contains(outcomes, want) {
		return want, nil
	}
	return "", BadRequest("one of "+strings.Join(outcomes, ", "), "unknown outcome %q", text)
}
