package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var document = filepath.Join("..", "..", "..", "docs", "measurements.md")

// load is how many processes wanted a CPU in the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// record puts a row into a table of docs/measurements.md, in place of the one
// that has the same first keys cells. The table stands between comments that
// name it.
func record(t testing.TB, table string, keys int, cells ...string) {
	t.Helper()
	t.Logf("%s: %s", table, strings.Join(cells, " | "))
	if !*inFull {
		return
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := merge(string(text), table, keys, cells)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(document, []byte(merged), 0o644); err != nil {
		t.Fatal(err)
	}
}

func merge(text, table string, keys int, cells []string) (string, error) {
	open, shut := "<!-- "+table+" -->\n", "<!-- end -->"
	before, rest, ok := strings.Cut(text, open)
	body, after, ok2 := strings.Cut(rest, shut)
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if !ok || !ok2 || len(lines) < 2 {
		return "", fmt.Errorf("merge row: no table %q", table)
	}
	key := func(line string) string {
		f := strings.Split(strings.Trim(line, "| "), "|")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		return strings.Join(f[:min(keys, len(f))], "|")
	}
	row := "| " + strings.Join(cells, " | ") + " |"
	if at := slices.IndexFunc(lines[2:], func(line string) bool { return key(line) == key(row) }); at >= 0 {
		lines[at+2] = row
	} else {
		lines = append(lines, row)
	}
	return before + open + strings.Join(lines, "\n") + "\n" + shut + after, nil
}

func TestRecordedRows(t *testing.T) {
	const doc = "x\n<!-- a -->\n| k | l | v |\n|---|---|---|\n| 1 | 1 | old |\n<!-- end -->\n<!-- b -->\n|k|\n|-|\n<!-- end -->\n"
	got, err := merge(doc, "a", 2, []string{"1", "1", "new"})
	if err == nil {
		got, err = merge(got, "a", 2, []string{"1", "2", "more"})
	}
	want := "x\n<!-- a -->\n| k | l | v |\n|---|---|---|\n| 1 | 1 | new |\n| 1 | 2 | more |\n<!-- end -->\n<!-- b -->\n|k|\n|-|\n<!-- end -->\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s, want\n%s", err, got, want)
	}
	if _, err := merge(doc, "c", 1, []string{"1"}); err == nil {
		t.Error("a table that is not there was filled")
	}
}

// ms is a duration as people compare it.
func ms(d time.Duration) string { return d.Round(time.Millisecond).String() }
