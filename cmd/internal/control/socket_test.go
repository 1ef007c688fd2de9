package control

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server on a fresh path and stops it with the test.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "control.sock")
	s, err := Start(Socket{Path: path}, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Stop the socket is still there: %v", err)
		}
	})
	return path
}

func TestClientAndServer(t *testing.T) {
	t.Parallel()
	exit := 3
	b := &backend{
		status: Status{Node: "a", Cluster: Cluster{Members: List[Member]{{Name: "a"}}}},
		jobs:   []Job{{Name: "backup"}},
		runs:   []Run{{Run: "r", ExitCode: &exit}},
		next:   Next{Spec: "@daily"},
		lords:  map[string]Lord{"mine": {Legion: "mine", Lord: "a", Here: true}, "yours": {Legion: "yours", Lord: "b"}},
		reload: Reload{Changes: List[string]{"job backup: new"}},
	}
	c := NewClient(serve(t, Handler(b)))
	ctx := t.Context()

	if s, err := c.Status(ctx); err != nil || s.Node != "a" {
		t.Errorf("Status = %+v, %v", s, err)
	}
	if m, err := c.Members(ctx); err != nil || len(m) != 1 || m[0].Name != "a" {
		t.Errorf("Members = %+v, %v", m, err)
	}
	if j, err := c.Jobs(ctx); err != nil || len(j) != 1 || j[0].Name != "backup" {
		t.Errorf("Jobs = %+v, %v", j, err)
	}
	q := RunsQuery{Job: "backup", Since: time.Date(2026, 3, 1, 0, 0, 0, 1, time.UTC), Outcome: "timed out", Limit: 9}
	if r, err := c.Runs(ctx, q); err != nil || len(r) != 1 || *r[0].ExitCode != 3 {
		t.Errorf("Runs = %+v, %v", r, err)
	}
	if b.runsQuery != q {
		t.Errorf("the backend was asked %+v, want %+v", b.runsQuery, q)
	}
	nq := NextQuery{Job: "a/b c", From: q.Since, N: 2}
	if n, err := c.Next(ctx, nq); err != nil || n.Spec != "@daily" {
		t.Errorf("Next = %+v, %v", n, err)
	}
	if b.nextQuery != nq {
		t.Errorf("the backend was asked %+v, want %+v", b.nextQuery, nq)
	}
	if l, err := c.Lord(ctx, "mine"); err != nil || !l.Here {
		t.Errorf("Lord(mine) = %+v, %v", l, err)
	}
	if l, err := c.Lord(ctx, "yours"); err != nil || l.Here || l.Lord != "b" {
		t.Errorf("Lord(yours) = %+v, %v", l, err)
	}
	_, err := c.Lord(ctx, "nobodys")
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != 404 || e.Hint == "" {
		t.Errorf("Lord(nobodys) = %v, want a 404 with a hint", err)
	}
	if r, err := c.Reload(ctx); err != nil || len(r.Changes) != 1 {
		t.Errorf("Reload = %+v, %v", r, err)
	}
}

func TestClientFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		says    string
	}{
		{"not found in no words", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "404 Not Found"},
		{"not JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, "decode the answer to /v1/status"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewClient(serve(t, c.handler)).Status(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %v, want one line with %q", err, c.says)
			}
		})
	}
}

func TestClientNoAgent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "control.sock")
	for _, state := range []string{"missing", "stale"} {
		if state == "stale" {
			leaveSocket(t, path)
		}
		_, err := NewClient(path).Status(t.Context())
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, ErrNoAgent) || e.Hint == "" || err.Error() != "no agent answers on "+path {
			t.Errorf("%s socket: %v", state, err)
		}
	}
}

// leaveSocket leaves at path what a killed agent leaves.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStartReplacesStaleSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "control.sock")
	leaveSocket(t, path)
	s, err := Start(Socket{Path: path}, Handler(&backend{}))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("mode = %v, %v, want a socket of 0660", info.Mode(), err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	used := serve(t, Handler(&backend{}))
	file := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		socket Socket
		says   string
	}{
		{Socket{Path: used}, "another agent answers there"},
		{Socket{Path: file}, "no socket"},
		{Socket{Path: filepath.Join(file, "control.sock")}, "not a directory"},
		{Socket{Path: "/" + strings.Repeat("x", maxPath)}, "107"},
		{Socket{Path: filepath.Join(t.TempDir(), "s"), Group: "no-such-group"}, `no such group "no-such-group"`},
	} {
		s, err := Start(c.socket, Handler(&backend{}))
		if err == nil {
			s.Stop(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Start(%+v) = %v, want ...%s...", c.socket, err, c.says)
		}
	}
	if _, err := NewClient(used).Status(t.Context()); err != nil {
		t.Errorf("the first agent was disturbed: %v", err)
	}
	if text, err := os.ReadFile(file); string(text) != "data" {
		t.Errorf("the file was touched: %q, %v", text, err)
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	const own, other = 4711, 4712
	for _, c := range []struct {
		name  string
		peer  any
		group int
		code  int
	}{
		{"root", peer{uid: 0}, -1, 200},
		{"own user", peer{uid: own, gid: 1}, -1, 200},
		{"stranger", peer{uid: other, gid: 1}, -1, 403},
		{"stranger, with a group", peer{uid: other, gid: 1}, 2, 403},
		{"process in the group", peer{uid: other, gid: 2}, 2, 200},
		{"user in the group", peer{uid: uid, gid: 1}, gid, 200},
		{"kernel silent", peer{err: errors.New("no")}, -1, 403},
		{"no unix socket", nil, -1, 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/status", nil)
		if c.peer != nil {
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, c.peer))
		}
		w := httptest.NewRecorder()
		admit(own, c.group, Handler(&backend{})).ServeHTTP(w, r)
		if w.Code != c.code {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.code)
		}
	}
}

// TestPeer: the kernel says who is at the other end.
func TestPeer(t *testing.T) {
	t.Parallel()
	seen := make(chan peer, 1)
	path := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.Context().Value(peerKey{}).(peer)
	}))
	_, _ = NewClient(path).Status(t.Context()) // the empty answer is no status
	if p := <-seen; p.err != nil || p.pid != os.Getpid() || p.uid != os.Getuid() || p.gid != os.Getgid() {
		t.Errorf("peer = %+v", p)
	}
	if p := peerOf(&net.TCPConn{}); p.err == nil {
		t.Errorf("a TCP peer has credentials: %+v", p)
	}
}

// TestBounded: the connection over the limit is accepted when another closes.
func TestBounded(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l := bound(inner, 1)
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("unix", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Error("two connections where one is allowed")
	default:
	}
	first.Close()
	first.Close() // twice frees one slot only
	second := <-accepted
	l.Close() // ends an Accept that waits for a slot
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v after Close", err)
	}
	second.Close()
}
