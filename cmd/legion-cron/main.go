package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/guardian"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

// The exit codes of every verb.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	runner.Trampoline() // does not return in a process that is to become a run,
	guardian.Main()     // nor this in one that is to guard an agent
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(root.ExecuteContext(ctx), stderr)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "legion-cron",
		Short:         "cron for a cluster: every job on exactly one node",
		SilenceErrors: true, // report says them
		SilenceUsage:  true,
		Version:       version,
		Args:          verbArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("legion-cron {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{msg: err.Error(), hint: cmd.CommandPath() + " --help"}
	})
	root.AddCommand(
		newAgent(), newValidate(), newDemo(),
		newStatus(), newJobs(), newNext(), newRuns(), newShow(), newExplain(), newLogs(), newLord(), newScrolls(), newMembers(), newReload(),
		newStepDown(), newDrain(), newUndrain(), newSetValor(), newResetValor(),
		newLeave(), newForget(), newRefound(),
		newTrigger(), newKill(), newRerun(), newPause(), newResume(), newExec(),
		newKeys(), newVersion(),
	)
	for _, verb := range root.Commands() {
		verb.DisableFlagsInUseLine = true
	}
	strict(root)
	return root
}

// strict has cobra's own verbs refuse what they do not know, as ours do.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, verb := range root.Commands() {
		switch verb.Name() {
		case "help":
			verb.Args = func(cmd *cobra.Command, args []string) error {
				if about, rest, err := root.Find(args); err == nil && about.HasSubCommands() {
					return verbArgs(about, rest)
				}
				return nil
			}
		case "completion":
			verb.Args, verb.RunE = verbArgs, root.RunE
			for _, shell := range verb.Commands() {
				shell.Args = args(cobra.NoArgs)
			}
		}
	}
}

// verbArgs checks the arguments of what only has verbs below it: there are none.
func verbArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	path, name := strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()), " "), args[0]
	hint := strings.TrimSuffix("legion-cron help "+path, " ") + " lists the verbs"
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		hint = "did you mean " + near[0] + "?"
	}
	return &usageError{msg: fmt.Sprintf("unknown verb %q", strings.TrimPrefix(path+" "+name, " ")), hint: hint}
}

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ msg, hint string }

func (e *usageError) Error() string { return e.msg }

// refusal is a failure with advice.
type refusal struct{ msg, hint string }

func (e *refusal) Error() string { return e.msg }

// exitError ends the program with a code of the verb's own. Without an error
// inside there is nothing to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// report says err on w, with its hint, and returns the exit code it means.
func report(err error, w io.Writer) int {
	if err == nil {
		return exitDone
	}
	code, hint := exitFailed, ""
	if e, ok := errors.AsType[*exitError](err); ok {
		code, err = e.code, e.err
	}
	if e, ok := errors.AsType[*usageError](err); ok {
		code, hint = exitUsage, e.hint
	}
	if e, ok := errors.AsType[*refusal](err); ok {
		hint = e.hint
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		hint = e.Hint
	}
	if err != nil {
		fmt.Fprintf(w, "legion-cron: %v\n", err)
	}
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return code
}

// period is the value of a flag: a duration, with d for days.
type period time.Duration

func (p *period) String() string { return time.Duration(*p).String() }
func (p *period) Type() string   { return "duration" }

func (p *period) Set(text string) error {
	d, err := control.ParsePeriod(text)
	if err != nil {
		return err
	}
	*p = period(d)
	return nil
}

// args wraps one of cobra's argument checks, so that what it refuses is a usage
// error; and so is an empty argument, most often an unset variable, but for
// those after "--", which are another program's.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		own := args
		if dash := cmd.ArgsLenAtDash(); dash >= 0 {
			own = args[:dash]
		}
		if err == nil && slices.Contains(own, "") {
			err = errors.New("an argument is empty")
		}
		if err != nil {
			name := strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
			return &usageError{msg: name + ": " + err.Error(), hint: "usage: " + cmd.UseLine()}
		}
		return nil
	}
}

// usage makes a usage error of what the control package refuses to parse.
func usage(err error) error {
	if e, ok := errors.AsType[*control.Error](err); ok {
		return &usageError{msg: e.Message, hint: e.Hint}
	}
	return err
}
