package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demoPatience is when a demo that says nothing is given up.
const demoPatience = 2 * time.Minute

// demoProcess is a running `legion-cron demo`: this test binary by another name.
type demoProcess struct {
	cmd   *exec.Cmd
	tmp   string
	lines *bufio.Scanner
	heard strings.Builder
	pids  map[string]int // of the agents, by node
}

func startDemo(t *testing.T) *demoProcess {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), demoPatience)
	d := &demoProcess{tmp: t.TempDir(), pids: map[string]int{}}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.CommandContext(ctx, exe)
	d.cmd.Args = []string{"legion-cron", "demo"}
	d.cmd.WaitDelay = time.Second // should it die without its agents
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	var stderr bytes.Buffer
	d.cmd.Stderr = &stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = d.cmd.Wait() // if the test has not
		if t.Failed() {
			t.Logf("the demo said:\n%s%s", &d.heard, &stderr)
		}
	})
	d.lines = bufio.NewScanner(out)
	for range demoNodes {
		row := d.await(t, `^(node\d) +(\d+) +legion-cron status --socket \S+$`)
		if d.pids[row[1]], err = strconv.Atoi(row[2]); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// await reads until a line matches, and returns its groups.
func (d *demoProcess) await(t *testing.T, pattern string) []string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	for d.lines.Scan() {
		d.heard.WriteString(d.lines.Text() + "\n")
		if m := want.FindStringSubmatch(d.lines.Text()); m != nil {
			return m
		}
	}
	t.Fatalf("the demo ended without a line like %s", pattern)
	return nil
}

// remains lists the processes that have the demo's TMPDIR in their environment.
func (d *demoProcess) remains() []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && bytes.Contains(env, []byte("TMPDIR="+d.tmp+"\x00")) {
			line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			found = append(found, filepath.Base(dir)+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// TestDemo is the promise of the README: three nodes; the lord is killed with
// -9 and the entries go on from another; Ctrl-C leaves no process and no file.
func TestDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	lord := d.await(t, `  (node\d) is lord of demo, term \d+$`)[1]
	d.await(t, `  `+lord+` +tick +succeeded in `)

	if err := syscall.Kill(d.pids[lord], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.await(t, `  `+lord+`, pid \d+, is gone: signal: killed`)
	heir := d.await(t, `  (node\d) is lord of demo, term \d+, after `+lord+`$`)[1]
	d.await(t, `  `+heir+` +tick +succeeded in `)

	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	d.await(t, `^stopping$`)
	if d.lines.Scan() {
		t.Errorf("after stopping: %s", d.lines.Text())
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	if left := d.remains(); len(left) > 0 {
		t.Errorf("processes left: %q", left)
	}
	if left, err := os.ReadDir(d.tmp); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// TestDemoKilled: when the demo itself is killed with -9, its agents end.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Wait()
	deadline := time.Now().Add(demoPatience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for left := d.remains(); len(left) > 0; left = d.remains() {
		if time.Now().After(deadline) {
			t.Fatalf("processes left: %q", left)
		}
		<-tick.C
	}
}
