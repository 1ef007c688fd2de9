package config

import (
	"strconv"
	"strings"
)

// A spot is the place of one value in a file: its line, and the spots of what
// is inside it. The tree of spots has the shape of the values that the TOML
// library decodes from the same text.
type spot struct {
	line int
	keys map[string]*spot // a table's
	list []*spot          // an array's
}

func (s *spot) key(name string, line int) *spot {
	if s.keys == nil {
		s.keys = map[string]*spot{}
	}
	k := s.keys[name]
	if k == nil {
		k = &spot{line: line}
		s.keys[name] = k
	}
	return k
}

// inner is the table that a header's or a key's further parts belong to: in a
// list of tables that is the newest.
func (s *spot) inner() *spot {
	if n := len(s.list); n > 0 {
		return s.list[n-1]
	}
	return s
}

// maxDepth bounds the nesting of values and the parts of a key. The TOML
// library takes quadratic time for either, and nobody needs them.
const maxDepth = 16

// locate notes the lines of everything in a TOML text. It relies on the text
// being valid only for the meaning of what it returns: whatever the text is,
// it ends, in linear time, and does not panic. tooDeep is the line where
// values are nested deeper than maxDepth, 0 if nowhere.
func locate(text string) (root *spot, tooDeep int) {
	w := walker{text: text, line: 1}
	root = &spot{line: 1}
	here := root
	for w.blank(); w.more() && w.deep == 0; w.blank() {
		start := w.pos
		line := w.line
		if w.text[w.pos] == '[' {
			here = w.header(root, line)
		} else if at := w.path(here, w.key(), line); w.skip('=') {
			w.space()
			w.value(at, 0)
		}
		if w.pos == start { // not TOML: never stand still
			w.pos++
		}
	}
	return root, w.deep
}

// A walker reads TOML well enough to know where everything is.
type walker struct {
	text string
	pos  int
	line int
	deep int // the line of what is nested too deeply
}

func (w *walker) more() bool { return w.pos < len(w.text) }

// at reports whether the text goes on with s.
func (w *walker) at(s string) bool { return strings.HasPrefix(w.text[w.pos:], s) }

// to moves forward to pos and counts the lines on the way.
func (w *walker) to(pos int) {
	pos = min(pos, len(w.text))
	w.line += strings.Count(w.text[w.pos:pos], "\n")
	w.pos = pos
}

// until moves to the first of chars, or to the end.
func (w *walker) until(chars string) {
	if i := strings.IndexAny(w.text[w.pos:], chars); i >= 0 {
		w.to(w.pos + i)
	} else {
		w.to(len(w.text))
	}
}

func (w *walker) space() {
	for w.more() && (w.text[w.pos] == ' ' || w.text[w.pos] == '\t') {
		w.pos++
	}
}

// blank skips space, line ends and comments.
func (w *walker) blank() {
	for w.more() {
		switch w.text[w.pos] {
		case ' ', '\t', '\r':
			w.pos++
		case '\n':
			w.pos++
			w.line++
		case '#':
			w.until("\n")
		default:
			return
		}
	}
}

// skip goes past c if it is next, blanks within the line apart.
func (w *walker) skip(c byte) bool {
	w.space()
	if w.more() && w.text[w.pos] == c {
		w.pos++
		return true
	}
	return false
}

// header reads [a.b] or [[a.b]] and returns the spot of the table it opens.
func (w *walker) header(root *spot, line int) *spot {
	w.skip('[')
	many := w.more() && w.text[w.pos] == '['
	if many {
		w.pos++
	}
	s := w.path(root, w.key(), line)
	if many {
		s.list = append(s.list, &spot{line: line})
	} else {
		s.line = line // a [table.inside.it] may have come first
	}
	w.until("]\n")
	for w.more() && w.text[w.pos] == ']' {
		w.pos++
	}
	return s.inner()
}

// path goes down from s by the parts of a key.
func (w *walker) path(s *spot, parts []string, line int) *spot {
	for _, part := range parts {
		s = s.inner().key(part, line)
	}
	return s
}

// key reads a dotted key.
func (w *walker) key() []string {
	var parts []string
	for {
		w.space()
		if !w.more() {
			return parts
		}
		start := w.pos
		switch w.text[w.pos] {
		case '"':
			w.quoted()
			quoted := w.text[start:w.pos]
			part, err := strconv.Unquote(quoted)
			if err != nil { // an escape that Go does not know; only a line is at stake
				part = strings.Trim(quoted, `"`)
			}
			parts = append(parts, part)
		case '\'':
			w.quoted()
			parts = append(parts, strings.Trim(w.text[start:w.pos], "'"))
		default:
			w.until(" \t\r\n.=[]{},#\"'")
			parts = append(parts, w.text[start:w.pos])
		}
		if len(parts) > maxDepth {
			w.deep = w.line
			return parts
		}
		if !w.skip('.') {
			return parts
		}
	}
}

// quoted goes past a string of any of TOML's four kinds.
func (w *walker) quoted() {
	quote := w.text[w.pos : w.pos+1]
	long := strings.Repeat(quote, 3)
	if w.at(long) {
		w.pos += len(long)
		for w.more() && !w.at(long) {
			w.escaped(quote)
		}
		w.to(w.pos + len(long))
		for range 2 { // a long string may end in quotes of its own
			if w.more() && w.at(quote) {
				w.pos++
			}
		}
		return
	}
	w.pos++
	for w.more() && !w.at(quote) && !w.at("\n") {
		w.escaped(quote)
	}
	if w.more() && w.at(quote) {
		w.pos++
	}
}

// escaped goes past one character, or past two after a backslash in a string
// that knows escapes.
func (w *walker) escaped(quote string) {
	if quote == `"` && w.text[w.pos] == '\\' {
		w.pos++
	}
	w.to(w.pos + 1)
}

// value goes past a value and notes where its parts are.
func (w *walker) value(s *spot, depth int) {
	if depth > maxDepth {
		w.deep = w.line
	}
	if !w.more() || w.deep > 0 {
		return
	}
	s.line = w.line
	switch w.text[w.pos] {
	case '"', '\'':
		w.quoted()
	case '[':
		w.pos++
		w.elements(']', func() {
			e := &spot{}
			s.list = append(s.list, e)
			w.value(e, depth+1)
		})
	case '{':
		w.pos++
		w.elements('}', func() {
			line := w.line
			if at := w.path(s, w.key(), line); w.skip('=') {
				w.blank()
				w.value(at, depth+1)
			}
		})
	default:
		w.until(",]}#\n")
	}
}

// elements reads what is in brackets up to the closing one, each element by read.
func (w *walker) elements(end byte, read func()) {
	for {
		w.blank()
		if !w.more() || w.deep > 0 {
			return
		}
		switch c := w.text[w.pos]; c {
		case end:
			w.pos++
			return
		case ',':
			w.pos++
		default:
			start := w.pos
			read()
			if w.pos == start {
				w.pos++
			}
		}
	}
}
