package runner

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	codes := func(s Spec, codes ...int) Spec { s.SuccessCodes = codes; return s }
	for _, tt := range []struct {
		name string
		spec Spec
		want Result
	}{
		{"success", play("exit 0"), Result{State: jobs.Succeeded}},
		{"failure", play("exit 3"), Result{State: jobs.Failed, ExitCode: 3, Reason: "exit status 3"}},
		{"a code that counts as success", codes(play("exit 3"), 0, 3), Result{State: jobs.Succeeded, ExitCode: 3}},
		{"zero, where it does not", codes(play("exit 0"), 3), Result{State: jobs.Failed, Reason: "exit status 0"}},
		{"a signal", shell("kill -SEGV $$"), Result{State: jobs.Failed, ExitCode: 139, Signal: "SEGV", Reason: "died of signal SEGV"}},
		{"a signal is no exit code", codes(play("suicide KILL"), 137), Result{State: jobs.Failed, ExitCode: 137, Signal: "KILL", Reason: "died of signal KILL"}},
		{"unknown to the shell", shell("no-such-command-here"), Result{State: jobs.Failed, ExitCode: 127, Reason: "exit status 127 (the shell did not find the command)"}},
		{"not for the shell", shell("/etc/passwd"), Result{State: jobs.Failed, ExitCode: 126, Reason: "exit status 126 (the shell could not execute the command)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, _ := start(t, h, tt.spec)
			got := end(t, p)
			if got.Started.IsZero() || got.Ended.Before(got.Started) {
				t.Errorf("from %s to %s", got.Started, got.Ended)
			}
			got.Started, got.Ended, got.User, got.System = time.Time{}, time.Time{}, 0, 0
			if got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			noneLeft(t, h, tt.spec)
		})
	}
}

// What is stopped is stopped as a whole and in time, whatever its processes do.
func TestStopKillsTheTree(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spec  Spec
		ready int // children that must have got where they want before the end
		left  string
	}{
		{"a shell and its background child", shell("sleep 3600 & echo ready $!; wait"), 1, "TERM"},
		{"a pipeline", shell("(echo ready $$ >&2; sleep 3600) | cat >&2"), 1, "TERM"},
		{"in a session of its own, orphaned", play("escape"), 2, "TERM"},
		{"deaf to TERM", play("deaf"), 1, "KILL"},
		{"deaf, with a deaf child in a session of its own", play("deafs"), 2, "KILL"},
		{"a fork storm", play("storm 200"), 1, "TERM"},
		{"an endless flood", shell("echo ready $$ >&2; yes"), 1, "TERM"},
		{"an endless flood without a newline", shell("trap '' TERM; echo ready $$ >&2; tr '\\0' x </dev/zero"), 1, "KILL"},
		{"stopped by SIGSTOP", shell("echo ready $$; kill -STOP $$"), 1, "TERM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachHost(t, func(t *testing.T, h *Host) {
				s := tt.spec
				s.Run = play("").Run
				s.Grace = time.Second
				// By the operator, when it has got to where it wants.
				p, r := start(t, h, s)
				pids := r.awaitReady(t, tt.ready)
				got := stop(t, p, "because")
				if got.State != jobs.Killed || got.Reason != "because" || got.Signal != tt.left {
					t.Errorf("got %+v", got)
				}
				noneLeft(t, h, s)
				for _, pid := range pids {
					if alive(pid) {
						t.Errorf("process %d lives", pid)
					}
				}
			})
		})
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	eachHost(t, func(t *testing.T, h *Host) {
		s := shell("sleep 3600 & wait")
		s.Timeout, s.Grace = 50*time.Millisecond, time.Second
		p, _ := start(t, h, s)
		got := endBy(t, p, p.started.Add(s.Timeout+s.Grace+time.Second))
		if got.State != jobs.TimedOut || got.Reason != "timed out after 50ms" || got.Ended.Sub(got.Started) < s.Timeout {
			t.Errorf("got %+v", got)
		}
		noneLeft(t, h, s)
	})
}

// The run ends within its grace and one second: what comes after the grace is bounded.
func TestBoundsAfterGrace(t *testing.T) {
	t.Parallel()
	if KillBound+lingerKilled > time.Second || Linger > time.Second {
		t.Errorf("%s after KILL and %s for the pipes are more than a second", KillBound, lingerKilled)
	}
}

// A job that catches TERM and says that all is well has timed out all the same.
func TestTimeoutIsNoSuccess(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	s := shell("trap 'exit 0' TERM; echo ready $$; while :; do sleep 1; done")
	p, r := start(t, h, s)
	r.awaitReady(t, 1)
	if got := stop(t, p, "enough"); got.State != jobs.Killed || got.ExitCode != 0 || got.Signal != "" {
		t.Errorf("got %+v", got)
	}
}

// The whole tree has the whole grace, even if its top is gone at once.
func TestGraceIsForTheWholeTree(t *testing.T) {
	t.Parallel()
	eachHost(t, func(t *testing.T, h *Host) {
		s := play("hasty")
		p, r := start(t, h, s)
		r.awaitReady(t, 1)
		stop(t, p, "enough")
		if !strings.Contains(r.text(), "tidied up") {
			t.Errorf("the child was killed before its grace was over: %s", r.text())
		}
		noneLeft(t, h, s)
	})
}

func TestStopSignal(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	s := play("sleep")
	s.StopSignal = "SIGHUP"
	p, r := start(t, h, s)
	r.awaitReady(t, 1)
	if got := stop(t, p, "enough"); got.Signal != "HUP" || got.State != jobs.Killed {
		t.Errorf("got %+v", got)
	}
}

func TestKillCutsTheGrace(t *testing.T) {
	t.Parallel()
	eachHost(t, func(t *testing.T, h *Host) {
		s := play("deaf")
		s.Grace = forever
		p, r := start(t, h, s)
		r.awaitReady(t, 1)
		p.Stop("please")
		p.Stop("again") // the first word counts
		asked := time.Now()
		p.Kill("now")
		if got := endBy(t, p, asked.Add(time.Second)); got.Signal != "KILL" || got.Reason != "please" && got.Reason != "now" {
			t.Errorf("got %+v", got)
		}
		noneLeft(t, h, s)
	})
}

func TestSignal(t *testing.T) {
	t.Parallel()
	eachHost(t, func(t *testing.T, h *Host) {
		p, r := start(t, h, play("usr1"))
		r.awaitReady(t, 1)
		if err := p.Signal(unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		r.await(t, 1, "got it") // and lives
		r.awaitReady(t, 2)
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := end(t, p); got.State != jobs.Killed || got.Reason != "signal KILL was sent to it" {
			t.Errorf("got %+v", got)
		}
		if err := p.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("after the end: %v", err)
		}
		p.Stop("too late")
		p.Kill("too late")
	})
}

// A grandchild that holds the pipe does not hold the run.
func TestGrandchildHoldsTheOutput(t *testing.T) {
	t.Parallel()
	eachHost(t, func(t *testing.T, h *Host) {
		s := shell("sleep 3600 & echo ready $!; echo last words")
		p, r := start(t, h, s)
		pid := r.awaitReady(t, 1)[0]
		defer unix.Kill(pid, unix.SIGKILL)
		if got := end(t, p); got.State != jobs.Succeeded {
			t.Errorf("got %+v", got)
		}
		if !strings.Contains(r.text(), "last words") {
			t.Errorf("output: %s", r.text())
		}
		if !alive(pid) {
			t.Error("what a job started in the background was killed, though nobody asked for it")
		}
		if found := h.Find(func(t Tag) bool { return t.Run == s.Run }); h.Cgroups() != "" && len(found) > 0 {
			t.Errorf("what was released is still taken for part of the run: %v", found)
		}
	})
}

func TestReap(t *testing.T) {
	t.Parallel()
	eachHost(t, func(t *testing.T, h *Host) {
		s := shell("setsid sleep 3600 & echo ready $!; exit 3")
		s.Reap = true
		p, r := start(t, h, s)
		got := end(t, p)
		if pid := r.awaitReady(t, 1)[0]; alive(pid) {
			t.Errorf("process %d lives", pid)
		}
		if got.State != jobs.Failed || got.ExitCode != 3 {
			t.Errorf("got %+v: to kill what is left is not to kill the run", got)
		}
		noneLeft(t, h, s)
	})
}

// Many at once, each with its own outcome and output.
func TestManyRuns(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	const many = 100
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			s := shell("echo out $LEGION_RUN; echo err >&2; exit $CODE")
			s.Env = map[string]string{"CODE": []string{"0", "7"}[i%2]}
			r := newRecorder()
			p, err := h.Start(s, r)
			if err != nil {
				t.Error(err)
				return
			}
			got := p.Wait()
			slices.Sort(r.lines)
			if r.text() != "stderr: err\nstdout: out "+s.Run || got.ExitCode != 7*(i%2) {
				t.Errorf("%+v: %s", got, r.text())
			}
		})
	}
	all.Wait()
}

// A pid that was given to another process is nobody of ours.
func TestReusedPid(t *testing.T) {
	const lastPid = "/proc/sys/kernel/ns_last_pid"
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root to choose a pid")
	}
	for _, noCgroups := range []bool{false, true} {
		h := newHost(t, noCgroups)
		reused := false
		for range 500 { // others may take the pid that we want
			p, r := start(t, h, play("sleep"))
			r.awaitReady(t, 1)
			old, _ := readProc(p.PID())
			p.Kill("make room")
			end(t, p)
			if err := writeFile(lastPid, strconv.Itoa(old.pid-1)); err != nil {
				t.Fatal(err)
			}
			stranger := exec.Command("/bin/cat")
			stranger.SysProcAttr = &unix.SysProcAttr{Setsid: true}
			in, _ := stranger.StdinPipe()
			out, _ := stranger.StdoutPipe()
			if err := stranger.Start(); err != nil {
				t.Fatal(err)
			}
			now, _ := readProc(stranger.Process.Pid)
			// Two starts within a tick of the clock are one to /proc; nobody
			// goes through all pids in so short a time.
			if reused = now.pid == old.pid && now.start != old.start; reused {
				p.Kill("late")
				p.Stop("late")
				_ = p.Signal(unix.SIGKILL)
				p.tree.kill()
				stray{old}.kill()
				// One that has to die does not come to answer.
				_, _ = in.Write([]byte{'!'})
				if n, _ := out.Read(make([]byte, 1)); n != 1 {
					t.Error("a stranger was killed")
				}
			}
			_ = in.Close()
			_ = stranger.Wait()
			if reused {
				break
			}
		}
		if !reused && os.Getenv("CI") == "true" {
			t.Error("no pid came twice")
		}
	}
}
