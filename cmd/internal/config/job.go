package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/runner"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

const (
	maxSchedules = 100
	maxArgs      = 1000
	maxRetries   = 100
	maxBackoff   = 10
	maxDelay     = 365 * day // of jitter, timeout, retry_delay, catch_up
	maxGrace     = time.Hour
	minOutput    = runner.MinOutput
	maxOutput    = 1 << 30
)

func (l *loader) jobs(it *item) {
	for _, t := range l.tables(it, "job") {
		l.job(t)
	}
}

func (l *loader) job(t *table) {
	j := defaultJob()
	j.Source = t.at.place()
	l.need(t, "name", read(t, "name", &j.Name, text(name)))
	if read(t, "legion", &j.Legion, text()) && j.Legion != "" {
		l.knownLegion(t.where("legion"), j.Legion)
	}

	// when
	var specs []*item
	l.need(t, "schedule", read(t, "schedule", &specs, oneOrMore(maxSchedules)))
	read(t, "seconds", &j.Seconds, boolean())
	read(t, "timezone", &j.Timezone, optional(text(zone)))
	read(t, "dst", &j.DST, oneOf("cron", "skip", "utc"))
	read(t, "jitter", &j.Jitter, period(0, maxDelay))
	for _, spec := range specs {
		l.schedule(spec, spec.value.(string), &j)
	}

	// what
	l.need(t, "command", l.command(t, &j.Command, &j.Argv))
	read(t, "shell", &j.Shell, text(absolute))
	read(t, "user", &j.User, optional(text(account)))
	read(t, "group", &j.Group, optional(text(account)))
	read(t, "dir", &j.Dir, optional(text(absolute)))
	read(t, "env", &j.Env, dictionary(variable, text()))
	read(t, "env_file", &j.EnvFile, optional(text(absolute)))
	read(t, "umask", &j.Umask, umask())
	read(t, "nice", &j.Nice, integer(-20, 19))
	read(t, "ionice", &j.IONice, text(func(v string) error {
		return acceptable("ionice", runner.Spec{IONice: v})
	}))
	read(t, "limits", &j.Limits, limits)
	read(t, "stdin", &j.Stdin, text())

	// how long, how often
	read(t, "timeout", &j.Timeout, period(0, maxDelay))
	read(t, "stop_signal", &j.StopSignal, stopSignal())
	read(t, "grace", &j.Grace, period(0, maxGrace))
	overlap := read(t, "overlap", &j.Overlap, oneOf(jobs.OverlapSkip, jobs.OverlapQueue, jobs.OverlapQueueAll, jobs.OverlapReplace, jobs.OverlapAllow))
	read(t, "mutex", &j.Mutex, optional(text(name)))
	read(t, "exclusive", &j.Exclusive, boolean())
	read(t, "retries", &j.Retries, integer(0, maxRetries))
	read(t, "retry_delay", &j.RetryDelay, period(0, maxDelay))
	read(t, "backoff", &j.Backoff, decimal(1, maxBackoff))
	read(t, "success_codes", &j.SuccessCodes, list(integer(0, 255)))
	if len(j.SuccessCodes) == 0 {
		t.fail(t.where("success_codes"), "", "must not be empty")
	}

	// and if not
	read(t, "catch_up", &j.CatchUp, catchUp)
	read(t, "catch_up_runs", &j.CatchUpRuns, oneOf(jobs.CatchUpLast, jobs.CatchUpAll))
	read(t, "on_lost", &j.OnLost, oneOf(jobs.OnLostSkip, jobs.OnLostRerun))
	unlord := read(t, "on_unlord", &j.OnUnlord, oneOf(jobs.OnUnlordFinish, jobs.OnUnlordKill))
	if j.Exclusive {
		l.exclusive(t, &j, overlap, unlord)
	}
	read(t, "max_output", &j.MaxOutput, size(minOutput, maxOutput))
	read(t, "notify", &j.Notify, list(l.notifyIn()))
	read(t, "ping_url", &j.PingURL, optional(text(webAddress)))
	read(t, "enabled", &j.Enabled, boolean())
	t.close()

	if first, taken := l.jobNames[j.Name]; taken {
		t.fail(t.where("name"), "first at "+first, "a second job of the name %q", j.Name)
	} else if j.Name != "" {
		l.jobNames[j.Name] = j.Source
	}
	l.config.Jobs = append(l.config.Jobs, j)
}

// need complains about a key that has no default and is not given.
func (l *loader) need(t *table, key string, given bool) {
	if !given {
		t.fail(t.at, "", "%s is missing", key)
	}
}

// exclusive makes the promise whole: at most one run at any moment, anywhere.
func (l *loader) exclusive(t *table, j *jobs.Job, overlap, unlord bool) {
	at := t.where("exclusive")
	if j.Legion == "" {
		t.fail(at, "add legion = ...", "a job that every node runs cannot be exclusive")
	} else if g := l.config.Legions[j.Legion]; g.Unsafe(l.voters()) {
		t.fail(at, "", "not possible in legion %q: its quorum is unsafe", j.Legion)
	}
	if overlap && j.Overlap != jobs.OverlapSkip {
		t.fail(t.where("overlap"), "leave one of them out", "%q contradicts exclusive = true", j.Overlap)
	}
	if unlord && j.OnUnlord != jobs.OnUnlordKill {
		t.fail(t.where("on_unlord"), "leave one of them out", "%q contradicts exclusive = true", j.OnUnlord)
	}
	j.Overlap, j.OnUnlord = jobs.OverlapSkip, jobs.OnUnlordKill
}

// schedule checks one schedule text and adds it to the job.
func (l *loader) schedule(at *item, spec string, j *jobs.Job) {
	zone := j.Timezone
	if zone == "" {
		zone = l.config.Node.Timezone
	}
	s, err := cronspec.Parse(spec, cronspec.Options{
		Job:      j.Name,
		Seconds:  j.Seconds,
		UWSGI:    j.Dialect == jobs.UWSGI,
		Location: location(zone),
		DST:      j.DST,
	})
	if err != nil {
		p := problem(at, "", err.Error())
		var fault *cronspec.Error
		if errors.As(err, &fault) {
			p = problem(at, "", fmt.Sprintf("%q: %s", spec, fault.Message))
			p.Caret = fault.Caret()
		}
		l.problems = append(l.problems, p)
		return
	}
	if s.Kind().Has(cronspec.OnLord) && j.Legion == "" {
		l.fail(at, "add legion = ..., or use @start", "%q needs a legion", spec)
	}
	for _, warning := range s.Warnings() {
		l.warn(at, "", "%q: %s", spec, warning)
	}
	j.Schedules = append(j.Schedules, spec)
}

// oneOrMore is a string or a list of strings, as items that know their lines.
func oneOrMore(most int) parser[[]*item] {
	return func(r *reader, it *item) ([]*item, bool) {
		all := it.list
		if all == nil {
			all = []*item{it}
			if it.value == nil {
				r.fail(it, "", "want a string or a list of strings, got %s", it.kind())
				return nil, false
			}
		}
		if len(all) == 0 {
			r.fail(it, "", "must not be empty")
		}
		if len(all) > most {
			r.fail(it, "", "%d elements, at most %d are allowed", len(all), most)
			return nil, false
		}
		var good []*item
		for _, e := range all {
			if _, ok := text(notEmpty)(r, e); ok {
				good = append(good, e)
			}
		}
		return good, true
	}
}

// command reads a text for the shell, or a list to be run as it is.
func (l *loader) command(t *table, line *string, argv *[]string) (given bool) {
	it := t.find("command")
	if it == nil {
		return false
	}
	if it.list == nil {
		if it.value == nil {
			l.fail(it, "", "want a string or a list of strings, got %s", it.kind())
		} else if v, ok := text(notEmpty)(&l.reader, it); ok {
			*line = v
		}
		return true
	}
	args, ok := list(text())(&l.reader, it)
	switch {
	case !ok:
	case len(args) == 0 || args[0] == "":
		l.fail(it, "", "must not be empty")
	case len(args) > maxArgs:
		l.fail(it, "", "%d elements, at most %d are allowed", len(args), maxArgs)
	default:
		*argv = args
	}
	return true
}

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variable checks the name of an environment variable.
func variable(v string) error {
	if !variableForm.MatchString(v) {
		return errors.New("not a name for an environment variable")
	}
	if v == "LEGION" || strings.HasPrefix(v, "LEGION_") {
		return hinted{errors.New("set by legion-cron itself"), "names that begin with LEGION are the program's own"}
	}
	return nil
}

// acceptable asks the runner about the one setting of s that key names.
func acceptable(key string, s runner.Spec) error {
	s.Command, s.Umask = "true", -1
	if err := s.Check(); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), key+": "))
	}
	return nil
}

// limits is a table of rlimits; a plain number need not be quoted.
func limits(r *reader, it *item) (map[string]string, bool) {
	for _, e := range it.table {
		if n, ok := e.value.(int64); ok {
			e.value = strconv.FormatInt(n, 10)
		}
	}
	all, ok := dictionary(func(string) error { return nil }, text())(r, it)
	if !ok {
		return nil, false
	}
	for _, key := range inOrder(it.table) {
		if err := acceptable("limits", runner.Spec{Limits: map[string]string{key: all[key]}}); err != nil {
			r.fail(it.table[key], "", "%s", strings.TrimPrefix(err.Error(), key+": "))
			ok = false
		}
	}
	return all, ok
}

// umask is octal, and a string: TOML has no 022, and a bare 22 would be 0o26.
func umask() parser[int] {
	return func(r *reader, it *item) (int, bool) {
		if it.value == "" {
			return -1, true
		}
		v, ok := it.value.(string)
		n, err := strconv.ParseUint(v, 8, 16)
		if !ok || err != nil || n > 0o777 {
			r.fail(it, "", `want an octal number in quotes such as "022"`)
			return 0, false
		}
		return int(n), true
	}
}

func stopSignal() parser[string] {
	return parsed("a string", func(v string) (string, error) {
		sig, err := runner.ParseSignal(v)
		if err != nil {
			return "", err
		}
		return runner.SignalName(sig), nil
	})
}

func catchUp(r *reader, it *item) (time.Duration, bool) {
	if it.value == "auto" {
		return jobs.CatchUpDefault, true
	}
	return period(0, maxDelay)(r, it)
}

// notifyIn is the name of a known [[notify]].
func (l *loader) notifyIn() parser[string] {
	return parsed("a string", func(v string) (string, error) {
		var names []string
		for _, n := range l.config.Notify {
			names = append(names, n.Name)
		}
		if slices.Contains(names, v) || l.broken {
			return v, nil
		}
		err := fmt.Errorf("unknown notification %q", v)
		if near := nearest(v, names); near != "" {
			return "", hinted{err, didYouMean(near)}
		}
		return "", hinted{err, "declare it: [[notify]] with that name"}
	})
}
