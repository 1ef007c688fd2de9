package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/legion-cron/legion-cron/jobs"
)

// live are the keys and kinds that a running agent changes on reload. What
// the others name is open, locked, or known to other nodes by that name; they
// wait for a restart.
var live = []string{
	"node.timezone", "node.stop_timeout",
	"log.level",
	"cluster.keys", "cluster.keys_file",
	"cluster.size", "cluster.vote", "cluster.beat", "cluster.lease", "cluster.forget_after",
	"legion", "check", "notify", "job",
}

// Diff says in lines for people what changes from old to new, and which of
// the changes need a restart. No line: nothing changes. Keys and tokens are
// never shown.
func Diff(old, new *Config) []string {
	var lines []string
	add := func(key, format string, args ...any) {
		line := key + " " + fmt.Sprintf(format, args...)
		if !slices.Contains(live, key) || strings.HasPrefix(key, "cluster.keys") && encrypts(old) != encrypts(new) {
			line += " (needs a restart)"
		}
		lines = append(lines, line)
	}
	section := func(name string, a, b any) {
		for _, c := range changes(a, b) {
			add(name+"."+c.key, "%s", c)
		}
	}

	section("node", old.Node, new.Node)
	switch {
	case old.Cluster == nil && new.Cluster != nil:
		add("cluster", "added")
	case old.Cluster != nil && new.Cluster == nil:
		add("cluster", "removed")
	case old.Cluster != nil:
		section("cluster", *old.Cluster, *new.Cluster)
	}
	section("control", old.Control, new.Control)
	section("log", old.Log, new.Log)
	switch {
	case old.HTTP == nil && new.HTTP != nil:
		add("http", "added")
	case old.HTTP != nil && new.HTTP == nil:
		add("http", "removed")
	case old.HTTP != nil:
		section("http", *old.HTTP, *new.HTTP)
	}

	named(add, "legion", old.Legions, new.Legions)
	named(add, "check", byName(old.Checks, Check.name), byName(new.Checks, Check.name))
	named(add, "notify", byName(old.Notify, Notify.name), byName(new.Notify, Notify.name))
	named(add, "job", byName(old.Jobs, jobName), byName(new.Jobs, jobName))
	return lines
}

func encrypts(c *Config) bool { return c.Cluster != nil && len(c.Cluster.Keys) > 0 }

func (c Check) name() string  { return c.Name }
func (n Notify) name() string { return n.Name }
func jobName(j jobs.Job) string {
	return j.Name
}

func byName[T any](all []T, name func(T) string) map[string]T {
	m := make(map[string]T, len(all))
	for _, v := range all {
		m[name(v)] = v
	}
	return m
}

// named compares what has names of its own: added, removed, or changed in which keys.
func named[T any](add func(key, format string, args ...any), kind string, old, new map[string]T) {
	all := maps.Clone(old)
	maps.Copy(all, new)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		a, was := old[name]
		b, is := new[name]
		switch {
		case !was:
			add(kind, "%s added", name)
		case !is:
			add(kind, "%s removed", name)
		default:
			var keys []string
			for _, c := range changes(a, b) {
				if !slices.Contains(keys, c.key) {
					keys = append(keys, c.key)
				}
			}
			if len(keys) > 0 {
				add(kind, "%s changed: %s", name, strings.Join(keys, ", "))
			}
		}
	}
}

// A change is one key that differs.
type change struct {
	key      string
	old, new any
}

func (c change) String() string {
	if c.key == "keys" || c.key == "token" {
		return "changed"
	}
	return display(c.old) + " -> " + display(c.new)
}

func display(v any) string {
	if d, ok := v.(time.Duration); ok {
		return formatPeriod(d)
	}
	return oneLine(fmt.Sprintf("%#v", v))
}

// changes compares two values of one struct field by field. Where something
// was written, and whether in a section, is no difference.
func changes(a, b any) (all []change) {
	old, new := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range old.NumField() {
		field := old.Type().Field(i).Name
		if field == "Source" || field == "Implicit" || field == "Dialect" {
			continue
		}
		x, y := old.Field(i), new.Field(i)
		if empty(x) && empty(y) || reflect.DeepEqual(x.Interface(), y.Interface()) {
			continue
		}
		all = append(all, change{keyOf(field), x.Interface(), y.Interface()})
	}
	return all
}

// empty reports whether v is a list or map without elements, nil or not.
func empty(v reflect.Value) bool {
	return (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
}

// keyOf is the key that a field was read from: its name in lower case with
// underscores, but for a few.
func keyOf(field string) string {
	switch field {
	case "IONice":
		return "ionice"
	case "PIDFile":
		return "pidfile"
	case "Schedules":
		return "schedule"
	case "TLSCA":
		return "tls_ca"
	case "Argv":
		return "command"
	}
	var b strings.Builder
	runes := []rune(field)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
