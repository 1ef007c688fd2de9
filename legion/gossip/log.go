package gossip

import (
	"bytes"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Of memberlist's lines at most logBurst pass in logWindow, so that junk on the
// port cannot fill the log.
const (
	logBurst  = 20
	logWindow = 10 * time.Second
)

// logger takes memberlist's log lines to zap, at debug level. memberlist tells
// of packets it refused in no other way, so they are counted here.
type logger struct {
	zap     *zap.Logger
	refused atomic.Uint64

	mu     sync.Mutex
	window time.Time // when the current window began
	passed int
	held   int // lines held back in this window
}

func newLogger(z *zap.Logger) *logger { return &logger{zap: z} }

func (l *logger) std() *log.Logger { return log.New(l, "", 0) }

// Write takes one line: "[LEVEL] memberlist: text from=ADDR".
func (l *logger) Write(line []byte) (int, error) {
	n := len(line)
	complaint := bytes.HasPrefix(line, []byte("[ERR]")) || bytes.HasPrefix(line, []byte("[WARN]"))
	if complaint && bytes.Contains(line, []byte("from=")) {
		l.refused.Add(1)
	}
	if !l.zap.Core().Enabled(zap.DebugLevel) {
		return n, nil
	}
	held, pass := l.admit(time.Now())
	if held > 0 {
		l.zap.Debug("memberlist lines held back", zap.Int("lines", held))
	}
	if pass {
		l.zap.Debug(string(bytes.TrimSpace(line)))
	}
	return n, nil
}

// admit says whether one more line may pass at now, and how many were held
// back in a window that has just ended.
func (l *logger) admit(now time.Time) (held int, pass bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.window) >= logWindow {
		held = l.held
		l.window, l.passed, l.held = now, 0, 0
	}
	if l.passed >= logBurst {
		l.held++
		return held, false
	}
	l.passed++
	return held, true
}
