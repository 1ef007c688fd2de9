package daemon

import (
	"testing"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/legion/gossip"
)

// TestLimits: whatever may be written and told can also be sent. What is too
// large to be sent is lost in silence, and sent again for ever.
func TestLimits(t *testing.T) {
	t.Parallel()
	const around = 32 << 10 // header and framing; names are bounded
	if legion.MaxMessage != gossip.MaxMessage {
		t.Errorf("a message may have %d bytes for the protocol, %d for gossip", legion.MaxMessage, gossip.MaxMessage)
	}
	if carried := min(legion.MaxMessage, gossip.MaxMessage); jobs.MaxBatchBytes+around > carried {
		t.Errorf("a batch has up to %d bytes, a message %d", jobs.MaxBatchBytes, carried)
	}
}
