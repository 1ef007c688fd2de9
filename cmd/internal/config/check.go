package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/legion-cron/legion-cron/checks"
)

const (
	maxRedirects = 10
	maxInARow    = checks.MaxInARow // rise, fall, after
	maxPattern   = 1 << 10
)

// checkKeys are the keys of each kind, beside those that all checks have.
var checkKeys = map[string][]string{
	"ping":    {"host"},
	"process": {"process", "pattern", "pidfile"},
	"tcp":     {"address"},
	"http":    {"url", "method", "status", "contains", "max_redirects", "tls_verify", "tls_ca", "tls_name"},
	"exec":    {"command"},
	"unit":    {"unit"},
	"file":    {"path", "max_age"},
	"disk":    {"path", "min_free"},
	"load":    {"max_load"},
	"memory":  {"min_free"},
}

// checkMethods are what an http check may ask with.
var checkMethods = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT"}

func (l *loader) checks(it *item) {
	names := map[string]string{}
	for _, t := range l.tables(it, "check") {
		c := l.check(t)
		if first, taken := names[c.Name]; taken && c.Name != "" {
			t.fail(t.where("name"), "first at "+first, "a second check of the name %q", c.Name)
		} else {
			names[c.Name] = c.Source
		}
		l.config.Checks = append(l.config.Checks, c)
	}
}

func (l *loader) check(t *table) Check {
	c := defaultCheck()
	c.Source = t.at.place()
	l.need(t, "name", read(t, "name", &c.Name, text(name)))
	read(t, "legions", &c.Legions, list(l.legionIn()))
	l.need(t, "kind", read(t, "kind", &c.Kind, oneOf(CheckKinds...)))
	l.probe(t, &c)

	read(t, "interval", &c.Interval, period(checks.MinInterval, checks.MaxInterval))
	c.Timeout = c.Interval
	if read(t, "timeout", &c.Timeout, period(time.Millisecond, checks.MaxInterval)) && c.Timeout > c.Interval {
		t.fail(t.where("timeout"), "a check ends before the next one begins", "%s is longer than the interval of %s",
			formatPeriod(c.Timeout), formatPeriod(c.Interval))
	}
	read(t, "rise", &c.Rise, integer(1, maxInARow))
	read(t, "fall", &c.Fall, integer(1, maxInARow))
	weighs := read(t, "valor", &c.Valor, integer(-MaxValor, MaxValor))
	read(t, "required", &c.Required, boolean())
	switch {
	case weighs && c.Required:
		t.fail(t.where("required"), "leave one of them out", "given together with valor")
	case !weighs && !c.Required && t.at.table["required"] == nil:
		t.fail(t.at, "valor = -50 is added while it fails, valor = 50 while it passes, required = true makes the node unfit", "neither valor nor required is given")
	case !c.Required && c.Valor == 0:
		t.fail(t.where("valor"), "", "a check of no weight that is not required does nothing")
	}
	t.close()
	return c
}

// probe reads the keys that the kind of a check has for itself.
func (l *loader) probe(t *table, c *Check) {
	line := text(notEmpty)
	for kind, keys := range checkKeys {
		if c.Kind == "" { // a wrong kind makes no key wrong
			t.known = append(t.known, keys...)
		}
		for _, key := range keys {
			t.keys[join(t.path, key)] = kind != ""
		}
	}
	switch c.Kind {
	case "ping":
		l.need(t, "host", read(t, "host", &c.Host, line))
	case "process":
		l.exactlyOne(t, map[string]bool{
			"process": read(t, "process", &c.Process, line),
			"pattern": read(t, "pattern", &c.Pattern, text(notEmpty, pattern)),
			"pidfile": read(t, "pidfile", &c.PIDFile, text(absolute)),
		})
	case "tcp":
		l.need(t, "address", read(t, "address", &c.Address, hostPort()))
	case "http":
		l.need(t, "url", read(t, "url", &c.URL, text(webAddress)))
		read(t, "status", &c.Status, list(integer(100, 599)))
		read(t, "contains", &c.Contains, text())
		read(t, "method", &c.Method, oneOf(checkMethods...))
		if c.Method == "HEAD" && c.Contains != "" {
			t.fail(t.where("contains"), "", "the answer to HEAD has no body")
		}
		read(t, "max_redirects", &c.MaxRedirects, integer(0, maxRedirects))
		read(t, "tls_verify", &c.TLSVerify, boolean())
		read(t, "tls_ca", &c.TLSCA, optional(text(absolute)))
		read(t, "tls_name", &c.TLSName, text())
		if !c.TLSVerify && c.TLSCA+c.TLSName != "" {
			t.fail(t.where("tls_verify"), "leave out tls_verify, or tls_ca and tls_name", "nothing is verified with false")
		}
	case "exec":
		l.need(t, "command", l.command(t, &c.Command, &c.Argv))
	case "unit":
		l.need(t, "unit", read(t, "unit", &c.Unit, line))
	case "file":
		l.need(t, "path", read(t, "path", &c.Path, text(absolute)))
		read(t, "max_age", &c.MaxAge, period(0, maxPeriod))
	case "disk":
		l.need(t, "path", read(t, "path", &c.Path, text(absolute)))
		l.need(t, "min_free", read(t, "min_free", &c.MinFree, amount()))
	case "load":
		l.need(t, "max_load", read(t, "max_load", &c.MaxLoad, decimal(0.01, 10_000)))
	case "memory":
		l.need(t, "min_free", read(t, "min_free", &c.MinFree, amount()))
	}
}

// exactlyOne complains unless one of several keys is given.
func (l *loader) exactlyOne(t *table, given map[string]bool) {
	var all, some []string
	for key, is := range given {
		all = append(all, key)
		if is {
			some = append(some, key)
		}
	}
	slices.Sort(all)
	if len(some) != 1 {
		t.fail(t.at, "", "want exactly one of %s, got %d", strings.Join(all, ", "), len(some))
	}
}

func pattern(v string) error {
	if len(v) > maxPattern {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(v), maxPattern)
	}
	if _, err := regexp.Compile(v); err != nil {
		return fmt.Errorf("%q is not a regular expression: %s", v, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return nil
}

func (l *loader) notifications(it *item) {
	names := map[string]string{}
	for _, t := range l.tables(it, "notify") {
		n := Notify{After: 1, Source: t.at.place()}
		l.need(t, "name", read(t, "name", &n.Name, text(name)))
		l.need(t, "on", read(t, "on", &n.On, list(oneOf(NotifyEvents...))))
		if on := t.at.table["on"]; on != nil && on.list != nil && len(on.list) == 0 {
			t.fail(on, "", "must not be empty")
		}
		read(t, "after", &n.After, integer(1, maxInARow))
		read(t, "repeat", &n.Repeat, period(0, maxPeriod))
		l.exactlyOne(t, map[string]bool{
			"webhook": read(t, "webhook", &n.Webhook, text(webAddress)),
			"command": read(t, "command", &n.Command, text(notEmpty)),
			"mail":    read(t, "mail", &n.Mail, text(mailbox)),
		})
		t.close()
		if first, taken := names[n.Name]; taken && n.Name != "" {
			t.fail(t.where("name"), "first at "+first, "a second notification of the name %q", n.Name)
		} else {
			names[n.Name] = n.Source
		}
		l.config.Notify = append(l.config.Notify, n)
	}
}

func mailbox(v string) error {
	if user, host, ok := strings.Cut(v, "@"); !ok || user == "" || host == "" || strings.ContainsAny(v, " \t\r\n,;<>") {
		return fmt.Errorf("%q is not a mail address", v)
	}
	return nil
}
