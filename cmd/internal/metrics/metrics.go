package metrics

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/legion-cron/legion-cron/jobs"
)

const (
	// MaxJobs have series of their own.
	MaxJobs = 1000
	// other is the name of the jobs beyond.
	other = "(other)"

	maxScrapes    = 4 // at once
	scrapeTimeout = 10 * time.Second
)

// outcomes are how runs and slots end.
var outcomes = []jobs.State{
	jobs.Succeeded, jobs.Failed, jobs.TimedOut, jobs.Killed, jobs.Lost, jobs.NeverStarted, jobs.Skipped, jobs.Missed,
}

// causes are the classes of reasons for which a lordship moves, each with what
// the texts of that class begin with.
var causes = []struct{ class, begins string }{
	{"elected", "elected"}, // the first, or after one whose end nobody saw
	{"check", "check"},
	{"lost quorum", "lost the quorum"},
	{"stopped", "stopping"},
	{"hook", "its lord hook"},
	{"yielded", "yield"},
	{"stepped down", "step"},
	{"drained", "drain"},
	{"other", ""},
}

func cause(reason string) string {
	i := slices.IndexFunc(causes, func(c struct{ class, begins string }) bool { return strings.HasPrefix(reason, c.begins) })
	return causes[i].class // the last one fits all
}

// A JobName names a job; Legion is empty for one of the node's own.
type JobName struct{ Legion, Job string }

// Metrics are those of one node.
type Metrics struct {
	registry *prometheus.Registry

	lordChanges  *prometheus.CounterVec
	doubles      *prometheus.CounterVec
	runs         *prometheus.CounterVec
	missed       *prometheus.CounterVec
	lateness     *prometheus.HistogramVec
	duration     *prometheus.HistogramVec
	claims       prometheus.Histogram
	beats        prometheus.Counter
	beatsAnswers prometheus.Counter

	mu      sync.Mutex
	legions []string
	jobs    map[JobName]*last
	names   []JobName // of jobs, in order
}

// last is what became of a job's newest run.
type last struct {
	outcome jobs.State
	ended   time.Time
	success time.Time
}

// New returns the metrics of a node. state is asked on every scrape.
func New(version string, state func() State) *Metrics {
	job := []string{"legion", "job"}
	m := &Metrics{
		registry: prometheus.NewRegistry(), jobs: map[JobName]*last{},
		lordChanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "legion_cron_lord_changes_total", Help: "Changes of lord that this node has seen, by class of reason.",
		}, []string{"legion", "reason"}),
		doubles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "legion_cron_doubles_total", Help: "Runs of a slot that had run already on another side of a split, as this node has found.",
		}, []string{"legion"}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "legion_cron_runs_total", Help: "Runs that ended on this node, and slots for which it decided that there is none.",
		}, append(job, "outcome")),
		missed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "legion_cron_slots_missed_total", Help: "Slots that this node recorded as missed.",
		}, job),
		lateness: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "legion_cron_job_lateness_seconds", Help: "From the slot to the start of its run on this node.",
			Buckets: []float64{.005, .02, .1, .5, 1, 2, 5, 30, 60, 300, 3600},
		}, job),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "legion_cron_job_duration_seconds", Help: "From the start of a run on this node to its end.",
			Buckets: []float64{.1, .5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400},
		}, job),
		claims: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "legion_cron_claims_seconds", Help: "Until a quorum had the decisions about the slots of one instant.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		beats: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "legion_cron_beats_sent_total", Help: "Beats sent to voters, each of which renews all lordships of this node.",
		}),
		beatsAnswers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "legion_cron_beats_answered_total", Help: "Answers to beats.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "legion_cron_build_info", Help: "1, with the version of the agent.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.lordChanges, m.doubles, m.runs, m.missed, m.lateness, m.duration, m.claims, m.beats, m.beatsAnswers,
		&collector{m, state}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics as Prometheus reads them.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout, ErrorHandling: promhttp.ContinueOnError,
	})
}

// Configure says which legions and jobs there are. Their series exist from now
// on; those of what is gone are dropped.
func (m *Metrics) Configure(legions []string, all []JobName) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b JobName) int {
		return cmp.Or(cmp.Compare(a.Legion, b.Legion), cmp.Compare(a.Job, b.Job))
	})
	all = all[:min(len(all), MaxJobs)]
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.legions {
		if !slices.Contains(legions, l) {
			m.lordChanges.DeletePartialMatch(prometheus.Labels{"legion": l})
			m.doubles.DeleteLabelValues(l)
		}
	}
	for _, l := range legions {
		for _, c := range causes {
			m.lordChanges.WithLabelValues(l, c.class)
		}
		m.doubles.WithLabelValues(l)
	}
	for _, j := range m.names {
		if !slices.Contains(all, j) {
			delete(m.jobs, j)
			for _, v := range []interface {
				DeletePartialMatch(prometheus.Labels) int
			}{m.runs, m.missed, m.lateness, m.duration} {
				v.DeletePartialMatch(prometheus.Labels{"legion": j.Legion, "job": j.Job})
			}
		}
	}
	for _, j := range all {
		if m.jobs[j] == nil {
			m.jobs[j] = &last{}
		}
		for _, o := range outcomes {
			m.runs.WithLabelValues(j.Legion, j.Job, o.String())
		}
		m.missed.WithLabelValues(j.Legion, j.Job)
		m.lateness.WithLabelValues(j.Legion, j.Job)
		m.duration.WithLabelValues(j.Legion, j.Job)
	}
	m.legions, m.names = slices.Clone(legions), all
}

// Names reports whether a job has series of its own.
func (m *Metrics) Names(j JobName) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.jobs[j] != nil
}

// LordChanged counts a lordship that has come to another node. A legion that
// is not this node's is not counted.
func (m *Metrics) LordChanged(legion, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.legions, legion) {
		m.lordChanges.WithLabelValues(legion, cause(reason)).Inc()
	}
}

// Doubled counts runs too many of a slot. A legion that is not this node's is
// not counted.
func (m *Metrics) Doubled(legion string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.legions, legion) {
		m.doubles.WithLabelValues(legion).Add(float64(n))
	}
}

// Ended counts runs that ended on this node.
func (m *Metrics) Ended(recs ...jobs.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range recs {
		if !r.State.Settled() || r.Run == "" {
			continue
		}
		m.note(r)
		if r.State == jobs.Lost && !r.Slot.Local() {
			continue // its lord has counted it
		}
		legion, job := m.labels(r)
		m.runs.WithLabelValues(legion, job, r.State.String()).Inc()
		if !r.Started.IsZero() {
			if !r.Manual {
				m.lateness.WithLabelValues(legion, job).Observe(r.Started.Sub(r.Scheduled).Seconds())
			}
			m.duration.WithLabelValues(legion, job).Observe(max(0, r.Ended.Sub(r.Started).Seconds()))
		}
	}
}

// Decided counts, among records that this node has decided about, the slots
// that have no run, and the runs that it has declared lost.
func (m *Metrics) Decided(recs []jobs.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range recs {
		if r.State != jobs.Skipped && r.State != jobs.Missed && r.State != jobs.Lost {
			continue
		}
		legion, job := m.labels(r)
		n := float64(max(1, r.Count))
		m.runs.WithLabelValues(legion, job, r.State.String()).Add(n)
		if r.State == jobs.Missed {
			m.missed.WithLabelValues(legion, job).Add(n)
		}
	}
}

// Heard takes note of runs, of whatever node, for what became of a job last.
func (m *Metrics) Heard(recs []jobs.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range recs {
		if r.State.Settled() && r.Run != "" {
			m.note(r)
		}
	}
}

func (m *Metrics) note(r jobs.Record) {
	j := m.jobs[JobName{r.Slot.Legion, r.Job}]
	if j == nil {
		return
	}
	if !r.Ended.Before(j.ended) {
		j.outcome, j.ended = r.State, r.Ended
	}
	if r.State == jobs.Succeeded && r.Ended.After(j.success) {
		j.success = r.Ended
	}
}

// labels are those of a record's job.
func (m *Metrics) labels(r jobs.Record) (legion, job string) {
	if m.jobs[JobName{r.Slot.Legion, r.Job}] == nil {
		return "", other
	}
	return r.Slot.Legion, r.Job
}

// Claimed is how long a quorum took.
func (m *Metrics) Claimed(took time.Duration) { m.claims.Observe(took.Seconds()) }

// Beat counts a beat that is sent, BeatAnswered an answer.
func (m *Metrics) Beat()         { m.beats.Inc() }
func (m *Metrics) BeatAnswered() { m.beatsAnswers.Inc() }
