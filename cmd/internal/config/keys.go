package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keysHeader begins a keys file that was written by an agent.
const keysHeader = "# The first key encrypts, all of them decrypt. Changed with: legion-cron keys\n"

// ParseKey reads one line of a keys file. The error does not show it.
func ParseKey(line string) ([]byte, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(line)
	switch {
	case err != nil:
		return nil, errors.New("not base64")
	case len(key) != 16 && len(key) != 24 && len(key) != 32:
		return nil, fmt.Errorf("want 16, 24 or 32 bytes, got %d", len(key))
	}
	return key, nil
}

// FormatKey is a key as a line of a keys file.
func FormatKey(key []byte) string { return base64.StdEncoding.EncodeToString(key) }

// WriteKeys replaces the keys in a file that Load has read, and keeps its
// comments, in front of them. Whoever reads the file at any moment, or after a
// crash, finds the old keys or the new ones. Nobody but the owner may read it
// afterwards.
func WriteKeys(path string, keys [][]byte) (err error) {
	if len(keys) > maxKeys {
		return fmt.Errorf("write keys: %d keys, at most %d are allowed", len(keys), maxKeys)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write keys: %w", err)
	}
	var text bytes.Buffer
	for line := range strings.Lines(string(old)) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			text.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	if text.Len() == 0 {
		text.WriteString(keysHeader)
	}
	for _, key := range keys {
		text.WriteString(FormatKey(key) + "\n")
	}
	if err := replaceFile(path, text.Bytes()); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	return nil
}

// replaceFile writes a file of mode 0600 beside path and gives it that name,
// durably.
func replaceFile(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has the name
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
