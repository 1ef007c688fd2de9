package main

import (
	"testing"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

func TestHowItEnded(t *testing.T) {
	t.Parallel()
	three := 3
	for _, tt := range []struct {
		r    control.Run
		want string
	}{
		{control.Run{Outcome: "succeeded"}, "succeeded"},
		{control.Run{Outcome: "failed", Reason: "exit status 7"}, "failed: exit status 7"},
		{control.Run{Outcome: "failed", ExitCode: &three}, "failed: exit 3"},
		{control.Run{Outcome: "timed out", Reason: "timed out after 2s"}, "timed out after 2s"},
		{control.Run{Outcome: "killed", Reason: "killed by uid 0 on n2"}, "killed by uid 0 on n2"},
		{control.Run{Outcome: "lost", Reason: "the agent on n2 died"}, "lost: the agent on n2 died"},
	} {
		if got := howItEnded(tt.r); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}
