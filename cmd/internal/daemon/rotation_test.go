package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/lab"
)

// keys runs a verb of keys on a node, and returns what it says.
func (c *cluster) keys(a *agent, stdin string, args ...string) (string, error) {
	cmd := exec.Command(c.bin, append(append([]string{"keys"}, args...), "--socket", a.socket)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// keyring is what `keys list` says of each key: its ID by how many use it.
func (c *cluster) keyring(a *agent) control.Keyring {
	c.t.Helper()
	out, err := c.keys(a, "", "list", "--json")
	var ring control.Keyring
	if err == nil {
		err = json.Unmarshal([]byte(out), &ring)
	}
	if err != nil {
		c.t.Fatalf("keys list: %v\n%s", err, out)
	}
	return ring
}

func (c *cluster) alive(a *agent, n int) bool {
	s, err := a.status()
	alive := 0
	for _, m := range s.Cluster.Members {
		if m.State == "alive" {
			alive++
		}
	}
	return err == nil && alive == n
}

// TestRotation: a cluster changes its key while a job runs every second; no
// slot is left out, no member lost, the lord stays, and what is done survives
// restarts.
func TestRotation(t *testing.T) {
	c := newCluster(t, 3, tick)
	lord := c.waitLord("foobar", 20*time.Second)
	lab.Eventually(t, 20*time.Second, "three members each", func() bool {
		return c.alive(c.agents[0], 3) && c.alive(c.agents[1], 3) && c.alive(c.agents[2], 3)
	})
	before, err := lord.status()
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 15*time.Second, "the first run", func() bool { return len(c.lines()) > 0 })

	ring := c.keyring(c.agents[1])
	if len(ring.Keys) != 1 || len(ring.Keys[0].Using) != 3 || len(ring.Away) != 0 {
		t.Fatalf("at first: %+v", ring)
	}
	old := ring.Keys[0].ID
	must := func(out string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	refused := func(why, out string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(out, why) || !strings.Contains(out, "hint: ") {
			t.Errorf("want it refused because of %q, got %v\n%s", why, err, out)
		}
	}
	out, err := c.keys(c.agents[0], "", "remove", old)
	refused("in use on n1, n2, n3", out, err)
	out, err = c.keys(c.agents[0], "", "use", "beef")
	refused("no key beef", out, err)
	out, err = c.keys(c.agents[0], "c2hvcnQ=\n", "install")
	refused("that is no key", out, err)

	key, err := exec.Command(c.bin, "keys", "generate").Output()
	must("", err)
	must(c.keys(c.agents[0], string(key), "install"))
	must(c.keys(c.agents[2], string(key), "install")) // once more does no harm
	ring = c.keyring(c.agents[2])
	if len(ring.Keys) != 2 {
		t.Fatalf("after install: %+v", ring)
	}
	next := ring.Keys[0].ID
	if next == old {
		next = ring.Keys[1].ID
	}

	// A node that is away would be shut out: that takes --force. It is back
	// before the next step, with what its file says.
	other := c.agents[0]
	if other == lord {
		other = c.agents[1]
	}
	other.proc.Kill(syscall.SIGTERM)
	other.proc.Wait(10 * time.Second)
	lab.Eventually(t, 10*time.Second, "two members", func() bool { return c.alive(lord, 2) })
	out, err = c.keys(lord, "", "use", next)
	refused("away: "+other.name, out, err)
	c.start(other)
	lab.Eventually(t, 20*time.Second, "three members again", func() bool { return c.alive(lord, 3) && c.alive(other, 3) })

	must(c.keys(c.agents[1], "", "use", next[:6]))
	must(c.keys(c.agents[2], "", "remove", old))
	ring = c.keyring(c.agents[0])
	if len(ring.Keys) != 1 || ring.Keys[0].ID != next || len(ring.Keys[0].Using) != 3 {
		t.Errorf("at the end: %+v", ring)
	}
	for _, a := range c.agents {
		text, err := os.ReadFile(filepath.Join(a.dir, "keys"))
		info, _ := os.Stat(filepath.Join(a.dir, "keys"))
		if want := "# first of all\n" + string(key); err != nil || string(text) != want || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the keys file, %v, holds %q, %v, want %q", a.name, info.Mode(), text, err, want)
		}
	}

	// By hand, in the files: two steps at once are refused, one is taken.
	path := filepath.Join(other.dir, "keys")
	third, err := exec.Command(c.bin, "keys", "generate").Output()
	must("", err)
	reload := func(text string) (string, error) {
		c.write(path, text, 0o600)
		out, err := exec.Command(c.bin, "reload", "--socket", other.socket).CombinedOutput()
		return string(out), err
	}
	if out, err := reload(string(third) + string(key)); err == nil || !strings.Contains(out, "first key is new") {
		t.Errorf("two steps at once: %v\n%s", err, out)
	}
	if out, err := reload(string(key) + string(third)); err != nil || !strings.Contains(out, "cluster.keys changed") {
		t.Errorf("one step: %v\n%s", err, out)
	}
	if ring := c.keyring(lord); len(ring.Keys) != 2 {
		t.Errorf("after the reload: %+v", ring)
	}
	must(reload(string(key)))

	// The guardian of the lord has a certificate that the new key has sealed.
	n := len(c.lines())
	lab.Eventually(t, 10*time.Second, "two more runs", func() bool { return len(c.lines()) > n+1 })
	after, err := lord.status()
	if err != nil || after.Legions[0].Term != before.Legions[0].Term || after.Legions[0].Lord != lord.name {
		t.Errorf("the lordship moved: %+v, then %+v, %v", before.Legions, after.Legions, err)
	}
	for _, a := range c.agents {
		if !c.alive(a, 3) {
			s, err := a.status()
			t.Errorf("%s has lost a member: %+v, %v", a.name, s.Cluster.Members, err)
		}
		for _, line := range a.proc.Lines() {
			if a != other && strings.Contains(line, "node is gone") && !strings.Contains(line, fmt.Sprintf("%q", other.name)) && !strings.Contains(line, "member="+other.name) {
				t.Errorf("%s lost a member: %s", a.name, line)
			}
		}
	}
	c.noDoubles()
	ls := c.lines()
	for i := 1; i < len(ls); i++ {
		if gap := at(t, ls[i].slot).Sub(at(t, ls[i-1].slot)); gap != time.Second {
			t.Errorf("%s came %v after %s", ls[i].slot, gap, ls[i-1].slot)
		}
	}
	lord.proc.Kill(syscall.SIGKILL)
	heir, took := c.successor(lord, 2*lease)
	t.Logf("kill -9 of the lord's agent after the rotation: %s is lord %v later", heir.name, took.Round(time.Millisecond))
	if took > leaseBound {
		t.Errorf("that is no faster than by the end of the lease: the guardian's certificate was not understood")
	}
	c.start(lord)
	lab.Eventually(t, 20*time.Second, "three members with the new key alone", func() bool { return c.alive(lord, 3) && c.alive(heir, 3) })
}

// TestKeysWithoutCluster: a reload of a file without [cluster] waits for a
// restart, and until then the keys of others can be looked at.
func TestKeysWithoutCluster(t *testing.T) {
	var nodes []*node
	var dirs, texts []string
	join := ""
	for i := range 2 {
		dir := shortDir(t)
		if err := os.WriteFile(filepath.Join(dir, "keys"), []byte("MDEyMzQ1Njc4OWFiY2RlZg==\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(single, `"one"`, fmt.Sprintf("\"n%d\"", i+1), 1)
		n := startNode(t, dir, text+fmt.Sprintf(`
[cluster]
bind = "127.0.0.1:0"
size = 1
vote = %v
keys_file = "keys"
join = [%s]
`, i == 0, join))
		join = fmt.Sprintf("%q", n.Addr())
		nodes, dirs, texts = append(nodes, n), append(dirs, dir), append(texts, text)
	}
	lab.Eventually(t, 20*time.Second, "both have the key", func() bool {
		ring, err := nodes[1].Keyring(context.Background())
		return err == nil && len(ring.Keys) == 1 && len(ring.Keys[0].Nodes) == 2
	})
	if err := nodes[0].Daemon.Reload(context.Background(), load(t, dirs[0], texts[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes[1].Keyring(context.Background()); err == nil || !strings.Contains(err.Error(), "n1: turn keys: this node has none") {
		t.Errorf("asked from the other: %v", err)
	}
	if _, err := nodes[0].Keyring(context.Background()); err == nil || !strings.Contains(err.Error(), "this node has no keys") {
		t.Errorf("asked there: %v", err)
	}

	// Back in the file, with another key: that is the two steps at once it ever was.
	// It does not matter that the file had none in between.
	clustered := texts[0] + "[cluster]\nbind = \"127.0.0.1:0\"\nsize = 1\nkeys_file = \"keys\"\n"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dirs[0], "keys"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ZmVkY2JhOTg3NjU0MzIxMA==\n")
	if err := nodes[0].Daemon.Reload(context.Background(), load(t, dirs[0], clustered)); err == nil || !strings.Contains(err.Error(), "first key is new") {
		t.Errorf("another key: %v", err)
	}
	write("MDEyMzQ1Njc4OWFiY2RlZg==\n")
	if err := nodes[0].Daemon.Reload(context.Background(), load(t, dirs[0], clustered)); err != nil {
		t.Errorf("the key it had: %v", err)
	}
	if ring, err := nodes[1].Keyring(context.Background()); err != nil || len(ring.Keys) != 1 || len(ring.Keys[0].Using) != 2 {
		t.Errorf("with the section again: %+v, %v", ring, err)
	}
}

// TestKeysOfOneThatDoesNotEncrypt: keys that a reload brings wait for a restart, and
// until then nobody is told that they are in use.
func TestKeysOfOneThatDoesNotEncrypt(t *testing.T) {
	dir := shortDir(t)
	plain := single + "[cluster]\nbind = \"127.0.0.1:0\"\nsize = 1\n"
	n := startNode(t, dir, plain)
	path := filepath.Join(dir, "keys")
	const text = "MDEyMzQ1Njc4OWFiY2RlZg==\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Daemon.Reload(context.Background(), load(t, dir, plain+"keys_file = \"keys\"\n")); err != nil {
		t.Fatal(err)
	}
	if ring, err := n.Keyring(context.Background()); err == nil || !strings.Contains(err.Error(), "this node has no keys") {
		t.Errorf("keys list: %+v, %v", ring, err)
	}
	if _, err := n.InstallKey(context.Background(), "ZmVkY2JhOTg3NjU0MzIxMA=="); err == nil {
		t.Error("a key was installed")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != text {
		t.Errorf("the keys file holds %q, %v", after, err)
	}
}
