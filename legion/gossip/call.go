package gossip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits of calls.
const (
	maxServing    = 32               // questions answered at a time
	maxCalls      = 256              // questions asked at a time
	maxTickets    = 1024             // given and not used
	ticketLife    = 30 * time.Second // unused
	askAgain      = time.Second      // for a ticket
	callTime      = 30 * time.Second // if the caller's context has no deadline
	maxCallTime   = 10 * time.Minute // a question is served no longer
	maxCallError  = 512              // bytes of an answer's error text
	maxCallFrames = 2                // ticket and answer: all that one call can receive
)

// ErrGone: the called node left, or failed, before it answered.
var ErrGone = errors.New("node is gone")

// calls are the questions this node asked and the tickets it gave.
//
//	caller                 callee
//	  | -- ask {id} ------->  |   a recorded ask yields a ticket nobody uses
//	  | <- ticket {id} -----  |   a recorded ticket has an id nobody waits for
//	  | -- question {ticket} >|   a recorded question has a ticket that is used
//	  | <- answer {id} -----  |
type calls struct {
	mu      sync.Mutex
	waiting map[uint64]pending
	tickets map[uint64]ticket
	serving chan struct{} // a semaphore
}

type pending struct {
	peer   string
	result chan result // never blocks: maxCallFrames fit, later ones are dropped
}

type result struct {
	kind kind
	call call
	err  error
}

type ticket struct {
	from string
	id   uint64
	ends time.Time
}

func newCalls() *calls {
	return &calls{
		waiting: make(map[uint64]pending), tickets: make(map[uint64]ticket),
		serving: make(chan struct{}, maxServing),
	}
}

// Call asks a node, this one or another, and returns its answer. Both may have
// MaxMessage bytes. The question was served at most once; if there is an
// error, perhaps so. Without a deadline in ctx it takes callTime at most.
func (n *Node) Call(ctx context.Context, name string, question []byte) ([]byte, error) {
	answer, err := n.call(ctx, name, question)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", name, err)
	}
	return answer, nil
}

func (n *Node) call(ctx context.Context, name string, question []byte) ([]byte, error) {
	if len(question) > MaxMessage {
		return nil, ErrTooLarge
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTime)
		defer cancel()
	}
	if name == n.cfg.Name {
		return n.callSelf(ctx, question)
	}
	id, result, granted, err := n.ticket(ctx, name)
	if err != nil {
		return nil, err
	}
	defer n.calls.done(id)
	deadline, _ := ctx.Deadline()
	err = n.sendCall(name, kindQuestion, call{
		ID: id, From: n.cfg.Name, Ticket: granted.Ticket, Within: time.Until(deadline), Body: question,
	})
	if err != nil {
		return nil, err
	}
	answer, err := n.await(ctx, result, kindAnswer)
	return answer.Body, err
}

// ticket asks for a ticket until there is one: that no answer came says little, the
// node may just not have heard yet that this one is back, and asking does nothing.
// The caller calls done for the id.
func (n *Node) ticket(ctx context.Context, name string) (id uint64, result <-chan result, granted call, err error) {
	for {
		id = nonce()
		if result, err = n.calls.expect(id, name); err != nil {
			return 0, nil, call{}, err
		}
		if err = n.sendCall(name, kindAsk, call{ID: id, From: n.cfg.Name, To: name}); err == nil {
			once, cancel := context.WithTimeout(ctx, askAgain)
			granted, err = n.await(once, result, kindTicket)
			cancel()
		}
		if err == nil {
			return id, result, granted, nil
		}
		n.calls.done(id)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return 0, nil, call{}, err
		}
	}
}

func (n *Node) callSelf(ctx context.Context, question []byte) ([]byte, error) {
	if n.cfg.Serve == nil {
		return nil, errors.New("questions are not answered here")
	}
	answer := n.cfg.Serve(ctx, n.cfg.Name, question)
	if len(answer) > MaxMessage {
		return nil, ErrTooLarge
	}
	return answer, ctx.Err()
}

func (n *Node) await(ctx context.Context, results <-chan result, want kind) (call, error) {
	for {
		select {
		case r := <-results:
			switch {
			case r.err != nil:
				return call{}, r.err
			case r.call.Error != "":
				return call{}, errors.New(r.call.Error)
			case r.kind == want:
				return r.call, nil
			} // else out of turn
		case <-ctx.Done():
			return call{}, ctx.Err()
		case <-n.ctx.Done():
			return call{}, ErrStopped
		}
	}
}

func (n *Node) sendCall(name string, k kind, c call) error {
	msg, err := pack(k, c)
	if err != nil {
		return err
	}
	return n.sendStream(name, msg)
}

func (c *calls) expect(id uint64, peer string) (<-chan result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) >= maxCalls {
		return nil, ErrFull
	}
	p := pending{peer: peer, result: make(chan result, maxCallFrames)}
	c.waiting[id] = p
	return p.result, nil
}

func (c *calls) done(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *calls) resolve(id uint64, r result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.waiting[id]; ok {
		select {
		case p.result <- r:
		default: // more than a call can receive
		}
	}
}

// gone fails the calls to a node that is no longer there.
func (c *calls) gone(peer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.waiting {
		if p.peer == peer {
			select {
			case p.result <- result{err: ErrGone}:
			default:
			}
		}
	}
}

func (n *Node) heardTicket(c call) { n.calls.resolve(c.ID, result{kind: kindTicket, call: c}) }
func (n *Node) heardAnswer(c call) { n.calls.resolve(c.ID, result{kind: kindAnswer, call: c}) }

// giveTicket lets somebody ask, but not a node that had this address before.
func (n *Node) giveTicket(c call) {
	if c.To != "" && c.To != n.cfg.Name {
		n.reply(c.From, kindTicket, call{ID: c.ID, Error: "another node has its address: " + n.cfg.Name})
		return
	}
	n.reply(c.From, kindTicket, call{ID: c.ID, Ticket: n.calls.give(c, time.Now())})
}

func (c *calls) give(asked call, now time.Time) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tickets) >= maxTickets {
		for number, t := range c.tickets {
			if now.After(t.ends) {
				delete(c.tickets, number)
			}
		}
	}
	for number := range c.tickets {
		if len(c.tickets) < maxTickets {
			break
		}
		delete(c.tickets, number) // any one: nearly all are of recorded questions, for others are used at once
	}
	number := nonce()
	c.tickets[number] = ticket{from: asked.From, id: asked.ID, ends: now.Add(ticketLife)}
	return number
}

// redeem uses a ticket up.
func (c *calls) redeem(q call, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.tickets[q.Ticket]
	delete(c.tickets, q.Ticket)
	return ok && t.from == q.From && t.id == q.ID && !now.After(t.ends)
}

// serve answers a question on a goroutine of its own.
func (n *Node) serve(q call) {
	if !n.calls.redeem(q, time.Now()) {
		n.junk.Add(1)
		return
	}
	if n.cfg.Serve == nil {
		n.reply(q.From, kindAnswer, call{ID: q.ID, Error: "questions are not answered here"})
		return
	}
	select {
	case n.calls.serving <- struct{}{}:
	default:
		n.reply(q.From, kindAnswer, call{ID: q.ID, Error: "busy: too many questions"})
		return
	}
	started := n.spawn(func() {
		defer func() { <-n.calls.serving }()
		ctx, cancel := context.WithTimeout(n.ctx, min(max(q.Within, 0), maxCallTime))
		defer cancel()
		answer := call{ID: q.ID, Body: n.cfg.Serve(ctx, q.From, q.Body)}
		if len(answer.Body) > MaxMessage {
			answer.Body, answer.Error = nil, ErrTooLarge.Error()
		}
		n.reply(q.From, kindAnswer, answer)
	})
	if !started {
		<-n.calls.serving
	}
}

// reply sends to a caller; if it cannot be reached its call times out.
func (n *Node) reply(name string, k kind, c call) {
	if err := n.sendCall(name, k, c); err != nil {
		n.dropped.Add(1)
	}
}
