package runner

import (
	"io"
	"os/exec"
	"strconv"
	"sync"
	"testing"
)

// BenchmarkRun starts runs of /bin/true, so many at a time, and waits for
// them; beside it, in the same way, os/exec alone.
func BenchmarkRun(b *testing.B) {
	for _, at := range []int{1, 10, 100} {
		b.Run("bare/"+strconv.Itoa(at), func(b *testing.B) {
			atATime(b, at, func() error {
				cmd := exec.Command("/bin/true")
				cmd.Stdout, cmd.Stderr = onlyWriter{io.Discard}, onlyWriter{io.Discard}
				return cmd.Run()
			})
		})
		for _, noCgroups := range []bool{true, false} {
			h, err := New(Config{Incarnation: "bench", NoCgroups: noCgroups})
			if err != nil {
				b.Fatal(err)
			}
			name := map[bool]string{true: "session/", false: "cgroup/"}[noCgroups]
			b.Run(name+strconv.Itoa(at), func(b *testing.B) {
				atATime(b, at, func() error {
					s := play("")
					s.Argv, s.Env, s.Set = []string{"/bin/true"}, nil, nil
					p, err := h.Start(s, nil)
					if err == nil {
						p.Wait()
					}
					return err
				})
			})
		}
	}
}

// An onlyWriter makes os/exec copy by itself, from a pipe.
type onlyWriter struct{ io.Writer }

func atATime(b *testing.B, workers int, run func() error) {
	todo := make(chan struct{})
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range todo {
				if err := run(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for b.Loop() {
		todo <- struct{}{}
	}
	close(todo)
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
}
