package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// binaryDir begins the name of the directory of built binaries; the id of the
// test process follows.
const binaryDir = "legion-cron-lab-"

var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Binary builds cmd/legion-cron, once per test process, as it is shipped: a
// static binary; or with the race detector, if the test has it.
func Binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() { built.path, built.err = build() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

func build() (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	built.dir, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", binaryDir, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("build legion-cron: %w", err)
	}
	path := filepath.Join(built.dir, "legion-cron")
	args := []string{"build", "-o", path}
	cgo := "0"
	if raceEnabled {
		args, cgo = append(args, "-race"), "1"
	}
	cmd := exec.Command("go", append(args, "./cmd/legion-cron")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build legion-cron: %w\n%s", err, out), os.RemoveAll(built.dir))
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
