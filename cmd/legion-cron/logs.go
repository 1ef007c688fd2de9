package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

const (
	lookForRun  = 500 * time.Millisecond // logs -f, for the job's next run
	lookThrough = 50                     // records of a job, for one with a process
)

func newLogs() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs JOB|RUN [-f]",
		Short: "What a run printed, from whichever node it ran on",
		Long: `Prints the output of a run: of the run with that id, or of the newest run of a
job. With -f it goes on while the run does, and for a job with the runs after
it, until it is interrupted. Where a run printed more than the job's max_output,
a line says how many bytes are missing.`,
		Args: args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeJobs(client)
	follow := cmd.Flags().BoolP("follow", "f", false, "go on while the run does; for a job, with its next runs")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		c, w := client(), cmd.OutOrStdout()
		if _, err := uuid.Parse(args[0]); err == nil {
			return interrupted(ctx, c.Output(ctx, args[0], *follow, w))
		}
		run, last, err := newestRun(ctx, c, args[0], "")
		if err == nil && run == "" && !*follow {
			return noOutput(ctx, c, args[0], last)
		}
		if last.Run != run && notStarted(last) {
			fmt.Fprintf(cmd.ErrOrStderr(), "legion-cron: this is of an earlier run; the last one %s\n", printable(howItEnded(last)))
		}
		for err == nil {
			if run != "" {
				err = c.Output(ctx, run, *follow, w)
			}
			if !*follow {
				return err
			}
			if err == nil {
				run, err = awaitRun(ctx, c, args[0], run)
			}
		}
		return interrupted(ctx, err)
	}
	return cmd
}

// newestRun is the newest run of a job that has a process, or had; "" if it is
// the one that is known. last is the newest of all, with or without one.
func newestRun(ctx context.Context, c *control.Client, job, known string) (run string, last control.Run, err error) {
	runs, err := c.Runs(ctx, control.RunsQuery{Job: job, Limit: lookThrough})
	if err != nil || len(runs) == 0 {
		return "", last, err
	}
	for _, r := range runs {
		if known != "" && r.Run == known {
			break
		}
		if !r.Started.IsZero() {
			return r.Run, runs[0], nil
		}
	}
	return "", runs[0], nil
}

// notStarted says whether a run has failed before it had a process.
func notStarted(r control.Run) bool { return r.Outcome == "failed" && r.Started.IsZero() }

// noOutput says why a job has none: what became of its newest run or slot.
func noOutput(ctx context.Context, c *control.Client, job string, last control.Run) error {
	switch {
	case last.Slot == "":
		if err := known(ctx, c, job); err != nil {
			return err
		}
		return &refusal{msg: fmt.Sprintf("job %s has not run", job), hint: "legion-cron explain " + job + " says when it will"}
	case notStarted(last):
		return &refusal{msg: fmt.Sprintf("job %s has printed nothing: its last run %s", job, howItEnded(last)), hint: "legion-cron show " + last.Run}
	}
	return &refusal{msg: fmt.Sprintf("job %s has not run: its last slot is %s", job, howItEnded(last)), hint: "legion-cron runs " + job + " shows what became of its slots"}
}

// awaitRun waits for a run of the job that is newer than the one that is known.
func awaitRun(ctx context.Context, c *control.Client, job, known string) (string, error) {
	tick := time.NewTicker(lookForRun)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
		if run, _, err := newestRun(ctx, c, job, known); run != "" || err != nil {
			return run, err
		}
	}
}

// interrupted makes an end of one that the user asked for.
func interrupted(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}
