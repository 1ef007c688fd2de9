package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var rewrite = flag.Bool("rewrite", false, "write what Load says into testdata/problems")

// TestProblems loads config.toml of every archive in testdata/problems, and
// compares all that Load says with the archive's last file. A file whose name
// begins with "open-" can be read by everybody.
func TestProblems(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/problems/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txt"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(script)
			if err != nil {
				t.Fatal(err)
			}
			last := len(archive.Files) - 1
			if archive.Files[last].Name != "want" {
				t.Fatal("the last file must be want")
			}
			dir := t.TempDir()
			for _, f := range archive.Files[:last] {
				mode := os.FileMode(0o600)
				if strings.HasPrefix(f.Name, "open-") {
					mode = 0o644
				}
				write(t, filepath.Join(dir, f.Name), string(f.Data), mode)
			}
			got := report(Load(filepath.Join(dir, "config.toml")))
			got = strings.ReplaceAll(got, dir+"/", "")
			if *rewrite {
				archive.Files[last].Data = []byte(got)
				write(t, script, string(txtar.Format(archive)), 0o644)
				return
			}
			if want := string(archive.Files[last].Data); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func report(cfg *Config, problems Problems) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	if cfg != nil {
		for _, p := range cfg.Warnings {
			b.WriteString("warning: " + p.String() + "\n")
		}
	}
	return b.String()
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func TestProblemAsJSON(t *testing.T) {
	t.Parallel()
	_, problems := parse("x.toml", "[[job]]\nname = \"x\"\ncommand = \"true\"\nschedule = \"75 * * * *\"\n")
	if len(problems) != 1 {
		t.Fatal(problems)
	}
	b, err := json.Marshal(problems)
	if err != nil {
		t.Fatal(err)
	}
	var keys []map[string]any
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	if len(keys[0]) != 4 || keys[0]["file"] != "x.toml" || keys[0]["line"] != 4.0 || keys[0]["hint"] != "" || keys[0]["message"] == "" {
		t.Errorf("got %s", b)
	}
	if want := "75 * * * *\n^"; problems[0].Caret != want {
		t.Errorf("caret: got %q, want %q", problems[0].Caret, want)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range maxProblems + 7 {
		fmt.Fprintf(&b, "k%d = 1\n", i)
	}
	_, problems := parse("x.toml", b.String())
	if got, want := problems[len(problems)-1].String(), "x.toml: 7 more problems"; len(problems) != maxProblems+1 || got != want {
		t.Errorf("%d problems, the last %q, want %q", len(problems), got, want)
	}
}
