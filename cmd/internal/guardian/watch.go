package guardian

import (
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// lookAgain is how long a run that should be dead may go on before it is looked
// for again: an agent that is thawed late may just have forked it. Less kills
// it sooner, more spares a machine with a frozen agent.
const lookAgain = 500 * time.Millisecond

// A watch is all that the guardian knows. It is a function of what it was told.
type watch struct {
	certificate Certificate
	held        map[string]legion.Stamp // by legion
	runs        map[string]*living      // by run id
	dismissed   bool
}

// A living run has not ended, as far as the agent has said.
type living struct {
	legion string
	looked legion.Stamp // when it was looked for, being overdue; zero: never
}

func newWatch() *watch {
	return &watch{held: map[string]legion.Stamp{}, runs: map[string]*living{}}
}

// take takes in what the agent tells.
func (w *watch) take(f frame) {
	if f.Certificate != nil {
		w.certificate = *f.Certificate
	}
	for _, h := range f.Held {
		if h.Until == (legion.Stamp{}) {
			delete(w.held, h.Legion)
		} else if len(w.held) < legion.MaxLegions {
			w.held[h.Legion] = h.Until
		}
	}
	if f.Began != nil && len(w.runs) < maxRuns {
		w.runs[f.Began.ID] = &living{legion: f.Began.Legion}
	}
	delete(w.runs, f.Ended)
	w.dismissed = w.dismissed || f.Dismissed
}

// due is when the run is to be looked for: when its lordship is over, and from
// then on again and again until the agent says that it has ended.
func (w *watch) due(l *living) legion.Stamp {
	if l.looked != (legion.Stamp{}) {
		return legion.Stamp{Boot: l.looked.Boot + lookAgain, Raw: l.looked.Raw + lookAgain}
	}
	return w.held[l.legion] // the zero Stamp has passed
}

// overdue returns the runs that have outlived their lordship, and takes note
// that they are looked for now.
func (w *watch) overdue(now legion.Now) map[string]bool {
	late := map[string]bool{}
	for id, l := range w.runs {
		switch {
		case !now.Passed(w.held[l.legion]):
			l.looked = legion.Stamp{}
		case now.Passed(w.due(l)):
			late[id] = true
			l.looked = now.Stamp()
		}
	}
	return late
}

// wake returns how long there is nothing to do, and false where that is until
// the agent says more.
func (w *watch) wake(now legion.Now) (time.Duration, bool) {
	var least time.Duration
	found := false
	for _, l := range w.runs {
		due := w.due(l)
		if wait := min(due.Boot-now.Boot, due.Raw-now.Raw); !found || wait < least {
			least, found = wait, true
		}
	}
	return max(least, 0), found
}
