package runner

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// orphanEvery is how often an agent that is PID 1 looks for dead orphans. One
// is reaped when it was seen dead twice.
const orphanEvery = 10 * time.Second

// ReapOrphans is for an agent that is PID 1 of a container: the orphans of its
// runs become its children, and nobody else waits for them. It returns when ctx
// is done, or at once for any other process. What was started on purpose is
// left to who waits for it: runs, which the host knows, and other children,
// provided that they are waited for within orphanEvery of their death.
func (h *Host) ReapOrphans(ctx context.Context) {
	if os.Getpid() != 1 {
		return
	}
	tick := time.NewTicker(orphanEvery)
	defer tick.Stop()
	var seen map[int]proc
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			seen = h.reapOrphans(seen)
		}
	}
}

// reapOrphans reaps the dead children that it had seen before, and returns
// those that it sees for the first time.
func (h *Host) reapOrphans(before map[int]proc) map[int]proc {
	seen := make(map[int]proc)
	for _, p := range processes() {
		if !p.dead || p.parent != os.Getpid() {
			continue
		}
		if _, ours := h.children.Load(p.pid); ours {
			continue
		}
		if old, ok := before[p.pid]; ok && old.start == p.start {
			if reaped, err := unix.Wait4(p.pid, nil, unix.WNOHANG, nil); err != nil || reaped == p.pid {
				continue // or somebody was quicker
			}
		}
		seen[p.pid] = p
	}
	return seen
}
