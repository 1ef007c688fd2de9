package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxLine bounds one event: go test splits longer output by itself.
const maxLine = 16 << 20

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// report is what has been seen so far.
type report struct {
	out             io.Writer
	said            map[string]*strings.Builder // by package and test: output not yet known to matter
	passed, failed  int
	packages        int
	skipped, broken []string
}

func main() {
	noskip := flag.Bool("noskip", false, "fail if a test was skipped")
	flag.Parse()
	ok, err := run(os.Stdin, os.Stdout, *noskip)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run reports whether all is well.
func run(in io.Reader, out io.Writer, noskip bool) (bool, error) {
	r := &report{out: out, said: map[string]*strings.Builder{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // go itself speaking
			continue
		}
		r.add(e)
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	return r.close(noskip), nil
}

func (r *report) add(e event) {
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if r.said[key] == nil {
			r.said[key] = &strings.Builder{}
		}
		r.said[key].WriteString(e.Output)
	case "pass", "fail", "skip":
		r.end(e, key)
	}
}

// end settles a test, or with an empty name the package itself.
func (r *report) end(e event, key string) {
	said := ""
	if b := r.said[key]; b != nil {
		said = b.String()
		delete(r.said, key)
	}
	if e.Test == "" {
		r.packages++
		if e.Action == "fail" {
			r.broken = append(r.broken, e.Package)
			fmt.Fprint(r.out, said)
			return
		}
		for line := range strings.Lines(said) {
			if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "?") {
				fmt.Fprint(r.out, line)
			}
		}
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprint(r.out, said)
	case "skip":
		r.skipped = append(r.skipped, e.Package+" "+e.Test)
		fmt.Fprint(r.out, said)
	}
}

func (r *report) close(noskip bool) bool {
	for key, b := range r.said { // a test that never ended: the process died
		if test := key[strings.IndexByte(key, 0)+1:]; test != "" {
			fmt.Fprint(r.out, b.String())
		}
	}
	for _, name := range r.skipped {
		fmt.Fprintln(r.out, "skipped:", name)
	}
	ok := r.failed == 0 && len(r.broken) == 0 && r.passed > 0 && (len(r.skipped) == 0 || !noskip)
	verdict := "ok"
	if !ok {
		verdict = "FAIL"
	}
	fmt.Fprintf(r.out, "%s: %d passed, %d failed, %d skipped, in %d packages (%d failed)\n",
		verdict, r.passed, r.failed, len(r.skipped), r.packages, len(r.broken))
	return ok
}
