package sim

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// A World is one simulated cluster.
type World struct {
	Conf
	seed  uint64
	rng   *rand.Rand
	now   time.Duration // true time since the beginning
	queue queue
	order uint64
	nodes []*node
	named map[string]*node
	net   network
	check checker
	trace trace
	stops bool // hypervisors stop clocks: no lease holds, and all else must
	// ruthless: disks are lost whatever that leads to, so that a cluster may
	// never have an electorate again. It must do nothing wrong all the same.
	ruthless bool
	wishes   map[string]wish // by cluster
	wiped    bool            // some disk was lost
	jobs     []jobs.Job      // of all nodes, but for those that were reconfigured
	people   bool            // give orders
	calm     bool            // no more faults: the timings of a healthy machine
	apart    time.Duration   // wall clocks are within this of true time, unless they are set wrong
	failed   error
}

// A Conf says what a world is made of.
type Conf struct {
	Nodes       []NodeConf
	Size        int
	Fixed       bool // nobody changes the electorate
	Beat, Lease time.Duration
	Net         NetConf
	// Stall is how often a disk write takes up to StallFor.
	Stall    float64
	StallFor time.Duration
	// Compare is how often in a second two nodes' gossip compares what they
	// announce, and Heard how often an announcement arrives; 0: 0.2 and 0.9.
	Compare, Heard float64
}

// A NodeConf is one node's part.
type NodeConf struct {
	Name    string
	Vote    bool
	Legions map[string]legion.Legion
	// As is what the node calls itself, if another has that name already and
	// gossip keeps to that one: what is sent to the name goes there. Empty: Name.
	As string
}

// New returns a world in which nothing has started yet.
func New(seed uint64, conf Conf) *World {
	w := &World{Conf: conf, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), named: map[string]*node{}, wishes: map[string]wish{}}
	w.check.init()
	w.net.init(len(conf.Nodes))
	for i, nc := range conf.Nodes {
		n := &node{w: w, index: i, conf: nc, instance: w.newID(), disk: newDisk()}
		n.clock.change(0, 1, 1, false)
		w.nodes = append(w.nodes, n)
		w.named[nc.Name] = n
	}
	return w
}

// An event is something that happens at a moment of true time.
type event struct {
	at    time.Duration
	order uint64 // events of one moment happen in the order they were asked for
	do    func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// in does something after d of true time.
func (w *World) in(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, event{w.now + max(d, 0), w.order, do})
}

// Run lets time pass until it is at, or something is wrong.
func (w *World) Run(at time.Duration) error {
	for w.failed == nil && len(w.queue) > 0 && w.queue[0].at <= at {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	if w.failed == nil {
		w.now = at
	}
	return w.failed
}

// fail ends the run; the first failure counts.
func (w *World) fail(format string, args ...any) {
	if w.failed == nil {
		w.failed = fmt.Errorf("at %v: "+format, append([]any{w.now}, args...)...)
		w.line("FAILED %v", w.failed)
	}
}

// between returns a random duration.
func (w *World) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)))
}

// maybe is true with probability p.
func (w *World) maybe(p float64) bool { return w.rng.Float64() < p }

func (w *World) newID() legion.ID {
	var id legion.ID
	binary.BigEndian.PutUint64(id[:8], w.rng.Uint64())
	binary.BigEndian.PutUint64(id[8:], w.rng.Uint64())
	return id
}

// A trace is what happened: a hash of all of it, and lines to read if asked for.
type trace struct {
	hash  uint64
	steps int
	lines func(at time.Duration, line string)
	watch func(n *node, a legion.Action) // every action of every core
}

// mark adds to the hash.
func (w *World) mark(vs ...uint64) {
	h := fnv.New64a()
	var b [8]byte
	for _, v := range append(vs, w.trace.hash, uint64(w.now)) {
		binary.LittleEndian.PutUint64(b[:], v)
		h.Write(b[:])
	}
	w.trace.hash = h.Sum64()
}

// line adds a line, if anybody reads them.
func (w *World) line(format string, args ...any) {
	if w.trace.lines != nil {
		w.trace.lines(w.now, fmt.Sprintf(format, args...))
	}
}

// Trace has every line of what happens handed to f.
func (w *World) Trace(f func(at time.Duration, line string)) { w.trace.lines = f }

// Hash returns the hash of all that happened so far.
func (w *World) Hash() uint64 { return w.trace.hash }

// Steps returns how many steps the cores have taken.
func (w *World) Steps() int { return w.trace.steps }
