package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/checks"
	"github.com/legion-cron/legion-cron/checks/probe"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
	"github.com/legion-cron/legion-cron/jobs/runner"
	"github.com/legion-cron/legion-cron/legion"
)

// A check's command ends with a reason, whatever it does, and leaves nothing.
func TestCheckCommands(t *testing.T) {
	host, err := runner.New(runner.Config{Incarnation: "checks-test"})
	if err != nil {
		t.Fatal(err)
	}
	commands := commands{host, "n1"}
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		command string
		argv    []string
		want    string // in the reason; empty: it passes
		hangs   bool
	}{
		"good":          {command: "echo fine; exit 0"},
		"bad":           {command: "echo queue is long; echo; exit 3", want: "exit status 3: queue is long"},
		"silent":        {command: "exit 1", want: "exit status 1"},
		"environment":   {command: `test "$LEGION_CHECK $LEGION_NODE" = "environment n1"`},
		"no input":      {command: "read line", want: "exit status 1"},
		"missing":       {argv: []string{"/no/such/command"}, want: "command /no/such/command: no such file or directory"},
		"unknown":       {command: "no-such-command", want: "the shell did not find the command"},
		"signal":        {command: "kill -SEGV $$", want: "died of signal SEGV"},
		"flood":         {command: "yes flooded", want: "killed after 1048576 bytes of output: flooded"},
		"one long line": {command: "tr '\\0' x < /dev/zero", want: "killed after 1048576 bytes"},
		"hang":          {command: "sleep 600 & setsid sleep 600 & echo $$ $! > OUT; trap '' TERM; wait; sleep 600", want: "killed at its timeout", hangs: true},
		"forks":         {command: "for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & echo $! >> OUT; setsid sleep 600 & done"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if tt.hangs { // until it has forked, and then it has no more time
				go func() {
					defer cancel()
					for text := ""; !strings.Contains(text, "\n") && ctx.Err() == nil; {
						b, _ := os.ReadFile(out)
						text = string(b)
					}
				}()
			}
			err := probe.Exec(commands, probe.Command{Check: name, Text: strings.ReplaceAll(tt.command, "OUT", out), Argv: tt.argv})(ctx)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("it fails: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			case err != nil && len(err.Error()) > 2*checks.MaxReason:
				t.Errorf("a reason of %d bytes", len(err.Error()))
			}
			b, _ := os.ReadFile(out)
			for _, pid := range strings.Fields(string(b)) {
				n, _ := strconv.Atoi(pid)
				lab.Eventually(t, 5*time.Second, "process "+pid+" is gone", func() bool {
					stat, err := os.ReadFile("/proc/" + pid + "/stat")
					return syscall.Kill(n, 0) != nil || err != nil || strings.Contains(string(stat), ") Z ")
				})
			}
			if (tt.hangs || name == "forks") && len(b) == 0 {
				t.Error("it has not written which processes it started")
			}
		})
	}
}

// The real systemctl says no unit of that name is active, whether systemd runs
// here or not.
func TestUnitCheck(t *testing.T) {
	host, err := runner.New(runner.Config{Incarnation: "unit-test"})
	if err != nil {
		t.Fatal(err)
	}
	err = probe.Unit(commands{host, "n1"}, "c", "no-such-unit.service")(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "unit no-such-unit.service: ") {
		t.Errorf("%v, want what systemctl says of the unit", err)
	}
	t.Log(err)
}

// Where a node has more checks than it announces, those that hinder it are told.
func TestAnnouncedChecks(t *testing.T) {
	var reports []checks.Report
	for i := range 2 * legion.MaxChecks {
		r := checks.Report{Name: strconv.Itoa(i), State: checks.Passing}
		if i >= legion.MaxChecks+legion.MaxChecks/2 {
			r.State, r.Veto = checks.Failing, true
		}
		reports = append(reports, r)
	}
	all := announcedChecks(reports)
	if len(all) != legion.MaxChecks {
		t.Fatalf("%d are announced, want %d", len(all), legion.MaxChecks)
	}
	for i, c := range all {
		if want := i < legion.MaxChecks/2; c.Veto != want {
			t.Errorf("place %d has check %s, veto %v", i, c.Name, c.Veto)
		}
	}
}
