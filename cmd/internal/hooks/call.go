package hooks

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

const (
	// Timeout is how long one hook may take. A release waits for unlord hooks:
	// less cuts off slow ones, more lets a hanging one keep a throne.
	Timeout = 30 * time.Second
	// Grace is between TERM and KILL.
	Grace = 5 * time.Second
	// MaxOutput bounds what comes to the log of one hook, in bytes.
	MaxOutput = 64 << 10

	// maxScroll bounds what hooks are told of another node's scroll, in bytes.
	maxScroll = 4 << 10
	// runPrefix begins the run ids of hooks.
	runPrefix = "hook-"
)

// The events.
const (
	Setup      = "setup"
	Join       = "join"
	Lord       = "lord"
	Unlord     = "unlord"
	Death      = "death"
	NodeJoined = "node-joined"
	NodeLeft   = "node-left"
)

// A Hook is one thing that happens on an event.
type Hook struct {
	Kind string `cbor:"1,keyasint"` // "cmd": Text is for /bin/sh -c; "log": Text is a message
	Text string `cbor:"2,keyasint"`
}

// A Call is one event as its hooks are told of it.
type Call struct {
	Event  string `cbor:"1,keyasint"`
	Legion string `cbor:"2,keyasint"`
	Term   uint64 `cbor:"3,keyasint,omitempty"` // of this reign, or of the known lord's; 0: none
	Node   string `cbor:"4,keyasint"`           // this one
	Lord   string `cbor:"5,keyasint,omitempty"` // empty: nobody, or not known
	Scroll string `cbor:"6,keyasint,omitempty"` // the lord's
	Member string `cbor:"7,keyasint,omitempty"` // the other node that has joined or left
}

// environment is what a command is told.
func (c Call) environment() []string {
	term := ""
	if c.Term > 0 {
		term = strconv.FormatUint(c.Term, 10)
	}
	env := []string{
		"LEGION=" + c.Legion,
		"LEGION_EVENT=" + c.Event,
		"LEGION_TERM=" + term,
		"LEGION_NODE=" + c.Node,
		"LEGION_LORD=" + c.Lord,
		"LEGION_SCROLL=" + Trim(c.Scroll),
	}
	if c.Member != "" {
		env = append(env, "LEGION_MEMBER="+c.Member)
	}
	return env
}

// Trim makes of a scroll from the network what a scroll can be: text of at
// most 4 KiB that an environment can hold.
func Trim(scroll string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(scroll[:min(len(scroll), maxScroll)], "\x00", ""), "")
}

func (c Call) fields() []zap.Field {
	fields := []zap.Field{logging.Event(c.Event), logging.Legion(c.Legion), logging.Term(c.Term)}
	if c.Member != "" {
		fields = append(fields, zap.String("member", c.Member))
	}
	return fields
}

// A Host starts processes; a *runner.Host.
type Host interface {
	Start(runner.Spec, runner.Sink) (*runner.Process, error)
}

// A Caller runs hooks. It is safe for concurrent use.
type Caller struct {
	Host Host
	Log  *zap.Logger

	Timeout, Grace time.Duration // 0: the constants of that name
}

// A Calling is a call under way: the zero value is one that has not begun. Its
// methods are safe for concurrent use.
type Calling struct {
	// Before, if given, is asked before each command, and told its run id; an
	// error ends the call. After is told when that command has ended.
	Before func(run string) error
	After  func(run string)

	mu      sync.Mutex
	process *runner.Process
	why     string // it is to end; empty: it is not
	kill    bool
}

// Call runs the hooks one after the other, and returns the first error.
func (c *Caller) Call(hooks []Hook, call Call, under *Calling) error {
	log := c.Log.With(call.fields()...)
	var first error
	for _, h := range hooks {
		if h.Kind == "log" {
			log.Info(h.Text)
			continue
		}
		id := runPrefix + uuid.Must(uuid.NewV7()).String()
		if err := under.next(id); err != nil {
			return err // whoever ends a call knows why
		}
		began := time.Now()
		err := c.run(id, h, call, under, log)
		if err == nil {
			log.Debug("hook done", zap.String("hook", h.Text), logging.Took(time.Since(began)))
			continue
		}
		log.Warn(call.Event+" hook failed", zap.String("hook", h.Text), logging.Took(time.Since(began)), zap.Error(err))
		if first == nil {
			first = err
		}
		if call.Event == Lord {
			break
		}
	}
	return first
}

// run runs one command to its end.
func (c *Caller) run(id string, h Hook, call Call, under *Calling, log *zap.Logger) error {
	if under.After != nil {
		defer under.After(id)
	}
	out := &output{log: log, left: MaxOutput}
	p, err := c.Host.Start(runner.Spec{
		Run: id, Job: "hook", Set: call.environment(), Command: h.Text, Umask: -1,
		Timeout: cmp.Or(c.Timeout, Timeout), Grace: cmp.Or(c.Grace, Grace), OnUnlord: jobs.OnUnlordKill,
	}, out)
	if err != nil {
		return err
	}
	under.begun(p)
	res := p.Wait()
	under.begun(nil)
	if res.State != jobs.Succeeded {
		return errors.New(res.Reason)
	}
	return nil
}

// End ends the call: the command that runs is told to stop, or killed at once,
// and no other one begins. It does not wait.
func (u *Calling) End(why string, kill bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.why, u.kill = cmp.Or(u.why, why), u.kill || kill
	u.pass()
}

// pass tells the process of the wish that it end. u.mu is held.
func (u *Calling) pass() {
	switch {
	case u.process == nil || u.why == "":
	case u.kill:
		u.process.Kill(u.why)
	default:
		u.process.Stop(u.why)
	}
}

// next reports whether one more command may begin.
func (u *Calling) next(run string) error {
	if err := u.ending(); err != nil || u.Before == nil {
		return err
	}
	return u.Before(run)
}

func (u *Calling) begun(p *runner.Process) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.process = p
	u.pass()
}

func (u *Calling) ending() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.why == "" {
		return nil
	}
	return errors.New(u.why)
}

// An output passes on the first lines of a hook.
type output struct {
	log  *zap.Logger
	left int // bytes
}

// Line implements runner.Sink.
func (o *output) Line(stream string, line []byte) {
	if o.left <= 0 {
		return
	}
	if o.left -= len(line) + 1; o.left <= 0 { // an empty line is not for free
		o.log.Warn("the hook writes more than is kept", zap.Int("kept", MaxOutput))
		return
	}
	o.log.Info(string(line), logging.Stream(stream))
}
