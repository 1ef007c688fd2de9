package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

// socketEnv names the variable that says where the agent listens.
const socketEnv = "LEGION_CRON_SOCKET"

// asks gives cmd the flag --socket; the returned function makes the client
// once flags are parsed.
func asks(cmd *cobra.Command) func() *control.Client {
	path := os.Getenv(socketEnv)
	if path == "" {
		path = control.DefaultSocket
	}
	cmd.Flags().StringVar(&path, "socket", path, "control socket of the agent, or "+socketEnv)
	said := "" // trigger --wait and logs -f ask again and again
	return func() *control.Client {
		c := control.NewClient(path)
		c.Silent = func(names string) {
			if names == said {
				return
			}
			said = names
			fmt.Fprintf(cmd.ErrOrStderr(), "legion-cron: no answer from %s: what is known there alone is missing\n", printable(names))
		}
		return c
	}
}

// jsonFlag gives cmd the flag --json.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON; its keys do not change")
}
