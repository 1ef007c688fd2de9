package slots

import (
	"time"

	"github.com/legion-cron/legion-cron/jobs"
)

// What a lord wrote to one voter alone, before it lost its quorum, is told to the
// lords after it only if that voter elects one of them. Until then nobody would
// close it. So every node now and then looks for attempts in its ledger that have
// not ended for long, and that no lord's word has reached it about since: it asks
// the run's node itself and passes the answer on; a lord takes them for living, and
// so looks after them as after all others.
//
// If the run's node is gone for good, and the node that has the record is no lord,
// it stays as it is until that node votes in an election. So does what was asked for by
// hand, had to wait, and was written to too few to count: whoever asked was told so.

// staleEvery is how often a node looks.
const staleEvery = 30 * time.Second

// A stale attempt has not ended, as far as is known here.
type stale struct {
	since, asked time.Duration // on Boot
}

// lookAtStale looks for attempts that nobody looks after.
func (c *Core) lookAtStale() {
	if c.now.Boot < c.nextStale {
		return
	}
	c.nextStale = c.now.Boot + staleEvery
	owners := map[string]bool{}
	for _, e := range c.jobs {
		owners[e.Legion] = e.Legion != ""
	}
	seen := map[string]stale{}
	for _, owner := range sorted(owners) {
		r := c.reigns[owner]
		if !owners[owner] || r != nil && !r.open {
			continue
		}
		for _, rec := range c.cfg.Ledger.Unsettled(owner).Records {
			_, lives := c.living[Key(owner, rec.Job)][rec.Run]
			if lives || rec.State == jobs.Queued || rec.Node == c.cfg.Node {
				continue
			}
			s, ok := c.stale[rec.Run]
			if !ok {
				s = stale{c.now.Boot, c.now.Boot}
			}
			// Ever more seldom: it may just be a long run.
			if age := c.now.Boot - s.since; age > 2*c.cfg.LostAfter && c.now.Boot-s.asked > age/2 {
				s.asked = c.now.Boot
				c.settle(r, rec)
			}
			seen[rec.Run] = s
		}
	}
	c.stale = seen
}

// settle looks after one of them.
func (c *Core) settle(r *reign, rec jobs.Record) {
	if r != nil {
		if void, err := c.void([]jobs.Record{rec}); err == nil && !void[rec.Key()] {
			c.live(rec)
			c.look = c.now.Boot
			return
		}
	}
	if len(c.asked) < maxAsking {
		c.asked[rec.Run] = c.now.Boot
		c.do(AskNode{Record: rec})
	}
}
