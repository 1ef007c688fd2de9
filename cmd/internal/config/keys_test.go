package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	link := filepath.Join(dir, "link")
	a, b := FormatKey(make([]byte, 32)), FormatKey([]byte("0123456789abcdef"))
	if err := os.WriteFile(path, []byte("# of ours\n"+a+"\n\n  # more\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteKeys(link, [][]byte{[]byte("0123456789abcdef"), make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if want := "# of ours\n  # more\n" + b + "\n" + a + "\n"; err != nil || string(text) != want {
		t.Errorf("%v, the file holds\n%s, want\n%s", err, text, want)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is no link any more: %v, %v", info, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("%v is left, %v, want keys and link", left, err)
	}
	if err := WriteKeys(path, make([][]byte, maxKeys+1)); err == nil {
		t.Error("too many keys were written, which could not be read again")
	}
	if err := WriteKeys(filepath.Join(dir, "none"), [][]byte{make([]byte, 32)}); err == nil {
		t.Error("a file that is not there was made")
	}
}
