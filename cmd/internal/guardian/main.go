package guardian

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs/runner"
	"github.com/legion-cron/legion-cron/legion"
)

const (
	// Verb is the one argument of this binary as a guardian.
	Verb = "guardian"

	// oomScore makes the kernel rather kill any run, and the agent itself.
	oomScore = -900
	// gcPercent trades time, of which there is plenty, for memory.
	gcPercent = 20
	logStop   = time.Second
)

// playable says that this program has called Main, and so can be started as a
// guardian. Another one would do again whatever it is for.
var playable bool

// Main must be called early in main, and in TestMain of what starts agents: it
// returns at once unless this process was started to be a guardian.
func Main() {
	playable = true
	if len(os.Args) != 2 || os.Args[1] != Verb {
		return
	}
	if err := serve(os.Stdin); err != nil {
		fmt.Fprintf(os.Stderr, "legion-cron: guardian: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// deaf lists what a guardian does not listen to.
var deaf = []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE}

// serve guards the agent at the other end of the pipe.
func serve(pipe *os.File) error {
	if st, err := pipe.Stat(); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		return fmt.Errorf("agents start it, nobody else can")
	}
	signal.Ignore(deaf...)
	debug.SetGCPercent(gcPercent)
	// Where the agent may not do this it stays in line with everybody else.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(oomScore)), 0)

	in := bufio.NewReader(pipe)
	first, err := readFrame(in)
	if err != nil || first.Oath == nil {
		return fmt.Errorf("the agent says nothing: %w", err)
	}
	oath := *first.Oath
	log, err := logging.Open(logging.Config{Level: oath.LogLevel, Format: oath.LogFormat, Node: oath.Node})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), logStop)
		defer cancel()
		_ = log.Close(ctx) // there is nowhere else to say it
	}()
	host, err := runner.New(runner.Config{Incarnation: oath.Incarnation, NoCgroups: oath.NoCgroups})
	if err != nil {
		return err
	}
	// A name of its own keeps the hooks that it calls from being swept away as
	// what the dead agent has left.
	hookHost, err := runner.New(runner.Config{Incarnation: oath.Incarnation + "-" + Verb, NoCgroups: oath.NoCgroups})
	if err != nil {
		return err
	}
	alarm, err := newBootAlarm()
	if err != nil {
		return err
	}
	g := &guard{
		incarnation: oath.Incarnation, clock: machineClock, alarm: alarm, host: host, deliver: deliver,
		log: log.Named("guardian"),
	}
	caller := &hooks.Caller{Host: hookHost, Log: g.log}
	g.occupy = func() func() {
		release, err := hooks.Occupy(oath.HookLock)
		if err != nil {
			g.log.Warn("a lord hook may not wait for these", zap.Error(err))
		}
		return release
	}
	g.call = func(list []hooks.Hook, c hooks.Call) {
		// Children inherit what is ignored, but not what is caught.
		signal.Notify(make(chan os.Signal, 1), deaf...)
		_ = caller.Call(list, c, &hooks.Calling{}) // told to the log
	}
	if w := g.watch(first, in); w != nil {
		g.bury(w)
	}
	g.calls.Wait()
	return nil
}

// machineClock reads the machine's clocks.
func machineClock() legion.Now {
	return legion.Now{Boot: read(unix.CLOCK_BOOTTIME), Raw: read(unix.CLOCK_MONOTONIC_RAW), Wall: time.Now()}
}

func read(id int32) time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts) // the agent has read it before
	return time.Duration(ts.Nano())
}

// A bootAlarm rings by CLOCK_BOOTTIME. It lasts as long as the process.
type bootAlarm struct {
	fd   int
	ring chan struct{}
}

func newBootAlarm() (*bootAlarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make timer: %w", err)
	}
	a := &bootAlarm{fd: fd, ring: make(chan struct{}, 1)}
	f := os.NewFile(uintptr(fd), "alarm")
	go func() {
		var count [8]byte
		for {
			if _, err := f.Read(count[:]); err != nil {
				return // never, for a timer that is not closed
			}
			select {
			case a.ring <- struct{}{}:
			default:
			}
		}
	}()
	return a, nil
}

func (a *bootAlarm) set(after time.Duration) {
	// Zero would disarm it.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(after, 1)))}
	_ = unix.TimerfdSettime(a.fd, 0, &spec, nil) // the values are good
}

func (a *bootAlarm) rings() <-chan struct{} { return a.ring }
