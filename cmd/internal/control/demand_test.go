package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func (b *backend) JobNode(context.Context, string) (string, error)   { return "a", b.err }
func (b *backend) KillNode(context.Context, string) (string, error)  { return "a", b.err }
func (b *backend) RerunNode(context.Context, string) (string, error) { return "a", b.err }

func (b *backend) Trigger(_ context.Context, job string) (Run, error) {
	b.asked = "trigger " + job
	return Run{Run: "r"}, b.err
}

func (b *backend) Rerun(_ context.Context, run string) (Run, error) {
	b.asked = "rerun " + run
	return Run{Run: "r"}, b.err
}

func (b *backend) Kill(_ context.Context, run, signal string) (Run, error) {
	b.asked = "kill " + run + " " + signal
	return Run{Run: "r"}, b.err
}

func (b *backend) Pause(_ context.Context, legion, job string, p *PauseOrder) error {
	b.asked = fmt.Sprintf("pause %q %q %v", legion, job, p)
	return b.err
}

func (b *backend) Taken(_ context.Context, legion, job string, at time.Time) (bool, error) {
	return at.Second() == 0, b.err
}

// Exec lets job "yes" run and sends it a signal, and hangs up on job "gone".
func (b *backend) Exec(ctx context.Context, legion string, ask ExecAsk, say func(any) error, news <-chan ExecNews) error {
	b.asked = legion + "/" + ask.Job
	if ask.Job != "yes" && ask.Job != "gone" {
		return errors.Join(b.err, say(ExecVerdict{Unclaimed: "nobody"}))
	}
	if err := say(ExecVerdict{Run: "r", Env: List[string]{"LEGION=" + legion}}); err != nil {
		return err
	}
	if ask.Job == "gone" {
		return nil
	}
	for n := range news {
		b.heard = append(b.heard, n)
		if n.PID != 0 {
			if err := say(ExecNews{Signal: "TERM"}); err != nil {
				return err
			}
		}
		if n.Ended {
			return say(ExecNews{Recorded: true})
		}
	}
	b.heard = append(b.heard, ExecNews{Failed: "hung up"})
	return nil
}

func TestDemands(t *testing.T) {
	t.Parallel()
	b := &backend{}
	c := NewClient(serve(t, Handler(b)))
	ctx, until := t.Context(), time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	run := func(_ Run, err error) error { return err }
	for _, tt := range []struct {
		ask  func() error
		want string
	}{
		{func() error { return run(c.Trigger(ctx, "a/b")) }, "trigger a/b"},
		{func() error { return run(c.Rerun(ctx, "x")) }, "rerun x"},
		{func() error { return run(c.Kill(ctx, "x", "")) }, "kill x "},
		{func() error { return run(c.Kill(ctx, "x", "HUP")) }, "kill x HUP"},
		{func() error { return c.Pause(ctx, "", "j", until, "why") }, `pause "" "j" &{2026-03-01 02:00:00 +0000 UTC why}`},
		{func() error { return c.Pause(ctx, "g", "", time.Time{}, "") }, `pause "g" "" &{0001-01-01 00:00:00 +0000 UTC }`},
		{func() error { return c.Resume(ctx, "", "j") }, `pause "" "j" <nil>`},
		{func() error { return c.Resume(ctx, "g", "") }, `pause "g" "" <nil>`},
	} {
		b.asked = ""
		if err := tt.ask(); err != nil || b.asked != tt.want {
			t.Errorf("the backend was asked %q, want %q: %v", b.asked, tt.want, err)
		}
	}
	if w := request(b, "POST", "/v1/jobs/j/trigger?node=z"); !strings.Contains(w.Body.String(), "z does not answer") {
		t.Errorf("a named node: %s", w.Body)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	b := &backend{}
	c := NewClient(serve(t, Handler(b)))
	var got []string
	v, err := c.Exec(t.Context(), "g", ExecAsk{Job: "yes"}, func(v ExecVerdict, tell func(ExecNews), signals <-chan string) {
		got = append(got, v.Run, v.Env[0])
		tell(ExecNews{PID: 7})
		got = append(got, <-signals)
		tell(ExecNews{Ended: true, ExitCode: 3})
	})
	if want := []string{"r", "LEGION=g", "TERM"}; err != nil || v.Run != "r" || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, %q", v, err, got)
	}
	if want := []ExecNews{{PID: 7}, {Ended: true, ExitCode: 3}}; !slices.Equal(b.heard, want) {
		t.Errorf("the backend heard %+v", b.heard)
	}
	never := func(ExecVerdict, func(ExecNews), <-chan string) { t.Error("it was run") }
	if v, err := c.Exec(t.Context(), "g", ExecAsk{Job: "no"}, never); err != nil || v.Unclaimed != "nobody" {
		t.Errorf("declined: %+v, %v", v, err)
	}
	if _, err := c.Exec(t.Context(), "g", ExecAsk{Job: "gone"}, func(_ ExecVerdict, tell func(ExecNews), _ <-chan string) {
		tell(ExecNews{Ended: true})
	}); err == nil || !strings.Contains(err.Error(), "agent is gone") {
		t.Errorf("an agent that goes: %v", err)
	}
	b.err = Refused("", "no")
	if _, err := NewClient(serve(t, Handler(b))).Exec(t.Context(), "g", ExecAsk{Job: "no"}, never); err == nil {
		t.Log("an error after the verdict is the verdict's")
	}
}

// TestExecCallerDies: the backend learns of it at once.
func TestExecCallerDies(t *testing.T) {
	t.Parallel()
	b := &backend{}
	path := serve(t, Handler(b))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := NewClient(path).Exec(ctx, "g", ExecAsk{Job: "yes"}, func(_ ExecVerdict, tell func(ExecNews), signals <-chan string) {
		tell(ExecNews{PID: 7})
		<-signals
		cancel()
	})
	if err == nil {
		t.Error("no error")
	}
}
