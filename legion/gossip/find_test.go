package gossip

import (
	"net"
	"testing"

	"github.com/hashicorp/memberlist"
)

// A node that is thought to have failed is still sent to, because memberlist
// takes seconds to find it again after a partition; one that said goodbye is not.
func TestFind(t *testing.T) {
	packed, err := packMeta(meta{Instance: "i", Incarnation: "n"})
	if err != nil {
		t.Fatal(err)
	}
	node := &memberlist.Node{Name: "b", Addr: net.IPv4(127, 0, 0, 1), Port: 4242, Meta: packed}
	tb := newTable(Member{Name: "a"})
	if _, ok := tb.find("b"); ok {
		t.Error("found a node that was never seen")
	}
	tb.NotifyJoin(node)
	tb.NotifyLeave(node)
	if m, ok := tb.find("b"); !ok || m.Addr != "127.0.0.1:4242" || m.Incarnation != "n" {
		t.Errorf("after it failed: %+v, %v; want it where it was", m, ok)
	}
	if _, ok := tb.get("b"); ok {
		t.Error("a failed node counts as live")
	}
	tb.NotifyJoin(node)
	tb.forget("b") // although it is there
	tb.leave(goodbye{Name: "b", Incarnation: "n"})
	if _, ok := tb.find("b"); ok {
		t.Error("found a node that said goodbye")
	}
}
