package daemon

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/checks"
	"github.com/legion-cron/legion-cron/checks/probe"
	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// While the disk is full nobody waits for an order longer than they like; and one
// that is written when there is room again counts at once, and not only after the
// next start.
func TestOrderOnAFullDisk(t *testing.T) {
	d, err := New(&config.Config{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.disk = newDisk(&faulty{}, zap.NewNop(), func(string) {}) // nobody runs it: it is full
	d.disk.wrote = func([]jobs.Record) {}
	d.foreman = newForeman(slots.Config{}, d.clock())
	d.protocol = newProtocol(legion.Config{Name: "a"}, legion.State{}, d.clock, nil, d.disk, zap.NewNop())
	d.watch = probe.NewWatch("a", func([]checks.Change) {})
	ctx, cancel := context.WithCancelCause(t.Context())
	first := make(chan error)
	go func() { first <- d.order(ctx, func(o *orders) { o.Drained = true }) }()
	<-d.disk.queue.ready
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := d.order(gone, func(o *orders) { o.Valor["g"] = 7 }); err == nil {
		t.Error("an order was given while another one is written")
	}
	cancel(errors.New("impatient"))
	if err := <-first; err == nil || d.orders.Drained {
		t.Errorf("it is obeyed before it is on disk (%v)", err)
	}
	d.disk.flush(t.Context(), d.disk.queue.take())
	if !d.orders.Drained {
		t.Error("what is on disk does not count before the next start")
	}
}
