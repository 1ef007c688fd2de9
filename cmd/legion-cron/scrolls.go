package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func newScrolls() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scrolls LEGION",
		Short: "What each node of the legion says in its scroll, the lord's first",
		Args:  args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeLegions(client, cobra.ShellCompDirectiveNoFileComp)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		scrolls, err := client().Scrolls(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), scrolls)
		}
		t := newTable("NODE", "ROLE", "SCROLL")
		for _, s := range scrolls {
			t.row(s.Node, s.Role, strings.ReplaceAll(strings.TrimSpace(s.Scroll), "\n", " / "))
		}
		return t.print(cmd.OutOrStdout(), "no members")
	}
	return cmd
}
