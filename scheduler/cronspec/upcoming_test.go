package cronspec

import (
	"strings"
	"testing"
	"time"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, want string }{
		{"* * * * *", "every minute (UTC)"},
		{"*/15 * * * *", "every 15 minutes (UTC)"},
		{"5-59/15 * * * *", "every 15 minutes from 5 (UTC)"},
		{"*/7 * * * *", "every 7 minutes from 0 (UTC)"},
		{"7 * * * *", "at minute 7 of every hour (UTC)"},
		{"0,30 * * * *", "at minutes 0 and 30 of every hour (UTC)"},
		{"30 2 * * *", "at 02:30 every day (UTC)"},
		{"0 9,12,15 * * *", "at 09:00, 12:00 and 15:00 every day (UTC)"},
		{"*/15 9-17 * * 1-5", "every 15 minutes of hours 9 to 17 on Monday to Friday (UTC)"},
		{"0 */2 * * *", "at minute 0 of every 2nd hour (UTC)"},
		{"* 3 * * *", "every minute of hour 3 (UTC)"},
		{"0 0 1,15 * 5", "at 00:00 on days 1 and 15 of the month and on Friday (UTC)"},
		{"0 0 */2 * 1", "at 00:00 on days 1, 3, 5 ... 31 of the month, if that is also Monday (UTC)"},
		{"0 0 L,15W * friL,tue#3", "at 00:00 on the last day and the weekday nearest to day 15 of the month and on the 3rd Tuesday of the month and the last Friday of the month (UTC)"},
		{"0 0 L-3 2 *", "at 00:00 on the 3rd day before the last of the month in February (UTC)"},
		{"0 0 LW 6-8 *", "at 00:00 on the last weekday of the month in June to August (UTC)"},
		{"TZ=Europe/Berlin @yearly", "at 00:00 on day 1 of the month in January (Europe/Berlin)"},
		{"-1 -1 -1 -1 -1", "every minute (UTC)"},
		{"H H * * *", "at 18:21 every day (UTC)"},
		{"@every 90s", "every 1m30s, counted from 1970-01-01T00:00:00Z"},
		{"TZ=Europe/Berlin @at 2026-12-24T18:00:00", "once, at 2026-12-24T18:00:00+01:00"},
		{"@lord", "whenever this node becomes lord"},
		{"@start", "whenever the agent starts"},
	} {
		if got := mustParse(t, c.spec, Options{}).Describe(); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.spec, got, c.want)
		}
	}
	for _, c := range []struct{ spec, want string }{
		{"* * * * * *", "every second (UTC)"},
		{"*/10 * * * * *", "every 10 seconds (UTC)"},
		{"15 * * * * *", "at second 15 of every minute (UTC)"},
		{"15 30 2 * * *", "at 02:30:15 every day (UTC)"},
		{"*/10 */5 8 * * *", "every 10 seconds of every 5 minutes of hour 8 (UTC)"},
	} {
		if got := mustParse(t, c.spec, Options{Seconds: true}).Describe(); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.spec, got, c.want)
		}
	}
	s, err := ParseAll([]string{"30 2 * * *", "@start"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Delay(s, 90*time.Second).Describe(), "at 02:30 every day (UTC); and whenever the agent starts, 1m30s later"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestUpcoming: what `next` prints around the nights that change something.
func TestUpcoming(t *testing.T) {
	t.Parallel()
	const gap = "on 2026-03-08 in America/New_York (clocks go from 02:00 to 03:00)"
	const fold = "on 2026-11-01 in America/New_York (clocks go from 02:00 to 01:00)"
	for _, c := range []struct{ spec, dst, from, want string }{
		{"30 2 * * *", "", "2026-03-07", "02:30 does not exist " + gap + ": runs once, at 03:00:00 EDT"},
		{"0-59/30 2 * * *", "", "2026-03-07", "02:00, 02:30 do not exist " + gap + ": runs once, at 03:00:00 EDT"},
		{"30 2 * * *", "skip", "2026-03-07", "02:30 does not exist " + gap + ": it will not run"},
		{"*/5 2 * * *", "", "2026-03-07", "02:00, 02:05, 02:10, 02:15, ... do not exist " + gap + ": they will not run"},
		{"30 1 * * *", "", "2026-10-31", "01:30 comes twice " + fold + ": runs the first time only"},
		{"*/30 1 * * *", "", "2026-10-31", "01:00, 01:30 come twice " + fold + ": runs both times"},
		{"30 4 * * *", "", "2026-03-07", ""},
		{"30 2 * * *", "utc", "2026-03-07", ""},
		{"*/20 * * * *", "", "2026-03-08", ""},
		{"30 2 * * *", "", "2026-05-07", ""},
	} {
		location := mustLoad(t, "America/New_York")
		s := mustParse(t, c.spec, Options{Location: location, DST: c.dst})
		from, err := time.ParseInLocation(time.DateOnly, c.from, location)
		if err != nil {
			t.Fatal(err)
		}
		slots, notes := Upcoming(s, from, 30)
		if got := strings.Join(notes, "\n"); got != c.want || len(slots) != 30 {
			t.Errorf("%q, dst %q from %s: %d slots, notes\n got %s\nwant %s", c.spec, c.dst, c.from, len(slots), got, c.want)
		}
		// A delayed one has the same nights.
		if _, notes := Upcoming(Delay(s, time.Hour), from, 30); strings.Join(notes, "\n") != c.want {
			t.Errorf("%q delayed: notes %q", c.spec, notes)
		}
	}
	if slots, notes := Upcoming(mustParse(t, "*/90 * * * *", Options{}), time.Unix(0, 0), 2); len(slots) != 2 || len(notes) != 1 || !strings.Contains(notes[0], "step 90") {
		t.Errorf("got %v %q", slots, notes)
	}
	if slots, notes := Upcoming(mustParse(t, "@lord", Options{}), time.Unix(0, 0), 5); slots != nil || len(notes) != 0 {
		t.Errorf("got %v %q", slots, notes)
	}
	// Centuries of notes are cut short, and found in a moment.
	if _, notes := Upcoming(mustParse(t, "30 2 8-14 3 *", Options{Location: mustLoad(t, "America/New_York")}), time.Unix(0, 0), 1<<30); len(notes) != maxNotes {
		t.Errorf("%d notes", len(notes))
	}
}
