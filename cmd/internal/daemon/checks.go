package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/checks"
	"github.com/legion-cron/legion-cron/checks/probe"
	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/runner"
	"github.com/legion-cron/legion-cron/legion"
)

const (
	// maxCheckOutput is how much a check's command may write before it is killed.
	maxCheckOutput = 1 << 20
	// maxCheckLegions is how many legions of a check are announced.
	maxCheckLegions = 64
)

// watched makes what the watch looks at of the configured checks.
func (d *Daemon) watched(cfg *config.Config) ([]probe.Check, error) {
	var all []probe.Check
	for _, c := range cfg.Checks {
		look, err := d.look(c)
		if err != nil {
			return nil, fmt.Errorf("%s: check %s: %w", c.Source, c.Name, err)
		}
		// What is left of the check without its name and what it does is what it looks at.
		what := c
		what.Name, what.Source, what.Legions, what.Interval, what.Timeout = "", "", nil, 0, 0
		what.Rise, what.Fall, what.Valor, what.Required = 0, 0, 0, false
		all = append(all, probe.Check{Look: look, Definition: checks.Definition{
			Name: c.Name, Probe: fmt.Sprintf("%#v", what), Legions: c.Legions, Interval: c.Interval, Timeout: c.Timeout,
			Rise: c.Rise, Fall: c.Fall, Valor: c.Valor, Required: c.Required,
		}})
	}
	return all, nil
}

func (d *Daemon) look(c config.Check) (probe.Probe, error) {
	commands := commands{d.host, d.name}
	switch c.Kind {
	case "ping":
		return probe.Ping(c.Host), nil
	case "process":
		switch {
		case c.PIDFile != "":
			return probe.PIDFile(c.PIDFile), nil
		case c.Process != "":
			return probe.Named(c.Process), nil
		}
		pattern, err := regexp.Compile(c.Pattern)
		if err != nil {
			return nil, err
		}
		return probe.Matching(pattern), nil
	case "tcp":
		return probe.TCP(c.Address), nil
	case "http":
		return probe.HTTP(probe.Request{
			URL: c.URL, Method: c.Method, Status: c.Status, Contains: c.Contains, MaxRedirects: c.MaxRedirects,
			SkipVerify: !c.TLSVerify, CAFile: c.TLSCA, ServerName: c.TLSName,
		}), nil
	case "exec":
		return probe.Exec(commands, probe.Command{Check: c.Name, Text: c.Command, Argv: c.Argv}), nil
	case "unit":
		return probe.Unit(commands, c.Name, c.Unit), nil
	case "file":
		return probe.File(c.Path, c.MaxAge), nil
	case "disk":
		return probe.Disk(c.Path, probe.Enough(c.MinFree)), nil
	case "load":
		return probe.Load(c.MaxLoad), nil
	case "memory":
		return probe.Memory(probe.Enough(c.MinFree)), nil
	}
	return nil, fmt.Errorf("unknown kind %q", c.Kind)
}

// checked is told by the watch what has changed.
func (d *Daemon) checked(changes []checks.Change) {
	for _, c := range changes {
		log := d.log.Info
		if c.State == checks.Failing {
			log = d.log.Warn
		}
		log(c.String(), logging.Event("check"), zap.String("check", c.Name), zap.String("state", string(c.State)), zap.String("reason", c.Reason))
	}
	d.reconfigure()
}

// announcedChecks is what the other nodes hear of this one's checks. Where
// there are too many those that hinder the node come first.
func announcedChecks(reports []checks.Report) []legion.Check {
	if len(reports) > legion.MaxChecks {
		slices.SortStableFunc(reports, func(a, b checks.Report) int {
			switch {
			case a.Hinders() == b.Hinders():
				return 0
			case a.Hinders():
				return -1
			}
			return 1
		})
		reports = reports[:legion.MaxChecks]
	}
	var all []legion.Check
	for _, r := range reports {
		all = append(all, legion.Check{
			Name: r.Name, State: string(r.State), Valor: r.Valor, Veto: r.Veto, Reason: r.Reason,
			Legions: r.Legions[:min(len(r.Legions), maxCheckLegions)],
		})
	}
	return all
}

// unfitBy says which check makes a node unfit for a legion; empty: none does.
func unfitBy(n *legion.NodeState, c legion.Candidacy) string {
	if c.Fit {
		return ""
	}
	for _, check := range n.Checks {
		if check.Veto && check.Of(c.Legion) {
			return reportOf(check).String()
		}
	}
	if c.Valor > 0 && c.Valor+c.Weight <= 0 {
		return fmt.Sprintf("checks leave nothing of its valor of %d: %+d", c.Valor, c.Weight)
	}
	return ""
}

func reportOf(c legion.Check) checks.Report {
	return checks.Report{Name: c.Name, State: checks.State(c.State), Valor: c.Valor, Veto: c.Veto, Reason: c.Reason}
}

// showChecks adds to a member of a legion what its node says of its checks. It
// reports whether one of them makes it unfit.
func showChecks(m *control.LegionMember, n *legion.NodeState, of legion.Candidacy) (vetoed bool) {
	weight := of.Weight
	for _, c := range n.Checks {
		if !c.Of(of.Legion) {
			continue
		}
		weight -= c.Valor
		vetoed = vetoed || c.Veto
		m.Checks = append(m.Checks, control.Check{Name: c.Name, State: c.State, Valor: c.Valor})
		if c.State != string(checks.Passing) || c.Valor != 0 {
			m.Reasons = append(m.Reasons, reportOf(c).String())
		}
	}
	if weight != 0 {
		m.Reasons = append(m.Reasons, "more checks "+signed(weight))
	}
	return vetoed
}

// commands runs the commands of checks as the runner runs jobs: each is a tree
// of its own, of which nothing is left.
type commands struct {
	host *runner.Host
	node string
}

// Run implements probe.Commands.
func (c commands) Run(ctx context.Context, cmd probe.Command) (probe.Ending, error) {
	out := &lastLine{full: make(chan struct{})}
	p, err := c.host.Start(runner.Spec{
		Run: uuid.NewString(), Job: "check " + cmd.Check, Set: []string{"LEGION_CHECK=" + cmd.Check, "LEGION_NODE=" + c.node},
		Command: cmd.Text, Argv: cmd.Argv, Umask: -1, Reap: true,
	}, out)
	if err != nil {
		return probe.Ending{}, errors.Unwrap(err) // whose it is, is known
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Kill("killed at its timeout")
	case <-out.full:
		p.Kill(fmt.Sprintf("killed after %d bytes of output", maxCheckOutput))
	}
	r := p.Wait()
	if r.State == jobs.Succeeded {
		return probe.Ending{}, nil
	}
	return probe.Ending{Reason: r.Reason, Last: string(out.line)}, nil
}

// lastLine is a runner.Sink that keeps the last line that is not blank, cut,
// and says when there is too much. The line may be read when the run is over.
type lastLine struct {
	line    []byte
	written int
	full    chan struct{}
	once    sync.Once
}

// Line implements runner.Sink.
func (l *lastLine) Line(_ string, line []byte) {
	if l.written += len(line) + 1; l.written > maxCheckOutput {
		l.once.Do(func() { close(l.full) })
	}
	if line = bytes.TrimSpace(line); len(line) > 0 {
		l.line = append(l.line[:0], line[:min(len(line), checks.MaxReason)]...)
	}
}
