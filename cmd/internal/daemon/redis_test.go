package daemon_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// The comparison of docs/from-redis-locks.md: on the same three hosts, under
// the same faults and at the same time, the usual script with a lock in Redis,
// the same command by legion-cron exec, and an entry in the configuration.

const (
	redisPeriod = 5 // seconds between slots
	redisTTL    = 3 // seconds, longer than the job is meant to take
)

// redisScript is what people write. $1 is the moment for which cron started it.
const redisScript = `#!/bin/sh
if [ "$(redis-cli -h REDIS set lock:job "$HOST" NX EX TTL 2>/dev/null)" = OK ]; then
	SLOT=$1 WAY=redis JOB
	redis-cli -h REDIS del lock:job >/dev/null 2>&1
fi
`

// redisJob writes down when it began and ended, for which slot and where.
const redisJob = `#!/bin/sh
slot=${SLOT:-$(date -d "$LEGION_SCHEDULED" +%s)}
echo "begin $(date +%s%N) $slot ${HOST:-$LEGION_NODE} $$ $PPID" >> DIR/log.$WAY
sleep SECONDS
echo "end $(date +%s%N) $slot ${HOST:-$LEGION_NODE} $$" >> DIR/log.$WAY
`

// redisCron starts a command at each slot, $1 seconds late.
const redisCron = `late=$1; shift
while ! test -e DIR/over; do
	now=$(date +%s%N)
	slot=$(((now / 1000000000 / PERIOD + 1) * PERIOD))
	sleep $(((slot + late) * 1000 - now / 1000000))e-3
	test -e DIR/over || WAY="$WAY" sh -c "$1" - $slot &
done
wait
`

// A redisFault is what happens to all three at the third slot, or all along.
type redisFault struct {
	name    string
	seconds string // that the job takes
	late    int    // of host 2's cron, in seconds
	strike  func(r *redisLab)
	ci      bool // part of the short version
}

var redisFaults = []redisFault{
	{name: "the job takes longer than the TTL and the period", seconds: "7"},
	{name: "the holder is paused past the TTL and the next slot", seconds: "1", strike: (*redisLab).pauseHolders},
	{name: "redis, or the lord's agent, is killed", seconds: "0.2", strike: (*redisLab).killCoordinators, ci: true},
	{name: "the host that runs it dies", seconds: "1", strike: (*redisLab).killHost},
	{name: "one host's cron is 3 s late", seconds: "0.2", late: 3, ci: true},
}

type redisLab struct {
	*cluster
	redis *lab.Proc
}

func (r *redisLab) log(way string) string {
	b, _ := os.ReadFile(filepath.Join(r.dir, "log."+way))
	return string(b)
}

// pids are of the newest run and what started it.
func (r *redisLab) pids(way string) (pids []int) {
	for line := range strings.Lines(r.log(way)) {
		if f := strings.Fields(line); f[0] == "begin" {
			pids = nil
			for _, text := range f[4:] {
				pid, _ := strconv.Atoi(text)
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func (r *redisLab) pauseHolders() {
	var all []int
	for _, way := range redisWays {
		pids := r.pids(way)
		if way == "entry" {
			pids = pids[:1] // not the agent
		}
		all = append(all, pids...)
	}
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	r.pass((redisPeriod + 2) * time.Second)
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

func (r *redisLab) killCoordinators() {
	r.redis.Kill(syscall.SIGKILL)
	r.lord("g").proc.Kill(syscall.SIGKILL)
}

func (r *redisLab) killHost() {
	out, err := r.agents[0].host.Command("sh", "-c", "ip netns pids $(ip netns identify $$)").Output()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, text := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(text); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// pass waits for real time: crons, jobs and TTLs have no other.
func (r *redisLab) pass(d time.Duration) {
	until := time.Now().Add(d)
	lab.Eventually(r.t, d+time.Second, "time to pass", func() bool { return time.Now().After(until) })
}

var redisWays = []string{"redis", "exec", "entry"}

// A redisCount is what came of one way.
type redisCount struct{ slots, twice, atOnce, gaps int }

// TestRedisComparison counts what becomes of the slots; LEGION_CRON_COMPARE=1
// for all faults, else the two that are soonest shown.
func TestRedisComparison(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	whole := os.Getenv("LEGION_CRON_COMPARE") != ""
	for _, f := range redisFaults {
		if !whole && !f.ci {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			if !whole {
				t.Parallel()
			}
			counts := compareWithRedis(t, f)
			for _, way := range redisWays {
				n := counts[way]
				t.Logf("| %s | %s | %d | %d | %d | %d |", f.name, way, n.slots, n.twice, n.atOnce, n.gaps)
				if way != "redis" && n.twice > 0 {
					t.Errorf("%s: %d slots ran twice:\n%s", way, n.twice, fmt.Sprint(n))
				}
			}
			switch {
			case f.late > 0 && counts["redis"].twice == 0:
				t.Error("the script ran no slot twice: what is compared here?")
			case f.name == redisFaults[2].name && counts["redis"].gaps == 0:
				t.Error("the script without redis left no gap")
			case f.name == redisFaults[2].name && counts["exec"].gaps+counts["entry"].gaps > 0:
				t.Errorf("gaps after the lord's agent was killed: %+v", counts)
			}
		})
	}
}

func compareWithRedis(t *testing.T, f redisFault) map[string]redisCount {
	t.Helper()
	r := &redisLab{cluster: newCluster(t, 3, fmt.Sprintf(`
[legion.g]
valor = VALOR
[[job]]
name = "entry"
legion = "g"
schedule = "@every %ds"
env = { WAY = "entry" }
command = "SHARED.job"
`, redisPeriod))}
	addr := r.agents[2].host.Addr
	fill := strings.NewReplacer("REDIS", addr, "TTL", strconv.Itoa(redisTTL), "PERIOD", strconv.Itoa(redisPeriod),
		"DIR", r.dir, "SECONDS", f.seconds, "JOB", r.shared+".job")
	r.write(r.shared+".job", fill.Replace(redisJob), 0o700)
	r.write(r.shared+".redis", fill.Replace(redisScript), 0o700)
	r.redis = r.agents[2].host.Start(t, []string{"redis-server", "--bind", addr, "--save", "", "--protected-mode", "no", "--dir", r.dir})
	r.waitLord("g", 20*time.Second)
	for i, a := range r.agents {
		late := "0"
		if i == 1 {
			late = strconv.Itoa(f.late)
		}
		for way, command := range map[string]string{
			"redis": r.shared + ".redis $1",
			"exec":  fmt.Sprintf("unset HOST; exec %s exec g --slot-every %ds --name exec -- %s.job", r.bin, redisPeriod, r.shared),
		} {
			a.host.Start(t, []string{"/bin/sh", "-c", fill.Replace(redisCron), "crond", late, command},
				"WAY="+way, "HOST="+a.name, "LEGION_CRON_SOCKET="+a.socket)
		}
	}
	begun := func(way string) int {
		slots := redisSlots(r.log(way))
		return len(slices.Compact(slots))
	}
	lab.Eventually(t, 60*time.Second, "the third slot of each", func() bool {
		return min(begun("redis"), begun("exec"), begun("entry")) >= 3
	})
	if f.strike != nil {
		f.strike(r)
	}
	lab.Eventually(t, 90*time.Second, "more slots", func() bool { return max(begun("exec"), begun("entry")) >= 6 })
	last := int(time.Now().Unix())/redisPeriod*redisPeriod - redisPeriod // a crond that is late to its slot finds that it is over
	r.write(filepath.Join(r.dir, "over"), "", 0o600)
	r.pass((redisPeriod + 3) * time.Second) // what is under way

	counts := map[string]redisCount{}
	var from, to int // the slots that all ways have seen
	for _, way := range redisWays {
		slots := redisSlots(r.log(way))
		if len(slots) == 0 {
			t.Fatalf("%s ran nothing", way)
		}
		from, to = max(from, slots[0]), max(to, min(last, slots[len(slots)-1]))
	}
	for _, way := range redisWays {
		counts[way] = redisTally(r.log(way), from, to)
	}
	return counts
}

func redisSlots(log string) (slots []int) {
	for line := range strings.Lines(log) {
		slot, _ := strconv.Atoi(strings.Fields(line)[2])
		slots = append(slots, slot)
	}
	slices.Sort(slots)
	return slots
}

// redisTally counts the slots that began twice, the runs that began while
// another went on, and the slots that nobody began. A run that was killed has
// no end, and is nobody's rival.
func redisTally(log string, from, to int) (n redisCount) {
	type run struct{ begin, end, slot int }
	runs := map[string]*run{} // by pid
	begun := map[int]int{}
	for line := range strings.Lines(log) {
		f := strings.Fields(line)
		at, _ := strconv.Atoi(f[1])
		slot, _ := strconv.Atoi(f[2])
		if f[0] == "end" {
			runs[f[4]].end = at
			continue
		}
		runs[f[4]] = &run{begin: at, slot: slot}
		begun[slot]++
	}
	for _, a := range runs {
		for _, b := range runs {
			if b.begin < a.begin && a.begin < b.end && a.slot >= from && a.slot <= to {
				n.atOnce++
			}
		}
	}
	for slot := from; slot <= to; slot += redisPeriod {
		n.slots++
		switch {
		case begun[slot] == 0:
			n.gaps++
		case begun[slot] > 1:
			n.twice++
		}
	}
	return n
}
