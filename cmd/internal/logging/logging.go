package logging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Identifier is the SYSLOG_IDENTIFIER of the daemon's own lines.
const Identifier = "legion-cron"

// syncBound bounds zap's Sync, which a caller without a context makes.
const syncBound = time.Second

// Formats are the values of Config.Format.
var Formats = []string{"auto", "journald", "console", "json"}

// Levels are the values of Config.Level.
var Levels = []string{"debug", "info", "warn", "error"}

// Config says what is logged, how and where.
type Config struct {
	Level  string   // one of Levels; empty: info
	Format string   // one of Formats; empty: auto, that is journald if Output leads there, else console
	Node   string   // on every line; left out of console lines, where it is known
	Output *os.File // for console and JSON; nil: standard error
}

// A Log is a zap logger in front of a queue. It is safe for concurrent use.
type Log struct {
	*zap.Logger
	level  zap.AtomicLevel
	format format
	queue  *queue
}

// A format renders lines where they are logged, and writes them where the
// queue is emptied.
type format interface {
	line(zapcore.Entry, []zapcore.Field) entry
	// output prepares the lines that a run writes: text and time change, the
	// fields do not.
	output(job string, fields []zapcore.Field) func(now time.Time, stream string, line []byte) entry
	write(entry) error
	// away reports whether an error of write means that the same entry can be
	// written later. If not it is dropped.
	away(error) bool
}

// Open starts a log. It must be closed.
func Open(c Config) (*Log, error) {
	if c.Output == nil {
		c.Output = os.Stderr
	}
	level, err := parseLevel(c.Level)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	atomic := zap.NewAtomicLevelAt(level)
	var f format
	switch c.Format {
	case "", "auto":
		if ours, err := journal.StderrIsJournalStream(); err == nil && ours && c.Output == os.Stderr {
			f = newJournald(c.Node, atomic)
		} else {
			f = newConsole(c.Output, c.Node, atomic)
		}
	case "journald":
		if !journal.Enabled() {
			return nil, errors.New("open log: journald does not answer on its socket")
		}
		f = newJournald(c.Node, atomic)
	case "console":
		f = newConsole(c.Output, c.Node, atomic)
	case "json":
		f = newJSON(c.Output, c.Node)
	default:
		return nil, fmt.Errorf("open log: format %q is none of %q", c.Format, Formats)
	}
	return start(f, atomic), nil
}

func start(f format, level zap.AtomicLevel) *Log {
	l := &Log{level: level, format: f}
	l.queue = newQueue(f.write, f.away, func(n uint64) entry {
		return f.line(zapcore.Entry{Level: zap.WarnLevel, Time: time.Now(), Message: "log lines were dropped: they came faster than they could be written"},
			[]zapcore.Field{Event("log-dropped"), zap.Uint64(keyDropped, n)})
	})
	l.Logger = zap.New(&core{AtomicLevel: level, format: f, queue: l.queue})
	return l
}

// SetLevel changes the level of all loggers made of this one.
func (l *Log) SetLevel(level string) error {
	to, err := parseLevel(level)
	if err != nil {
		return err
	}
	l.level.SetLevel(to)
	return nil
}

func parseLevel(level string) (zapcore.Level, error) {
	if level == "" {
		return zap.InfoLevel, nil
	}
	if !slices.Contains(Levels, level) {
		return 0, fmt.Errorf("level %q is none of %q", level, Levels)
	}
	return zapcore.ParseLevel(level)
}

// Dropped counts the lines that were not written, since the start.
func (l *Log) Dropped() uint64 { return l.queue.lost() }

// Close writes what is in the queue, until ctx is done; what is logged from
// now on is dropped. The error says how much was not written.
func (l *Log) Close(ctx context.Context) error {
	if err := l.queue.close(ctx); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

// Output is where the output of one run goes, line by line: under the job's own
// name, with the given fields and the stream on each line. The level does not
// matter: what a job writes is not ours to judge. It is a runner.Sink.
func (l *Log) Output(job string, fields ...zap.Field) *Output {
	return &Output{queue: l.queue, entry: l.format.output(job, slices.Clone(fields))}
}

// An Output is safe for concurrent use.
type Output struct {
	queue *queue
	entry func(now time.Time, stream string, line []byte) entry
}

// Line logs one line of the run. It does not block.
func (o *Output) Line(stream string, line []byte) {
	if o.queue.full(outputShare) {
		o.queue.drop() // before any work is done for it
		return
	}
	o.queue.put(o.entry(time.Now(), stream, line), outputShare)
}

// A core is what zap writes to.
type core struct {
	zap.AtomicLevel
	format format
	queue  *queue
	fields []zapcore.Field
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	with := *c
	with.fields = slices.Concat(c.fields, fields)
	return &with
}

func (c *core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.queue.put(c.format.line(e, slices.Concat(c.fields, fields)), fullShare)
	return nil
}

func (c *core) Sync() error {
	ctx, cancel := context.WithTimeout(context.Background(), syncBound)
	defer cancel()
	return c.queue.flush(ctx)
}
