package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

// completeWithin is how long somebody who presses tab waits for an answer at
// most: of the cluster, and again of the node alone.
const completeWithin = time.Second

// completeJobs completes the first argument to the name of a job. Where there
// is no agent, or it does not answer, nothing is completed and nothing said.
func completeJobs(client func() *control.Client) cobra.CompletionFunc {
	return first(cobra.ShellCompDirectiveNoFileComp, func(ctx context.Context) (names []cobra.Completion) {
		c := quiet(client)
		jobs, err := within(ctx, c.Jobs)
		if err != nil { // a node that does not answer is waited for too long
			own, _ := within(ctx, c.Listings)
			for _, l := range own {
				jobs = append(jobs, l.Job)
			}
		}
		for _, j := range jobs {
			about := j.Schedule
			if j.Legion != "" {
				about += ", " + j.Legion
			}
			names = append(names, completion(j.Name, about))
		}
		return names
	})
}

// completeLegions does the same with the names of legions. After that comes
// what rest says.
func completeLegions(client func() *control.Client, rest cobra.ShellCompDirective) cobra.CompletionFunc {
	return first(rest, func(ctx context.Context) (names []cobra.Completion) {
		s, _ := within(ctx, quiet(client).Status)
		for _, l := range s.Legions {
			about := "no lord"
			if l.Lord != "" {
				about = "lord: " + l.Lord
			}
			names = append(names, completion(l.Name, about))
		}
		return names
	})
}

// completeLegionFlag has the flag --legion completed.
func completeLegionFlag(cmd *cobra.Command, client func() *control.Client) {
	legions := completeLegions(client, cobra.ShellCompDirectiveNoFileComp)
	err := cmd.RegisterFlagCompletionFunc("legion", func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return legions(cmd, nil, begun) // whatever arguments there are
	})
	if err != nil {
		panic(err) // there is no such flag
	}
}

// first completes the first argument to one of names; rest is for those after it.
func first(rest cobra.ShellCompDirective, names func(context.Context) []cobra.Completion) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, rest
		}
		for _, name := range names(cmd.Context()) {
			if strings.HasPrefix(name, begun) {
				found = append(found, name)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// completion is a name as the shell shows it, with what it is about.
func completion(name, about string) cobra.Completion {
	return cobra.CompletionWithDesc(printable(name), printable(about))
}

// quiet is a client that does not say who is silent.
func quiet(client func() *control.Client) *control.Client {
	c := client()
	c.Silent = nil
	return c
}

func within[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	return ask(ctx)
}
