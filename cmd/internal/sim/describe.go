package sim

import (
	"fmt"
	"strings"

	"github.com/legion-cron/legion-cron/legion"
)

// describe renders an event or an action in one line.
func describe(v any) string {
	switch v := v.(type) {
	case legion.Receive:
		return fmt.Sprintf("%s %s", v.Message.From, message(v.Message))
	case legion.Send:
		s := fmt.Sprintf("to %s %s", v.To, message(v.Message))
		if v.After > 0 {
			s += fmt.Sprintf(" after write %d", v.After)
		}
		return s
	case legion.Announced:
		return fmt.Sprintf("announcement %d of %s, reigns %v", v.State.Seq, v.State.Name, v.State.Reigns)
	case legion.Announce:
		return fmt.Sprintf("announce %d, reigns %v", v.State.Seq, v.State.Reigns)
	case legion.Persist:
		return fmt.Sprintf("write %d: grants %v, %d payloads, electorate %v, founding %v",
			v.Seq, v.Grants, len(v.Payloads), v.Electorate != nil, v.Founding != nil)
	case legion.Reign:
		return fmt.Sprintf("reign %s %d", v.Legion, v.Term)
	}
	return fmt.Sprintf("%s %+v", strings.TrimPrefix(fmt.Sprintf("%T", v), "legion."), v)
}

func message(m legion.Message) string {
	s := fmt.Sprintf("%s#%d", strings.TrimPrefix(fmt.Sprintf("%T", m.Body), "legion."), m.Seq)
	if m.Echo > 0 {
		s += fmt.Sprintf(" to #%d", m.Echo)
	}
	switch b := m.Body.(type) {
	case legion.Found:
		return s + fmt.Sprintf(" %d %.8s %v dead %d", b.Proposal.N, b.Proposal.Electorate.Cluster, b.Proposal.Electorate.Voters, len(b.Dead))
	case legion.FoundAck:
		return s + fmt.Sprintf(" %.8s %v rival %v", b.Cluster, b.Accepted, b.Rival != nil)
	case legion.Committed:
		return s + fmt.Sprintf(" %.8s", b.Electorate.Cluster)
	}
	return s + fmt.Sprintf(" %+v", m.Body)
}
