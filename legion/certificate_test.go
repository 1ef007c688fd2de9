package legion

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// certified is a voter of three, and the certificate that another one of them
// had made in an earlier epoch.
func certified(t *testing.T) (*Core, Certificate) {
	t.Helper()
	id := func(b byte) ID { return ID{15: b} }
	e := &Electorate{
		Cluster: id(9), Epoch: 1, Quorum: 2, Beat: 300 * time.Millisecond, Lease: 2 * time.Second,
		Voters: []Voter{{"a", id(1)}, {"b", id(2)}, {"c", id(3)}},
	}
	newCore := func(name string, instance, incarnation ID, e *Electorate) *Core {
		return New(Config{
			Name: name, Instance: instance, Incarnation: incarnation, Vote: true, Size: 3, Beat: e.Beat, Lease: e.Lease,
		}, State{Electorate: e}, Now{Wall: time.Unix(1e9, 0)}, rand.New(rand.NewPCG(1, 2)))
	}
	cert, ok := newCore("a", id(1), id(11), e).Certificate()
	if !ok {
		t.Fatal("no certificate")
	}
	later := *e
	later.Epoch = 5
	return newCore("b", id(2), id(12), &later), cert
}

func TestCertificate(t *testing.T) {
	c, cert := certified(t)
	if !slices.Equal(cert.Voters, []string{"b", "c"}) || cert.Quorum != 2 {
		t.Errorf("certificate is for %v, quorum %d", cert.Voters, cert.Quorum)
	}
	b, err := cert.Message.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := DecodeMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	now := Now{Boot: time.Second, Raw: time.Second, Wall: time.Unix(1e9+1, 0)}
	if c.Dead(m.Incarnation) {
		t.Fatal("dead before the certificate came")
	}
	for range 2 { // it is repeated until it is acknowledged
		acked := false
		for _, a := range c.Step(now, Receive{m}) {
			if s, ok := a.(Send); ok && s.To == "a" && s.Message.Echo == m.Seq && s.Message.To == m.Incarnation {
				_, acked = s.Message.Body.(Ack)
			}
		}
		if !acked || !c.Dead(m.Incarnation) {
			t.Fatalf("in a later epoch: acknowledged %v, dead %v", acked, c.Dead(m.Incarnation))
		}
	}
	if c.Dead(ID{15: 99}) {
		t.Error("another incarnation is dead, too")
	}
}

func TestNoCertificateOfACoreThatIsNotFounded(t *testing.T) {
	c := New(Config{Name: "a", Instance: ID{1}, Incarnation: ID{2}, Size: 3}, State{}, Now{}, rand.New(rand.NewPCG(1, 2)))
	if _, ok := c.Certificate(); ok {
		t.Error("there is one")
	}
	if _, ok := c.HeldUntil("x"); ok || c.Epoch() != 0 {
		t.Error("it holds something")
	}
}
