package root

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/legion-cron/legion-cron"

// layers says which packages of this module each package may import. Imports
// run downwards only, and sibling domains never import each other: the daemon
// is the only place that knows everybody. A new package is entered here first.
var layers = map[string][]string{
	".": {},

	// The domains. Each one's inner packages may see its pure core, not the reverse.
	"jobs":               {},
	"jobs/ledger":        {"jobs"},
	"jobs/runner":        {"jobs"},
	"legion":             {},
	"legion/gossip":      {},
	"legion/model":       {},
	"scheduler":          {"scheduler/cronspec"},
	"scheduler/cronspec": {},
	"checks":             {},
	"checks/probe":       {"checks"},

	// The house around them.
	"cmd/internal/config":   {"checks", "jobs", "jobs/runner", "legion", "legion/gossip", "scheduler", "scheduler/cronspec"},
	"cmd/internal/control":  {},
	"cmd/internal/guardian": {"jobs", "jobs/runner", "legion", "cmd/internal/hooks", "cmd/internal/logging"},
	"cmd/internal/hooks":    {"jobs", "jobs/runner", "cmd/internal/logging"},
	"cmd/internal/lab":      {}, // hosts for tests of the real binary
	"cmd/internal/logging":  {},
	"cmd/internal/metrics":  {"jobs"},
	"cmd/internal/measure":  {"cmd/internal/control", "cmd/internal/guardian", "cmd/internal/lab", "jobs/runner"}, // tests alone
	"cmd/internal/web":      {"cmd/internal/control"},
	"cmd/internal/slots":    {"jobs", "legion", "scheduler", "scheduler/cronspec"},
	"cmd/internal/sim":      {"cmd/internal/slots", "checks", "jobs", "jobs/ledger", "legion", "scheduler", "scheduler/cronspec"},
	"cmd/internal/daemon": {
		"checks", "checks/probe", "jobs", "jobs/ledger", "jobs/runner", "legion", "legion/gossip",
		"scheduler", "scheduler/cronspec", "cmd/internal/config", "cmd/internal/control", "cmd/internal/guardian", "cmd/internal/hooks", "cmd/internal/logging", "cmd/internal/metrics", "cmd/internal/slots", "cmd/internal/web",
	},
	"cmd/legion-cron": {
		"cmd/internal/config", "cmd/internal/control", "cmd/internal/daemon",
		"jobs/runner", "cmd/internal/guardian", // what else this binary can be, before main does anything
		"scheduler/cronspec", // next --spec needs no node
	},
	"scripts/testreport": {},
}

// pure packages are functions of their arguments: no operating system, no
// network, no clock, no randomness but what is handed in.
var pure = []string{"checks", "cmd/internal/slots", "jobs", "legion", "scheduler", "scheduler/cronspec"}

// impure imports, each with everything below it.
var impure = []string{
	"os", "net", "log", "syscall", "io/ioutil", "runtime/debug", "plugin", "crypto/rand",
	"golang.org/x/sys", "go.uber.org/zap",
}

// impureCalls are the functions of otherwise harmless packages that read a
// clock, start a timer or use a source of randomness that nobody handed in.
var impureCalls = map[string]func(name string) bool{
	"time":                   oneOf("Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"),
	"context":                oneOf("WithTimeout", "WithTimeoutCause", "WithDeadline", "WithDeadlineCause"),
	"math/rand":              noneOf("New", "NewSource", "NewZipf", "Rand", "Source", "Source64", "Zipf"),
	"math/rand/v2":           noneOf("New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"),
	"github.com/google/uuid": oneOf("New", "NewString", "NewRandom", "NewUUID", "NewV6", "NewV7", "Must"),
}

// soleImporters says who alone may import a library.
var soleImporters = map[string]string{
	"github.com/BurntSushi/toml":      "cmd/internal/config",
	"github.com/hashicorp/memberlist": "legion/gossip",
}

// vagueNames say nothing about what is inside.
var vagueNames = []string{"util", "utils", "common", "types", "manager", "helper", "helpers"}

// foreignWords are other systems' names for our Lord.
var foreignWords = regexp.MustCompile(`(?i)leader|master|primary`)

// quotes are the phrases in which those words are somebody else's.
var quotes = []string{
	"primary group", // of a Unix user
	"PRIMARY KEY",   // of a SQL table
	"primary key",
	"Multi-Paxos leader",
}

func oneOf(names ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

func noneOf(names ...string) func(string) bool {
	return func(name string) bool { return ast.IsExported(name) && !slices.Contains(names, name) }
}

// source is one Go file of the module.
type source struct {
	path string // slash-separated, from the root
	text []byte
	ast  *ast.File
	fset *token.FileSet
}

func (s *source) pkg() string  { return path.Dir(s.path) }
func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s *source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

func (s *source) imports() map[string]*ast.ImportSpec {
	found := map[string]*ast.ImportSpec{}
	for _, spec := range s.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		found[p] = spec
	}
	return found
}

// sources parses every Go file of the module, whatever its build tags.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(p) != ".go" {
			return nil
		}
		s := &source{path: filepath.ToSlash(p), fset: token.NewFileSet()}
		if s.text, err = os.ReadFile(p); err != nil {
			return err
		}
		if s.ast, err = parser.ParseFile(s.fset, p, s.text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// within reports whether import path p is root or lies below it.
func within(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

func TestLayers(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := layers[s.pkg()]
		if !known {
			t.Errorf("%s: package %s has no layer: enter it in layers_test.go", s.path, s.pkg())
		}
		if s.isTest() {
			continue // a test may look at its package from anywhere
		}
		for p, spec := range s.imports() {
			inner, ours := strings.CutPrefix(p, module+"/")
			if ours && !slices.Contains(allowed, inner) {
				t.Errorf("%s: %s may not import %s", s.at(spec), s.pkg(), inner)
			}
			for library, importer := range soleImporters {
				if within(p, library) && s.pkg() != importer {
					t.Errorf("%s: only %s may import %s", s.at(spec), importer, library)
				}
			}
		}
	}
}

func TestPurity(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || !slices.Contains(pure, s.pkg()) {
			continue
		}
		for _, violation := range impurities(s) {
			t.Error(violation)
		}
	}
}

// impurities lists what in s reaches out of its arguments.
func impurities(s *source) []string {
	var found []string
	checked := map[string]func(string) bool{} // by the name the file gives the package
	for p, spec := range s.imports() {
		for _, banned := range impure {
			if within(p, banned) {
				found = append(found, s.at(spec)+": a pure package may not import "+p)
			}
		}
		if banned, ok := impureCalls[p]; ok {
			name := strings.TrimSuffix(p, "/v2")
			name = path.Base(name)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			if name == "." {
				found = append(found, s.at(spec)+": a pure package may not dot-import "+p)
			}
			checked[name] = banned
		}
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && checked[x.Name] != nil && checked[x.Name](sel.Sel.Name) {
			found = append(found, s.at(sel)+": a pure package may not use "+x.Name+"."+sel.Sel.Name)
		}
		return true
	})
	return found
}

// TestPuritySees makes sure that the check above can fail.
func TestPuritySees(t *testing.T) {
	for text, want := range map[string]int{
		`import "os"`:                                         1,
		`import "os/exec"`:                                    1,
		`import "net/netip"`:                                  1,
		`import "strings"`:                                    0,
		`import "time"; var x = time.Now()`:                   1,
		`import "time"; var x = time.Now`:                     1,
		`import "time"; var x = time.Second`:                  0,
		`import clock "time"; var x = clock.After(1)`:         1,
		`import . "time"; var x = Now()`:                      1,
		`import "math/rand/v2"; var x = rand.IntN(3)`:         1,
		`import "math/rand/v2"; func f(r *rand.Rand) {}`:      0,
		`import "math/rand"; var x = rand.Float64()`:          1,
		`import "github.com/google/uuid"; var x = uuid.New()`: 1,
	} {
		s := &source{path: "x.go", fset: token.NewFileSet()}
		var err error
		if s.ast, err = parser.ParseFile(s.fset, s.path, "package x; "+text, parser.SkipObjectResolution); err != nil {
			t.Fatal(err)
		}
		if got := impurities(s); len(got) != want {
			t.Errorf("%s: %d impurities %q, want %d", text, len(got), got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range sources(t) {
		parts := strings.Split(strings.TrimSuffix(s.path, ".go"), "/")
		for _, name := range append(parts, strings.TrimSuffix(s.ast.Name.Name, "_test")) {
			if slices.Contains(vagueNames, strings.TrimSuffix(name, "_test")) {
				t.Errorf("%s: %q says nothing about what is inside", s.path, name)
			}
		}
	}
}

// TestDoc wants every package to begin with its doc.go.
func TestDoc(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		documented[s.pkg()] = documented[s.pkg()] || path.Base(s.path) == "doc.go" && s.ast.Doc.Text() != ""
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no doc.go with a package comment", pkg)
		}
	}
}

func TestWords(t *testing.T) {
	for _, s := range sources(t) {
		if s.path == "layers_test.go" {
			continue // it names them
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && foreignWords.MatchString(id.Name) {
				t.Errorf("%s: identifier %s: our word is Lord", s.at(id), id.Name)
			}
			return true
		})
		for _, group := range s.ast.Comments {
			text := strings.Join(strings.Fields(group.Text()), " ")
			for _, q := range quotes {
				text = strings.ReplaceAll(text, q, "")
			}
			if word := foreignWords.FindString(text); word != "" {
				t.Errorf("%s: comment says %q: our word is Lord", s.at(group), word)
			}
		}
	}
}

func TestFormat(t *testing.T) {
	for _, s := range sources(t) {
		formatted, err := format.Source(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
		} else if !bytes.Equal(formatted, s.text) {
			t.Errorf("%s: not formatted: run gofmt -w %s", s.path, s.path)
		}
	}
}
