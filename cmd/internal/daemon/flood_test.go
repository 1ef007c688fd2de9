package daemon_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestFloodKeepsAgentSmall: a hundred megabytes that a job prints go through the
// agent, into its log and the run's file, and hardly any of it is ever in its
// memory, even if nobody reads the log.
func TestFloodKeepsAgentSmall(t *testing.T) {
	const size, most = 100_000_000, 20 << 10 // bytes; KiB
	for _, tt := range []struct {
		name, command string
		stalled       bool
	}{
		{"lines", "yes $(printf %%0200d 0) | head -c %d", false},
		{"no newline", "head -c %d /dev/zero | tr '\\0' x", false},
		{"nobody reads the log", "yes 0123456789abcde | head -c %d", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := shortDir(t)
			path := filepath.Join(dir, "config.toml")
			command := fmt.Sprintf(tt.command, size)
			text := strings.Replace(single, `level = "error"`, `format = "json"`, 1) + fmt.Sprintf(`
[[job]]
name = "warm-up"
legion = "foobar"
schedule = "0 0 1 1 *"
command = "true"
[[job]]
name = "flood"
legion = "foobar"
schedule = "0 0 1 1 *"
command = %q
`, command)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			a := &agent{name: "one", dir: dir, socket: filepath.Join(dir, "sock")}
			cmd := exec.Command(lab.Shipped(t), "agent", "--config", path)
			read, stop := piped(t, cmd)
			defer stop()
			if !tt.stalled {
				read()
			}
			trigger := func(job string) control.Run {
				t.Helper()
				lab.Eventually(t, 15*time.Second, "the end of a run of "+job, func() bool {
					return exec.Command(cmd.Path, "trigger", job, "--wait", "--socket", a.socket).Run() == nil
				})
				runs, err := control.NewClient(a.socket).Runs(t.Context(), control.RunsQuery{Job: job, Limit: 1})
				if err != nil || len(runs) != 1 {
					t.Fatalf("runs of %s: %v, %v", job, runs, err)
				}
				return runs[0]
			}
			trigger("warm-up")
			before := lab.Memory(t, cmd.Process.Pid, "VmRSS")
			// The peak begins anew.
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", cmd.Process.Pid), []byte("5"), 0); err != nil {
				t.Fatal(err)
			}
			run := trigger("flood")
			peak, after := lab.Memory(t, cmd.Process.Pid, "VmHWM"), lab.Memory(t, cmd.Process.Pid, "VmRSS")
			if run.Outcome != "succeeded" {
				t.Fatalf("got %+v", run)
			}
			t.Logf("%d KiB before, %d at most, %d after; the job took %v", before, peak, after, run.Ended.Sub(run.Started.Time).Round(time.Millisecond))
			if peak-before > most {
				t.Errorf("the agent's memory has grown by %d KiB, from %d to %d", peak-before, before, peak)
			}
			kept, err := exec.Command(cmd.Path, "logs", "flood", "--socket", a.socket).Output()
			if err != nil || len(kept) < 1<<19 {
				t.Errorf("%d bytes of output are kept, %v", len(kept), err)
			}
		})
	}
}

// piped starts a command that writes into a pipe. read begins to throw away what
// it has written, and stop tells it to end, and waits for that.
func piped(t *testing.T, cmd *exec.Cmd) (read, stop func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	read = sync.OnceFunc(func() { reading.Go(func() { _, _ = io.Copy(io.Discard, r) }) })
	return read, func() {
		read()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		reading.Wait()
		r.Close()
	}
}
