package daemon

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/config"
	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/logging"
)

// Rotation without a gap is three steps, each made everywhere before the next:
// a key is installed (all can decrypt it), used (all encrypt with it), and the
// old one removed. A node does a step only if that cannot shut out a node that
// has done the step before; locksmith sees to it that all have.

const (
	// askKeys begins the question: turn your keys. A keyTurn, answered with keysHeld.
	askKeys = 'k'

	keyIDSize  = 6               // bytes of a hash; in hex twice that
	keyTimeout = 5 * time.Second // for one member's answer
)

// A keyOp is what is asked of a node's keys.
type keyOp string

const (
	keysList   keyOp = "list"
	keyInstall keyOp = "install"
	keyUse     keyOp = "use"
	keyRemove  keyOp = "remove"
)

type keyTurn struct {
	Op  keyOp  `cbor:"1,keyasint"`
	Key []byte `cbor:"2,keyasint,omitempty"` // install: itself
	ID  string `cbor:"3,keyasint,omitempty"` // use, remove: its whole name
}

type keysHeld struct {
	IDs     []string `cbor:"1,keyasint,omitempty"` // the first one encrypts
	Changed bool     `cbor:"2,keyasint,omitempty"`
	Error   string   `cbor:"3,keyasint,omitempty"`
}

// keyID names a key without telling it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("legion-cron key "), key...))
	return hex.EncodeToString(sum[:keyIDSize])
}

// turned returns the keys after a step, and whether that changes anything. The
// keys it is given stay as they are.
func turned(keys [][]byte, t keyTurn) (after [][]byte, changed bool, err error) {
	at := slices.IndexFunc(keys, func(k []byte) bool { return keyID(k) == t.ID || bytes.Equal(k, t.Key) })
	switch {
	case t.Op == keyInstall && at < 0:
		return append(slices.Clone(keys), t.Key), true, nil
	case t.Op == keyUse && at < 0:
		return nil, false, fmt.Errorf("use key: %s is not installed", t.ID)
	case t.Op == keyUse && at > 0:
		after = slices.Delete(slices.Clone(keys), at, at+1)
		return slices.Insert(after, 0, keys[at]), true, nil
	case t.Op == keyRemove && at == 0:
		return nil, false, fmt.Errorf("remove key: %s is in use", t.ID)
	case t.Op == keyRemove && at > 0:
		return slices.Delete(slices.Clone(keys), at, at+1), true, nil
	}
	return keys, false, nil
}

// turnKeys does one step on this node: first in its file, so that a restart at
// any moment finds what its peers count on.
func (d *Daemon) turnKeys(t keyTurn) (keys [][]byte, changed bool, err error) {
	d.keysMu.Lock()
	defer d.keysMu.Unlock()
	cl := d.config().Cluster
	if !d.encrypts() {
		return nil, false, errors.New("turn keys: this node has none, and does not encrypt")
	}
	keys, changed, err = turned(cl.Keys, t)
	if err != nil || !changed {
		return cl.Keys, false, err
	}
	if err := config.WriteKeys(cl.KeysFile, keys); err != nil {
		return cl.Keys, false, err
	}
	if err := d.setKeys(keys); err != nil {
		return cl.Keys, false, err
	}
	d.log.Info("keys changed: "+string(t.Op), logging.Event("keys"), zap.String("key", cmp.Or(t.ID, keyID(t.Key))), zap.Int("keys", len(keys)))
	return keys, true, nil
}

// encrypts says whether this node does, and will after a restart, as the file says
// by now.
func (d *Daemon) encrypts() bool {
	cl := d.config().Cluster
	return d.gossip != nil && len(d.gossip.Keys()) > 0 && cl != nil && len(cl.Keys) > 0
}

// setKeys puts keys, which stand in the file, to use. d.keysMu is held.
func (d *Daemon) setKeys(keys [][]byte) error {
	if err := d.gossip.SetKeys(keys); err != nil {
		return err
	}
	d.mu.Lock()
	if d.cfg.Cluster != nil { // as it was read; a reload brings its own
		cfg := *d.cfg
		cl := *cfg.Cluster
		cl.Keys, cfg.Cluster = keys, &cl
		d.cfg = &cfg
	}
	d.mu.Unlock()
	d.recertify()
	return nil
}

// reloadKeys takes over the keys of a file that somebody has edited, unless
// that would be two steps at once while others are there.
func (d *Daemon) reloadKeys(cfg *config.Config) error {
	d.keysMu.Lock()
	defer d.keysMu.Unlock()
	if d.gossip == nil || cfg.Cluster == nil || len(cfg.Cluster.Keys) == 0 {
		return nil // that needs a restart, and the caller says so
	}
	old := d.gossip.Keys() // the file may have been without for a while
	if len(old) == 0 {
		return nil
	}
	if len(d.gossip.Members()) > 1 {
		if err := oneStep(old, cfg.Cluster.Keys); err != nil {
			return fmt.Errorf("reload keys: %s: %w", cfg.Cluster.KeysFile, err)
		}
	}
	return d.setKeys(cfg.Cluster.Keys)
}

// oneStep refuses to go from old to new keys at once, if a node that has not
// gone there yet, or has gone before, would not be understood.
func oneStep(old, new [][]byte) error {
	has := func(keys [][]byte, key []byte) bool {
		return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	}
	switch {
	case !has(old, new[0]):
		return errors.New("the first key is new, and other nodes may not have it; put it last, reload everywhere, then put it first")
	case !has(new, old[0]):
		return errors.New("the key in use is gone, and other nodes may use it still; put it last, reload everywhere, then remove it")
	}
	return nil
}

func decodeTurn(q []byte) (t keyTurn, err error) {
	if err = cbor.Unmarshal(q, &t); err == nil && t.Op == keyInstall {
		_, err = config.ParseKey(config.FormatKey(t.Key))
	}
	if err != nil {
		return keyTurn{}, fmt.Errorf("decode question: %w", err)
	}
	return t, nil
}

// serveKeys answers askKeys.
func (d *Daemon) serveKeys(q []byte) []byte {
	var held keysHeld
	t, err := decodeTurn(q)
	if err == nil {
		var keys [][]byte
		keys, held.Changed, err = d.turnKeys(t)
		for _, key := range keys {
			held.IDs = append(held.IDs, keyID(key))
		}
	}
	if err != nil {
		held.Error = err.Error()
	}
	a, err := cbor.Marshal(held)
	if err != nil {
		return nil
	}
	return a
}

// askAll has every living member do a step. On any error some may have done it;
// each step may be asked for again.
func (d *Daemon) askAll(ctx context.Context, t keyTurn) (map[string]keysHeld, error) {
	q, err := cbor.Marshal(t)
	if err != nil {
		return nil, err
	}
	var (
		mu       sync.Mutex
		wg       sync.WaitGroup
		all      = map[string]keysHeld{}
		troubles []string
	)
	for _, m := range d.gossip.Members() {
		wg.Go(func() {
			held, err := d.askKeys(ctx, m.Name, q)
			mu.Lock()
			defer mu.Unlock()
			all[m.Name] = held
			if err != nil {
				troubles = append(troubles, m.Name+": "+err.Error())
			}
		})
	}
	wg.Wait()
	if len(troubles) > 0 {
		slices.Sort(troubles)
		return nil, control.Refused("see to it, then ask again: what is done already is not done twice", "%s", strings.Join(troubles, "; "))
	}
	return all, nil
}

func (d *Daemon) askKeys(ctx context.Context, node string, q []byte) (keysHeld, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	var held keysHeld
	a, err := d.gossip.Call(ctx, node, append([]byte{askKeys}, q...))
	switch {
	case err != nil:
		return held, err
	case len(a) == 0:
		return held, errors.New("does not know of keys: an older version?")
	}
	if err := cbor.Unmarshal(a, &held); err != nil {
		return held, fmt.Errorf("decode answer: %w", err)
	}
	if held.Error != "" {
		return held, errors.New(held.Error)
	}
	return held, nil
}

// Keyring implements control.Locksmith.
func (b backend) Keyring(ctx context.Context) (control.Keyring, error) {
	return b.turn(ctx, keyTurn{Op: keysList})
}

// InstallKey implements control.Locksmith.
func (b backend) InstallKey(ctx context.Context, line string) (control.Keyring, error) {
	key, err := config.ParseKey(strings.TrimSpace(line))
	if err != nil {
		return control.Keyring{}, control.BadRequest("legion-cron keys generate | legion-cron keys install", "that is no key: %v", err)
	}
	return b.turn(ctx, keyTurn{Op: keyInstall, Key: key})
}

// UseKey implements control.Locksmith.
func (b backend) UseKey(ctx context.Context, id string, force bool) (control.Keyring, error) {
	key, err := b.find(ctx, id, force)
	if err != nil {
		return control.Keyring{}, err
	}
	if len(key.Missing) > 0 {
		return control.Keyring{}, control.Refused("install it once more: legion-cron keys install",
			"key %s is not yet on %s, which would understand nobody", key.ID, strings.Join(key.Missing, ", "))
	}
	return b.turn(ctx, keyTurn{Op: keyUse, ID: key.ID})
}

// RemoveKey implements control.Locksmith.
func (b backend) RemoveKey(ctx context.Context, id string, force bool) (control.Keyring, error) {
	key, err := b.find(ctx, id, force)
	if err != nil {
		return control.Keyring{}, err
	}
	if len(key.Using) > 0 {
		return control.Keyring{}, control.Refused("use another one first: legion-cron keys use ID",
			"key %s is in use on %s", key.ID, strings.Join(key.Using, ", "))
	}
	return b.turn(ctx, keyTurn{Op: keyRemove, ID: key.ID})
}

// find returns the one key whose name begins with id, unless somebody is away
// who would be shut out.
func (b backend) find(ctx context.Context, id string, force bool) (control.Key, error) {
	ring, err := b.turn(ctx, keyTurn{Op: keysList})
	if err != nil {
		return control.Key{}, err
	}
	var found []control.Key
	for _, k := range ring.Keys {
		if id != "" && strings.HasPrefix(k.ID, strings.ToLower(id)) {
			found = append(found, k)
		}
	}
	const lists = "legion-cron keys list shows them"
	switch {
	case len(found) == 0:
		return control.Key{}, control.NotFound(lists, "no key %s", id)
	case len(found) > 1:
		return control.Key{}, control.BadRequest(lists, "%s begins more than one key", id)
	case len(ring.Away) > 0 && !force:
		return control.Key{}, control.Refused("wait for it; or --force, and give it the keys file of another node before it starts",
			"away: %s, which could not come back with the keys it has", strings.Join(ring.Away, ", "))
	}
	return found[0], nil
}

// turn has the cluster do one step, and returns what has come of it.
func (b backend) turn(ctx context.Context, t keyTurn) (control.Keyring, error) {
	d := b.d
	if !d.encrypts() {
		return control.Keyring{}, control.Refused("set [cluster] keys_file and restart", "this node has no keys")
	}
	held, err := d.askAll(ctx, t)
	if err != nil {
		return control.Keyring{}, err
	}
	ring := keyring(held)
	ring.Away = d.away(slices.Sorted(maps.Keys(held)))
	return ring, nil
}

// keyring puts together what the members have.
func keyring(held map[string]keysHeld) control.Keyring {
	nodes := slices.Sorted(maps.Keys(held))
	keys := map[string]*control.Key{}
	var ring control.Keyring
	for _, node := range nodes {
		if held[node].Changed {
			ring.Changed = append(ring.Changed, node)
		}
		for i, id := range held[node].IDs {
			k := keys[id]
			if k == nil {
				k = &control.Key{ID: id}
				keys[id] = k
			}
			k.Nodes = append(k.Nodes, node)
			if i == 0 {
				k.Using = append(k.Using, node)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		k := keys[id]
		for _, node := range nodes {
			if !slices.Contains(k.Nodes, node) {
				k.Missing = append(k.Missing, node)
			}
		}
		ring.Keys = append(ring.Keys, *k)
	}
	return ring
}

// away are the nodes that belong to the cluster and are not among these.
func (d *Daemon) away(members []string) []string {
	known := map[string]bool{}
	if e := d.protocol.electorate(); e != nil {
		for _, v := range e.Voters {
			known[v.Name] = true
		}
	}
	for _, s := range d.presence.all() {
		known[s.Name] = true
	}
	for _, name := range members {
		delete(known, name)
	}
	return slices.Sorted(maps.Keys(known))
}
