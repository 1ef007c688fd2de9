package measure

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// A verdict is what the reigns of one legion say.
type verdict struct {
	reigns  int           // of the legion that is measured
	breach  string        // of P1 or P7; empty: none
	closest time.Duration // between the end of a reign and the begin of the next; negative: an overlap
}

// between is closest as text; nothing if there was one reign.
func (v verdict) between() string {
	if v.closest == math.MaxInt64 {
		return "-"
	}
	return ms(v.closest)
}

// judge looks at the reigns of each legion: no two at once, and terms that grow.
func judge(all []*reign) verdict {
	v := verdict{closest: math.MaxInt64}
	var breaches []string
	byLegion := map[string][]*reign{}
	for _, r := range all {
		byLegion[r.legion] = append(byLegion[r.legion], r)
	}
	v.reigns = len(byLegion[legion])
	for _, reigns := range byLegion {
		slices.SortFunc(reigns, func(a, b *reign) int { return cmp.Compare(a.begin, b.begin) })
		for i := 1; i < len(reigns); i++ {
			next := reigns[i]
			if last := reigns[i-1]; next.term <= last.term {
				breaches = append(breaches, fmt.Sprintf("P7: %v follows %v", next, last))
			}
			for _, r := range reigns[:i] {
				gap := next.begin - r.end
				if r.end == 0 {
					gap = r.begin - next.begin // it lasts
				}
				v.closest = min(v.closest, gap)
				if gap < 0 {
					breaches = append(breaches, fmt.Sprintf("P1: %v and %v", r, next))
				}
			}
		}
	}
	slices.Sort(breaches)
	v.breach = strings.Join(breaches, "; ")
	return v
}

func (r *reign) String() string {
	end := "now"
	if r.end > 0 {
		end = fmt.Sprintf("%.6f", r.end.Seconds())
	}
	return fmt.Sprintf("%s lord of %s in term %d from %.6f to %s", r.node, r.legion, r.term, r.begin.Seconds(), end)
}

// The judge must be able to find somebody guilty.
func TestJudge(t *testing.T) {
	at := func(node string, term uint64, begin, end time.Duration) *reign {
		return &reign{node: node, legion: legion, term: term, begin: begin * time.Second, end: end * time.Second}
	}
	for _, tt := range []struct {
		name    string
		reigns  []*reign
		breach  string
		closest time.Duration
	}{
		{"one after the other", []*reign{at("b", 2, 15, 0), at("a", 1, 10, 12)}, "", 3 * time.Second},
		{"at once", []*reign{at("a", 1, 10, 16), at("b", 2, 15, 20)}, "P1", -time.Second},
		{"the first one lasts", []*reign{at("a", 1, 10, 0), at("b", 2, 15, 20)}, "P1", -5 * time.Second},
		{"inside of an older one", []*reign{at("a", 1, 10, 30), at("b", 2, 31, 32), at("c", 3, 29, 30)}, "P1", -time.Second},
		{"a term that does not grow", []*reign{at("a", 2, 10, 12), at("b", 2, 15, 20)}, "P7", 3 * time.Second},
	} {
		v := judge(tt.reigns)
		if !strings.Contains(v.breach, tt.breach) || (v.breach == "") != (tt.breach == "") || v.closest != tt.closest {
			t.Errorf("%s: %+v, want %q, %v", tt.name, v, tt.breach, tt.closest)
		}
	}
}
