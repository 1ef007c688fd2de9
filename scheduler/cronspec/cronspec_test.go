package cronspec

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func mustLoad(t testing.TB, name string) *time.Location {
	t.Helper()
	location, err := LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return location
}

func mustParse(t testing.TB, spec string, o Options) Schedule {
	t.Helper()
	s, err := Parse(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// next formats the n slots after from, a local time, in a layout.
func next(t testing.TB, s Schedule, location *time.Location, from, layout string, n int) string {
	t.Helper()
	at, err := time.ParseInLocation(time.DateTime[:len(from)], from, location)
	if err != nil {
		t.Fatal(err)
	}
	at = at.Add(-1)
	var all []string
	for range n {
		if at = s.Next(at); at.IsZero() {
			all = append(all, "never")
			break
		}
		all = append(all, at.Format(layout))
	}
	return strings.Join(all, " ")
}

// TestSyntax has a line for every point of the dialects that others read differently.
func TestSyntax(t *testing.T) {
	t.Parallel()
	const day = "2006-01-02"
	const clock = "15:04"
	for _, c := range []struct{ spec, from, layout, want string }{
		// Days: Sunday is 0 and 7, ranges may end on it.
		{"0 0 * * 0", "2026-03-02", day, "2026-03-08 2026-03-15"},
		{"0 0 * * 7", "2026-03-02", day, "2026-03-08 2026-03-15"},
		{"0 0 * * 5-7", "2026-03-02", day, "2026-03-06 2026-03-07 2026-03-08 2026-03-13"},
		{"0 0 * * 6-0", "2026-03-02", day, "2026-03-07 2026-03-08 2026-03-14"},
		{"0 0 * * sat-sun", "2026-03-02", day, "2026-03-07 2026-03-08 2026-03-14"},
		{"0 0 * * 0-7", "2026-03-02", day, "2026-03-02 2026-03-03"},
		{"0 0 * * */7", "2026-03-02", day, "2026-03-08 2026-03-15"},
		// Names: three letters, any case, in lists and ranges.
		{"0 0 1 jan,JUL *", "2026-03-02", day, "2026-07-01 2027-01-01"},
		{"0 0 1 Feb-apr *", "2026-03-02", day, "2026-04-01 2027-02-01 2027-03-01"},
		{"0 0 * * Mon,wed-FRI", "2026-03-07", day, "2026-03-09 2026-03-11 2026-03-12 2026-03-13 2026-03-16"},
		// Steps count from the field's minimum, or from the range's.
		{"*/20 * * * *", "2026-03-02", clock, "00:00 00:20 00:40 01:00"},
		{"10-59/20 * * * *", "2026-03-02", clock, "00:10 00:30 00:50 01:10"},
		{"0 0 */2 * *", "2026-03-28", day, "2026-03-29 2026-03-31 2026-04-01 2026-04-03"},
		{"0 0 1 */2 *", "2026-03-02", day, "2026-05-01 2026-07-01"},
		{"*/90 * * * *", "2026-03-02", clock, "00:00 01:00"},
		{"5,10-11,*/30 * * * *", "2026-03-02", clock, "00:00 00:05 00:10 00:11 00:30 01:00"},
		{"59 23 31 12 *", "2026-03-02", day, "2026-12-31 2027-12-31"},
		// Day of month and weekday: ANDed if either begins with a star, else ORed.
		{"0 0 13 * 5", "2026-03-01", day, "2026-03-06 2026-03-13 2026-03-20 2026-03-27 2026-04-03 2026-04-10 2026-04-13"},
		{"0 0 */2 * 1", "2026-03-01", day, "2026-03-09 2026-03-23 2026-04-13"},
		{"0 0 *,1 * 1", "2026-03-01", day, "2026-03-02 2026-03-09"},
		{"0 0 1-31 * 1", "2026-03-01", day, "2026-03-01 2026-03-02 2026-03-03"},
		{"0 0 13 * */5", "2026-03-01", day, "2026-03-13 2026-09-13"},
		{"0 0 13 * *", "2026-03-01", day, "2026-03-13 2026-04-13"},
		{"0 0 31 2 1", "2026-02-01", day, "2026-02-02 2026-02-09"},
		// The end of the month, the nearest weekday, the k-th weekday.
		{"0 0 L * *", "2028-01-31", day, "2028-01-31 2028-02-29 2028-03-31 2028-04-30"},
		{"0 0 L-1 * *", "2026-01-31", day, "2026-02-27 2026-03-30"},
		{"0 0 LW * *", "2026-01-01", day, "2026-01-30 2026-02-27 2026-03-31 2026-04-30 2026-05-29"},
		{"0 0 15W * *", "2026-02-01", day, "2026-02-16 2026-03-16 2026-04-15 2026-05-15"},
		{"0 0 1W * *", "2026-08-01", day, "2026-08-03 2026-09-01 2026-10-01 2026-11-02"},
		{"0 0 31W * *", "2026-01-01", day, "2026-01-30 2026-03-31 2026-05-29 2026-07-31"},
		{"0 0 * * fri#2", "2026-03-01", day, "2026-03-13 2026-04-10"},
		{"0 0 * * 7#1", "2026-03-01", day, "2026-03-01 2026-04-05"},
		{"0 0 * * 1#5", "2026-01-01", day, "2026-03-30 2026-06-29"},
		{"0 0 * * 5L", "2026-03-01", day, "2026-03-27 2026-04-24"},
		{"0 0 * * SUNL,1", "2026-03-22", day, "2026-03-23 2026-03-29 2026-03-30"},
		// Descriptors.
		{"@yearly", "2026-03-02", day, "2027-01-01 2028-01-01"},
		{"@annually", "2026-03-02", day, "2027-01-01"},
		{"@monthly", "2026-03-02", day, "2026-04-01 2026-05-01"},
		{"@weekly", "2026-03-02", day, "2026-03-08 2026-03-15"},
		{"@daily", "2026-03-02", day, "2026-03-02 2026-03-03"},
		{"@midnight", "2026-03-02", day, "2026-03-02 2026-03-03"},
		{"@hourly", "2026-03-02", clock, "00:00 01:00"},
		{"@every 90m", "2026-03-02", clock, "00:00 01:30 03:00"},
		{"@every 7h", "1970-01-01", "02T15", "01T00 01T07 01T14 01T21 02T04"},
		{"@at 2026-12-24T18:00:00Z", "2026-03-02", time.RFC3339, "2026-12-24T18:00:00Z never"},
		{"@at 2026-12-24T18:00:00+02:00", "2026-03-02", time.RFC3339, "2026-12-24T16:00:00Z never"},
		{"TZ=Europe/Berlin @at 2026-12-24T18:00:00", "2026-03-02", time.RFC3339, "2026-12-24T17:00:00Z never"},
		// Zones.
		{"TZ=Asia/Tokyo 0 9 * * *", "2026-03-02", clock, "00:00 00:00"},
		{"CRON_TZ=America/New_York 0 9 * * *", "2026-03-02", clock, "14:00 14:00"},
		{" \tCRON_TZ=UTC\t0  9 * * * ", "2026-03-02", clock, "09:00 09:00"},
		// Far away.
		{"0 0 29 2 *", "2096-03-01", day, "2104-02-29 2108-02-29"},
		{"0 0 29 2 */7", "2089-01-01", day, "2128-02-29"},
		// uWSGI's integers: -n is "n divides", in every field.
		{"-1 -1 -1 -1 -1", "2026-03-02", clock, "00:00 00:01"},
		{"-20 -1 -1 -1 -1", "2026-03-02", clock, "00:00 00:20 00:40 01:00"},
		{"59 23 -2 -1 -1", "2026-03-28", day, "2026-03-28 2026-03-30 2026-04-02"},
		{"0 0 1 -2 -1", "2026-03-02", day, "2026-04-01 2026-06-01"},
		{"0 0 1 -3 -1", "2026-01-02", day, "2026-03-01 2026-06-01"},
		{"0 0 -1 -1 -2", "2026-03-01", day, "2026-03-01 2026-03-03 2026-03-05 2026-03-07"},
		{"0 0 -1 -1 7", "2026-03-02", day, "2026-03-08 2026-03-15"},
		{"0 0 13 -1 5", "2026-03-01", day, "2026-03-06 2026-03-13 2026-03-20 2026-03-27 2026-04-03 2026-04-10 2026-04-13"},
		{"0 0 -13 -1 5", "2026-03-01", day, "2026-03-13 2026-06-26"},
	} {
		s, err := Parse(c.spec, Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		if got := next(t, s, time.UTC, c.from, c.layout, len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%q from %s:\n got %s\nwant %s", c.spec, c.from, got, c.want)
		}
	}
}

// TestErrors shows each refusal as a user sees it: the caret's column and the message.
func TestErrors(t *testing.T) {
	t.Parallel()
	seconds, uwsgi := Options{Seconds: true}, Options{UWSGI: true}
	for _, c := range []struct {
		spec    string
		o       Options
		offset  int
		message string
	}{
		{"", Options{}, 0, "no schedule given"},
		{"  ", Options{}, 2, "no schedule given"},
		{"* * * *", Options{}, 7, "4 fields, want 5: minute hour day month weekday"},
		{"0 * * * * *", Options{}, 10, "6 fields, want 5"},
		{"* * * * * * *", seconds, 12, "7 fields, want 6"},
		{"* * * * *", seconds, 9, "5 fields, want 6"},
		{"60 * * * *", Options{}, 0, "minute: 60 is out of range 0-59"},
		{"* 24 * * *", Options{}, 2, "hour: 24 is out of range 0-23"},
		{"* * 0 * *", Options{}, 4, "day of month: 0 is out of range 1-31"},
		{"* * 1,32 * *", Options{}, 6, "day of month: 32 is out of range 1-31"},
		{"* * * 13 *", Options{}, 6, "month: 13 is out of range 1-12"},
		{"* * * * 8", Options{}, 8, "day of week: 8 is out of range 0-7"},
		{"60 * * * * *", seconds, 0, "second: 60 is out of range"},
		{"99999999999999999999 * * * *", Options{}, 0, "minute: 99999999999999999999 is out of range"},
		{"* * * * sunday", Options{}, 8, `"sunday" is not known`},
		{"* * * january *", Options{}, 6, `"january" is not known`},
		{"mon * * * *", Options{}, 0, `minute: "mon" is not a number`},
		{"*/0 * * * *", Options{}, 2, "minute: the step is 0"},
		{"*/ * * * *", Options{}, 2, "minute: a number is missing"},
		{"5/15 * * * *", Options{}, 1, "a step needs a range: write 5-59/15"},
		{"* 22-2 * * *", Options{}, 2, "hour: the range 22-2 is reversed: write two, 22-23,0-2"},
		{"* * * * fri-mon", Options{}, 8, "the range 5-1 is reversed"},
		{"5-0 * * * *", Options{}, 0, "the range 5-0 is reversed"},
		{"1-2-3 * * * *", Options{}, 3, `"-3" is not understood`},
		{"1,,2 * * * *", Options{}, 2, "a value is missing"},
		{"1, * * * *", Options{}, 2, "a value is missing"},
		{"? * * * *", Options{}, 0, `"?" is not understood`},
		{"1~5 * * * *", Options{}, 0, "H for one picked by the job's name"},
		{"*x * * * *", Options{}, 1, `"x" is not understood`},
		{"* * * * L", Options{}, 8, "satL is the last Saturday"},
		{"* L * * *", Options{}, 2, `hour: "L" is not a number`},
		{"* * L-31 * *", Options{}, 6, "L-n counts 1 to 30"},
		{"* * 5-LW * *", Options{}, 6, `"LW" is not a number`},
		{"* * * * 1#6", Options{}, 10, "k from 1 to 5"},
		{"* * * * 1#", Options{}, 10, "a number is missing"},
		{"* * * * \xff", Options{}, 8, "is not a value"},
		{"H(5-2) * * * *", Options{}, 2, "the range 5-2 is reversed"},
		{"H(0-5)/7 * * * *", Options{}, 6, "the step 7 is larger than the 6 values"},
		{"H/0 * * * *", Options{}, 2, "the step is 0"},
		{"H(0-5 * * * *", Options{}, 5, "the ) of H( is missing"},
		{"H(3) * * * *", Options{}, 3, "H(a-b) takes a range"},
		{"* * H/32 * *", Options{}, 5, "larger than the 28 values"},
		{"0 0 31 2 *", Options{}, 4, "never fires"},
		{"0 0 30,31 2 *", Options{}, 4, "never fires"},
		{"0 0 L-30 4,6 *", Options{}, 4, "never fires"},
		{"CRON_TZ=America/New_York */30 2 8-14 3 */7", Options{}, 32, "always skipped when the clocks go forward"},
		{"TZ=", Options{}, 3, `time zone "" is not known`},
		{"TZ=0 * * * * *", Options{}, 3, `time zone "0" is not known`},
		{"TZ=Local * * * * *", Options{}, 3, `time zone "Local" is not known`},
		{"CRON_TZ=Europe/Berln 0 0 * * *", Options{}, 8, `time zone "Europe/Berln" is not known`},
		{"TZ=../../etc/passwd * * * * *", Options{}, 3, "is not known"},
		{"CRON_TZ=UTC", Options{}, 11, "no schedule given"},
		{"@dayly", Options{}, 0, `"@dayly" is not known: yearly,`},
		{"@reboot", Options{}, 0, "@start fires when the agent starts"},
		{"@daily 5", Options{}, 7, "@daily takes no argument"},
		{"@every", Options{}, 6, "@every takes one duration"},
		{"@every soon", Options{}, 7, "not a duration"},
		{"@every 0s", Options{}, 7, "at least 1s"},
		{"@every -5m", Options{}, 7, "at least 1s"},
		{"@every 500ms", Options{}, 7, "at least 1s"},
		{"@every 1500ms", Options{}, 7, "whole seconds"},
		{"@at", Options{}, 3, "@at takes one time"},
		{"@at tomorrow", Options{}, 4, "not a time like"},
		{"@at 2026-02-30T00:00:00Z", Options{}, 4, "not a time like"},
		{"@at 2026-02-03T00:00:00.5Z", Options{}, 4, "whole seconds"},
		{"TZ=Europe/Berlin @at 2026-03-29T02:30:00", Options{DST: "skip"}, 21, "does not exist in Europe/Berlin"},
		{"* * * * *", Options{DST: "maybe"}, 0, `dst is "maybe"`},
		{"-1 */2 -1 -1 -1", Options{}, 3, "uWSGI's fields are single integers"},
		{"-1 1-5 -1 -1 -1", Options{}, 3, "uWSGI's fields are single integers"},
		{"-1 -1 -1 -1 mon", Options{}, 12, "uWSGI's fields are single integers"},
		{"* * * * *", uwsgi, 0, "uWSGI's fields are single integers"},
		{"@daily", uwsgi, 6, "1 fields, want 5"},
		{"0 24 -1 -1 -1", Options{}, 2, "hour 24 is out of range 0-23"},
		{"0 0 0 -1 -1", Options{}, 4, "day of month 0 is out of range 1-31"},
		{"0 0 -32 -1 -1", Options{}, 4, "no value of 1-31 is a multiple of 32"},
		{"0 0 -0 -1 -1", Options{}, 4, "-1 is any"},
		{"0 0 31 2 -1", uwsgi, 4, "never fires"},
		{"-99999999999 0 1 2 -1", Options{}, 0, "single integers"},
		{"-*/5 * * * *", Options{}, 0, `"-*/5" is not a value`},
		{strings.Repeat("1,", 600) + "1 * * * *", Options{}, 1024, "longer than 1024 bytes"},
	} {
		_, err := Parse(c.spec, c.o)
		e, ok := err.(*Error)
		switch {
		case !ok:
			t.Errorf("Parse(%q) = %v, want an error %q", c.spec, err, c.message)
		case e.Offset != c.offset || !strings.Contains(e.Message, c.message):
			t.Errorf("Parse(%q): got %d %q, want %d %q\n%s", c.spec, e.Offset, e.Message, c.offset, c.message, e.Caret())
		case strings.Contains(err.Error(), "\n"):
			t.Errorf("Parse(%q): more than one line: %v", c.spec, err)
		}
	}
}

func TestCaret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, want string }{
		{"0 25 * * *", "0 25 * * *\n  ^"},
		{"0\t25 * * *", "0 25 * * *\n  ^"},
		{"* * * *", "* * * *\n       ^"},
		{"TZ=Zürich 0 0 * * *", "TZ=Zürich 0 0 * * *\n   ^"},
		{"é\n\x1b[2J 61 * * *", "é??[2J 61 * * *\n^"},
	} {
		_, err := Parse(c.spec, Options{})
		if got := err.(*Error).Caret(); got != c.want {
			t.Errorf("%q:\n%s\nwant\n%s", c.spec, got, c.want)
		}
	}
}

// TestDST holds the nights on which clocks change, by cronie's rules as
// simulated from its source, where cronie's own zone is the job's.
func TestDST(t *testing.T) {
	t.Parallel()
	const (
		spring, autumn = "2024-03-10", "2024-11-03"
		clock          = "15:04MST"
		stamp          = "02T15:04-0700"
	)
	for _, c := range []struct{ zone, dst, spec, from, layout, want string }{
		{"America/New_York", "", "30 2 * * *", spring, clock, "03:00EDT 02:30EDT"},
		{"America/New_York", "", "0 1-3 * * *", spring, clock, "01:00EST 03:00EDT 01:00EDT"}, // 02:00 and 03:00 are one
		{"America/New_York", "", "*/30 2 * * *", spring, stamp, "11T02:00-0400 11T02:30-0400"},
		{"America/New_York", "", "0-59/30 2 * * *", spring, stamp, "10T03:00-0400 11T02:00-0400"},
		{"America/New_York", "", "0 * * * *", spring, clock, "00:00EST 01:00EST 03:00EDT 04:00EDT"},
		{"America/New_York", "", "@hourly", spring, clock, "00:00EST 01:00EST 03:00EDT 04:00EDT"},
		{"America/New_York", "", "*/20 * * * *", "2024-03-10 01:30:00", clock, "01:40EST 03:00EDT 03:20EDT"},
		{"America/New_York", "", "30 1 * * *", spring, clock, "01:30EST 01:30EDT"},
		{"America/New_York", "", "0 */2 * * *", spring, clock, "00:00EST 04:00EDT 06:00EDT"},
		{"America/New_York", "", "0 0-23/2 * * *", spring, clock, "00:00EST 03:00EDT 04:00EDT"},
		{"America/New_York", "skip", "30 2 * * *", spring, stamp, "11T02:30-0400"},
		{"America/New_York", "skip", "0 0-23/2 * * *", spring, clock, "00:00EST 04:00EDT"},
		{"America/New_York", "utc", "30 7 * * *", spring, clock, "03:30EDT 03:30EDT"},
		{"America/New_York", "", "0 3 * * *", spring, stamp, "10T03:00-0400 11T03:00-0400"},
		{"America/New_York", "", "30 7 * * *", spring, stamp, "10T07:30-0400 11T07:30-0400"},

		{"America/New_York", "", "30 2 * * *", autumn, clock, "02:30EST 02:30EST"},
		{"America/New_York", "", "0 1-3 * * *", autumn, clock, "01:00EDT 02:00EST 03:00EST 01:00EST"},
		{"America/New_York", "", "*/30 2 * * *", autumn, stamp, "03T02:00-0500 03T02:30-0500 04T02:00-0500"},
		{"America/New_York", "", "0 * * * *", autumn, clock, "00:00EDT 01:00EDT 01:00EST 02:00EST"},
		{"America/New_York", "", "*/20 * * * *", "2024-11-03 01:30:00", clock, "01:40EDT 01:00EST 01:20EST 01:40EST 02:00EST"},
		{"America/New_York", "", "30 1 * * *", autumn, stamp, "03T01:30-0400 04T01:30-0500"},
		{"America/New_York", "", "*/30 1 * * *", autumn, clock, "01:00EDT 01:30EDT 01:00EST 01:30EST"},
		{"America/New_York", "", "0 */2 * * *", autumn, clock, "00:00EDT 02:00EST 04:00EST"},
		{"America/New_York", "", "0 0-23/2 * * *", autumn, clock, "00:00EDT 02:00EST 04:00EST"},
		{"America/New_York", "skip", "30 1 * * *", autumn, stamp, "03T01:30-0400 04T01:30-0500"},
		{"America/New_York", "utc", "30 5 * * *", autumn, clock, "01:30EDT 00:30EST"},

		{"Europe/London", "", "30 1 * * *", "2024-03-31", stamp, "31T02:00+0100 01T01:30+0100"},
		{"Europe/London", "", "30 1 * * *", "2024-10-27", stamp, "27T01:30+0100 28T01:30+0000"},
		{"Europe/London", "", "*/30 1 * * *", "2024-10-27", stamp, "27T01:00+0100 27T01:30+0100 27T01:00+0000 27T01:30+0000"},
		// A job in UTC is not disturbed by London's night (cronie#124).
		{"UTC", "", "*/20 1 * * *", "2024-10-27", clock, "01:00UTC 01:20UTC 01:40UTC"},
		// Dublin's summer is standard time, its winter negative DST.
		{"Europe/Dublin", "", "30 1 * * *", "2024-03-31", stamp, "31T02:00+0100 01T01:30+0100"},
		{"Europe/Dublin", "", "30 1 * * *", "2024-10-27", stamp, "27T01:30+0100 28T01:30+0000"},
		// Half an hour: 02:00 to 02:30 in October, 02:00 to 01:30 in April.
		{"Australia/Lord_Howe", "", "0 2 * * *", "2024-10-06", stamp, "06T02:30+1100 07T02:00+1100"},
		{"Australia/Lord_Howe", "", "15 2 * * *", "2024-10-06", stamp, "06T02:30+1100 07T02:15+1100"},
		{"Australia/Lord_Howe", "", "*/15 2 * * *", "2024-10-06", stamp, "06T02:30+1100 06T02:45+1100 07T02:00+1100"},
		{"Australia/Lord_Howe", "", "45 1 * * *", "2024-04-07", stamp, "07T01:45+1100 08T01:45+1030"},
		{"Australia/Lord_Howe", "", "*/15 1 * * *", "2024-04-07", stamp, "07T01:00+1100 07T01:15+1100 07T01:30+1100 07T01:45+1100 07T01:30+1030 07T01:45+1030 08T01:00+1030"},
		// +12:45 and +13:45, changing at 02:45.
		{"Pacific/Chatham", "", "0 3 * * *", "2024-09-29", stamp, "29T03:45+1345 30T03:00+1345"},
		{"Pacific/Chatham", "", "0 3 * * *", "2024-04-07", stamp, "07T03:00+1345 08T03:00+1245"},
		// Days without a midnight: daily, monthly and weekly jobs run all the same.
		{"America/Sao_Paulo", "", "0 0 * * *", "2018-11-03", stamp, "03T00:00-0300 04T01:00-0200 05T00:00-0200"},
		{"America/Sao_Paulo", "", "0 0 4 * *", "2018-11-01", "01-02T15:04", "11-04T01:00 12-04T00:00"},
		{"America/Sao_Paulo", "", "@weekly", "2018-11-01", stamp, "04T01:00-0200 11T00:00-0200"},
		{"America/Sao_Paulo", "skip", "0 0 4 * *", "2018-11-01", "01-02T15:04", "12-04T00:00"},
		{"America/Sao_Paulo", "", "30 23 * * *", "2018-02-17", stamp, "17T23:30-0200 18T23:30-0300"}, // midnight twice
		{"Africa/Cairo", "", "0 0 * * *", "2024-04-25", stamp, "25T00:00+0200 26T01:00+0300 27T00:00+0300"},
		{"Africa/Cairo", "", "30 23 * * *", "2024-10-31", stamp, "31T23:30+0300 01T23:30+0200"},
		{"Asia/Beirut", "", "0 0 * * *", "2024-03-30", stamp, "30T00:00+0200 31T01:00+0300 01T00:00+0300"},
		{"Asia/Beirut", "", "30 23 * * *", "2024-10-26", stamp, "26T23:30+0300 27T23:30+0200"},
		// A change of the zone's rules that is no DST, and a day that never was.
		{"Africa/Casablanca", "", "30 2 * * *", "2024-04-14", stamp, "14T03:00+0100 15T02:30+0100"},
		{"Pacific/Apia", "", "0 12 * * *", "2011-12-29", stamp, "29T12:00-1000 31T00:00+1400 31T12:00+1400"},
		{"Pacific/Apia", "skip", "0 12 30 12 *", "2011-12-01", "2006-01-02", "2012-12-30"},
	} {
		location := mustLoad(t, c.zone)
		s, err := Parse(c.spec, Options{Location: location, DST: c.dst})
		if err != nil {
			t.Error(err)
			continue
		}
		if got := next(t, s, location, c.from, c.layout, len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%q in %s, dst %q, from %s:\n got %s\nwant %s", c.spec, c.zone, c.dst, c.from, got, c.want)
		}
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "*/20 59 23 * * *", Options{Seconds: true})
	if got, want := next(t, s, time.UTC, "2026-03-02", "02T15:04:05", 4), "02T23:59:00 02T23:59:20 02T23:59:40 03T23:59:00"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestHash: an H depends on the job's name and its own field, and on nothing else.
func TestHash(t *testing.T) {
	t.Parallel()
	at := func(job, spec string) string {
		return next(t, mustParse(t, spec, Options{Job: job}), time.UTC, "2026-03-02", "2006-01-02T15:04", 3)
	}
	// These very values are what running clusters rely on: they must never change.
	for _, c := range []struct{ job, spec, want string }{
		{"backup", "H H * * *", "2026-03-02T21:12 2026-03-03T21:12 2026-03-04T21:12"},
		{"backup", "H H(0-2) * * *", "2026-03-02T00:12 2026-03-03T00:12 2026-03-04T00:12"},
		{"backup", "H/15 * * * *", "2026-03-02T00:12 2026-03-02T00:27 2026-03-02T00:42"},
		{"backup", "H(30-39) 4 H * *", "2026-03-18T04:32 2026-04-18T04:32 2026-05-18T04:32"},
		{"other", "H H * * H", "2026-03-07T06:59 2026-03-14T06:59 2026-03-21T06:59"},
	} {
		if got := at(c.job, c.spec); got != c.want {
			t.Errorf("%s %q: got %s, want %s", c.job, c.spec, got, c.want)
		}
	}
	if at("a", "H 3 * * *")[14:16] != at("a", "H 5 * * *")[14:16] {
		t.Error("the hour field moved the minute")
	}

	// Spread: a thousand jobs use every minute, and no minute much.
	var minutes [60]int
	for i := range 1000 {
		s := mustParse(t, "H * * * *", Options{Job: fmt.Sprint("job", i)})
		minutes[s.Next(time.Unix(0, 0)).Minute()]++
	}
	for m, n := range minutes {
		if n < 3 || n > 40 {
			t.Errorf("minute %d has %d of 1000 jobs", m, n)
		}
	}
	// Every draw is in its range, and a day drawn is one every month has.
	for i := range 200 {
		s := mustParse(t, "H(10-20)/5 H(1-3) H H(2-2) *", Options{Job: fmt.Sprint(i)})
		for slot := range 4 {
			t1 := s.Next(time.Date(2026, 1, 1, slot, 0, 0, 0, time.UTC))
			if t1.Minute() < 10 || t1.Minute() > 20 || t1.Hour() < 1 || t1.Hour() > 3 || t1.Day() > 28 || t1.Month() != 2 {
				t.Fatalf("job %d: %s", i, t1)
			}
		}
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	if got := Jitter("backup", 10*time.Minute); got != 2*time.Minute+13*time.Second {
		t.Errorf("Jitter(backup) = %s", got) // must never change
	}
	seen := map[time.Duration]bool{}
	for i := range 2000 {
		d := Jitter(fmt.Sprint(i), 10*time.Minute)
		if d < 0 || d >= 10*time.Minute || d%time.Second != 0 {
			t.Fatalf("job %d: %s", i, d)
		}
		seen[d/time.Minute] = true
	}
	if len(seen) != 10 {
		t.Errorf("2000 jobs share %d of 10 minutes", len(seen))
	}
	for _, max := range []time.Duration{0, -time.Hour, time.Second - 1} {
		if Jitter("x", max) != 0 {
			t.Errorf("Jitter of %s is not 0", max)
		}
	}

	// A delay moves every slot by the same amount, also over more than a period.
	s := Delay(mustParse(t, "*/10 * * * *", Options{}), 25*time.Minute)
	if got, want := next(t, s, time.UTC, "2026-03-02", "15:04", 3), "00:05 00:15 00:25"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s := Delay(trigger(OnLord), time.Minute); !s.Next(time.Unix(0, 0)).IsZero() || s != Schedule(trigger(OnLord)) {
		t.Error("a trigger was delayed")
	}
}

func TestParseAll(t *testing.T) {
	t.Parallel()
	s, err := ParseAll([]string{"0 9 * * *", "@lord", "0 9,21 * * *"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := next(t, s, time.UTC, "2026-03-02", "02T15", 3), "02T09 02T21 03T09"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s.Kind() != Clock|OnLord || s.Kind().Has(OnStart) || !s.Kind().Has(OnLord) {
		t.Errorf("kind %b", s.Kind())
	}
	if _, err := ParseAll([]string{"0 9 * * *", "0 99 * * *"}, Options{}); err == nil || err.(*Error).Spec != "0 99 * * *" {
		t.Errorf("got %v", err)
	}
	for _, specs := range [][]string{nil, make([]string, 101)} {
		if _, err := ParseAll(specs, Options{}); err == nil {
			t.Errorf("%d schedules accepted", len(specs))
		}
	}
}

// TestExtremes: no time at all makes Next loop, overflow or go backwards.
func TestExtremes(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"* * * * *", "30 2 * * *", "@every 1s", "@every 2562047h", "0 0 29 2 */7", "@at 2026-12-24T18:00:00Z"} {
		s := mustParse(t, spec, Options{Location: mustLoad(t, "America/New_York")})
		for _, at := range []time.Time{{}, time.Unix(-1<<62, 0), time.Unix(1<<62, 0), time.Unix(latest, 0), time.Unix(latest-1, 0), time.Unix(earliest-1, 0)} {
			if next := s.Next(at); !next.IsZero() && (!next.After(at) || next.Year() > 9999) {
				t.Errorf("%q: Next(%s) = %s", spec, at, next)
			}
		}
	}
}

func TestNextKeepsLocation(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "0 9 * * *", Options{Location: mustLoad(t, "Asia/Tokyo")})
	at := time.Date(2026, 3, 2, 12, 0, 0, 5, time.FixedZone("x", 3600))
	if next := s.Next(at); next.Location() != at.Location() || next.Nanosecond() != 0 {
		t.Errorf("got %s", next)
	}
	// A location that did not come from LoadLocation works as well.
	own := mustParse(t, "0 9 * * *", Options{Location: time.FixedZone("x", 9*3600)})
	if !own.Next(at).Equal(s.Next(at)) {
		t.Errorf("got %s, want %s", own.Next(at), s.Next(at))
	}
}
