package daemon

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

// What the core had made durable it finds again.
func TestStateRound(t *testing.T) {
	id := uuid.New()
	e := legion.Electorate{Cluster: id, Epoch: 3, Voters: []legion.Voter{{Name: "a", Instance: id}}, Quorum: 1, Beat: time.Second, Lease: 10 * time.Second, Base: 1000}
	next := e
	next.Epoch++
	want := legion.State{
		Electorate: &e, Pending: &legion.Amendment{Term: 1001, Electorate: next}, Whole: 3,
		Grants: []legion.Grant{
			{Legion: "g", Term: 1002, Holder: "b", Instance: id, Incarnation: uuid.New(), Lease: time.Second},
			{Legion: "h", Term: 1003, Lease: time.Second}, // to nobody
		},
		Starts: []legion.Started{{Instance: id, Starts: 4, Incarnation: uuid.New()}},
	}
	store, err := ledger.Open(ledger.Config{Dir: t.TempDir()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, p := range []legion.Persist{
		{Electorate: want.Electorate, Founding: &legion.FoundingState{}, Starts: []legion.Started{{Instance: id, Starts: 3}}},
		{Pending: want.Pending, Grants: want.Grants}, {Whole: want.Whole}, {Starts: want.Starts},
	} {
		w, err := encodePersist(p)
		if err == nil {
			err = store.Write(w)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := loadState(store); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("found %+v (%v), wrote %+v", got, err, want)
	}
}
