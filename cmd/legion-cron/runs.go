package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	cmd.ValidArgsFunction = completeJobs(client)
	asJSON := jsonFlag(cmd)
	since := cmd.Flags().String("since", "", "scheduled since: a duration like 90m or 2d, today, yesterday, a date, or RFC 3339")
	outcome := cmd.Flags().String("outcome", "", "only this outcome: succeeded, failed, timed-out, killed, lost, skipped, missed, ...")
	limit := cmd.Flags().IntP("limit", "n", control.DefaultRuns, fmt.Sprintf("at most this many, up to %d", control.MaxRuns))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		now := time.Now()
		q := control.RunsQuery{Limit: *limit}
		if len(args) == 1 {
			q.Job = args[0]
			if err := checkName("job", q.Job); err != nil {
				return err
			}
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
		if len(runs) == 0 && q.Job != "" {
			if err := known(cmd.Context(), client(), q.Job); err != nil {
				return err
			}
		}
		t := newTable("SCHEDULED", "JOB", "LEGION", "NODE", "OUTCOME", "TOOK", "LATE", "ATTEMPT", "RUN", "WHY")
		for _, r := range runs {
			t.row(clock(r.Scheduled, now), r.Job, r.Legion, r.Node, r.Outcome, took(r, now), late(r), fmt.Sprint(r.Attempt), r.Run, why(r))
		}
		return t.print(cmd.OutOrStdout(), "no runs")
	}
	return cmd
}

// known refuses a job that no node lists, which is most often a slip.
func known(ctx context.Context, client *control.Client, job string) error {
	client.Silent = nil // that was said already
	all, err := client.Jobs(ctx)
	if err != nil || slices.ContainsFunc(all, func(j control.Job) bool { return j.Name == job }) {
		return err
	}
	return &refusal{msg: fmt.Sprintf("no runs of %q, and no node lists such a job", job), hint: "legion-cron jobs lists them"}
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

// howItEnded is the outcome with why, where that says more.
func howItEnded(r control.Run) string {
	w := why(r)
	switch {
	case w == "":
		return r.Outcome
	case strings.HasPrefix(w, r.Outcome): // timed out after 2s, killed by uid 0
		return w
	}
	return r.Outcome + ": " + w
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
