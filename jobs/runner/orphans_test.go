package runner

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

// A block is a Sink that holds its run until it is opened.
type block struct{ held, open chan struct{} }

func (b block) Line(string, []byte) {
	close(b.held)
	<-b.open
}

// initPart is an agent to whom orphans come, as they come to PID 1. It says
// what it did not expect.
func initPart(string) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
		return 1
	}
	h, err := New(Config{Incarnation: "init", NoCgroups: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	// A run that is dead and not reaped, for its output is held; and an orphan of it.
	sink := block{make(chan struct{}), make(chan struct{})}
	s := play("widow")
	p, err := h.Start(s, sink)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	<-sink.held
	zombies := func() (ours, orphans int) {
		for _, c := range processes() {
			if c.dead && c.parent == os.Getpid() {
				if c.pid == p.PID() {
					ours++
				} else {
					orphans++
				}
			}
		}
		return ours, orphans
	}
	for ours, orphans := 0, 0; ours != 1 || orphans == 0; ours, orphans = zombies() {
		runtime.Gosched()
	}
	seen := h.reapOrphans(nil)
	if _, orphans := zombies(); orphans == 0 || len(seen) != orphans {
		fmt.Println("reaped at first sight")
	}
	h.reapOrphans(seen)
	if ours, orphans := zombies(); ours != 1 || orphans != 0 {
		fmt.Println("left:", ours, orphans)
	}
	close(sink.open)
	if got := p.Wait(); got.State != jobs.Failed || got.ExitCode != 3 {
		fmt.Printf("the run's own status was taken: %+v\n", got)
	}
	return 0
}

func TestReapOrphans(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	p, r := start(t, h, play("init"))
	if got := end(t, p); got.State != jobs.Succeeded || r.text() != "" {
		t.Errorf("%+v: %s", got, r.text())
	}
}
