package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// binaryDir begins the name of the directory of built binaries; the id of the
// test process follows.
const binaryDir = "legion-cron-lab-"

var built struct {
	mu    sync.Mutex
	dir   string
	paths map[variant]string
}

// A variant is one way to build the program.
type variant struct {
	ldflags string
	race    bool
}

// Binary builds cmd/legion-cron, once per test process, as it is shipped: a
// static binary; or with the race detector, if the test has it.
func Binary(t testing.TB) string {
	t.Helper()
	return BinaryWith(t, "")
}

// BinaryWith is Binary with flags for the linker.
func BinaryWith(t testing.TB, ldflags string) string {
	t.Helper()
	return binary(t, variant{ldflags, raceEnabled})
}

// Shipped is Binary without the race detector even if the test has it: for
// tests that measure memory.
func Shipped(t testing.TB) string {
	t.Helper()
	return binary(t, variant{})
}

func binary(t testing.TB, v variant) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if path := built.paths[v]; path != "" {
		return path
	}
	path, err := build(v)
	if err != nil {
		t.Fatal(err)
	}
	if built.paths == nil {
		built.paths = map[variant]string{}
	}
	built.paths[v] = path
	return path
}

func build(v variant) (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	if built.dir == "" {
		if built.dir, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", binaryDir, os.Getpid())); err != nil {
			return "", fmt.Errorf("build legion-cron: %w", err)
		}
	}
	path := filepath.Join(built.dir, strconv.Itoa(len(built.paths)), "legion-cron")
	args := []string{"build", "-ldflags", v.ldflags, "-o", path}
	cgo := "0"
	if v.race {
		args, cgo = append(args, "-race"), "1"
	}
	cmd := exec.Command("go", append(args, "./cmd/legion-cron")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build legion-cron: %w\n%s", err, out)
	}
	return path, nil
}

// Main runs the tests and removes what Binary built: for TestMain. Without it
// the next lab of another process does so.
func Main(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}
