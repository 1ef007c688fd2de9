package main

import (
	"testing"
	"time"
)

// A word for the past is no end of a pause, and a date is itself.
func TestParseUntil(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90m":                  now.Add(90 * time.Minute),
		"2d":                   now.Add(48 * time.Hour),
		"2026-03-04":           time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC),
		"2026-02-20":           time.Date(2026, 2, 20, 0, 0, 0, 0, time.UTC), // past: the node refuses it
		"2026-03-01T13:00:00Z": now.Add(time.Hour),
	} {
		if got, err := parseUntil(text, now); err != nil || !got.Equal(want) {
			t.Errorf("parseUntil(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "today", "-1h", "soon"} {
		if got, err := parseUntil(text, now); err == nil {
			t.Errorf("parseUntil(%q) = %v, want an error", text, got)
		}
	}
}
