package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	maxHosts = 60
	// fewHosts find each other by ARP. More would not fit the kernel's table of
	// neighbours, which all namespaces share; they get permanent entries, which
	// do not count.
	fewHosts = 20
)

const (
	labPrefix  = "lc"         // of every namespace; the process's id follows
	namespaces = "/run/netns" // where ip netns keeps them
	// removeWithin is how long the processes of a namespace may take to be dead.
	removeWithin = 5 * time.Second
)

// Lab is a network of hosts. Its methods fail the test if they cannot do their
// work; they must be called from the test's goroutine.
type Lab struct {
	Hosts []*Host // Hosts[0] is host 1

	t     testing.TB
	sw    string // the switch's namespace
	downs map[int]bool
}

// Host is one machine of the lab, as far as the network goes.
type Host struct {
	Number int    // from 1
	Addr   string // its IPv4 address

	namespace string
}

var (
	labs  atomic.Int32
	sweep sync.Once
)

// New makes n hosts that all reach each other. They last as long as the test.
func New(t testing.TB, n int) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		unavailable(t, "network namespaces need root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			unavailable(t, tool+" is not installed (packages iproute2, nftables)")
		}
	}
	if n < 1 || n > maxHosts {
		t.Fatalf("lab of %d hosts: want 1 to %d", n, maxHosts)
	}
	sweep.Do(func() { sweepStale(strconv.Itoa(os.Getpid())) })

	name := fmt.Sprintf("%s%d-%d", labPrefix, os.Getpid(), labs.Add(1))
	l := &Lab{t: t, sw: name + "-sw", downs: make(map[int]bool)}
	t.Cleanup(func() {
		for _, h := range l.Hosts {
			remove(h.namespace)
		}
		remove(l.sw)
	})
	if out, err := exec.Command("ip", "netns", "add", l.sw).CombinedOutput(); err != nil {
		unavailable(t, fmt.Sprintf("make a network namespace: %v: %s", err, out))
	}
	l.run("ip", "-n", l.sw, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	l.run("ip", "-n", l.sw, "link", "set", "br0", "up")
	for i := 1; i <= n; i++ {
		h := &Host{Number: i, Addr: fmt.Sprintf("10.88.0.%d", i), namespace: fmt.Sprintf("%s-h%d", name, i)}
		l.Hosts = append(l.Hosts, h)
		port := portOf(i)
		l.run("ip", "netns", "add", h.namespace)
		l.run("ip", "link", "add", "eth0", "address", macOf(i), "netns", h.namespace, "type", "veth", "peer", "name", port, "netns", l.sw)
		l.run("ip", "-n", l.sw, "link", "set", port, "master", "br0", "up")
		l.run("ip", "-n", h.namespace, "addr", "add", h.Addr+"/16", "brd", "10.88.255.255", "dev", "eth0")
		l.run("ip", "-n", h.namespace, "link", "set", "eth0", "up")
		l.run("ip", "-n", h.namespace, "link", "set", "lo", "up")
		l.run("ip", "-n", h.namespace, "route", "add", "default", "dev", "eth0") // multicast wants one
	}
	if n > fewHosts {
		l.introduce()
	}
	l.nft("add table bridge cuts")
	l.nft("add chain bridge cuts forward { type filter hook forward priority 0; }")
	return l
}

// unavailable skips the test, or fails it where nothing may be skipped.
func unavailable(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// macOf is a host's Ethernet address.
func macOf(host int) string { return fmt.Sprintf("02:88:00:00:00:%02x", host) }

// introduce tells every host where every other one is.
func (l *Lab) introduce() {
	l.t.Helper()
	for _, h := range l.Hosts {
		var batch strings.Builder
		for _, other := range l.Hosts {
			if other != h {
				fmt.Fprintf(&batch, "neigh replace %s lladdr %s dev eth0 nud permanent\n", other.Addr, macOf(other.Number))
			}
		}
		cmd := exec.Command("ip", "-n", h.namespace, "-batch", "-")
		cmd.Stdin = strings.NewReader(batch.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			l.t.Fatalf("introduce the hosts: %v\n%s", err, out)
		}
	}
}

// Switch is where the hosts' cables end, as a place for processes that look at
// what passes: the port of host i is the interface that Port returns.
func (l *Lab) Switch() *Host { return &Host{namespace: l.sw} }

// Port is the switch's interface to a host.
func (h *Host) Port() string { return portOf(h.Number) }

func portOf(host int) string { return "p" + strconv.Itoa(host) }

// CutHost pulls a host's cable: no packet passes, and it loses its link.
func (l *Lab) CutHost(host int) {
	l.t.Helper()
	l.downs[host] = true
	l.run("ip", "-n", l.sw, "link", "set", portOf(host), "down")
}

// Cut silently drops every IP packet from one host to another. The way back
// stays open, and so does ARP, without which it would not.
func (l *Lab) Cut(from, to int) {
	l.t.Helper()
	l.nft(fmt.Sprintf("add rule bridge cuts forward iifname %s oifname %s ether type ip drop", portOf(from), portOf(to)))
}

// Isolate silently drops every frame to and from a host, all at one moment.
func (l *Lab) Isolate(host int) {
	l.t.Helper()
	l.nft(fmt.Sprintf("add rule bridge cuts forward iifname %[1]s drop; add rule bridge cuts forward oifname %[1]s drop", portOf(host)))
}

// Deafen drops every IP packet to a host, which is heard all the same; Mute
// the other way round.
func (l *Lab) Deafen(host int) {
	l.t.Helper()
	l.nft(fmt.Sprintf("add rule bridge cuts forward oifname %s ether type ip drop", portOf(host)))
}

// Mute drops every IP packet from a host; see Deafen.
func (l *Lab) Mute(host int) {
	l.t.Helper()
	l.nft(fmt.Sprintf("add rule bridge cuts forward iifname %s ether type ip drop", portOf(host)))
}

// Split cuts both ways between each host of one group and each of the other.
func (l *Lab) Split(group, other []int) {
	l.t.Helper()
	for _, a := range group {
		for _, b := range other {
			l.Cut(a, b)
			l.Cut(b, a)
		}
	}
}

// Heal undoes every cut.
func (l *Lab) Heal() {
	l.t.Helper()
	l.nft("flush chain bridge cuts forward")
	for host := range l.downs {
		l.run("ip", "-n", l.sw, "link", "set", portOf(host), "up")
	}
	clear(l.downs)
}

func (l *Lab) nft(command string) {
	l.t.Helper()
	l.run("ip", "netns", "exec", l.sw, "nft", command)
}

func (l *Lab) run(name string, args ...string) {
	l.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// remove kills what runs in a namespace and deletes it. It reports nothing:
// what is left, the next lab sweeps.
func remove(namespace string) {
	// A fork may slip through one look, and what is killed may write a little longer.
	for end := time.Now().Add(removeWithin); time.Now().Before(end); {
		pids, err := exec.Command("ip", "netns", "pids", namespace).Output()
		if err != nil || len(bytes.TrimSpace(pids)) == 0 {
			break
		}
		for _, field := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	_ = exec.Command("ip", "netns", "del", namespace).Run()
}

// sweepStale removes the labs and binaries of test processes that are gone.
// own is this process's id before it has had a lab: what then carries that id is
// of an earlier process.
func sweepStale(own string) {
	entries, _ := os.ReadDir(namespaces)
	for _, e := range entries {
		pid, _, isLab := strings.Cut(strings.TrimPrefix(e.Name(), labPrefix), "-")
		if isLab && strings.HasPrefix(e.Name(), labPrefix) && (pid == own || gone(pid)) {
			remove(e.Name())
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), binaryDir+"*"))
	for _, dir := range dirs {
		if pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), binaryDir), "-"); gone(pid) {
			_ = os.RemoveAll(dir)
		}
	}
}

// gone says whether text is the id of a process that does not exist.
func gone(text string) bool {
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return false
	}
	_, err = os.Stat(filepath.Join("/proc", text))
	return os.IsNotExist(err)
}

// Eventually polls until cond holds, and fails the test if it does not within
// timeout. what names it in the failure.
func Eventually(t testing.TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	const often = 10 * time.Millisecond
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(often)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", timeout, what)
		}
	}
}
