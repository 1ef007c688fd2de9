package daemon

import "time"

// A reign's slots pass a gate that opens when two things are done, in either
// order: nothing of the past is in doubt any more, and the lord hooks have
// ended. What falls due meanwhile waits and is not late for that.

// known opens the gate as far as the past goes.
func (f *foreman) known(r *reign) {
	r.known = true
	f.open(r)
}

// admit opens the gate as far as the lord hooks go.
func (f *foreman) admit(legionName string, term uint64) {
	if r := f.reigns[legionName]; r != nil && r.term == term && r.admitted.IsZero() {
		r.admitted = f.clock().Wall
		f.open(r)
	}
}

func (f *foreman) open(r *reign) {
	if r.known && !r.admitted.IsZero() && !r.acting {
		r.acting = true
		f.schedule(r)
	}
}

// acting reports whether an owner's slots are scheduled by now.
func (f *foreman) acting(owner string) bool {
	r := f.reigns[owner]
	return owner == "" || r != nil && r.acting
}

// lateness is how late a slot would start now, but for the time that the lord
// hooks of the reign made it wait.
func (f *foreman) lateness(e *entry, at, now time.Time) time.Duration {
	late := now.Sub(at)
	r := f.reigns[e.Legion]
	if r == nil {
		return late
	}
	from := r.since
	if at.After(from) {
		from = at
	}
	return late - max(r.admitted.Sub(from), 0)
}

// unhook takes note that the unlord hooks have ended.
func (f *foreman) unhook(legionName string, term uint64) {
	if l := f.leaving[legionName]; l != nil && l.Term == term {
		l.unhooked = true
		f.letGoIfDone(l)
	}
}
