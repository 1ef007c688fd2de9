package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func (b *backend) RunNode(context.Context, string) (string, error) { return "a", b.err }

// Output prints its question; for the run "late" it fails after that.
func (b *backend) Output(ctx context.Context, run string, follow bool) (func(io.Writer) error, error) {
	return func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %v\n", run, follow)
		if run == "late" {
			err = errors.New("disk on fire")
		}
		return err
	}, b.err
}

// TestOutput: text, whole or visibly cut off.
func TestOutput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		b      *backend
		run    string
		follow bool
		want   string
		err    string
	}{
		{b: &backend{}, run: "r/1", want: "r/1 false\n"},
		{b: &backend{}, run: "r/1", follow: true, want: "r/1 true\n"},
		{b: &backend{err: NotFound("", "no run")}, run: "r", err: "no run"},
		{b: &backend{}, run: "late", want: "late false\n", err: "cut off"},
	} {
		var got strings.Builder
		err := NewClient(serve(t, Handler(c.b))).Output(t.Context(), c.run, c.follow, &got)
		if got.String() != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %q, %v", c, got.String(), err)
		}
	}
}
