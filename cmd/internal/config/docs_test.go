package config

import (
	"path/filepath"
	"regexp"
	"testing"
)

var block = regexp.MustCompile("(?s)```toml\n(.*?)```")

// What docs/checks.md shows is valid, and of every kind there is.
func TestChecksDocument(t *testing.T) {
	t.Parallel()
	kinds := map[string]bool{}
	for _, b := range block.FindAllStringSubmatch(readText(t, filepath.Join(root, "docs/checks.md")), -1) {
		cfg, problems := parse("checks.md", b[1]+"\n[legion.foobar]\n")
		if len(problems) > 0 {
			t.Fatalf("%s\nof\n%s", problems, b[1])
		}
		if len(cfg.Warnings) > 0 {
			t.Error(cfg.Warnings)
		}
		for _, c := range cfg.Checks {
			kinds[c.Kind] = true
		}
	}
	for _, kind := range CheckKinds {
		if !kinds[kind] {
			t.Errorf("there is no example of %s", kind)
		}
	}
}
