package measure

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

var (
	wantIdle = flag.String("idle", "3x1", "clusters that do nothing, as nodes x legions, by comma")
	idleFor  = flag.Duration("window", 2*time.Second, "for how long it is looked at what they cost")
)

// A cost is what the nodes of a cluster used up since they began.
type cost struct {
	at              time.Time
	cpu             time.Duration
	packets, octets uint64 // sent and received
	resident, anon  int    // KiB, of the agent; the most of any
	guardian        int    // KiB resident of a guardian; likewise
}

// spent adds up what all agents have used, each with its guardian.
func (c *cluster) spent() cost {
	c.t.Helper()
	sum := cost{at: time.Now()}
	for _, a := range c.agents {
		pid := a.now().PID()
		guardian := c.guardian(a)
		sum.cpu += cpu(c.t, pid) + cpu(c.t, guardian)
		sum.resident = max(sum.resident, lab.Memory(c.t, pid, "VmRSS"))
		sum.anon = max(sum.anon, lab.Memory(c.t, pid, "RssAnon"))
		sum.guardian = max(sum.guardian, lab.Memory(c.t, guardian, "VmRSS"))
		packets, octets := traffic(c.t, pid)
		sum.packets += packets
		sum.octets += octets
	}
	return sum
}

// cpu is the time a process and the children it has waited for were running.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	const perSecond = 100 // clock ticks of /proc, on every architecture that Go runs on
	_, rest, _ := strings.Cut(readAll(t, fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	f := strings.Fields(rest)
	ticks := 0
	for _, field := range f[11:15] { // utime stime cutime cstime
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / perSecond
}

// traffic is what has passed the network of a process, as Ethernet frames.
func traffic(t testing.TB, pid int) (packets, octets uint64) {
	t.Helper()
	for line := range strings.Lines(readAll(t, fmt.Sprintf("/proc/%d/net/dev", pid))) {
		name, numbers, ok := strings.Cut(line, ":")
		f := strings.Fields(numbers)
		if !ok || strings.TrimSpace(name) != "eth0" {
			continue
		}
		for _, i := range []int{0, 8} { // received, sent: bytes, packets, ...
			b, err := strconv.ParseUint(f[i], 10, 64)
			p, err2 := strconv.ParseUint(f[i+1], 10, 64)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			packets, octets = packets+p, octets+b
		}
	}
	return packets, octets
}

func TestIdle(t *testing.T) {
	for _, size := range strings.Split(*wantIdle, ",") {
		s := setup{profile: "lan"}
		if n, _ := fmt.Sscanf(size, "%dx%d", &s.nodes, &s.legions); n != 2 {
			t.Fatalf("-idle %s", size)
		}
		s.voters = min(s.nodes, 3)
		t.Run(size, func(t *testing.T) {
			together(t)
			c := start(t, s)
			c.whole()
			if *inFull {
				pass(t, time.Minute) // until all that follows a start has been done
			}
			before := c.spent() // nobody asks anything from here
			pass(t, *idleFor)
			after := c.spent()
			goroutines := 0
			for _, a := range c.agents {
				s, err := a.status()
				if err != nil {
					t.Fatal(err)
				}
				goroutines = max(goroutines, s.Process.Goroutines)
			}
			c.whole()
			c.verdict()
			per := after.at.Sub(before.at).Seconds() * float64(s.nodes)
			record(t, "idle", 2, fmt.Sprint(s.nodes), fmt.Sprint(s.legions),
				fmt.Sprintf("%.1f", float64(after.packets-before.packets)/per),
				fmt.Sprintf("%.0f", float64(after.octets-before.octets)/per),
				fmt.Sprintf("%.2f %%", 100*(after.cpu-before.cpu).Seconds()/per),
				fmt.Sprintf("%.1f MiB (%.1f)", mib(after.resident), mib(after.anon)),
				fmt.Sprintf("%.1f MiB", mib(after.guardian)),
				fmt.Sprint(goroutines), load())
		})
	}
}

func mib(kib int) float64 { return float64(kib) / 1024 }
