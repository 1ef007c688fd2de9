package cronspec

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Jitter is the delay of the job named job, in whole seconds from 0 up to but
// not including max. It depends on nothing else, so it is the same on every
// node, after every restart and reload.
func Jitter(job string, max time.Duration) time.Duration {
	seconds := uint64(max / time.Second)
	if max < time.Second {
		return 0
	}
	return time.Duration(hash("jitter", job)%seconds) * time.Second
}

// Delay is s with every slot d later. The delayed instants are the slots: they
// name claims, stand in marks and are what catch-up counts from, so that a job
// is late only if it starts after the moment it was meant to start at. A
// negative d, or one of no whole second, is cut down to whole seconds from 0.
// Triggers that are not clock times (@lord, @start) are not delayed.
func Delay(s Schedule, d time.Duration) Schedule {
	d = d.Truncate(time.Second)
	if d <= 0 || !s.Kind().Has(Clock) {
		return s
	}
	return delayed{s, d}
}

type delayed struct {
	Schedule
	by time.Duration
}

func (d delayed) Next(t time.Time) time.Time {
	next := d.Schedule.Next(t.Add(-d.by))
	if next.IsZero() {
		return next
	}
	return next.Add(d.by)
}

func (d delayed) Describe() string { return d.Schedule.Describe() + ", " + d.by.String() + " later" }

func (d delayed) notes(after, until time.Time) []string {
	return notesOf(d.Schedule, after.Add(-d.by), until.Add(-d.by))
}

// hash maps a name to a number, differently for each use of it.
func hash(use, name string) uint64 {
	sum := sha256.Sum256([]byte("legion-cron " + use + "\x00" + name))
	return binary.BigEndian.Uint64(sum[:8])
}
