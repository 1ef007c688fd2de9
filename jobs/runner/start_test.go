package runner

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/legion-cron/legion-cron/jobs"
)

// Where something is missing nothing is started, and one line says what.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	noInterpreter := filepath.Join(dir, "script")
	if err := os.WriteFile(noInterpreter, []byte("#!/no/such/shell\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	badEnv := filepath.Join(dir, "env")
	if err := os.WriteFile(badEnv, []byte("A=1\nnonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"missing command", func(s *Spec) { s.Argv = []string{"/no/such/command"} }, "start job: command /no/such/command: no such file or directory"},
		{"missing command in PATH", func(s *Spec) { s.Argv = []string{"nope"}; s.Env["PATH"] = "/a:/b" }, "start job: command nope: not found in PATH /a:/b"},
		{"not executable", func(s *Spec) { s.Argv = []string{file} }, "start job: command " + file + ": permission denied"},
		{"not executable in PATH", func(s *Spec) { s.Argv = []string{"file"}; s.Env["PATH"] = dir }, "start job: command file: permission denied"},
		{"a directory", func(s *Spec) { s.Argv = []string{dir} }, "start job: command " + dir + ": is a directory"},
		{"missing interpreter", func(s *Spec) { s.Argv = []string{noInterpreter} }, "start job: command " + noInterpreter + ": no such file or directory"},
		{"missing shell", func(s *Spec) { s.Argv, s.Command, s.Shell = nil, "true", "/no/sh" }, "start job: command /no/sh: no such file or directory"},
		{"missing user", func(s *Spec) { s.User = "nosuchuser" }, "start job: user nosuchuser: does not exist"},
		{"missing uid", func(s *Spec) { s.User = "4123456" }, "start job: user 4123456: does not exist"},
		{"an option for a user", func(s *Spec) { s.User = "--help" }, "start job: user --help: does not exist"},
		{"missing group", func(s *Spec) { s.Group = "nosuchgroup" }, "start job: group nosuchgroup: does not exist"},
		{"missing directory", func(s *Spec) { s.Dir = "/no/such/dir" }, "start job: directory /no/such/dir: no such file or directory"},
		{"a file for a directory", func(s *Spec) { s.Dir = file }, "start job: directory " + file + ": not a directory"},
		{"missing env_file", func(s *Spec) { s.EnvFile = "/no/env" }, "start job: environment file /no/env: no such file or directory"},
		{"broken env_file", func(s *Spec) { s.EnvFile = badEnv }, "start job: environment file " + badEnv + ": line 2: not NAME=value"},
		{"a zero byte", func(s *Spec) { s.Argv = []string{"/bin/echo", "a\x00b"} }, `start job: command and environment: "a\x00b" has a zero byte`},
		{"no command", func(s *Spec) { s.Argv = nil }, "start job: command: missing"},
		{"two commands", func(s *Spec) { s.Command = "true" }, "start job: command: given both as a text and as a list"},
		{"no run id", func(s *Spec) { s.Run = "../up" }, `start job: run id "../up" is not letters, digits and dashes`},
		{"an unknown signal", func(s *Spec) { s.StopSignal = "PLEASE" }, `start job: stop_signal: unknown signal "PLEASE"`},
		{"an unknown limit", func(s *Spec) { s.Limits = map[string]string{"luck": "1"} }, `start job: limits: unknown limit "luck"`},
		{"too nice", func(s *Spec) { s.Nice = 20 }, "start job: nice: 20 is not in -20 to 19"},
		{"too much stdin", func(s *Spec) { s.Stdin = strings.Repeat("x", MaxStdin+1) }, "start job: stdin: 1048577 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, umask := range []int{-1, 0o77} { // with the second by way of the trampoline
				h := newHost(t, false)
				s := play("exit 0")
				s.Umask = umask
				tt.change(&s)
				p, err := h.Start(s, nil)
				if err == nil {
					p.Wait()
					t.Fatal("it was started")
				}
				if !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got  %q\nwant %q", err, tt.want)
				}
				if len(h.turns) != 0 {
					t.Error("it keeps its turn: after a few of its kind nothing starts")
				}
			}
		})
	}
}

// A command that is there when the configuration is read may be gone when it is due.
func TestCommandRemovedBetweenRuns(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := play("")
	s.Argv = []string{script}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	p, _ := start(t, h, s)
	if got := end(t, p); got.State != jobs.Succeeded {
		t.Errorf("got %+v", got)
	}
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	s.Run = play("").Run
	if p, err := h.Start(s, nil); err == nil {
		p.Wait()
		t.Error("it was started")
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_AGENT", "x")
	h := newHost(t, false)
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# comment\n\nexport A=file\nB = \"two words\" \nLEGION_JOB=lie\nC='#1'\n; also\nEMPTY=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, umask := range []int{-1, 0o22} {
		s := play("env")
		s.Umask = umask
		s.EnvFile = file
		s.Env["A"] = "job"
		s.Env["LEGION_RUN"] = "lie"
		s.Set = []string{"GORACE=atexit_sleep_ms=0", "LEGION=foobar", "LEGION_JOB=tick", "LEGION_TERM=7"}
		s.OnUnlord = jobs.OnUnlordKill
		p, r := start(t, h, s)
		if got := end(t, p); got.State != jobs.Succeeded {
			t.Fatalf("got %+v: %s", got, r.text())
		}
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"A=job", "B=two words", "C=#1", "EMPTY=", "HOME=" + me.HomeDir, "LEGION=foobar", "LEGION_INCARNATION=" + h.incarnation,
			"LEGION_JOB=tick", "LEGION_ON_UNLORD=kill", "LEGION_RUN=" + s.Run, "LEGION_TERM=7", "LOGNAME=" + me.Username,
			"PATH=" + defaultPath, "SHELL=/bin/sh", "USER=" + me.Username,
		}
		slices.Sort(r.lines)
		if got := strings.ReplaceAll(r.text(), "stdout: ", ""); got != strings.Join(want, "\n") {
			t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	for _, text := range []string{"", "two\nlines\n", strings.Repeat("0123456789abcde\n", MaxStdin/16)} {
		s := play("cat")
		s.Stdin = text
		p, r := start(t, h, s)
		end(t, p)
		got := strings.ReplaceAll(r.text(), "stdout: ", "")
		if got != strings.TrimSuffix(text, "\n") {
			t.Errorf("%d bytes went in, %d came out", len(text), len(got))
		}
	}
	s := play("exit 0") // which does not read it
	s.Stdin = strings.Repeat("x", MaxStdin)
	p, _ := start(t, h, s)
	if got := end(t, p); got.State != jobs.Succeeded {
		t.Errorf("got %+v", got)
	}
}

// settingsPart prints what a run can be given besides its environment.
func settingsPart(string) int {
	umask := unix.Umask(0)
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	prio, _, _ := unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
	var core, cpu unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &core)
	_ = unix.Getrlimit(unix.RLIMIT_CPU, &cpu)
	groups, _ := os.Getgroups()
	slices.Sort(groups)
	dir, _ := os.Getwd()
	sid, _ := unix.Getsid(0)
	fmt.Printf("umask %#o nice %d ioprio %#x core %d:%d cpu %d:%d\n", umask, 20-nice, prio, core.Cur, core.Max, cpu.Cur, cpu.Max)
	fmt.Printf("uid %d gid %d groups %v dir %s own session %v\n", os.Getuid(), os.Getgid(), groups, dir, sid == os.Getpid())
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if n, _ := strconv.Atoi(fd.Name()); n > 2 {
			if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/proc/") && !strings.Contains(to, "cgroup") {
				fmt.Println("inherited", to)
			}
		}
	}
	return 0
}

func TestSettings(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := newHost(t, false)
	dir, self := t.TempDir(), readableSelf(t)
	for _, tt := range []struct {
		name   string
		change func(*Spec)
		want   []string
	}{
		{"umask", func(s *Spec) { s.Umask = 0o27 }, []string{"umask 027 "}},
		{"umask zero", func(s *Spec) { s.Umask = 0 }, []string{"umask 0 "}},
		{"nice", func(s *Spec) { s.Nice = 7 }, []string{"nice 7 "}},
		{"not nice", func(s *Spec) { s.Nice = -3 }, []string{"nice -3 "}},
		{"idle", func(s *Spec) { s.IONice = "idle" }, []string{"ioprio 0x6000 "}},
		{"best effort", func(s *Spec) { s.IONice = "best-effort:6" }, []string{"ioprio 0x4006 "}},
		{"limits", func(s *Spec) { s.Limits = map[string]string{"core": "1K:1M", "cpu": "unlimited"} },
			[]string{"core 1024:1048576 cpu 18446744073709551615:"}},
		{"directory", func(s *Spec) { s.Dir = dir }, []string{"dir " + dir}},
		{"user", func(s *Spec) { s.User = "nobody" }, []string{"uid 65534 ", "dir / "}},
		{"user by number", func(s *Spec) { s.User = "65534" }, []string{"uid 65534 "}},
		{"group", func(s *Spec) { s.Group = "daemon" }, []string{"uid 0 gid 1 "}},
		{"user with another group", func(s *Spec) { s.User = "nobody"; s.Group = "1" }, []string{"uid 65534 gid 1 "}},
		{"privileges are dropped last", func(s *Spec) {
			s.User, s.Nice, s.Umask, s.Dir = "nobody", -5, 0o77, "/usr"
			s.Limits = map[string]string{"cpu": "100:200"}
		}, []string{"umask 077 nice -5 ", "cpu 100:200", "uid 65534 ", "dir /usr "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := play("settings")
			s.Argv = []string{self}
			tt.change(&s)
			p, r := start(t, h, s)
			if got := end(t, p); got.State != jobs.Succeeded {
				t.Errorf("got %+v", got)
			}
			for _, want := range append(tt.want, "own session true") {
				if !strings.Contains(r.text(), want) {
					t.Errorf("%q is not in\n%s", want, r.text())
				}
			}
			if strings.Contains(r.text(), "inherited") {
				t.Errorf("files leak into the run:\n%s", r.text())
			}
		})
	}
}

// A limit too tight for a Go program must not keep the trampoline from its jump.
func TestTightLimits(t *testing.T) {
	t.Parallel()
	h := newHost(t, false)
	s := shell("ulimit -v; ulimit -n; echo ok")
	s.Limits = map[string]string{"as": "32M", "data": "8M", "nofile": "16", "stack": "1M"}
	p, r := start(t, h, s)
	if got := end(t, p); got.State != jobs.Succeeded || !strings.HasSuffix(r.text(), "32768\nstdout: 16\nstdout: ok") {
		t.Errorf("%+v: %s", got, r.text())
	}
}

// The agent's own settings are not touched by what is set for its children.
func TestAgentIsNotChanged(t *testing.T) {
	h := newHost(t, false)
	before := unix.Umask(0o22)
	defer unix.Umask(before)
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 less the niceness
	if err != nil {
		t.Fatal(err)
	}
	s := play("exit 0")
	s.Umask, s.Nice = 0o77, 19
	if nice == 20-s.Nice {
		s.Nice-- // it takes root
	}
	p, _ := start(t, h, s)
	end(t, p)
	if now := unix.Umask(0o22); now != 0o22 {
		t.Errorf("the umask is %#o now", now)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads { // each has its own
		id, _ := strconv.Atoi(thread.Name())
		if now, err := unix.Getpriority(unix.PRIO_PROCESS, id); err == nil && now != nice {
			t.Errorf("a thread's niceness is %d now, it was %d", 20-now, 20-nice)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
}

// readableSelf is this binary where every user can execute it. Another process
// makes the copy: a file that we write ourselves is busy in what we fork meanwhile.
func readableSelf(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "runner-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self := filepath.Join(dir, "self")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", os.Args[0], self).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return self
}

// TestAccounts runs TestAccountsInside where /etc/passwd and /etc/group are its own.
func TestAccounts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if os.Getenv(accountsVar) != "" {
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAccountsInside$", "-test.v")
	cmd.Env = append(os.Environ(), accountsVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestAccountsInside") {
		t.Fatalf("%v\n%s", err, out)
	}
}

const accountsVar = "LEGION_CRON_TEST_ACCOUNTS"

func TestAccountsInside(t *testing.T) {
	if os.Getenv(accountsVar) == "" {
		return // TestAccounts runs it, with accounts of its own
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "home")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	replace := func(path, text string) {
		t.Helper()
		f := filepath.Join(other, filepath.Base(path))
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_ = unix.Unmount(path, 0)
		if err := unix.Mount(f, path, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	const root = "root:x:0:0:root:/root:/bin/sh\n"
	replace("/etc/passwd", root+"marius:x:1001:1002:,,,:"+home+":/bin/bash\nsulla:x:1003:1002::/no/home:/bin/sh\n")
	replace("/etc/group", "root:x:0:\nmarius:x:1002:\nspears:x:2001:sulla,marius\nshields:x:2002:marius\nswords:x:2003:sulla\n")

	h := newHost(t, false)
	run := func(s Spec) string {
		t.Helper()
		p, r := start(t, h, s)
		if got := end(t, p); got.State != jobs.Succeeded {
			t.Errorf("got %+v", got)
		}
		return r.text()
	}
	for _, umask := range []int{-1, 0o22} { // directly, and by way of the trampoline
		s := shell(`echo $(id -u) $(id -g) $(id -G) $HOME $USER $LOGNAME $SHELL $(pwd)`)
		s.Umask, s.User = umask, "marius"
		if got, want := run(s), "stdout: 1001 1002 1002 2001 2002 "+home+" marius marius /bin/sh "+home; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		s.Run, s.User, s.Group = play("").Run, "1003", "shields"
		if got, want := run(s), "stdout: 1003 2002 2002 1002 2001 2003 /no/home sulla sulla /bin/sh /"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	closed := t.TempDir() // which is root's alone
	s := shell("true")
	s.User, s.Dir = "marius", closed
	if p, err := h.Start(s, nil); err == nil {
		p.Wait()
		t.Error("a directory was entered that the user may not enter")
	} else if want := "start job: command /bin/sh as user marius in directory " + closed + ": permission denied"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	replace("/etc/passwd", root) // the account goes while the agent lives
	s = shell("true")
	s.User = "marius"
	if p, err := h.Start(s, nil); err == nil {
		p.Wait()
		t.Error("a user that is gone was found")
	} else if err.Error() != "start job: user marius: does not exist" {
		t.Error(err)
	}
}

func TestFromJob(t *testing.T) {
	t.Parallel()
	j := jobs.Job{Name: "n", Argv: []string{"a"}, Env: map[string]string{"A": "1"}, Umask: -1, Nice: 3, Limits: map[string]string{"as": "1"}, SuccessCodes: []int{0}}
	s := FromJob(j)
	j.Argv[0], j.Env["A"], j.SuccessCodes[0] = "changed", "changed", 9
	if s.Argv[0] != "a" || s.Env["A"] != "1" || s.SuccessCodes[0] != 0 {
		t.Error("the spec shares memory with the job")
	}
	if s.Reap {
		t.Error("an ordinary job's daemons would be killed")
	}
	for _, j := range []jobs.Job{{Exclusive: true}, {OnUnlord: jobs.OnUnlordKill}} {
		if !FromJob(j).Reap {
			t.Errorf("%+v: what is left of the run lives on", j)
		}
	}
	// Every field of a Spec that a Job has by the same name comes from there.
	spec, job := reflect.TypeFor[Spec](), reflect.TypeFor[jobs.Job]()
	full := jobs.Job{}
	v := reflect.ValueOf(&full).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Int, reflect.Int64:
			f.SetInt(5)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Map:
			f.Set(reflect.MakeMapWithSize(f.Type(), 1))
		}
	}
	got := reflect.ValueOf(FromJob(full))
	for i := range spec.NumField() {
		name := spec.Field(i).Name
		if _, ok := job.FieldByName(name); ok && got.Field(i).IsZero() {
			t.Errorf("%s is not taken over", name)
		}
	}
}

func TestParseSignal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]unix.Signal{"TERM": 15, "SIGTERM": 15, "term": 15, "15": 15, "HUP": 1, "64": 64, "RTMIN": 0, "0": 0, "65": 0, "": 0, "SIG": 0} {
		got, err := ParseSignal(text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for sig := unix.Signal(1); sig <= maxSignal; sig++ {
		if back, err := ParseSignal(SignalName(sig)); err != nil || back != sig {
			t.Errorf("%d is called %s, and that is %d, %v", sig, SignalName(sig), back, err)
		}
	}
}

func TestParseLimit(t *testing.T) {
	t.Parallel()
	const inf = unix.RLIM_INFINITY
	for text, want := range map[string][2]uint64{
		"1024": {1024, 1024}, "2G": {2 << 30, 2 << 30}, "1k:2M": {1 << 10, 2 << 20}, "0": {},
		"unlimited": {inf, inf}, "5:infinity": {5, inf},
	} {
		got, err := parseLimit("nofile", text)
		if err != nil || got.Cur != want[0] || got.Max != want[1] || got.Resource != unix.RLIMIT_NOFILE {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "1.5", "G", "1:", ":1", "2:1", "unlimited:1", "99999999999T", "1KB"} {
		if got, err := parseLimit("nofile", text); err == nil {
			t.Errorf("%q was taken for %+v", text, got)
		}
	}
}

func TestParseIONice(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 0, "idle": 3 << 13, "best-effort": 2<<13 | 4, "best-effort:0": 2 << 13, "realtime:7": 1<<13 | 7,
		"idle:1": -1, "best-effort:8": -1, "best-effort:": -1, "fast": -1, ":3": -1, "realtime:-1": -1,
	} {
		got, err := parseIONice(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %#x, %v", text, got, err)
		}
	}
}

func FuzzEnvFile(f *testing.F) {
	f.Add([]byte("A=1\nexport B='x'\n# c\n"))
	f.Add([]byte("=\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		env, err := parseEnvFile(text)
		for _, kv := range env {
			if name, _, ok := strings.Cut(kv, "="); err == nil && (!ok || name == "") {
				t.Errorf("%q", kv)
			}
		}
	})
}

func TestOwnCgroup(t *testing.T) {
	t.Parallel()
	const v1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	for _, tt := range []struct{ name, mounts, self, want string }{
		{"unified", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", "0::/system.slice/x.service\n", "/sys/fs/cgroup/system.slice/x.service"},
		{"hybrid", v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "8:pids:/a\n0::/\n", "/sys/fs/cgroup/unified"},
		{"a part of the tree", "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/docker/abc/agent\n", "/sys/fs/cgroup/agent"},
		{"a part that we are not in", "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/docker/abcd\n", ""},
		{"outside of the namespace", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "0::/../up\n", ""},
		{"a space", `30 23 0:26 / /my\040cgroup rw - cgroup2 cgroup rw` + "\n", "0::/x\n", "/my cgroup/x"},
		{"v1 only", v1, "8:pids:/a\n", ""},
		{"nothing", "", "", ""},
	} {
		if got, err := ownCgroup([]byte(tt.mounts), []byte(tt.self)); got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestCloseLeavesNoCgroup: an agent that ends takes its root with it, and not
// away from another that shares it.
func TestCloseLeavesNoCgroup(t *testing.T) {
	a, err := New(Config{Incarnation: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Cgroups() == "" {
		return // no cgroup v2 to write to: nothing to leave behind
	}
	b, err := New(Config{Incarnation: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := play("")
	s.Argv, s.Env, s.Set = []string{"/bin/true"}, nil, nil
	p, err := b.Start(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res := p.Wait(); res.ExitCode != 0 {
		t.Errorf("%+v", res)
	}
	if b.Cgroups() == "" {
		t.Error("it goes on without cgroups")
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
