package runner

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/legion-cron/legion-cron/jobs"
)

// cutAll is what lines does, on the whole text at once.
func cutAll(text string) (out []string) {
	for _, line := range strings.SplitAfter(text, "\n") {
		body, ended := strings.CutSuffix(line, "\n")
		cut := false
		for len(body) >= MaxLine {
			out = append(out, body[:MaxLine])
			body, cut = body[MaxLine:], true
		}
		if body != "" || ended && !cut {
			out = append(out, body)
		}
	}
	return out
}

func TestLines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		for range rapid.IntRange(0, 8).Draw(t, "parts") {
			n := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(MaxLine-2, MaxLine+2), rapid.IntRange(0, 3*MaxLine)).Draw(t, "length")
			text.WriteString(strings.Repeat(string(rune('a'+n%26)), n))
			text.WriteString(rapid.SampledFrom([]string{"\n", "\n\n", ""}).Draw(t, "end"))
		}
		var got []string
		l := &lines{emit: func(line []byte) { got = append(got, string(line)) }}
		for in := strings.NewReader(text.String()); in.Len() > 0; {
			space := l.space()
			if len(space) == 0 || len(l.buf) > MaxLine || cap(l.buf) > 2*MaxLine {
				t.Fatalf("%d bytes of space, %d held in %d", len(space), len(l.buf), cap(l.buf))
			}
			n, _ := in.Read(space[:rapid.IntRange(1, len(space)).Draw(t, "read")])
			l.add(n)
		}
		l.end()
		if want := cutAll(text.String()); fmt.Sprint(got) != fmt.Sprint(want) || len(got) != len(want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
	})
}

// A count is a Sink that only counts.
type count struct {
	lines, bytes, longest int
}

func (c *count) Line(_ string, line []byte) {
	c.lines++
	c.bytes += len(line)
	c.longest = max(c.longest, len(line))
}

func TestOutputWithoutNewline(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	const size = 3_000_001
	var c count
	p, err := h.Start(play("endless "+strconv.Itoa(size)), &c)
	if err != nil {
		t.Fatal(err)
	}
	got := end(t, p)
	if want := (size + MaxLine - 1) / MaxLine; got.State != jobs.Succeeded || c.bytes != size || c.lines != want || c.longest != MaxLine {
		t.Errorf("%+v: %+v, want %d bytes in %d lines", got, c, size, want)
	}
}

// A hundred megabytes go through a few kilobytes. Not parallel: it measures
// the memory of this process.
func TestFloodKeepsMemoryFlat(t *testing.T) {
	h := newHost(t, false)
	const size, most = 100_000_000, 20 << 20
	path := filepath.Join(t.TempDir(), "out")
	file, err := CreateOutput(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	debug.FreeOSMemory()
	if err := writeFile("/proc/self/clear_refs", "5"); err != nil { // the peak begins anew
		t.Fatal(err)
	}
	before := peak(t)
	var c count
	p, err := h.Start(play("flood "+strconv.Itoa(size)), Tee(file, &c))
	if err != nil {
		t.Fatal(err)
	}
	got := end(t, p)
	if got.State != jobs.Succeeded || c.bytes+c.lines != size && c.bytes+c.lines != size+1 {
		t.Errorf("%+v: %+v", got, c)
	}
	if grown := peak(t) - before; grown > most {
		t.Errorf("memory has grown by %d KiB", grown>>10)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 || info.Size() < 3<<18 {
		t.Errorf("%d bytes of output are kept, %v", info.Size(), err)
	}
}

// peak is the most memory that this process had in use, in bytes.
func peak(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// What an output file keeps, checked against the whole output.
func TestOutputFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, "sub", strconv.Itoa(n))
		limit := rapid.Int64Range(0, 40_000).Draw(t, "limit")
		o, err := CreateOutput(path, limit)
		if err != nil {
			t.Fatal(err)
		}
		limit = max(limit, MinOutput)
		var whole bytes.Buffer
		for i := range rapid.IntRange(0, 60).Draw(t, "lines") {
			size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, MaxLine)).Draw(t, "size")
			line := append(fmt.Appendf(nil, "%d ", i), bytes.Repeat([]byte{'x'}, max(0, size-8))...)
			o.Line(Stdout, line)
			whole.Write(line)
			whole.WriteByte('\n')
			if i%10 == 9 {
				checkOutput(t, path, limit, whole.Bytes())
			}
		}
		checkOutput(t, path, limit, whole.Bytes()) // as after a crash
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		checkOutput(t, path, limit, whole.Bytes())
		text, _ := os.ReadFile(path)
		if read := readOutput(t, path); !bytes.Equal(text, read) {
			t.Fatal("the file is not what ReadOutput reads")
		}
		if _, err := os.Stat(path + tailDir); !os.IsNotExist(err) {
			t.Fatalf("the segments are still there: %v", err)
		}
		o.Line(Stdout, []byte("too late"))
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if err := RemoveOutput(path); err != nil {
			t.Fatal(err)
		}
	})
}

func readOutput(t interface{ Fatal(...any) }, path string) []byte {
	r, err := ReadOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var cutMark = regexp.MustCompile(`\[\.\.\. (\d+) bytes cut \.\.\.\]\n`)

// checkOutput checks that every part that is kept is where it belongs, and that
// nothing is missing that is not said to be.
func checkOutput(t *rapid.T, path string, limit int64, whole []byte) {
	got := readOutput(t, path)
	if int64(len(got)) > limit {
		t.Fatalf("%d bytes are kept, the limit is %d", len(got), limit)
	}
	if int64(len(whole)) <= limit/2-markSize && !bytes.Equal(got, whole) {
		t.Fatal("what had room was not kept as it was")
	}
	at := 0
	part := func(b []byte) {
		if at+len(b) > len(whole) || !bytes.Equal(b, whole[at:at+len(b)]) {
			t.Fatalf("%d bytes are not what was written at %d", len(b), at)
		}
		at += len(b)
	}
	from := 0
	for _, m := range cutMark.FindAllSubmatchIndex(got, -1) {
		part(got[from:m[0]])
		missing, _ := strconv.Atoi(string(got[m[2]:m[3]]))
		at, from = at+missing, m[1]
	}
	part(got[from:])
	if at != len(whole) {
		t.Fatalf("%d of %d bytes are accounted for", at, len(whole))
	}
}

// A reader at any time sees a beginning, an end, and what is missing between,
// while the file is written and closed.
func TestReadOutputWhileWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	o, err := CreateOutput(path, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	const total = 40_000
	written := make(chan error, 1)
	go func() {
		for i := range total {
			o.Line(Stdout, fmt.Appendf(nil, "%08d", i))
		}
		written <- o.Close()
	}()
	for last := 0; last < total-1; {
		text := string(readOutput(t, path))
		if text == "" {
			continue
		}
		head, tail, cut := strings.Cut(text, "[... ")
		if cut {
			_, tail, _ = strings.Cut(tail, "\n")
		}
		for i, part := range []string{head, tail} {
			previous := -1
			for n, line := range strings.Split(strings.TrimSuffix(part, "\n"), "\n") {
				if len(line) < 8 {
					continue // is being written
				}
				number, err := strconv.Atoi(line)
				if err != nil || number != previous+1 && previous >= 0 || i == 0 && n == 0 && number != 0 {
					t.Fatalf("part %d: line %q after %d", i, line, previous)
				}
				previous = number
			}
			last = max(last, previous)
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

func TestOutputFileOnFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	o, err := CreateOutput(filepath.Join(t.TempDir(), "out"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	o.file.Close()
	o.file = full
	for range 3 {
		o.Line(Stdout, []byte("lost")) // and does not stop the run
	}
	if err := o.Close(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("close said %v", err)
	}
}
