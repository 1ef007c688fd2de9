package daemon

import (
	"slices"
	"strings"
	"testing"
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
