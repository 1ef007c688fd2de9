package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An item is one value of the configuration and the place it came from.
type item struct {
	file  string
	line  int
	name  string // as people write it: job.timeout, legion.foobar.valor
	value any    // string, int64, float64, bool or time.Time; nil for a table or a list
	table map[string]*item
	list  []*item
}

func (it *item) place() string { return it.file + ":" + strconv.Itoa(it.line) }

// kind says in words what the item is.
func (it *item) kind() string {
	switch {
	case it.table != nil:
		return "a table"
	case it.list != nil:
		return "a list"
	}
	switch it.value.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a decimal number"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date"
	}
	return "something else"
}

// graft joins a decoded value and its spots. Where a value has no spot of its
// own it gets the line of what is around it.
func graft(value any, at *spot, file, name string, line int) *item {
	if at == nil {
		at = &spot{}
	}
	if at.line > 0 {
		line = at.line
	}
	it := &item{file: file, line: line, name: name}
	switch v := value.(type) {
	case map[string]any:
		it.table = make(map[string]*item, len(v))
		for key, inner := range v {
			it.table[key] = graft(inner, at.keys[key], file, join(name, key), it.line)
		}
	case []map[string]any:
		it.list = make([]*item, len(v))
		for i, inner := range v {
			it.list[i] = graft(inner, at.element(i), file, name, it.line)
		}
	case []any:
		it.list = make([]*item, len(v))
		for i, inner := range v {
			it.list[i] = graft(inner, at.element(i), file, name, it.line)
		}
	default:
		it.value = v
	}
	return it
}

func (s *spot) element(i int) *spot {
	if i < len(s.list) {
		return s.list[i]
	}
	return nil
}

// join appends a key to a name as TOML would write it.
func join(name, key string) string {
	bare := key != "" && strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == ""
	if !bare {
		key = strconv.Quote(key)
	}
	if name == "" {
		return key
	}
	return name + "." + key
}

// merge puts what another file says beside what is known already. Tables are
// joined key by key, and the lists that stand at the top level are appended;
// any other value can be given once.
func (r *reader) merge(into, from *item, level int) {
	for _, key := range inOrder(from.table) {
		new := from.table[key]
		old := into.table[key]
		switch {
		case old == nil:
			into.table[key] = new
		case old.table != nil && new.table != nil:
			r.merge(old, new, level+1)
		case old.list != nil && new.list != nil && level == 0:
			old.list = append(old.list, new.list...)
		default:
			r.fail(new, "first at "+old.place(), "given twice")
		}
	}
}

// inOrder are the keys of a table as they stand in the file.
func inOrder(table map[string]*item) []string {
	return slices.SortedFunc(maps.Keys(table), func(a, b string) int {
		return cmp.Or(cmp.Compare(table[a].line, table[b].line), cmp.Compare(a, b))
	})
}

// A reader collects problems while sections read their items.
type reader struct {
	problems Problems
	warnings Problems
	keys     map[string]bool // every key that was asked for, names of legions as NAME
}

// fail notes that an item is wrong. The hint may be empty.
func (r *reader) fail(at *item, hint, format string, args ...any) {
	r.problems = append(r.problems, problem(at, hint, fmt.Sprintf(format, args...)))
}

func (r *reader) warn(at *item, hint, format string, args ...any) {
	r.warnings = append(r.warnings, problem(at, hint, fmt.Sprintf(format, args...)))
}

func problem(at *item, hint, message string) Problem {
	if at.name != "" {
		message = at.name + ": " + message
	}
	return Problem{File: at.file, Line: at.line, Message: oneLine(message), Hint: oneLine(hint)}
}

// oneLine keeps a message on its line, whatever was quoted in it.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || c == '\r' {
			return ' '
		}
		if strconv.IsPrint(c) {
			return c
		}
		return '?'
	}, s)
}

// A table is an item whose keys are being read.
type table struct {
	*reader
	at    *item
	path  string   // the name without the names of legions, for the record of keys
	known []string // the keys asked for
}

// open starts reading a table. An item that is none reads as an empty table,
// with a problem; so does no item at all, without one.
func (r *reader) open(at *item, path string) *table {
	if at == nil {
		at = &item{name: path}
	} else if at.table == nil {
		r.fail(at, "", "want a table, got %s", at.kind())
	}
	return &table{reader: r, at: at, path: path}
}

// find is the item of a key, nil if it is not given. Asking makes it known.
func (t *table) find(key string) *item {
	t.known = append(t.known, key)
	path := join(t.path, key)
	t.keys[path] = true
	it := t.at.table[key]
	if it != nil && slices.Contains(pending, path) {
		t.warn(it, "", "checked, but not acted upon yet")
	}
	return it
}

// where is the item of a key if it is given, else that of the table: the
// place to complain about.
func (t *table) where(key string) *item {
	if it := t.at.table[key]; it != nil {
		return it
	}
	return t.at
}

// close refuses what nobody asked for.
func (t *table) close() {
	for _, key := range inOrder(t.at.table) {
		if slices.Contains(t.known, key) {
			continue
		}
		it := t.at.table[key]
		hint := "known here: " + strings.Join(t.known, ", ")
		if near := nearest(key, t.known); near != "" {
			hint = didYouMean(near)
		}
		t.fail(it, hint, "unknown key")
	}
}

func didYouMean(name string) string { return fmt.Sprintf("did you mean %q?", name) }

// nearest is the known name that a wrong one was probably meant to be, or "".
func nearest(wrong string, known []string) string {
	const maxName = 64
	if len(wrong) > maxName {
		return ""
	}
	best, least := "", max(1, len(wrong)/2)+1
	for _, name := range known {
		if d := distance(strings.ToLower(wrong), name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that lead from a to b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
