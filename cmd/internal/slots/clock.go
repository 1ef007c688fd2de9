package slots

import (
	"fmt"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

const (
	// maxAhead is how far ahead of a voter's wall clock a mark may be that it
	// takes. A mark keeps the slots before it from being decided, so one that is
	// far ahead would silence a job until the time has come.
	maxAhead = 10 * time.Second
	// maxStep is how far the wall clock may run off CLOCK_BOOTTIME between two
	// looks at them; further, and it was set. Looks are at most [idleWake]
	// apart, and clocks are corrected by a few seconds at a time without harm.
	maxStep = 10 * time.Second
	// pauseSlack: the end of a pause is dated after its beginning, whatever the
	// clock says.
	pauseSlack = time.Second
)

// Ahead returns what [legion.Config.Ahead] wants to know: whether a batch sets
// a mark that is more than maxAhead ahead of the wall clock. Marks that this
// voter has already, from when the clocks were ahead, may be said again.
func Ahead(l Ledger) func(legion string, payload []byte, wall time.Time) bool {
	return func(legionName string, payload []byte, wall time.Time) bool {
		b, err := jobs.DecodeBatch(payload)
		if err != nil {
			return false // it is the ledger's to refuse
		}
		var had map[jobs.MarkKey]time.Time
		for _, m := range b.Marks {
			if !m.At.After(wall.Add(maxAhead)) {
				continue
			}
			if had == nil {
				had = map[jobs.MarkKey]time.Time{}
				for _, old := range l.Unsettled(legionName).Marks {
					had[old.Key()] = old.At
				}
			}
			at, ok := had[m.Key()]
			if _, pause := jobs.PauseOf(m); pause {
				at = at.Add(pauseSlack)
			}
			if !ok || m.At.After(at) {
				return true
			}
		}
		return false
	}
}

// lookAtClock notices that the wall clock was set. A lord with other voters
// gives up its reigns before anything is decided by the new time.
func (c *Core) lookAtClock(now legion.Now) {
	passed := now.Boot - c.now.Boot
	step := now.Wall.Sub(c.now.Wall) - passed
	if step.Abs() <= maxStep {
		return
	}
	why := fmt.Sprintf("the wall clock was set forward by %v", step.Round(time.Millisecond))
	if step < 0 {
		why = fmt.Sprintf("the wall clock was set back by %v", -step.Round(time.Millisecond))
	}
	// Slots of the time that the clock never showed have no other reason.
	c.jumpedFrom, c.jumpedTo = normal(c.now.Wall), normal(now.Wall.Add(-passed))
	c.do(Note{Warn: true, Event: "clock-set", Text: why})
	for _, owner := range sorted(c.reigns) {
		if r := c.reigns[owner]; len(r.voters) > 0 {
			c.quit(r, why)
		}
	}
}

// quit decides nothing more in a reign, and gives it up.
func (c *Core) quit(r *reign, why string) {
	r.quit, r.open = true, false
	for key, e := range c.jobs {
		if e.Legion == r.legion {
			c.engine.Remove(key)
		}
	}
	c.do(Abandon{Legion: r.legion, Reason: why})
}
