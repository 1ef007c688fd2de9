package daemon

import (
	"context"
	"slices"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
)

// Scrolls implements control.Crier.
func (b backend) Scrolls(_ context.Context, name string) ([]control.Scroll, error) {
	s := b.d.protocol.status()
	var all []control.Scroll
	for _, l := range s.Legions {
		if l.Legion != name {
			continue
		}
		for _, m := range b.legion(s, l).Members {
			all = append(all, control.Scroll{Node: m.Name, Role: m.Role, Scroll: hooks.Trim(scrollOf(s, m.Name, name))})
		}
	}
	if all == nil {
		return nil, b.unknownLegion(name)
	}
	// The members come by name.
	if lord := slices.IndexFunc(all, func(s control.Scroll) bool { return s.Role == "lord" }); lord > 0 {
		first := all[lord]
		copy(all[1:lord+1], all[:lord])
		all[0] = first
	}
	return all, nil
}
