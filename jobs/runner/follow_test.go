package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// notify is a writer that says, and waits to be heard, when it has got something.
type notify struct {
	buf bytes.Buffer
	got chan int
}

func (n *notify) Write(b []byte) (int, error) {
	k, err := n.buf.Write(b)
	n.got <- n.buf.Len()
	return k, err
}

// TestFollow: who follows gets each line when it is written, and in the end
// what is in the file.
func TestFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	o, err := CreateOutput(path, MinOutput)
	if err != nil {
		t.Fatal(err)
	}
	w := &notify{got: make(chan int)}
	ended := make(chan error, 1)
	go func() { ended <- o.Follow(t.Context(), w); close(w.got) }()
	for i := range 5 {
		o.Line(Stdout, fmt.Appendf(nil, "line %d", i))
		if n := <-w.got; n != (i+1)*len("line 0\n") {
			t.Fatalf("after line %d there are %d bytes", i, n)
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if want := "line 0\nline 1\nline 2\nline 3\nline 4\n"; w.buf.String() != want {
		t.Errorf("followed %q, want %q", w.buf.String(), want)
	}
}

// TestFollowOverflow: of an output that overflows, a slow follower gets what
// is kept, with marks for the rest, whenever it begins.
func TestFollowOverflow(t *testing.T) {
	t.Parallel()
	const lines = 2000
	path := filepath.Join(t.TempDir(), "out")
	o, err := CreateOutput(path, MinOutput)
	if err != nil {
		t.Fatal(err)
	}
	r, pw := io.Pipe()
	slow := make(chan error, 1)
	go func() { err := o.Follow(t.Context(), pw); pw.CloseWithError(err); slow <- err }()
	first := make([]byte, 1)
	for i := range lines {
		o.Line(Stdout, fmt.Appendf(nil, "line %04d", i))
		if i == 0 {
			if _, err := io.ReadFull(r, first); err != nil { // it is in the midst of it
				t.Fatal(err)
			}
		}
	}
	var during bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	stop := &stopAt{w: &during, text: fmt.Sprintf("line %04d\n", lines-1), stop: cancel}
	if err := o.Follow(ctx, stop); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	whole, err := ReadOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	want, err := io.ReadAll(whole)
	if err != nil {
		t.Fatal(err)
	}
	var after bytes.Buffer
	if err := o.Follow(t.Context(), &after); err != nil {
		t.Fatal(err)
	}
	if after.String() != string(want) || during.String() != string(want) {
		t.Errorf("the file has\n%.200s\n...%d bytes; followed after its end\n%.200s\n...%d, before it %d bytes",
			want, len(want), after.String(), after.Len(), during.Len())
	}
	// The slow one was in the head; it has what is kept, in order, and says what is not.
	got := string(first) + string(rest)
	prev, cut := -1, 0
	for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
		var n int
		if _, err := fmt.Sscanf(line, "[... %d bytes cut ...]", &n); err == nil {
			cut += n
			continue
		}
		if _, err := fmt.Sscanf(line, "line %d", &n); err != nil || n <= prev {
			t.Fatalf("after line %d there is %q", prev, line)
		}
		prev = n
	}
	kept := len(cutMark.ReplaceAllString(got, ""))
	if prev != lines-1 || cut == 0 || kept+cut != lines*len("line 0000\n") {
		t.Errorf("ends with line %d, %d bytes and %d cut of %d", prev, kept, cut, lines*len("line 0000\n"))
	}
}

// stopAt calls stop when the text has been written.
type stopAt struct {
	w    *bytes.Buffer
	text string
	stop func()
}

func (s *stopAt) Write(b []byte) (int, error) {
	s.w.Write(b)
	if strings.HasSuffix(s.w.String(), s.text) {
		s.stop()
	}
	return len(b), nil
}

func TestFollowFails(t *testing.T) {
	t.Parallel()
	o, err := CreateOutput(filepath.Join(t.TempDir(), "out"), MinOutput)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	o.Line(Stdout, []byte("x"))
	if err := o.Follow(t.Context(), errWriter{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type errWriter struct{}

func (errWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
