package daemon

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/legion"
)

// A clock reads the clocks of a node. The machine's own is systemClock;
// in-process tests bring others.
type clock func() legion.Now

// systemClock reads the machine's clocks.
func systemClock() legion.Now {
	return legion.Now{Boot: read(unix.CLOCK_BOOTTIME), Raw: read(unix.CLOCK_MONOTONIC_RAW), Wall: time.Now()}
}

func read(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		// Both clocks exist on every kernel that Go runs on; without them no
		// lease is worth anything.
		panic("read clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
