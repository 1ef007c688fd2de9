package gossip

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// aloneRounds is after how many rounds that reach nobody it is said: nodes
	// that are started together need not find each other in the first.
	aloneRounds = 2
	// aloneAgain is how often it is repeated while it lasts.
	aloneAgain = 5 * time.Minute
	// maxTold is how many peers are named.
	maxTold = 8
)

// A round is what became of one attempt to reach all peers that are missing.
type round struct {
	peers []string // those configured, without this node

	mu      sync.Mutex
	reached bool  // somebody
	missing bool  // one of them is still no member
	err     error // the last; nil: there was none
}

func (r *round) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *round) joined(live bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached, r.missing = true, r.missing || !live
}

// alone says whether there are peers and none was reached.
func (r *round) alone() bool { return len(r.peers) > 0 && !r.reached }

func (r *round) String() string {
	slices.Sort(r.peers)
	text := strings.Join(r.peers[:min(len(r.peers), maxTold)], ", ")
	if more := len(r.peers) - maxTold; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if r.err != nil {
		text += ": " + r.err.Error()
	}
	return text
}

// A solitude is how long no peer has been reached, and what was said of it.
type solitude struct {
	rounds int       // in a row
	told   time.Time // when it was said last; zero: not yet
}

// next takes one more round into account: it is to be said that this node is
// alone, or that it no longer is, or nothing.
func (s *solitude) next(now time.Time, alone bool) (says, over bool) {
	if !alone {
		over = !s.told.IsZero()
		*s = solitude{}
		return false, over
	}
	s.rounds++
	if s.rounds < aloneRounds || !s.told.IsZero() && now.Sub(s.told) < aloneAgain {
		return false, false
	}
	s.told = now
	return true, false
}

func (s *solitude) log(log *zap.Logger, now time.Time, r *round) {
	switch says, over := s.next(now, r.alone()); {
	case says:
		log.Warn("no peer can be reached, of "+r.String(), zap.String("event", "alone"))
	case over:
		log.Info("a peer is reached", zap.String("event", "not-alone"))
	}
}

// joinError is the cause of an error of memberlist, in one line.
func joinError(addr string, err error) error {
	var all interface{ WrappedErrors() []error }
	if errors.As(err, &all) && len(all.WrappedErrors()) > 0 {
		err = all.WrappedErrors()[0]
	}
	text := strings.TrimPrefix(err.Error(), "failed to join "+addr+": ")
	if !strings.Contains(text, addr) {
		text = addr + ": " + text
	}
	return errors.New(strings.Join(strings.Fields(text), " "))
}
