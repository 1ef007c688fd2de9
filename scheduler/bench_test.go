package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

var sizes = []int{1_000, 10_000, 100_000, 1_000_000}

// spec is the text of entry i. Six in ten are due once a minute, four once a
// day, at seconds all over: of all entries, 1 % are due each second.
func spec(i int) string {
	r := rand.New(rand.NewPCG(uint64(i), 0))
	if i%10 < 6 {
		return fmt.Sprintf("%d * * * * *", r.IntN(60))
	}
	return fmt.Sprintf("%d %d %d * * *", r.IntN(60), r.IntN(60), r.IntN(24))
}

func ours(b *testing.B, n int) []Schedule {
	all := make([]Schedule, n)
	for i := range all {
		s, err := cronspec.Parse(spec(i), cronspec.Options{Seconds: true})
		if err != nil {
			b.Fatal(err)
		}
		all[i] = s
	}
	return all
}

func theirs(b *testing.B, n int) []cron.Schedule {
	parser := cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	all := make([]cron.Schedule, n)
	for i := range all {
		s, err := parser.Parse("TZ=UTC " + spec(i))
		if err != nil {
			b.Fatal(err)
		}
		all[i] = s
	}
	return all
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }
func (realClock) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	timer := time.NewTimer(d)
	return timer.C, func() { timer.Stop() }
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perSecond reports the CPU time of the whole process for each second of real time.
func perSecond(b *testing.B, fired *atomic.Int64) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	<-ticker.C
	before, fires := cpu(b), fired.Load()
	n := 0
	for b.Loop() {
		<-ticker.C
		n++
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(n), "cpu-ns/tick")
	b.ReportMetric(float64(fired.Load()-fires)/float64(n), "fires/tick")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkTick runs both in real time, 1 % of the entries due each second.
// robfig starts a goroutine for each, a Loop hands over one slice; starting a
// goroutine costs about 0.5 µs. Use -benchtime 5x.
func BenchmarkTick(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("legion/%d", n), func(b *testing.B) {
			var fired atomic.Int64
			var loop sync.WaitGroup
			l := NewLoop(realClock{}, 0)
			for i, s := range ours(b, n) {
				l.Set(fmt.Sprint(i), s, time.Time{})
			}
			ctx, cancel := context.WithCancel(context.Background())
			loop.Go(func() {
				l.Run(ctx, func(_ time.Time, due []Due) { fired.Add(int64(len(due))) })
			})
			runtime.GC()
			perSecond(b, &fired)
			cancel()
			loop.Wait()
		})
		b.Run(fmt.Sprintf("robfig/%d", n), func(b *testing.B) {
			var fired atomic.Int64
			c := cron.New()
			for _, s := range theirs(b, n) {
				c.Schedule(s, cron.FuncJob(func() { fired.Add(1) }))
			}
			c.Start()
			runtime.GC()
			perSecond(b, &fired)
			<-c.Stop().Done()
		})
	}
}

// BenchmarkWake is one wake-up in virtual time, nothing else running: a call of
// Due here, the body of cron.Cron's loop there (v3.0.1, cron.go, without the
// goroutines it starts).
func BenchmarkWake(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("legion/%d", n), func(b *testing.B) {
			e := NewEngine(n)
			for i, s := range ours(b, n) {
				e.Set(start, fmt.Sprint(i), s, start)
			}
			now, due, began := start, 0, cpu(b)
			for b.Loop() {
				now = now.Add(time.Second)
				due += len(e.Due(now, n))
			}
			b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(due)/float64(b.N), "due/op")
		})
		b.Run(fmt.Sprintf("robfig/%d", n), func(b *testing.B) {
			var entries []*cron.Entry
			for _, s := range theirs(b, n) {
				entries = append(entries, &cron.Entry{Schedule: s, Next: s.Next(start)})
			}
			now, due, began := start, 0, cpu(b)
			for b.Loop() {
				now = now.Add(time.Second)
				sort.Sort(byTime(entries))
				for _, e := range entries {
					if e.Next.After(now) || e.Next.IsZero() {
						break
					}
					e.Prev, e.Next = e.Next, e.Schedule.Next(now)
					due++
				}
			}
			b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(due)/float64(b.N), "due/op")
		})
	}
}

// byTime is robfig's.
type byTime []*cron.Entry

func (s byTime) Len() int      { return len(s) }
func (s byTime) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s byTime) Less(i, j int) bool {
	if s[i].Next.IsZero() {
		return false
	}
	if s[j].Next.IsZero() {
		return true
	}
	return s[i].Next.Before(s[j].Next)
}

var added = periodic{100 * time.Second, 7 * time.Second}

// BenchmarkAdd adds an entry while the scheduler runs.
func BenchmarkAdd(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("legion/%d", n), func(b *testing.B) {
			l := NewLoop(realClock{}, 0)
			for i, s := range ours(b, n) {
				l.Set(fmt.Sprint(i), s, time.Time{})
			}
			ctx, cancel := context.WithCancel(context.Background())
			var loop sync.WaitGroup
			loop.Go(func() { l.Run(ctx, func(time.Time, []Due) {}) })
			for b.Loop() {
				l.Set("new", added, time.Time{})
				l.Remove("new")
			}
			cancel()
			loop.Wait()
		})
		b.Run(fmt.Sprintf("robfig/%d", n), func(b *testing.B) {
			c := cron.New()
			for _, s := range theirs(b, n) {
				c.Schedule(s, cron.FuncJob(func() {}))
			}
			c.Start()
			for b.Loop() {
				c.Remove(c.Schedule(added, cron.FuncJob(func() {})))
			}
			<-c.Stop().Done()
		})
	}
}

var texts = []string{"*/5 * * * *", "30 2 * * *", "0 9-17 * * 1-5", "H H * * *", "0 0 1,15 * 5"}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLoad parses and adds a million entries: time and memory, names not counted.
func BenchmarkLoad(b *testing.B) {
	const n = 1_000_000
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("job", i)
	}
	location, err := cronspec.LoadLocation("Europe/Berlin")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("legion", func(b *testing.B) {
		before, began := heap(), cpu(b)
		var e *Engine
		for b.Loop() {
			e = NewEngine(n)
			for i, name := range names {
				s, err := cronspec.Parse(texts[i%len(texts)], cronspec.Options{Job: name, Location: location})
				if err != nil {
					b.Fatal(err)
				}
				e.Set(start, name, s, start)
			}
		}
		b.ReportMetric((cpu(b)-began).Seconds()/float64(b.N), "cpu-s/op")
		b.ReportMetric(float64(heap()-before)/n, "B/entry")
		runtime.KeepAlive(e)
	})
	b.Run("robfig", func(b *testing.B) {
		before, began := heap(), cpu(b)
		var c *cron.Cron
		for b.Loop() {
			c = cron.New()
			for i := range names {
				text := texts[i%len(texts)]
				if text[0] == 'H' {
					text = "17 4 * * *"
				}
				s, err := cron.ParseStandard(text)
				if err != nil {
					b.Fatal(err)
				}
				c.Schedule(s, cron.FuncJob(func() {}))
			}
		}
		b.ReportMetric((cpu(b)-began).Seconds()/float64(b.N), "cpu-s/op")
		b.ReportMetric(float64(heap()-before)/n, "B/entry")
		runtime.KeepAlive(c)
	})
	runtime.KeepAlive(names)
}
