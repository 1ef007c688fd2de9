package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestMain(m *testing.M) {
	if os.Getenv(insideVar) != "" {
		os.Exit(inside(m))
	}
	goleak.VerifyTestMain(m)
}

// wait is how long a test waits for what must happen.
const wait = 20 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	return ctx
}

// logged returns what a log of the given configuration makes of do, without
// the time that begins each console line.
func logged(t *testing.T, c Config, do func(*Log)) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.Output = f
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	do(l)
	if err := l.Close(bounded(t)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		if c.Format == "console" {
			if _, err := time.Parse(clock, line[:len(clock)]); err != nil {
				t.Errorf("line begins with no time: %q", line)
			}
			line = line[len(clock)+1:]
		}
		text.WriteString(line)
	}
	return text.String()
}

func TestConsole(t *testing.T) {
	t.Parallel()
	run := []zap.Field{
		Event("run-ended"), Legion("foobar"), Job("tick"), Slot("foobar/tick@2026-03-01T02:00:00Z"),
		Run("0195-run"), Attempt(1), Term(7), Outcome("succeeded"), Exit(0), Took(12_345_678),
	}
	for _, tt := range []struct {
		name string
		do   func(*Log)
		want string
	}{
		{"what the sentence says is not said again", func(l *Log) { l.Info("run succeeded", run...) },
			"info  run succeeded slot=foobar/tick@2026-03-01T02:00:00Z term=7 exit=0 in 12.3ms\n"},
		{"trouble names the run", func(l *Log) { l.Warn("run failed", Slot("a/b@x"), Run("0195"), Attempt(2), Exit(3)) },
			"warn  run failed slot=a/b@x run=0195 attempt=2 exit=3\n"},
		{"debug leaves out nothing", func(l *Log) {
			if err := l.SetLevel("debug"); err != nil {
				t.Error(err)
			}
			l.Debug("claim", Event("claim"), Job("j"), Slot("n/j@x"), Run("r"), Attempt(1), Node("here"))
		}, "debug claim event=claim job=j slot=n/j@x run=r attempt=1 node=here\n"},
		{"below the level", func(l *Log) { l.Debug("secret") }, ""},
		{"own node is known, another is not", func(l *Log) { l.Info("a", Node("here")); l.Info("b", Node("there")) },
			"info  a\ninfo  b node=there\n"},
		{"values that are not one word", func(l *Log) {
			l.Error("cannot", zap.Error(errors.New("dial tcp: refused")), zap.String("empty", ""), zap.String("esc", "\x1b[2J"))
		}, `error cannot error="dial tcp: refused" empty="" esc="\x1b[2J"` + "\n"},
		{"an absent field", func(l *Log) { l.Info("x", Legion(""), Term(0), Attempt(0), Slot("")) }, "info  x\n"},
		{"children and names", func(l *Log) {
			l.Named("gossip").With(Legion("a"), zap.Int("n", 1)).Info("x", zap.Int("n", 2))
		}, "info  gossip: x legion=a n=2\n"},
		{"what jobs write, at any level", func(l *Log) {
			if err := l.SetLevel("error"); err != nil {
				t.Error(err)
			}
			out := l.Output("tick", Run("r"))
			out.Line("stdout", []byte("hello world"))
			out.Line("stderr", []byte("oops"))
		}, "tick | hello world\ntick ! oops\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := logged(t, Config{Format: "console", Node: "here"}, tt.do); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	got := logged(t, Config{Format: "json", Node: "here", Level: "warn"}, func(l *Log) {
		l.Info("not this")
		l.With(Legion("foobar")).Warn("run failed", Exit(3), Took(1500*time.Millisecond))
		l.Warn("about another", Node("there"))
		l.Output("tick", Run("r"), Job("tick")).Line("stderr", []byte("bad \xff\x00 line"))
	})
	var lines []map[string]any
	for line := range strings.Lines(got) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for key := range m {
			if strings.Count(line, `"`+key+`":`) != 1 {
				t.Errorf("key %s is there twice: %s", key, line)
			}
		}
		if _, err := time.Parse(time.RFC3339Nano, m["time"].(string)); err != nil {
			t.Error(err)
		}
		delete(m, "time")
		lines = append(lines, m)
	}
	want := []map[string]any{
		{"level": "warn", "message": "run failed", "legion": "foobar", "exit": 3.0, "took": "1.5s", "node": "here"},
		{"level": "warn", "message": "about another", "node": "there"},
		{"level": "info", "message": "bad \ufffd\x00 line", "job": "tick", "run": "r", "stream": "stderr", "node": "here"},
	}
	gotText, _ := json.Marshal(lines)
	wantText, _ := json.Marshal(want)
	if !bytes.Equal(gotText, wantText) {
		t.Errorf("got  %s\nwant %s", gotText, wantText)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Level: "loud"}, {Format: "syslog"}, {Level: "panic"}} {
		if l, err := Open(c); err == nil {
			t.Errorf("%+v was accepted", c)
			_ = l.Close(bounded(t))
		}
	}
}

func TestFieldNames(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		keyLegion: "LEGION", keyJob: "LEGION_JOB", "error": "LEGION_ERROR", "clock skew-ms": "LEGION_CLOCK_SKEW_MS",
		"größe": "LEGION_GR__E", strings.Repeat("x", 100): "LEGION_" + strings.Repeat("X", 57),
	} {
		if got := fieldName(key); got != want {
			t.Errorf("%q is called %q, want %q", key, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 999: "999ns", 12_345: "12.3µs", 12_345_678: "12.3ms", 1_234_567_890: "1.23s",
		83*time.Second + 123456789: "1m23.1s", -12_345_678: "-12.3ms",
	} {
		if got := short(d); got != want {
			t.Errorf("%d: got %s, want %s", d, got, want)
		}
	}
}

// An unencodable value must not cost the line.
func TestJSONUnencodable(t *testing.T) {
	t.Parallel()
	got := logged(t, Config{Format: "json"}, func(l *Log) { l.Info("kept", zap.Any("f", func() {})) })
	if !strings.Contains(got, `"message":"kept"`) {
		t.Errorf("got %q", got)
	}
}

var _ zapcore.Core = (*core)(nil)
