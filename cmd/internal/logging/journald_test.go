package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// These tests talk to a real systemd-journald through its real socket, and read
// back with the real journalctl. The journald is a private one, in a mount
// namespace with a /run of its own: the test binary starts itself there.

// insideVar is set in that namespace.
const insideVar = "LEGION_CRON_TEST_JOURNALD"

const journaldProgram = "/lib/systemd/systemd-journald"

// TestJournald starts the tests of TestInside in a namespace of their own.
func TestJournald(t *testing.T) {
	if os.Getenv(insideVar) != "" {
		return
	}
	if os.Getenv("CI") != "true" {
		if os.Geteuid() != 0 {
			t.Skip("needs root for a mount namespace")
		}
		if _, err := os.Stat(journaldProgram); err != nil {
			t.Skip("needs systemd-journald: ", err)
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInside$", "-test.v")
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestInside")) {
		t.Fatal("the tests inside did not run")
	}
}

// inside prepares the namespace and runs the tests in it.
func inside(m *testing.M) int {
	if err := privateRun(); err != nil {
		fmt.Fprintln(os.Stderr, "make a private /run:", err)
		return 1
	}
	return m.Run()
}

func privateRun() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("run", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{"/run/systemd/journal", "/run/log/journal", "/run/systemd/journald.conf.d"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	conf := "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nForwardToWall=no\nRateLimitBurst=0\nRuntimeMaxUse=64M\n"
	if err := os.WriteFile("/run/systemd/journald.conf.d/test.conf", []byte(conf), 0o644); err != nil {
		return err
	}
	const id = "/run/machine-id"
	if err := os.WriteFile(id, []byte("0123456789abcdef0123456789abcdef\n"), 0o444); err != nil {
		return err
	}
	return unix.Mount(id, "/etc/machine-id", "", unix.MS_BIND, "")
}

// eventually polls until ok, or fails the test.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ctx := bounded(t)
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", wait, what)
		}
	}
}

// startJournald starts one and returns its end.
func startJournald(t *testing.T) (journald *exec.Cmd, stop func()) {
	t.Helper()
	journald = exec.Command(journaldProgram)
	journald.Stderr = os.Stderr
	if err := journald.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { _ = journald.Process.Kill(); _ = journald.Wait() }
	eventually(t, "journald listens", func() bool {
		l, err := Open(Config{Format: "journald"})
		if err == nil {
			_ = l.Close(bounded(t))
		}
		return err == nil
	})
	return journald, stop
}

// journalctl returns the journal's entries that match, oldest first.
func journalctl(t *testing.T, matches ...string) []map[string]any {
	t.Helper()
	if out, err := exec.Command("journalctl", "--sync").CombinedOutput(); err != nil {
		t.Fatalf("journalctl --sync: %v: %s", err, out)
	}
	cmd := exec.Command("journalctl", append([]string{"--no-pager", "-q", "-a", "-o", "json"}, matches...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && stderr.Len() > 0 { // no match is exit status 1 too
		t.Fatalf("journalctl: %v: %s", err, stderr.Bytes())
	}
	var entries []map[string]any
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var e map[string]any
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// ours are the fields of an entry that we have set.
func ours(e map[string]any) map[string]any {
	m := maps.Clone(e)
	maps.DeleteFunc(m, func(k string, _ any) bool {
		return !strings.HasPrefix(k, "LEGION") && !slices.Contains([]string{"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}, k)
	})
	return m
}

func TestInside(t *testing.T) {
	if os.Getenv(insideVar) == "" {
		return // TestJournald runs it, in a namespace of its own
	}
	if _, err := Open(Config{Format: "journald"}); err == nil {
		t.Error("journald was opened before there was one")
	}
	journald, stop := startJournald(t)
	defer func() { stop() }()

	t.Run("fields", func(t *testing.T) {
		l, err := Open(Config{Format: "journald", Node: "n1", Level: "debug"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SetLevel("info"); err != nil {
			t.Fatal(err)
		}
		run := []zap.Field{Legion("foobar"), Job("backup"), Slot("foobar/backup@2026-03-01T02:00:00Z"), Run("0195"), Attempt(2), Term(7)}
		out := l.Output("backup", run...)
		out.Line("stdout", []byte("copied 3 files"))
		out.Line("stderr", []byte("odd bytes \x01\xff here"))
		l.With(run...).Warn("run failed", Event("run-ended"), Outcome("failed"), Exit(3), Took(12*time.Millisecond))
		l.Info("run succeeded", Job("backup"), Outcome("succeeded"))
		l.Error("two\nlines", zap.Error(fmt.Errorf("a=b\nc")))
		out.Line("stdout", bytes.Repeat([]byte("x"), 16<<10))
		if err := l.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}

		got := journalctl(t, "LEGION_JOB=backup", "LEGION_OUTCOME=failed")
		if len(got) != 1 {
			t.Fatalf("%d entries say that backup failed", len(got))
		}
		want := map[string]any{
			"MESSAGE":  "run failed slot=foobar/backup@2026-03-01T02:00:00Z run=0195 attempt=2 term=7 exit=3 in 12ms",
			"PRIORITY": "4", "SYSLOG_IDENTIFIER": "legion-cron", "LEGION": "foobar", "LEGION_EVENT": "run-ended",
			"LEGION_TERM": "7", "LEGION_JOB": "backup", "LEGION_SLOT": "foobar/backup@2026-03-01T02:00:00Z",
			"LEGION_RUN": "0195", "LEGION_ATTEMPT": "2", "LEGION_OUTCOME": "failed", "LEGION_EXIT": "3",
			"LEGION_NODE": "n1", "LEGION_TOOK": "12ms",
		}
		if !maps.Equal(ours(got[0]), want) {
			t.Errorf("got  %v\nwant %v", ours(got[0]), want)
		}

		got = journalctl(t, "-t", "backup")
		if len(got) != 3 {
			t.Fatalf("%d lines under the job's own name, want 3", len(got))
		}
		want = map[string]any{
			"MESSAGE": "copied 3 files", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "backup", "LEGION": "foobar",
			"LEGION_TERM": "7", "LEGION_JOB": "backup", "LEGION_SLOT": "foobar/backup@2026-03-01T02:00:00Z",
			"LEGION_RUN": "0195", "LEGION_ATTEMPT": "2", "LEGION_STREAM": "stdout", "LEGION_NODE": "n1",
		}
		if !maps.Equal(ours(got[0]), want) {
			t.Errorf("got  %v\nwant %v", ours(got[0]), want)
		}
		if got[1]["LEGION_STREAM"] != "stderr" {
			t.Errorf("the second line is of %v", got[1]["LEGION_STREAM"])
		}
		if _, binary := got[1]["MESSAGE"].([]any); !binary {
			t.Errorf("odd bytes came back as %v", got[1]["MESSAGE"])
		}
		if long, _ := got[2]["MESSAGE"].(string); len(long) != 16<<10 {
			t.Errorf("the long line came back with %d bytes", len(long))
		}
		got = journalctl(t, "LEGION_ERROR=a=b\nc")
		if len(got) != 1 || got[0]["MESSAGE"] != "two\nlines error=\"a=b\\nc\"" {
			t.Errorf("the error came back as %v", got)
		}
	})

	t.Run("auto", func(t *testing.T) {
		for _, leads := range []bool{true, false} {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Fstat(int(w.Fd()), &st); err != nil {
				t.Fatal(err)
			}
			if !leads {
				st.Ino++ // a stream that was closed, and something else put in its place
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestAutoChild$", "-test.v")
			cmd.Env = append(os.Environ(), insideVar+"=", autoVar+"=1", fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
			cmd.Stderr = w
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			var text bytes.Buffer
			_, _ = text.ReadFrom(r)
			r.Close()
			inJournal := len(journalctl(t, fmt.Sprintf("_PID=%d", cmd.Process.Pid), "LEGION_EVENT=auto")) == 1
			onStderr := strings.Contains(text.String(), "where do I go")
			if inJournal != leads || onStderr == leads {
				t.Errorf("stderr leads to journald: %v; line in journald: %v, on stderr: %v", leads, inJournal, onStderr)
			}
		}
	})

	t.Run("stalled", func(t *testing.T) {
		l, err := Open(Config{Format: "journald", Node: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := journald.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		out := l.Output("flood")
		for range 2 * queueLines { // returns although nobody reads
			out.Line("stdout", []byte("water"))
		}
		l.Info("still heard", Event("heard"))
		if l.Dropped() == 0 {
			t.Error("nothing was dropped")
		}
		if err := journald.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		dropped := l.Dropped()
		if err := l.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if got := journalctl(t, "LEGION_EVENT=heard"); len(got) != 1 {
			t.Errorf("the daemon's own line is there %d times", len(got))
		}
		told := journalctl(t, "LEGION_EVENT=log-dropped")
		if len(told) != 1 || told[0]["LEGION_DROPPED"] != fmt.Sprint(dropped) {
			t.Errorf("%d drops were told as %v", dropped, told)
		}
		if got := len(journalctl(t, "-t", "flood")); got != 2*queueLines-int(dropped) {
			t.Errorf("%d lines are there, %d of %d were dropped", got, dropped, 2*queueLines)
		}
	})

	t.Run("restarted", func(t *testing.T) {
		l, err := Open(Config{Format: "journald", Node: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		stop()
		for i := range 100 {
			l.Info("held", Event("held"), zap.Int("n", i))
		}
		_, stop = startJournald(t)
		if err := l.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if got := len(journalctl(t, "LEGION_EVENT=held")); got != 100 || l.Dropped() != 0 {
			t.Errorf("%d of 100 lines survived the restart, %d were dropped", got, l.Dropped())
		}
	})
}

const autoVar = "LEGION_CRON_TEST_AUTO"

// TestAutoChild is the daemon of the auto test.
func TestAutoChild(t *testing.T) {
	if os.Getenv(autoVar) == "" {
		return // TestInside runs it
	}
	l, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l.Info("where do I go", Event("auto"))
	if err := l.Close(bounded(t)); err != nil {
		t.Fatal(err)
	}
}
