package gossip

import (
	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

// delegate is what memberlist calls, apart from the table.
type delegate struct{ n *Node }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.EventDelegate    = (*table)(nil)
	_ memberlist.AliveDelegate    = (*table)(nil)
)

// NodeMeta says who we are; Start has checked that it fits.
func (d delegate) NodeMeta(limit int) []byte {
	if len(d.n.meta) > limit {
		return nil
	}
	return d.n.meta
}

// GetBroadcasts hands out rumours for the next packet.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.n.rumours.GetBroadcasts(overhead, limit)
}

// LocalState is our side of a push/pull.
func (d delegate) LocalState(bool) []byte {
	leave, ok := d.n.gate.enter()
	if !ok {
		return nil
	}
	defer leave()
	d.n.states.mine(d.n.body())
	buf, err := cbor.Marshal(d.n.states.all())
	if err != nil {
		d.n.log.Error("announcements left out", zap.Error(err))
		return nil
	}
	return frame(kindStates, buf)
}

// MergeRemoteState is their side of it.
func (d delegate) MergeRemoteState(buf []byte, _ bool) { d.n.receive(buf, true) }

// NotifyMsg takes a user message; msg is reused after the return.
func (d delegate) NotifyMsg(msg []byte) { d.n.receive(msg, false) }

// NotifyConflict is told of a name at two addresses. Which is right is for the
// two of them to find out; memberlist's lock is held here.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name == d.n.cfg.Name {
		d.n.suspect(other.Address())
		return
	}
	select {
	case d.n.conflicts <- conflict{existing.Name, existing.Address(), other.Address()}:
	default: // memberlist will come across it again
	}
}

// receive takes everything memberlist has for us. pushPull tells the two ways
// apart on which it may come.
func (n *Node) receive(buf []byte, pushPull bool) {
	leave, ok := n.gate.enter()
	if !ok {
		return
	}
	defer leave()
	k, body, err := split(buf)
	if err == nil && pushPull != (k == kindStates) {
		err = errFrame
	}
	if err == nil {
		err = n.dispatch(k, body)
	}
	if err != nil {
		n.junk.Add(1)
	}
}

// dispatch must not keep body.
func (n *Node) dispatch(k kind, body []byte) error {
	switch k {
	case kindMessage:
		if n.cfg.Deliver != nil {
			n.cfg.Deliver(append([]byte(nil), body...))
		}
		return nil
	case kindState:
		return handle(body, func(a announcement) { n.hear(a, true) })
	case kindStates:
		return handle(body, func(list []announcement) {
			for _, a := range list {
				n.hear(a, false)
			}
		})
	case kindWant:
		return handle(body, func(w want) { n.announceTo(w.From) })
	case kindWho:
		return handle(body, n.answerWho)
	case kindIam:
		return handle(body, n.heardIam)
	case kindRival:
		return handle(body, n.heardRival)
	case kindLeave:
		return handle(body, n.table.leave)
	case kindAsk:
		return handle(body, n.giveTicket)
	case kindTicket:
		return handle(body, n.heardTicket)
	case kindQuestion:
		return handle(body, n.serve)
	case kindAnswer:
		return handle(body, n.heardAnswer)
	}
	return errFrame // a kind of a later version, or junk
}

func handle[T any](body []byte, do func(T)) error {
	v, err := unpack[T](body)
	if err != nil {
		return err
	}
	do(v)
	return nil
}
