package daemon

import (
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

func TestCPUQuota(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	for _, tt := range []struct {
		name string
		fs   fstest.MapFS
		want float64
	}{
		{"nothing", fstest.MapFS{}, math.Inf(1)},
		{"v2, none", fstest.MapFS{"proc/self/cgroup": file("0::/system.slice/x.service"),
			"sys/fs/cgroup/system.slice/x.service/cpu.max": file("max 100000")}, math.Inf(1)},
		{"v2", fstest.MapFS{"proc/self/cgroup": file("0::/system.slice/x.service"),
			"sys/fs/cgroup/system.slice/x.service/cpu.max": file("150000 100000")}, 1.5},
		{"v2, of its parent", fstest.MapFS{"proc/self/cgroup": file("0::/system.slice/x.service"),
			"sys/fs/cgroup/system.slice/x.service/cpu.max": file("150000 100000"),
			"sys/fs/cgroup/system.slice/cpu.max":           file("20000 100000")}, 0.2},
		{"v2, a container's root", fstest.MapFS{"proc/self/cgroup": file("0::/"),
			"sys/fs/cgroup/cpu.max": file("50000 100000")}, 0.5},
		{"v1", fstest.MapFS{"proc/self/cgroup": file("5:cpu,cpuacct:/docker/1\n4:cpuset:/"),
			"sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us":  file("25000"),
			"sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": file("100000")}, 0.25},
		{"v1, none", fstest.MapFS{"proc/self/cgroup": file("5:cpu:/"),
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us":  file("-1"),
			"sys/fs/cgroup/cpu/cpu.cfs_period_us": file("100000")}, math.Inf(1)},
		{"junk", fstest.MapFS{"proc/self/cgroup": file("0::/\nx\n::"), "sys/fs/cgroup/cpu.max": file("a b")}, math.Inf(1)},
	} {
		if got := cpuQuota(tt.fs); got != tt.want {
			t.Errorf("%s: %v CPUs, want %v", tt.name, got, tt.want)
		}
	}
}

// A short lease is refused on a host that is late, or has too little CPU; one
// bad second is forgiven, and longer leases are not tested.
func TestSelfTest(t *testing.T) {
	const beat, lease = 100 * time.Millisecond, 600 * time.Millisecond
	if got := allowedDelay(beat, lease); got != 60*time.Millisecond {
		t.Errorf("profile fast allows %v, want 60ms", got)
	}
	prompt := func(d time.Duration) time.Duration { return d + 59*time.Millisecond }
	late := func(d time.Duration) time.Duration { return d + 61*time.Millisecond }
	var naps atomic.Int32
	once := func(d time.Duration) time.Duration {
		if naps.Add(1) == 1 {
			return late(d)
		}
		return prompt(d)
	}
	half := fstest.MapFS{"proc/self/cgroup": {Data: []byte("0::/\n")}, "sys/fs/cgroup/cpu.max": {Data: []byte("50000 100000\n")}}
	for _, tt := range []struct {
		name  string
		lease time.Duration
		fs    fstest.MapFS
		nap   func(time.Duration) time.Duration
		want  string
	}{
		{"prompt", lease, nil, prompt, ""},
		{"late", lease, nil, late, "61ms late, at most 60ms"},
		{"late once", lease, nil, once, ""},
		{"half a CPU", lease, half, prompt, "0.50 of one"},
		{"a longer lease", 2 * time.Second, half, late, ""},
	} {
		err := selfTest(t.Context(), beat, tt.lease, tt.fs, tt.nap)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if e, ok := errors.AsType[*control.Error](err); err != nil && (!ok || e.Hint == "") {
			t.Errorf("%s: %v has no hint", tt.name, err)
		}
	}
}
