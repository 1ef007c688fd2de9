package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Follow copies the output to w, from its beginning and as it is written,
// until Close has been called and all of it is copied, or ctx ends. Where it
// is written faster than w takes it, a line says how many bytes are missing,
// as in the file. Any number may follow, also after Close.
func (o *OutputFile) Follow(ctx context.Context, w io.Writer) error {
	for at := int64(0); ; { // in the whole output
		next, news, err := o.peek(at)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && next.file != nil {
			err = next.copy(w, at)
			at = next.to
		}
		if err != nil {
			return fmt.Errorf("follow output: %w", err)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A stretch is a part of the output that can be copied in one go.
type stretch struct {
	span
	file *os.File // nil: there is nothing
	seek int64    // where in the file it begins
}

// peek opens what is kept of the output after an offset: the rest of one file.
// It fails with io.EOF if nothing can follow. news is closed when there is
// more, which may be now.
func (o *OutputFile) peek(at int64) (next stretch, news <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	path, begin := o.path, int64(0) // where the part is, and begins in its file
	for i, part := range o.kept {
		if i > 0 {
			before := o.kept[i-1]
			begin += before.to - before.from
			if part.from > before.to {
				begin += int64(len(cutLine(part.from - before.to)))
			}
			if !o.joined {
				path, begin = segment(o.path, part.from), 0
			}
		}
		if part.to > at {
			next.span = span{max(at, part.from), part.to}
			next.seek = begin + next.from - part.from
			next.file, err = os.Open(path)
			return next, closedChan, err
		}
	}
	if o.closed {
		return next, nil, io.EOF
	}
	if o.news == nil {
		o.news = make(chan struct{})
	}
	return next, o.news, nil
}

var closedChan = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// copy writes the stretch to w, and before it what is missing since at.
func (s stretch) copy(w io.Writer, at int64) error {
	defer s.file.Close()
	if missing := s.from - at; missing > 0 {
		if _, err := io.WriteString(w, cutLine(missing)); err != nil {
			return err
		}
	}
	_, err := io.Copy(w, io.NewSectionReader(s.file, s.seek, s.to-s.from))
	return err
}
