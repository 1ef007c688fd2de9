package daemon

import (
	"context"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/guardian"
	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// startGuardian starts the process that ends this incarnation if the agent is
// killed. It comes before the first run, and goes after the last.
func (d *Daemon) startGuardian() {
	d.guardian = guardian.Start(guardian.Config{
		Node: d.name, Incarnation: d.incarnation, NoCgroups: d.host.Cgroups() == "",
		LogLevel: d.cfg.Log.Level, LogFormat: d.cfg.Log.Format, HookLock: hookLock(d.cfg),
	}, d.log)
	d.onUndo("dismiss guardian", d.guardian.Dismiss)
}

// certify keeps the guardian's certificate as it must be: sealed anew when the
// electorate, an address or the keys may have changed.
func (d *Daemon) certify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.uncertified:
		}
		if err := d.certifyOnce(); err != nil {
			d.log.Warn("seal the death certificate", zap.Error(err))
		}
	}
}

func (d *Daemon) certifyOnce() error {
	c, ok := d.protocol.certificate()
	if !ok || d.gossip == nil {
		return nil // alone, or not yet founded: nobody has to hear of it
	}
	msg, err := c.Message.Encode()
	if err != nil {
		return err
	}
	sealed := guardian.Certificate{Quorum: c.Quorum}
	for _, name := range c.Voters {
		addr := d.presence.addr(name)
		if addr == "" {
			continue // not seen since the start; its coming is news
		}
		n, err := d.gossip.Notice(msg)
		if err != nil {
			return err
		}
		sealed.Deliveries = append(sealed.Deliveries, guardian.Delivery{
			Name: name, Addr: addr, Datagram: n.Datagram, Receipt: n.Receipt,
		})
	}
	d.guardian.Certify(sealed)
	return nil
}

// recertify says that what the certificate is made of may have changed.
func (d *Daemon) recertify() {
	select {
	case d.uncertified <- struct{}{}:
	default:
	}
}

func (p *protocol) certificate() (legion.Certificate, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Certificate()
}

// dead reports whether the incarnation is known to have ended for good.
func (p *protocol) dead(incarnation string) bool {
	id, err := uuid.Parse(incarnation)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Dead(id)
}

// vouch tells the guardian, after a step, what has come of it. p.mu is held.
func (p *protocol) vouch() {
	p.guardian.Hold(p.core.HeldUntil)
	if e := p.core.Epoch(); e != p.epoch {
		p.epoch = e
		p.elected()
	}
}

// guard tells the guardian of a run that must end with the lordship it is
// begun under, before it is forked. The caller calls the result when it has ended.
func (p *protocol) guard(j jobs.Job, rec jobs.Record) (ended func()) {
	if j.OnUnlord != jobs.OnUnlordKill || rec.Slot.Legion == "" {
		return func() {}
	}
	return p.guardRun(rec.Slot.Legion, rec.Run)
}

func (p *protocol) guardRun(legionName, run string) (ended func()) {
	p.mu.Lock()
	until, _ := p.core.HeldUntil(legionName)
	p.guardian.Begin(run, legionName, until)
	p.mu.Unlock()
	return func() { p.guardian.End(run) }
}

// A warden tells the guardian of hooks.
type warden struct{ p *protocol }

func (w warden) Reign(unlord hooks.Will) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	until, _ := w.p.core.HeldUntil(unlord.Call.Legion)
	w.p.guardian.Reign(unlord, until)
}

func (w warden) Leave(legionName string, lost bool) { w.p.guardian.Leave(legionName, lost) }
func (w warden) Left(legionName string)             { w.p.guardian.Left(legionName) }
func (w warden) Mourn(death hooks.Will)             { w.p.guardian.Mourn(death) }

// runOut reports whether what this node holds of a lordship has passed.
func (p *protocol) runOut(legionName string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, held := p.core.HeldUntil(legionName)
	return !held || p.clock().Passed(until)
}

// A notice is a message that was sent for another node. Its answer goes to
// whoever sent it.
type notice struct {
	legion.Receive
	receipt func()
}

// notice takes a notice from the network; only certificates come that way.
func (p *protocol) notice(b []byte, receipt func()) {
	m, err := legion.DecodeMessage(b)
	if _, ok := m.Body.(legion.Death); err != nil || !ok {
		p.dropped.Add(1)
		return
	}
	select {
	case p.inbox <- notice{legion.Receive{Message: m}, receipt}:
	default: // it is sent again
		p.dropped.Add(1)
	}
}

// answered reports whether the action is the answer to the notice, and sends it.
func (n notice) answered(a legion.Action) bool {
	s, ok := a.(legion.Send)
	if !ok || s.Message.To != n.Message.Incarnation || s.Message.Echo != n.Message.Seq {
		return false
	}
	if _, ok := s.Message.Body.(legion.Ack); !ok {
		return false
	}
	n.receipt()
	return true
}
