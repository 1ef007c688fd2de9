package cronspec

import (
	"fmt"
	"strings"
	"unicode"
)

// An Error says what is wrong with a schedule text, and where.
type Error struct {
	Spec    string // the text as it was given
	Offset  int    // byte offset of the fault in Spec; len(Spec) when something is missing at the end
	Message string // one line, without the text itself
}

// Error is one line, whatever the text holds.
func (e *Error) Error() string {
	spec := e.Spec
	if len(spec) > maxSpec {
		spec = spec[:maxSpec] + "..."
	}
	return fmt.Sprintf("parse schedule %q: %s", spec, e.Message)
}

// Caret is the text and, on a second line, a caret under the fault. Bytes that
// a terminal would not print in one column are shown as "?".
func (e *Error) Caret() string {
	var text, pad strings.Builder
	for i, r := range e.Spec {
		if i >= maxSpec {
			text.WriteString("...")
			break
		}
		if i < e.Offset {
			pad.WriteByte(' ')
		}
		text.WriteRune(printable(r))
	}
	return text.String() + "\n" + pad.String() + "^"
}

// printable is r if a terminal prints it in one column, or what stands for it.
func printable(r rune) rune {
	switch {
	case r == '\t':
		return ' '
	case !unicode.IsPrint(r) || r == unicode.ReplacementChar:
		return '?'
	}
	return r
}

// A fault is an Error on its way up: the offset is relative to the whole text
// because every token carries its own.
type fault struct {
	offset  int
	message string
}

func faultf(offset int, format string, args ...any) *fault {
	// Messages quote the text here and there, and the text may hold anything.
	return &fault{offset, strings.Map(printable, fmt.Sprintf(format, args...))}
}
