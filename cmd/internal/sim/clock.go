package sim

import (
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// epoch is the wall time at which every run begins.
var epoch = time.Unix(1000, 0).UTC()

// The bounds on the rate of any clock, in true seconds.
const slowest, fastest = 0.9, 1.1

// A clock is a node's two clocks, linear since the moment of the last change.
type clock struct {
	at        time.Duration // true time of the last change
	boot, raw time.Duration // readings then
	bootRate  float64
	rawRate   float64
	suspended bool
	stopped   bool          // by a hypervisor: neither runs
	step      time.Duration // of the wall clock against true time, when it is not set wrong
	wrong     time.Duration // what it is set wrong by
	furthest  time.Duration // the most that it ever was set forward by
}

func (c *clock) read(now time.Duration) legion.Now {
	d := float64(now - c.at)
	if c.stopped {
		d = 0
	}
	n := legion.Now{
		Boot: c.boot + time.Duration(d*c.bootRate),
		Raw:  c.raw + time.Duration(d*c.rawRate),
		Wall: epoch.Add(now + c.step + c.wrong),
	}
	if c.suspended {
		n.Raw = c.raw
	}
	return n
}

// change sets the rates, or whether the node is suspended, from now on.
func (c *clock) change(now time.Duration, bootRate, rawRate float64, suspended bool) {
	n := c.read(now)
	c.at, c.boot, c.raw = now, n.Boot, n.Raw
	c.bootRate, c.rawRate, c.suspended = clampRate(bootRate), clampRate(rawRate), suspended
}

// after returns the true time that d of this clock takes.
func (c *clock) after(d time.Duration) time.Duration {
	return time.Duration(float64(d) / c.rawRate)
}

// stop stops both clocks, or lets them go on from where they were.
func (c *clock) stop(now time.Duration, stopped bool) {
	n := c.read(now)
	c.at, c.boot, c.raw, c.stopped = now, n.Boot, n.Raw, stopped
}

// set has the wall clock be wrong by d from now.
func (c *clock) set(d time.Duration) { c.wrong, c.furthest = d, max(c.furthest, d) }

func clampRate(r float64) float64 { return min(max(r, slowest), fastest) }
