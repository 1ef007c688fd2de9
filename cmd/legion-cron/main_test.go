package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/guardian"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

func TestMain(m *testing.M) {
	runner.Trampoline()
	guardian.Main()
	testscript.Main(m, map[string]func(){"legion-cron": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"waitlord": waitLord, "waitrun": waitRun, "waitreason": waitReason},
		Setup: func(env *testscript.Env) error {
			env.Setenv(socketEnv, "none.sock") // relative: the same in every transcript
			return nil
		},
	})
}

// lordPatience is when a script gives up waiting for a lord.
const lordPatience = time.Minute

// waitLord LEGION asks the script's agent until it is lord of the legion.
func waitLord(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitlord LEGION")
	}
	client := control.NewClient(ts.MkAbs(ts.Getenv(socketEnv)))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lordPatience); ; <-tick.C {
		l, err := client.Lord(context.Background(), args[0])
		if err == nil && l.Here {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no lord of %s: %+v, %v", args[0], l, err)
		}
	}
}

// waitReason TEXT asks the script's agent until a member's reasons say that.
func waitReason(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitreason TEXT")
	}
	client := control.NewClient(ts.MkAbs(ts.Getenv(socketEnv)))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lordPatience); ; <-tick.C {
		s, err := client.Status(context.Background())
		for _, l := range s.Legions {
			for _, m := range l.Members {
				if slices.Contains(m.Reasons, args[0]) {
					return
				}
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nobody is %q: %+v, %v", args[0], s.Legions, err)
		}
	}
}

// waitRun JOB OUTCOME asks the script's agent until a run has come to that.
func waitRun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitrun JOB OUTCOME")
	}
	client := control.NewClient(ts.MkAbs(ts.Getenv(socketEnv)))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lordPatience); ; <-tick.C {
		runs, err := client.Runs(context.Background(), control.RunsQuery{Job: args[0], Outcome: args[1]})
		if err == nil && len(runs) > 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no run of %s has %s: %v, %v", args[0], args[1], runs, err)
		}
	}
}
