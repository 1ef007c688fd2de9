package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/legion-cron/legion-cron/jobs"
)

const root = "../../.."

func readText(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The example runs as it stands: alone, by anybody, beside itself.
func TestExampleAsItStands(t *testing.T) {
	t.Parallel()
	path := filepath.Join(root, "config.example.toml")
	cfg, problems := Load(path)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if cfg.Cluster != nil || cfg.HTTP != nil || len(cfg.Warnings) > 0 {
		t.Errorf("not the embedded default: %+v %v", cfg, cfg.Warnings)
	}
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, ".legion-cron/state"); cfg.Node.StateDir != want {
		t.Errorf("state_dir: got %s, want %s", cfg.Node.StateDir, want)
	}
	if want := filepath.Join(dir, ".legion-cron/control.sock"); cfg.Control.Socket != want {
		t.Errorf("socket: got %s, want %s", cfg.Control.Socket, want)
	}
	if got, want := slices.Sorted(maps.Keys(cfg.Legions)), []string{"foobar"}; !slices.Equal(got, want) {
		t.Errorf("legions: got %v, want %v", got, want)
	}
	var names []string
	for _, j := range cfg.Jobs {
		names = append(names, j.Name)
	}
	if want := []string{"tick", "quarter", "echo"}; !slices.Equal(names, want) {
		t.Errorf("jobs: got %v, want %v", names, want)
	}
}

var (
	commented = regexp.MustCompile(`^#([a-z[].*)$`)
	setting   = regexp.MustCompile(`^#?([a-z0-9_-]+) = `)
	header    = regexp.MustCompile(`^#?\[`)
)

// uncommented is the example with every commented key in force. Where a key is
// both in force and commented, the commented one is the default.
func uncommented(t testing.TB) string {
	lines := strings.Split(readText(t, filepath.Join(root, "config.example.toml")), "\n")
	defaults := map[string]bool{} // section number and key
	var section int
	key := func(line string) string { return string(rune(section)) + setting.FindStringSubmatch(line)[1] }
	for _, line := range lines {
		if header.MatchString(line) {
			section++
		} else if setting.MatchString(line) && line[0] == '#' {
			defaults[key(line)] = true
		}
	}
	section = 0
	for i, line := range lines {
		if header.MatchString(line) {
			section++
		}
		switch m := commented.FindStringSubmatch(line); {
		case m != nil:
			lines[i] = m[1]
		case setting.MatchString(line) && defaults[key(line)]:
			lines[i] = "# replaced by its default"
		}
	}
	return strings.Join(lines, "\n")
}

// The commented values are the defaults, and all of them together are valid.
func TestExampleEqualsDefaults(t *testing.T) {
	t.Parallel()
	got, problems := parse("config.example.toml", strings.Replace(uncommented(t), `bind = "0.0.0.0:4242"`, `bind = "127.0.0.1:4242"`, 1))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := Default("localhost")
	cluster := defaultCluster()
	cluster.Bind, cluster.Join = "127.0.0.1:4242", []string{} // the default bind needs keys
	if !strings.Contains(readText(t, filepath.Join(root, "config.example.toml")), `#bind = "`+defaultCluster().Bind+`"`) {
		t.Error("the example does not show the default of cluster.bind")
	}
	for _, part := range []struct {
		name      string
		got, want any
	}{
		{"node", got.Node, want.Node},
		{"control", got.Control, want.Control},
		{"log", got.Log, want.Log},
		{"cluster", *got.Cluster, cluster},
		{"legion", got.Legions["foobar"], defaultLegion("foobar")},
	} {
		if !reflect.DeepEqual(part.got, part.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", part.name, part.got, part.want)
		}
	}

	least, problems := parse("x.toml", `
[[job]]
name = "example"
schedule = "30 2 * * *"
command = ["/bin/true"]
[legion.foobar]
[[check]]
name = "gateway"
kind = "ping"
host = "192.0.2.1"
valor = -50
`)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	i := slices.IndexFunc(got.Jobs, func(j jobs.Job) bool { return j.Name == "example" })
	full := got.Jobs[i]
	full.Legion = ""
	if c := changes(least.Jobs[0], full); len(c) > 0 {
		t.Errorf("job: not the defaults: %v", c)
	}
	if c := changes(least.Checks[0], got.Checks[0]); len(c) > 0 {
		t.Errorf("check: not the defaults: %v", c)
	}
}

// known are all keys that any section asks for.
func known(t testing.TB) []string {
	l := newLoader(Default("localhost"))
	l.text("config.example.toml", uncommented(t))
	l.sections()
	return slices.Sorted(maps.Keys(l.keys))
}

// What a section can read, the example shows.
func TestExampleNamesEveryKey(t *testing.T) {
	t.Parallel()
	l := newLoader(Default("localhost"))
	tree, ok := l.decode("config.example.toml", uncommented(t))
	if !ok {
		t.Fatal(l.problems)
	}
	named := map[string]bool{}
	var walk func(it *item, path string)
	walk = func(it *item, path string) {
		named[path] = true
		for key, inner := range it.table {
			if path == "legion" {
				key = "NAME"
			}
			walk(inner, join(path, key))
		}
		for _, e := range it.list {
			walk(e, path)
		}
	}
	walk(tree, "")
	all := known(t)
	if len(all) < 120 {
		t.Errorf("only %d keys are known: %q", len(all), all)
	}
	for _, key := range all {
		if !named[key] {
			t.Errorf("the example does not name %s", key)
		}
	}
}

// docs/config.md has a row for every key.
func TestReferenceNamesEveryKey(t *testing.T) {
	t.Parallel()
	text := readText(t, filepath.Join(root, "docs/config.md"))
	sections := map[string]string{}
	for _, s := range strings.Split(text, "\n## ")[1:] {
		title, body, _ := strings.Cut(s, "\n")
		for _, name := range regexp.MustCompile("`[^`]*`").FindAllString(title, -1) {
			sections[strings.Trim(name, "`[]")] = body
		}
	}
	for _, key := range known(t) {
		section, name := "", key
		if i := strings.LastIndexByte(key, '.'); i >= 0 {
			section, name = key[:i], key[i+1:]
		} else if sections[key] != "" {
			continue // a section
		}
		if key == "legion.NAME.on" {
			continue
		}
		if body, ok := sections[section]; section != "" && !ok {
			t.Errorf("docs/config.md has no section for %s", key)
		} else if section == "" {
			if !strings.Contains(text, "| `"+name+"` |") {
				t.Errorf("docs/config.md does not name %s", key)
			}
		} else if !strings.Contains(body, "`"+name+"`") {
			t.Errorf("docs/config.md does not name %s", key)
		}
	}
}

func fuzzSeeds(f *testing.F) []string {
	seeds := []string{
		readText(f, filepath.Join(root, "config.example.toml")),
		uncommented(f),
	}
	scripts, err := filepath.Glob("testdata/problems/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, script := range scripts {
		archive, err := txtar.ParseFile(script)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			seeds = append(seeds, string(file.Data))
		}
	}
	return seeds
}
