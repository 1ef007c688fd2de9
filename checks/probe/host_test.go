package probe

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stamp")
	says(t, "missing", File(path, 0), path+": no such file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, "there", File(path, 0), "")
	says(t, "fresh", File(path, time.Hour), "")
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	says(t, "old", File(path, time.Hour), "was changed 2h0m0s ago, want at most 1h0m0s")
	says(t, "old, and that is no matter", File(path, 0), "")
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	free := int64(s.Bavail) * s.Frsize
	says(t, "enough", Disk(dir, Enough{Bytes: free / 2}), "")
	says(t, "not enough", Disk(dir, Enough{Bytes: 2*free + 1}), dir+": ")
	says(t, "a share", Disk(dir, Enough{Percent: 1e-6}), "")
	says(t, "too great a share", Disk("/proc", Enough{Percent: 50}), "") // 0 of 0 is not full
	says(t, "missing", Disk(dir+"/none", Enough{Bytes: 1}), "no such file")
}

func TestEnough(t *testing.T) {
	for _, tt := range []struct {
		e           Enough
		free, whole uint64
		want        string
	}{
		{Enough{Percent: 10}, 10, 100, ""},
		{Enough{Percent: 10}, 9, 100, "9.0% free, want 10%"},
		{Enough{Bytes: 5 << 30}, 5 << 30, 1 << 40, ""},
		{Enough{Bytes: 5 << 30}, 1 << 29, 1 << 40, "512.0 MiB free, want 5.0 GiB"},
		{Enough{Bytes: 100}, 1, 1 << 40, "1 B free, want 100 B"},
	} {
		got := ""
		if err := tt.e.of(tt.free, tt.whole); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v of %d in %d: %q, want %q", tt.e, tt.free, tt.whole, got, tt.want)
		}
	}
}

func TestLoadAndMemory(t *testing.T) {
	says(t, "load", Load(10_000), "")
	says(t, "no load at all", Load(-1), "load of ")
	says(t, "memory", Memory(Enough{Bytes: 1}), "")
	says(t, "more than there is", Memory(Enough{Bytes: 1 << 60}), "free, want")
	says(t, "all of it", Memory(Enough{Percent: 100}), "% free, want 100%")
}
