package logging

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// A pair is one field as text.
type pair struct{ key, value string }

// pairs renders fields in their order. A later field takes the place of an
// earlier one of the same name.
func pairs(fields []zapcore.Field) []pair {
	list := make([]pair, 0, len(fields))
	for _, f := range fields {
		switch f.Type {
		case zapcore.SkipType:
			continue
		case zapcore.StringType:
			list = setPair(list, f.Key, f.String)
			continue
		case zapcore.DurationType:
			list = setPair(list, f.Key, short(time.Duration(f.Integer)))
			continue
		}
		m := zapcore.NewMapObjectEncoder()
		f.AddTo(m)
		keys := make([]string, 0, len(m.Fields))
		for key := range m.Fields {
			if !strings.HasSuffix(key, "Verbose") { // zap's stack trace of an error
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		for _, key := range keys {
			list = setPair(list, key, plain(m.Fields[key]))
		}
	}
	return list
}

func setPair(list []pair, key, value string) []pair {
	if i := slices.IndexFunc(list, func(p pair) bool { return p.key == key }); i >= 0 {
		list[i].value = value
		return list
	}
	return append(list, pair{key, value})
}

func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case time.Duration:
		return short(v)
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

// short is a duration with three digits or so: nobody reads nanoseconds.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for abs := d.Abs(); abs/unit >= 1000 && unit < time.Second; {
		unit *= 10
	}
	return d.Round(unit).String()
}

// A wording decides what of the fields is said in a line for people.
type wording struct {
	node  string // whose lines these are
	level zap.AtomicLevel
}

// sentence is the message with the fields that it does not say itself.
func (w wording) sentence(e zapcore.Entry, list []pair) string {
	var b strings.Builder
	if e.LoggerName != "" {
		b.WriteString(e.LoggerName)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	has := func(key string) bool {
		return slices.ContainsFunc(list, func(p pair) bool { return p.key == key })
	}
	slot, all := has(keySlot), w.level.Enabled(zap.DebugLevel)
	for _, p := range list {
		hide := false
		switch p.key {
		case keyEvent, keyOutcome:
			hide = true
		case keyJob, keyLegion:
			hide = slot
		case keyRun:
			hide = e.Level < zap.WarnLevel
		case keyAttempt:
			hide = p.value == "1"
		case keyNode:
			hide = p.value == w.node
		}
		switch {
		case hide && !all:
		case p.key == keyTook:
			b.WriteString(" in " + p.value)
		default:
			b.WriteByte(' ')
			b.WriteString(p.key)
			b.WriteByte('=')
			b.WriteString(quoted(p.value))
		}
	}
	return b.String()
}

// quoted quotes what would not be seen as one value.
func quoted(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// A console writes for eyes.
type console struct {
	wording
	out   *os.File
	color bool
}

// The colours of a terminal: dim, bold and the usual two for trouble.
const (
	plainText = "\x1b[0m"
	dim       = "\x1b[2m"
	bold      = "\x1b[1m"
	red       = "\x1b[31m"
	yellow    = "\x1b[33m"
)

const clock = "15:04:05"

func newConsole(out *os.File, node string, level zap.AtomicLevel) *console {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	return &console{
		wording: wording{node: node, level: level}, out: out,
		color: err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

func (c *console) paint(color, text string) string {
	if !c.color || color == "" {
		return text
	}
	return color + text + plainText
}

func (c *console) line(e zapcore.Entry, fields []zapcore.Field) entry {
	color := ""
	switch {
	case e.Level >= zap.ErrorLevel:
		color = red
	case e.Level == zap.WarnLevel:
		color = yellow
	case e.Level == zap.DebugLevel:
		color = dim
	}
	return entry{text: fmt.Appendf(nil, "%s %s %s\n", c.paint(dim, e.Time.Local().Format(clock)),
		c.paint(color, fmt.Sprintf("%-5s", e.Level)), c.sentence(e, pairs(fields)))}
}

// output shows what a job wrote behind its name: a bar for what it said, an
// exclamation mark for its standard error.
func (c *console) output(job string, _ []zapcore.Field) func(time.Time, string, []byte) entry {
	name := c.paint(bold, job)
	return func(now time.Time, stream string, line []byte) entry {
		sign := "|"
		if stream == "stderr" {
			sign = c.paint(yellow, "!")
		}
		return entry{text: fmt.Appendf(nil, "%s %s %s %s\n", c.paint(dim, now.Local().Format(clock)), name, sign, line)}
	}
}

func (c *console) write(e entry) error {
	_, err := c.out.Write(e.text)
	return err
}

func (c *console) away(error) bool { return false }
