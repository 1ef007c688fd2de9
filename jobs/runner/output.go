package runner

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxLine is where a line of output is cut, in bytes. What follows is a line again.
const MaxLine = 16 << 10

// Linger is what a process that outlives the direct child gets to write to the
// run's output before the pipe is closed; lingerKilled is the same where the
// whole tree was killed, so that only who escaped us can hold the pipe.
const (
	Linger       = time.Second
	lingerKilled = 250 * time.Millisecond
	// pipeSize is what a pipe holds: so much is still read when it is closed.
	pipeSize = 64 << 10
	// firstBuffer is what a stream starts with; it grows to MaxLine if a line does.
	firstBuffer = 1 << 10
)

// The streams of a run.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// A Sink receives the output of a run, line by line, without the newline. Line
// is called by one goroutine at a time, and not after Process.Wait has
// returned; line is valid during the call. A Sink that blocks stops the run's
// output (and the run when the pipe is full), so it should not.
type Sink interface {
	Line(stream string, line []byte)
}

// Tee is a Sink that hands every line to each of the sinks in turn.
func Tee(sinks ...Sink) Sink { return tee(sinks) }

type tee []Sink

func (t tee) Line(stream string, line []byte) {
	for _, s := range t {
		s.Line(stream, line)
	}
}

// output reads the pipes of a run.
type output struct {
	pipes []*os.File
	done  sync.WaitGroup // one for each pipe that is still read
}

func startOutput(c *child, sink Sink) *output {
	o := &output{pipes: []*os.File{c.stdout, c.stderr}}
	var oneAtATime sync.Mutex
	for i, stream := range []string{Stdout, Stderr} {
		lines := &lines{emit: func(line []byte) {
			oneAtATime.Lock()
			defer oneAtATime.Unlock()
			if sink != nil {
				sink.Line(stream, line)
			}
		}}
		o.done.Go(func() { pump(o.pipes[i], lines) })
	}
	return o
}

// finish reads what is left, for at most linger, and closes the pipes.
func (o *output) finish(linger time.Duration) {
	deadline := time.Now().Add(linger)
	for _, p := range o.pipes {
		_ = p.SetReadDeadline(deadline)
	}
	o.done.Wait()
	for _, p := range o.pipes {
		p.Close()
	}
}

// pump reads until everybody has closed the pipe or the deadline has passed.
func pump(pipe *os.File, l *lines) {
	defer l.end()
	for {
		n, err := pipe.Read(l.space())
		l.add(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			drain(pipe, l)
		}
		if err != nil {
			return
		}
	}
}

// drain reads what the pipe holds at this moment: after a deadline that is what
// was written in time and not yet read.
func drain(pipe *os.File, l *lines) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for total := 0; total < pipeSize; {
			n, err := unix.Read(int(fd), l.space())
			if n <= 0 || err != nil {
				return // empty, or at its end: the pipe does not block
			}
			l.add(n)
			total += n
		}
	})
}

// lines cuts a stream into lines of at most MaxLine, holding no more than one.
type lines struct {
	emit func(line []byte)
	buf  []byte
	cut  bool // the line goes on after a cut: its newline alone is no line
}

// space is where the next bytes are to be read to. It is never empty.
func (l *lines) space() []byte {
	if len(l.buf) == cap(l.buf) {
		grown := make([]byte, len(l.buf), max(firstBuffer, min(2*cap(l.buf), MaxLine)))
		copy(grown, l.buf)
		l.buf = grown
	}
	return l.buf[len(l.buf):cap(l.buf)]
}

// add takes n bytes that were read to space.
func (l *lines) add(n int) {
	if n <= 0 {
		return
	}
	seen := len(l.buf)
	l.buf = l.buf[:seen+n]
	rest := l.buf
	for {
		i := bytes.IndexByte(rest[seen:], '\n')
		if i < 0 {
			break
		}
		if line := rest[:seen+i]; len(line) > 0 || !l.cut {
			l.emit(line)
		}
		rest, seen, l.cut = rest[seen+i+1:], 0, false
	}
	if len(rest) >= MaxLine {
		l.emit(rest)
		rest, l.cut = nil, true
	}
	l.buf = l.buf[:copy(l.buf, rest)]
}

// end passes on a last line without a newline.
func (l *lines) end() {
	if len(l.buf) > 0 {
		l.emit(l.buf)
	}
	l.buf = nil
}
