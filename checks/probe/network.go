package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	probing "github.com/prometheus-community/pro-bing"
)

const (
	echoes       = 3       // requests of one ping, the first answer counts
	maxBody      = 1 << 20 // bytes of an answer that are searched
	maxHeader    = 64 << 10
	maxAuthority = 1 << 20 // bytes of a file of certificates
)

// Ping passes with the first answer to one of three ICMP echo requests. Root
// sends them raw, others by datagram sockets, where net.ipv4.ping_group_range
// allows it.
func Ping(host string) Probe {
	return func(ctx context.Context) error {
		ip, err := lookup(ctx, host)
		if err != nil {
			return err
		}
		privileged := os.Geteuid() == 0
		answered, err := ping(ctx, ip, privileged)
		if errors.Is(err, os.ErrPermission) { // a root without CAP_NET_RAW, or a user with it
			answered, err = ping(ctx, ip, !privileged)
		}
		switch {
		case answered:
			return nil
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("ping %s: %w", ip, plain(err))
		}
		return fmt.Errorf("no answer from %s", ip)
	}
}

func ping(ctx context.Context, ip netip.Addr, privileged bool) (answered bool, err error) {
	p := probing.New("")
	p.SetLogger(probing.NoopLogger{})
	p.SetIPAddr(&net.IPAddr{IP: ip.AsSlice(), Zone: ip.Zone()})
	p.SetPrivileged(privileged)
	p.Count, p.Interval = echoes, time.Second
	p.RecordRtts, p.RecordTTLs = false, false
	if deadline, ok := ctx.Deadline(); ok {
		p.Interval = max(time.Millisecond, min(time.Second, time.Until(deadline)/(echoes+1)))
	}
	p.OnRecv = func(*probing.Packet) { p.Stop() }
	err = p.RunWithContext(ctx)
	return p.Statistics().PacketsRecv > 0, err
}

func lookup(ctx context.Context, host string) (netip.Addr, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return netip.Addr{}, fmt.Errorf("look up %s: %w", host, cmp.Or(plain(err), errors.New("no address")))
	}
	return ips[0].Unmap(), nil
}

// TCP passes if a connection can be made.
func TCP(address string) Probe {
	return func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", address, plain(err))
		}
		return plain(c.Close())
	}
}

// A Request is what an HTTP probe asks, and what it expects.
type Request struct {
	URL          string
	Method       string // default GET
	Status       []int  // accepted codes; none: 200 to 399
	Contains     string // in the first MiB of the body; empty: anything will do
	MaxRedirects int    // followed; 0: the first answer counts

	SkipVerify bool   // take any certificate
	CAFile     string // certificates to trust beside none other; empty: the system's
	ServerName string // in the certificate; empty: the URL's host
}

// HTTP passes if the answer is as expected. Each look is a connection of its own,
// and proxies in the daemon's environment are not for checks.
func HTTP(r Request) Probe {
	return func(ctx context.Context) error {
		trust, err := r.trust()
		if err != nil {
			return err
		}
		transport := &http.Transport{
			TLSClientConfig: trust, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader, ForceAttemptHTTP2: true,
		}
		defer transport.CloseIdleConnections()
		client := http.Client{Transport: transport, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) <= r.MaxRedirects {
				return nil
			}
			return http.ErrUseLastResponse
		}}
		req, err := http.NewRequestWithContext(ctx, cmp.Or(r.Method, http.MethodGet), r.URL, nil)
		if err != nil {
			return plain(err)
		}
		req.Header.Set("User-Agent", "legion-cron")
		answer, err := client.Do(req)
		if err != nil {
			return plain(err)
		}
		defer answer.Body.Close()
		return r.judge(answer)
	}
}

func (r Request) judge(answer *http.Response) error {
	good := answer.StatusCode >= 200 && answer.StatusCode < 400
	if len(r.Status) > 0 {
		good = slices.Contains(r.Status, answer.StatusCode)
	}
	if !good {
		return fmt.Errorf("status %s", strings.TrimSpace(answer.Status))
	}
	if r.Contains == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if bytes.Contains(body, []byte(r.Contains)) {
		return nil // what follows does not matter
	}
	if err != nil {
		return fmt.Errorf("read body: %w", plain(err))
	}
	return fmt.Errorf("status %s, and no %q in the %d bytes of its body", strings.TrimSpace(answer.Status), r.Contains, len(body))
}

// trust reads the file of certificates anew for each look, so that it may change.
func (r Request) trust() (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: r.SkipVerify, ServerName: r.ServerName}
	if r.CAFile == "" {
		return c, nil
	}
	f, err := os.Open(r.CAFile)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", r.CAFile, plain(err))
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxAuthority))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.CAFile, plain(err))
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", r.CAFile)
	}
	return c, nil
}
