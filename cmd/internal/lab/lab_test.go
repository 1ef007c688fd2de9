package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

// The test binary plays the programs on the hosts.
func TestMain(m *testing.M) {
	switch os.Getenv("LAB_CHILD") {
	case "echo":
		echo(os.Args[1])
	case "probe":
		probe(os.Args[1])
	case "talk":
		talk(os.Args[1], os.Args[2])
	case "family":
		family()
	default:
		Main(m)
	}
	os.Exit(0)
}

// echo answers on TCP and UDP.
func echo(addr string) {
	ln, err := net.Listen("tcp", addr)
	check(err)
	pc, err := net.ListenPacket("udp", addr)
	check(err)
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			check(err)
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	fmt.Println("ready")
	for {
		c, err := ln.Accept()
		check(err)
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// probe tries an echo over and over and says how it went.
func probe(addr string) {
	const each = 200 * time.Millisecond
	try := func(network string) bool {
		c, err := net.DialTimeout(network, addr, each)
		if err != nil {
			return false
		}
		defer c.Close()
		check(c.SetDeadline(time.Now().Add(each)))
		if _, err := c.Write([]byte("ping\n")); err != nil {
			return false
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		return err == nil && line == "ping\n"
	}
	for range time.Tick(20 * time.Millisecond) {
		fmt.Printf("udp=%v tcp=%v\n", try("udp"), try("tcp"))
	}
}

// talk sends a numbered datagram every few milliseconds and prints what it gets.
func talk(own, other string) {
	pc, err := net.ListenPacket("udp", own)
	check(err)
	to, err := net.ResolveUDPAddr("udp", other)
	check(err)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		for i := 0; ; i++ {
			if _, err := pc.WriteTo(fmt.Appendf(nil, "number %d", i), to); err != nil {
				fmt.Println("send:", err)
			}
			<-tick.C
		}
	}()
	buf := make([]byte, 1500)
	for {
		n, _, err := pc.ReadFrom(buf)
		check(err)
		fmt.Printf("%s\n", buf[:n])
	}
}

// family leaves a grandchild in a session of its own.
func family() {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	check(cmd.Start())
	fmt.Println("child", cmd.Process.Pid)
	select {}
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func child(t *testing.T, h *Host, role string, args ...string) *Proc {
	t.Helper()
	return h.Start(t, append([]string{os.Args[0]}, args...), "LAB_CHILD="+role)
}

func TestCutAndHeal(t *testing.T) {
	t.Parallel()
	l := New(t, 3)
	child(t, l.Hosts[1], "echo", l.Hosts[1].Addr+":7").WaitLine("ready", patience)
	near := child(t, l.Hosts[0], "probe", l.Hosts[1].Addr+":7")
	far := child(t, l.Hosts[2], "probe", l.Hosts[1].Addr+":7")
	const up, down = "udp=true tcp=true", "udp=false tcp=false"
	near.WaitLine(up, patience)
	far.WaitLine(up, patience)

	l.Split([]int{1}, []int{2})
	near.WaitLine(down, patience)
	far.WaitLine(up, patience) // the third is not concerned
	l.Heal()
	near.WaitLine(up, patience)

	l.CutHost(2)
	near.WaitLine(down, patience)
	far.WaitLine(down, patience)
	l.Heal()
	near.WaitLine(up, patience)
	far.WaitLine(up, patience)
}

func TestOneWayCut(t *testing.T) {
	t.Parallel()
	l := New(t, 2)
	one, two := l.Hosts[0].Addr+":9", l.Hosts[1].Addr+":9"
	a := child(t, l.Hosts[0], "talk", one, two)
	b := child(t, l.Hosts[1], "talk", two, one)
	a.WaitLine(`^number`, patience)
	b.WaitLine(`^number`, patience)

	l.Cut(1, 2)
	drain := func() { // a few datagrams from 2 to 1, each newer than now
		for range 10 {
			a.WaitLine(`^number`, patience)
		}
	}
	a.mu.Lock()
	a.next = len(a.lines)
	a.mu.Unlock()
	drain()
	before := len(b.Lines())
	drain()
	if after := len(b.Lines()); after != before {
		t.Errorf("host 2 received %d datagrams through the cut", after-before)
	}
	for _, line := range a.Lines() {
		if strings.HasPrefix(line, "send:") {
			t.Fatalf("the sender noticed the cut: %s", line)
		}
	}
	l.Heal()
	b.WaitLine(`^number`, patience)
}

func TestStopContKill(t *testing.T) {
	t.Parallel()
	l := New(t, 1)
	p := child(t, l.Hosts[0], "talk", l.Hosts[0].Addr+":9", l.Hosts[0].Addr+":9")
	p.WaitLine(`^number`, patience)
	p.Stop()
	p.Cont()
	from := p.WaitLine(`^number (\d+)`, patience)
	if len(from) != 2 {
		t.Errorf("submatches %q, want one", from)
	}
	p.Kill(syscall.SIGKILL)
	state := p.Wait(patience)
	if status := state.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("ended by %v, want KILL", state)
	}
	if !p.Exited() {
		t.Error("Exited is false after Wait")
	}
	p.Kill(syscall.SIGKILL) // no failure
}

// After the test nothing is left: no process, even of another session, and no
// namespace.
func TestCleanup(t *testing.T) {
	t.Parallel()
	var pid, prefix string
	if !t.Run("lab", func(t *testing.T) {
		l := New(t, 2)
		prefix = strings.TrimSuffix(l.sw, "sw")
		pid = child(t, l.Hosts[1], "family").WaitLine(`child (\d+)`, patience)[1]
	}) || prefix == "" {
		return
	}
	Eventually(t, patience, "the grandchild is gone", func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ") // an orphan its reaper has yet to see
	})
	entries, err := os.ReadDir(namespaces)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			t.Errorf("namespace %s is left", e.Name())
		}
	}
}

// A lab of a process that was killed is swept.
func TestSweep(t *testing.T) {
	New(t, 1) // skips, or fails, without the means; and has done its sweep
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s%d-1-h1", labPrefix, dead.Process.Pid)
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	left := (&Host{namespace: name}).Command("sleep", "1000")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = left.Process.Kill() })
	Eventually(t, patience, "the process is in the namespace", func() bool {
		pids, _ := exec.Command("ip", "netns", "pids", name).Output()
		return len(pids) > 0
	})
	sweepStale("")
	if err := left.Wait(); err == nil {
		t.Error("the process ended by itself")
	}
	if _, err := os.Stat(namespaces + "/" + name); !os.IsNotExist(err) {
		t.Errorf("namespace %s is left: %v", name, err)
	}
}

func TestBinary(t *testing.T) {
	path := Binary(t)
	if again := Binary(t); again != path {
		t.Errorf("built twice: %s and %s", path, again)
	}
	if out, err := exec.Command(path, "--help").CombinedOutput(); err != nil {
		t.Errorf("run it: %v\n%s", err, out)
	}
}
