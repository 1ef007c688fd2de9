package daemon

import (
	"slices"
	"strings"
	"time"
)

// tuning is set by the linker of binaries that measurements are made with
// (-X), never in one that is shipped. Its words are "untested", which leaves
// out the self-test, and "probe=12s", how often gossip looks after a member.
var tuning string

func tunedUntested() bool { return slices.Contains(strings.Fields(tuning), "untested") }

// tunedProbe is 0 unless it is set.
func tunedProbe() time.Duration {
	for word := range strings.FieldsSeq(tuning) {
		if text, ok := strings.CutPrefix(word, "probe="); ok {
			d, _ := time.ParseDuration(text)
			return d
		}
	}
	return 0
}
