package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// The exit codes of `lord`, for scripts, where it is not 0 for "here".
const (
	lordElsewhere = 1
	lordUnknown   = 2
)

func newLord() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lord LEGION",
		Short: "Exit 0 on the lord of the legion, 1 elsewhere, 2 unknown",
		Long: `Says who is lord of the legion, if somebody is, and exits 0 if that is this
node, 1 if it is not, 2 if that cannot be known: no such legion, or no agent.`,
		Args: args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeLegions(client, cobra.ShellCompDirectiveNoFileComp)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := client().Lord(cmd.Context(), args[0])
		if err != nil {
			return &exitError{code: lordUnknown, err: err}
		}
		if l.Lord != "" {
			fmt.Fprintln(cmd.OutOrStdout(), printable(l.Lord))
		}
		if !l.Here {
			return &exitError{code: lordElsewhere}
		}
		return nil
	}
	return cmd
}
