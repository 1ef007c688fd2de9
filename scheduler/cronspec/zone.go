package cronspec

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
	_ "time/tzdata" // so that a host without zoneinfo knows every zone
)

const (
	// No offset from UTC ever was larger; labels of two periods cannot be
	// further apart than twice this.
	maxOffset = 26 * hourSeconds

	// A slot further away than this is never: two rules that keep missing each
	// other (a clock time that only ever falls into gaps) must not loop.
	horizon = 100 * 366 * daySeconds

	// Instants outside these years are not scheduled. The earliest is the zero time.Time.
	earliest = -62135596800 // 0001-01-01
	latest   = 253402300799 // 9999-12-31

	past, future = math.MinInt64 / 4, math.MaxInt64 / 4

	// A zone remembers one period for each of 16 stretches of 97 days, four
	// years, and then the next four in the same places.
	memory, stretch = 16, 23 // slots, log2 seconds
)

// A period is a stretch of real time [start, end) with one offset from UTC.
type period struct {
	start, end, offset int64
	passed             label // the highest label shown before start
}

// A zone finds periods, and remembers them: nearly all questions are about the
// next year or two. It is safe for concurrent use; schedules of one zone share it.
type zone struct {
	location *time.Location
	known    [memory]atomic.Pointer[period]
}

func (z *zone) at(instant int64) *period {
	known := &z.known[uint64(instant)>>stretch%memory]
	if p := known.Load(); p != nil && p.start <= instant && instant < p.end {
		return p
	}
	p := z.lookup(instant)
	at := p
	for at.start != past {
		at = z.lookup(at.start - 1)
		p.passed = max(p.passed, at.end-1+at.offset)
		if at.start < p.start-2*maxOffset {
			break // what an older period showed is lower than what the last one did
		}
	}
	known.Store(p)
	return p
}

func (z *zone) lookup(instant int64) *period {
	t := time.Unix(instant, 0).In(z.location)
	p := &period{start: past, end: future, passed: past}
	_, offset := t.Zone()
	p.offset = int64(offset)
	start, end := t.ZoneBounds()
	if !start.IsZero() {
		p.start = start.Unix()
	}
	if !end.IsZero() {
		p.end = end.Unix()
	}
	if instant < p.start || instant >= p.end {
		// Beyond its table ZoneBounds takes every year for 365 days (Go 1.26),
		// so the last day of a leap year lies in no period. Make it one.
		p.start = floorDiv(instant, daySeconds) * daySeconds
		p.end = p.start + daySeconds
	}
	return p
}

// zones holds one zone per IANA name, so that a million jobs share a few
// hundred of them. Only names that exist get in, which bounds it.
var zones = struct {
	sync.Mutex
	byName     map[string]*zone
	byLocation map[*time.Location]*zone
}{
	byName:     map[string]*zone{"UTC": utc},
	byLocation: map[*time.Location]*zone{time.UTC: utc},
}

var utc = &zone{location: time.UTC}

// LoadLocation is time.LoadLocation with one *time.Location per name: loading
// a zone again costs a map lookup and no memory. It refuses the names that
// mean something else on every host.
func LoadLocation(name string) (*time.Location, error) {
	z, err := loadZone(name)
	if err != nil {
		return nil, err
	}
	return z.location, nil
}

func loadZone(name string) (*zone, error) {
	zones.Lock()
	defer zones.Unlock()
	if z := zones.byName[name]; z != nil {
		return z, nil
	}
	switch name {
	case "", "Local", "localtime", "posixrules":
		return nil, fmt.Errorf("load time zone %q: not an IANA name", name)
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("load time zone %q: not known", name)
	}
	z := &zone{location: location}
	zones.byName[name], zones.byLocation[location] = z, z
	return z, nil
}

// zoneOf shares the zone of a location that came from LoadLocation; others get their own.
func zoneOf(location *time.Location) *zone {
	if location == nil {
		return utc
	}
	zones.Lock()
	defer zones.Unlock()
	if z := zones.byLocation[location]; z != nil {
		return z
	}
	return &zone{location: location}
}

// next is the first instant after instant at which the schedule fires.
//
// A wildcard schedule fires at every instant whose label matches. A fixed one
// passes every label once: at the instant at which the wall clock first shows
// it or jumps over it. So what a gap swallows fires at the first instant after
// the gap, several slots as one, and the second pass through a fold is silent.
func (c *wallClock) next(instant int64) (int64, bool) {
	from := instant + 1
	for from-instant < horizon {
		p := c.zone.at(from)
		label := from + p.offset
		if c.fixed && (label <= p.passed || from == p.start && c.dst == dstCron) {
			label = p.passed + 1
		}
		match, ok := c.calendar.next(label)
		if !ok {
			return 0, false
		}
		if at := max(match-p.offset, from); at < p.end {
			return at, at <= latest
		}
		// Nothing in this period. No label before match is of any use, so a
		// match far away need not be reached period by period, unless labels
		// from before this search may still come again after the period.
		if far := match - maxOffset - hourSeconds; far > p.end && p.end-from > 3*maxOffset {
			from = far
		} else {
			from = p.end
		}
	}
	return 0, false
}
