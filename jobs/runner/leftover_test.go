package runner

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

// agentPart is an agent that has started two runs and goes on until it is
// killed. Its argument: the incarnation, and "session" or "cgroup".
func agentPart(arg string) int {
	incarnation, mode, _ := strings.Cut(arg, " ")
	h, err := New(Config{Incarnation: incarnation, NoCgroups: mode == "session"})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, o := range []jobs.OnUnlord{jobs.OnUnlordKill, jobs.OnUnlordFinish} {
		s := play("escape")
		s.Run = incarnation + "-" + string(o)
		s.OnUnlord = o
		out, err := newEcho()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if _, err := h.Start(s, out); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return ready()
}

// An echo passes the lines of a run on to the agent's own output.
type echo struct{}

func newEcho() (echo, error) { return echo{}, nil }

func (echo) Line(_ string, line []byte) { fmt.Printf("%s\n", line) }

// What an agent leaves that is killed is found by the next one and killed,
// those first of which that must not live without it.
func TestSweepAfterCrash(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cgroup", "session"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, mode == "session")
			old := play("").Run[:36]
			r := newRecorder()
			agent := exec.CommandContext(t.Context(), os.Args[0])
			agent.Env = append(os.Environ(), childVar+"=agent "+old+" "+mode)
			out := &lines{emit: func(l []byte) { r.Line(Stdout, l) }}
			pipe, err := agent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := agent.Start(); err != nil {
				t.Fatal(err)
			}
			read := make(chan struct{})
			go func() {
				defer close(read)
				for {
					n, err := pipe.Read(out.space())
					out.add(n)
					if err != nil {
						return
					}
				}
			}()
			pids := r.awaitReady(t, 5) // the agent and two of each run
			_ = agent.Process.Kill()
			<-read
			_ = agent.Wait()

			ours := func(tag Tag) bool { return tag.Incarnation == old }
			must := func(tag Tag) bool { return ours(tag) && tag.OnUnlord == jobs.OnUnlordKill }
			want := []Tag{
				{Run: old + "-finish", Incarnation: old, OnUnlord: jobs.OnUnlordFinish},
				{Run: old + "-kill", Incarnation: old, OnUnlord: jobs.OnUnlordKill},
			}
			if got := h.Find(ours); !slices.Equal(got, want) {
				t.Errorf("found %+v", got)
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			if got, err := h.Sweep(ctx, must); err != nil || !slices.Equal(got, want[1:]) {
				t.Errorf("swept %+v, %v", got, err)
			}
			if got := h.Find(ours); !slices.Equal(got, want[:1]) {
				t.Errorf("left: %+v", got)
			}
			if got, err := h.Sweep(ctx, ours); err != nil || !slices.Equal(got, want[:1]) {
				t.Errorf("swept %+v, %v", got, err)
			}
			for _, pid := range pids {
				if alive(pid) {
					t.Errorf("process %d lives", pid)
				}
			}
			if got, err := h.Sweep(ctx, ours); err != nil || len(got) > 0 {
				t.Errorf("a clean host was swept of %+v, %v", got, err)
			}
		})
	}
}

// A sweep leaves alone what it is not told to kill.
func TestSweepIsExact(t *testing.T) {
	t.Parallel()
	eachHost(t, func(t *testing.T, h *Host) {
		p, r := start(t, h, play("escape"))
		pids := r.awaitReady(t, 2)
		got, err := h.Sweep(t.Context(), func(tag Tag) bool { return tag.Run == "another" })
		if err != nil || len(got) > 0 {
			t.Errorf("swept %v, %v", got, err)
		}
		for _, pid := range pids {
			if !alive(pid) {
				t.Errorf("process %d was killed", pid)
			}
		}
		p.Kill("enough")
		end(t, p)
	})
}

func TestSweepSaysWhatLives(t *testing.T) {
	t.Parallel()
	h := newHost(t, true)
	p, r := start(t, h, play("sleep"))
	r.awaitReady(t, 1)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Sweep(over, func(tag Tag) bool { return tag.Run == p.spec.Run }); err == nil || !strings.Contains(err.Error(), p.spec.Run) {
		t.Errorf("got %v", err)
	}
	end(t, p)
}

// An agent that a run has started (a job that restarts the service) must not
// live in that run's cgroup, and die with it.
func TestAgentInsideRun(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	p, r := start(t, h, play("agent "+play("").Run[:36]+" cgroup"))
	pids := r.awaitReady(t, 5)
	agent := 0
	for _, pid := range pids {
		if pid == p.PID() {
			agent = pid
		}
	}
	if agent == 0 {
		t.Fatal("which is the agent?")
	}
	root := h.cgroups.Load()
	if (&cgroup{dir: root.dir}).holds(agent) || root.open(tag(p.spec, h.incarnation)).holds(agent) {
		t.Error("the agent is in the cgroup of the run that started it")
	}
	_ = unix.Kill(agent, unix.SIGKILL)
	end(t, p)
	if _, err := h.Sweep(t.Context(), func(tag Tag) bool {
		return strings.HasPrefix(p.spec.Argv[0], "/") && strings.Contains(p.spec.Env[childVar], tag.Incarnation)
	}); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
}
