package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Enough is how much must be free: a share of all in percent, or bytes. The
// other one is zero.
type Enough struct {
	Percent float64
	Bytes   int64
}

// of judges what is free of a whole.
func (e Enough) of(free, whole uint64) error {
	percent := 100.0
	if whole > 0 {
		percent = 100 * float64(free) / float64(whole)
	}
	switch {
	case e.Percent > 0 && percent < e.Percent:
		return fmt.Errorf("%.1f%% free, want %g%%", percent, e.Percent)
	case e.Bytes > 0 && free < uint64(e.Bytes):
		return fmt.Errorf("%s free, want %s", size(free), size(uint64(e.Bytes)))
	}
	return nil
}

// size is a number of bytes for people.
func size(n uint64) string {
	f, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// File passes if something is at the path, changed no longer ago than maxAge
// by the wall clock; 0: whenever.
func File(path string, maxAge time.Duration) Probe {
	return func(context.Context) error {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, plain(err))
		}
		if age := time.Since(info.ModTime()); maxAge > 0 && age > maxAge {
			return fmt.Errorf("%s was changed %s ago, want at most %s", path, age.Round(time.Millisecond), maxAge)
		}
		return nil
	}
}

// Disk passes if the file system of a path has enough space for users without
// privileges, as df shows it.
func Disk(path string, min Enough) Probe {
	return func(context.Context) error {
		var s unix.Statfs_t
		if err := unix.Statfs(path, &s); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		block := uint64(s.Frsize)
		if err := min.of(s.Bavail*block, (s.Blocks-s.Bfree+s.Bavail)*block); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	}
}

// Load passes if the one-minute load average per CPU is at most max.
func Load(max float64) Probe {
	return func(context.Context) error {
		fs, err := procfs.NewDefaultFS()
		if err != nil {
			return fmt.Errorf("read load: %w", plain(err))
		}
		load, err := fs.LoadAvg()
		if err != nil {
			return fmt.Errorf("read load: %w", plain(err))
		}
		if each := load.Load1 / float64(runtime.NumCPU()); each > max {
			return fmt.Errorf("load of %.2f per CPU, want at most %g", each, max)
		}
		return nil
	}
}

// Memory passes if so much is available to new programs without swapping.
func Memory(min Enough) Probe {
	return func(context.Context) error {
		fs, err := procfs.NewDefaultFS()
		if err != nil {
			return fmt.Errorf("read memory: %w", plain(err))
		}
		m, err := fs.Meminfo()
		if err == nil && (m.MemAvailableBytes == nil || m.MemTotalBytes == nil) {
			err = errors.New("the kernel does not say what is available")
		}
		if err != nil {
			return fmt.Errorf("read memory: %w", plain(err))
		}
		return min.of(*m.MemAvailableBytes, *m.MemTotalBytes)
	}
}
