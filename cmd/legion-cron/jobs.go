package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

func newJobs() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "All jobs, when they ran and when they will",
		Args:  args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		jobs, err := client().Jobs(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), jobs)
		}
		now := time.Now()
		t := newTable("JOB", "LEGION", "SCHEDULE", "NEXT", "LAST", "RUNNING", "NODES", "NOTES")
		for _, j := range jobs {
			t.row(j.Name, j.Legion, j.Schedule, clock(j.Next, now), clock(j.Last, now), fmt.Sprint(j.Running), fmt.Sprint(len(j.Nodes)), jobNotes(j))
		}
		return t.print(cmd.OutOrStdout(), "no jobs")
	}
	return cmd
}

func jobNotes(j control.Job) string {
	var notes []string
	if j.Disabled {
		notes = append(notes, "disabled")
	}
	if j.Paused {
		notes = append(notes, "paused")
	}
	if len(j.Drift) > 0 {
		notes = append(notes, "differs on "+strings.Join(j.Drift, " "))
	}
	return strings.Join(notes, "; ")
}
