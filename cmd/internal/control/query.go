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
	q := RunsQuery{Job: v.Get("job"), Limit: DefaultRuns}
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
	if text := v.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxRuns {
			return RunsQuery{}, BadRequest("a number from 1 to "+strconv.Itoa(MaxRuns), "bad limit %q", text)
		}
		q.Limit = n
	}
	return q, nil
}

// ParseSince reads a moment as people write it: how long before now (90m, 2d)
// or RFC 3339.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok && err != nil {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 16); err == nil {
			d = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || d < 0 {
		return time.Time{}, BadRequest("a duration like 90m or 2d, or RFC 3339 like 2026-03-01T02:00:00Z", "bad time %q", text)
	}
	return now.Add(-d).UTC(), nil
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
