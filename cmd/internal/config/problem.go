package config

import (
	"fmt"
	"strings"
)

// A Problem is one thing that is wrong, and where.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0: the file as a whole
	Message string `json:"message"`
	Hint    string `json:"hint"` // what to do about it; may be empty
	Caret   string `json:"-"`    // a schedule and, on a second line, a caret under the fault; mostly empty
}

// String is the problem as one line: "file:line: message (hint)".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": " + p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems are all that was found, file by file in the order they were read
// and line by line within each.
type Problems []Problem

// Error is one line per problem, so that Problems can be returned as an error.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
