package jobs

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSlotString(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	berlin := time.FixedZone("CET", 3600)
	for _, tt := range []struct {
		slot Slot
		want string
	}{
		{Slot{Legion: "db", Job: "backup", At: at}, "db/backup@2026-03-01T02:00:00Z"},
		{Slot{Legion: "db", Job: "backup", At: at.In(berlin)}, "db/backup@2026-03-01T02:00:00Z"},
		{Slot{Legion: "db", Job: "backup", At: at.Add(1500*time.Millisecond + 999)}, "db/backup@2026-03-01T02:00:01.5Z"},
		{Slot{Node: "n1", Job: "a/b@c", At: at}, "n1/a/b@c@2026-03-01T02:00:00Z"},
		{Slot{Legion: "db", Job: "backup", Manual: "0195-7"}, "db/backup@manual-0195-7"},
	} {
		if got := tt.slot.String(); got != tt.want {
			t.Errorf("%#v: got %s, want %s", tt.slot, got, tt.want)
		}
		back, err := ParseSlot(tt.want, tt.slot.Local())
		if err != nil || back != tt.slot.Normal() {
			t.Errorf("ParseSlot(%s) = %#v, %v", tt.want, back, err)
		}
	}
}

func TestParseSlotRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "db", "db/backup", "/backup@2026-03-01T02:00:00Z", "db/@2026-03-01T02:00:00Z",
		"db/backup@", "db/backup@now", "db/backup@manual-", "db/backup@1969-12-31T23:59:59Z",
		"db/backup@1970-01-01T00:00:00Z", strings.Repeat("x", MaxName+1) + "/backup@2026-03-01T02:00:00Z",
		"d\xff/backup@2026-03-01T02:00:00Z",
	} {
		if s, err := ParseSlot(text, false); err == nil {
			t.Errorf("ParseSlot(%q) = %#v, want an error", text, s)
		}
	}
}

// Whatever is valid has a name that leads back to it: the ledger keeps only the name.
func TestSlotNameRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anySlot(rapid.String()).Draw(t, "slot").Normal()
		if s.Validate() != nil {
			return
		}
		back, err := ParseSlot(s.String(), s.Local())
		if err != nil || back != s {
			t.Fatalf("ParseSlot(%q) = %#v, %v, want %#v", s.String(), back, err, s)
		}
	})
}

func FuzzParseSlot(f *testing.F) {
	f.Add("db/backup@2026-03-01T02:00:00Z", false)
	f.Add("n1/a@b@manual-0195", true)
	f.Fuzz(func(t *testing.T, text string, local bool) {
		s, err := ParseSlot(text, local)
		if err != nil {
			return
		}
		if back, err := ParseSlot(s.String(), local); err != nil || back != s {
			t.Fatalf("%q is %#v, and that is %#v, %v", text, s, back, err)
		}
	})
}

// Generators. With few names and times, copies of the same record meet often.

var fewNames = rapid.SampledFrom([]string{"a", "b", "c"})

func anyTime() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "none") {
			return time.Time{}
		}
		return time.Unix(0, rapid.Int64Range(1, 5_000_000).Draw(t, "ns")).In(time.FixedZone("x", 3600))
	})
}

func anySlot(name *rapid.Generator[string]) *rapid.Generator[Slot] {
	return rapid.Custom(func(t *rapid.T) Slot {
		s := Slot{Job: name.Draw(t, "job")}
		if rapid.Bool().Draw(t, "local") {
			s.Node = name.Draw(t, "node")
		} else {
			s.Legion = name.Draw(t, "legion")
		}
		if rapid.Bool().Draw(t, "manual") {
			s.Manual = name.Draw(t, "id")
		} else {
			s.At = time.UnixMilli(rapid.Int64Range(1, maxMillis).Draw(t, "at"))
		}
		return s
	})
}

// anyRecord makes valid records of the given slots.
func anyRecord(slot *rapid.Generator[Slot]) *rapid.Generator[Record] {
	return rapid.Custom(func(t *rapid.T) Record {
		return Record{
			Slot:        slot.Draw(t, "slot"),
			Attempt:     rapid.IntRange(0, 2).Draw(t, "attempt"),
			Run:         fewNames.Draw(t, "run"),
			State:       State(rapid.IntRange(int(Queued), int(Missed)).Draw(t, "state")),
			Term:        rapid.Uint64Range(0, 2).Draw(t, "term"),
			Node:        fewNames.Draw(t, "node"),
			Incarnation: fewNames.Draw(t, "incarnation"),
			Definition:  fewNames.Draw(t, "definition"),
			Reason:      rapid.String().Draw(t, "reason"),
			Scheduled:   anyTime().Draw(t, "scheduled"),
			Started:     anyTime().Draw(t, "started"),
			Ended:       anyTime().Draw(t, "ended"),
			ExitCode:    rapid.IntRange(-1, 255).Draw(t, "exit"),
			Signal:      fewNames.Draw(t, "signal"),
			Manual:      rapid.Bool().Draw(t, "manual"),
			To:          anyTime().Draw(t, "to"),
			Count:       rapid.IntRange(0, 3).Draw(t, "count"),
		}
	})
}

func anyMark() *rapid.Generator[Mark] {
	return rapid.Custom(func(t *rapid.T) Mark {
		m := Mark{
			Job: fewNames.Draw(t, "job"), Timing: fewNames.Draw(t, "timing"),
			At: anyTime().Draw(t, "at"), Term: rapid.Uint64Range(0, 2).Draw(t, "term"),
		}
		if rapid.Bool().Draw(t, "local") {
			m.Node = fewNames.Draw(t, "node")
		} else {
			m.Legion = fewNames.Draw(t, "legion")
		}
		return m
	})
}
