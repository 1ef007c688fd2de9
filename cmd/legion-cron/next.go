package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

func newNext() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "next [JOB | --spec SPEC]",
		Short: "When a job, or a schedule, is due; of all jobs without either",
		Long: `Prints the next instants at which a job is due, or a schedule that need not be
in any configuration: that needs no agent.`,
		Example: `  legion-cron next backup
  legion-cron next --spec '30 2 * * mon-fri' --timezone Europe/Berlin -n 3`,
		Args: args(cobra.MaximumNArgs(1)),
	}
	client := asks(cmd)
	cmd.ValidArgsFunction = completeJobs(client)
	asJSON := jsonFlag(cmd)
	spec := cmd.Flags().String("spec", "", "a schedule")
	n := cmd.Flags().IntP("count", "n", control.DefaultNext, fmt.Sprintf("how many, up to %d", control.MaxNext))
	zone := cmd.Flags().String("timezone", "", "IANA name: the zone of --spec (UTC), or the one to print in")
	fromText := cmd.Flags().String("from", "", "from this moment on (RFC 3339) instead of now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := parseFrom(*fromText, time.Now())
		if err != nil {
			return err
		}
		if *n < 1 || *n > control.MaxNext {
			return &usageError{msg: fmt.Sprintf("bad count %d", *n), hint: fmt.Sprintf("a number from 1 to %d", control.MaxNext)}
		}
		given := cmd.Flags().Changed("spec")
		if given && len(args) > 0 {
			return &usageError{msg: "both a job and --spec", hint: "usage: " + cmd.UseLine()}
		}
		var next control.Next
		switch {
		case given:
			next, err = nextOfSpec(*spec, *zone, from, *n)
		case len(args) == 1:
			next, err = client().Next(cmd.Context(), control.NextQuery{Job: args[0], From: from, N: *n})
		case slices.ContainsFunc([]string{"count", "from", "timezone"}, cmd.Flags().Changed):
			return &usageError{msg: "-n, --from and --timezone are for a job or --spec", hint: "usage: " + cmd.UseLine()}
		default:
			jobs, err := client().Jobs(cmd.Context())
			if err != nil {
				return err
			}
			return printDue(cmd.OutOrStdout(), jobs, *asJSON)
		}
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), next)
		}
		if *zone == "" {
			*zone = next.Timezone
		}
		return printNext(cmd.OutOrStdout(), next, *zone, from)
	}
	return cmd
}

func parseFrom(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now, nil
	}
	from, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, &usageError{msg: fmt.Sprintf("bad time %q", text), hint: "RFC 3339 like 2026-03-01T02:00:00Z"}
	}
	return from, nil
}

// nextOfSpec needs no node. The zone is UTC unless given here or in the text.
func nextOfSpec(spec, zone string, from time.Time, n int) (control.Next, error) {
	if zone == "" {
		zone = "UTC"
	}
	loc, err := cronspec.LoadLocation(zone)
	if err != nil {
		return control.Next{}, &refusal{msg: err.Error(), hint: "an IANA name like Europe/Berlin"}
	}
	s, err := cronspec.Parse(spec, cronspec.Options{Location: loc})
	if e, ok := errors.AsType[*cronspec.Error](err); ok {
		if strings.TrimSpace(spec) == "" {
			return control.Next{}, err // there is nothing to point at
		}
		return control.Next{}, fmt.Errorf("%w\n%s", err, e.Caret())
	}
	if err != nil {
		return control.Next{}, err
	}
	slots, notes := cronspec.Upcoming(s, from.In(loc), n)
	next := control.Next{Spec: spec, Timezone: zone, Description: s.Describe(), Notes: notes}
	for _, at := range slots {
		next.Next = append(next.Next, control.At(at))
	}
	return next, nil
}

// printNext says each instant in zone, and in how long it is.
func printNext(w io.Writer, next control.Next, zone string, from time.Time) error {
	loc := time.Local // of a job that names none, on a node that names none
	if zone != "" && zone != loc.String() {
		var err error
		if loc, err = cronspec.LoadLocation(zone); err != nil {
			return &refusal{msg: err.Error(), hint: "an IANA name like Europe/Berlin"}
		}
	}
	fmt.Fprintln(w, printable(next.Description))
	t := newTable(loc.String(), "UTC", "IN")
	for _, at := range next.Next {
		t.row(at.In(loc).Format("Mon 2006-01-02 15:04:05 -0700"), at.UTC().Format("2006-01-02 15:04:05"), short(at.Sub(from)))
	}
	if err := t.print(w, "no times to list"); err != nil {
		return err
	}
	for _, note := range next.Notes {
		if _, err := fmt.Fprintln(w, "note:", printable(note)); err != nil {
			return err
		}
	}
	return nil
}

// printDue prints all jobs in the order they are due.
func printDue(w io.Writer, jobs []control.Job, asJSON bool) error {
	due := slices.DeleteFunc(slices.Clone(jobs), func(j control.Job) bool { return j.Next.IsZero() })
	slices.SortStableFunc(due, func(a, b control.Job) int { return a.Next.Compare(b.Next.Time) })
	if asJSON {
		return printJSON(w, control.List[control.Job](due))
	}
	now := time.Now()
	t := newTable("NEXT", "IN", "JOB", "LEGION", "SCHEDULE")
	for _, j := range due {
		t.row(clock(j.Next, now), short(j.Next.Sub(now)), j.Name, j.Legion, j.Schedule)
	}
	return t.print(w, "nothing is due")
}
