package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"pgregory.net/rapid"
)

func TestLocate(t *testing.T) {
	t.Parallel()
	const text = `# a comment with "quotes" and [brackets]
top = 1                       # 2
a.b."c d" = 'x'               # 3
list = [ "]", # ] "
  '[', """
]
""", # 7
  [1,
   2], # 9
  { x = 1, y = [
    2, 3 ] }, # 11
] # 12
[table]                       # 13
"quo\"ted\u00e9" = "#"        # 14
'lit' = '''
'''''                         # 16
empty = ""                    # 17
date = 1979-05-27 07:32:00    # 18
[table.inner.most]            # 19
k = true                      # 20
[table.inner]                 # 21
[[many]]                      # 22
[many.env]                    # 23
X = 1                         # 24
[[many]] # 25
env.X = "\\" # 26
"" = 5
[[many.deep]] # 28
[[ many . deep ]] # 29
n = 1
`
	root, deep := locate(text)
	if deep > 0 {
		t.Fatal("too deep at line", deep)
	}
	for place, want := range map[string]int{
		"top": 2, "a": 3, "a.b": 3, "a.b.c d": 3,
		"list": 4, "list.0": 4, "list.1": 5, "list.2": 5, "list.3": 8, "list.3.0": 8, "list.3.1": 9,
		"list.4": 10, "list.4.x": 10, "list.4.y": 10, "list.4.y.0": 11, "list.4.y.1": 11,
		"table": 13, `table.quo"tedé`: 14, "table.lit": 15, "table.empty": 17, "table.date": 18,
		"table.inner.most": 19, "table.inner.most.k": 20, "table.inner": 21,
		"many": 22, "many.0": 22, "many.0.env": 23, "many.0.env.X": 24,
		"many.1": 25, "many.1.env": 26, "many.1.env.X": 26, "many.1.": 27,
		"many.1.deep.0": 28, "many.1.deep.1": 29, "many.1.deep.1.n": 30,
	} {
		s := root
		for _, part := range strings.Split(place, ".") {
			var i int
			if _, err := fmt.Sscanf(part, "%d", &i); err == nil && s != nil {
				s = s.element(i)
			} else if s != nil {
				s = s.keys[part]
			}
		}
		switch {
		case s == nil:
			t.Errorf("%s: not found, want line %d", place, want)
		case s.line != want:
			t.Errorf("%s: line %d, want %d", place, s.line, want)
		}
	}
	if strings.Contains(text, "\r") {
		t.Fatal("the text is meant to have bare line ends")
	}
}

func TestLocateWithCarriageReturns(t *testing.T) {
	t.Parallel()
	_, problems := parse("x.toml", "[node]\r\nname = \"a\"\r\n\r\nkeep = 5\r\n")
	if len(problems) != 1 || problems[0].Line != 4 {
		t.Error(problems)
	}
}

func TestLocateBoundsDepth(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"\n\nx = " + strings.Repeat("[", 100_000),
		"\n\nx = " + strings.Repeat("{a=", 100_000),
		"\n\nx = [{a=" + strings.Repeat("[{a=", 100_000),
		"\n\n" + strings.Repeat("a.", 100_000) + "a = 1",
		"\n\n[" + strings.Repeat("a.", 100_000) + "a]",
	} {
		_, problems := parse("x.toml", text)
		if len(problems) != 1 || problems[0].Line != 3 || !strings.Contains(problems[0].Message, "deep") {
			t.Errorf("%.20q: %v", text, problems)
		}
	}
}

// A writer writes random TOML and remembers the line of everything in it.
type writer struct {
	*rapid.T
	strings.Builder
	line int
}

func (w *writer) put(s string) {
	w.WriteString(s)
	w.line += strings.Count(s, "\n")
}

// gap is what may stand between the elements of a list.
func (w *writer) gap() {
	w.put(rapid.SampledFrom([]string{"", " ", "\n", "\t\n\n", " # ] , \" ''' = {\n"}).Draw(w.T, "gap"))
}

func (w *writer) value(depth int) *spot {
	s := &spot{line: w.line}
	kinds := 8
	if depth == 0 {
		kinds = 6
	}
	switch rapid.IntRange(0, kinds-1).Draw(w.T, "kind") {
	case 0:
		w.put(rapid.SampledFrom([]string{"1", "-1.5e3", "true", "1979-05-27 07:32:00", "nan"}).Draw(w.T, "bare"))
	case 1:
		w.put(rapid.SampledFrom([]string{`""`, `"]"`, `"\""`, `"\\"`, `"# x"`, `"'''"`}).Draw(w.T, "basic"))
	case 2:
		w.put(rapid.SampledFrom([]string{`''`, `'\'`, `'"'`, `'# ]'`}).Draw(w.T, "literal"))
	case 3:
		w.put(`"""` + rapid.SampledFrom([]string{"", "\n", "a\n]\n", `\""x`, "\\\n  x", `""\"x`, "\n\"\" '''\n"}).Draw(w.T, "long") +
			rapid.SampledFrom([]string{`"""`, `""""`, `"""""`}).Draw(w.T, "end"))
	case 4:
		w.put("'''" + rapid.SampledFrom([]string{"", "\n\n", `\`, "# \n]", `"""`}).Draw(w.T, "raw") +
			rapid.SampledFrom([]string{"'''", "''''", "'''''"}).Draw(w.T, "end"))
	case 5:
		w.put("[]")
	case 6:
		w.put("[")
		for range rapid.IntRange(0, 4).Draw(w.T, "elements") {
			w.gap()
			s.list = append(s.list, w.value(depth-1))
			w.gap()
			w.put(",")
		}
		w.gap()
		w.put("]")
	case 7:
		w.put("{")
		for i := range rapid.IntRange(0, 3).Draw(w.T, "keys") {
			if i > 0 {
				w.put(", ")
			}
			name := fmt.Sprint("k", i)
			line := w.line
			w.put(name + rapid.SampledFrom([]string{"=", " = "}).Draw(w.T, "is"))
			v := w.value(depth - 1)
			v.line = line
			if s.keys == nil {
				s.keys = map[string]*spot{}
			}
			s.keys[name] = v
		}
		w.put("}")
	}
	return s
}

// TestLocateRandom writes TOML with known lines and compares.
func TestLocateRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &writer{T: t, line: 1}
		want := map[string]*spot{}
		for i := range rapid.IntRange(1, 6).Draw(t, "statements") {
			w.gap()
			if i > 0 {
				w.put("\n")
			}
			name := fmt.Sprint("top", i)
			w.put(name + " = ")
			want[name] = w.value(3)
			w.put(rapid.SampledFrom([]string{"\n", " # comment\n", "\n\n"}).Draw(t, "end"))
		}
		text := w.String()
		var values map[string]any
		if _, err := toml.Decode(text, &values); err != nil {
			t.Fatalf("the writer wrote no TOML: %v\n%s", err, text)
		}
		root, _ := locate(text)
		if got, want := sketch(&spot{keys: root.keys}), sketch(&spot{keys: want}); got != want {
			t.Fatalf("%s\ngot  %s\nwant %s", text, got, want)
		}
	})
}

// sketch is a spot as text.
func sketch(s *spot) string {
	var b strings.Builder
	fmt.Fprint(&b, s.line)
	if len(s.keys) > 0 {
		items := map[string]*item{}
		for key := range s.keys {
			items[key] = &item{}
		}
		b.WriteString("{")
		for _, key := range inOrder(items) {
			fmt.Fprintf(&b, " %s:%s", key, sketch(s.keys[key]))
		}
		b.WriteString(" }")
	}
	if len(s.list) > 0 {
		b.WriteString("[")
		for _, e := range s.list {
			b.WriteString(" " + sketch(e))
		}
		b.WriteString(" ]")
	}
	return b.String()
}

// FuzzParse shows that no text panics, hangs, or leads to a problem that is not
// one line at a line of the text; and that what is accepted is complete.
func FuzzParse(f *testing.F) {
	for _, seed := range fuzzSeeds(f) {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > maxFile {
			return
		}
		if strings.Contains(string(text), "include") || strings.Contains(string(text), "_file") {
			return // no other files
		}
		cfg, problems := parse("x.toml", string(text))
		if (cfg == nil) != (len(problems) > 0) {
			t.Fatal("neither a configuration nor problems, or both", problems)
		}
		lines := strings.Count(string(text), "\n") + 1
		for _, p := range problems {
			if len(problems) > maxProblems && p.Line == 0 {
				continue // "more problems"
			}
			if p.File != "x.toml" || p.Line < 1 || p.Line > lines || strings.ContainsAny(p.String(), "\n\r") {
				t.Errorf("%q of %d lines", p, lines)
			}
		}
		if cfg == nil {
			return
		}
		for _, j := range cfg.Jobs {
			if j.Name == "" || len(j.Schedules) == 0 || (j.Command == "") == (len(j.Argv) == 0) {
				t.Errorf("incomplete: %+v", j)
			}
			if _, known := cfg.Legions[j.Legion]; j.Legion != "" && !known {
				t.Errorf("unknown legion: %+v", j)
			}
		}
		if lines := Diff(cfg, cfg); len(lines) > 0 {
			t.Errorf("differs from itself: %q", lines)
		}
	})
}
