package daemon

// SystemClock is the clock of a daemon that is given none.
var SystemClock = systemClock
