package cronspec

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// checkAny is what holds for every text: an error with a caret inside it, or a
// schedule that moves forward.
func checkAny(t *testing.T, spec string, o Options, at time.Time) {
	s, err := Parse(spec, o)
	if err != nil {
		e := err.(*Error)
		if e.Offset < 0 || e.Offset > len(spec) || e.Message == "" || strings.Contains(err.Error(), "\n") {
			t.Fatalf("Parse(%q) = %#v", spec, e)
		}
		if caret := e.Caret(); strings.Count(caret, "\n") != 1 || !utf8.ValidString(caret) {
			t.Fatalf("Parse(%q): caret %q", spec, caret)
		}
		return
	}
	if s.Describe() == "" {
		t.Fatalf("%q: no description", spec)
	}
	for range 5 {
		next := s.Next(at)
		if next.IsZero() {
			if s.Kind() == Clock && !strings.Contains(spec, "@") && at.Year() < 9000 {
				t.Fatalf("%q: never after %s", spec, at)
			}
			return
		}
		if !next.After(at) || next.Nanosecond() != 0 {
			t.Fatalf("%q: Next(%s) = %s", spec, at, next)
		}
		if between := at.Add(next.Sub(at) / 2); next.Sub(at) > time.Second && !s.Next(between).Equal(next) {
			t.Fatalf("%q: Next(%s) = %s, but Next(%s) = %s", spec, at, next, between, s.Next(between))
		}
		at = next
	}
	Upcoming(s, at, 3)
}

var fuzzZones = []string{"UTC", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Europe/Dublin"}

func FuzzParse(f *testing.F) {
	for _, spec := range []string{
		"* * * * *", "*/15 9-17 * * mon-fri", "0 0 L,LW,15W,L-3 * friL,2#3", "H H(0-2) H/3 * *", "5-0 * * * *",
		"TZ=", "TZ=0", "CRON_TZ=UTC", "TZ=Europe/Berlin 30 2 29 2 */7", "@daily", "@every 90s", "@every 9223372036s",
		"@at 2026-12-24T18:00:00Z", "@at 2026-03-29T02:30:00", "@lord", "@reboot", "-1 -2 -3 -4 -5", "0 0 31 2 *",
		"\xff\x00", "1,,2 * * * *", "0 0 30 2 *", "*/99999999999 * * * *", "* * * * * *", "H(0-59)/60 * * * *",
	} {
		f.Add(spec, uint8(1), uint8(0), int64(1772935200))
	}
	f.Fuzz(func(t *testing.T, spec string, zone, flags uint8, at int64) {
		location, err := LoadLocation(fuzzZones[int(zone)%len(fuzzZones)])
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Job: "fuzz", Seconds: flags&1 != 0, Location: location, DST: []string{"", "skip", "utc", "cron"}[flags>>1&3]}
		checkAny(t, spec, o, time.Unix(at%(1<<38), 0).UTC())
	})
}

func FuzzUWSGI(f *testing.F) {
	for _, spec := range []string{"-1 -1 -1 -1 -1", "59 2 1 1 7", "-2 -3 -31 -12 -7", "0 0 13 -1 5", "1-5 -1 -1 -1 -1", "-0 0 0 0 0", "0 0 31 2 -1", "-99 1 1 1 1"} {
		f.Add(spec, int64(1772935200))
	}
	f.Fuzz(func(t *testing.T, spec string, at int64) {
		checkAny(t, spec, Options{UWSGI: true}, time.Unix(at%(1<<38), 0).UTC())
	})
}
