package cronspec

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	maxSpec  = 1024 // bytes of one text
	maxSpecs = 100  // texts of one job
)

// Options are what a text does not say itself.
type Options struct {
	Job      string         // hashed by H; the job's name
	Seconds  bool           // six fields, seconds first
	UWSGI    bool           // uWSGI's five integers and nothing else
	Location *time.Location // nil: UTC; from LoadLocation it is shared, and cheaper
	DST      string         // "" or "cron", "skip", "utc"
}

// Kind is the set of things that make a schedule fire.
type Kind uint8

// Clock schedules have a Next. OnLord fires when the node becomes lord, OnStart
// when the agent starts; neither has slots on the clock.
const (
	Clock Kind = 1 << iota
	OnLord
	OnStart
)

// Has reports whether k includes all of other.
func (k Kind) Has(other Kind) bool { return k&other == other }

// A Schedule says when a job is due. It is immutable and safe for concurrent use.
type Schedule interface {
	// Next is the first slot strictly after t, in t's location; the zero time:
	// never again. Slots are whole seconds.
	cron.Schedule
	// Describe says in plain English when the schedule fires, and in which zone.
	Describe() string
	// Kind is what makes it fire; a list of texts may have several.
	Kind() Kind
	// Warnings are about texts that are accepted but hardly meant.
	Warnings() []string
}

// The values of Options.DST.
const (
	dstCron = iota // gap: once after it; fold: once. Wildcards: every real instant
	dstSkip        // as cron, but what falls into a gap does not run
	dstUTC         // the fields are UTC
)

// Parse reads one schedule text. The error is an *Error.
func Parse(spec string, o Options) (Schedule, error) {
	s, f := parse(spec, o)
	if f != nil {
		return nil, &Error{Spec: spec, Offset: min(f.offset, len(spec)), Message: f.message}
	}
	return s, nil
}

// ParseAll reads several texts and fires whenever one of them does; once, if
// several do at the same instant. The error is an *Error and holds the text
// that is at fault.
func ParseAll(specs []string, o Options) (Schedule, error) {
	if len(specs) == 0 {
		return nil, &Error{Message: "no schedule given"}
	}
	if len(specs) > maxSpecs {
		return nil, &Error{Spec: specs[maxSpecs], Message: fmt.Sprintf("more than %d schedules for one job", maxSpecs)}
	}
	all := make(union, len(specs))
	for i, spec := range specs {
		s, err := Parse(spec, o)
		if err != nil {
			return nil, err
		}
		all[i] = s
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

// A token is a piece of the text that knows where it stood.
type token struct {
	text   string
	offset int
}

// split cuts at blanks and tabs.
func split(spec string) []token {
	tokens := make([]token, 0, 8)
	for i := 0; i < len(spec); {
		if spec[i] == ' ' || spec[i] == '\t' {
			i++
			continue
		}
		end := i
		for end < len(spec) && spec[end] != ' ' && spec[end] != '\t' {
			end++
		}
		tokens = append(tokens, token{spec[i:end], i})
		i = end
	}
	return tokens
}

func parse(spec string, o Options) (Schedule, *fault) {
	if len(spec) > maxSpec {
		return nil, faultf(maxSpec, "longer than %d bytes", maxSpec)
	}
	clock := wallClock{zone: zoneOf(o.Location)}
	switch o.DST {
	case "", "cron":
	case "skip":
		clock.dst = dstSkip
	case "utc":
		clock.dst = dstUTC
	default:
		return nil, faultf(0, "dst is %q, not one of cron, skip, utc", o.DST)
	}

	tokens := split(spec)
	if len(tokens) > 0 {
		if name, ok := cutZone(tokens[0].text); ok {
			z, err := loadZone(name)
			if err != nil {
				return nil, faultf(tokens[0].offset+len(tokens[0].text)-len(name), "time zone %q is not known", name)
			}
			clock.zone, tokens = z, tokens[1:]
		}
	}
	if clock.dst == dstUTC {
		clock.zone = utc
	}
	if len(tokens) == 0 {
		return nil, faultf(len(spec), "no schedule given")
	}
	if strings.HasPrefix(tokens[0].text, "@") && !o.UWSGI {
		return descriptor(clock, tokens)
	}
	return clock.fields(tokens, o)
}

func cutZone(text string) (name string, ok bool) {
	if name, ok = strings.CutPrefix(text, "CRON_TZ="); ok {
		return name, true
	}
	return strings.CutPrefix(text, "TZ=")
}

// descriptors are the names that stand for five fields.
var descriptors = map[string]string{
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly":  "0 0 1 * *",
	"@weekly":   "0 0 * * 0",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
}

func descriptor(clock wallClock, tokens []token) (Schedule, *fault) {
	name, args := tokens[0], tokens[1:]
	switch name.text {
	case "@every":
		return parseEvery(name, args)
	case "@at":
		return parseAt(clock, name, args)
	}
	var s Schedule
	switch name.text {
	case "@lord":
		s = trigger(OnLord)
	case "@start":
		s = trigger(OnStart)
	case "@reboot":
		return nil, faultf(name.offset, "@reboot is not known: @start fires when the agent starts, @lord when the node becomes lord")
	default:
		fields, ok := descriptors[name.text]
		if !ok {
			return nil, faultf(name.offset, "%q is not known: yearly, annually, monthly, weekly, daily, midnight, hourly, every, at, lord and start are", name.text)
		}
		var f *fault
		if s, f = clock.fields(split(fields), Options{}); f != nil {
			return nil, f
		}
	}
	if len(args) > 0 {
		return nil, faultf(args[0].offset, "%s takes no argument", name.text)
	}
	return s, nil
}

// An every fires at the multiples of its period, counted from the Unix epoch.
type every int64 // seconds

func parseEvery(name token, args []token) (Schedule, *fault) {
	if len(args) != 1 {
		return nil, faultf(name.offset+len(name.text), "@every takes one duration, as in @every 90s")
	}
	d, err := time.ParseDuration(args[0].text)
	switch {
	case err != nil:
		return nil, faultf(args[0].offset, "not a duration like 90s, 15m or 1h30m")
	case d < time.Second:
		return nil, faultf(args[0].offset, "@every is at least 1s")
	case d%time.Second != 0:
		return nil, faultf(args[0].offset, "@every takes whole seconds")
	}
	return every(d / time.Second), nil
}

func (e every) Next(t time.Time) time.Time {
	now := max(t.Unix(), earliest)
	if now >= latest {
		return time.Time{}
	}
	n := (floorDiv(now, int64(e)) + 1) * int64(e)
	if n > latest {
		return time.Time{}
	}
	return time.Unix(n, 0).In(t.Location())
}

func (e every) Describe() string {
	return "every " + e.period().String() + ", counted from 1970-01-01T00:00:00Z"
}
func (e every) period() time.Duration { return time.Duration(e) * time.Second }
func (every) Kind() Kind              { return Clock }
func (every) Warnings() []string      { return nil }

// An at fires once.
type at struct {
	instant int64
	zone    *zone
}

func parseAt(clock wallClock, name token, args []token) (Schedule, *fault) {
	if len(args) != 1 {
		return nil, faultf(name.offset+len(name.text), "@at takes one time, as in @at 2026-12-24T18:00:00Z")
	}
	arg := args[0]
	if t, err := time.Parse(time.RFC3339, arg.text); err == nil {
		if t.Nanosecond() != 0 {
			return nil, faultf(arg.offset, "@at takes whole seconds")
		}
		return at{t.Unix(), clock.zone}, nil
	}
	t, err := time.Parse("2006-01-02T15:04:05", arg.text)
	if err != nil || t.Nanosecond() != 0 {
		return nil, faultf(arg.offset, "not a time like 2026-12-24T18:00:00Z, or 2026-12-24T18:00:00 in the job's zone")
	}
	// A clock time in the job's zone is a fixed schedule with one label.
	_, month, dom := t.Date()
	clock.fixed = true
	clock.calendar = calendar{
		second: 1 << t.Second(), minute: 1 << t.Minute(), hour: 1 << t.Hour(),
		month: 1 << month, dom: 1 << dom, dow: allWeek, and: true,
	}
	instant, ok := clock.next(t.Unix() - maxOffset)
	if !ok || instant > t.Unix()+maxOffset {
		return nil, faultf(arg.offset, "this time does not exist in %s", clock.zone.location)
	}
	return at{instant, clock.zone}, nil
}

func (a at) Next(t time.Time) time.Time {
	if t.Unix() >= a.instant {
		return time.Time{}
	}
	return time.Unix(a.instant, 0).In(t.Location())
}

func (a at) Describe() string {
	return "once, at " + time.Unix(a.instant, 0).In(a.zone.location).Format(time.RFC3339)
}
func (at) Kind() Kind         { return Clock }
func (at) Warnings() []string { return nil }

// A trigger fires on an event, never by the clock.
type trigger Kind

func (trigger) Next(time.Time) time.Time { return time.Time{} }
func (g trigger) Kind() Kind             { return Kind(g) }
func (trigger) Warnings() []string       { return nil }
func (g trigger) Describe() string {
	if Kind(g) == OnLord {
		return "whenever this node becomes lord"
	}
	return "whenever the agent starts"
}

// A union fires when one of its schedules does.
type union []Schedule

func (u union) Next(t time.Time) (first time.Time) {
	for _, s := range u {
		if next := s.Next(t); !next.IsZero() && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
	return first
}

func (u union) Kind() (k Kind) {
	for _, s := range u {
		k |= s.Kind()
	}
	return k
}

func (u union) Describe() string {
	texts := make([]string, len(u))
	for i, s := range u {
		texts[i] = s.Describe()
	}
	return strings.Join(texts, "; and ")
}

func (u union) Warnings() (all []string) {
	for _, s := range u {
		all = append(all, s.Warnings()...)
	}
	return all
}

// A wallClock fires when the clock on a zone's wall matches a calendar. It
// fills one cache line, and loading it is half of what Next costs.
type wallClock struct {
	calendar calendar
	zone     *zone
	fixed    bool // neither the minute nor the hour field begins with "*"
	dst      uint8
}

func (c *wallClock) Next(t time.Time) time.Time {
	next, ok := c.next(min(max(t.Unix(), earliest), latest))
	if !ok {
		return time.Time{}
	}
	return time.Unix(next, 0).In(t.Location())
}

func (c *wallClock) Kind() Kind         { return Clock }
func (c *wallClock) Warnings() []string { return nil }

// A warned schedule was accepted with warnings.
type warned struct {
	Schedule
	warnings []string
}

func (w warned) Warnings() []string                    { return w.warnings }
func (w warned) notes(after, until time.Time) []string { return notesOf(w.Schedule, after, until) }
