package daemon

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
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

// TestKeptWhileItMayGoOn: as long as a lord may go on with the slot of a lost run
// every voter remembers what has become of it, however short keep is: one that was
// cut off meanwhile would run it again.
func TestKeptWhileItMayGoOn(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	store, err := ledger.Open(ledger.Config{Dir: t.TempDir(), Keep: kept(config.Node{Keep: time.Hour})}, now)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	slot := jobs.Slot{Legion: "g", Job: "j", At: now.Add(-slots.LostBack)}
	var b jobs.Batch
	for i := range 2 * ledger.DefaultKeepRuns {
		r := jobs.Record{Slot: slot, Attempt: 1, Run: fmt.Sprint("r", i), State: jobs.Succeeded, Term: 1}
		r.At = slot.At.Add(time.Duration(i) * time.Minute)
		if i == 0 {
			r.Attempt = 2 // after one that was lost
		}
		b.Records = append(b.Records, r)
	}
	if err := errors.Join(store.Merge(b), store.Retain(now)); err != nil {
		t.Fatal(err)
	}
	if known, err := store.Standing(slot); err != nil || len(known) != 1 {
		t.Errorf("of a slot that may go on it knows %v, %v", known, err)
	}
}
