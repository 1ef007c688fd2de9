package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/legion-cron/legion-cron/checks"
)

func every(name string, interval time.Duration, look Probe) Check {
	return Check{checks.Definition{Name: name, Probe: name, Interval: interval, Timeout: interval / 2, Rise: 1, Fall: 2, Valor: -1}, look}
}

// run runs a Watch of some checks in a bubble, where time passes as the test
// waits. What changes is appended to *told.
func run(t *testing.T, told *[]string, all ...Check) (w *Watch, stop func()) {
	t.Helper()
	w = NewWatch("node", func(cs []checks.Change) {
		for _, c := range cs {
			*told = append(*told, c.String())
		}
	})
	if err := w.Configure(all); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	return w, func() { cancel(); <-done }
}

func pass(context.Context) error { return nil }

// A probe that heeds its context fails at its timeout; one that does not is
// given up, once; neither delays another.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, hung, fast := make(chan struct{}), 0, 0
		var told []string
		w, stop := run(t, &told,
			every("slow", time.Second, func(ctx context.Context) error { <-ctx.Done(); return plain(ctx.Err()) }),
			every("deaf", time.Second, func(context.Context) error { hung++; <-release; return nil }),
			every("fast", time.Second, func(context.Context) error { fast++; return nil }),
			every("mute", time.Second, func(context.Context) error { return errors.New("") }),
		)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if hung != 1 || fast < 28 || w.Stuck() != 1 {
			t.Errorf("the deaf one was looked at %d times, the fast one %d; %d are stuck", hung, fast, w.Stuck())
		}
		slices.Sort(told) // the fast and the mute one have no order
		want := []string{
			"check deaf is failing, 1 in a row: no answer within 500ms, and its probe does not end; valor -1",
			"check fast is passing, 1 in a row",
			"check mute is failing, 1 in a row: it says nothing; valor -1",
			"check slow is failing, 1 in a row: no answer in time; valor -1",
		}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		if got := w.Standing("foobar").Weight; got != -3 {
			t.Errorf("weight %d, want -3", got)
		}
		stop() // waits for the deaf one no longer than its patience
		close(release)
		synctest.Wait()
	})
}

// A reload cancels what is under way for a check that is no more, and starts
// new ones at once.
func TestWatchReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := false
		var told []string
		w, stop := run(t, &told, every("old", time.Hour, func(ctx context.Context) error {
			<-ctx.Done()
			cancelled = true
			return ctx.Err()
		}))
		defer stop()
		synctest.Wait()
		if err := w.Configure([]Check{every("new", time.Hour, pass)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !cancelled || fmt.Sprint(told) != "[check new is passing, 1 in a row]" {
			t.Errorf("cancelled %v, told %q", cancelled, told)
		}
		if err := w.Configure([]Check{every("", time.Hour, pass)}); err == nil || len(w.Reports()) != 1 {
			t.Errorf("error %v", err)
		}
	})
}

// Run returns when the probes have, not before.
func TestWatchStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		var told []string
		_, stop := run(t, &told, every("c", time.Hour, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(checks.Patience / 2) // it buries its children
			ended = true
			return ctx.Err()
		}))
		synctest.Wait()
		stop()
		if !ended {
			t.Error("Run did not wait for its probe")
		}
	})
}

// failing are commands that end in every way there is.
type failing map[string]Ending

func (f failing) Run(_ context.Context, c Command) (Ending, error) {
	e, ok := f[c.Text+strings.Join(c.Argv, " ")]
	if !ok {
		return e, errors.New("command: no such file or directory")
	}
	return e, nil
}

func TestCommandReasons(t *testing.T) {
	f := failing{
		"good":                           {},
		"bad":                            {Reason: "exit status 3"},
		"says":                           {Reason: "exit status 1", Last: "queue is long"},
		"systemctl is-active -- good":    {},
		"systemctl is-active -- dead":    {Reason: "exit status 3", Last: "inactive"},
		"systemctl is-active -- unclear": {Reason: "killed"},
	}
	says(t, "good", Exec(f, Command{Text: "good"}), "")
	says(t, "bad", Exec(f, Command{Text: "bad"}), "exit status 3")
	says(t, "says", Exec(f, Command{Text: "says"}), "exit status 1: queue is long")
	says(t, "missing", Exec(f, Command{Argv: []string{"missing"}}), "no such file")
	says(t, "active", Unit(f, "c", "good"), "")
	says(t, "inactive", Unit(f, "c", "dead"), "unit dead: inactive")
	says(t, "unclear", Unit(f, "c", "unclear"), "unit unclear: killed")
}
