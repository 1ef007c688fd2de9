package daemon

import "time"

// SystemClock is the clock of a daemon that is given none.
var SystemClock = systemClock

// Retain has d forget what is old at that time.
func (d *Daemon) Retain(now time.Time) error { return d.store.Retain(now) }

// MaxExecs is how many commands run at a time that are their callers'.
const MaxExecs = maxExecs
