package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

func newRuns() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runs [JOB]",
		Short: "What ran, and what was skipped or missed; the newest first",
		Args:  args(cobra.MaximumNArgs(1)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	since := cmd.Flags().String("since", "", "scheduled since: a duration like 90m or 2d, or RFC 3339")
	outcome := cmd.Flags().String("outcome", "", "only this outcome: succeeded, failed, timed-out, killed, lost, skipped, missed, ...")
	limit := cmd.Flags().IntP("limit", "n", control.DefaultRuns, fmt.Sprintf("at most this many, up to %d", control.MaxRuns))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		now := time.Now()
		q := control.RunsQuery{Limit: *limit}
		if len(args) == 1 {
			q.Job = args[0]
		}
		if *limit < 1 || *limit > control.MaxRuns {
			return &usageError{msg: fmt.Sprintf("bad limit %d", *limit), hint: fmt.Sprintf("a number from 1 to %d", control.MaxRuns)}
		}
		var err error
		if *since != "" {
			if q.Since, err = control.ParseSince(*since, now); err != nil {
				return usage(err)
			}
		}
		if *outcome != "" {
			if q.Outcome, err = control.ParseOutcome(*outcome); err != nil {
				return usage(err)
			}
		}
		runs, err := client().Runs(cmd.Context(), q)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), runs)
		}
		t := newTable("SCHEDULED", "JOB", "LEGION", "NODE", "OUTCOME", "TOOK", "LATE", "ATTEMPT", "WHY")
		for _, r := range runs {
			t.row(clock(r.Scheduled, now), r.Job, r.Legion, r.Node, r.Outcome, took(r, now), late(r), fmt.Sprint(r.Attempt), why(r))
		}
		return t.print(cmd.OutOrStdout(), "no runs")
	}
	return cmd
}

// took is how long the run lasted, or has lasted so far.
func took(r control.Run, now time.Time) string {
	switch {
	case r.Started.IsZero():
		return ""
	case r.Ended.IsZero() && r.Outcome == "running":
		return short(now.Sub(r.Started.Time)) + "..."
	case r.Ended.IsZero():
		return ""
	}
	return short(r.Ended.Sub(r.Started.Time))
}

func late(r control.Run) string {
	if r.LatenessMS == nil {
		return ""
	}
	return short(time.Duration(*r.LatenessMS) * time.Millisecond)
}

// why is the reason, or else how the process ended when that was not a success.
func why(r control.Run) string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Signal != "":
		return "signal " + r.Signal
	case r.ExitCode != nil && *r.ExitCode != 0:
		return fmt.Sprintf("exit %d", *r.ExitCode)
	}
	return ""
}
