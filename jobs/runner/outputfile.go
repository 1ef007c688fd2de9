package runner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// MinOutput is the least limit of an output file, in bytes: below, there is no
// room for a head, a tail and the line between them.
const MinOutput = 4 << 10

const (
	// markSize is what the lines take that say what was cut. There may be two,
	// where a line is longer than a segment.
	markSize = 80
	// tailDir is added to the path for the directory of the segments.
	tailDir = ".tail"
	// sealed is the mode of a file that is complete: what lies beside it is
	// already in it. open is the mode until then. Both are for the agent alone.
	sealed, open = 0o400, 0o600
	// readTries bounds how often a reader starts again because a segment went
	// away while it was opening them.
	readTries = 8
)

// An OutputFile keeps the output of a run in a file of at most so many bytes:
// all of it, or the first half and the end, and between them a line that says
// how many bytes are missing. It is a Sink, safe for concurrent use, and holds
// one line in memory at most.
//
// What does not fit in the head goes to segments in a directory beside the file,
// each a quarter of the limit, of which the last two are kept; the name of each
// is the offset at which it begins. So ReadOutput can read what there is at any time,
// after a crash as well, and Close can put it together.
type OutputFile struct {
	path         string
	half, fourth int64 // what the head and each segment may hold

	mu      sync.Mutex
	file    *os.File // that is written to
	room    int64    // what it may still take
	written int64    // of the whole output so far, kept or not
	kept    []span   // the head and at most two segments
	err     error    // the first; nothing is written after it
	closed  bool
	joined  bool          // head and segments are one file
	line    []byte        // the last one with its newline; kept for its room
	news    chan struct{} // closed at the next change; nil: nobody waits for it
}

// A span is a part of the whole output, from one offset to another.
type span struct{ from, to int64 }

// CreateOutput makes the file, and its directory if need be. Only the agent's
// own user can read it.
func CreateOutput(path string, limit int64) (*OutputFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make output file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, open)
	if err != nil {
		return nil, fmt.Errorf("make output file: %w", err)
	}
	limit = max(limit, MinOutput) - markSize
	return &OutputFile{path: path, half: limit / 2, fourth: limit / 4, file: f, room: limit / 2, kept: make([]span, 1, 3)}, nil
}

// Line appends a line of either stream. An error (a full disk, say) ends the
// writing and not the run; Close returns it.
func (o *OutputFile) Line(_ string, line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.line = append(append(o.line[:0], line...), '\n')
		o.err = o.write(o.line)
	}
}

func (o *OutputFile) write(line []byte) error {
	if int64(len(line)) > o.room {
		if over := int64(len(line)) - o.fourth; over > 0 { // the limit is below a few lines
			line = line[over:]
			o.written += over
		}
		if err := o.turn(); err != nil {
			return err
		}
	}
	n, err := o.file.Write(line)
	o.room -= int64(n)
	o.written += int64(n)
	o.kept[len(o.kept)-1].to = o.written
	o.tell()
	return err
}

// tell wakes those who follow.
func (o *OutputFile) tell() {
	if o.news != nil {
		close(o.news)
		o.news = nil
	}
}

// turn goes on to the next segment and forgets the one before the last.
func (o *OutputFile) turn() error {
	if len(o.kept) == 3 {
		if err := os.Remove(segment(o.path, o.kept[1].from)); err != nil {
			return err
		}
		o.kept = slices.Delete(o.kept, 1, 2)
	}
	if err := o.file.Close(); err != nil {
		return err
	}
	if len(o.kept) == 1 {
		if err := os.Mkdir(o.path+tailDir, 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(segment(o.path, o.written), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, open)
	if err != nil {
		return err
	}
	o.file, o.room = f, o.fourth
	o.kept = append(o.kept, span{o.written, o.written})
	return nil
}

// Close puts head and tail together. It returns the first error there was.
func (o *OutputFile) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return nil
	}
	err := errors.Join(o.err, o.file.Close())
	if errors.Is(err, os.ErrClosed) { // turn had closed it before it failed
		err = o.err
	}
	o.file, o.err, o.closed = nil, os.ErrClosed, true
	defer o.tell()
	unsealed := sealOutput(o.path)
	o.joined = unsealed == nil
	if err = errors.Join(err, unsealed); err != nil {
		return fmt.Errorf("write output file: %w", err)
	}
	return nil
}

// sealOutput makes one file of a head and its segments, also of those that an
// agent left which was killed. A reader sees it before or after, not between.
func sealOutput(path string) error {
	segments, err := segmentsOf(path)
	if err != nil {
		return err
	}
	if len(segments) == 0 {
		return os.Chmod(path, sealed)
	}
	whole, err := ReadOutput(path)
	if err != nil {
		return err
	}
	defer whole.Close()
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, open)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, whole)
	if err = errors.Join(err, f.Chmod(sealed), f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next)) // the segments stay readable
	}
	return os.RemoveAll(path + tailDir)
}

// RemoveOutput removes an output file and what may lie beside it.
func RemoveOutput(path string) error {
	if err := errors.Join(os.RemoveAll(path+tailDir), os.Remove(path)); err != nil {
		return fmt.Errorf("remove output: %w", err)
	}
	return nil
}

// ReadOutput opens the output of a run, finished or not, as Close would leave
// it at this moment. It does not see what is written later.
func ReadOutput(path string) (io.ReadCloser, error) {
	var r *outputReader
	var err error
	for range readTries {
		if r, err = openOutput(path); !errors.Is(err, errTurned) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}
	return r, nil
}

// errTurned means that a segment went away since we saw it.
var errTurned = errors.New("the output is written faster than it can be opened")

type outputReader struct {
	io.Reader
	parts []io.Reader
	files []*os.File
}

func (r *outputReader) Close() error {
	var err error
	for _, f := range r.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

func openOutput(path string) (_ *outputReader, err error) {
	r := &outputReader{}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	// In this order: where there are segments the head has stopped growing.
	segments, err := segmentsOf(path)
	if err != nil {
		return nil, err
	}
	head, err := r.add(path)
	if err != nil {
		return nil, err
	}
	if head.Mode().Perm() == sealed {
		segments = nil
	}
	end := head.Size() // of what we have, in the whole output
	for _, at := range segments {
		if at > end {
			r.parts = append(r.parts, strings.NewReader(cutLine(at-end)))
		}
		part, err := r.add(segment(path, at))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errTurned
		}
		if err != nil {
			return nil, err
		}
		end = at + part.Size()
	}
	r.Reader = io.MultiReader(r.parts...)
	return r, nil
}

// cutLine stands for bytes that are not kept.
func cutLine(n int64) string { return fmt.Sprintf("[... %d bytes cut ...]\n", n) }

// add opens one of the files, to be read up to its present size.
func (r *outputReader) add(path string) (fs.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r.files = append(r.files, f)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r.parts = append(r.parts, io.LimitReader(f, info.Size()))
	return info, nil
}

func segment(path string, at int64) string {
	return filepath.Join(path+tailDir, strconv.FormatInt(at, 10))
}

// segmentsOf are the offsets of the segments of an output, in order.
func segmentsOf(path string) ([]int64, error) {
	entries, err := os.ReadDir(path + tailDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var offsets []int64
	for _, e := range entries {
		if at, err := strconv.ParseInt(e.Name(), 10, 64); err == nil {
			offsets = append(offsets, at)
		}
	}
	slices.Sort(offsets)
	return offsets, nil
}
