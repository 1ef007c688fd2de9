package daemon

import (
	"errors"
	"slices"
	"testing"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
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

// A faulty store fails as it is told, once for each error, and then no more.
type faulty struct{ errs []error }

func (f *faulty) Write(...ledger.Writes) error {
	if len(f.errs) == 0 {
		return nil
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return err
}

// That a disk is full is over with the next write that fails for another reason:
// else the node would stand back from every legion until it is started again.
func TestFullIsOver(t *testing.T) {
	for what, errs := range map[string][]error{
		"room":          {ledger.ErrFull},
		"another fault": {ledger.ErrFull, errors.New("input/output error")},
		"and full":      {ledger.ErrFull, errors.New("input/output error"), ledger.ErrFull},
	} {
		var told []string
		var ended []error
		d := newDisk(&faulty{errs}, zap.NewNop(), func(trouble string) { told = append(told, trouble) })
		d.wrote = func([]jobs.Record) {}
		one := write{done: func(err error) { ended = append(ended, err) }}
		d.flush(t.Context(), []write{one, one})
		if len(told) < 2 || told[0] == "" || told[len(told)-1] != "" {
			t.Errorf("%s: told %q", what, told)
		}
		if !slices.Equal(ended, []error{nil, nil}) {
			t.Errorf("%s: the writes ended with %v", what, ended)
		}
	}
}
