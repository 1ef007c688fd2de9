package gossip

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

// Errors of this package, to be told apart with errors.Is.
var (
	// ErrNameTaken: a live, older node of this name answers at another address.
	ErrNameTaken = errors.New("name is taken by a live node")
	// ErrUnknown: no live node of this name is known.
	ErrUnknown = errors.New("no such node")
	// ErrFull: a bounded queue is full; the message was dropped.
	ErrFull = errors.New("queue is full")
	// ErrTooLarge: the message exceeds MaxMessage.
	ErrTooLarge = errors.New("message is too large")
	// ErrStopped: the node is stopped or stopping.
	ErrStopped = errors.New("gossip is stopped")
)

// Config is what Start needs. Every callback may be nil; none is called after
// Stop has returned, and none may call Stop. They run on the goroutines that
// read the network, and so must return quickly.
type Config struct {
	Name        string // unique in the cluster
	Instance    string // of the state directory
	Incarnation string // of this start

	// Bind is host:port to listen on, TCP and UDP; the host is an IP address,
	// port 0 lets the kernel choose one (see Node.Addr). Advertise is what
	// others are told, host or host:port; default: the bound address, or for an
	// unspecified one the address that faces the first peer.
	Bind, Advertise string

	// Join lists peers as host:port or host (then this node's own port). Names
	// are resolved again at each attempt. This node itself may be among them.
	// "mdns" is whoever answers to multicast DNS on this host's links.
	Join []string

	// Keys are 16, 24 or 32 bytes each. The first encrypts, all decrypt.
	// Without keys only loopback addresses are accepted, unless Insecure.
	Keys     [][]byte
	Insecure bool

	// WAN uses memberlist's slower timings (probe 5 s instead of 1 s).
	WAN bool
	// ProbeInterval overrides how often a member is probed: detection takes
	// about 5 of them. 0 means 1 s, or 5 s with WAN.
	ProbeInterval time.Duration
	// RejoinInterval is how often missing peers are tried. Less finds them
	// sooner after a partition, at one TCP connection per peer and round.
	// 0 means 10 s.
	RejoinInterval time.Duration

	Log *zap.Logger // nil: silent

	// Deliver takes a message sent to this node; it owns msg.
	Deliver func(msg []byte)
	// Notice takes a message sent for another node (see Notice), which it owns.
	// It calls receipt, now or later, when there is no need to send it again.
	Notice func(msg []byte, receipt func())
	// State says what this node announces, MaxState bytes at most.
	State func() []byte
	// Merge takes another node's newest announcement; it owns state.
	Merge func(state []byte)
	// Member is told of other nodes coming and going, one event at a time.
	// What came and went while it was busy may be left out.
	Member func(Event)
	// Conflict says that an older live node of this name answers at addr.
	// This node should withdraw. It is repeated while the conflict lasts, and
	// called with an empty addr when it is over.
	Conflict func(addr string)
	// Serve answers a question from another node (see Call), or from this one.
	// It is called concurrently, at most maxServing times, and must return when
	// ctx ends.
	Serve func(ctx context.Context, from string, question []byte) []byte

	tune   func(*memberlist.Config)                                              // for tests
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error) // for tests; nil: the host's resolver
}

// Kind of an Event.
type Kind uint8

const (
	Up     Kind = 1 + iota // a node, or a new incarnation of it, is there
	Update                 // the same incarnation has another address
	Down                   // it said goodbye, or is thought to have failed
)

func (k Kind) String() string {
	switch k {
	case Up:
		return "up"
	case Update:
		return "update"
	case Down:
		return "down"
	}
	return "unknown"
}

// Member is a live node, as far as this one knows.
type Member struct {
	Name, Addr, Instance, Incarnation string // Addr is ip:port
}

// Event is one change of the membership. It is a copy.
type Event struct {
	Kind Kind
	Member
	Left bool // Down only: its goodbye was heard (it may get lost)
}

// Stats counts since Start.
type Stats struct {
	Members         int    // live nodes, this one included
	PacketsSent     uint64 // UDP, memberlist's own included
	PacketsReceived uint64
	BytesSent       uint64 // UDP
	BytesReceived   uint64 // UDP
	Refused         uint64 // packets and streams that memberlist did not accept: wrong key, junk
	Junk            uint64 // user messages that did not decode
	Dropped         uint64 // messages lost to a full queue or a failed connection
}
