package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

// What a shell exits with for a command that it cannot run, or that a signal ended.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus its number
)

// caught are the signals that are passed on to the command, but for those that
// a terminal sends: where there is one, the command gets them from it.
var (
	caught       = []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGINT, syscall.SIGQUIT}
	fromTerminal = map[os.Signal]bool{syscall.SIGINT: true, syscall.SIGQUIT: true}
)

func newExec() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec LEGION [--slot] [--slot-every D] [--name N] -- CMD [ARG...]",
		Short: "Run CMD only if this node is the lord: for lock scripts in a crontab",
		Long: `Runs CMD if this node is the lord of the legion, and else exits 0 in silence. CMD
is a child of the caller, with its user, terminal and environment; its exit code
is passed on, and the run is recorded.

With --slot, in the crontabs of all hosts, CMD runs once for each minute in the
whole cluster, also if the lordship moves just then: the minute of this host's
clock is a slot, and the lord claims it. Other hosts wait until it is claimed; if
that does not happen within the lease and two beats, they say so and exit 1.

	* * * * *  legion-cron exec foobar --slot -- /usr/local/bin/sync-mail`,
		Args: args(func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
				return errors.New("want LEGION -- CMD")
			}
			return nil
		}),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeLegions(client, cobra.ShellCompDirectiveDefault)
	slot := cmd.Flags().Bool("slot", false, "once for each slot in the cluster")
	every := time.Minute
	cmd.Flags().Var((*period)(&every), "slot-every", "length of a slot, with --slot")
	name := cmd.Flags().String("name", "", "the job's name in runs; default: made from CMD and a hash of it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		argv := args[1:]
		sum := sha256.Sum256([]byte(strings.Join(argv, "\x00")))
		ask := control.ExecAsk{Job: *name, Definition: hex.EncodeToString(sum[:8])}
		if ask.Job == "" {
			ask.Job = execName(argv[0], ask.Definition)
		}
		if *slot || cmd.Flags().Changed("slot-every") {
			if every < time.Second || every > 24*time.Hour {
				return &usageError{msg: fmt.Sprintf("bad slot length %v", every), hint: "from 1s to 24h"}
			}
			ask.Slot = control.At(time.Now().UTC().Truncate(every))
		}
		code := 0
		v, err := client().Exec(cmd.Context(), args[0], ask, func(v control.ExecVerdict, tell func(control.ExecNews), signals <-chan string) {
			code = child(cmd, argv, v.Env, tell, signals)
		})
		switch {
		case err != nil && v.Run != "":
			fmt.Fprintf(cmd.ErrOrStderr(), "legion-cron: the run is not recorded: %v\n", err)
		case err != nil:
			return err
		case v.Unclaimed != "":
			return &refusal{msg: "nobody ran the slot: " + v.Unclaimed, hint: "legion-cron status shows the legions; does cron run on the lord?"}
		}
		if code != 0 {
			return &exitError{code: code}
		}
		return nil
	}
	return cmd
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// execName names a command: what it is, and a hash to tell it from others.
func execName(command, hash string) string {
	base := strings.Trim(notInName.ReplaceAllString(filepath.Base(command), "-"), "-.")
	return base[:min(len(base), 40)] + "-" + hash[:8]
}

// child runs a command in the caller's place and returns its exit code.
func child(cmd *cobra.Command, argv, env []string, tell func(control.ExecNews), signals <-chan string) int {
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdin, c.Stdout, c.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	c.Env = append(os.Environ(), env...)
	heard := make(chan os.Signal, len(caught))
	signal.Notify(heard, caught...)
	defer signal.Stop(heard)
	tty, err := os.Open("/dev/tty")
	terminal := err == nil
	if terminal {
		tty.Close()
	}
	if err := c.Start(); err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok { // "fork/exec" says nothing to anybody
			err = fmt.Errorf("%s: %w", e.Path, e.Err)
		}
		tell(control.ExecNews{Failed: err.Error()})
		fmt.Fprintf(cmd.ErrOrStderr(), "legion-cron: %v\n", err)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			return exitNotFound
		}
		return exitNotExecutable
	}
	tell(control.ExecNews{PID: c.Process.Pid})
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for {
		select {
		case s := <-heard:
			if !terminal || !fromTerminal[s] {
				_ = c.Process.Signal(s) // fails only if it has ended
			}
		case name := <-signals:
			if s, err := runner.ParseSignal(name); err == nil {
				_ = c.Process.Signal(s)
			}
		case <-ended:
			n := control.ExecNews{Ended: true, ExitCode: c.ProcessState.ExitCode()}
			code := n.ExitCode
			if ws, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
				n.Died, code = runner.SignalName(ws.Signal()), exitSignal+int(ws.Signal())
			}
			tell(n)
			return code
		}
	}
}
