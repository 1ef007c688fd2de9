package runner

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

// The names that every run finds in its environment, whatever its job says.
// OnUnlordVar is "kill" or "finish".
const (
	RunVar         = "LEGION_RUN"
	IncarnationVar = "LEGION_INCARNATION"
	OnUnlordVar    = "LEGION_ON_UNLORD"
)

const (
	defaultShell = "/bin/sh"
	defaultPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

	// MaxStdin bounds Spec.Stdin, MaxEnvFile the file behind Spec.EnvFile, in bytes.
	MaxStdin   = 1 << 20
	MaxEnvFile = 256 << 10
)

// A Spec is everything there is to know about one run. It is a value; Start
// keeps no reference to its maps and slices.
type Spec struct {
	Run string   // the run's id: letters, digits and dashes; unique for ever
	Job string   // for messages
	Set []string // LEGION_* as NAME=value; stronger than Env and EnvFile

	Command string   // a text for Shell -c; or
	Argv    []string // run directly, Argv[0] searched in the PATH of the run
	Shell   string   // default /bin/sh

	User    string // name or uid; empty: the daemon's own
	Group   string // name or gid; empty: the user's primary group
	Dir     string // empty: the user's home, or / without User
	Env     map[string]string
	EnvFile string // NAME=value lines, read when the run starts; weaker than Env
	Umask   int    // -1: the daemon's
	Nice    int    // 0: the daemon's
	IONice  string // "", "idle", "best-effort[:0-7]", "realtime[:0-7]"
	Limits  map[string]string
	Stdin   string

	Timeout      time.Duration // 0: none
	StopSignal   string        // default TERM
	Grace        time.Duration // from StopSignal to KILL
	SuccessCodes []int         // default 0

	// OnUnlord is remembered with the run's processes, so that whoever cleans
	// up after a dead agent knows which of its runs may not live on.
	OnUnlord jobs.OnUnlord

	// Reap kills what is left of the tree when the direct child has exited of
	// its own accord. False lets daemons live that the job has started.
	Reap bool
}

// FromJob is the Spec of a job's run. The caller adds Run and Set.
func FromJob(j jobs.Job) Spec {
	return Spec{
		Job: j.Name, Command: j.Command, Argv: slices.Clone(j.Argv), Shell: j.Shell,
		User: j.User, Group: j.Group, Dir: j.Dir,
		Env: maps.Clone(j.Env), EnvFile: j.EnvFile,
		Umask: j.Umask, Nice: j.Nice, IONice: j.IONice, Limits: maps.Clone(j.Limits), Stdin: j.Stdin,
		Timeout: j.Timeout, StopSignal: j.StopSignal, Grace: j.Grace, SuccessCodes: slices.Clone(j.SuccessCodes),
		OnUnlord: j.OnUnlord,
		Reap:     j.Exclusive || j.OnUnlord == jobs.OnUnlordKill,
	}
}

// Check finds what is wrong with a Spec without looking at the host: the
// texts that have a grammar of their own. Start makes the same checks.
func (s *Spec) Check() error {
	_, err := s.settings()
	return err
}

// settings are the parsed texts of a Spec.
type settings struct {
	stop   unix.Signal
	limits []limit
	ioprio int // 0: leave alone
}

func (s *Spec) settings() (settings, error) {
	var set settings
	switch {
	case s.Command == "" && len(s.Argv) == 0:
		return set, fmt.Errorf("command: missing")
	case s.Command != "" && len(s.Argv) > 0:
		return set, fmt.Errorf("command: given both as a text and as a list")
	case len(s.Stdin) > MaxStdin:
		return set, fmt.Errorf("stdin: %d bytes, at most %d are allowed", len(s.Stdin), MaxStdin)
	case s.Nice < -20 || s.Nice > 19:
		return set, fmt.Errorf("nice: %d is not in -20 to 19", s.Nice)
	case s.Umask < -1 || s.Umask > 0o777:
		return set, fmt.Errorf("umask: %#o is not in 0 to 0777", s.Umask)
	}
	var err error
	if set.stop, err = ParseSignal(cmp.Or(s.StopSignal, "TERM")); err != nil {
		return set, fmt.Errorf("stop_signal: %w", err)
	}
	if set.ioprio, err = parseIONice(s.IONice); err != nil {
		return set, fmt.Errorf("ionice: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Limits)) {
		l, err := parseLimit(name, s.Limits[name])
		if err != nil {
			return set, fmt.Errorf("limits: %w", err)
		}
		set.limits = append(set.limits, l)
	}
	return set, nil
}

// ParseSignal reads a signal as a person writes it: TERM, SIGTERM, term or 15.
func ParseSignal(text string) (unix.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 || n > maxSignal {
			return 0, fmt.Errorf("signal %d is not in 1 to %d", n, maxSignal)
		}
		return unix.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("unknown signal %q", text)
}

const maxSignal = 64

// SignalName is the inverse of ParseSignal: TERM, KILL, 34.
func SignalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return strconv.Itoa(int(sig))
}

func (l limit) name() string {
	for name, resource := range resources {
		if resource == l.Resource {
			return name
		}
	}
	return strconv.Itoa(l.Resource)
}

// A limit is one rlimit.
type limit struct {
	Resource int
	Cur, Max uint64
}

var resources = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC,
	"rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO, "sigpending": unix.RLIMIT_SIGPENDING,
	"stack": unix.RLIMIT_STACK,
}

// parseLimit reads "1024", "2G", "unlimited", or "soft:hard" of these.
func parseLimit(name, text string) (limit, error) {
	resource, ok := resources[strings.ToLower(name)]
	if !ok {
		return limit{}, fmt.Errorf("unknown limit %q (known: %s)", name, strings.Join(slices.Sorted(maps.Keys(resources)), ", "))
	}
	soft, hard, two := strings.Cut(text, ":")
	if !two {
		hard = soft
	}
	l := limit{Resource: resource}
	var err error
	if l.Cur, err = parseAmount(soft); err == nil {
		l.Max, err = parseAmount(hard)
	}
	if err != nil {
		return limit{}, fmt.Errorf("%s: %w", name, err)
	}
	if l.Cur > l.Max {
		return limit{}, fmt.Errorf("%s: soft limit %s is above the hard limit %s", name, soft, hard)
	}
	return l, nil
}

func parseAmount(text string) (uint64, error) {
	if text == "unlimited" || text == "infinity" {
		return unix.RLIM_INFINITY, nil
	}
	digits, shift := text, 0
	if i := len(text) - 1; i > 0 {
		if s := strings.IndexByte("KMGT", text[i]&^0x20); s >= 0 {
			digits, shift = text[:i], 10*(s+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return 0, fmt.Errorf("%q is not a number with K, M, G, T or nothing after it, nor unlimited", text)
	}
	return n << shift, nil
}

// parseIONice returns the argument of ioprio_set(2), 0 for the empty text.
func parseIONice(text string) (int, error) {
	const realtime, bestEffort, idle, classShift, defaultLevel = 1, 2, 3, 13, 4
	name, level, leveled := strings.Cut(text, ":")
	class := map[string]int{"realtime": realtime, "best-effort": bestEffort, "idle": idle}[name]
	switch {
	case text == "":
		return 0, nil
	case class == 0 || class == idle && leveled:
		return 0, fmt.Errorf("%q is none of idle, best-effort[:0-7], realtime[:0-7]", text)
	case class == idle:
		return idle << classShift, nil
	case !leveled:
		return class<<classShift | defaultLevel, nil
	}
	n, err := strconv.Atoi(level)
	if err != nil || n < 0 || n > 7 {
		return 0, fmt.Errorf("%q: the level is not in 0 to 7", text)
	}
	return class<<classShift | n, nil
}
