package daemon

import (
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// Each step from each keyring: what it makes of it, or why not.
func TestTurned(t *testing.T) {
	a, b, c := []byte("a"), []byte("b"), []byte("c")
	for _, tt := range []struct {
		keys    string
		turn    keyTurn
		want    string // the keys after it, or part of the error
		changed bool
	}{
		{"ab", keyTurn{Op: keysList}, "ab", false},
		{"ab", keyTurn{Op: keyInstall, Key: c}, "abc", true},
		{"ab", keyTurn{Op: keyInstall, Key: b}, "ab", false},
		{"abc", keyTurn{Op: keyUse, ID: keyID(c)}, "cab", true},
		{"abc", keyTurn{Op: keyUse, ID: keyID(a)}, "abc", false},
		{"ab", keyTurn{Op: keyUse, ID: keyID(c)}, "not installed", false},
		{"abc", keyTurn{Op: keyRemove, ID: keyID(b)}, "ac", true},
		{"ab", keyTurn{Op: keyRemove, ID: keyID(c)}, "ab", false},
		{"ab", keyTurn{Op: keyRemove, ID: keyID(a)}, "in use", false},
	} {
		var keys [][]byte
		for _, k := range tt.keys {
			keys = append(keys, []byte(string(k)))
		}
		after, changed, err := turned(keys, tt.turn)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(tt.keys, tt.want) {
				t.Errorf("%s, %v: %v, want %s", tt.keys, tt.turn, err, tt.want)
			}
			continue
		}
		if got := string(slices.Concat(after...)); got != tt.want || changed != tt.changed {
			t.Errorf("%s, %v: %s, changed %v, want %s, %v", tt.keys, tt.turn, got, changed, tt.want, tt.changed)
		}
		if string(slices.Concat(keys...)) != tt.keys {
			t.Errorf("%s, %v: the keys that were given are now %s", tt.keys, tt.turn, slices.Concat(keys...))
		}
	}
}

// The steps of a rotation by hand, in files, and those that skip one.
func TestOneStep(t *testing.T) {
	keys := func(text string) (all [][]byte) {
		for _, k := range text {
			all = append(all, []byte(string(k)))
		}
		return all
	}
	for _, tt := range []struct{ old, new, want string }{
		{"a", "a", ""}, {"a", "ab", ""}, {"ab", "ba", ""}, {"ba", "b", ""},
		{"a", "b", "first key is new"}, {"a", "ba", "first key is new"}, {"ab", "b", "key in use is gone"},
	} {
		err := oneStep(keys(tt.old), keys(tt.new))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("from %s to %s: %v, want %q", tt.old, tt.new, err, tt.want)
		}
	}
}

// Whatever another node asks, the keys stay keys, and the one in use stays.
func FuzzKeyTurn(f *testing.F) {
	key := make([]byte, 32)
	for _, t := range []keyTurn{{Op: keysList}, {Op: keyInstall, Key: key}, {Op: keyUse, ID: keyID(key)}, {Op: keyRemove, ID: keyID(key)}} {
		q, err := cbor.Marshal(t)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q []byte) {
		turn, err := decodeTurn(q)
		if err != nil {
			return
		}
		before := [][]byte{key, make([]byte, 16)}
		after, _, err := turned(before, turn)
		if err != nil {
			return
		}
		for _, k := range after {
			if len(k) != 16 && len(k) != 24 && len(k) != 32 {
				t.Errorf("%+v leaves a key of %d bytes", turn, len(k))
			}
		}
		if !slices.ContainsFunc(after, func(k []byte) bool { return string(k) == string(key) }) {
			t.Errorf("%+v removes the key in use", turn)
		}
	})
}
