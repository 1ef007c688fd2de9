package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

func newMembers() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "members",
		Short: "The nodes of the cluster, and which of them vote",
		Args:  args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := client().Status(cmd.Context())
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, s.Cluster.Members)
		}
		t := newTable("NODE", "ADDRESS", "STATE", "VOTES", "VERSION", "CLOCK")
		for _, m := range s.Cluster.Members {
			t.row(m.Name, m.Addr, m.State, yesNo(slices.Contains(s.Cluster.Voters, m.Name)), m.Version, describeSkew(m))
		}
		for _, v := range s.Cluster.Voters {
			if !slices.ContainsFunc(s.Cluster.Members, func(m control.Member) bool { return m.Name == v }) {
				t.row(v, "", "not seen", yesNo(true), "", "")
			}
		}
		return t.print(w, "no nodes")
	}
	return cmd
}

func newLeave() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Leave the cluster: give the vote to another node and stop the agent",
		Long: `Leave the cluster. The node's vote goes to a node that has none, if there is one;
else the electorate becomes smaller. Then the agent stops, as with SIGTERM. When it
is started again it is a node like any other, and may become a voter again.`,
		Args: args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		e, err := client().Leave(cmd.Context())
		if err != nil {
			return err
		}
		return showElectorate(cmd.OutOrStdout(), e, *asJSON, "left; the agent is stopping")
	}
	return cmd
}

func newForget() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget NODE",
		Short: "Remove a voter that is gone for good",
		Long: `Remove a voter that is gone for good: its host was given away, say. A node without
a vote takes its place, if there is one. A node that lost only its disk is replaced
without this when it comes back, and one that is alive leaves by: legion-cron leave.`,
		Args: args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := client().Forget(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return showElectorate(cmd.OutOrStdout(), e, *asJSON, args[0]+" is forgotten")
	}
	return cmd
}

const refoundWarning = `this makes the node the only voter of its cluster, which is right only if a majority
of the voters is lost for good. Before you go on, make sure that they are: switched
off, or without their state directories.

What may go wrong:
  - A voter that is alive after all forms a cluster of its own with others like it.
    Until they meet this one both have their lords, and jobs run in both.
  - A slot that only the lost voters knew to be started may be started again.

Of several survivors take the one that has been up to date the longest, and do this
on that one alone. The others follow, and become voters again.`

func newRefound() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "refound",
		Short: "On a survivor: go on with this node as the only voter, a majority being lost for good",
		Long:  "On a survivor: " + refoundWarning,
		Args:  args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	yes := cmd.Flags().Bool("yes", false, "the other voters are gone for good: do it")
	force := cmd.Flags().Bool("force", false, "even though a quorum of voters seems to be here")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !*yes {
			return &refusal{refoundWarning, "when they are gone: legion-cron refound --yes"}
		}
		e, err := client().Refound(cmd.Context(), *force)
		if err != nil {
			return err
		}
		return showElectorate(cmd.OutOrStdout(), e, *asJSON, "founded again")
	}
	return cmd
}

func showElectorate(w io.Writer, e control.Electorate, asJSON bool, done string) error {
	if asJSON {
		return printJSON(w, e)
	}
	_, err := fmt.Fprintf(w, "%s\nepoch %d, voters %s\n", printable(done), e.Epoch, printable(strings.Join(e.Voters, " ")))
	return err
}
