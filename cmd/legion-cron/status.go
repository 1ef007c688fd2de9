package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

// watchEvery is how often status --watch asks.
const watchEvery = time.Second

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Legions, their lords, and what every node weighs",
		Args:  args(cobra.ExactArgs(0)),
	}
	client := asks(cmd)
	asJSON := jsonFlag(cmd)
	watch := cmd.Flags().Bool("watch", false, "ask again every second, until interrupted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		w := cmd.OutOrStdout()
		show := func(ctx context.Context) error {
			s, err := client().Status(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(w, s)
			}
			if *watch {
				wipe(w)
			}
			return printStatus(w, s, time.Now())
		}
		if !*watch {
			return show(cmd.Context())
		}
		return repeat(cmd.Context(), show)
	}
	return cmd
}

// wipe clears a terminal for what is shown next. Anything else gets an empty line
// instead, and no control characters.
func wipe(w io.Writer) {
	text := "\n"
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			text = "\x1b[H\x1b[2J"
		}
	}
	fmt.Fprint(w, text)
}

// repeat calls show every second until it fails or the user interrupts.
func repeat(ctx context.Context, show func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		err := show(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// inLine returns a legion's members, the lord first, then those that would
// follow it in their order, then those that cannot.
func inLine(l control.Legion) []control.LegionMember {
	place := func(m control.LegionMember) int {
		if i := slices.Index(l.Succession, m.Name); i >= 0 {
			return i + 1
		}
		if m.Name == l.Lord {
			return 0
		}
		return len(l.Succession) + 1
	}
	return slices.SortedStableFunc(slices.Values(l.Members), func(a, b control.LegionMember) int { return place(a) - place(b) })
}

func printStatus(w io.Writer, s control.Status, now time.Time) error {
	fmt.Fprintf(w, "%s, legion-cron %s\n", printable(s.Node), printable(s.Version))
	c := s.Cluster
	switch {
	case c.ID == "":
		fmt.Fprintln(w, "no cluster yet: waiting for the founding")
	case len(c.Voters) == 1 && len(c.Members) <= 1:
		fmt.Fprintln(w, "alone")
	default:
		fmt.Fprintf(w, "cluster %s, epoch %d, voters %s\n", printable(c.ID), c.Epoch, printable(strings.Join(c.Voters, " ")))
		lord := "no lord of the cluster"
		if c.Lord != "" {
			lord = "lord of the cluster " + printable(c.Lord)
		}
		fmt.Fprintf(w, "size %d, quorum %d, beat %v, lease %v, %s\n", c.Size, c.Quorum,
			time.Duration(c.BeatMS)*time.Millisecond, time.Duration(c.LeaseMS)*time.Millisecond, lord)
	}
	if c.Change != "" {
		fmt.Fprintf(w, "electorate: %s\n", printable(c.Change))
	}

	fmt.Fprintln(w)
	legions := newTable("LEGION", "LORD", "TERM", "SINCE", "TRUST", "VOTES", "NEXT", "LAST CHANGE")
	for _, l := range s.Legions {
		trust := "" // known on the lord alone
		if l.TrustedMS > 0 {
			trust = short(time.Duration(l.TrustedMS) * time.Millisecond)
		}
		legions.row(l.Name, l.Lord, fmt.Sprint(l.Term), ago(l.Since, now), trust,
			fmt.Sprintf("%d of %d, quorum %d", l.Votes, len(c.Voters), l.Quorum),
			strings.Join(l.Succession[:min(heirs, len(l.Succession))], " "), describeChange(l.LastChange, now))
	}
	none := "no legions"
	if c.ID == "" {
		none = "no legion has a lord before the founding"
	}
	if err := legions.print(w, none); err != nil {
		return err
	}

	fmt.Fprintln(w)
	standing := newTable("LEGION", "NODE", "ROLE", "VALOR", "EFFECTIVE", "FIT", "VOTES FOR", "WHY")
	for _, l := range s.Legions {
		for _, m := range inLine(l) {
			standing.row(l.Name, m.Name, m.Role, fmt.Sprint(m.Valor), fmt.Sprint(m.Effective), yesNo(m.Fit), m.VoteFor, strings.Join(m.Reasons, "; "))
		}
	}
	if len(standing.rows) > 1 {
		if err := standing.print(w, ""); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}

	members := newTable("NODE", "ADDRESS", "STATE", "VERSION", "CLOCK")
	for _, m := range c.Members {
		members.row(m.Name, m.Addr, m.State, m.Version, describeSkew(m))
	}
	if err := members.print(w, "no other nodes"); err != nil {
		return err
	}
	return printWarnings(w, s)
}

// heirs are shown of each line of succession; --json has all.
const heirs = 3

// maxSkew is the difference between wall clocks that deserves a word.
const maxSkew = 500

func printWarnings(w io.Writer, s control.Status) error {
	var warnings []string
	for _, l := range s.Legions {
		if !l.Safe {
			warnings = append(warnings, fmt.Sprintf("%s is unsafe: with a quorum of %d of %d, two nodes may be lord at once", l.Name, l.Quorum, len(s.Cluster.Voters)))
		}
		if l.Doubles > 0 {
			warnings = append(warnings, fmt.Sprintf("%s: %d slots ran on more than one side of a split (LEGION_EVENT=double in the log)", l.Name, l.Doubles))
		}
		if l.Paused != "" {
			warnings = append(warnings, l.Name+" is paused: "+l.Paused)
		}
		if l.Lord == "" {
			warnings = append(warnings, l.Name+" has no lord")
		} else if !l.Agreed {
			warnings = append(warnings, l.Name+": not all voters vote for "+l.Lord+dissent(l))
		}
	}
	if c := s.Cluster; c.Size > 0 && len(c.Voters) != c.Size {
		warnings = append(warnings, fmt.Sprintf("there are %d voters, and cluster.size is %d", len(c.Voters), c.Size))
	}
	for _, text := range s.Cluster.Drift {
		warnings = append(warnings, text)
	}
	for _, m := range s.Cluster.Members {
		if s := m.ClockSkewMS; s != nil && (*s > maxSkew || *s < -maxSkew) {
			warnings = append(warnings, fmt.Sprintf("the clock of %s differs by %+d ms", m.Name, *s))
		}
	}
	slices.Sort(warnings)
	for i, text := range warnings {
		if i == 0 {
			fmt.Fprintln(w)
		}
		if _, err := fmt.Fprintln(w, "warning:", printable(text)); err != nil {
			return err
		}
	}
	return nil
}

// dissent says which voters do not vote for the lord, and why.
func dissent(l control.Legion) string {
	var texts []string
	for _, v := range l.Voters {
		if v.Why != "" {
			texts = append(texts, fmt.Sprintf("%s (%s)", v.Name, v.Why))
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return ": " + strings.Join(texts, ", ")
}

func describeSkew(m control.Member) string {
	if m.ClockSkewMS == nil {
		return "-"
	}
	return fmt.Sprintf("%+dms", *m.ClockSkewMS)
}

func describeChange(c *control.Change, now time.Time) string {
	if c == nil {
		return ""
	}
	from, to := c.From, c.To
	if from == "" {
		from = "nobody"
	}
	if to == "" {
		to = "nobody"
	}
	text := fmt.Sprintf("%s to %s, %s ago", from, to, ago(c.At, now))
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}
