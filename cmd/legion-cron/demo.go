package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

const (
	// demoAttempts is how often new ports are tried when somebody took one
	// between our finding and our using it.
	demoAttempts = 3
	// demoUp is how long three agents may take until they answer.
	demoUp = 30 * time.Second
	// demoLook is how often the agents are asked what happened.
	demoLook = 200 * time.Millisecond
	// demoAsk bounds one question: a frozen agent must not hide the others.
	demoAsk = time.Second
)

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Three nodes on this machine to play with; nothing is left behind",
		Long: `Starts three real agents on 127.0.0.1 with temporary state and a few jobs, and
shows who is lord and what runs. Kill one with kill -9 and watch. Ctrl-C stops
everything and removes everything.`,
		Args: args(cobra.ExactArgs(0)),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
			defer stop()
			return runDemo(ctx, cmd.OutOrStdout())
		},
	}
}

// runDemo runs until ctx ends, or until no agent is left.
func runDemo(ctx context.Context, w io.Writer) (err error) {
	if err := adoptOrphans(); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	for attempt := 1; ; attempt++ {
		town, err := newTown()
		if err != nil {
			return err
		}
		err = town.start(ctx)
		if err == nil {
			err = play(ctx, town, w)
		}
		err = errors.Join(err, town.raze())
		switch {
		case errors.Is(err, errPortTaken) && attempt < demoAttempts:
			continue
		case err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
			return nil // interrupted while starting
		}
		return err
	}
}

// play prints what happens in the town.
func play(ctx context.Context, town *town, w io.Writer) error {
	fmt.Fprintf(w, "Three agents, with their state in %s until Ctrl-C.\n\n", town.dir)
	t := newTable("NODE", "PID", "ASK IT")
	for _, n := range town.nodes {
		t.row(n.name, fmt.Sprint(n.cmd.Process.Pid), "legion-cron status --socket "+n.socket)
	}
	if err := t.print(w, ""); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nkill -9 the lord, and the entries go on from another node.\n\n")

	news := newNews(time.Now())
	tick := time.NewTicker(demoLook)
	defer tick.Stop()
	for {
		for _, n := range town.nodes {
			if why, gone := n.fallen(); gone {
				fmt.Fprintf(w, "%s  %s, pid %d, is gone: %s\n", time.Now().Format(time.TimeOnly), n.name, n.cmd.Process.Pid, why)
			}
		}
		if town.living() == 0 {
			return errors.New("no agent is left")
		}
		for _, line := range news.read(town.look(ctx)) {
			fmt.Fprintln(w, line)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			fmt.Fprintln(w, "\nstopping")
			return nil
		}
	}
}

// sight is what one agent says at one moment; zero if it does not answer.
type sight struct {
	node     string
	answered bool
	status   control.Status
	runs     []control.Run
}

// news turns what three agents say, again and again, into lines that are
// printed once.
type news struct {
	since time.Time
	lord  string
	term  uint64
	told  map[string]time.Time // what was told, by when it was scheduled
}

const (
	// demoRuns is how many runs each agent is asked for, each time.
	demoRuns = 100
	// newsMemory is how long a run is remembered as told: much longer than it
	// stays among the newest demoRuns.
	newsMemory = 10 * time.Minute
)

func newNews(since time.Time) *news {
	return &news{since: since, told: map[string]time.Time{}}
}

func (n *news) read(sights []sight) []string {
	var lines []string
	for _, s := range sights {
		for _, l := range s.status.Legions {
			// Only the lord itself is believed: the others may not know yet.
			if l.Name == demoLegion && l.Lord == s.node && l.Term > n.term {
				lines = append(lines, n.crown(l))
			}
		}
	}
	for _, s := range sights {
		for i := len(s.runs) - 1; i >= 0; i-- { // the oldest first
			if line, fresh := n.tell(s.runs[i]); fresh {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func (n *news) crown(l control.Legion) string {
	line := fmt.Sprintf("%s  %s is lord of %s, term %d", clockTime(l.Since), l.Lord, l.Name, l.Term)
	if n.lord != "" {
		line += ", after " + n.lord
	}
	n.lord, n.term = l.Lord, l.Term
	return line
}

// tell says a run once, when it has ended.
func (n *news) tell(r control.Run) (string, bool) {
	switch r.Outcome {
	case "queued", "claimed", "starting", "running":
		return "", false
	}
	key := fmt.Sprintf("%s#%d %s %s", r.Slot, r.Attempt, r.Run, r.Outcome)
	if _, known := n.told[key]; known || r.Scheduled.Before(n.since.Add(-newsMemory)) {
		return "", false
	}
	n.told[key] = r.Scheduled.Time
	for k, at := range n.told {
		if r.Scheduled.Sub(at) > newsMemory {
			delete(n.told, k)
		}
	}
	line := fmt.Sprintf("%s  %-7s %-10s %s", clockTime(r.Scheduled), r.Node, r.Job, r.Outcome)
	if d := took(r, n.since); d != "" {
		line += " in " + d
	}
	if text := why(r); text != "" {
		line += ": " + text
	}
	return line, true
}

func clockTime(t control.Time) string { return t.Local().Format(time.TimeOnly) }
