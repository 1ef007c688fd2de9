package probe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// linked starts a program under a name that no other process has, and returns
// its command, which has not been waited for when the test ends.
func linked(t *testing.T, program, name string, args []string, env ...string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(program, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// A real redis-server, by its name, its title and its pid file, until it is killed.
func TestRedis(t *testing.T) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	name := fmt.Sprint("redis-", os.Getpid())
	pidfile := filepath.Join(dir, "redis.pid")
	probes := map[string]Probe{
		"no process of the name " + name: Named(name),
		"no process matches":             Matching(regexp.MustCompile(regexp.QuoteMeta(dir) + "/sock")),
		"redis.pid":                      PIDFile(pidfile),
	}
	for want, p := range probes {
		says(t, "before", p, want)
	}
	cmd := linked(t, program, name, []string{"--port", "0", "--unixsocket", dir + "/sock", "--pidfile", pidfile, "--save", "", "--dir", dir})
	for want, p := range probes {
		eventually(t, "redis is up, no longer: "+want, func() bool { return look(t, p) == nil })
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for want, p := range probes {
		eventually(t, "its death is noticed: "+want, func() bool {
			err := look(t, p)
			return err != nil && strings.Contains(err.Error(), want)
		})
	}
	// It is a zombie all the while: nobody has waited for it yet.
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
	if err != nil || !strings.Contains(string(stat), ") Z ") {
		t.Errorf("it is no zombie: %s, %v", stat, err)
	}
}

func TestNamed(t *testing.T) {
	long := fmt.Sprintf("a-name-longer-than-the-kernel-keeps-%d", os.Getpid())
	linked(t, os.Args[0], long, nil, "PROBE_CHILD=idle")
	eventually(t, "it has its name", func() bool { return look(t, Named(long)) == nil })
	says(t, "the cut name", Named(long[:maxComm]), "") // as the kernel has it
	says(t, "another of the same beginning", Named(long+"x"), "no process")

	for name, first := range map[string]string{
		"script-":                              "#!/bin/sh",
		"script-longer-than-the-kernel-keeps-": "#!/bin/sh",
		"script-that-gives-an-option-":         "#!/bin/sh -e",
	} {
		script := filepath.Join(t.TempDir(), fmt.Sprint(name, os.Getpid()))
		if err := os.WriteFile(script, []byte(first+"\nread line\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		run := exec.Command(script, "argument")
		in, err := run.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { in.Close(); _ = run.Wait() }()
		eventually(t, name+" has the name of its file", func() bool { return look(t, Named(filepath.Base(script))) == nil })
	}

	says(t, "this process itself", Matching(regexp.MustCompile(regexp.QuoteMeta(strings.Join(os.Args, " "))+"$")), "no process matches")
}

func TestPIDFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	for text, want := range map[string]string{
		strconv.Itoa(os.Getpid()) + "\n": "",
		"":                               "no number",
		"redis":                          "no number",
		"-1":                             "no number",
		"4194305":                        "is gone", // above the kernel's highest
		strings.Repeat("1", 1000):        "no number",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		says(t, strconv.Quote(text), PIDFile(path), want)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, "a pipe that nobody writes to", PIDFile(pipe), "no number")
	says(t, "a directory", PIDFile(dir), "directory")
}
