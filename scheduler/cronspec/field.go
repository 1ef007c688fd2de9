package cronspec

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// A field is what one of the columns of a text may hold.
type field struct {
	name     string
	min, max int
	hashMax  int // H without a range draws from min to this
	names    []string
}

var (
	secondField = field{name: "second", max: 59, hashMax: 59}
	minuteField = field{name: "minute", max: 59, hashMax: 59}
	hourField   = field{name: "hour", max: 23, hashMax: 23}
	domField    = field{name: "day of month", min: 1, max: 31, hashMax: 28} // a day every month has
	monthField  = field{name: "month", min: 1, max: 12, hashMax: 12, names: []string{
		"", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}}
	dowField = field{name: "day of week", max: 7, hashMax: 6, names: []string{
		"sun", "mon", "tue", "wed", "thu", "fri", "sat"}} // 7 is Sunday as well
)

// fields fills the calendar from five or six columns.
func (c wallClock) fields(tokens []token, o Options) (Schedule, *fault) {
	want := 5
	if o.Seconds && !o.UWSGI {
		want = 6
	}
	uwsgi := o.UWSGI || want == 5 && slices.ContainsFunc(tokens[:min(want, len(tokens))], token.negative)
	switch last := tokens[len(tokens)-1]; {
	case len(tokens) < want:
		return nil, faultf(last.offset+len(last.text), "%d fields, want %d: %s", len(tokens), want, columns(want))
	case len(tokens) == 6 && !o.Seconds && !uwsgi:
		return nil, faultf(tokens[5].offset, "6 fields, want 5: %s; a seconds field, put first, needs seconds = true", columns(want))
	case len(tokens) > want:
		return nil, faultf(tokens[want].offset, "%d fields, want %d: %s", len(tokens), want, columns(want))
	}
	if uwsgi {
		return c.integers(tokens)
	}

	cal := &c.calendar
	p := parser{job: o.Job}
	cal.second = 1
	if o.Seconds {
		cal.second = p.set(&secondField, tokens[0], nil)
		tokens = tokens[1:]
	}
	cal.minute = p.set(&minuteField, tokens[0], nil)
	cal.hour = uint32(p.set(&hourField, tokens[1], nil))
	cal.dom = uint32(p.set(&domField, tokens[2], cal))
	cal.month = uint16(p.set(&monthField, tokens[3], nil))
	dow := p.set(&dowField, tokens[4], cal)
	cal.dow = uint8(dow&allWeek | dow>>7)
	if p.fault != nil {
		return nil, p.fault
	}
	// By spelling, as in cronie: "*/2" and "*,1" count as stars too.
	cal.and = tokens[2].star() || tokens[4].star()
	c.fixed = !tokens[0].star() && !tokens[1].star()
	s, f := c.check(tokens[2])
	if f == nil && len(p.warnings) > 0 {
		return warned{s, p.warnings}, nil
	}
	return s, f
}

func columns(n int) string {
	if n == 6 {
		return "second minute hour day month weekday"
	}
	return "minute hour day month weekday"
}

func (t token) star() bool { return strings.HasPrefix(t.text, "*") }

// negative reports whether the text is a negative integer, which only uWSGI has.
func (t token) negative() bool {
	digits, ok := strings.CutPrefix(t.text, "-")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// surely is an instant after which a schedule that is of any use fires; zones
// keep the rules that hold then for as long as nobody changes them.
var surely = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// check refuses what can never fire. days is the token to blame.
func (c wallClock) check(days token) (Schedule, *fault) {
	if _, ok := c.calendar.next(0); !ok {
		return nil, faultf(days.offset, "never fires: no such day in any month it names")
	}
	lossless := c.fixed && c.dst == dstCron || c.calendar.month == allMonths // clocks do not change every month
	if !lossless {
		if _, ok := c.next(surely); !ok {
			return nil, faultf(days.offset, "never fires: in %s this time is always skipped when the clocks go forward", c.zone.location)
		}
	}
	return &c, nil
}

// integers reads uWSGI's fields: -1 is any, -n any value that n divides.
func (c wallClock) integers(tokens []token) (Schedule, *fault) {
	var sets [5]uint64
	var exact [5]bool
	for i, f := range []*field{&minuteField, &hourField, &domField, &monthField, &dowField} {
		t := tokens[i]
		digits, negative := strings.CutPrefix(t.text, "-")
		n, ok := number(digits)
		switch {
		case !ok:
			return nil, faultf(t.offset, "%s %q: uWSGI's fields are single integers", f.name, t.text)
		case negative && n == 0:
			return nil, faultf(t.offset, "%s -0: -1 is any, -n every value that n divides", f.name)
		case negative:
			for v := f.min; v <= f.hashMax || f == &domField && v <= f.max; v++ {
				if v%n == 0 {
					sets[i] |= 1 << v
				}
			}
			if sets[i] == 0 {
				return nil, faultf(t.offset, "%s %s: no value of %d-%d is a multiple of %d", f.name, t.text, f.min, f.max, n)
			}
		case n < f.min || n > f.max:
			return nil, faultf(t.offset, "%s %d is out of range %d-%d", f.name, n, f.min, f.max)
		default:
			sets[i], exact[i] = 1<<n, true
		}
	}
	c.calendar = calendar{
		second: 1, minute: sets[0], hour: uint32(sets[1]), dom: uint32(sets[2]), month: uint16(sets[3]),
		dow: uint8(sets[4]&allWeek | sets[4]>>7), and: !exact[2] || !exact[4],
	}
	c.fixed = exact[0] && exact[1]
	return c.check(tokens[2])
}

// number reads a short run of digits; longer ones are out of every range.
func number(digits string) (int, bool) {
	if digits == "" || len(digits) > 9 {
		return 0, false
	}
	n := 0
	for _, d := range []byte(digits) {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
	}
	return n, true
}

// A parser reads columns and remembers the first fault.
type parser struct {
	job      string
	fault    *fault
	warnings []string

	field *field
	text  string // what is left of the term
	at    int    // its offset
}

func (p *parser) failf(offset int, format string, args ...any) {
	if p.fault == nil {
		p.fault = faultf(offset, "%s: %s", p.field.name, fmt.Sprintf(format, args...))
	}
}

// set reads one column. The forms that are not plain values (L, W, #) go into
// cal, which is nil for the columns that have none.
func (p *parser) set(f *field, t token, cal *calendar) (set uint64) {
	p.field = f
	at := t.offset
	for rest, more := t.text, true; more; {
		var term string
		term, rest, more = strings.Cut(rest, ",")
		p.text, p.at = term, at
		if term == "" {
			p.failf(at, "a value is missing")
		}
		set |= p.term(cal)
		if p.text != "" {
			p.failf(p.at, "%q is not understood", p.text)
		}
		if p.fault != nil {
			return 0
		}
		at += len(term) + 1
	}
	return set
}

// take consumes prefix if it is next.
func (p *parser) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.text, prefix)
	if ok {
		p.text, p.at = rest, p.at+len(prefix)
	}
	return ok
}

func (p *parser) term(cal *calendar) uint64 {
	f, start := p.field, p.at
	switch {
	case p.take("*"):
		return span(f.min, f.max, p.step(f.min, f.max))
	case strings.HasPrefix(p.text, "H"):
		p.take("H")
		return p.hashed()
	case p.text == "?" || p.text == "~" || strings.Contains(p.text, "~"):
		p.failf(start, "%q is not understood: write * for any value, H for one picked by the job's name", p.text)
		return 0
	case f == &domField && p.take("LW"):
		cal.near |= 1
		return 0
	case f == &domField && p.take("L"):
		back := 0
		if p.take("-") {
			at := p.at
			if back = p.digits(); back < 1 || back > 30 {
				p.failf(at, "L-n counts 1 to 30 days back from the last")
				return 0
			}
		}
		cal.fromEnd |= 1 << back
		return 0
	case f == &dowField && p.text == "L":
		p.failf(start, "which one? satL is the last Saturday of the month")
		return 0
	}

	low := p.value()
	if p.fault != nil {
		return 0
	}
	switch {
	case f == &domField && p.take("W"):
		cal.near |= 1 << low
		return 0
	case f == &dowField && p.take("L"):
		cal.lastDow |= 1 << (low % 7)
		return 0
	case f == &dowField && p.take("#"):
		at := p.at
		k := p.digits()
		if k < 1 || k > 5 {
			p.failf(at, "n#k is the k-th such weekday of the month, k from 1 to 5")
			return 0
		}
		cal.nth[k-1] |= 1 << (low % 7)
		return 0
	}
	if !p.take("-") {
		if strings.HasPrefix(p.text, "/") {
			p.failf(p.at, "a step needs a range: write %d-%d%s or */n", low, f.max, p.text)
		}
		return 1 << low
	}
	high := p.value()
	if f == &dowField && high == 0 && low > 0 {
		high = 7 // sat-sun
	}
	if p.fault == nil && high < low {
		p.failf(start, "the range %d-%d is reversed: write two, %d-%d,%d-%d", low, high, low, f.max, f.min, high)
		return 0
	}
	return span(low, high, p.step(low, high))
}

// hashed is what follows an H: a value, or every n-th one from a value, picked
// by the job's name and the column alone, so that changing one column moves
// nothing in another.
func (p *parser) hashed() uint64 {
	low, high := p.field.min, p.field.hashMax
	if p.take("(") {
		at := p.at
		low = p.value()
		if !p.take("-") {
			p.failf(p.at, "H(a-b) takes a range")
			return 0
		}
		high = p.value()
		if !p.take(")") {
			p.failf(p.at, "the ) of H( is missing")
		}
		if p.fault == nil && high < low {
			p.failf(at, "the range %d-%d is reversed", low, high)
		}
	}
	if p.fault != nil {
		return 0
	}
	width := high - low + 1
	at := p.at
	draw := hash("H "+p.field.name, p.job)
	if !strings.HasPrefix(p.text, "/") {
		return 1 << (low + int(draw%uint64(width)))
	}
	n := p.step(low, math.MaxInt)
	if n > width {
		p.failf(at, "the step %d is larger than the %d values from %d to %d", n, width, low, high)
	}
	if p.fault != nil {
		return 0
	}
	return span(low+int(draw%uint64(n)), high, n)
}

// step reads "/n", or is 1. A step beyond the range leaves only its first value,
// which is what crontab(5) does and nobody means.
func (p *parser) step(low, high int) int {
	if !p.take("/") {
		return 1
	}
	at := p.at
	n := p.digits()
	if p.fault == nil && n == 0 {
		p.failf(at, "the step is 0")
		return 1
	}
	if n > high-low && n > 1 && p.fault == nil {
		p.warnings = append(p.warnings, fmt.Sprintf("%s: the step %d is larger than the range, so only %d matches", p.field.name, n, low))
	}
	return max(n, 1)
}

func (p *parser) digits() int {
	rest := strings.TrimLeft(p.text, "0123456789")
	digits := p.text[:len(p.text)-len(rest)]
	n, ok := number(digits)
	switch {
	case digits == "":
		p.failf(p.at, "a number is missing")
	case !ok:
		p.failf(p.at, "%s is out of range", digits)
	}
	p.text, p.at = rest, p.at+len(digits)
	return n
}

// value reads a number or a name of three letters, and checks its range.
func (p *parser) value() int {
	f, at := p.field, p.at
	letters := strings.IndexFunc(p.text, func(r rune) bool { return !(r|0x20 >= 'a' && r|0x20 <= 'z') })
	if letters < 0 {
		letters = len(p.text)
	}
	if letters == 0 {
		if p.text == "" || p.text[0] < '0' || p.text[0] > '9' {
			if p.text == "" {
				p.failf(at, "a value is missing")
			} else {
				p.failf(at, "%q is not a value", p.text)
			}
			return 0
		}
		n := p.digits()
		if p.fault == nil && (n < f.min || n > f.max) {
			p.failf(at, "%d is out of range %d-%d", n, f.min, f.max)
			return 0
		}
		return n
	}
	word := p.text[:letters]
	if f == &dowField && letters == 4 && word[3] == 'L' {
		word = word[:3] // friL
	}
	if n := slices.Index(f.names, strings.ToLower(word)); n >= 0 {
		p.text, p.at = p.text[len(word):], at+len(word)
		return n
	}
	switch {
	case f.names == nil:
		p.failf(at, "%q is not a number", word)
	default:
		names := f.names[f.min:]
		p.failf(at, "%q is not known: the names are %s to %s, three letters each", word, names[0], names[len(names)-1])
	}
	return 0
}

// span is the set low, low+step, ... up to high.
func span(low, high, step int) (set uint64) {
	if step == 1 {
		return (2<<high - 1) &^ (1<<low - 1)
	}
	for v := low; v <= high; v += step {
		set |= 1 << v
	}
	return set
}

// members are the numbers in a set, in order.
func members(set uint64) (all []int) {
	for ; set != 0; set &= set - 1 {
		all = append(all, bits.TrailingZeros64(set))
	}
	return all
}
