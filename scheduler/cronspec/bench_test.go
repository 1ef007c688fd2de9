package cronspec

import (
	"testing"
	"time"

	"github.com/robfig/cron/v3"
)

// BenchmarkNext walks from slot to slot. Texts that robfig's parser refuses,
// or never finds a slot of, have no second line.
func BenchmarkNext(b *testing.B) {
	location := mustLoad(b, "America/New_York")
	for _, spec := range []string{
		"* * * * *", "*/15 * * * *", "*/15 9-17 * * 1-5", "30 2 * * *", "@hourly", "@daily", "0 0 1 * *", "0 0 1,15 * 5",
		"@yearly", "0 0 29 2 *", "0 0 29 2 */7", "0 0 * * 1#5", "0 0 L * *", "-1 -1 -2 -1 -1", "@every 90s",
	} {
		for _, zone := range []*time.Location{time.UTC, location} {
			name := spec + "/" + zone.String()
			ours := mustParse(b, spec, Options{Location: zone})
			b.Run("legion/"+name, func(b *testing.B) { walk(b, ours, zone) })
			theirs, err := cron.ParseStandard(spec)
			if err == nil && !theirs.Next(time.Date(2100, 1, 1, 0, 0, 0, 0, zone)).IsZero() {
				b.Run("robfig/"+name, func(b *testing.B) { walk(b, theirs, zone) })
			}
		}
	}
}

func walk(b *testing.B, s cron.Schedule, zone *time.Location) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, zone)
	at := start
	b.ReportAllocs()
	for b.Loop() {
		if at = s.Next(at); at.IsZero() || at.Year() > 2090 {
			at = start
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("*/15 9-17 * * 1-5", Options{Job: "backup"}); err != nil {
			b.Fatal(err)
		}
	}
}
