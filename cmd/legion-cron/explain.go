package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newExplain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain JOB",
		Short: "Why a job will or will not run next, and where",
		Args:  args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeJobs(client)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkName("job", args[0]); err != nil {
			return err
		}
		e, err := client().Explain(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, e)
		}
		if _, err := fmt.Fprintf(w, "%s %s\n", printable(e.Job), printable(e.Verdict)); err != nil {
			return err
		}
		for _, line := range e.Why {
			if _, err := fmt.Fprintf(w, "  %s\n", printable(line)); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
