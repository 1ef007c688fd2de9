package daemon_test

import (
	"testing"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

// The zone of a job that names none is said, and by every verb the same.
func TestZoneIsSaid(t *testing.T) {
	const job = `
[[job]]
name = "rarely"
schedule = "@yearly"
command = "true"
`
	for want, text := range map[string]string{
		"Local":         single + job,
		"Asia/Tokyo":    single + job + "timezone = \"Asia/Tokyo\"\n",
		"Europe/Berlin": "[node]\ntimezone = \"Europe/Berlin\"" + single[len("\n[node]"):] + job,
	} {
		n := startNode(t, shortDir(t), text)
		next, err := n.Next(t.Context(), control.NextQuery{Job: "rarely", N: 1})
		if err != nil || next.Timezone != want {
			t.Errorf("next: zone %q, %v, want %q", next.Timezone, err, want)
		}
		e, err := n.Explain(t.Context(), "rarely")
		if err != nil || e.Timezone != want {
			t.Errorf("explain: zone %q, %v, want %q", e.Timezone, err, want)
		}
	}
}
