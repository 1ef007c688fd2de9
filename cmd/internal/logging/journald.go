package logging

import (
	"errors"
	"maps"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxField bounds the value of one field, in bytes. Messages are cut there too.
const maxField = 32 << 10

// A journald writes journald's native protocol, with our fields.
type journald struct{ wording }

func newJournald(node string, level zap.AtomicLevel) *journald {
	return &journald{wording{node: node, level: level}}
}

func (j *journald) line(e zapcore.Entry, fields []zapcore.Field) entry {
	list := pairs(fields)
	return entry{
		message:  cut(j.sentence(e, list)),
		priority: priority(e.Level),
		fields:   j.fields(Identifier, e.LoggerName, list),
	}
}

func (j *journald) fields(identifier, logger string, list []pair) map[string]string {
	fields := map[string]string{"SYSLOG_IDENTIFIER": identifier}
	set := func(key, value string) {
		if name := fieldName(key); value != "" && name != "" {
			fields[name] = cut(value)
		}
	}
	set(keyNode, j.node)
	set("logger", logger)
	for _, p := range list {
		set(p.key, p.value)
	}
	return fields
}

// output has the message as the job wrote it, whatever is in it. What a job
// says on its standard error is no error of ours: LEGION_STREAM tells it apart.
func (j *journald) output(job string, fields []zapcore.Field) func(time.Time, string, []byte) entry {
	all := j.fields(job, "", append(pairs(fields), pair{keyJob, job}))
	streams := make(map[string]map[string]string)
	for _, stream := range []string{"stdout", "stderr"} {
		streams[stream] = maps.Clone(all)
		streams[stream][fieldName(keyStream)] = stream
	}
	return func(_ time.Time, stream string, line []byte) entry {
		return entry{message: cut(string(line)), priority: journal.PriInfo, fields: streams[stream]}
	}
}

func (j *journald) write(e entry) error { return journal.Send(e.message, e.priority, e.fields) }

// away: journald is being restarted, and comes back.
func (j *journald) away(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EAGAIN)
}

// fieldName is what a key is called in the journal: LEGION itself, or behind
// LEGION_, in the letters that journald takes.
func fieldName(key string) string {
	if key == keyLegion {
		return "LEGION"
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	const longest = 64 // journald drops the whole line for a longer name
	name = "LEGION_" + name
	return name[:min(len(name), longest)]
}

func cut(s string) string { return s[:min(len(s), maxField)] }

func priority(l zapcore.Level) journal.Priority {
	switch {
	case l <= zap.DebugLevel:
		return journal.PriDebug
	case l == zap.InfoLevel:
		return journal.PriInfo
	case l == zap.WarnLevel:
		return journal.PriWarning
	case l == zap.ErrorLevel:
		return journal.PriErr
	}
	return journal.PriCrit
}
