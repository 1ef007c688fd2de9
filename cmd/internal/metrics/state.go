package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/legion-cron/legion-cron/jobs"
)

// A State is how the node is at this moment.
type State struct {
	Legions []Legion
	Checks  []Check
	Stuck   int // probes that do not come back
	Members map[string]int
	Skews   map[string]time.Duration // of the members' clocks
	Next    map[JobName]time.Time
	Dropped uint64 // messages that could not be read or queued
	Unsaid  uint64 // log lines that were dropped
}

// A Legion is the node's own part in one.
type Legion struct {
	Name      string
	Lord      bool
	Term      uint64
	Trusted   time.Duration // how long the lordship holds by itself
	Effective int           // valor with checks and lordships elsewhere; 0: it does not stand
}

// A Check is one health check: unknown, passing or failing.
type Check struct{ Name, State string }

var checkStates = []string{"unknown", "passing", "failing"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("legion_cron_"+name, help, labels, nil)
}

var (
	descLord      = desc("is_lord", "1 on the lord of the legion.", "legion")
	descTerm      = desc("term", "The newest term that this node knows of.", "legion")
	descTrusted   = desc("trusted_seconds", "How long this node's lordship holds without another answer; 0 elsewhere.", "legion")
	descEffective = desc("effective_valor", "This node's valor with its checks and the lordships it holds elsewhere; 0: it does not stand.", "legion")
	descCheck     = desc("check_state", "1 for the state that this node's check is in.", "check", "state")
	descStuck     = desc("checks_stuck", "Probes of checks that do not come back.")
	descMembers   = desc("members", "Nodes of the cluster, as this one sees them.", "state")
	descSkew      = desc("clock_skew_seconds", "A node's wall clock minus this one's.", "member")
	descSuccess   = desc("job_last_success_timestamp_seconds", "When the newest successful run known here ended; 0: never.", "legion", "job")
	descOutcome   = desc("job_last_outcome", "1 for the outcome of the newest run known here.", "legion", "job", "outcome")
	descNext      = desc("job_next_run_timestamp_seconds", "When the job is due next, wherever it will run; 0: never.", "legion", "job")
	descDropped   = desc("messages_dropped_total", "Messages of other nodes that could not be read or queued.")
	descUnsaid    = desc("log_lines_dropped_total", "Log lines that could not be written.")
)

// collector turns a State into samples.
type collector struct {
	metrics *Metrics
	state   func() State
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descLord, descTerm, descTrusted, descEffective, descCheck, descStuck, descMembers, descSkew,
		descSuccess, descOutcome, descNext, descDropped, descUnsaid,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.state()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, l := range s.Legions {
		gauge(descLord, truth(l.Lord), l.Name)
		gauge(descTerm, float64(l.Term), l.Name)
		gauge(descTrusted, l.Trusted.Seconds(), l.Name)
		gauge(descEffective, float64(l.Effective), l.Name)
	}
	for _, check := range s.Checks {
		for _, state := range checkStates {
			gauge(descCheck, truth(check.State == state), check.Name, state)
		}
	}
	gauge(descStuck, float64(s.Stuck))
	for state, n := range s.Members {
		gauge(descMembers, float64(n), state)
	}
	for name, skew := range s.Skews {
		gauge(descSkew, skew.Seconds(), name)
	}
	for j, l := range c.metrics.lasts() {
		gauge(descSuccess, unix(l.success), j.Legion, j.Job)
		for _, o := range outcomes {
			if o != jobs.Skipped && o != jobs.Missed {
				gauge(descOutcome, truth(l.outcome == o), j.Legion, j.Job, o.String())
			}
		}
		gauge(descNext, unix(s.Next[j]), j.Legion, j.Job)
	}
	to <- prometheus.MustNewConstMetric(descDropped, prometheus.CounterValue, float64(s.Dropped))
	to <- prometheus.MustNewConstMetric(descUnsaid, prometheus.CounterValue, float64(s.Unsaid))
}

func (m *Metrics) lasts() map[JobName]last {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[JobName]last, len(m.jobs))
	for name, l := range m.jobs {
		all[name] = *l
	}
	return all
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
