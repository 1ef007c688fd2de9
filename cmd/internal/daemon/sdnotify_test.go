package daemon_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// TestSupervisor: what systemd is told, on a socket like its own.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "lc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	config := filepath.Join(dir, "config.toml")
	write := func(more string) {
		t.Helper()
		text := "[node]\nname = \"n1\"\nstate_dir = \"state\"\n[control]\nsocket = \"sock\"\n[legion.foobar]\n" + more
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	cmd := exec.Command(lab.Binary(t), "agent", "--config", config)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+l.LocalAddr().String(), "WATCHDOG_USEC=400000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s", &out)
		}
	})
	// hear waits for a word, and returns it and how many signs of life came before.
	hear := func(pattern string) (word []string, fed int) {
		t.Helper()
		re := regexp.MustCompile("(?s)^" + pattern + "$")
		buf := make([]byte, 4096)
		if err := l.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := l.Read(buf)
			if err != nil {
				t.Fatalf("never heard %s: %v", pattern, err)
			}
			if string(buf[:n]) == "WATCHDOG=1" {
				fed++
			}
			if word := re.FindStringSubmatch(string(buf[:n])); word != nil {
				return word, fed
			}
		}
	}
	signal := func(sig syscall.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	if ready, _ := hear(`READY=1\nSTATUS=lord of .*`); !strings.Contains(ready[0], "foobar") { // or it was elected first
		hear(`STATUS=lord of foobar \(term \d+\)`)
	}
	for range 10 { // an idle node does not starve the watchdog
		hear("WATCHDOG=1")
	}
	for _, more := range []string{"valor = 7\n", "nonsense = 1\n"} { // also when nothing comes of it
		write(more)
		signal(syscall.SIGHUP)
		word, _ := hear(`RELOADING=1\nMONOTONIC_USEC=(\d+)`)
		var usec int64
		if _, err := fmt.Sscan(word[1], &usec); err != nil || usec <= 0 {
			t.Errorf("%q: %v", word[0], err)
		}
		hear(`READY=1\nSTATUS=lord of foobar \(term \d+\)`)
	}
	// A frozen agent gives no sign of life, and does when it thaws.
	signal(syscall.SIGSTOP)
	lab.Eventually(t, 5*time.Second, "the agent to be silent", func() bool {
		_ = l.SetReadDeadline(time.Now().Add(time.Second))
		_, err := l.Read(make([]byte, 4096))
		return err != nil
	})
	signal(syscall.SIGCONT)
	hear("WATCHDOG=1")
	signal(syscall.SIGTERM)
	hear(`STOPPING=1\nSTATUS=stopping`)
}

// TestUnit: systemd has nothing to say against the unit.
func TestUnit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	text, err := os.ReadFile("../../../contrib/systemd/legion-cron.service")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unit := filepath.Join(dir, "legion-cron.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/bin/legion-cron", lab.Binary(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("systemd-analyze", "verify", "--man=no", unit)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 { // it exits 0 for keys that it does not know
		t.Errorf("systemd-analyze verify: %v\n%s", err, &errs)
	}
}
