package cronspec

import (
	"fmt"
	"strings"
	"time"
)

const (
	maxNotes    = 20    // notes of one answer
	maxExamples = 4     // clock times named in a note
	maxUpcoming = 10000 // slots of one answer
)

// Upcoming is the next n slots after a moment, in its location, and notes: the
// schedule's warnings, then a line for each change of the zone's clocks on the
// way that adds, drops or moves a slot. It returns fewer than n slots if the
// schedule ends, and never more than 10,000.
func Upcoming(s Schedule, after time.Time, n int) (slots []time.Time, notes []string) {
	t := after
	for range min(n, maxUpcoming) {
		if t = s.Next(t); t.IsZero() {
			break
		}
		slots = append(slots, t)
	}
	notes = append(notes, s.Warnings()...)
	if len(slots) > 0 {
		notes = append(notes, notesOf(s, after, slots[len(slots)-1])...)
	}
	return slots, notes[:min(len(notes), maxNotes)]
}

// notesOf asks the schedules that have a zone.
func notesOf(s Schedule, after, until time.Time) []string {
	if n, ok := s.(interface {
		notes(after, until time.Time) []string
	}); ok {
		return n.notes(after, until)
	}
	return nil
}

func (u union) notes(after, until time.Time) (all []string) {
	for _, s := range u {
		all = append(all, notesOf(s, after, until)...)
	}
	return all
}

func (c *wallClock) notes(after, until time.Time) (notes []string) {
	if until.Unix() > latest {
		return nil
	}
	p := c.zone.at(max(after.Unix(), earliest))
	for p.end <= until.Unix() && len(notes) < maxNotes {
		next := c.zone.at(p.end)
		if note := c.note(p, next); note != "" {
			notes = append(notes, note)
		}
		p = next
	}
	return notes
}

// note says what becomes of the labels that a change of the clocks skips or repeats.
func (c *wallClock) note(before, after *period) string {
	shift := after.offset - before.offset
	if !c.fixed && c.calendar.hour == allHours && shift%hourSeconds == 0 {
		return "" // every hour is like the next
	}
	was, is := after.start+before.offset, after.start+after.offset
	examples, n := c.matches(min(was, is), max(was, is))
	if n == 0 {
		return ""
	}
	where := fmt.Sprintf("%s in %s (clocks go from %s to %s)",
		time.Unix(is, 0).UTC().Format(time.DateOnly), c.zone.location, labelText(was), labelText(is))
	comes, exist, it := "comes", "does not exist", "it"
	if n > 1 {
		comes, exist, it = "come", "do not exist", "they"
	}
	first := time.Unix(after.start, 0).In(c.zone.location).Format("15:04:05 MST")
	switch {
	case shift < 0 && c.fixed:
		return fmt.Sprintf("%s %s twice on %s: runs the first time only", examples, comes, where)
	case shift < 0:
		return fmt.Sprintf("%s %s twice on %s: runs both times", examples, comes, where)
	case c.fixed && c.dst == dstCron:
		return fmt.Sprintf("%s %s on %s: runs once, at %s", examples, exist, where, first)
	}
	return fmt.Sprintf("%s %s on %s: %s will not run", examples, exist, where, it)
}

// matches names the first matching labels in [from, to) and counts them.
func (c *wallClock) matches(from, to label) (examples string, n int) {
	var texts []string
	for {
		l, ok := c.calendar.next(from)
		if !ok || l >= to {
			break
		}
		if n++; n > maxExamples {
			texts = append(texts, "...")
			break
		}
		texts = append(texts, labelText(l))
		from = l + 1
	}
	return strings.Join(texts, ", "), n
}

func labelText(l label) string {
	t := time.Unix(l, 0).UTC()
	if t.Second() != 0 {
		return t.Format("15:04:05")
	}
	return t.Format("15:04")
}
