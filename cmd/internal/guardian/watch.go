package guardian

import (
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/legion"
)

// lookAgain is how long a run that should be dead may go on before it is looked
// for again: an agent that is thawed late may just have forked it. Less kills
// it sooner, more spares a machine with a frozen agent.
const lookAgain = 500 * time.Millisecond

// headStart is what the agent gets, when a lordship has run out, to say that it
// calls the unlord hooks itself. Less calls them twice, more calls those of a
// frozen agent later: a successor is possible a fifth of a lease after the end.
const headStart = 25 * time.Millisecond

// A watch is all that the guardian knows. It is a function of what it was told.
type watch struct {
	certificate Certificate
	held        map[string]legion.Stamp // by legion
	runs        map[string]*living      // by run id
	reigns      map[string]*reign       // by legion
	deaths      map[string]hooks.Will   // by legion
	dismissed   bool
}

// A reign has unlord hooks that have not ended, as far as the agent has said.
type reign struct {
	hooks.Will
	leaving bool // the agent calls them, after its end
	called  bool // the guardian does, or did
}

// A living run has not ended, as far as the agent has said.
type living struct {
	legion string
	looked legion.Stamp // when it was looked for, being overdue; zero: never
}

func newWatch() *watch {
	return &watch{
		held: map[string]legion.Stamp{}, runs: map[string]*living{},
		reigns: map[string]*reign{}, deaths: map[string]hooks.Will{},
	}
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
	if f.AllHeld != (legion.Stamp{}) {
		for of := range w.held {
			w.held[of] = f.AllHeld
		}
	}
	if f.Began != nil && len(w.runs) < maxRuns {
		w.runs[f.Began.ID] = &living{legion: f.Began.Legion}
	}
	delete(w.runs, f.Ended)
	if f.Reign != nil && len(w.reigns) < maxWills {
		w.reigns[f.Reign.Call.Legion] = &reign{Will: *f.Reign}
	}
	if r := w.reigns[f.Leaving]; r != nil {
		r.leaving = true
	}
	delete(w.reigns, f.Left)
	if m := f.Mourn; m != nil && len(m.Hooks) == 0 {
		delete(w.deaths, m.Call.Legion)
	} else if m != nil && len(w.deaths) < maxWills {
		w.deaths[m.Call.Legion] = *m
	}
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

// deserted returns the unlord hooks of the reigns that have run out, of which
// the agent says nothing, and takes note that they are called now.
func (w *watch) deserted(now legion.Now) []hooks.Will {
	var wills []hooks.Will
	for of, r := range w.reigns {
		if !r.leaving && !r.called && now.Passed(w.deserts(of)) {
			r.called = true
			wills = append(wills, r.Will)
		}
	}
	return wills
}

// deserts is when a reign's unlord hooks are the guardian's to call.
func (w *watch) deserts(of string) legion.Stamp {
	until := w.held[of]
	return legion.Stamp{Boot: until.Boot + headStart, Raw: until.Raw + headStart}
}

// orphaned returns the unlord hooks that nobody has called yet, for an agent
// that is dead.
func (w *watch) orphaned() []hooks.Will {
	var wills []hooks.Will
	for _, r := range w.reigns {
		if !r.called {
			r.called = true
			wills = append(wills, r.Will)
		}
	}
	return wills
}

// wake returns how long there is nothing to do, and false where that is until
// the agent says more.
func (w *watch) wake(now legion.Now) (time.Duration, bool) {
	var least time.Duration
	found := false
	at := func(due legion.Stamp) {
		if wait := min(due.Boot-now.Boot, due.Raw-now.Raw); !found || wait < least {
			least, found = wait, true
		}
	}
	for _, l := range w.runs {
		at(w.due(l))
	}
	for of, r := range w.reigns {
		if !r.leaving && !r.called {
			at(w.deserts(of))
		}
	}
	return max(least, 0), found
}
