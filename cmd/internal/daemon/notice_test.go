package daemon

import (
	"testing"

	"github.com/legion-cron/legion-cron/legion"
)

// TestNotice: certificates come as notices, and nothing else does; the receipt
// is sent for the core's own answer alone.
func TestNotice(t *testing.T) {
	id := legion.ID{1}
	head := legion.Header{From: "dead", Incarnation: id, Seq: 7}
	encode := func(b legion.Body) []byte {
		t.Helper()
		out, err := legion.Message{Header: head, Body: b}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	p := &protocol{inbox: make(chan legion.Event, 1)}
	receipts := 0
	take := func(b []byte) { p.notice(b, func() { receipts++ }) }

	take([]byte("junk"))
	take(encode(legion.Release{}))
	if len(p.inbox) != 0 || p.dropped.Load() != 2 {
		t.Fatalf("%d taken, %d dropped; want none of two", len(p.inbox), p.dropped.Load())
	}
	take(encode(legion.Death{Incarnation: id}))
	take(encode(legion.Death{Incarnation: id})) // there is no room
	if len(p.inbox) != 1 || p.dropped.Load() != 3 {
		t.Fatalf("%d taken, %d dropped; want one, and one more dropped", len(p.inbox), p.dropped.Load())
	}
	n := (<-p.inbox).(notice)
	answer := legion.Send{To: "dead", Message: legion.Message{Header: legion.Header{To: id, Echo: 7}, Body: legion.Ack{}}}
	other, earlier := answer, answer
	other.Message.Body = legion.Vacant{}
	earlier.Message.Echo = 6
	for _, a := range []legion.Action{legion.Note{}, other, earlier} {
		if n.answered(a) {
			t.Errorf("%+v is taken for the answer", a)
		}
	}
	if receipts != 0 {
		t.Error("a receipt before the answer")
	}
	if !n.answered(answer) || receipts != 1 {
		t.Errorf("the answer is not: %d receipts", receipts)
	}
}

// TestHeld: what waits for a disk that stalls is bounded.
func TestHeld(t *testing.T) {
	p := &protocol{}
	for range maxHeld + 3 {
		p.do(legion.Send{To: "b", After: 1, Message: legion.Message{Body: legion.Accepted{OK: true}}})
	}
	if len(p.held) != maxHeld || p.dropped.Load() != 3 {
		t.Errorf("%d held, %d dropped", len(p.held), p.dropped.Load())
	}
}
