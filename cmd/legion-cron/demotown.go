package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

const (
	demoNodes  = 3
	demoLegion = "demo"
	// demoGrace is how long an agent may take to stop before it is killed:
	// its stop_timeout, and what it needs for itself.
	demoGrace = 5 * time.Second
	// demoLog bounds what is shown of the log of an agent that failed.
	demoLog = 2 << 10
)

// errPortTaken is an agent that found its port in use.
var errPortTaken = errors.New("a port was taken")

// town is three agents and the directory they live in.
type town struct {
	dir   string
	nodes []*townNode
}

// townNode is one agent process.
type townNode struct {
	name, addr, config, socket, log string

	client *control.Client
	cmd    *exec.Cmd
	alive  io.Closer     // the end of the agent's standard input that we hold: if we die, it reads EOF and ends
	gone   chan struct{} // closed when the process has been waited for
	told   bool          // that it is gone

	incarnation string // as it last told; tells its runs from all others
}

var townConfig = template.Must(template.New("config").Parse(`legion-cron = ["demo -1 -1 -1 -1 -1 echo a minute has passed"]

[node]
name = {{printf "%q" .Name}}
state_dir = {{printf "%q" .State}}
stop_timeout = "2s"
lost_after = "3s"

[cluster]
bind = {{printf "%q" .Addr}}
join = [{{range .Join}}{{printf "%q" .}}, {{end}}]
keys_file = {{printf "%q" .Keys}}
size = 3

[legion.demo]

[control]
socket = {{printf "%q" .Socket}}

[log]
format = "console"

[[job]]
name = "tick"
legion = "demo"
schedule = "@every 2s"
command = "echo tick"

[[job]]
name = "sleeper"
legion = "demo"
schedule = "@every 5s"
command = "sleep 1; echo slept well"
`))

// newTown lays out a town on free ports. Nothing runs yet.
func newTown() (*town, error) {
	dir, err := os.MkdirTemp("", "legion-cron-demo-")
	if err != nil {
		return nil, fmt.Errorf("lay out the demo: %w", err)
	}
	t := &town{dir: dir}
	if err := t.layOut(); err != nil {
		return nil, errors.Join(fmt.Errorf("lay out the demo: %w", err), t.raze())
	}
	return t, nil
}

func (t *town) layOut() error {
	addrs, err := freeAddrs(demoNodes)
	if err != nil {
		return err
	}
	keys := filepath.Join(t.dir, "keys")
	if err := os.WriteFile(keys, []byte(generateKey()+"\n"), 0o600); err != nil {
		return err
	}
	for i, addr := range addrs {
		name := fmt.Sprintf("node%d", i+1)
		home := filepath.Join(t.dir, name)
		if err := os.Mkdir(home, 0o755); err != nil {
			return err
		}
		n := &townNode{
			name: name, addr: addr,
			config: filepath.Join(home, "config.toml"),
			socket: filepath.Join(home, "control.sock"),
			log:    filepath.Join(home, "agent.log"),
		}
		n.client = control.NewClient(n.socket)
		var text bytes.Buffer
		err := townConfig.Execute(&text, map[string]any{
			"Name": name, "State": filepath.Join(home, "state"), "Addr": addr,
			"Join": addrs, "Keys": keys, "Socket": n.socket,
		})
		if err != nil {
			return err
		}
		if err := os.WriteFile(n.config, text.Bytes(), 0o644); err != nil {
			return err
		}
		t.nodes = append(t.nodes, n)
	}
	return nil
}

// freeAddrs finds n loopback addresses whose ports are free for TCP and UDP
// at this moment. All are held until all are found, so that they differ.
func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, 0, n)
	for range 10 * n {
		if len(addrs) == n {
			break
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			continue
		}
		defer p.Close()
		addrs = append(addrs, l.Addr().String())
	}
	if len(addrs) < n {
		return nil, errors.New("no free ports on 127.0.0.1")
	}
	return addrs, nil
}

// start starts the agents and returns when all of them answer.
func (t *town) start(ctx context.Context) error {
	for _, n := range t.nodes {
		if err := n.start(); err != nil {
			return fmt.Errorf("start %s: %w", n.name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, demoUp)
	defer cancel()
	tick := time.NewTicker(demoLook)
	defer tick.Stop()
	for {
		up := 0
		for _, s := range t.look(ctx) {
			if s.answered {
				up++
			}
		}
		if up == len(t.nodes) {
			return nil
		}
		for _, n := range t.nodes {
			if why, gone := n.fallen(); gone {
				return n.failure(why)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for three agents: %w", ctx.Err())
		}
	}
}

func (n *townNode) start() error {
	log, err := os.Create(n.log)
	if err != nil {
		return err
	}
	defer log.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	n.cmd = &exec.Cmd{
		Path:   "/proc/self/exe", // this very program, even if its file has been replaced
		Args:   []string{"legion-cron", "agent", "--until-eof", "--config", n.config},
		Stdin:  theirs,
		Stdout: log,
		Stderr: log,
		// A group of its own: Ctrl-C is for the demo, which stops them in order.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := n.cmd.Start(); err != nil {
		ours.Close()
		return err
	}
	n.alive, n.gone = ours, make(chan struct{})
	go func() {
		defer close(n.gone)
		_ = n.cmd.Wait() // how it ended is in ProcessState
	}()
	return nil
}

// fallen says once that the process is gone, and how it ended.
func (n *townNode) fallen() (why string, gone bool) {
	if n.told || n.running() {
		return "", false
	}
	n.told = true
	return n.cmd.ProcessState.String(), true
}

func (n *townNode) running() bool {
	select {
	case <-n.gone:
		return false
	default:
		return true
	}
}

// failure is an agent that ended when it should not have.
func (n *townNode) failure(why string) error {
	text, _ := os.ReadFile(n.log) // without it there is only less to say
	if len(text) > demoLog {
		text = text[len(text)-demoLog:]
	}
	log := strings.TrimSpace(string(text))
	if strings.Contains(log, "address already in use") {
		return fmt.Errorf("%s: %w: %s", n.name, errPortTaken, n.addr)
	}
	return fmt.Errorf("%s ended: %s\n%s", n.name, why, log)
}

func (t *town) living() int {
	count := 0
	for _, n := range t.nodes {
		if n.running() {
			count++
		}
	}
	return count
}

// look asks all living agents at once.
func (t *town) look(ctx context.Context) []sight {
	ctx, cancel := context.WithTimeout(ctx, demoAsk)
	defer cancel()
	sights := make([]sight, len(t.nodes))
	var asked sync.WaitGroup
	for i, n := range t.nodes {
		if n.running() {
			asked.Go(func() { sights[i] = n.look(ctx) })
		}
	}
	asked.Wait()
	return sights
}

func (n *townNode) look(ctx context.Context) sight {
	status, err := n.client.Status(ctx)
	if err != nil {
		return sight{}
	}
	runs, err := n.client.Runs(ctx, control.RunsQuery{Limit: demoRuns})
	if err != nil {
		return sight{}
	}
	n.incarnation = status.Incarnation
	return sight{node: n.name, answered: true, status: status, runs: runs}
}

// raze stops everybody, kills whatever is left of anybody, and removes the
// directory. It works on a town in any state.
func (t *town) raze() error {
	for _, n := range t.nodes {
		if n.gone != nil {
			_ = n.cmd.Process.Signal(syscall.SIGTERM) // fails if it is gone
		}
	}
	grace := time.NewTimer(demoGrace)
	defer grace.Stop()
	late := false
	for _, n := range t.nodes {
		if n.gone == nil {
			continue
		}
		if !late {
			select {
			case <-n.gone:
			case <-grace.C:
				late = true
			}
		}
		_ = n.cmd.Process.Kill()
		<-n.gone
		_ = n.alive.Close()
	}
	return errors.Join(t.sweep(), killDescendants(), os.RemoveAll(t.dir))
}

// sweep kills the runs that a killed agent left, and takes their cgroups away.
// What it does not know as a run has at least become our child.
func (t *town) sweep() error {
	host, err := runner.New(runner.Config{Incarnation: "demo"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), reapTimeout)
	defer cancel()
	_, err = host.Sweep(ctx, func(run runner.Tag) bool {
		return slices.ContainsFunc(t.nodes, func(n *townNode) bool { return n.incarnation == run.Incarnation })
	})
	return errors.Join(err, host.Close(ctx))
}
