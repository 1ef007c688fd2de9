package daemon

import (
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

// heedAtLeast is the shortest time between two looks at a lordship.
const heedAtLeast = 10 * time.Millisecond

// A lordship is how long this node may still count on one.
type lordship struct {
	left func(legion string, term uint64) (time.Duration, bool) // false: not at all
	pace func() (beat, lease time.Duration)
}

// heed sees to it that a run which must end with the lordship it was begun
// under ends in time: it is asked to when a renewal is one beat overdue, and
// killed when the lordship has run out, before a successor can exist. It
// returns when the run has ended.
func (l lordship) heed(j jobs.Job, rec jobs.Record, p *runner.Process) {
	if j.OnUnlord != jobs.OnUnlordKill || rec.Slot.Legion == "" {
		return
	}
	asked := false
	for {
		left, lord := l.left(rec.Slot.Legion, rec.Term)
		if !lord || left <= 0 {
			p.Kill("no longer lord")
			return
		}
		beat, lease := l.pace()
		wait := left - overdue(beat, lease)
		if wait <= 0 {
			if !asked {
				p.Stop("the lordship was not renewed")
			}
			asked, wait = true, left
		}
		select {
		case <-p.Done():
			return
		case <-time.After(max(wait, heedAtLeast)):
		}
	}
}

// overdue is what is left of a lordship when a renewal is one beat late: a
// grant counts for 0.8 of the lease, and the answer to a beat comes with the
// next at the latest.
func overdue(beat, lease time.Duration) time.Duration { return lease*8/10 - 2*beat }
