package runner

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A launch is a Spec after the host was asked: who, where, with what in the
// environment. Nothing has been started yet.
type launch struct {
	settings
	path string   // of the program
	argv []string // argv[0] as the program will see it
	env  []string
	set  []string // the part of env that is ours
	dir  string
	who  *identity // nil: as the agent
	spec *Spec
}

func (h *Host) resolve(s *Spec) (*launch, error) {
	set, err := s.settings()
	if err != nil {
		return nil, err
	}
	who, err := lookupIdentity(s.User, s.Group)
	if err != nil {
		return nil, err
	}
	l := &launch{settings: set, argv: s.Argv, spec: s}
	if who.change {
		l.who = who
	}
	if s.Command != "" {
		shell := cmp.Or(s.Shell, defaultShell)
		l.argv = []string{shell, "-c", s.Command}
	}
	if l.dir, err = workDir(s, who); err != nil {
		return nil, err
	}
	if l.env, err = environment(s, who); err != nil {
		return nil, err
	}
	l.set = append(slices.Clone(s.Set),
		RunVar+"="+s.Run, IncarnationVar+"="+h.incarnation, OnUnlordVar+"="+string(onUnlord(s.OnUnlord)))
	l.env = mergeEnv(l.env, l.set)
	for _, text := range slices.Concat(l.argv, l.env) {
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("command and environment: %.32q has a zero byte", text)
		}
	}
	if l.path, err = findProgram(l.argv[0], getenv(l.env, "PATH"), l.dir); err != nil {
		return nil, err
	}
	return l, nil
}

// workDir is the directory of a run. One that was asked for must exist; a home
// need not.
func workDir(s *Spec, who *identity) (string, error) {
	if s.Dir == "" {
		if info, err := os.Stat(who.home); s.User != "" && err == nil && info.IsDir() {
			return who.home, nil
		}
		return "/", nil
	}
	info, err := os.Stat(s.Dir)
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return "", fmt.Errorf("directory %s: %w", s.Dir, cause(err))
	}
	return s.Dir, nil
}

// environment is all but the LEGION_* of a run: as login(1) would make it, and
// nothing of the agent's own.
func environment(s *Spec, who *identity) ([]string, error) {
	env := []string{
		"PATH=" + defaultPath, "SHELL=" + cmp.Or(s.Shell, defaultShell),
		"HOME=" + who.home, "USER=" + who.name, "LOGNAME=" + who.name,
	}
	if s.EnvFile != "" {
		file, err := readEnvFile(s.EnvFile)
		if err != nil {
			return nil, fmt.Errorf("environment file %s: %w", s.EnvFile, cause(err))
		}
		env = mergeEnv(env, file)
	}
	var own []string
	for name, value := range s.Env {
		own = append(own, name+"="+value)
	}
	slices.Sort(own)
	return mergeEnv(env, own), nil
}

// mergeEnv puts over over env: the last word of each name wins, at its first place.
func mergeEnv(env, over []string) []string {
	at := make(map[string]int, len(env)+len(over))
	merged := make([]string, 0, len(env)+len(over))
	for _, kv := range slices.Concat(env, over) {
		name, _, _ := strings.Cut(kv, "=")
		if i, ok := at[name]; ok {
			merged[i] = kv
			continue
		}
		at[name] = len(merged)
		merged = append(merged, kv)
	}
	return merged
}

func getenv(env []string, name string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// readEnvFile reads NAME=value lines as systemd's EnvironmentFile and Docker's
// env files have them in common: # comments, an optional export, and quotes
// around a whole value. Nothing is expanded.
func readEnvFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxEnvFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxEnvFile {
		return nil, fmt.Errorf("is over %d bytes", MaxEnvFile)
	}
	return parseEnvFile(text)
}

func parseEnvFile(text []byte) ([]string, error) {
	var env []string
	sc := bufio.NewScanner(bytes.NewReader(text))
	sc.Buffer(nil, MaxEnvFile+1)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t\"'") {
			return nil, fmt.Errorf("line %d: not NAME=value", n)
		}
		value = strings.TrimSpace(value)
		if v := len(value); v > 0 && (value[0] == '"' || value[0] == '\'') {
			if v < 2 || value[v-1] != value[0] {
				return nil, fmt.Errorf("line %d: a quote is not closed", n)
			}
			value = value[1 : v-1]
		}
		env = append(env, name+"="+value)
	}
	return env, sc.Err()
}

// findProgram finds name in the run's own PATH, not the agent's. A name with a
// slash is relative to the run's directory, as in a shell.
func findProgram(name, path, dir string) (string, error) {
	if strings.Contains(name, "/") {
		abs := name
		if !filepath.IsAbs(abs) {
			abs = filepath.Join(dir, name)
		}
		if err := executable(abs); err != nil {
			return "", fmt.Errorf("command %s: %w", name, cause(err))
		}
		return abs, nil
	}
	var denied error
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		candidate := filepath.Join(d, name)
		err := executable(candidate)
		if err == nil {
			return candidate, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			denied = cmp.Or(denied, err)
		}
	}
	if denied != nil {
		return "", fmt.Errorf("command %s: %w", name, cause(denied))
	}
	return "", fmt.Errorf("command %s: not found in PATH %s", name, path)
}

// executable reports what speaks against executing the file, as far as its
// mode tells; whether this user may is for exec itself to say.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return unix.EISDIR
	case info.Mode()&0o111 == 0:
		return fs.ErrPermission
	}
	return nil
}

// cause is what is left of an error when the caller names the file itself.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
