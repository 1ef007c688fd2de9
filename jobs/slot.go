package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxName bounds, in bytes, every name and id in a record: legions, nodes,
// jobs, runs, incarnations, hashes, signals.
const MaxName = 255

// A Slot is one instant at which one job is due, or one request to run it now.
// Exactly one of Legion and Node is set, and exactly one of At and Manual.
type Slot struct {
	Legion string    // the legion whose lord runs it
	Node   string    // the node that runs it, for a job without a legion
	Job    string    // the job's name
	At     time.Time // the scheduled instant in UTC, never "now"
	Manual string    // UUIDv7 of the request, for a slot that no schedule made
}

const (
	// slotLayout is RFC 3339 in UTC, with milliseconds only where there are any.
	slotLayout   = "2006-01-02T15:04:05.999Z07:00"
	manualPrefix = "manual-"
)

// Local reports whether the slot belongs to one node and not to a legion.
func (s Slot) Local() bool { return s.Legion == "" }

// String is the slot's name: legion/job@2026-03-01T02:00:00Z, node/job@... for
// a job without a legion, legion/job@manual-<uuid> for a manual run.
func (s Slot) String() string {
	owner, when := s.Legion, manualPrefix+s.Manual
	if s.Local() {
		owner = s.Node
	}
	if s.Manual == "" {
		when = normalTime(s.At).Format(slotLayout)
	}
	return owner + "/" + s.Job + "@" + when
}

// ParseSlot is the inverse of Slot.String. The text does not say whether its
// first part is a node (local) or a legion, so the caller does.
func ParseSlot(text string, local bool) (Slot, error) {
	owner, rest, found := strings.Cut(text, "/")
	at := strings.LastIndexByte(rest, '@')
	if !found || at < 0 {
		return Slot{}, fmt.Errorf("parse slot %.300q: want legion/job@time", text)
	}
	s := Slot{Legion: owner, Job: rest[:at]}
	if local {
		s.Legion, s.Node = "", owner
	}
	when := rest[at+1:]
	if id, manual := strings.CutPrefix(when, manualPrefix); manual {
		s.Manual = id
	} else {
		t, err := time.Parse(slotLayout, when)
		if err != nil {
			return Slot{}, fmt.Errorf("parse slot %.300q: %w", text, err)
		}
		s.At = normalTime(t)
	}
	if err := s.Validate(); err != nil {
		return Slot{}, fmt.Errorf("parse slot %.300q: %w", text, err)
	}
	return s, nil
}

// Validate says what is wrong with the slot, or nil.
func (s Slot) Validate() error {
	if err := validateOwner(s.Legion, s.Node, s.Job); err != nil {
		return err
	}
	if err := validateName("manual id", s.Manual); err != nil {
		return err
	}
	if strings.Contains(s.Manual, "@") {
		return fmt.Errorf("manual id %q: has an @", s.Manual) // the last one ends the job's name
	}
	if (s.Manual == "") == normalTime(s.At).IsZero() {
		return errors.New("slot: want either a time or a manual id")
	}
	return validateTime("slot", s.At)
}

// Normal is the slot in the form of the package: UTC, to the millisecond.
func (s Slot) Normal() Slot {
	s.At = normalTime(s.At)
	return s
}

func validateOwner(legion, node, job string) error {
	if (legion == "") == (node == "") {
		return errors.New("owner: want either a legion or a node")
	}
	if job == "" {
		return errors.New("job: no name")
	}
	if strings.Contains(legion+node, "/") {
		return fmt.Errorf("owner %.300q: has a slash", legion+node)
	}
	return errors.Join(validateName("legion", legion), validateName("node", node), validateName("job", job))
}

func validateName(what, name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("%s: %d bytes, at most %d", what, len(name), MaxName)
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("%s %q: not UTF-8", what, name)
	}
	return nil
}

// maxMillis is the last millisecond of the year 9999, the last that RFC 3339 can name.
const maxMillis = 253402300799999

func validateTime(what string, t time.Time) error {
	if ms := millis(t); ms < 0 || ms > maxMillis {
		return fmt.Errorf("%s: time %v is out of range", what, t)
	}
	return nil
}

// millis is the form in which times are stored and sent: milliseconds since
// the Unix epoch, 0 for no time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func normalTime(t time.Time) time.Time { return fromMillis(millis(t)) }
