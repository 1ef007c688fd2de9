package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxValor bounds valors, what checks add to them, and stickiness.
const MaxValor = 1_000_000

const (
	maxLegions = 10_000
	maxScroll  = 4 << 10 // bytes
	maxHook    = 8 << 10 // bytes of one; longer ones are scripts of their own
	maxHooks   = 32      // of one event
)

// voters is the size of the electorate that the files ask for.
func (l *loader) voters() int {
	if l.config.Cluster == nil {
		return 1
	}
	return l.config.Cluster.Size
}

func (l *loader) legions(it *item) {
	t := l.open(it, "legion")
	if len(t.at.table) > maxLegions {
		t.fail(t.at, "", "%d legions, at most %d are allowed", len(t.at.table), maxLegions)
		return
	}
	for _, key := range inOrder(t.at.table) {
		it := t.at.table[key]
		if err := legionName(key); err != nil {
			l.failed(it, err)
		}
		if it.table == nil && key != "" {
			l.fail(it, "write [legion.NAME], then its keys", "want a table, got %s", it.kind())
			continue
		}
		l.config.Legions[key] = l.legion(it, key)
	}
}

func (l *loader) legion(it *item, name string) Legion {
	t := l.open(it, "legion.NAME")
	g := defaultLegion(name)
	read(t, "valor", &g.Valor, integer(0, MaxValor))
	sound := read(t, "quorum", &g.Quorum, integer(0, 1000))
	read(t, "unsafe_quorum", &g.UnsafeQuorum, boolean())
	if sound && !l.broken {
		l.quorum(t, g)
	}
	read(t, "preempt", &g.Preempt, boolean())
	read(t, "preempt_delay", &g.PreemptDelay, period(0, day))
	read(t, "stickiness", &g.Stickiness, integer(0, MaxValor))
	read(t, "spread", &g.Spread, boolean())
	read(t, "scroll", &g.Scroll, text(func(v string) error {
		if len(v) > maxScroll {
			return fmt.Errorf("%d bytes, at most %d are allowed", len(v), maxScroll)
		}
		return nil
	}))
	read(t, "lord_error_suspend", &g.LordErrorSuspend, period(0, 30*day))
	if on := t.find("on"); on != nil {
		g.On = l.hooks(on)
	}
	t.close()
	return g
}

// quorum refuses what no electorate can give, and what two sides of a split
// could both have, unless that is asked for by name.
func (l *loader) quorum(t *table, g Legion) {
	size := l.voters()
	switch {
	case g.Quorum > size && l.config.Cluster == nil:
		t.fail(t.where("quorum"), "without [cluster] the node is alone", "want at most 1, got %d", g.Quorum)
	case g.Quorum > size:
		t.fail(t.where("quorum"), fmt.Sprintf("the electorate has size = %d", size), "want at most %d, got %d", size, g.Quorum)
	case g.Unsafe(size) && !g.UnsafeQuorum:
		t.fail(t.where("quorum"), "leave it out for the majority; or unsafe_quorum = true, and in a split every side has its lord",
			"%d of %d voters is not a majority", g.Quorum, size)
	}
}

func (l *loader) hooks(it *item) map[string][]Hook {
	t := l.open(it, "legion.NAME.on")
	all := map[string][]Hook{}
	for _, event := range Events {
		var hooks []Hook
		switch {
		case !read(t, event, &hooks, list(hook)) || len(hooks) == 0:
		case len(hooks) > maxHooks:
			t.fail(t.where(event), "", "%d hooks, at most %d are allowed", len(hooks), maxHooks)
		default:
			all[event] = hooks
		}
	}
	t.close()
	return all
}

func hook(r *reader, it *item) (Hook, bool) {
	v, ok := text()(r, it)
	if !ok {
		return Hook{}, false
	}
	if len(v) > maxHook {
		r.fail(it, "write a script and call it", "%d bytes, at most %d are allowed", len(v), maxHook)
		return Hook{}, false
	}
	kind, what, _ := strings.Cut(v, ":")
	if kind != "cmd" && kind != "log" {
		hint := `"cmd:/path/to/command" or "log:a message"`
		if kind == "exec" {
			hint = "exec: is cmd: here"
		}
		r.fail(it, hint, "%q is neither a command nor a message", v)
		return Hook{}, false
	}
	if strings.TrimSpace(what) == "" {
		r.fail(it, "", "nothing after %q", kind+":")
		return Hook{}, false
	}
	return Hook{Kind: kind, Text: what}, true
}

// knownLegion checks the name of a legion that another section uses.
func (l *loader) knownLegion(at *item, legion string) bool {
	if _, ok := l.config.Legions[legion]; ok || l.broken {
		return true
	}
	hint := fmt.Sprintf("declare it: [legion.%s]", legion)
	if near := nearest(legion, slices.Sorted(maps.Keys(l.config.Legions))); near != "" {
		hint = didYouMean(near)
	} else if err := legionName(legion); err != nil {
		hint = ""
	}
	l.fail(at, hint, "unknown legion %q", legion)
	return false
}

// legionIn is the name of a known legion.
func (l *loader) legionIn() parser[string] {
	return func(r *reader, it *item) (string, bool) {
		v, ok := text()(r, it)
		return v, ok && l.knownLegion(it, v)
	}
}
