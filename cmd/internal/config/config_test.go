package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/legion-cron/legion-cron/jobs"
)

// must parses a text without problems.
func must(t *testing.T, text string) *Config {
	t.Helper()
	cfg, problems := parse("/etc/x/config.toml", text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return cfg
}

func TestJob(t *testing.T) {
	t.Parallel()
	got := must(t, `
[legion.foobar]
[[notify]]
name = "ops"
on = ["failure"]
mail = "ops@example.org"

[[job]]
name = "backup.daily"
legion = "foobar"
schedule = ["30 2 * * *", "0 14 L * *"]
timezone = "Europe/Berlin"
dst = "skip"
jitter = "10m"
command = ["/usr/bin/backup", "--all", ""]
shell = "/bin/bash"
user = "backup"
group = "backup"
dir = "/var/backups"
env = { A = "1", B_2 = "" }
env_file = "/etc/default/backup"
umask = "027"
nice = 10
ionice = "best-effort:7"
limits = { nofile = 1024, as = "2G" }
stdin = "yes\n"
timeout = "1d12h"
stop_signal = "sigint"
grace = "1m30s"
mutex = "tape"
exclusive = true
retries = 3
retry_delay = "30s"
backoff = 2
success_codes = [0, 24]
catch_up = "1h"
catch_up_runs = "all"
on_lost = "rerun"
max_output = "64KiB"
notify = ["ops"]
ping_url = "https://example.org/ping"
enabled = false
`).Jobs[0]
	want := jobs.Job{
		Name: "backup.daily", Legion: "foobar",
		Schedules: []string{"30 2 * * *", "0 14 L * *"}, Timezone: "Europe/Berlin", DST: "skip", Jitter: 10 * time.Minute,
		Argv: []string{"/usr/bin/backup", "--all", ""}, Shell: "/bin/bash",
		User: "backup", Group: "backup", Dir: "/var/backups",
		Env: map[string]string{"A": "1", "B_2": ""}, EnvFile: "/etc/default/backup",
		Umask: 0o027, Nice: 10, IONice: "best-effort:7", Limits: map[string]string{"nofile": "1024", "as": "2G"}, Stdin: "yes\n",
		Timeout: 36 * time.Hour, StopSignal: "INT", Grace: 90 * time.Second,
		Overlap: jobs.OverlapSkip, Mutex: "tape", Exclusive: true,
		Retries: 3, RetryDelay: 30 * time.Second, Backoff: 2, SuccessCodes: []int{0, 24},
		CatchUp: time.Hour, CatchUpRuns: jobs.CatchUpAll, OnLost: jobs.OnLostRerun, OnUnlord: jobs.OnUnlordKill,
		MaxOutput: 64 << 10, Notify: []string{"ops"}, PingURL: "https://example.org/ping", Enabled: false,
		Source: "/etc/x/config.toml:8",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestUWSGI(t *testing.T) {
	t.Parallel()
	cfg := must(t, `
legion-cron = ["foobar -1 -1  -1 -1 -1   /usr/local/bin/sync-mail  --all 'a  b' "]
unique-legion-cron = ["foobar 0 -2 -1 -1 -1 LANG=C X=1 /bin/slow"]
cron = [
  "59 3 -1 -1 0 php a.php",
  "59 4 -1 -1 7 php b.php",
]
unique-cron = ["-5 -1 -1 -1 -1 [ -e /x ] && rm /x"]
cron2 = [
  "minute=-2,unique=1,harakiri=30,legion=other name",
  "week=0 weekly",
]
`)
	type row struct {
		name, legion, spec, command string
		overlap                     jobs.Overlap
		timeout                     time.Duration
	}
	var got []row
	for _, j := range cfg.Jobs {
		got = append(got, row{j.Name, j.Legion, strings.Join(j.Schedules, "; "), j.Command, j.Overlap, j.Timeout})
		if j.Dialect != jobs.UWSGI || !j.Enabled || j.Shell != "/bin/sh" {
			t.Errorf("not an entry in uWSGI's syntax: %+v", j)
		}
	}
	want := []row{
		{"sync-mail", "foobar", "-1 -1 -1 -1 -1", "/usr/local/bin/sync-mail  --all 'a  b'", jobs.OverlapAllow, 0},
		{"slow", "foobar", "0 -2 -1 -1 -1", "LANG=C X=1 /bin/slow", jobs.OverlapSkip, 0},
		{"php-447613c2", "", "59 3 -1 -1 0", "php a.php", jobs.OverlapAllow, 0},
		{"php-2b2870f3", "", "59 4 -1 -1 7", "php b.php", jobs.OverlapAllow, 0},
		{"command", "", "-5 -1 -1 -1 -1", "[ -e /x ] && rm /x", jobs.OverlapSkip, 0},
		{"name", "other", "-2 -1 -1 -1 -1", "name", jobs.OverlapSkip, 30 * time.Second},
		{"weekly", "", "-1 -1 -1 -1 0", "weekly", jobs.OverlapAllow, 0},
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("row %d:\ngot  %+v\nwant %+v", i, got, want)
		}
	}
	for _, name := range []string{"foobar", "other"} {
		if g := cfg.Legions[name]; !g.Implicit || g.Valor != 100 || g.Name != name {
			t.Errorf("legion %s: %+v", name, g)
		}
	}
}

// The names of entries do not depend on the order of the lines.
func TestUWSGINamesDoNotDependOnOrder(t *testing.T) {
	t.Parallel()
	lines := []string{`"1 -1 -1 -1 -1 php a"`, `"2 -1 -1 -1 -1 php a"`, `"1 -1 -1 -1 -1 php b"`, `"1 -1 -1 -1 -1 job"`, `"1 -1 -1 -1 -1 one"`}
	names := func(lines []string) map[string]string {
		m := map[string]string{}
		cfg := must(t, "cron = ["+strings.Join(lines, ",")+"]\n[[job]]\nname = \"job\"\nschedule = \"@daily\"\ncommand = \"true\"")
		for _, j := range cfg.Jobs {
			m[j.Name] = j.Schedules[0] + " " + j.Command
		}
		return m
	}
	want := names(lines)
	if len(want) != 6 || want["one"] == "" || want["job"] != "@daily true" {
		t.Fatal(want)
	}
	rapid.Check(t, func(t *rapid.T) {
		if got := names(rapid.Permutation(lines).Draw(t, "lines")); !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestCluster(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "conf.d/keys"), "# two\nMDEyMzQ1Njc4OWFiY2RlZg==\n\n  MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=  \n", 0o640)
	write(t, filepath.Join(dir, "config.toml"), `
include = ["conf.d/*.toml"]
[cluster]
bind = "192.0.2.1"
advertise = "[2001:db8::1]:5000"
join = ["a.example.org", "192.0.2.2:4000", "2001:db8::2"]
profile = "wan"
lease = "20s"
[legion.foobar]
quorum = 3
on.lord = ["cmd:ip addr add", "log:we are lord"]
`, 0o600)
	write(t, filepath.Join(dir, "conf.d/1.toml"), `
cluster.keys_file = "keys"
[legion.foobar]
valor = 0
[http]
listen = "127.0.0.1:0"
tls_cert = "cert"
tls_key = "/key"
`, 0o600)
	cfg, problems := Load(filepath.Join(dir, "config.toml"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := defaultCluster()
	want.Bind, want.Advertise = "192.0.2.1:4242", "[2001:db8::1]:5000"
	want.Join = []string{"a.example.org", "192.0.2.2:4000", "2001:db8::2"}
	want.Keys = [][]byte{[]byte("0123456789abcdef"), []byte("0123456789abcdef0123456789abcdef")}
	want.KeysFile = filepath.Join(dir, "conf.d/keys")
	want.Profile, want.Beat, want.Lease = "wan", 2*time.Second, 20*time.Second
	if !reflect.DeepEqual(*cfg.Cluster, want) {
		t.Errorf("got  %+v\nwant %+v", *cfg.Cluster, want)
	}
	legion := defaultLegion("foobar")
	legion.Valor, legion.Quorum = 0, 3
	legion.On = map[string][]Hook{"lord": {{"cmd", "ip addr add"}, {"log", "we are lord"}}}
	if !reflect.DeepEqual(cfg.Legions["foobar"], legion) {
		t.Errorf("got  %+v\nwant %+v", cfg.Legions["foobar"], legion)
	}
	if want := (HTTP{Listen: "127.0.0.1:0", TLSCert: filepath.Join(dir, "conf.d/cert"), TLSKey: "/key"}); *cfg.HTTP != want {
		t.Errorf("got  %+v\nwant %+v", *cfg.HTTP, want)
	}
	if want := []string{filepath.Join(dir, "config.toml"), filepath.Join(dir, "conf.d/1.toml")}; !slices.Equal(cfg.Files, want) {
		t.Errorf("files: got %q, want %q", cfg.Files, want)
	}
}

// What others are told has the port that the node listens on, unless it says so.
func TestAdvertisedPort(t *testing.T) {
	t.Parallel()
	for advertise, want := range map[string]string{
		"": "", "192.0.2.1": "192.0.2.1:5000", "2001:db8::1": "[2001:db8::1]:5000", "192.0.2.1:6000": "192.0.2.1:6000",
	} {
		cfg, problems := parse("x.toml", "[cluster]\ninsecure = true\nbind = \"0.0.0.0:5000\"\nadvertise = \""+advertise+"\"\n")
		if len(problems) > 0 || cfg.Cluster.Advertise != want {
			t.Errorf("%q: %v, %+v; want %q", advertise, problems, cfg, want)
		}
	}
}

func TestLoopbackNeedsNoKeys(t *testing.T) {
	t.Parallel()
	for bind, needed := range map[string]bool{
		"127.0.0.1:4242": false, "127.8.0.1": false, "::1": false, "[::1]:0": false,
		"0.0.0.0:4242": true, "::": true, "192.0.2.1:1": true, "[fe80::1]:1": true,
	} {
		_, problems := parse("x.toml", "[cluster]\nbind = \""+bind+"\"\n")
		if got := len(problems) == 1 && strings.Contains(problems[0].Message, "there are no keys"); got != needed || len(problems) > 1 {
			t.Errorf("%s: keys needed: %v, want %v (%v)", bind, got, needed, problems)
		}
		if _, problems := parse("x.toml", "[cluster]\ninsecure = true\nbind = \""+bind+"\"\n"); len(problems) > 0 {
			t.Errorf("%s, insecure: %v", bind, problems)
		}
	}
}

// The rule of section "profile": a lord must be able to lose beats.
func TestLeaseAndBeat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		beat, lease string
		ok          bool
	}{
		{"300ms", "2s", true}, {"400ms", "1500ms", true}, {"400ms", "1499ms", false}, {"2s", "10s", true}, {"2s", "7s", false},
	} {
		_, problems := parse("x.toml", "[cluster]\nbind = \"127.0.0.1:0\"\nbeat = \""+c.beat+"\"\nlease = \""+c.lease+"\"\n")
		if (len(problems) == 0) != c.ok {
			t.Errorf("%+v: %v", c, problems)
		}
	}
}

func TestLegionUnsafe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		quorum, size int
		unsafe       bool
	}{{0, 3, false}, {1, 1, false}, {1, 2, true}, {2, 3, false}, {2, 4, true}, {3, 4, false}, {3, 7, true}} {
		if got := (Legion{Quorum: c.quorum}).Unsafe(c.size); got != c.unsafe {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestPeriod(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0s": 0, "0": 0, "300ms": 300 * time.Millisecond, "90s": 90 * time.Second, "1h30m": 90 * time.Minute,
		"7d": 7 * day, "2w": 14 * day, "1w1d1h": 8*day + time.Hour, "1.5h": 90 * time.Minute, "-1s": -time.Second,
	} {
		if got, err := parsePeriod(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "d", "1", "1 d", "1d-1h", "1h1d", "1.5d", "-1d", "99999w999999d", "2562047h", "1dd", "٣d", "1y"} {
		if got, err := parsePeriod(text); err == nil && got != 0 {
			t.Errorf("%q: got %v", text, got)
		} else if err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(maxPeriod)).Draw(t, "d"))
		if rapid.Bool().Draw(t, "round") {
			d = d.Round(time.Minute)
		}
		if got, err := parsePeriod(formatPeriod(d)); err != nil || got != d {
			t.Fatalf("%v as %q: got %v, %v", d, formatPeriod(d), got, err)
		}
	})
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "65536": 65536, "1MiB": 1 << 20, "1M": 1 << 20, "10 KiB": 10 << 10, "2GB": 2 << 30, "1TiB": 1 << 40, "7B": 7} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "1.5M", "1X", "1MM", "999999999999999T", "1e3"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<40).Draw(t, "n")
		if got, err := parseBytes(formatBytes(n)); err != nil || got != n {
			t.Fatalf("%d as %q: got %d, %v", n, formatBytes(n), got, err)
		}
	})
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"name", "legion", "schedule", "user", "on_lost", "on_unlord"}
	for wrong, want := range map[string]string{
		"nmae": "name", "Legion": "legion", "shedule": "schedule", "onlost": "on_lost", "usr": "user", "on_unlrod": "on_unlord",
		"x": "", "completely": "", "": "", strings.Repeat("legion", 100): "",
	} {
		if got := nearest(wrong, known); got != want {
			t.Errorf("%q: got %q, want %q", wrong, got, want)
		}
	}
}

// TestNodeTimezone: a job has the zone of its node, unless it has its own; and
// with another zone it is due at other times.
func TestNodeTimezone(t *testing.T) {
	t.Parallel()
	of := func(zone string) []jobs.Job {
		return must(t, "[node]\nname = \"n\"\ntimezone = \""+zone+"\"\n"+`
[legion.db]
[[job]]
name = "nodes"
legion = "db"
schedule = "0 3 * * *"
command = "true"
[[job]]
name = "own"
schedule = "0 3 * * *"
timezone = "Asia/Tokyo"
command = "true"
`).Jobs
	}
	here, there := of("Europe/Berlin"), of("America/New_York")
	if here[0].Timezone != "Europe/Berlin" || here[0].Timing() == there[0].Timing() || here[0].Definition() == there[0].Definition() {
		t.Errorf("the node's: %v and %v", here[0], there[0])
	}
	if here[1].Timezone != "Asia/Tokyo" || here[1].Timing() != there[1].Timing() {
		t.Errorf("its own: %v and %v", here[1], there[1])
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	got := must(t, "")
	want := Default("localhost")
	want.Path, want.Files = "/etc/x/config.toml", []string{"/etc/x/config.toml"}
	got.root = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "empty.toml")
	write(t, path, "", 0o600)
	cfg, problems := Load(path)
	if len(problems) > 0 || cfg.Node.Name != host || cfg.Path != path {
		t.Errorf("got %+v, %v", cfg, problems)
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	cfg := must(t, "\n[node]\n\nmax_runs = 1\n[legion.foobar]\nvalor = 1\n")
	for key, want := range map[string]string{
		"node.max_runs": "/etc/x/config.toml:4", "node.state_dir": "/etc/x/config.toml:2", "legion.foobar.valor": "/etc/x/config.toml:6",
		"control.socket": "/etc/x/config.toml", "": "/etc/x/config.toml",
	} {
		if got := cfg.Place(key); got != want {
			t.Errorf("%s: got %s, want %s", key, got, want)
		}
	}
	if got := Default("x").Place("node.name"); got != "" {
		t.Errorf("of no file: got %s", got)
	}
}

func TestLoadMissingFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none.toml")
	cfg, problems := Load(path)
	if want := path + ": open file: no such file or directory"; cfg != nil || problems.Error() != want {
		t.Errorf("got %v, want %s", problems, want)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	old := must(t, `
legion-cron = ["foobar -1 -1 -1 -1 -1 one"]
[node]
timezone = "UTC"
max_runs = 5
[legion.gone]
[[job]]
name = "a"
schedule = "@daily"
command = "true"
[[job]]
name = "b"
schedule = "@daily"
command = "true"
`)
	new := must(t, `

# everything is further down
legion-cron = ["foobar -1 -1 -1 -1 -1 one"]
[node]
timezone = "Europe/Berlin"
max_runs = 6
keep = "30d"
[log]
level = "debug"
[cluster]
bind = "127.0.0.1:0"
[legion.foobar]
valor = 50
[[job]]
name = "b"
schedule = "@hourly"
command = ["true"]
ping_url = "http://x/"
[[job]]
name = "c"
schedule = "@daily"
command = "true"
[[check]]
name = "k"
kind = "ping"
host = "x"
required = true
[http]
listen = ":1"
`)
	want := []string{
		`node.timezone "UTC" -> "Europe/Berlin"`,
		`node.max_runs 5 -> 6 (needs a restart)`,
		`node.keep 90d -> 30d (needs a restart)`,
		`cluster added (needs a restart)`,
		`log.level "info" -> "debug"`,
		`http added (needs a restart)`,
		`legion foobar changed: valor`,
		`legion gone removed`,
		`check k added`,
		`job a removed`,
		`job b changed: schedule, timezone, command, ping_url`,
		`job c added`,
		`job one changed: timezone`,
	}
	if got := Diff(old, new); !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	moved := must(t, "[node]\ntimezone = \"UTC\"\nmax_runs = 5\n[legion.gone]\n[legion.foobar]\n\n"+`
[[job]]
name = "b"
schedule = ["@daily"]
env = {}
command = "true"
[[job]]
name = "a"
schedule = "@daily"
command = "true"
[[job]]
name = "one"
legion = "foobar"
overlap = "allow"
schedule = "-1 -1 -1 -1 -1"
command = "one"
`)
	if got := Diff(old, moved); len(got) > 0 {
		t.Errorf("nothing has changed, got %q", got)
	}
	a, b := *old, *old
	a.Cluster, b.Cluster = &Cluster{Keys: [][]byte{[]byte("secret-a")}}, &Cluster{Keys: [][]byte{[]byte("secret-b")}}
	a.HTTP, b.HTTP = &HTTP{Token: "secret-a"}, &HTTP{Token: "secret-b"}
	if got := Diff(&a, &b); len(got) != 2 || strings.Contains(strings.Join(got, ""), "secret") {
		t.Errorf("secrets: %q", got)
	}
}

// Every field that Diff can name is called as its key is.
func TestKeysOfFields(t *testing.T) {
	t.Parallel()
	all := known(t)
	notKeys := []string{"Name", "Keys", "On", "Source", "Implicit", "Dialect", "Token", "Argv"}
	for section, v := range map[string]any{
		"node": Node{}, "cluster": Cluster{}, "control": Control{}, "log": Log{}, "http": HTTP{},
		"legion.NAME": Legion{}, "check": Check{}, "notify": Notify{}, "job": jobs.Job{},
	} {
		for i := range reflect.TypeOf(v).NumField() {
			field := reflect.TypeOf(v).Field(i).Name
			if key := join(section, keyOf(field)); !slices.Contains(all, key) && !slices.Contains(notKeys, field) {
				t.Errorf("%T.%s is no key %s", v, field, key)
			}
		}
	}
}
