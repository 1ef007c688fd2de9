package probe

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The test binary plays the processes that probes look for, and a host that
// pings another.
func TestMain(m *testing.M) {
	role, arg, _ := strings.Cut(os.Getenv("PROBE_CHILD"), " ")
	switch role {
	case "":
		os.Exit(m.Run())
	case "idle":
		<-time.After(time.Hour)
	case "ping":
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		fmt.Println("ping:", Ping(arg)(ctx))
	}
}

// eventually polls for what other processes do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("not in time: %s", what)
		}
	}
}

const patience = 20 * time.Second

// look looks once, with plenty of time.
func look(t *testing.T, p Probe) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return p(ctx)
}

// says fails the test unless the probe passes (want empty), or fails with a
// reason that has want in it.
func says(t *testing.T, name string, p Probe, want string) {
	t.Helper()
	switch err := look(t, p); {
	case want == "" && err != nil:
		t.Errorf("%s: %v, want it to pass", name, err)
	case want != "" && err == nil:
		t.Errorf("%s: it passes, want %q", name, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}
