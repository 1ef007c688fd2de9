package daemon

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxStatus is how many lordships systemd is told of by name.
const maxStatus = 3

// A supervisor is told how the agent is: systemd, by sd_notify(3). A word that
// cannot be sent at once is lost: nothing here waits, for the core's own loop
// says that it lives.
type supervisor struct {
	socket   string        // empty: there is none
	watchdog time.Duration // without a sign of life for so long it kills us; 0: it does not

	mu    sync.Mutex
	fed   time.Time
	lords map[string]uint64 // terms by legion
}

// newSupervisor takes from the environment what systemd put there, so that
// nobody whom this process starts speaks in its name.
func newSupervisor() *supervisor {
	s := &supervisor{socket: os.Getenv("NOTIFY_SOCKET"), lords: map[string]uint64{}}
	usec, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 63)
	if pid := os.Getenv("WATCHDOG_PID"); err == nil && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(usec) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name)
	}
	return s
}

func (s *supervisor) say(lines ...string) {
	if s.socket == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Sendto(fd, []byte(strings.Join(lines, "\n")), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: s.socket})
}

func (s *supervisor) ready() { s.say("READY=1", s.status()) }

// reloading is followed by ready, whatever comes of the reload.
func (s *supervisor) reloading() {
	s.say("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", read(unix.CLOCK_MONOTONIC).Microseconds()))
}

func (s *supervisor) stopping() { s.say("STOPPING=1", "STATUS=stopping") }

// alive feeds the watchdog. It is for the core's loop, and costs nothing if it
// was fed lately.
func (s *supervisor) alive(now time.Time) {
	if s.watchdog > 0 && now.Sub(s.fed) >= s.watchdog/4 {
		s.fed = now
		s.say("WATCHDOG=1")
	}
}

// within is how soon alive has to be called again, where that is sooner than wake.
func (s *supervisor) within(wake time.Duration) time.Duration {
	if s.watchdog > 0 {
		return min(wake, s.watchdog/4)
	}
	return wake
}

// reigns and fell say of what this node is lord.
func (s *supervisor) reigns(legionName string, term uint64) {
	s.mu.Lock()
	s.lords[legionName] = term
	s.mu.Unlock()
	s.say(s.status())
}

func (s *supervisor) fell(legionName string, term uint64) {
	s.mu.Lock()
	if s.lords[legionName] == term {
		delete(s.lords, legionName)
	}
	s.mu.Unlock()
	s.say(s.status())
}

// status is one line: STATUS=lord of foobar (term 12), ...
func (s *supervisor) status() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lords) == 0 {
		return "STATUS=lord of nothing"
	}
	var names []string
	for name, term := range s.lords {
		names = append(names, fmt.Sprintf("%s (term %d)", name, term))
	}
	slices.Sort(names)
	more := ""
	if n := len(names) - maxStatus; n > 0 {
		names, more = names[:maxStatus], fmt.Sprintf(" and %d more", n)
	}
	return "STATUS=lord of " + strings.Join(names, ", ") + more
}
