package hooks

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockPause is how often a lord call looks whether a guardian still calls
	// hooks here; lockPatience how long it waits for that. Less lets a lord hook
	// run beside an unlord hook that hangs, more keeps a throne without hooks.
	lockPause    = 10 * time.Millisecond
	lockPatience = 2 * (Timeout + Grace)
)

// Occupy says to all agents of this state directory that a guardian calls
// hooks, until release.
func Occupy(path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	if err != nil {
		return func() {}, fmt.Errorf("lock hooks: %w", err)
	}
	return func() { f.Close() }, nil
}

// Occupied reports whether a guardian calls hooks: that of an agent that was
// here before, or this one's, if it has been frozen.
func Occupied(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return false // no guardian ever did
	}
	defer f.Close()
	// To try for the lock, as is usual, could keep a guardian from it.
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK
}
