package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

func TestNews(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	at := func(s int) control.Time { return control.At(start.Add(time.Duration(s) * time.Second)) }
	lordship := func(node, lord string, term uint64, since int) sight {
		return sight{node: node, answered: true, status: control.Status{
			Legions: control.List[control.Legion]{{Name: demoLegion, Lord: lord, Term: term, Since: at(since)}},
		}}
	}
	ran := func(outcome string) control.Run {
		return control.Run{Run: "1", Job: "tick", Slot: "demo/tick@x", Attempt: 1, Node: "node2", Outcome: outcome, Scheduled: at(2), Started: at(2), Ended: at(3)}
	}
	n := newNews(start)
	for _, c := range []struct {
		name   string
		sights []sight
		want   []string
	}{
		{"nobody answers", []sight{{}, {}, {}}, nil},
		{"hearsay", []sight{lordship("node1", "node2", 7, 1)}, nil},
		{"the lord says so", []sight{lordship("node1", "node2", 7, 1), lordship("node2", "node2", 7, 1)}, []string{"12:00:01  node2 is lord of demo, term 7"}},
		{"said already", []sight{lordship("node2", "node2", 7, 1)}, nil},
		{"still running", []sight{{runs: []control.Run{ran("running")}}}, nil},
		{"ended, on two nodes", []sight{{runs: []control.Run{ran("succeeded")}}, {runs: []control.Run{ran("succeeded")}}}, []string{"12:00:02  node2   tick       succeeded in 1.0s"}},
		{"an old lord speaks", []sight{lordship("node1", "node1", 6, 0)}, nil},
		{"succession", []sight{lordship("node3", "node3", 8, 9)}, []string{"12:00:09  node3 is lord of demo, term 8, after node2"}},
	} {
		if got := n.read(c.sights); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFreeAddrs(t *testing.T) {
	t.Parallel()
	addrs, err := freeAddrs(demoNodes)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addrs)
	if got := len(slices.Compact(addrs)); got != demoNodes {
		t.Errorf("%d different addresses in %q", got, addrs)
	}
}

// TestDescendants sees a grandchild, and not one that is somebody else's.
func TestDescendants(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	sleep, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p, _ := os.FindProcess(sleep)
		_ = p.Kill()
		_ = cmd.Wait()
	})
	below, err := descendants(os.Getpid())
	if err != nil || !slices.Contains(below, sleep) || !slices.Contains(below, cmd.Process.Pid) {
		t.Errorf("descendants = %v, %v, want %d and %d among them", below, err, cmd.Process.Pid, sleep)
	}
	if below, err := descendants(cmd.Process.Pid); err != nil || fmt.Sprint(below) != fmt.Sprint([]int{sleep}) {
		t.Errorf("descendants of the shell = %v, %v, want %d", below, err, sleep)
	}
}
