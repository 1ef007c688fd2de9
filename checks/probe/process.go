package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

const (
	maxComm    = 15 // bytes that the kernel keeps of a process's name
	maxPIDFile = 64 // bytes
)

// Named passes if a process of that name lives: the name of the file by which
// it was started, as killall and pgrep -x take it. A script that names its
// interpreter has the name of its own file.
func Named(name string) Probe {
	return some("no process of the name "+name, func(p procfs.Proc, comm string) bool {
		if len(name) <= maxComm {
			return comm == name
		}
		// The kernel has cut the name.
		return comm == name[:maxComm] && (started(p, name) || executable(p) == name)
	})
}

// started reports whether the command line begins with a file of that name: a
// script's stands behind its interpreter and what may be the interpreter's option.
func started(p procfs.Proc, name string) bool {
	args, err := p.CmdLine()
	return err == nil && slices.ContainsFunc(args[:min(len(args), 3)], func(arg string) bool { return filepath.Base(arg) == name })
}

func executable(p procfs.Proc) string {
	path, err := p.Executable()
	if err != nil {
		return ""
	}
	return filepath.Base(path)
}

// Matching passes if the command line of a living process, its arguments
// joined by blanks, matches. The daemon itself does not count.
func Matching(pattern *regexp.Regexp) Probe {
	return some(fmt.Sprintf("no process matches %q", pattern), func(p procfs.Proc, _ string) bool {
		args, err := p.CmdLine()
		return err == nil && len(args) > 0 && pattern.MatchString(strings.Join(args, " "))
	})
}

// some passes if a living process fits.
func some(none string, fits func(p procfs.Proc, comm string) bool) Probe {
	return func(ctx context.Context) error {
		all, err := procfs.AllProcs()
		if err != nil {
			return fmt.Errorf("list processes: %w", plain(err))
		}
		for _, p := range all {
			if ctx.Err() != nil {
				return plain(ctx.Err())
			}
			if p.PID == os.Getpid() {
				continue
			}
			if s, err := p.Stat(); err == nil && lives(s) && fits(p, s.Comm) {
				return nil
			}
		}
		return errors.New(none)
	}
}

// lives tells the living from zombies, which have ended and are not yet buried.
// A process whose first thread has ended looks like one while others go on.
func lives(s procfs.ProcStat) bool {
	return !slices.Contains([]string{"Z", "X", "x"}, s.State) || s.NumThreads > 1
}

// PIDFile passes if the process lives whose number stands in a file.
func PIDFile(path string) Probe {
	return func(context.Context) error {
		// Without O_NONBLOCK a pipe of that name would be waited for.
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", path, plain(err))
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxPIDFile))
		if err != nil {
			return fmt.Errorf("%s: %w", path, plain(err))
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid <= 0 {
			return fmt.Errorf("%s holds %q and no number of a process", path, text)
		}
		p, err := procfs.NewProc(pid)
		if err == nil {
			var s procfs.ProcStat
			if s, err = p.Stat(); err == nil && lives(s) {
				return nil
			}
		}
		return fmt.Errorf("process %d of %s is gone", pid, path)
	}
}
