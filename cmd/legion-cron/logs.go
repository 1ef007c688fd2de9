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
	follow := cmd.Flags().BoolP("follow", "f", false, "go on while the run does; for a job, with its next runs")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		c, w := client(), cmd.OutOrStdout()
		if _, err := uuid.Parse(args[0]); err == nil {
			return interrupted(ctx, c.Output(ctx, args[0], *follow, w))
		}
		run, err := newestRun(ctx, c, args[0], "")
		for err == nil {
			if run != "" {
				err = c.Output(ctx, run, *follow, w)
			}
			if !*follow {
				if run == "" && err == nil {
					err = known(ctx, c, args[0])
				}
				if run == "" && err == nil {
					err = &refusal{msg: fmt.Sprintf("job %s has not run", args[0]), hint: "legion-cron jobs lists the jobs, runs what became of their slots"}
				}
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
// the one that is known.
func newestRun(ctx context.Context, c *control.Client, job, known string) (string, error) {
	runs, err := c.Runs(ctx, control.RunsQuery{Job: job, Limit: lookThrough})
	if err != nil {
		return "", err
	}
	for _, r := range runs {
		if known != "" && r.Run == known {
			return "", nil
		}
		if !r.Started.IsZero() {
			return r.Run, nil
		}
	}
	return "", nil
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
		if run, err := newestRun(ctx, c, job, known); run != "" || err != nil {
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
