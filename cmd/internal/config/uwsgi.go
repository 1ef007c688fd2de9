package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// The lists in uWSGI's syntax. uWSGI takes what it cannot read for something
// else, in silence; here every such form is refused.
//
//	legion-cron        = ["LEGION MINUTE HOUR DAY MONTH WEEKDAY COMMAND"]   on the lord of LEGION
//	cron               = ["MINUTE HOUR DAY MONTH WEEKDAY COMMAND"]          on this node
//	unique-...         the same, and not while the last one still runs
//	cron2              = ["KEY=VALUE,KEY=VALUE COMMAND"]
//	legion-valor-check = ["LEGION POINTS COMMAND"]                          POINTS off the valor while COMMAND fails
var uwsgiKeys = []struct {
	key            string
	legion, unique bool
}{
	{"legion-cron", true, false},
	{"unique-legion-cron", true, true},
	{"cron", false, false},
	{"unique-cron", false, true},
	{"cron2", false, false},
}

// uwsgiFields are the five integers, in order.
var uwsgiFields = []string{"minute", "hour", "day", "month", "weekday"}

// An entry is one line of such a list, taken apart.
type entry struct {
	at      *item
	legion  string // empty: this node's own
	spec    string // five integers
	unique  bool
	timeout time.Duration
	command string
}

// uwsgiLists takes apart every line of every list. What is wrong with the
// syntax is reported here, what is wrong with the schedule later.
func (l *loader) uwsgiLists(root *table) (entries []entry) {
	for _, k := range uwsgiKeys {
		for _, it := range l.lines(root.find(k.key)) {
			e := entry{at: it, unique: k.unique}
			var err error
			if k.key == "cron2" {
				err = e.options(it.value.(string))
			} else {
				err = e.fields(it.value.(string), k.legion)
			}
			if err != nil {
				l.failed(it, err)
				continue
			}
			entries = append(entries, e)
		}
	}
	return entries
}

// lines are the strings of a list.
func (l *loader) lines(it *item) (good []*item) {
	if it == nil {
		return nil
	}
	if it.list == nil {
		l.fail(it, fmt.Sprintf(`write %s = ["..."]`, it.name), "want a list of strings, got %s", it.kind())
		return nil
	}
	if len(it.list) > maxList {
		l.fail(it, "", "%d elements, at most %d are allowed", len(it.list), maxList)
		return nil
	}
	for _, e := range it.list {
		if _, ok := text(notEmpty)(&l.reader, e); ok {
			good = append(good, e)
		}
	}
	return good
}

var single = regexp.MustCompile(`^-?\d{1,9}$`)

// word cuts the first word off a line.
func word(line string) (first, rest string) {
	line = strings.TrimLeft(line, " \t")
	if i := strings.IndexAny(line, " \t\n"); i >= 0 {
		return line[:i], strings.TrimSpace(line[i:])
	}
	return line, ""
}

// fields reads "LEGION m h d M w COMMAND", or the same without the legion.
func (e *entry) fields(line string, legion bool) error {
	form := "MINUTE HOUR DAY MONTH WEEKDAY COMMAND"
	rest := line
	if legion {
		form = "LEGION " + form
		e.legion, rest = word(rest)
		if single.MatchString(e.legion) {
			return hinted{fmt.Errorf("%q begins with %s instead of a legion", line, e.legion), "want " + form}
		}
		if err := legionName(e.legion); err != nil {
			return err
		}
	}
	var values []string
	for _, field := range uwsgiFields {
		value, after := word(rest)
		if !single.MatchString(value) {
			if len(values) == 0 && !legion && legionName(value) == nil {
				if next, _ := word(after); single.MatchString(next) {
					return hinted{fmt.Errorf("%q begins with %q instead of the minute", line, value), "lines with a legion go into legion-cron"}
				}
			}
			if value != "" && looksLikeField(value) {
				return hinted{fmt.Errorf("%q: the %s %q is not a single integer", line, field, value),
					`uWSGI has no ranges, steps, lists or names; write [[job]] with schedule = "..." for those`}
			}
			return hinted{fmt.Errorf("%q has %d of the five integers before its command", line, len(values)), "want " + form}
		}
		values = append(values, value)
		rest = after
	}
	if rest == "" {
		return hinted{fmt.Errorf("%q has no command", line), "want " + form}
	}
	e.spec, e.command = strings.Join(values, " "), rest
	return nil
}

var (
	cronForm   = regexp.MustCompile(`^[-0-9*,/?#LWH~]+$`)
	namesInUse = regexp.MustCompile(`(?i)^(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)([-,/].*)?$`)
)

// looksLikeField tells a field in crontab's syntax from the first word of a command.
func looksLikeField(v string) bool { return cronForm.MatchString(v) || namesInUse.MatchString(v) }

// cron2Keys are the options of cron2.
var cron2Keys = []string{"minute", "hour", "day", "month", "week", "unique", "harakiri", "legion"}

// options reads "minute=-2,unique=1 COMMAND".
func (e *entry) options(line string) error {
	const form = "want minute=,hour=,day=,month=,week=,unique=,harakiri=,legion= without blanks, then the command"
	opts, command := word(line)
	if !strings.Contains(opts, "=") {
		return hinted{fmt.Errorf("%q does not begin with options", line), form}
	}
	if next, _ := word(command); strings.HasSuffix(opts, ",") || strings.HasPrefix(next, ",") {
		return hinted{fmt.Errorf("%q has a blank among its options", line), form}
	}
	if command == "" {
		return hinted{fmt.Errorf("%q has no command", line), form}
	}
	given := map[string]string{}
	for _, opt := range strings.Split(opts, ",") {
		key, value, ok := strings.Cut(opt, "=")
		if !slices.Contains(cron2Keys, key) {
			hint := form
			if near := nearest(key, cron2Keys); near != "" {
				hint = didYouMean(near)
			}
			return hinted{fmt.Errorf("%q: unknown option %q", line, key), hint}
		}
		if _, twice := given[key]; twice {
			return fmt.Errorf("%q: %s is given twice", line, key)
		}
		if !ok || value == "" {
			return fmt.Errorf("%q: %s has no value", line, key)
		}
		if key != "legion" && !single.MatchString(value) {
			return hinted{fmt.Errorf("%q: %s=%s is not a single integer", line, key, value),
				`uWSGI has no ranges, steps, lists or names; write [[job]] with schedule = "..." for those`}
		}
		given[key] = value
	}
	var values []string
	for _, field := range []string{"minute", "hour", "day", "month", "week"} {
		value, ok := given[field]
		if !ok {
			value = "-1"
		}
		values = append(values, value)
	}
	switch given["unique"] {
	case "", "0":
	case "1":
		e.unique = true
	default:
		return fmt.Errorf("%q: unique is 0 or 1, not %s", line, given["unique"])
	}
	if v := given["harakiri"]; v != "" {
		seconds, _ := strconv.Atoi(v) // at most nine digits
		if seconds < 0 || time.Duration(seconds)*time.Second > maxDelay {
			return fmt.Errorf("%q: harakiri is a number of seconds from 0 to %d, not %s", line, maxDelay/time.Second, v)
		}
		e.timeout = time.Duration(seconds) * time.Second
	}
	if e.legion = given["legion"]; e.legion != "" {
		if err := legionName(e.legion); err != nil {
			return err
		}
	}
	e.spec, e.command = strings.Join(values, " "), command
	return nil
}

// implyLegions declares the legions that entries name, on a node that is
// alone: there one line is a whole configuration. In a cluster a legion that
// one node misspells would have a lord of its own.
func (l *loader) implyLegions(entries []entry) {
	if l.config.Cluster != nil {
		return
	}
	for _, e := range entries {
		if _, declared := l.config.Legions[e.legion]; e.legion != "" && !declared {
			g := defaultLegion(e.legion)
			g.Implicit = true
			l.config.Legions[e.legion] = g
		}
	}
}

// uwsgiJobs makes jobs of the entries. A name is the command's own; those that
// would share one all get a hash of what they are, so that no name depends on
// the order of the lines.
func (l *loader) uwsgiJobs(entries []entry) {
	same := map[string]string{} // by hash
	uses := map[string]int{}    // by plain name
	for _, e := range entries {
		uses[e.name()]++
	}
	for _, e := range entries {
		j := defaultJob()
		j.Source = e.at.place()
		j.Dialect = jobs.UWSGI
		j.Legion, j.Command, j.Timeout = e.legion, e.command, e.timeout
		j.Overlap = jobs.OverlapAllow
		if e.unique {
			j.Overlap = jobs.OverlapSkip
		}
		if first, twice := same[e.hash()]; twice {
			l.fail(e.at, "first at "+first+"; give one a [[job]] with a name of its own if both are meant", "the same entry again")
			continue
		}
		same[e.hash()] = j.Source
		j.Name = e.name()
		if _, taken := l.jobNames[j.Name]; taken || uses[j.Name] > 1 {
			j.Name += "-" + e.hash()
		}
		if first, taken := l.jobNames[j.Name]; taken {
			l.fail(e.at, "first at "+first, "a second job of the name %q", j.Name)
		}
		l.jobNames[j.Name] = j.Source
		if e.legion != "" {
			l.knownLegion(e.at, e.legion)
		}
		l.schedule(e.at, e.spec, &j)
		l.config.Jobs = append(l.config.Jobs, j)
	}
}

var (
	assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

const hashedName = 48 // bytes of a command's name, so that its hash fits beside it

// name is the base name of the command, as far as it can be a job's name.
func (e *entry) name() string { return commandName(e.command) }

func commandName(command string) string {
	first, rest := word(command)
	for assignment.MatchString(first) && rest != "" {
		first, rest = word(rest)
	}
	v := strings.Trim(notInNames.ReplaceAllString(path.Base(first), "-"), "-.")
	if v == "" {
		v = "command"
	}
	return v[:min(len(v), hashedName)]
}

// hash tells entries apart that run the same command.
func (e *entry) hash() string { return shortHash(e.legion, e.spec, e.command) }

func shortHash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:4])
}

// valorChecks reads "LEGION POINTS COMMAND".
func (l *loader) valorChecks(it *item) {
	const form = "want LEGION POINTS COMMAND"
	taken := map[string]bool{}
	for _, c := range l.config.Checks {
		taken[c.Name] = true
	}
	for _, it := range l.lines(it) {
		line := it.value.(string)
		legion, rest := word(line)
		points, command := word(rest)
		n, err := strconv.Atoi(points)
		switch {
		case !single.MatchString(points) || err != nil || single.MatchString(legion):
			l.fail(it, form, "%q does not say which legion loses how many points", line)
			continue
		case n < 1 || n > MaxValor:
			l.fail(it, "", "%q: the points are 1 to %d", line, MaxValor)
			continue
		case command == "":
			l.fail(it, form, "%q has no command", line)
			continue
		}
		l.knownLegion(it, legion)
		c := defaultCheck()
		c.Name = commandName(command) + "-" + shortHash(legion, points, command)
		c.Legions = []string{legion}
		c.Kind = "exec"
		c.Command = command
		c.Timeout = c.Interval
		c.Valor = -n
		c.Source = it.place()
		if taken[c.Name] {
			l.fail(it, "", "the same entry again")
			continue
		}
		taken[c.Name] = true
		l.config.Checks = append(l.config.Checks, c)
	}
}
