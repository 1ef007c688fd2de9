package sim

import (
	"fmt"
	"strings"

	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
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
	case legion.Propose:
		return fmt.Sprintf("propose %d: %s %d", v.ID, v.Legion, v.Term)
	case slots.Reign:
		return fmt.Sprintf("slots: reign %s %d", v.Legion, v.Term)
	case slots.Configure:
		return "slots: configure"
	case slots.Observed:
		return fmt.Sprintf("slots: observed %v", v.Records)
	case slots.Commit:
		return fmt.Sprintf("slots: commit %d %s %d %v%s", v.ID, v.Legion, v.Term, v.Batch.Records, marks(v.Batch))
	case slots.Write:
		return fmt.Sprintf("slots: write %d %v%s", v.ID, v.Batch.Records, marks(v.Batch))
	case slots.Start:
		return fmt.Sprintf("slots: start %v", v.Record)
	case slots.AskVoters:
		return fmt.Sprintf("slots: ask voters %v", v.Questions)
	case slots.Note:
		return fmt.Sprintf("slots: note %s %s %v %v", v.Text, v.Legion, v.Record, v.Err)
	case legion.Reign:
		return fmt.Sprintf("reign %s %d", v.Legion, v.Term)
	}
	return fmt.Sprintf("%s %+v", strings.TrimPrefix(fmt.Sprintf("%T", v), "legion."), v)
}

func marks(b jobs.Batch) string {
	var s strings.Builder
	for _, m := range b.Marks {
		fmt.Fprintf(&s, ", %s to %s", m.Job, m.At.Format("15:04:05.999"))
	}
	return s.String()
}

func message(m legion.Message) string {
	s := fmt.Sprintf("%s#%d", strings.TrimPrefix(fmt.Sprintf("%T", m.Body), "legion."), m.Seq)
	if m.Echo > 0 {
		s += fmt.Sprintf(" to #%d", m.Echo)
	}
	switch b := m.Body.(type) {
	case legion.Accept:
		return s + fmt.Sprintf(" %s %d #%d", b.Legion, b.Term, b.ID)
	case legion.Found:
		return s + fmt.Sprintf(" %d %.8s %v dead %d", b.Proposal.N, b.Proposal.Electorate.Cluster, b.Proposal.Electorate.Voters, len(b.Dead))
	case legion.FoundAck:
		return s + fmt.Sprintf(" %.8s %v rival %v", b.Cluster, b.Accepted, b.Rival != nil)
	case legion.Committed:
		return s + fmt.Sprintf(" %.8s", b.Electorate.Cluster)
	}
	return s + fmt.Sprintf(" %+v", m.Body)
}
