package control

import (
	"context"
	"fmt"
	"testing"
)

func (b *backend) Keyring(context.Context) (Keyring, error) { return b.keyring, b.err }

func (b *backend) InstallKey(_ context.Context, key string) (Keyring, error) {
	b.asked = "install " + key
	return b.keyring, b.err
}

func (b *backend) UseKey(_ context.Context, id string, force bool) (Keyring, error) {
	b.asked = fmt.Sprintf("use %s %v", id, force)
	return b.keyring, b.err
}

func (b *backend) RemoveKey(_ context.Context, id string, force bool) (Keyring, error) {
	b.asked = fmt.Sprintf("remove %s %v", id, force)
	return b.keyring, b.err
}

// What is asked of the keys arrives as it was asked.
func TestKeyRequests(t *testing.T) {
	t.Parallel()
	b := &backend{keyring: Keyring{Keys: List[Key]{{ID: "0a1b", Nodes: List[string]{"a", "b"}, Using: List[string]{"a"}}}}}
	c := NewClient(serve(t, Handler(b)))
	ctx := t.Context()
	for _, tt := range []struct {
		ask  func() (Keyring, error)
		want string
	}{
		{func() (Keyring, error) { return c.Keyring(ctx) }, ""},
		{func() (Keyring, error) { return c.InstallKey(ctx, "a+/=") }, "install a+/="},
		{func() (Keyring, error) { return c.UseKey(ctx, "0a/b", false) }, "use 0a/b false"},
		{func() (Keyring, error) { return c.RemoveKey(ctx, "0a", true) }, "remove 0a true"},
	} {
		b.asked = ""
		ring, err := tt.ask()
		if err != nil || len(ring.Keys) != 1 || ring.Keys[0].ID != "0a1b" || len(ring.Keys[0].Nodes) != 2 {
			t.Errorf("%q: %+v, %v", tt.want, ring, err)
		}
		if b.asked != tt.want {
			t.Errorf("the backend was asked %q, want %q", b.asked, tt.want)
		}
	}
	if w := request(b, "POST", "/v1/keys/install"); w.Code != 400 {
		t.Errorf("install without a key: code %d, want 400", w.Code)
	}
}
