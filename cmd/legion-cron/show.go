package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

func newShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Everything about a run: attempts, times, node, term, end of its output",
		Long: `Says all that any node knows of a run, given by its id or by the name of its
slot (legion/job@2026-03-01T02:00:00Z), both as legion-cron runs prints them.`,
		Args: args(cobra.ExactArgs(1)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkName("run", args[0]); err != nil {
			return err
		}
		s, err := client().Story(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), s)
		}
		return printStory(cmd.OutOrStdout(), s, time.Now())
	}
	return cmd
}

// maxName is as long as a name or an id may be, in bytes; a slot's has three.
const maxName = 255

// checkName refuses what can be the name of nothing.
func checkName(what, name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 3*maxName {
		return &usageError{msg: fmt.Sprintf("bad %s %.40q", what, name), hint: "legion-cron runs and legion-cron jobs list what there is"}
	}
	return nil
}

func printStory(w io.Writer, s control.Story, now time.Time) error {
	r := s.Run
	p := &facts{}
	p.add("slot", r.Slot)
	p.add("run", r.Run)
	p.add("outcome", howItEnded(r))
	p.add("attempt", fmt.Sprintf("%d of %d so far", r.Attempt, len(s.Attempts)))
	if r.Node != "" {
		p.add("node", r.Node+", incarnation "+s.Incarnation)
	}
	if r.Legion != "" {
		p.add("lord's term", fmt.Sprintf("%d of %s", r.Term, r.Legion))
	}
	p.add("scheduled", moment(r.Scheduled, now))
	if l := late(r); l != "" {
		p.add("started", moment(r.Started, now)+", "+l+" late")
	}
	if t := took(r, now); t != "" {
		p.add("ended", strings.TrimPrefix(moment(r.Ended, now)+", after "+t, ", "))
	}
	if r.Manual {
		p.add("by hand", "yes")
	}
	if s.Definition != "" {
		p.add("definition", s.Definition)
	}
	if err := p.print(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t := newTable("TIME", "EVENT", "ATTEMPT", "NODE", "TERM", "DETAIL")
	for _, m := range s.Timeline {
		attempt, term := "", ""
		if m.Node != "" {
			attempt, term = fmt.Sprint(m.Attempt), fmt.Sprint(m.Term)
		}
		t.row(moment(m.At, now), m.Event, attempt, m.Node, term, m.Detail)
	}
	if err := t.print(w, "nothing has happened yet"); err != nil {
		return err
	}
	return printOutput(w, s.Output)
}

func printOutput(w io.Writer, o *control.Tail) error {
	switch {
	case o == nil:
		return nil
	case o.Bytes == 0:
		_, err := fmt.Fprintf(w, "\nno output; %s on %s\n", printable(o.Path), printable(o.Node))
		return err
	}
	what := "output"
	if int64(len(o.Tail)) < o.Bytes {
		what = fmt.Sprintf("the end of %d bytes of output", o.Bytes)
	}
	if _, err := fmt.Fprintf(w, "\n%s; %s on %s:\n", what, printable(o.Path), printable(o.Node)); err != nil {
		return err
	}
	for line := range strings.Lines(o.Tail) {
		if _, err := fmt.Fprintln(w, "  "+printable(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "        "))); err != nil {
			return err
		}
	}
	return nil
}

// moment is a time to the millisecond, in now's zone.
func moment(t control.Time, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(now.Location()).Format("2006-01-02 15:04:05.000")
}

// facts are names and values, one pair a line.
type facts struct{ pairs [][2]string }

func (f *facts) add(name, value string) {
	if value != "" {
		f.pairs = append(f.pairs, [2]string{name, value})
	}
}

func (f *facts) print(w io.Writer) error {
	width := 0
	for _, p := range f.pairs {
		width = max(width, len(p[0]))
	}
	for _, p := range f.pairs {
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width, p[0], printable(p[1])); err != nil {
			return err
		}
	}
	return nil
}
