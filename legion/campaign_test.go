package legion

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAskedAgain: who was told to let a better candidate pass comes back when
// it was told to, however long it waited for the other voters meanwhile.
func TestAskedAgain(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	announce(c, at(0), 1, "b", Candidacy{Valor: 50})
	const again = 450 * time.Millisecond
	asked := false
	for _, s := range sends[Probe](announce(c, at(0), 1, "c", Candidacy{Valor: 50})) {
		if b := s.Message.Body.(Probe); b.Legion == "g" && s.To == "b" {
			asked = true
			receive(c, at(0), "b", ProbeAck{Legion: "g", Why: Preferred, Again: again}, s.Message.Seq, 10)
		}
	}
	if !asked {
		t.Fatal("it did not ask")
	}
	for d := time.Millisecond; d < 2*time.Second; d += time.Millisecond {
		for _, s := range sends[Probe](c.Step(at(d), Tick{})) {
			if b := s.Message.Body.(Probe); b.Legion != "g" {
				continue
			}
			if d < again || d > again+c.beatEvery()/4 {
				t.Errorf("it asks again after %v, and was told to after %v", d, again)
			}
			return
		}
	}
	t.Error("it does not ask again")
}

// TestAnnouncedAgain: what a lord announces that has lost its quorum is
// announced once more when a quorum answers, and only then.
func TestAnnouncedAgain(t *testing.T) {
	t.Parallel()
	c := newTestCore(State{Electorate: testElectorate()})
	term := elect(t, c)
	const lost = 1700 * time.Millisecond
	if !unreigned(c.Step(at(lost), Tick{})) {
		t.Fatal("still lord")
	}
	said := c.Announcement().Seq
	releases := map[string]uint64{}
	for _, s := range sends[Release](c.Step(at(lost), LetGo{"g", term})) {
		releases[s.To] = s.Message.Seq
	}
	said = max(said, c.Announcement().Seq)
	receive(c, at(lost), "b", Ack{}, 0, 50) // no answer
	receive(c, at(lost), "b", Ack{}, releases["b"], 51)
	receive(c, at(lost), "b", Ack{}, releases["b"], 52)
	if c.Announcement().Seq != said {
		t.Error("announced again before a quorum answered")
	}
	receive(c, at(lost), "c", Ack{}, releases["c"], 50)
	if c.Announcement().Seq != said+1 {
		t.Errorf("announced %d times again when a quorum answered", c.Announcement().Seq-said)
	}
	receive(c, at(lost), "c", Ack{}, releases["c"], 51)
	if c.Announcement().Seq != said+1 {
		t.Error("announced again once more")
	}
}

// TestForeignNodes: a node of another cluster on the same network holds up
// nobody, be it better or lord of a legion of the same name.
func TestForeignNodes(t *testing.T) {
	t.Parallel()
	theirs := *testElectorate()
	theirs.Cluster, theirs.Voters = ID{9}, []Voter{{"e", ID{5}}, {"f", ID{6}}, {"g", ID{7}}}
	cfg := testConfig("d") // without a vote, so that it goes by what is announced
	c := New(cfg, State{Electorate: testElectorate()}, at(0), rand.New(rand.NewPCG(1, 1)))
	var said []string
	for name, e := range map[string]*Electorate{"a": testElectorate(), "b": testElectorate(), "c": testElectorate(), "e": &theirs} {
		id := testConfig(name).Instance
		s := NodeState{Name: name, Instance: id, Incarnation: id, Seq: 1, Electorate: e}
		if name == "e" {
			s.Legions, s.Reigns = []Candidacy{{Legion: "g", Valor: 200, Fit: true}}, []Reigning{{"g", 5000}}
		}
		c.Step(at(0), Membership{name, id, true})
		for _, act := range append(c.Step(at(0), Announced{s}), c.Step(at(0), Announced{s})...) {
			if n, ok := act.(Note); ok && n.Event == "foreign" {
				said = append(said, n.Text)
			}
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], ForeignHelp) {
		t.Errorf("says %q", said)
	}
	asks := 0
	for d := time.Duration(0); d < 4*time.Second; d += 100 * time.Millisecond {
		for _, s := range sends[Probe](c.Step(at(d), Tick{})) {
			if s.Message.Body.(Probe).Legion == "g" {
				asks++
			}
		}
	}
	if asks == 0 {
		t.Error("does not stand")
	}
	if l := c.Status(at(time.Second)).Legions; !slices.ContainsFunc(l, func(l LegionStatus) bool {
		return l.Legion == "g" && l.Lord == "" && slices.Equal(l.Succession, []string{"d"})
	}) {
		t.Errorf("status: %+v", l)
	}
}
