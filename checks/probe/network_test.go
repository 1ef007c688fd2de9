package probe

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refused is an address on which nobody listens.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	says(t, "listening", TCP(l.Addr().String()), "")
	gone := refused(t)
	says(t, "not listening", TCP(gone), "connect to "+gone+": connection refused")
	says(t, "no such name", TCP("no-such-host.invalid:80"), "no-such-host.invalid")
}

func shop(t *testing.T) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "all is well, ", r.Method) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	mux.Handle("/moved", http.RedirectHandler("/broken", http.StatusFound))
	mux.Handle("/twice", http.RedirectHandler("/moved", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("no news. ", 1000)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*maxHeader)) })
	mux.HandleFunc("/never", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/drip", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, ".")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(time.Millisecond):
			}
		}
	})
	return mux
}

func TestHTTP(t *testing.T) {
	s := httptest.NewServer(shop(t))
	defer s.Close()
	for _, tt := range []struct {
		r    Request
		want string
	}{
		{Request{URL: "/ok"}, ""},
		{Request{URL: "/ok", Contains: "well, GET"}, ""},
		{Request{URL: "/ok", Method: "POST", Contains: "well, POST"}, ""},
		{Request{URL: "/ok", Method: "HEAD"}, ""},
		{Request{URL: "/ok", Contains: "ill"}, `status 200 OK, and no "ill" in the 16 bytes of its body`},
		{Request{URL: "/ok", Status: []int{204}}, "status 200 OK"},
		{Request{URL: "/broken"}, "status 503 Service Unavailable"},
		{Request{URL: "/broken", Status: []int{200, 503}}, ""},
		{Request{URL: "/moved"}, ""},
		{Request{URL: "/moved", Status: []int{200}}, "status 302 Found"},
		{Request{URL: "/moved", MaxRedirects: 1}, "status 503"},
		{Request{URL: "/twice", MaxRedirects: 1}, ""},
		{Request{URL: "/twice", MaxRedirects: 2}, "status 503"},
		{Request{URL: "/loop", MaxRedirects: 10, Status: []int{200}}, "status 302"},
		{Request{URL: "/endless"}, ""},
		{Request{URL: "/endless", Contains: "nothing"}, `no "nothing" in the 1048576 bytes`},
		{Request{URL: "/header"}, "exceeded"},
	} {
		tt.r.URL = s.URL + tt.r.URL
		says(t, fmt.Sprintf("%+v", tt.r), HTTP(tt.r), tt.want)
	}
	says(t, "nobody there", HTTP(Request{URL: "http://" + refused(t)}), "connection refused")

	for _, path := range []string{"/never", "/drip"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := HTTP(Request{URL: s.URL + path, Contains: "x"})(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(shop(t))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of refused handshakes
	s.StartTLS()
	defer s.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	url := s.URL + "/ok"
	says(t, "unknown authority", HTTP(Request{URL: url}), "certificate")
	says(t, "not verified", HTTP(Request{URL: url, SkipVerify: true}), "")
	says(t, "its own authority", HTTP(Request{URL: url, CAFile: own}), "")
	says(t, "another name in it", HTTP(Request{URL: url, CAFile: own, ServerName: "example.com"}), "")
	says(t, "a name not in it", HTTP(Request{URL: url, CAFile: own, ServerName: "example.net"}), "example.net")
	says(t, "no such file", HTTP(Request{URL: url, CAFile: dir + "/none"}), "none: no such file")
	says(t, "no certificate", HTTP(Request{URL: url, CAFile: file("empty", "hello")}), "no certificate in")
}

func TestPingHere(t *testing.T) {
	if os.Getenv("CI") != "true" && os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	says(t, "an address", Ping("127.0.0.1"), "")
	says(t, "a name", Ping("localhost"), "")
	says(t, "no such name", Ping("no-such-host.invalid"), "look up no-such-host.invalid")
}

// Root sends raw packets, others datagrams, each in a network of its own.
func TestPingUnprivileged(t *testing.T) {
	if os.Getenv("CI") != "true" && os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const alone = "ip link set lo up && sysctl -qw net.ipv4.ping_group_range='0 65534' && exec setpriv --reuid=65534 --regid=65534 --clear-groups "
	binary := readable(t)
	for who, command := range map[string]string{"datagrams": alone, "raw": "ip link set lo up && exec "} {
		cmd := exec.Command("unshare", "--net", "--fork", "sh", "-c", command+binary)
		cmd.Env = append(os.Environ(), "PROBE_CHILD=ping 127.0.0.1")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ping: <nil>\n" {
			t.Errorf("%s: %s, %v", who, out, err)
		}
		cmd = exec.Command("unshare", "--net", "--fork", "sh", "-c", command+binary)
		cmd.Env = append(os.Environ(), "PROBE_CHILD=ping 192.0.2.1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "unreachable") {
			t.Errorf("%s, without a route: %s, %v", who, out, err)
		}
	}
}

// readable is the test binary where everybody may run it.
func readable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "probe.test")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
