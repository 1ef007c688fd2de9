package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

const (
	stepDownFor  = time.Minute         // a lord stays away, unless told for how long
	stepDownLong = 30 * 24 * time.Hour // at most
	moveWait     = 40 * time.Second    // for a lordship to move, hooks and all
	moveLook     = 10 * time.Millisecond
	ordersKey    = "orders" // among the ledger's values
)

// orders are what an administrator told this node at run time. They are on
// disk before they count, and hold until they are taken back.
type orders struct {
	Drained bool                 `json:"drained,omitempty"`
	Valor   map[string]int       `json:"valor,omitempty"` // by legion
	Away    map[string]time.Time `json:"away,omitempty"`  // by legion: stepped down, and ranks last until then
}

func (o orders) clone() orders {
	o.Valor, o.Away = maps.Clone(o.Valor), maps.Clone(o.Away)
	if o.Valor == nil {
		o.Valor = map[string]int{}
	}
	if o.Away == nil {
		o.Away = map[string]time.Time{}
	}
	return o
}

// part applies the orders to the node's part in a legion, as configured.
func (o orders) part(name string, p *legion.Legion, now time.Time) {
	if v, ok := o.Valor[name]; ok {
		p.Told = fmt.Sprintf("valor set by hand; the configuration says %d", p.Valor)
		p.Valor = v
	}
	if until, ok := o.Away[name]; ok && now.Before(until) {
		p.Last = true
		p.Told = strings.TrimPrefix(p.Told+"; ranks last until "+until.Format(time.DateTime)+": it stepped down", "; ")
	}
	if o.Drained {
		p.Away = "drained"
	}
}

// loadOrders reads what was told before the agent started.
func (d *Daemon) loadOrders() error {
	st, err := d.store.Load()
	if err != nil {
		return err
	}
	if b := st.Values[ordersKey]; b != nil {
		if err := json.Unmarshal(b, &d.orders); err != nil {
			return fmt.Errorf("decode what was told by hand: %w", err)
		}
	}
	if d.orders.Drained {
		d.log.Warn("this node is drained; legion-cron undrain ends that", logging.Event("drained"))
	}
	return nil
}

// order changes the orders, durably, and tells the core. Where the disk takes
// longer than ctx it may be done all the same, and what is on disk counts.
func (d *Daemon) order(ctx context.Context, change func(*orders)) error {
	late := control.Unavailable("it may be done all the same: legion-cron status says; is its disk full?", "what was told by hand is not written yet")
	select {
	case d.ordering <- struct{}{}:
	case <-ctx.Done(): // the one before is not
		return late
	}
	d.mu.Lock()
	next := d.orders.clone()
	d.mu.Unlock()
	change(&next)
	b, err := json.Marshal(next)
	if err != nil {
		<-d.ordering
		return fmt.Errorf("encode what was told by hand: %w", err)
	}
	written := make(chan error, 1)
	d.disk.put(ledger.Writes{Values: map[string][]byte{ordersKey: b}}, func(err error) {
		if err == nil {
			d.obey(next)
		}
		<-d.ordering
		written <- err
	})
	select {
	case err := <-written:
		if err != nil {
			return control.Unavailable("it would be forgotten at the next start", "write what was told by hand: %v", err)
		}
		return nil
	case <-ctx.Done():
		return late
	}
}

// obey has orders count that are on disk. It does not wait.
func (d *Daemon) obey(next orders) {
	d.mu.Lock()
	d.orders = next
	d.mu.Unlock()
	d.foreman.post(slots.Drain{On: next.Drained})
	d.reconfigure()
	select {
	case d.ordered <- struct{}{}:
	default:
	}
}

// watchOrders ends those whose time has come.
func (d *Daemon) watchOrders(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now, over, wait := d.clock().Wall, []string(nil), time.Hour
		d.mu.Lock()
		for name, until := range d.orders.Away {
			if now.Before(until) {
				wait = min(wait, until.Sub(now))
			} else {
				over = append(over, name)
			}
		}
		d.mu.Unlock()
		if len(over) > 0 {
			err := d.order(ctx, func(o *orders) {
				for _, name := range over {
					delete(o.Away, name)
				}
			})
			if err != nil { // it does not count any more all the same
				d.reconfigure()
				wait = time.Minute
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-d.ordered:
		case <-timer.C:
		}
	}
}

// StepDown implements control.Marshal. It is asked of the lord.
func (b backend) StepDown(ctx context.Context, q control.StepDownQuery) (control.SteppedDown, error) {
	d := b.d
	var none control.SteppedDown
	was, ok := b.legionStatus(q.Legion)
	switch {
	case !ok:
		return none, b.unknownLegion(q.Legion)
	case was.Trusted <= 0:
		return none, control.Unavailable("try again", "%s is not lord of %s", d.name, q.Legion)
	case q.For > stepDownLong:
		return none, control.BadRequest("drain has no end", "at most %v", stepDownLong)
	case len(was.Succession) == 0:
		return none, control.Refused("legion-cron status says why; drain leaves it without one", "no other node can be lord of %s", q.Legion)
	case q.To == d.name:
		return none, control.Refused("", "%s is the lord already", q.To)
	case q.To != "" && !slices.Contains(was.Succession, q.To):
		return none, control.Refused("next in line: "+strings.Join(was.Succession, ", "), "%s cannot be lord of %s", q.To, q.Legion)
	}
	if q.For == 0 {
		q.For = stepDownFor
	}
	until := d.clock().Wall.Add(q.For)
	d.log.Info("told to step down", logging.Event("step-down"), logging.Legion(q.Legion), logging.Term(was.Term),
		zap.Duration("for", q.For), zap.String("to", q.To))
	d.protocol.post(legion.StepDown{Legion: q.Legion, To: q.To, Keep: q.For, Reason: "told to step down"})
	if !d.moved(ctx, d.patience(), func() bool { return !d.protocol.trusted(q.Legion, was.Term) }) {
		return none, control.Refused("legion-cron status says how it is", "%s is not ready to be lord of %s", q.To, q.Legion)
	}
	if err := d.order(ctx, func(o *orders) { o.Away[q.Legion] = until }); err != nil {
		return none, err
	}
	out := control.SteppedDown{Legion: q.Legion, From: d.name, Away: control.At(until)}
	d.moved(ctx, moveWait, func() bool {
		is, _ := b.legionStatus(q.Legion)
		if is.Lord == "" || is.Term <= was.Term {
			return false
		}
		out.To, out.Term = is.Lord, is.Term
		return true
	})
	if out.To == d.name {
		return none, control.Refused("legion-cron status says how it is", "nobody was ready to be lord of %s: %s reigns again", q.Legion, d.name)
	}
	return out, nil
}

// patience is how long a lord that was told to go may look for somebody who is
// ready, and some more.
func (d *Daemon) patience() time.Duration {
	if e := d.protocol.electorate(); e != nil {
		return e.Lease + time.Second
	}
	return lanLease + time.Second
}

// moved waits until done is true, false if it is not for so long.
func (d *Daemon) moved(ctx context.Context, limit time.Duration, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	look := time.NewTicker(moveLook)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return done()
		}
	}
	return true
}

func (b backend) legionStatus(name string) (legion.LegionStatus, bool) {
	for _, l := range b.d.protocol.status().Legions {
		if l.Legion == name {
			return l, true
		}
	}
	return legion.LegionStatus{}, false
}

// Drain implements control.Marshal.
func (b backend) Drain(ctx context.Context, drained, now bool) (control.Drained, error) {
	d := b.d
	if err := d.order(ctx, func(o *orders) { o.Drained = drained }); err != nil {
		return control.Drained{}, err
	}
	out := control.Drained{Node: d.name, Drained: drained}
	if !drained {
		d.log.Info("no longer drained", logging.Event("undrained"))
		return out, nil
	}
	d.log.Info("drained", logging.Event("drained"), zap.Bool("now", now))
	if now {
		for _, name := range d.lordships() {
			d.protocol.post(legion.StepDown{Legion: name, Now: true, Reason: "drained"})
		}
	}
	d.moved(ctx, moveWait, func() bool {
		out.Lordships = d.lordships()
		return len(out.Lordships) == 0
	})
	return out, nil
}

// lordships lists the legions that this node reigns over or has not let go of
// yet, but for the built-in one.
func (d *Daemon) lordships() []string {
	all := slices.Sorted(maps.Keys(d.config().Legions))
	d.protocol.mu.Lock()
	defer d.protocol.mu.Unlock()
	return slices.DeleteFunc(all, func(name string) bool {
		_, holds := d.protocol.core.HeldUntil(name)
		return !holds
	})
}

// SetValor implements control.Marshal.
func (b backend) SetValor(ctx context.Context, name string, valor *int) (control.Valor, error) {
	d := b.d
	var none control.Valor
	part, ok := d.config().Legions[name]
	switch {
	case !ok:
		return none, b.unknownLegion(name)
	case valor != nil && (*valor < 0 || *valor > config.MaxValor):
		return none, control.BadRequest("0 makes the node an arbiter", "valor %d is not between 0 and %d", *valor, config.MaxValor)
	}
	out := control.Valor{Node: d.name, Legion: name, Valor: part.Valor, Configured: part.Valor}
	err := d.order(ctx, func(o *orders) {
		if delete(o.Valor, name); valor != nil {
			o.Valor[name] = *valor
			out.Valor, out.Set = *valor, true
		}
	})
	if err != nil {
		return none, err
	}
	d.log.Info("valor told by hand", logging.Event("valor"), logging.Legion(name), zap.Int("valor", out.Valor), zap.Bool("set", out.Set))
	return out, nil
}
