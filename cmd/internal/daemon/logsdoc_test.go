package daemon_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// logsAnswers are what the commands of docs/logs.md must say, by question and
// in their order.
var logsAnswers = [][]string{
	{`^n1\n\d+$|^\d+\nn1$`},
	{`^no longer lord: .*`, `(?m)^db +n1 `},
	{`check-disk +db +n1 +failed`, `run failed`},
	{`^cannot open /dev/sdb1$`, `(?m)^cannot open /dev/sdb1$`},
	{`LATE`, `"lateness_ms": ?\d+`},
	{`long +db +n1 +lost`, `run lost`},
	{`daemon down|superseded|no lord|too late`, `tidy +db +n1 +skipped .*paused`},
	{`will not run: it is paused.*moving the disks`},
	{`(?s)db/check-disk@.*failed`, `run failed`},
	{`paused by uid 0`, `run failed`},
}

// TestLogsDoc runs every command of docs/logs.md, after a short life of a node
// with one of each kind of trouble.
func TestLogsDoc(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/lib/systemd/systemd-journald"); err != nil && os.Getenv("CI") == "" {
		t.Skip("needs systemd-journald: ", err)
	}
	text, err := os.ReadFile("../../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	var questions [][]string
	for _, block := range regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		questions = append(questions, strings.Split(strings.TrimSpace(block[1]), "\n"))
	}
	if len(questions) != len(logsAnswers) {
		t.Fatalf("%d questions, %d answers", len(questions), len(logsAnswers))
	}
	dir, err := os.MkdirTemp("", "lc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config.toml", `
[node]
name = "n1"
state_dir = "state"
[control]
socket = "sock"
[log]
format = "journald"
[legion.db]
[[job]]
name = "check-disk"
legion = "db"
schedule = "@every 1s"
command = "echo cannot open /dev/sdb1 >&2; exit 3"
[[job]]
name = "tidy"
legion = "db"
schedule = "@every 1s"
command = "true"
[[job]]
name = "long"
legion = "db"
schedule = "@lord"
overlap = "allow"
command = "sleep 600"
`)
	script := strings.NewReplacer("DIR", dir, "BIN", filepath.Dir(lab.Binary(t))).Replace(`
set -e
mount --make-rprivate /
mount -t tmpfs run /run
mkdir -p /run/systemd/journal /run/log/journal /run/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n' > /run/systemd/journald.conf.d/test.conf
echo 0123456789abcdef0123456789abcdef > /run/machine-id
mount --bind /run/machine-id /etc/machine-id
/lib/systemd/systemd-journald & journald=$!
trap 'kill -9 $journald $agent 2>/dev/null' EXIT
export PATH=BIN:$PATH LEGION_CRON_SOCKET=DIR/sock
until_() { n=0; until eval "$1" >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 400 ] || { echo "never: $1"; exit 1; }; sleep 0.05; done; }
start() { legion-cron agent --config DIR/config.toml & agent=$!; until_ 'legion-cron lord db'; }
until_ 'test -S /run/systemd/journal/socket'
start
until_ 'legion-cron runs long --outcome running | grep running'
until_ 'legion-cron runs check-disk --outcome failed | grep failed'
kill -9 $agent; wait $agent || true
sleep 3
start
legion-cron pause tidy --reason 'moving the disks'
until_ 'legion-cron runs tidy --outcome skipped | grep paused'
kill -TERM $agent; sleep 1; kill -TERM $agent; wait $agent || true
start
until_ 'legion-cron runs --outcome lost | grep lost'
until_ 'legion-cron runs check-disk -n 1 --outcome failed | grep failed'
SLOT=$(legion-cron runs check-disk --outcome failed -n 1 --json | sed -n 's/.*"slot": *"\([^"]*\)".*/\1/p' | head -1)
journalctl --sync
`)
	for i, commands := range questions {
		for j, command := range commands {
			// It is not 03:00 today, or it has not been.
			command = strings.ReplaceAll(command, "--until 03:00:00", "--until now")
			script += fmt.Sprintf("echo; echo '== %d %d'; %s || echo \"exit $?\"\n", i, j, command)
		}
	}
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Env = append(os.Environ(), "COLUMNS=200", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0")
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, answers := range logsAnswers {
		for j, want := range answers {
			_, said, _ := strings.Cut(string(out), fmt.Sprintf("\n== %d %d\n", i, j))
			said, _, _ = strings.Cut(said, "\n== ")
			if said = strings.TrimSpace(said); !regexp.MustCompile(want).MatchString(said) {
				t.Errorf("question %d: %s\nsays\n%s\nwant %s", i+1, questions[i][j], said, want)
			}
		}
	}
}
