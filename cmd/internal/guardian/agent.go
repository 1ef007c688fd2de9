package guardian

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/legion"
)

const (
	// writeTimeout is the longest a word to the guardian may take; a pipe has
	// room for hundreds. It may hold up a beat.
	writeTimeout = 100 * time.Millisecond
	// restartPause is between the end of a guardian and the start of another.
	// It doubles up to maxRestartPause while they do not live as long as that.
	restartPause    = time.Second
	maxRestartPause = time.Minute
	// dismissTimeout is how long a dismissed guardian may take to be gone.
	dismissTimeout = 2 * time.Second
)

// A Config is what a guardian is told first.
type Config struct {
	Node        string `cbor:"1,keyasint"`
	Incarnation string `cbor:"2,keyasint"`
	NoCgroups   bool   `cbor:"3,keyasint,omitempty"` // as the agent's own runner
	LogLevel    string `cbor:"4,keyasint,omitempty"`
	LogFormat   string `cbor:"5,keyasint,omitempty"`
	HookLock    string `cbor:"6,keyasint,omitempty"` // held while it calls hooks
}

// A Guardian is the agent's end of the pipe. Its methods are safe for
// concurrent use, and do nothing on nil. None waits longer than writeTimeout,
// but Dismiss.
type Guardian struct {
	log      *zap.Logger
	watching atomic.Int64 // runs and reigns told of

	mu          sync.Mutex
	config      Config
	certificate *Certificate
	held        map[string]legion.Stamp
	runs        map[string]string // legion by run id
	reigns      map[string]*reign // by legion
	deaths      map[string]hooks.Will
	child       *child        // nil: none just now
	dismissed   chan struct{} // closed by Dismiss
	done        chan struct{} // closed when there is no child and will be none
}

// A child is one guardian process.
type child struct {
	cmd  *exec.Cmd
	pipe *os.File // must not be closed, or be collected, while the process lives
	bad  bool     // it was killed for not listening
}

// Start starts a guardian of this process, and another one whenever it ends
// unbidden. In a program that does not call Main there is none.
func Start(c Config, log *zap.Logger) *Guardian {
	g := &Guardian{
		log: log, config: c, held: map[string]legion.Stamp{}, runs: map[string]string{},
		reigns: map[string]*reign{}, deaths: map[string]hooks.Will{},
		dismissed: make(chan struct{}), done: make(chan struct{}),
	}
	if !playable {
		close(g.done)
		return g
	}
	g.start()
	go g.supervise()
	return g
}

// PID is the guardian's process, 0 if there is none just now.
func (g *Guardian) PID() int {
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.child == nil {
		return 0
	}
	return g.child.cmd.Process.Pid
}

// Certify replaces what is sent to the voters when this process is dead.
func (g *Guardian) Certify(c Certificate) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.certificate = &c
	g.tell(frame{Certificate: &c})
}

// Begin tells of a run that must not outlive a lordship, before it is forked.
// The lordship lasts until then.
func (g *Guardian) Begin(id, legionName string, until legion.Stamp) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.runs) >= maxRuns {
		return
	}
	g.runs[id] = legionName
	g.count()
	g.held[legionName] = until
	g.tell(frame{Began: &run{id, legionName}, Held: []holding{{legionName, until}}})
}

// End tells that a run has ended.
func (g *Guardian) End(id string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	of, ok := g.runs[id]
	if !ok {
		return
	}
	delete(g.runs, id)
	g.count()
	g.tell(frame{Ended: id, Held: g.unheld(of)})
}

// Reign tells of a reign whose lord hooks begin, and which lasts until then.
func (g *Guardian) Reign(unlord hooks.Will, until legion.Stamp) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	of := unlord.Call.Legion
	g.reigns[of] = &reign{Will: unlord}
	g.count()
	g.held[of] = until
	g.tell(frame{Reign: &unlord, Held: []holding{{of, until}}})
}

// Leave tells that the agent calls the unlord hooks of a reign. Only one that
// is lost is the agent's alone from then on: any other may still run out.
func (g *Guardian) Leave(of string, lost bool) {
	if g == nil || !lost {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.reigns[of]; r != nil {
		r.leaving = true
		g.tell(frame{Leaving: of})
	}
}

// Left tells that the unlord hooks of a reign have ended.
func (g *Guardian) Left(of string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.reigns, of)
	g.count()
	g.tell(frame{Left: of, Held: g.unheld(of)})
}

// Mourn tells the death hooks of a legion; without any it has none any more.
func (g *Guardian) Mourn(death hooks.Will) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deaths[death.Call.Legion] = death
	if len(death.Hooks) == 0 {
		delete(g.deaths, death.Call.Legion)
	}
	g.tell(frame{Mourn: &death})
}

func (g *Guardian) count() { g.watching.Store(int64(len(g.runs) + len(g.reigns))) }

// unheld forgets a lordship that nothing depends on any more, and returns the
// word for that.
func (g *Guardian) unheld(of string) []holding {
	if g.reigns[of] != nil || slices.Contains(slices.Collect(maps.Values(g.runs)), of) {
		return nil
	}
	delete(g.held, of)
	return []holding{{Legion: of}}
}

// Hold tells until when the lordships last that runs or hooks depend on. until
// is asked for each, and says false for one that is let go.
func (g *Guardian) Hold(until func(legionName string) (legion.Stamp, bool)) {
	if g == nil || g.watching.Load() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var news []holding
	for of, old := range g.held {
		s, ok := until(of)
		if !ok {
			s = legion.Stamp{}
		}
		if s != old {
			g.held[of] = s
			news = append(news, holding{of, s})
		}
	}
	switch {
	case len(news) == 0:
	case len(news) == len(g.held) && alike(news):
		g.tell(frame{AllHeld: news[0].Until})
	default:
		g.tell(frame{Held: news})
	}
}

// alike reports whether all last equally long: one beat renews them all.
func alike(hs []holding) bool {
	for _, h := range hs {
		if h.Until != hs[0].Until || h.Until == (legion.Stamp{}) {
			return false
		}
	}
	return true
}

// Dismiss has the guardian end without doing anything, and returns when it is
// gone.
func (g *Guardian) Dismiss() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	close(g.dismissed)
	g.tell(frame{Dismissed: true})
	g.mu.Unlock()
	limit := time.NewTimer(dismissTimeout)
	defer limit.Stop()
	select {
	case <-g.done:
		return nil
	case <-limit.C:
	}
	g.mu.Lock()
	if g.child != nil {
		_ = g.child.cmd.Process.Kill() // fails only if it is gone
	}
	g.mu.Unlock()
	<-g.done
	return errors.New("it did not go by itself")
}

// tell writes to the guardian. One that does not listen is killed, and
// replaced by supervise. g.mu is held.
func (g *Guardian) tell(f frame) {
	if g.child == nil || g.child.bad {
		return
	}
	b, err := f.encode()
	if err == nil {
		if err = g.child.pipe.SetWriteDeadline(time.Now().Add(writeTimeout)); err == nil {
			_, err = g.child.pipe.Write(b)
		}
	}
	if err != nil {
		g.child.bad = true // half a frame may be in the pipe
		g.log.Warn("the guardian does not listen; killing it", zap.Error(err))
		_ = g.child.cmd.Process.Kill()
	}
}

// start starts a guardian and tells it everything.
func (g *Guardian) start() {
	c, err := spawn()
	if err != nil {
		g.log.Warn("no guardian: a crash of the agent costs a lease", zap.Error(err))
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.child = c
	g.tell(frame{Oath: &g.config, Certificate: g.certificate})
	var all []holding
	for of, until := range g.held {
		all = append(all, holding{of, until})
	}
	if len(all) > 0 {
		g.tell(frame{Held: all})
	}
	for id, of := range g.runs {
		g.tell(frame{Began: &run{id, of}})
	}
	for of, r := range g.reigns {
		f := frame{Reign: &r.Will}
		if r.leaving {
			f.Leaving = of
		}
		g.tell(f)
	}
	for _, w := range g.deaths {
		g.tell(frame{Mourn: &w})
	}
	select {
	case <-g.dismissed:
		g.tell(frame{Dismissed: true})
	default:
	}
}

func spawn() (*child, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start guardian: %w", err)
	}
	// The binary that runs, whatever is in its place by now. Its environment
	// has nothing by which a run is known.
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{os.Args[0], Verb}, Dir: "/",
		Env: []string{"GOMAXPROCS=1"}, Stdin: r, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	for _, name := range []string{"JOURNAL_STREAM", "TZ"} { // the log's
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("start guardian: %w", err)
	}
	return &child{cmd: cmd, pipe: w}, nil
}

// supervise waits for guardians and starts others until one is dismissed.
func (g *Guardian) supervise() {
	defer close(g.done)
	for pause := restartPause; ; pause = min(2*pause, maxRestartPause) {
		born := time.Now()
		g.mu.Lock()
		c := g.child
		g.mu.Unlock()
		if c != nil {
			err := c.cmd.Wait()
			g.mu.Lock()
			g.child = nil
			c.pipe.Close() // only now: its end is the agent's death
			g.mu.Unlock()
			if time.Since(born) > maxRestartPause {
				pause = restartPause
			}
			select {
			case <-g.dismissed:
				return
			default:
				g.log.Warn("the guardian ended; starting another one", zap.Error(err))
			}
		}
		select {
		case <-g.dismissed:
			return
		case <-time.After(pause):
		}
		g.start()
	}
}
