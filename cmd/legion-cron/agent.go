package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/daemon"
)

// defaultConfig is where a package puts the configuration.
const defaultConfig = "/etc/legion-cron/config.toml"

func newAgent() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the node",
		Long: `Runs the node until SIGTERM or SIGINT. The first one gives up all lordships at
once and waits for running jobs, up to stop_timeout; a second one kills them.
SIGHUP reads the configuration again: all of it, or on any error nothing.`,
		Args: args(cobra.ExactArgs(0)),
	}
	path := cmd.Flags().String("config", defaultConfig, "configuration file")
	untilEOF := cmd.Flags().Bool("until-eof", false, "stop and kill all runs when standard input ends: whoever holds it is gone")
	_ = cmd.Flags().MarkHidden("until-eof") // fails only for a flag that does not exist
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(*path, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		load := func() (*config.Config, error) {
			cfg, problems := config.Load(*path)
			if len(problems) > 0 {
				return nil, problems
			}
			return cfg, nil
		}
		d, err := daemon.New(cfg, daemon.Options{Version: version})
		if err != nil {
			return err
		}
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		defer signal.Stop(signals)
		var orphaned <-chan struct{}
		if *untilEOF {
			orphaned = atEOF(cmd.InOrStdin())
		}
		return serve(cmd.Context(), d, load, signals, orphaned)
	}
	return cmd
}

// node is what serve runs; a *daemon.Daemon.
type node interface {
	Start(context.Context) error
	// Stop gives up the lordships, waits for running jobs up to the node's
	// stop_timeout, and returns when everything has ended.
	Stop(context.Context) error
	// Kill kills the running jobs, so that a Stop under way need not wait.
	Kill()
	Reload(context.Context, *config.Config) error
	// Reloading says that the configuration is about to be read again, and
	// what it returns that this is over, or what came in its way.
	Reloading() (over func(error))
	// Left is closed when the node wants to be stopped: it was told to leave,
	// or LeftBy says what is wrong.
	Left() <-chan struct{}
	LeftBy() error
}

// serve runs n until a signal, or the end of orphaned, tells it to stop.
func serve(ctx context.Context, n node, load func() (*config.Config, error), signals <-chan os.Signal, orphaned <-chan struct{}) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	var stopped chan error // nil until told to stop
	left := n.Left()
	stop := func() {
		stopped = make(chan error, 1)
		go func() { stopped <- n.Stop(context.WithoutCancel(ctx)) }()
	}
	for {
		select {
		case sig := <-signals:
			switch {
			case stopped != nil && sig != syscall.SIGHUP:
				n.Kill()
			case stopped != nil: // too late to reload
			case sig == syscall.SIGHUP:
				reload(ctx, n, load)
			default:
				stop()
			}
		case <-left:
			left = nil
			if stopped == nil {
				stop()
			}
		case <-orphaned:
			orphaned = nil
			if stopped == nil {
				stop()
			}
			n.Kill()
		case err := <-stopped:
			if err == nil && left == nil {
				err = n.LeftBy()
			}
			return err
		}
	}
}

// reload keeps the old configuration if there is anything wrong with the new one.
func reload(ctx context.Context, n node, load func() (*config.Config, error)) {
	over := n.Reloading()
	cfg, err := load()
	if err == nil {
		err = n.Reload(ctx, cfg)
	}
	over(err)
}

// loadConfig loads path, or says on w all that is wrong with it, a line each.
func loadConfig(path string, w io.Writer) (*config.Config, error) {
	cfg, problems := config.Load(path)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && len(problems) > 0 {
		return nil, &refusal{msg: problems.Error(), hint: "--config FILE says where the configuration is"}
	}
	for _, p := range problems {
		fmt.Fprintln(w, p)
	}
	if len(problems) > 0 {
		return nil, &exitError{code: exitFailed}
	}
	return cfg, nil // the daemon logs the warnings
}

// atEOF returns a channel that is closed when r ends. The goroutine that reads
// lives as long as r does: nothing can interrupt a read of standard input.
func atEOF(r io.Reader) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, r) // an error is an end, too
	}()
	return ended
}
