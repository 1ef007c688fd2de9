package checks

import (
	"errors"
	"fmt"
	"time"
)

// Limits. MaxChecks is per node; the intervals keep a typing error from
// becoming a load, and arithmetic from overflowing.
const (
	MaxChecks   = 1000
	MinInterval = 100 * time.Millisecond
	MaxInterval = 24 * time.Hour
	MaxInARow   = 1000
	MaxValor    = 1_000_000
)

// A State is what a check says.
type State string

// The states, as status and metrics name them.
const (
	Unknown State = "unknown"
	Passing State = "passing"
	Failing State = "failing"
)

// A Definition is one check. It is a value; an Engine does not change it.
type Definition struct {
	Name string
	// Probe says all about what is probed and how, in any form that changes
	// whenever that does.
	Probe    string
	Legions  []string      // whose valor it changes; none: every legion
	Interval time.Duration // between two probes; shorter: noticed sooner, more work
	Timeout  time.Duration // of one probe, at most Interval
	Rise     int           // successes in a row until it passes; more: a later return
	Fall     int           // failures in a row until it fails; more: patience with single ones
	// Valor is added while the check fails if it is below 0, and while it
	// passes if it is above. Required makes the node unfit until it passes.
	// Exactly one of the two is given.
	Valor    int
	Required bool
}

// Validate says what is wrong with the definition, if anything.
func (d *Definition) Validate() error {
	switch {
	case d.Name == "":
		return errors.New("check without a name")
	case d.Interval < MinInterval || d.Interval > MaxInterval:
		return fmt.Errorf("check %s: interval %s is not in %s to %s", d.Name, d.Interval, MinInterval, MaxInterval)
	case d.Timeout <= 0 || d.Timeout > d.Interval:
		return fmt.Errorf("check %s: timeout %s is not above 0 and at most the interval of %s", d.Name, d.Timeout, d.Interval)
	case d.Rise < 1 || d.Rise > MaxInARow || d.Fall < 1 || d.Fall > MaxInARow:
		return fmt.Errorf("check %s: rise %d and fall %d are not in 1 to %d", d.Name, d.Rise, d.Fall, MaxInARow)
	case d.Required && d.Valor != 0:
		return fmt.Errorf("check %s: required and of a valor", d.Name)
	case !d.Required && (d.Valor == 0 || d.Valor < -MaxValor || d.Valor > MaxValor):
		return fmt.Errorf("check %s: valor %d is 0 or beyond %d", d.Name, d.Valor, MaxValor)
	}
	return nil
}

// concerns reports whether the check changes the node's standing in a legion.
func (d *Definition) concerns(legion string) bool {
	if len(d.Legions) == 0 {
		return true
	}
	for _, l := range d.Legions {
		if l == legion {
			return true
		}
	}
	return false
}

// effect is what the check does in a state.
func (d *Definition) effect(s State) (valor int, veto bool) {
	switch {
	case d.Required:
		return 0, s != Passing
	case d.Valor < 0 && s == Failing, d.Valor > 0 && s == Passing:
		return d.Valor, false
	}
	return 0, false
}

// A Report is what a check says, and what that does.
type Report struct {
	Name    string
	State   State
	Valor   int      // added at this moment
	Veto    bool     // the node is unfit at this moment
	Legions []string // concerned; none: every legion
	Reason  string   // of the state, in one line; empty: it passes
}

// Hinders reports whether the check makes the node less than it could be.
func (r Report) Hinders() bool { return r.Veto || r.Valor < 0 }

// String says it in one line.
func (r Report) String() string {
	text := "check " + r.Name + " is " + string(r.State)
	if r.Valor != 0 {
		text += fmt.Sprintf(" (%+d)", r.Valor)
	}
	if r.Veto {
		text += " (required)"
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// A Change is a check that has come to another state.
type Change struct {
	Report
	From State
	Row  int // results that said so, in a row
	// Effect says what is different for the node now; empty: nothing.
	Effect string
}

// String says it in one line, for the log.
func (c Change) String() string {
	text := fmt.Sprintf("check %s is %s, %d in a row", c.Name, c.State, c.Row)
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	if c.Effect != "" {
		text += "; " + c.Effect
	}
	return text
}

// effects says in words what a change of state does.
func (d *Definition) effects(from, to State) string {
	was, vetoed := d.effect(from)
	is, vetoes := d.effect(to)
	switch {
	case vetoes:
		return "unfit until it passes"
	case vetoed:
		return "no longer unfit by it"
	case is != was && is != 0:
		return fmt.Sprintf("valor %+d", is)
	case is != was:
		return fmt.Sprintf("valor %+d, as before", -was)
	}
	return ""
}
