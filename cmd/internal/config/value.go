package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxName   = 64       // bytes of the name of a node, legion, job, check or notification
	maxText   = 64 << 10 // bytes of any string
	maxList   = 100_000  // elements of any list
	maxPeriod = 10 * 365 * day
)

// A parser makes a Go value of an item, or notes what is wrong with it.
type parser[T any] func(r *reader, it *item) (T, bool)

// read sets *into if the key is given and right. It reports whether it is given.
func read[T any](t *table, key string, into *T, parse parser[T]) (given bool) {
	it := t.find(key)
	if it == nil {
		return false
	}
	if v, ok := parse(t.reader, it); ok {
		*into = v
	}
	return true
}

// hinted is an error that knows what to do about it.
type hinted struct {
	error
	hint string
}

// parsed makes a parser of a function of the bare value.
func parsed[T, V any](want string, f func(V) (T, error)) parser[T] {
	return func(r *reader, it *item) (zero T, ok bool) {
		v, ok := it.value.(V)
		if !ok {
			r.fail(it, "", "want %s, got %s", want, it.kind())
			return zero, false
		}
		t, err := f(v)
		if err != nil {
			r.failed(it, err)
			return zero, false
		}
		return t, true
	}
}

// failed notes an error, and its hint if it has one.
func (r *reader) failed(it *item, err error) {
	var h hinted
	errors.As(err, &h)
	r.fail(it, h.hint, "%s", err)
}

func boolean() parser[bool] {
	return parsed("true or false", func(v bool) (bool, error) { return v, nil })
}

func integer(least, most int) parser[int] {
	return parsed("an integer", func(v int64) (int, error) {
		if v < int64(least) || v > int64(most) {
			return 0, fmt.Errorf("want %d to %d, got %d", least, most, v)
		}
		return int(v), nil
	})
}

// decimal is a number with or without a fraction.
func decimal(least, most float64) parser[float64] {
	return func(r *reader, it *item) (float64, bool) {
		v, ok := it.value.(float64)
		if n, whole := it.value.(int64); whole {
			v, ok = float64(n), true
		}
		if !ok {
			r.fail(it, "", "want a number, got %s", it.kind())
			return 0, false
		}
		if !(v >= least && v <= most) { // NaN is neither
			r.fail(it, "", "want %g to %g, got %g", least, most, v)
			return 0, false
		}
		return v, true
	}
}

// text is a string that passes every check.
func text(checks ...func(string) error) parser[string] {
	return parsed("a string", func(v string) (string, error) {
		if len(v) > maxText {
			return "", fmt.Errorf("%d bytes, at most %d are allowed", len(v), maxText)
		}
		if strings.IndexByte(v, 0) >= 0 {
			return "", errors.New("a NUL byte is not allowed")
		}
		for _, check := range checks {
			if err := check(v); err != nil {
				return "", err
			}
		}
		return v, nil
	})
}

func notEmpty(v string) error {
	if strings.TrimSpace(v) == "" {
		return errors.New("must not be empty")
	}
	return nil
}

// oneOf are strings, or what is made of them.
func oneOf[S ~string](names ...S) parser[S] {
	return parsed("a string", func(v string) (S, error) {
		if slices.Contains(names, S(v)) {
			return S(v), nil
		}
		plain := make([]string, len(names))
		for i, name := range names {
			plain[i] = string(name)
		}
		err := fmt.Errorf("want %s, got %q", choice(plain), v)
		if near := nearest(v, plain); near != "" {
			return "", hinted{err, didYouMean(near)}
		}
		return "", err
	})
}

// choice is a list for people: a, b or c.
func choice(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func list[T any](element parser[T]) parser[[]T] {
	return func(r *reader, it *item) ([]T, bool) {
		if it.list == nil {
			r.fail(it, "", "want a list, got %s", it.kind())
			return nil, false
		}
		if len(it.list) > maxList {
			r.fail(it, "", "%d elements, at most %d are allowed", len(it.list), maxList)
			return nil, false
		}
		all := make([]T, 0, len(it.list))
		for _, e := range it.list {
			if v, ok := element(r, e); ok {
				all = append(all, v)
			}
		}
		return all, len(all) == len(it.list)
	}
}

// dictionary is a table with keys of the user's choice.
func dictionary(key func(string) error, value parser[string]) parser[map[string]string] {
	return func(r *reader, it *item) (map[string]string, bool) {
		if it.table == nil {
			r.fail(it, "", "want a table, got %s", it.kind())
			return nil, false
		}
		before := len(r.problems)
		all := make(map[string]string, len(it.table))
		for _, name := range inOrder(it.table) {
			e := it.table[name]
			if err := key(name); err != nil {
				r.failed(e, err)
			}
			all[name], _ = value(r, e)
		}
		return all, len(r.problems) == before
	}
}

// period is a duration as people write it: a string with a unit, days and
// weeks among them.
func period(least, most time.Duration) parser[time.Duration] {
	return func(r *reader, it *item) (time.Duration, bool) {
		if n, ok := it.value.(int64); ok {
			r.fail(it, fmt.Sprintf(`a duration is a string with a unit: "%ds"`, n), "want a duration, got %s", it.kind())
			return 0, false
		}
		return parsed("a duration", func(v string) (time.Duration, error) {
			d, err := parsePeriod(v)
			switch {
			case err != nil:
				return 0, err
			case d < least:
				return 0, fmt.Errorf("want at least %s, got %s", formatPeriod(least), formatPeriod(d))
			case d > most:
				return 0, fmt.Errorf("want at most %s, got %s", formatPeriod(most), formatPeriod(d))
			}
			return d, nil
		})(r, it)
	}
}

var longUnits = regexp.MustCompile(`^(?:(\d{1,5})w)?(?:(\d{1,6})d)?(.*)$`)

// parsePeriod is time.ParseDuration with weeks and days before the rest.
func parsePeriod(v string) (time.Duration, error) {
	bad := hinted{fmt.Errorf("%q is not a duration", v), `a number and a unit (ms, s, m, h, d, w) such as "90s", "1h30m" or "7d"`}
	parts := longUnits.FindStringSubmatch(v)
	if parts == nil {
		return 0, bad
	}
	weeks, _ := strconv.Atoi(parts[1]) // the pattern leaves digits or nothing
	days, _ := strconv.Atoi(parts[2])
	long := float64(7*weeks + days)
	var rest time.Duration
	if parts[3] != "" || v == "" {
		var err error
		if rest, err = time.ParseDuration(parts[3]); err != nil {
			return 0, bad
		}
		if long > 0 && rest < 0 {
			return 0, bad
		}
	}
	if long*float64(day)+float64(rest) > math.MaxInt64/2 {
		return 0, hinted{fmt.Errorf("%q is too long", v), ""}
	}
	return time.Duration(long)*day + rest, nil
}

// formatPeriod is the inverse: as short as people write it.
func formatPeriod(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// size is a number of bytes: an integer, or a string with a unit.
func size(least, most int64) parser[int64] {
	return func(r *reader, it *item) (int64, bool) {
		n, ok := it.value.(int64)
		if v, str := it.value.(string); str {
			var err error
			if n, err = parseBytes(v); err != nil {
				r.failed(it, err)
				return 0, false
			}
			ok = true
		}
		if !ok {
			r.fail(it, "", `want a number of bytes such as 65536 or "1MiB", got %s`, it.kind())
			return 0, false
		}
		if n < least || n > most {
			r.fail(it, "", "want %s to %s, got %s", formatBytes(least), formatBytes(most), formatBytes(n))
			return 0, false
		}
		return n, true
	}
}

var sizes = regexp.MustCompile(`^(\d{1,15})\s?([KMGT]?)(?:iB|B)?$`)

func parseBytes(v string) (int64, error) {
	parts := sizes.FindStringSubmatch(v)
	if parts == nil {
		return 0, hinted{fmt.Errorf("%q is not a number of bytes", v), `a number and KiB, MiB, GiB or TiB, such as "1MiB"`}
	}
	n, _ := strconv.ParseInt(parts[1], 10, 64) // at most 15 digits
	shift := 0
	if parts[2] != "" {
		shift = 10 * (1 + strings.Index("KMGT", parts[2]))
	}
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is too large", v)
	}
	return n << shift, nil
}

func formatBytes(n int64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if shift := 40 - 10*i; n > 0 && n%(1<<shift) == 0 {
			return strconv.FormatInt(n>>shift, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// amount is a share such as "10%", or a size.
func amount() parser[Amount] {
	return parsed(`a string such as "10%" or "5GiB"`, func(v string) (Amount, error) {
		if share, ok := strings.CutSuffix(v, "%"); ok {
			percent, err := strconv.ParseFloat(strings.TrimSpace(share), 64)
			if err != nil || !(percent > 0 && percent < 100) {
				return Amount{}, fmt.Errorf("%q is not a share between 0%% and 100%%", v)
			}
			return Amount{Percent: percent}, nil
		}
		n, err := parseBytes(v)
		if err == nil && n == 0 {
			err = errors.New("want more than 0 bytes")
		}
		return Amount{Bytes: n}, err
	})
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// name checks what becomes part of slots, files, metrics and log fields.
func name(v string) error {
	switch {
	case v == "":
		return errors.New("must not be empty")
	case len(v) > maxName:
		return fmt.Errorf("%d bytes, at most %d are allowed", len(v), maxName)
	case !nameForm.MatchString(v) || v == "." || v == "..":
		return hinted{fmt.Errorf("%q is not a name", v), "letters, digits and . _ - only"}
	}
	return nil
}

// legionName also keeps the built-in legions to the program.
func legionName(v string) error {
	if err := name(v); err != nil {
		return err
	}
	if strings.HasPrefix(v, "_") {
		return hinted{fmt.Errorf("%q is reserved", v), "names that begin with _ are the program's own"}
	}
	return nil
}

func absolute(v string) error {
	if !filepath.IsAbs(v) {
		return fmt.Errorf("want an absolute path, got %q", v)
	}
	return nil
}

func webAddress(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return hinted{fmt.Errorf("%q is not a URL", v), "such as https://example.org/path"}
	}
	return nil
}

// splitAddress takes an address of the network apart. Without a port it takes
// fallback's, and refuses when there is none.
func splitAddress(v, fallback string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(v)
	if err != nil {
		if fallback == "" || strings.Contains(v, ":") && net.ParseIP(strings.Trim(v, "[]")) == nil {
			return "", "", hinted{fmt.Errorf("%q is not an address", v), "host:port, such as 127.0.0.1:4242"}
		}
		host, port = strings.Trim(v, "[]"), fallback
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", "", fmt.Errorf("%q: the port is not a number from 0 to 65535", v)
	}
	if strings.ContainsAny(host, " \t/\"'@?#,") {
		return "", "", fmt.Errorf("%q is not an address", v)
	}
	return host, port, nil
}

// hostPort is an address that a name may stand in.
func hostPort() parser[string] {
	return parsed("a string", func(v string) (string, error) {
		host, port, err := splitAddress(v, "")
		return net.JoinHostPort(host, port), err
	})
}

// ipPort is an address in figures; without a port it gets fallback's.
func ipPort(fallback string) parser[string] {
	return parsed("a string", func(v string) (string, error) {
		host, port, err := splitAddress(v, fallback)
		if err != nil {
			return "", err
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return "", hinted{fmt.Errorf("%q is not an IP address", host), "names are for join only"}
		}
		return net.JoinHostPort(ip.Unmap().String(), port), nil
	})
}

// unspecified reports whether the address stands for all of a host's.
func unspecified(hostport string) bool {
	addr, err := netip.ParseAddrPort(hostport)
	return err == nil && addr.Addr().IsUnspecified()
}

// loopback reports whether only this host can reach the address. A name other
// than localhost counts as the network's.
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// file is a path; a relative one starts where the file that names it is.
func file() parser[string] {
	return func(r *reader, it *item) (string, bool) {
		v, ok := text(notEmpty)(r, it)
		if !ok || filepath.IsAbs(v) {
			return filepath.Clean(v), ok
		}
		abs, err := filepath.Abs(filepath.Join(filepath.Dir(it.file), v))
		if err != nil {
			r.fail(it, "", "make %q absolute: %s", v, err)
		}
		return abs, err == nil
	}
}

// optional lets the empty text stand for the default.
func optional(p parser[string]) parser[string] {
	return func(r *reader, it *item) (string, bool) {
		if it.value == "" {
			return "", true
		}
		return p(r, it)
	}
}
