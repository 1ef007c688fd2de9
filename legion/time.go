package legion

import "time"

// A Now is one reading of a node's clocks.
type Now struct {
	// Boot is CLOCK_BOOTTIME, which counts suspend, and Raw is
	// CLOCK_MONOTONIC_RAW, which NTP does not slew. Neither goes back.
	Boot, Raw time.Duration
	// Wall is the time of day. It numbers the first term of a cluster, dates
	// writes and is shown to people; no decision about leases looks at it.
	Wall time.Time
}

// A Stamp is a moment on this node's own clocks. Stamps of different nodes
// are never compared.
type Stamp struct{ Boot, Raw time.Duration }

// Stamp returns the moment of the reading.
func (n Now) Stamp() Stamp { return Stamp{n.Boot, n.Raw} }

// held returns how much of a lease a holder must count as used since s: the
// larger elapsed time of the two clocks.
func (n Now) held(s Stamp) time.Duration { return max(n.Boot-s.Boot, n.Raw-s.Raw) }

// since returns how much time a voter may be sure has passed since s: the
// smaller elapsed time of the two clocks.
func (n Now) since(s Stamp) time.Duration { return min(n.Boot-s.Boot, n.Raw-s.Raw) }

// sooner returns the one of two moments to come that comes first.
func (n Now) sooner(a, b Stamp) Stamp {
	if n.held(a) > n.held(b) {
		return a
	}
	return b
}

// add returns the moment d after s.
func (s Stamp) add(d time.Duration) Stamp { return Stamp{s.Boot + d, s.Raw + d} }

const (
	// holderShare is how much of a lease its holder uses: at most
	// (1-r)/(1+r) = 0.818 for clock rates within r = 10 % of each other.
	// Less costs time to fail over, more costs safety.
	holderShare = 0.8
	// restartShare is how much of a lease a recovered grant blocks others:
	// at least (1+r)/(1-r) = 1.222, since the holder may have been told of
	// its renewal by a clock that runs slower than this one.
	restartShare = 1.25
)

func share(d time.Duration, f float64) time.Duration { return time.Duration(float64(d) * f) }
