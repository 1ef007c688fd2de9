package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

// A lord's lease is 0.8 of a voter's, and must outlast three beats and a
// pause. A short lease leaves little for the pause; where this host cannot
// keep to a third of it when it has nothing else to do, lordships would move
// for no reason. That is a nuisance and not a danger, so only short leases are
// looked at.
const (
	shortLease = time.Second // below it the host is tested at the start

	testWindow = time.Second
	testStep   = 2 * time.Millisecond
	testTries  = 3 // windows of which one must be good: others start at boot too
	maxTesters = 8
)

// allowedDelay is how late a timer may be.
func allowedDelay(beat, lease time.Duration) time.Duration {
	return (lease*8/10 - 3*beat) / 3
}

// selfTest refuses a lease that is too short for this host.
func selfTest(ctx context.Context, beat, lease time.Duration, root fs.FS, nap func(time.Duration) time.Duration) error {
	if lease >= shortLease {
		return nil
	}
	if cpus := cpuQuota(root); cpus < 1 {
		return control.Refused(`give it a whole CPU (systemd: CPUQuota=, containers: --cpus), or use profile = "lan"`,
			"a lease of %v takes a CPU of its own: the quota of this cgroup is %.2f of one", lease, cpus)
	}
	allowed := allowedDelay(beat, lease)
	var late time.Duration
	for range testTries {
		if late = lateness(ctx, min(runtime.NumCPU(), maxTesters), nap); late <= allowed {
			return nil
		}
	}
	return control.Refused(`find out what keeps the CPUs busy, or use profile = "lan", which stands a pause of 700ms`,
		"a lease of %v is too short for this host: a timer came %v late, at most %v are allowed",
		lease, late.Round(time.Millisecond), allowed)
}

// atPlace puts where something is written in front of a refusal.
func atPlace(place string, err error) error {
	if e, ok := errors.AsType[*control.Error](err); ok {
		return control.Refused(e.Hint, "%s: %s", place, e.Message)
	}
	return fmt.Errorf("%s: %w", place, err)
}

// lateness is by how much the latest of many timers was late within testWindow.
// nap sleeps, and returns for how long it did.
func lateness(ctx context.Context, testers int, nap func(time.Duration) time.Duration) time.Duration {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		worst time.Duration
	)
	for range testers {
		wg.Go(func() {
			var own time.Duration
			for slept := time.Duration(0); slept < testWindow && ctx.Err() == nil; {
				took := nap(testStep)
				slept += took
				own = max(own, took-testStep)
			}
			mu.Lock()
			defer mu.Unlock()
			worst = max(worst, own)
		})
	}
	wg.Wait()
	return worst
}

// sleep is nap on the machine's clock.
func sleep(d time.Duration) time.Duration {
	began := time.Now()
	<-time.After(d)
	return time.Since(began)
}

// cpuQuota is how many CPUs this process's cgroups allow it, by the strictest
// of them; +Inf without a limit, or where that cannot be read. root is the
// file system.
func cpuQuota(root fs.FS) float64 {
	cpus := math.Inf(1)
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(f) != 3 {
			continue
		}
		for at := path.Clean("/" + f[2]); ; at = path.Dir(at) {
			switch {
			case f[1] == "": // cgroup v2: "max 100000" or "50000 100000"
				if v := strings.Fields(readLine(root, "sys/fs/cgroup", at, "cpu.max")); len(v) == 2 {
					cpus = min(cpus, share(v[0], v[1]))
				}
			case hasController(f[1], "cpu"):
				dir := path.Join("sys/fs/cgroup", f[1])
				cpus = min(cpus, share(readLine(root, dir, at, "cpu.cfs_quota_us"), readLine(root, dir, at, "cpu.cfs_period_us")))
			}
			if at == "/" {
				break
			}
		}
	}
	return cpus
}

func hasController(list, name string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if c == name {
			return true
		}
	}
	return false
}

func readLine(root fs.FS, parts ...string) string {
	b, _ := fs.ReadFile(root, path.Join(parts...))
	return strings.TrimSpace(string(b))
}

// share is quota/period; without a limit (max, -1, nothing) +Inf.
func share(quota, period string) float64 {
	q, err := strconv.ParseFloat(quota, 64)
	p, perr := strconv.ParseFloat(period, 64)
	if err != nil || perr != nil || q <= 0 || p <= 0 {
		return math.Inf(1)
	}
	return q / p
}
