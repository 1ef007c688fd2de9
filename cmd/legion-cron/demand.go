package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

// lookForEnd is how often trigger --wait asks.
const lookForEnd = 250 * time.Millisecond

func newTrigger() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trigger JOB [--wait]",
		Short: "Have a job run now, on the node that runs it",
		Long: `Has a job run now: a job of a legion on its lord, any other on this node. The
claim takes the way of every slot, so it starts once; prints the id of the run.
A job whose overlap forbids it is refused while it runs; a paused one runs.
With --wait the exit code is that of the run, or 1 if it ended in no other way
than by exiting.`,
		Args: args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeJobs(client)
	wait := cmd.Flags().Bool("wait", false, "wait for the end of the run")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return order(cmd, *wait, client(), func(ctx context.Context, c *control.Client) (control.Run, error) {
			return c.Trigger(ctx, args[0])
		})
	}
	return cmd
}

func newRerun() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rerun RUN [--wait]",
		Short: "Run the slot of a run once more: its next attempt",
		Args:  args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	wait := cmd.Flags().Bool("wait", false, "wait for the end of the run")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return order(cmd, *wait, client(), func(ctx context.Context, c *control.Client) (control.Run, error) {
			return c.Rerun(ctx, args[0])
		})
	}
	return cmd
}

// order asks for a run, prints its id, and waits for its end if asked to.
func order(cmd *cobra.Command, wait bool, c *control.Client, ask func(context.Context, *control.Client) (control.Run, error)) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	r, err := ask(ctx, c)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), r.Run)
	if !wait {
		return nil
	}
	tick := time.NewTicker(lookForEnd)
	defer tick.Stop()
	for r.Ended.IsZero() || !ended[r.Outcome] {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &refusal{msg: "interrupted: the run goes on", hint: "legion-cron show " + r.Run}
		}
		s, err := c.Story(ctx, r.Run)
		if err != nil {
			return interrupted(ctx, err)
		}
		r = s.Run
	}
	fmt.Fprintln(cmd.OutOrStdout(), printable(howItEnded(r)))
	switch {
	case r.Outcome == "succeeded":
		return nil
	case r.ExitCode != nil && *r.ExitCode != 0:
		return &exitError{code: *r.ExitCode}
	}
	return &exitError{code: exitFailed}
}

// ended are the outcomes after which nothing more becomes of a run.
var ended = map[string]bool{
	"lost": true, "succeeded": true, "failed": true, "timed out": true, "killed": true,
	"never started": true, "skipped": true, "missed": true,
}

func newKill() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kill RUN [--signal S]",
		Short: "End a run, wherever it is, or send it a signal",
		Long: `Ends a run as its job says: with its stop_signal, and after its grace with KILL,
its whole tree of processes. With --signal it is sent that signal and no more.`,
		Args: args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	sig := cmd.Flags().String("signal", "", "send this signal instead: TERM, HUP, 10, ...")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, err := client().Kill(cmd.Context(), args[0], *sig)
		return err
	}
	return cmd
}

func newPause() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pause JOB|--legion L [--until T] [--reason R]",
		Short: "Skip the slots of a job, or of all jobs of a legion",
		Long: `Has the slots of a job, or of every job of a legion, recorded as skipped. Runs
that are under way go on; trigger still works. A pause outlives restarts and the
lord that took it; jobs, status and explain show it.`,
		Args: args(cobra.MaximumNArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeJobs(client)
	legion := cmd.Flags().String("legion", "", "all jobs of this legion")
	completeLegionFlag(cmd, client)
	until := cmd.Flags().String("until", "", "a duration like 90m or 2d, a date, or RFC 3339; default: until resume")
	reason := cmd.Flags().String("reason", "", "why, for others to see")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		job, err := jobOrLegion(cmd, args, *legion)
		if err != nil {
			return err
		}
		var end time.Time
		if *until != "" {
			if end, err = parseUntil(*until, time.Now()); err != nil {
				return err
			}
		}
		return client().Pause(cmd.Context(), *legion, job, end, *reason)
	}
	return cmd
}

func newResume() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume JOB|--legion L",
		Short: "End a pause",
		Args:  args(cobra.MaximumNArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeJobs(client)
	legion := cmd.Flags().String("legion", "", "the pause of this legion")
	completeLegionFlag(cmd, client)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		job, err := jobOrLegion(cmd, args, *legion)
		if err != nil {
			return err
		}
		return client().Resume(cmd.Context(), *legion, job)
	}
	return cmd
}

// jobOrLegion wants exactly one of a job and a legion.
func jobOrLegion(cmd *cobra.Command, args []string, legion string) (job string, err error) {
	if len(args) == 1 {
		job = args[0]
	}
	if (job == "") == (legion == "") {
		return "", &usageError{msg: cmd.Name() + ": want a job or --legion", hint: "usage: " + cmd.UseLine()}
	}
	return job, nil
}

// parseUntil reads a duration from now, with d for days, a date or a moment.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if at, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		return at, nil
	}
	d, err := control.ParsePeriod(text)
	if err != nil {
		return time.Time{}, &usageError{msg: fmt.Sprintf("bad time %q", text), hint: "a duration like 90m or 2d, a date, or RFC 3339 like 2026-03-01T02:00:00Z"}
	}
	return now.Add(d), nil
}
