package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
)

func newValidate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Say everything that is wrong with a configuration",
		Args:  args(cobra.ExactArgs(1)),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, problems := config.Load(args[0])
		if *asJSON {
			if problems == nil {
				problems = config.Problems{} // [], not null
			}
			if err := printJSON(cmd.OutOrStdout(), problems); err != nil {
				return err
			}
		} else {
			for _, p := range problems {
				fmt.Fprintln(cmd.ErrOrStderr(), p)
			}
		}
		if len(problems) > 0 {
			return &exitError{code: exitFailed}
		}
		if !*asJSON {
			warn(cmd.ErrOrStderr(), cfg)
			fmt.Fprintf(cmd.OutOrStdout(), "%s is valid: %s\n", args[0], summary(cfg))
		}
		return nil
	}
	return cmd
}

// warn says what is accepted, but may not be what was meant.
func warn(w io.Writer, cfg *config.Config) {
	for _, p := range cfg.Warnings {
		fmt.Fprintln(w, "warning:", p)
	}
}

func summary(cfg *config.Config) string {
	text := plural(len(cfg.Jobs), "job") + ", " + plural(len(cfg.Legions), "legion")
	if cfg.Cluster == nil {
		text += ", alone"
	}
	return text
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
