package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// A Command is what an Exec probe runs.
type Command struct {
	Check string   // whose it is
	Text  string   // for /bin/sh -c, or
	Argv  []string // run as it is
}

// An Ending is how a command ended.
type Ending struct {
	Reason string // why it is no success, in one line; empty: it is one
	Last   string // the last line it wrote that is not empty, cut; for people
}

// Commands runs commands. Run returns when nothing of the command is left: it
// is killed with all its descendants when ctx ends, when it writes too much,
// and what it leaves behind after its end is killed, too. An error means that
// it was not started. It may be called by several goroutines.
type Commands interface {
	Run(ctx context.Context, c Command) (Ending, error)
}

// Exec passes if a command exits with status 0.
func Exec(commands Commands, c Command) Probe {
	return func(ctx context.Context) error {
		end, err := commands.Run(ctx, c)
		switch {
		case err != nil:
			return err
		case end.Reason == "":
			return nil
		case end.Last == "":
			return errors.New(end.Reason)
		}
		return fmt.Errorf("%s: %s", end.Reason, end.Last)
	}
}

// Unit passes if systemctl says that the unit is active. Asking it costs a
// process, and spares a connection to the bus that would have to be kept.
func Unit(commands Commands, check, unit string) Probe {
	return func(ctx context.Context) error {
		end, err := commands.Run(ctx, Command{Check: check, Argv: []string{"systemctl", "is-active", "--", unit}})
		switch {
		case err != nil:
			return err
		case end.Reason == "":
			return nil
		}
		return fmt.Errorf("unit %s: %s", unit, cmp.Or(end.Last, end.Reason))
	}
}
