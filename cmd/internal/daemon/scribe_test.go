package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// A record that no voter would take keeps none from being sent that comes after it.
func TestScribeGoesOn(t *testing.T) {
	p := newProtocol(legion.Config{Name: "a"}, legion.State{}, systemClock, nil, nil, zap.NewNop())
	s := newScribe(nil, p, zap.NewNop())
	s.lone = func() bool { return false }
	ctx, cancel := context.WithCancel(t.Context())
	go s.run(ctx)
	good := jobs.Record{Slot: jobs.Slot{Legion: "g", Job: "j", At: time.Unix(1e9, 0)}, Attempt: 1, Run: "good", State: jobs.Failed}
	bad := good
	bad.Run, bad.Signal = "bad", strings.Repeat("x", jobs.MaxName+1)
	s.publish(bad, good)
	select {
	case <-p.events.ready:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is sent")
	}
	asked, ok := p.events.take()[0].(legion.Propose)
	if b, err := jobs.DecodeBatch(asked.Payload); !ok || err != nil || len(b.Records) != 1 || b.Records[0].Run != "good" {
		t.Errorf("sent %+v (%v)", b, err)
	}
	p.do(legion.Wrote{ID: asked.ID, Committed: true})
	s.pending.Wait()
	cancel()
	<-s.done
}
