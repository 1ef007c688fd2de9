package daemon

import (
	"testing"

	"github.com/legion-cron/legion-cron/legion"
)

// After a promise that failed for good this node votes no more, nor stands,
// whatever becomes of a disk that was full meanwhile.
func TestBrokenForGood(t *testing.T) {
	p := &protocol{events: newMailbox[legion.Event]()}
	p.diskTrouble("full")
	p.diskTrouble("")
	if told := p.events.take(); len(told) != 2 || told[1] != (legion.DiskTrouble{}) {
		t.Errorf("told %v of a disk that was full", told)
	}
	p.broken.Store(true)
	p.diskTrouble("full")
	p.diskTrouble("")
	if told := p.events.take(); len(told) != 1 {
		t.Errorf("told %v of a disk that is broken", told)
	}
}
