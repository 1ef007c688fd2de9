package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReload() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the agent read its configuration again: all of it, or on any error nothing",
		Args:  args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := client().Reload(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), r)
		}
		for _, change := range r.Changes {
			fmt.Fprintln(cmd.OutOrStdout(), printable(change))
		}
		if len(r.Changes) == 0 {
			fmt.Fprintln(cmd.OutOrStdout(), "nothing changed")
		}
		return nil
	}
	return cmd
}
