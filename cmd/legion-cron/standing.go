package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

// nodeFlag gives cmd the flag --node.
func nodeFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("node", "", "another node than the one that is asked")
}

func newStepDown() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "step-down LEGION",
		Short: "Have the lord of a legion hand it over",
		Long: `Have the lord of a legion hand it over, and rank behind all others for a while. The
next in line reigns (status shows the line), or with --to that node, which then stays
for as long even if another is better. The old lord acts no more before the new one
can. It is refused where nobody could take over; drain does not ask for that. If all
others fail meanwhile, the old one reigns again.`,
		Args: args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeLegions(client, cobra.ShellCompDirectiveNoFileComp)
	asJSON := jsonFlag(cmd)
	away := time.Minute
	cmd.Flags().Var((*period)(&away), "for", "how long the node ranks behind all others")
	to := cmd.Flags().String("to", "", "the node that is to reign")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if away <= 0 {
			return &usageError{"step-down: --for must be more than 0", "for good: legion-cron drain, or set-valor LEGION 0"}
		}
		s, err := client().StepDown(cmd.Context(), control.StepDownQuery{Legion: args[0], For: away, To: *to})
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, s)
		}
		if s.To == "" {
			_, err = fmt.Fprintf(w, "%s is lord of %s no more; nobody reigns yet\n", printable(s.From), printable(s.Legion))
		} else {
			_, err = fmt.Fprintf(w, "%s is lord of %s, term %d; %s ranks last for %v\n", printable(s.To), printable(s.Legion), s.Term, printable(s.From), away)
		}
		return err
	}
	return cmd
}

func newDrain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Have the node hand over all lordships and take none, until undrain",
		Long: `Have the node hand over all lordships and take none. Each goes to the next in line
that is ready; where none is, it is given up all the same. The node goes on voting,
and what it runs goes on; the slots of its own jobs are skipped. It stays drained over
restarts, until undrain.`,
		Args: args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	node := nodeFlag(cmd)
	now := cmd.Flags().Bool("now", false, "give them up at once, without asking who is ready")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := client().Drain(cmd.Context(), *node, *now)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, s)
		}
		if len(s.Lordships) > 0 {
			return &refusal{fmt.Sprintf("%s is drained, and still lord of %s", printable(s.Node), printable(strings.Join(s.Lordships, ", "))), "legion-cron status"}
		}
		_, err = fmt.Fprintf(w, "%s is drained\n", printable(s.Node))
		return err
	}
	return cmd
}

func newUndrain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "undrain",
		Short: "Have a drained node stand again",
		Args:  args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	node := nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := client().Undrain(cmd.Context(), *node)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), s)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is drained no more\n", printable(s.Node))
		return err
	}
	return cmd
}

func newSetValor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set-valor LEGION N",
		Short: "Override the node's valor in a legion, until reset-valor",
		Long: `Override the node's valor in a legion: 0 makes it an arbiter there. Checks and load
count on top as ever. It holds over restarts and reloads, until reset-valor.`,
		Args: args(cobra.ExactArgs(2)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeLegions(client, cobra.ShellCompDirectiveNoFileComp)
	asJSON := jsonFlag(cmd)
	node := nodeFlag(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if negative.MatchString(err.Error()) { // -5 looks like flags
			return &usageError{"set-valor: a valor is not below 0", "usage: " + cmd.UseLine() + "; 0 makes the node an arbiter"}
		}
		return cmd.Root().FlagErrorFunc()(cmd, err)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return &usageError{fmt.Sprintf("set-valor: %q is no whole number", args[1]), "usage: " + cmd.UseLine()}
		}
		v, err := client().SetValor(cmd.Context(), *node, args[0], &n)
		if err != nil {
			return err
		}
		return showValor(cmd, v, *asJSON)
	}
	return cmd
}

// negative finds a number below 0 in what pflag says of it.
var negative = regexp.MustCompile(` in -[0-9]+$`)

func newResetValor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset-valor LEGION",
		Short: "Give the node the valor of its configuration again",
		Args:  args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeLegions(client, cobra.ShellCompDirectiveNoFileComp)
	asJSON := jsonFlag(cmd)
	node := nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := client().SetValor(cmd.Context(), *node, args[0], nil)
		if err != nil {
			return err
		}
		return showValor(cmd, v, *asJSON)
	}
	return cmd
}

func showValor(cmd *cobra.Command, v control.Valor, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), v)
	}
	how := "as configured"
	if v.Set {
		how = fmt.Sprintf("configured: %d", v.Configured)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s has valor %d in %s, %s\n", printable(v.Node), v.Valor, printable(v.Legion), how)
	return err
}
