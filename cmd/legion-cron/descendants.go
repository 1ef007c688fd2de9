package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// reapTimeout bounds how long killed processes may take to vanish; one that
// hangs in the kernel longer is reported.
const reapTimeout = 5 * time.Second

// adoptOrphans makes this process the parent of every descendant whose parent
// dies, in init's place: what a killed agent leaves behind stays within reach.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// killDescendants kills every process below this one and waits until there is
// none. It needs adoptOrphans, and that nobody else waits for a child now.
func killDescendants() error {
	deadline := time.Now().Add(reapTimeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := descendants(os.Getpid())
		if err != nil {
			return fmt.Errorf("find left-over processes: %w", err)
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill left-over processes: %v do not die", left)
		}
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL) // fails if it is gone
		}
		// Those who are our children, by birth or by adoption, are zombies until
		// we wait; the children of others come to us when those are waited for.
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
		<-tick.C
	}
}

// descendants lists the processes below root, from one look at /proc.
func descendants(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, ok := parentOf(pid); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	var below []int
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		below = append(below, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return below, nil
}

// parentOf reads /proc/PID/stat: "PID (NAME) STATE PARENT ...", where NAME may
// hold anything, brackets and blanks too.
func parentOf(pid int) (int, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false // gone meanwhile
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return parent, err == nil
}
