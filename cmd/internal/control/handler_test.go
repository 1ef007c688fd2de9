package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// backend answers what it was made with, and remembers what it was asked.
type backend struct {
	status  Status
	jobs    []Job
	runs    []Run
	lords   map[string]Lord
	next    Next
	reload  Reload
	scrolls []Scroll
	silent  []string
	err     error

	keyring Keyring
	asked   string
	heard   []ExecNews

	runsQuery RunsQuery
	nextQuery NextQuery
}

func (b *backend) Status(context.Context) (Status, error) { return b.status, b.err }
func (b *backend) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("42")) })
}
func (b *backend) Jobs(context.Context) ([]Job, []string, error) {
	return b.jobs, b.silent, b.err
}
func (b *backend) Listings(context.Context) ([]Listing, error) {
	return []Listing{{Job: Job{Name: "own"}, Definition: "d"}}, b.err
}
func (b *backend) Explain(_ context.Context, job string, own bool) (Explanation, []string, error) {
	if job != "backup" {
		return Explanation{}, nil, NotFound("", "no job %q", job)
	}
	return Explanation{Job: job, Enabled: own}, b.silent, b.err
}
func (b *backend) Story(_ context.Context, run string) (Story, []string, error) {
	return Story{Run: Run{Run: run}}, b.silent, b.err
}
func (b *backend) Tail(_ context.Context, run string) (Tail, error) {
	return Tail{Node: "a", Path: run}, b.err
}
func (b *backend) Reload(context.Context) (Reload, error) { return b.reload, b.err }

func (b *backend) Runs(_ context.Context, q RunsQuery) ([]Run, []string, error) {
	b.runsQuery = q
	return b.runs, b.silent, b.err
}

func (b *backend) Next(_ context.Context, q NextQuery) (Next, error) {
	b.nextQuery = q
	return b.next, b.err
}

func (b *backend) Lord(_ context.Context, legion string) (Lord, error) {
	l, ok := b.lords[legion]
	if !ok {
		return Lord{}, NotFound("legion-cron status lists them", "no such legion %q", legion)
	}
	return l, nil
}

func (b *backend) Scrolls(_ context.Context, legion string) ([]Scroll, error) {
	if legion != "mine" {
		return nil, NotFound("", "no legion %q", legion)
	}
	return b.scrolls, b.err
}

func (b *backend) Leave(context.Context) (Electorate, error) {
	return Electorate{Epoch: 2, Voters: []string{"b"}}, b.err
}

func (b *backend) Forget(_ context.Context, node string) (Electorate, error) {
	return Electorate{Epoch: 3, Voters: []string{"not " + node}}, b.err
}

func (b *backend) Refound(_ context.Context, force bool) (Electorate, error) {
	if !force {
		return Electorate{}, Refused("no", "not so fast")
	}
	return Electorate{Epoch: 4}, b.err
}

func (b *backend) Node() string                  { return "a" }
func (b *backend) Nodes() []string               { return []string{"a"} }
func (b *backend) LordOf(string) (string, error) { return "a", nil }
func (b *backend) Reach(*http.Request, string) (*http.Response, error) {
	return nil, errors.New("there is nobody else")
}

func request(b Backend, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	Handler(b).ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestHandlerCodes(t *testing.T) {
	t.Parallel()
	b := &backend{scrolls: []Scroll{{"a", "lord", "rack 3\n"}}, lords: map[string]Lord{
		"mine":  {Legion: "mine", Lord: "a", Term: 7, Here: true},
		"yours": {Legion: "yours", Lord: "b", Term: 8},
	}}
	for _, c := range []struct {
		method, path string
		code         int
		body         string // a part of it
	}{
		{"GET", "/v1/status", 200, `"legions":[]`},
		{"HEAD", "/v1/status", 200, ``},
		{"GET", "/v1/members", 200, `[]`},
		{"GET", "/v1/jobs", 200, `[]`},
		{"GET", "/v1/jobs?scope=node", 200, `"definition":"d"`},
		{"GET", "/v1/jobs/backup", 200, `"job":"backup"`},
		{"GET", "/v1/jobs/backup?scope=node", 200, `"enabled":true`},
		{"GET", "/v1/jobs/nobodys", 404, `"error":"no job \"nobodys\""`},
		{"GET", "/v1/runs", 200, `[]`},
		{"GET", "/v1/runs/db%2Fbackup@2026-03-01T02:00:00Z", 200, `"run":"db/backup@2026-03-01T02:00:00Z"`},
		{"GET", "/v1/runs/0195?scope=node", 200, `"path":"0195"`},
		{"GET", "/v1/lord/mine", 200, `{"legion":"mine","lord":"a","term":7,"here":true}`},
		{"GET", "/v1/lord/yours", 503, `{"legion":"yours","lord":"b","term":8,"here":false}`},
		{"GET", "/v1/lord/nobodys", 404, `{"error":"no such legion \"nobodys\"","hint":"legion-cron status lists them"}`},
		{"GET", "/v1/legions/mine/scrolls", 200, `[{"node":"a","role":"lord","scroll":"rack 3\n"}]`},
		{"GET", "/v1/legions/nobodys/scrolls", 404, `"error":"no legion \"nobodys\""`},
		{"GET", "/v1/jobs/a%2Fb/next", 200, `"next":[]`},
		{"POST", "/v1/node/reload", 200, `{"changes":[]}`},
		{"POST", "/v1/node/leave", 200, `{"epoch":2,"voters":["b"]}`},
		{"POST", "/v1/members/c/forget", 200, `{"epoch":3,"voters":["not c"]}`},
		{"POST", "/v1/node/refound", 409, `"error":"not so fast"`},
		{"POST", "/v1/node/refound?force=true", 200, `{"epoch":4,"voters":[]}`},
		{"GET", "/v1/node/leave", 405, `"hint":"use POST"`},
		{"GET", "/v1/node/reload", 405, `"hint":"use POST"`},
		{"GET", "/v1/metrics", 200, `42`},
		{"POST", "/v1/metrics", 405, `"hint":"use GET"`},
		{"POST", "/v1/status", 405, `"hint":"use GET"`},
		{"GET", "/v1/nonsense", 404, `"error":"no such resource /v1/nonsense"`},
		{"GET", "/", 404, `"error"`},
		{"GET", "/v1/runs?limit=0", 400, `"error":"bad limit \"0\""`},
		{"GET", "/v1/runs?limit=10001", 400, `10000`},
		{"GET", "/v1/runs?since=tomorrow", 400, `"error":"bad time \"tomorrow\""`},
		{"GET", "/v1/runs?outcome=nonsense", 400, `never started`},
		{"GET", "/v1/jobs/x/next?n=x", 400, `"error":"bad n \"x\""`},
		{"GET", "/v1/jobs/x/next?from=x", 400, `"error":"bad time \"x\""`},
	} {
		w := request(b, c.method, c.path)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s = %d %s, want %d ...%s...", c.method, c.path, w.Code, w.Body, c.code, c.body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: not JSON: %s", c.method, c.path, w.Body)
		}
		if c.code == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow header", c.method, c.path)
		}
	}
}

func TestHandlerErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int
		body string
	}{
		{errors.New("disk on fire"), 500, `{"error":"disk on fire","hint":""}`},
		{Refused("wait", "not now"), 409, `{"error":"not now","hint":"wait"}`},
		{Invalid("", "a.toml:3: unknown key"), 422, `{"error":"a.toml:3: unknown key","hint":""}`},
		{Unavailable("", "starting"), 503, `{"error":"starting","hint":""}`},
	} {
		for _, path := range []string{"/v1/status", "/v1/members", "/v1/jobs", "/v1/runs", "/v1/jobs/x/next"} {
			w := request(&backend{err: c.err}, "GET", path)
			if got := strings.TrimSpace(w.Body.String()); w.Code != c.code || got != c.body {
				t.Errorf("GET %s = %d %s, want %d %s", path, w.Code, got, c.code, c.body)
			}
		}
	}
}

func TestHandlerQueries(t *testing.T) {
	t.Parallel()
	b := &backend{}
	request(b, "GET", "/v1/runs?job=backup&since=2026-03-01T02:00:00%2B01:00&outcome=timed-out&limit=7")
	want := RunsQuery{Job: "backup", Since: time.Date(2026, 3, 1, 1, 0, 0, 0, time.UTC), Outcome: "timed out", Limit: 7}
	if b.runsQuery != want {
		t.Errorf("asked %+v, want %+v", b.runsQuery, want)
	}
	request(b, "GET", "/v1/runs")
	if want := (RunsQuery{Limit: DefaultRuns}); b.runsQuery != want {
		t.Errorf("asked %+v, want %+v", b.runsQuery, want)
	}
	request(b, "GET", "/v1/jobs/a%2Fb/next?n=3&from=2026-03-01T02:00:00Z")
	if want := (NextQuery{Job: "a/b", From: time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC), N: 3}); b.nextQuery != want {
		t.Errorf("asked %+v, want %+v", b.nextQuery, want)
	}
}

func TestParseSince(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90m":                       now.Add(-90 * time.Minute),
		"2d":                        now.Add(-48 * time.Hour),
		"0s":                        now,
		"today":                     now.Add(-12 * time.Hour),
		"yesterday":                 now.Add(-36 * time.Hour),
		"2026-02-28":                now.Add(-36 * time.Hour),
		"2026-02-28T00:00:00+01:00": time.Date(2026, 2, 27, 23, 0, 0, 0, time.UTC),
	} {
		if got, err := ParseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("ParseSince(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1h", "d", "-1d", "1.5d", "70000d", "2026-02-30T00:00:00Z", "2026-02-30", "now", "tomorrow"} {
		if got, err := ParseSince(text, now); err == nil {
			t.Errorf("ParseSince(%q) = %v, want an error", text, got)
		}
	}
}

func TestParsePeriod(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"90m": 90 * time.Minute, "2d": 48 * time.Hour, "0s": 0} {
		if got, err := ParsePeriod(text); err != nil || got != want {
			t.Errorf("ParsePeriod(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "-1h", "-1d", "1.5d", "yesterday", "2026-03-01"} {
		if got, err := ParsePeriod(text); err == nil {
			t.Errorf("ParsePeriod(%q) = %v, want an error", text, got)
		}
	}
}

// TestKeys pins the JSON keys that scripts rely on, in their order.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v    any
		keys string
	}{
		{Status{}, "node incarnation version cluster legions process"},
		{Cluster{}, "id epoch voters size quorum beat_ms lease_ms lord change drift members"},
		{Member{}, "name addr state incarnation version clock_skew_ms"},
		{Legion{}, "name lord term since trusted_ms quorum votes safe agreed succession members last_change voters paused doubles"},
		{Vote{}, "name for term why"},
		{LegionMember{}, "name valor effective fit vote_for role checks reasons"},
		{Check{}, "name state valor"},
		{Change{}, "at from to reason"},
		{Job{}, "name legion schedule next last paused running nodes drift disabled"},
		{Run{}, "run job legion slot attempt term node outcome reason scheduled started ended lateness_ms exit_code signal manual"},
		{Next{}, "spec timezone description next notes"},
		{Lord{}, "legion lord term here"},
		{Error{}, "error hint"},
	} {
		text, err := json.Marshal(c.v)
		if err != nil {
			t.Fatal(err)
		}
		if got := keysOf(t, text); !slices.Equal(got, strings.Fields(c.keys)) {
			t.Errorf("%T has keys %q, want %q", c.v, got, c.keys)
		}
	}
}

// keysOf lists the keys of the outermost object.
func keysOf(t *testing.T, text []byte) []string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// TestEmptyValues: nothing known is null, no entries are [].
func TestEmptyValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v    any
		want string
	}{
		{Job{}, `{"name":"","legion":"","schedule":"","next":null,"last":null,"paused":false,"running":0,"nodes":[],"drift":[],"disabled":false}`},
		{Run{}, `{"run":"","job":"","legion":"","slot":"","attempt":0,"term":0,"node":"","outcome":"","reason":"","scheduled":null,"started":null,"ended":null,"lateness_ms":null,"exit_code":null,"signal":"","manual":false}`},
		{Legion{}, `{"name":"","lord":"","term":0,"since":null,"trusted_ms":0,"quorum":0,"votes":0,"safe":false,"agreed":false,"succession":[],"members":[],"last_change":null,"voters":[],"paused":"","doubles":0}`},
		{At(time.Date(2026, 3, 1, 3, 0, 0, 0, time.FixedZone("", 3600))), `"2026-03-01T02:00:00Z"`},
		{At(time.Date(2026, 3, 1, 2, 0, 0, 1_999_999, time.UTC)), `"2026-03-01T02:00:00.001Z"`},
	} {
		got, err := json.Marshal(c.v)
		if err != nil || string(got) != c.want {
			t.Errorf("%T = %s, %v\nwant %s", c.v, got, err, c.want)
		}
	}
}

func TestTimeRoundTrip(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{{}, time.Date(2026, 3, 1, 2, 0, 0, 5e6, time.UTC)} {
		text, err := json.Marshal(At(at))
		if err != nil {
			t.Fatal(err)
		}
		var back Time
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, At(at)) {
			t.Errorf("%s came back as %v, %v", text, back, err)
		}
	}
	for _, text := range []string{`"yesterday"`, `7`} {
		var back Time
		if err := json.Unmarshal([]byte(text), &back); err == nil {
			t.Errorf("%s decoded to %v", text, back)
		}
	}
}

// FuzzQueries: no query panics, and what is accepted is within its limits.
func FuzzQueries(f *testing.F) {
	f.Add("job=a&since=2d&outcome=failed&limit=3&from=2026-03-01T02:00:00Z&n=9")
	f.Add("since=-9223372036854775808ns&limit=99999999999999999999")
	f.Fuzz(func(t *testing.T, query string) {
		b := &backend{}
		r := httptest.NewRequest(http.MethodGet, "/v1/runs", nil)
		r.URL.RawQuery = query
		Handler(b).ServeHTTP(httptest.NewRecorder(), r)
		if q := b.runsQuery; q.Limit < 0 || q.Limit > MaxRuns {
			t.Errorf("limit %d got through", q.Limit)
		}
		r = httptest.NewRequest(http.MethodGet, "/v1/jobs/x/next", nil)
		r.URL.RawQuery = query
		Handler(b).ServeHTTP(httptest.NewRecorder(), r)
		if q := b.nextQuery; q.N < 0 || q.N > MaxNext {
			t.Errorf("n %d got through", q.N)
		}
	})
}
