package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/legion"
	"github.com/legion-cron/legion-cron/legion/gossip"
)

// TestLastChange: what is said of the last move of a lordship is about that one.
func TestLastChange(t *testing.T) {
	t.Parallel()
	c := newChronicle()
	c.moved = func(string, string) {}
	check := func(from, to, reason string) {
		t.Helper()
		ch := c.of("g")
		if ch == nil || ch.From != from || ch.To != to || ch.Reason != reason {
			t.Errorf("last change %+v, want %q to %q: %s", ch, from, to, reason)
		}
	}
	c.reigns("n1", "g", 1, "", noon)
	check("", "n1", "elected")
	c.fell("n1", "g", 1, "yields to n2, which is better", noon)
	check("n1", "", "yields to n2, which is better")
	c.reigns("n2", "g", 2, "", noon)
	check("n1", "n2", "yields to n2, which is better")
	c.reigns("n2", "g", 4, "", noon) // another's term 3 was too short to hear of
	check("n2", "n2", "elected again")
	c.fits("n2", "g", "check redis is failing", noon)
	c.reigns("n3", "g", 5, "", noon)
	check("n2", "n3", "check redis is failing")
	c.fell("n3", "g", 5, "lost quorum", noon)
	c.reigns("n3", "g", 6, "", noon)
	check("n3", "n3", "lost quorum")
	c.ended("n3", "g", 6, "yields to n1, which carries less", noon) // its word comes first
	check("n3", "", "yields to n1, which carries less")
	c.reigns("n1", "g", 7, "", noon)
	check("n3", "n1", "yields to n1, which carries less")
	c.reigns("n2", "g", 8, "", noon)
	check("n1", "n2", "elected")
	c.ended("n1", "g", 5, "of a reign before", noon)
	c.ended("n3", "g", 7, "not its reign", noon)
	check("n1", "n2", "elected")
	c.ended("n1", "g", 7, "told to", noon) // its word comes last
	check("n1", "n2", "told to")
	c.reigns("n3", "g", 9, "", noon)
	c.ended("n1", "g", 7, "told to", noon) // once more
	check("n2", "n3", "check redis is failing")
	if at := c.since("g", "n3"); !at.Equal(noon) {
		t.Errorf("n3 reigns since %v", at)
	}
	if at := c.since("g", "n4"); !at.IsZero() { // its vote is known, its word is not
		t.Errorf("n4 reigns since %v, which is n3's", at)
	}
}

func TestFounding(t *testing.T) {
	t.Parallel()
	node := func(name string, willing bool) legion.NodeState {
		return legion.NodeState{Name: name, Willing: willing, Size: 3}
	}
	alone := legion.Status{Nodes: []legion.NodeState{node("a", true), node("b", false)}}
	if got, want := founding(alone, "a"), "it takes 3 nodes that may vote, and 1 can be heard here; cluster.join, keys_file and firewalls decide who is"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	all := legion.Status{Nodes: []legion.NodeState{node("a", true), node("b", true), node("c", true)}}
	if got := founding(all, "a"); got != "" {
		t.Errorf("all are here: %q", got)
	}
	all.Nodes[2].Size = 5
	if got, want := founding(all, "a"), "it takes 3 nodes that may vote and have cluster.size = 3, and 2 can be heard here; cluster.size is 5 in the file of c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAwayWhenTheClockIsSet: how long a node has been away is how much time has
// passed, and not what the wall clock was set over.
func TestAwayWhenTheClockIsSet(t *testing.T) {
	t.Parallel()
	now := legion.Now{Boot: time.Hour, Wall: time.Unix(0, 0)} // of a board whose clock has no battery
	p := peers{presence: newPresence(now.Boot), now: func() legion.Now { return now }}
	p.note(gossip.Event{Kind: gossip.Down, Member: gossip.Member{Name: "down", Incarnation: "i"}}, now.Boot)
	away := func(name string) bool { return p.Away(name, "i", 30*time.Second) }
	now.Boot += 10 * time.Second
	now.Wall = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if away("down") || away("not yet seen") {
		t.Error("away after 10 s")
	}
	now.Boot += 21 * time.Second
	if !away("down") || !away("not yet seen") {
		t.Error("not away after 31 s")
	}
}

// TestSeenAfterManyOthers: however many nodes of other names have come and gone,
// one that is here is not taken for one that never was, whose runs are lost.
func TestSeenAfterManyOthers(t *testing.T) {
	t.Parallel()
	p := newPresence(0)
	see := func(name string, kind gossip.Kind, now time.Duration) {
		p.note(gossip.Event{Kind: kind, Member: gossip.Member{Name: name, Incarnation: "i", Addr: name}}, now)
	}
	see("n1", gossip.Up, 0)
	for i := range maxKnown {
		see(fmt.Sprint(i), gossip.Down, time.Duration(i))
	}
	see("n2", gossip.Up, time.Hour)
	for _, name := range []string{"n1", "n2"} {
		if p.away(name, "i", 2*time.Hour) || p.addr(name) == "" {
			t.Errorf("%s is not known", name)
		}
	}
	if len(p.nodes) > maxKnown {
		t.Errorf("%d nodes are remembered", len(p.nodes))
	}
}

// TestEarliestClock: what cannot be undone is not done by a clock that is ahead of
// another's.
func TestEarliestClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := newPresence(0)
	if !p.earliest(now).Equal(now) {
		t.Error("alone it is its own")
	}
	for name, skew := range map[string]time.Duration{"n1": time.Hour, "n2": -time.Minute, "gone": -24 * time.Hour} {
		p.note(gossip.Event{Kind: gossip.Up, Member: gossip.Member{Name: name}}, 0)
		p.measured(name, skew)
	}
	p.note(gossip.Event{Kind: gossip.Down, Member: gossip.Member{Name: "gone"}}, 0)
	if got := p.earliest(now); !got.Equal(now.Add(-time.Minute)) {
		t.Errorf("it is %v", got)
	}
}

// TestClocksInTurn: each clock is looked at once in a while, those first that
// never were, and that of a node which has started again before its time.
func TestClocksInTurn(t *testing.T) {
	t.Parallel()
	p := newPresence(0)
	see := func(name, incarnation string, now time.Duration) {
		p.note(gossip.Event{Kind: gossip.Up, Member: gossip.Member{Name: name, Incarnation: incarnation}}, now)
	}
	see("n1", "i", time.Second)
	for _, step := range []struct {
		at   time.Duration
		want string
		then func()
	}{
		{10 * time.Second, "n1", func() { see("n2", "i", 11*time.Second) }},
		{20 * time.Second, "n2", nil},
		{30 * time.Second, "", nil},
		{70 * time.Second, "n1", func() { see("n2", "j", 71*time.Second) }},
		{75 * time.Second, "n2", nil},
		{76 * time.Second, "", nil},
		{135 * time.Second, "n1", nil}, // both are due
		{136 * time.Second, "n2", nil},
	} {
		if name, _ := p.stalest(step.at); name != step.want {
			t.Errorf("after %v: %q, want %q", step.at, name, step.want)
		}
		if step.then != nil {
			step.then()
		}
	}
}
