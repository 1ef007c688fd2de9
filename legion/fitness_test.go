package legion

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
)

func TestFit(t *testing.T) {
	for _, tt := range []struct {
		l    Legion
		want string
	}{
		{Legion{Valor: 100}, ""},
		{Legion{Valor: 100, Weight: -99}, ""},
		{Legion{Valor: 1, Weight: 50}, ""},
		{Legion{Valor: 0}, "valor is 0"},
		{Legion{Valor: 0, Weight: 50}, "valor is 0"}, // an arbiter stays one
		{Legion{Valor: 100, Weight: -100}, "checks leave nothing of its valor of 100: -100"},
		{Legion{Valor: 100, Weight: 50, Unfit: "drained"}, "drained"},
	} {
		if got := tt.l.unfit(); got != tt.want || tt.l.fit() != (tt.want == "") {
			t.Errorf("%+v: %q, fit %v; want %q", tt.l, got, tt.l.fit(), tt.want)
		}
	}
}

// Checks travel with an announcement, and no more of them than there may be.
func TestAnnouncedChecks(t *testing.T) {
	s := NodeState{Name: "n1", Incarnation: uuid.MustParse("0e1b7b9c-6f0a-4c0e-9d5e-3f4f0c1a2b3c")}
	for i := range MaxChecks + 5 {
		s.Checks = append(s.Checks, Check{
			Name: fmt.Sprint("c", i), State: "failing", Valor: -i, Veto: i == 0, Reason: "gone", Legions: []string{"a", "b"}[:i%3%2],
		})
	}
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Checks) != MaxChecks {
		t.Fatalf("%d checks, want %d", len(got.Checks), MaxChecks)
	}
	for i, c := range got.Checks {
		if fmt.Sprintf("%+v", c) != fmt.Sprintf("%+v", s.Checks[i]) {
			t.Errorf("check %d is %+v, want %+v", i, c, s.Checks[i])
		}
	}
	if all, one := got.Checks[0], got.Checks[1]; !all.Of("b") || !one.Of("a") || one.Of("b") {
		t.Errorf("%+v and %+v concern the wrong legions", all, one)
	}
}
