package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

// A wire takes what is sent.
type wire chan legion.Message

func (w wire) Send(_ string, b []byte) error {
	m, err := legion.DecodeMessage(b)
	w <- m
	return err
}

func (wire) Announce() {}

// What a voter tells of all legions is read beside the core, and once for all
// that one voter asked meanwhile.
func TestStandings(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	store, err := ledger.Open(ledger.Config{Dir: t.TempDir()}, now)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Write(ledger.Writes{Marks: []jobs.Mark{{Legion: "g", Job: "j", Timing: "x", At: now, Term: 1}}}); err != nil {
		t.Fatal(err)
	}
	sent := make(wire, 9)
	p := newProtocol(legion.Config{Name: "a"}, legion.State{}, systemClock, store, nil, zap.NewNop())
	p.net = sent
	for i, to := range []string{"b", "c", "b", "b"} {
		p.send(legion.Send{To: to, Attach: true, Message: legion.Message{
			Header: legion.Header{From: "a", Incarnation: uuid.New(), Echo: uint64(i)}, Body: legion.Standing{},
		}})
	}
	if len(sent) > 0 {
		t.Error("the core waited for what was read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); p.runStandings(ctx) }()
	for _, echo := range []uint64{3, 1} {
		m := <-sent
		if s, ok := m.Body.(legion.Standing); !ok || m.Echo != echo || len(s.States) != 1 || s.States[0].Legion != "g" {
			t.Errorf("told %+v, in answer to %d", m.Body, m.Echo)
		}
	}
	cancel()
	<-ended
	if len(sent) > 0 {
		t.Errorf("%d more", len(sent))
	}
}
