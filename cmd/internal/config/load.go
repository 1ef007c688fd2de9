package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/legion-cron/legion-cron/checks"
)

const (
	maxFile     = 16 << 20 // bytes of one file
	maxFiles    = 1000     // files of one configuration
	maxProblems = 1000     // told at once
)

// pending are the keys that are read and checked, so that what is written
// today stays valid, but that no part of the program acts upon yet. Load warns
// of each that is used. Whoever builds the part deletes its line.
var pending = []string{
	"notify",
	"http",
	"job.notify",
	"job.ping_url",
}

// Load reads the file at path and all it includes. Without problems the Config
// is complete; with any it is nil, and the problems are all there are.
// It looks at the host for its name, at the files that hold secrets, and at
// nothing else.
func Load(path string) (*Config, Problems) {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "" // node.name must be given then, and says so
	}
	l := newLoader(Default(hostname))
	l.config.Path = path
	if abs, err := filepath.Abs(path); err == nil {
		l.config.Path = abs
	}
	l.file(path, nil)
	return l.finish()
}

// parse is Load of one text without a file around it.
func parse(path, text string) (*Config, Problems) {
	l := newLoader(Default("localhost"))
	l.config.Path = path
	l.text(path, text)
	return l.finish()
}

// A loader reads the files of one configuration into one tree of items.
type loader struct {
	reader
	config   *Config
	root     *item
	seen     []string          // absolute paths of the files read
	broken   bool              // a file is missing or no TOML, so a name that is not known may stand there
	jobNames map[string]string // where each job stands
}

func newLoader(defaults *Config) *loader {
	return &loader{
		reader:   reader{keys: map[string]bool{}},
		config:   defaults,
		root:     &item{table: map[string]*item{}},
		jobNames: map[string]string{},
	}
}

// finish makes the configuration of the tree.
func (l *loader) finish() (*Config, Problems) {
	l.sections()
	order := func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(l.order(a.File), l.order(b.File)),
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
		)
	}
	slices.SortStableFunc(l.problems, order)
	if problems := slices.Compact(l.problems); len(problems) > maxProblems {
		more := Problem{File: l.config.Path, Message: fmt.Sprintf("%d more problems", len(problems)-maxProblems)}
		return nil, append(problems[:maxProblems:maxProblems], more)
	} else if len(problems) > 0 {
		return nil, problems
	}
	slices.SortStableFunc(l.warnings, order)
	l.config.Warnings = l.warnings
	l.config.root = l.root
	return l.config, nil
}

// order puts files as they were read, and those of secrets after them.
func (l *loader) order(file string) int {
	if i := slices.Index(l.config.Files, file); i >= 0 {
		return i
	}
	return len(l.config.Files)
}

// file reads one file; from is the element of include that asked for it, nil for the first.
func (l *loader) file(path string, from *item) {
	if from == nil {
		from = &item{file: path}
	}
	real, err := filepath.Abs(path)
	if err != nil {
		real = path
	}
	if slices.Contains(l.seen, real) {
		l.fail(from, "", "%s is included twice", path)
		return
	}
	if len(l.seen) >= maxFiles {
		l.fail(from, "", "more than %d files", maxFiles)
		return
	}
	l.seen = append(l.seen, real)
	text, err := readFile(path, maxFile)
	if err != nil {
		l.broken = true
		if from.line == 0 {
			l.fail(from, "", "%s", err)
		} else {
			l.fail(from, "", "%s: %s", path, err)
		}
		return
	}
	l.text(path, text)
}

// text reads what stands in one file.
func (l *loader) text(path, text string) {
	l.config.Files = append(l.config.Files, path)
	root, ok := l.decode(path, text)
	if !ok {
		l.broken = true
		return
	}
	includes := root.table["include"]
	delete(root.table, "include")
	l.merge(l.root, root, 0)
	if includes != nil {
		l.include(path, includes)
	}
}

// decode turns TOML into items. Of broken TOML it notes the first fault.
func (l *loader) decode(path, text string) (*item, bool) {
	text = strings.TrimPrefix(text, "\ufeff")
	spots, deep := locate(text)
	if deep > 0 {
		l.fail(&item{file: path, line: deep}, "", "nested more than %d deep", maxDepth)
		return nil, false
	}
	values := map[string]any{}
	_, err := toml.Decode(text, &values)
	if err == nil {
		return graft(values, spots, path, "", 1), true
	}
	at := &item{file: path, line: 1}
	message := err.Error()
	var broken toml.ParseError
	if errors.As(err, &broken) {
		message = broken.Message
		// Where a line ends too early the library names the next one.
		start := min(max(broken.Position.Start, 0), len(text))
		at.line = max(1, min(broken.Position.Line, 1+strings.Count(text[:start], "\n")))
	}
	l.fail(at, "", "not TOML: %s", message)
	return nil, false
}

// include reads the files that patterns name, relative to the file they stand in.
func (l *loader) include(path string, patterns *item) {
	patterns.name = "include"
	elements, ok := list(func(r *reader, it *item) (*item, bool) {
		_, ok := text(notEmpty)(r, it)
		return it, ok
	})(&l.reader, patterns)
	if !ok {
		return
	}
	for _, it := range elements {
		pattern := it.value.(string)
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(path), pattern)
		}
		if !strings.ContainsAny(pattern, `*?[\`) {
			l.file(pattern, it)
			continue
		}
		files, err := filepath.Glob(pattern)
		if err != nil {
			l.fail(it, "", "%q: %s", pattern, err)
		}
		for _, file := range files {
			if !strings.HasPrefix(filepath.Base(file), ".") { // what editors leave behind
				l.file(file, it)
			}
		}
	}
}

// readFile reads a whole file, or a pipe, that is not larger than most bytes.
func readFile(path string, most int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open file: %w", bare(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fmt.Errorf("read file: %w", bare(err))
	}
	if int64(len(b)) > most {
		return "", fmt.Errorf("read file: more than %s", formatBytes(most))
	}
	return string(b), nil
}

// bare is the cause in an error of the file system: the path is known.
func bare(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// sections reads everything into the configuration.
func (l *loader) sections() {
	c := l.config
	root := l.open(l.root, "")
	root.known = append(root.known, "include")
	root.keys["include"] = true

	// Names first: what one section declares, others use.
	l.node(root.find("node"))
	if it := root.find("cluster"); it != nil {
		c.Cluster = l.cluster(it)
	}
	l.legions(root.find("legion"))
	lists := l.uwsgiLists(root)
	l.implyLegions(lists)
	l.notifications(root.find("notify"))
	l.checks(root.find("check"))
	l.valorChecks(root.find("legion-valor-check"))
	if n := len(c.Checks); n > checks.MaxChecks {
		l.fail(cmp.Or(l.root.table["check"], l.root.table["legion-valor-check"]), "", "%d checks, at most %d are allowed", n, checks.MaxChecks)
	}
	l.jobs(root.find("job"))
	l.uwsgiJobs(lists)
	for i := range c.Jobs {
		// When a job is due is part of what it is: a job whose zone is another
		// has no past, and nodes that differ in it have other jobs.
		c.Jobs[i].Timezone = cmp.Or(c.Jobs[i].Timezone, c.Node.Timezone)
	}
	if it := root.find("http"); it != nil {
		c.HTTP = l.http(it)
	}
	l.control(root.find("control"))
	l.log(root.find("log"))
	root.close()
}

// tables opens every element of a list of tables such as [[job]].
func (l *loader) tables(it *item, path string) []*table {
	if it == nil {
		return nil
	}
	if it.list == nil {
		l.fail(it, fmt.Sprintf("write [[%s]]", path), "want a list of tables, got %s", it.kind())
		return nil
	}
	if len(it.list) > maxList {
		l.fail(it, "", "%d elements, at most %d are allowed", len(it.list), maxList)
		return nil
	}
	all := make([]*table, 0, len(it.list))
	for _, e := range it.list {
		if e.table == nil {
			l.fail(e, fmt.Sprintf("write [[%s]]", path), "want a table, got %s", e.kind())
			continue
		}
		all = append(all, l.open(e, path))
	}
	return all
}
