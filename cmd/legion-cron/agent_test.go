package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
)

// fakeNode's Stop waits for Kill if it has runs; calls go to the log.
type fakeNode struct {
	startErr, reloadErr error
	killed              chan struct{} // nil: nothing runs
	log                 chan string
	once                sync.Once
	left                chan struct{} // nil: it never wants to be stopped
	leftBy              error
}

func (n *fakeNode) Start(context.Context) error {
	n.log <- "start"
	return n.startErr
}

func (n *fakeNode) Stop(context.Context) error {
	n.log <- "stop"
	if n.killed != nil {
		<-n.killed
	}
	return nil
}

func (n *fakeNode) Kill() {
	n.log <- "kill"
	if n.killed != nil {
		n.once.Do(func() { close(n.killed) })
	}
}

func (n *fakeNode) Left() <-chan struct{} { return n.left }
func (n *fakeNode) LeftBy() error         { return n.leftBy }

func (n *fakeNode) Reloading() func(error) {
	return func(err error) {
		if err != nil {
			n.log <- "refused: " + err.Error()
		}
	}
}

func (n *fakeNode) Reload(context.Context, *config.Config) error {
	n.log <- "reload"
	return n.reloadErr
}

// A step waits for what the node is told, if anything, then sends a signal.
type step struct {
	logged string
	then   os.Signal // nil: nothing
}

func TestServe(t *testing.T) {
	t.Parallel()
	good := func() (*config.Config, error) { return &config.Config{}, nil }
	bad := func() (*config.Config, error) { return nil, errors.New("minute 75") }
	for _, c := range []struct {
		name  string
		runs  bool
		load  func() (*config.Config, error)
		steps []step
	}{
		{"TERM", false, good, []step{{"start", syscall.SIGTERM}, {"stop", nil}}},
		{"INT", false, good, []step{{"start", syscall.SIGINT}, {"stop", nil}}},
		{"TERM twice", true, good, []step{{"start", syscall.SIGTERM}, {"stop", syscall.SIGTERM}, {"kill", nil}}},
		{"HUP", false, good, []step{{"start", syscall.SIGHUP}, {"reload", syscall.SIGTERM}, {"stop", nil}}},
		{"HUP while stopping", true, good, []step{{"start", syscall.SIGTERM}, {"stop", syscall.SIGHUP}, {"", syscall.SIGINT}, {"kill", nil}}},
		{"HUP, bad file", false, bad, []step{{"start", syscall.SIGHUP}, {"refused: minute 75", syscall.SIGTERM}, {"stop", nil}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := &fakeNode{log: make(chan string)}
			if c.runs {
				n.killed = make(chan struct{})
			}
			signals := make(chan os.Signal)
			done := make(chan error, 1)
			go func() { done <- serve(t.Context(), n, c.load, signals, nil) }()
			for _, s := range c.steps {
				if s.logged != "" {
					if got := <-n.log; got != s.logged {
						t.Fatalf("the node was told %q, want %q", got, s.logged)
					}
				}
				if s.then != nil {
					signals <- s.then
				}
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServeStartFails(t *testing.T) {
	t.Parallel()
	want := errors.New("state directory in use")
	n := &fakeNode{startErr: want, log: make(chan string, 1)}
	if err := serve(t.Context(), n, nil, nil, nil); !errors.Is(err, want) {
		t.Errorf("serve = %v", err)
	}
}

// TestServeLeft: a node that wants to be stopped is, and says why.
func TestServeLeft(t *testing.T) {
	t.Parallel()
	want := errors.New("a copy of another")
	n := &fakeNode{log: make(chan string, 2), left: make(chan struct{}), leftBy: want}
	close(n.left)
	if err := serve(t.Context(), n, nil, nil, nil); !errors.Is(err, want) {
		t.Errorf("serve = %v", err)
	}
	if a, b := <-n.log, <-n.log; a != "start" || b != "stop" {
		t.Errorf("the node was told %q, %q", a, b)
	}
}

// TestServeOrphaned: when whoever holds our standard input dies, nothing waits.
func TestServeOrphaned(t *testing.T) {
	t.Parallel()
	n := &fakeNode{log: make(chan string, 3), killed: make(chan struct{})}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serve(t.Context(), n, nil, nil, atEOF(r)) }()
	if got := <-n.log; got != "start" {
		t.Fatal(got)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(n.log)
	var rest []string
	for s := range n.log {
		rest = append(rest, s)
	}
	if len(rest) != 2 || !strings.Contains(strings.Join(rest, " "), "kill") {
		t.Errorf("the node was told %q, want stop and kill", rest)
	}
}
