package control

import (
	"context"
	"strings"
	"testing"
	"time"
)

func (b *backend) StepDown(_ context.Context, q StepDownQuery) (SteppedDown, error) {
	return SteppedDown{Legion: q.Legion, From: "a", To: q.To, Term: 3, Away: At(time.Unix(0, 0).Add(q.For))}, b.err
}

func (b *backend) Drain(_ context.Context, drained, now bool) (Drained, error) {
	d := Drained{Node: "a", Drained: drained}
	if drained && !now {
		d.Lordships = []string{"mine"}
	}
	return d, b.err
}

func (b *backend) SetValor(_ context.Context, legion string, valor *int) (Valor, error) {
	v := Valor{Node: "a", Legion: legion, Valor: 100, Configured: 100}
	if valor != nil {
		v.Valor, v.Set = *valor, true
	}
	return v, b.err
}

func TestMarshal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path string
		code int
		body string
	}{
		{"/v1/legions/mine/step-down?for=90s&to=b", 200, `{"legion":"mine","from":"a","to":"b","term":3,"away":"1970-01-01T00:01:30Z"}`},
		{"/v1/legions/mine/step-down?for=long", 400, `no duration`},
		{"/v1/legions/mine/step-down?for=-1s", 400, `no duration`},
		{"/v1/node/drain", 200, `{"node":"a","drained":true,"lordships":["mine"]}`},
		{"/v1/node/drain?now=true", 200, `{"node":"a","drained":true,"lordships":[]}`},
		{"/v1/node/undrain", 200, `{"node":"a","drained":false,"lordships":[]}`},
		{"/v1/node/drain?node=b", 503, `b does not answer`},
		{"/v1/legions/mine/valor?valor=7", 200, `{"node":"a","legion":"mine","valor":7,"configured":100,"set":true}`},
		{"/v1/legions/mine/valor", 200, `"set":false`},
		{"/v1/legions/mine/valor?valor=x", 400, `no number`},
	} {
		w := request(&backend{}, "POST", c.path)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
		}
	}
}
