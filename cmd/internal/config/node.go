package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/legion/gossip"
	"github.com/legion-cron/legion-cron/scheduler/cronspec"
)

const (
	maxRuns       = 100_000
	maxSocketPath = 107 // bytes of sun_path without the final NUL
	maxPeers      = 1000
	maxKeys       = 16
	maxSecret     = 64 << 10 // bytes of a file of keys, or of a token
	maxSize       = 7
	maxBeat       = time.Minute
	minBeat       = 10 * time.Millisecond
)

func (l *loader) node(it *item) {
	t := l.open(it, "node")
	n := &l.config.Node
	host := n.Name
	if read(t, "name", &n.Name, optional(text(name))); n.Name == "" {
		n.Name = host
	}
	if err := name(n.Name); err != nil && !l.broken {
		t.fail(t.where("name"), `set [node] name = "..."`, "the host's name cannot be used: %s", err)
	}
	read(t, "state_dir", &n.StateDir, file())
	read(t, "timezone", &n.Timezone, optional(text(zone)))
	read(t, "max_runs", &n.MaxRuns, integer(1, maxRuns))
	read(t, "stop_timeout", &n.StopTimeout, period(0, day))
	read(t, "keep", &n.Keep, period(time.Hour, maxPeriod))
	read(t, "lost_after", &n.LostAfter, period(time.Second, 7*day))
	t.close()
}

func zone(v string) error {
	if _, err := cronspec.LoadLocation(v); err != nil {
		return hinted{fmt.Errorf("%q is not a time zone", v), "an IANA name such as Europe/Berlin or UTC"}
	}
	return nil
}

// location is a zone that has been checked; the empty one is the host's.
func location(name string) *time.Location {
	if loc, err := cronspec.LoadLocation(name); err == nil {
		return loc
	}
	return time.Local
}

func (l *loader) cluster(it *item) *Cluster {
	t := l.open(it, "cluster")
	c := defaultCluster()
	before := len(l.problems)
	read(t, "bind", &c.Bind, ipPort(defaultPort))
	_, port, _ := net.SplitHostPort(c.Bind) // ipPort made it
	if read(t, "advertise", &c.Advertise, optional(ipPort(port))) && unspecified(c.Advertise) {
		t.fail(t.where("advertise"), "leave it out, or name one by which others reach this node", "%s is every address of whoever uses it", c.Advertise)
	}
	addressed := len(l.problems) == before

	read(t, "join", &c.Join, list(peer))
	if len(c.Join) > maxPeers {
		t.fail(t.where("join"), "a few nodes that are mostly there suffice", "%d addresses, at most %d are allowed", len(c.Join), maxPeers)
	}
	read(t, "keys_file", &c.KeysFile, optional(file()))
	if c.KeysFile != "" {
		c.Keys = l.keysFile(t.where("keys_file"), c.KeysFile)
	}
	read(t, "insecure", &c.Insecure, boolean())
	if open := exposed(c); addressed && open != "" && t.at.table["keys_file"] == nil && !c.Insecure {
		t.fail(t.where("bind"), "set keys_file, made by: legion-cron keys generate; or insecure = true where every host on the network may run your jobs",
			"%s is reachable from other hosts, and there are no keys", open)
	}

	read(t, "size", &c.Size, integer(1, maxSize))
	read(t, "vote", &c.Vote, boolean())
	read(t, "profile", &c.Profile, oneOf("lan", "fast", "wan"))
	c.Beat, c.Lease = profiles[c.Profile].beat, profiles[c.Profile].lease
	before = len(l.problems)
	read(t, "beat", &c.Beat, period(minBeat, maxBeat))
	read(t, "lease", &c.Lease, period(3*minBeat, 20*maxBeat))
	// A lord trusts 0.8 of a lease, and must be able to lose two beats in it.
	if len(l.problems) == before && 4*c.Lease < 15*c.Beat {
		at := t.where("lease")
		if at == t.at {
			at = t.where("beat")
		}
		t.fail(at, "0.8 x lease must be at least 3 x beat", "a lease of %s is too short for a beat of %s", formatPeriod(c.Lease), formatPeriod(c.Beat))
	}
	read(t, "forget_after", &c.ForgetAfter, period(time.Minute, maxPeriod))
	t.close()
	return &c
}

// exposed is the address at which other hosts can reach the node, or "".
func exposed(c Cluster) string {
	for _, addr := range []string{c.Bind, c.Advertise} {
		if addr != "" && !loopback(addr) {
			return addr
		}
	}
	return ""
}

// peer is an element of join.
func peer(r *reader, it *item) (string, bool) {
	if it.value == "mdns" {
		return "mdns", true
	}
	return parsed("a string", func(v string) (string, error) {
		if err := notEmpty(v); err != nil {
			return "", err
		}
		if _, _, err := splitAddress(v, defaultPort); err != nil {
			return "", err
		}
		return v, gossip.CheckPeer(v)
	})(r, it)
}

// keysFile reads the keys of the cluster: one a line, in base64. What is
// wrong with a line is reported at that line, without the line.
func (l *loader) keysFile(from *item, path string) (keys [][]byte) {
	b, ok := l.secret(from, path)
	if !ok {
		return nil
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxSecret+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		at := &item{file: path, line: n, name: "keys"}
		key, err := ParseKey(line)
		switch {
		case err != nil:
			l.fail(at, "legion-cron keys generate makes one", "%s", err)
		case slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }):
			l.fail(at, "", "the same key again") // to remove one of them would remove nothing
		case len(keys) == maxKeys:
			l.fail(at, "", "more than %d keys", maxKeys)
			return keys
		default:
			keys = append(keys, key)
			continue
		}
		ok = false
	}
	if ok && len(keys) == 0 {
		l.fail(from, "legion-cron keys generate makes one", "%s holds no key", path)
	}
	return keys
}

// secret reads a file that is not for everybody's eyes.
func (l *loader) secret(from *item, path string) ([]byte, bool) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		l.fail(from, "", "read %s: %s", path, bare(err))
		return nil, false
	}
	if info.Mode().Perm()&0o007 != 0 {
		l.fail(from, "chmod 0600 "+path, "%s may be read by everybody (mode %04o)", path, info.Mode().Perm())
		return nil, false
	}
	text, err := readFile(path, maxSecret)
	if err != nil {
		l.fail(from, "", "read %s: %s", path, err)
		return nil, false
	}
	return []byte(text), true
}

func (l *loader) http(it *item) *HTTP {
	t := l.open(it, "http")
	var h HTTP
	if !read(t, "listen", &h.Listen, hostPort()) {
		t.fail(t.at, "", "listen is missing")
	}
	var tokenFile string
	read(t, "token_file", &tokenFile, optional(file()))
	if tokenFile != "" {
		if b, ok := l.secret(t.where("token_file"), tokenFile); ok {
			if h.Token = strings.TrimSpace(string(b)); h.Token == "" || strings.ContainsAny(h.Token, " \t\r\n") {
				t.fail(t.where("token_file"), "", "%s does not hold one token", tokenFile)
			}
		}
	}
	read(t, "tls_cert", &h.TLSCert, optional(file()))
	read(t, "tls_key", &h.TLSKey, optional(file()))
	for _, pair := range [][2]string{{"tls_cert", "tls_key"}, {"tls_key", "tls_cert"}} {
		if t.at.table[pair[0]] != nil && t.at.table[pair[1]] == nil {
			t.fail(t.where(pair[0]), "", "given without %s", pair[1])
		}
	}
	t.close()
	return &h
}

func (l *loader) control(it *item) {
	t := l.open(it, "control")
	c := &l.config.Control
	read(t, "socket", &c.Socket, file())
	if len(c.Socket) > maxSocketPath {
		t.fail(t.where("socket"), "choose a shorter path", "%d bytes, the kernel allows %d: %s", len(c.Socket), maxSocketPath, c.Socket)
	}
	read(t, "group", &c.Group, optional(text(account)))
	t.close()
}

func (l *loader) log(it *item) {
	t := l.open(it, "log")
	c := &l.config.Log
	read(t, "level", &c.Level, oneOf("debug", "info", "warn", "error"))
	read(t, "format", &c.Format, oneOf("auto", "journald", "console", "json"))
	t.close()
}

// account checks the name or number of a user or group.
func account(v string) error {
	if len(v) > maxName || v == "" || strings.ContainsAny(v, " \t\r\n:/,") {
		return fmt.Errorf("%q is not a user or group", v)
	}
	return nil
}
