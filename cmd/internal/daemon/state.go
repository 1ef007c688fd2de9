package daemon

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"

	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/legion"
)

// encodePersist says in the ledger's words what the core wants durable.
func encodePersist(a legion.Persist) (w ledger.Writes, err error) {
	for _, g := range a.Grants {
		w.Grants = append(w.Grants, ledger.Grant{
			Legion: g.Legion, Term: g.Term, Holder: g.Holder,
			Instance: g.Instance.String(), Incarnation: g.Incarnation.String(), Lease: g.Lease,
		})
	}
	if a.Electorate != nil {
		if w.Electorate, err = cbor.Marshal(a.Electorate); err != nil {
			return w, fmt.Errorf("encode electorate: %w", err)
		}
	}
	if a.Founding != nil {
		if w.Founding, err = cbor.Marshal(a.Founding); err != nil {
			return w, fmt.Errorf("encode founding: %w", err)
		}
	}
	if a.Pending != nil || a.Whole > 0 || a.Starts != nil {
		w.Values = map[string][]byte{}
	}
	if a.Pending != nil {
		if w.Values[keyPending], err = cbor.Marshal(a.Pending); err != nil {
			return w, fmt.Errorf("encode amendment: %w", err)
		}
	}
	if a.Whole > 0 {
		w.Values[keyWhole] = strconv.AppendUint(nil, a.Whole, 10)
	}
	if a.Starts != nil {
		if w.Values[keyStarts], err = cbor.Marshal(a.Starts); err != nil {
			return w, fmt.Errorf("encode starts: %w", err)
		}
	}
	w.Batches = a.Payloads
	return w, nil
}

// The names of values in the ledger.
const (
	keyPending = "electorate.pending" // the amendment that was stored last, in CBOR
	keyWhole   = "electorate.whole"   // the epoch in which this voter is whole, in decimal
	keyStarts  = "electorate.starts"  // how often the other voters were started, in CBOR
)

// loadState reads what the core had made durable before.
func loadState(store *ledger.Store) (legion.State, error) {
	var st legion.State
	p, err := store.Load()
	if err != nil {
		return st, fmt.Errorf("load protocol state: %w", err)
	}
	if p.Electorate != nil {
		st.Electorate = &legion.Electorate{}
		if err := cbor.Unmarshal(p.Electorate, st.Electorate); err != nil {
			return st, fmt.Errorf("decode electorate: %w", err)
		}
		if err := st.Electorate.Check(); err != nil {
			return st, err
		}
	}
	if p.Founding != nil {
		if err := cbor.Unmarshal(p.Founding, &st.Founding); err != nil {
			return st, fmt.Errorf("decode founding: %w", err)
		}
	}
	if b := p.Values[keyPending]; b != nil {
		st.Pending = &legion.Amendment{}
		if err := cbor.Unmarshal(b, st.Pending); err != nil {
			return st, fmt.Errorf("decode amendment: %w", err)
		}
	}
	if b := p.Values[keyWhole]; b != nil {
		if st.Whole, err = strconv.ParseUint(string(b), 10, 64); err != nil {
			return st, fmt.Errorf("decode electorate.whole: %w", err)
		}
	}
	if b := p.Values[keyStarts]; b != nil {
		if err := cbor.Unmarshal(b, &st.Starts); err != nil {
			return st, fmt.Errorf("decode electorate.starts: %w", err)
		}
	}
	for _, g := range p.Grants {
		instance, err1 := uuid.Parse(g.Instance)
		incarnation, err2 := uuid.Parse(g.Incarnation)
		if err1 != nil || err2 != nil {
			return st, fmt.Errorf("decode grant of %s: bad holder %q %q", g.Legion, g.Instance, g.Incarnation)
		}
		st.Grants = append(st.Grants, legion.Grant{
			Legion: g.Legion, Term: g.Term, Holder: g.Holder, Instance: instance, Incarnation: incarnation, Lease: g.Lease,
		})
	}
	return st, nil
}

func splitNames(b []byte) []string { return strings.Fields(string(b)) }

func joinNames(names []string) []byte { return []byte(strings.Join(names, " ")) }
