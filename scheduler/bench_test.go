package scheduler

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

var sizes = []int{1_000, 10_000, 100_000, 1_000_000}

// hundredth is the schedule of entry i: of all entries, 1 % are due each second.
func hundredth(i int) Schedule {
	return periodic{100 * time.Second, time.Duration(i*61%100) * time.Second}
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
			for i := range n {
				l.Set(fmt.Sprint(i), hundredth(i), time.Time{})
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
			for i := range n {
				c.Schedule(hundredth(i), cron.FuncJob(func() { fired.Add(1) }))
			}
			c.Start()
			runtime.GC()
			perSecond(b, &fired)
			<-c.Stop().Done()
		})
	}
}

// BenchmarkDue is one tick of the engine alone, in virtual time.
func BenchmarkDue(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := NewEngine(n)
			for i := range n {
				e.Set(start, fmt.Sprint(i), hundredth(i), start)
			}
			now := start
			for b.Loop() {
				now = now.Add(time.Second)
				if got := len(e.Due(now, n)); got != n/100 {
					b.Fatalf("%d due", got)
				}
			}
		})
	}
}

// BenchmarkAdd adds an entry while the scheduler runs.
func BenchmarkAdd(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("legion/%d", n), func(b *testing.B) {
			l := NewLoop(realClock{}, 0)
			for i := range n {
				l.Set(fmt.Sprint(i), hundredth(i), time.Time{})
			}
			ctx, cancel := context.WithCancel(context.Background())
			var loop sync.WaitGroup
			loop.Go(func() { l.Run(ctx, func(time.Time, []Due) {}) })
			for b.Loop() {
				l.Set("new", hundredth(7), time.Time{})
				l.Remove("new")
			}
			cancel()
			loop.Wait()
		})
		b.Run(fmt.Sprintf("robfig/%d", n), func(b *testing.B) {
			c := cron.New()
			for i := range n {
				c.Schedule(hundredth(i), cron.FuncJob(func() {}))
			}
			c.Start()
			for b.Loop() {
				c.Remove(c.Schedule(hundredth(7), cron.FuncJob(func() {})))
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
			e = NewEngine(0)
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
