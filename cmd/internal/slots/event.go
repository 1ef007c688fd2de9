package slots

import (
	"time"

	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/legion"
)

// An Event is something that happened.
type Event interface{ event() }

type (
	// Tick says that time has passed. See [Core.Wake].
	Tick struct{}
	// Configure replaces the jobs, by [Key]. Those whose timing is the same
	// keep their place.
	Configure struct{ Jobs map[string]*Entry }
	// Reign says that this node is lord.
	Reign struct{ legion.Reign }
	// Ready says that nothing keeps a reign from acting any more: its hooks
	// have ended.
	Ready struct {
		Legion string
		Term   uint64
	}
	// Unreign says that a lordship has ended.
	Unreign struct{ legion.Unreign }
	// Unhooked says that the unlord hooks of a lordship that has ended have
	// ended, too.
	Unhooked struct {
		Legion string
		Term   uint64
	}
	// Done answers [Commit] and [Write]: nil, it is durable, with a quorum or
	// here; else it may be or not.
	Done struct {
		ID  uint64
		Err error
	}
	// Recalled answers [AskVoters] with all that they know of the slots asked
	// about. It is an error if one of them has not answered.
	Recalled struct {
		ID      uint64
		Records []jobs.Record
		Err     error
	}
	// Ended answers [Start]: the run is over, and this is its last record,
	// which is on its way to the disk and the voters.
	Ended struct{ Record jobs.Record }
	// Observed are records that this node has stored for others.
	Observed struct{ Records []jobs.Record }
	// Told answers [AskNode]: what the node said of its run.
	Told struct {
		Asked, Said jobs.Record
		Err         error
	}
	// Drain says whether this node is drained: the slots of its own jobs are
	// skipped then.
	Drain struct{ On bool }
	// Close keeps anything new from being started; [Idle] follows once nothing
	// of this node runs.
	Close struct{}
)

func (Tick) event()      {}
func (Configure) event() {}
func (Reign) event()     {}
func (Ready) event()     {}
func (Unreign) event()   {}
func (Unhooked) event()  {}
func (Done) event()      {}
func (Recalled) event()  {}
func (Ended) event()     {}
func (Observed) event()  {}
func (Told) event()      {}
func (Drain) event()     {}
func (Close) event()     {}

// An Action is something to be done, in the order in which they are returned.
type Action interface{ action() }

type (
	// Commit asks for a fenced quorum write; the answer is [Done]. What is
	// committed must also be in this node's own ledger before the answer.
	Commit struct {
		ID     uint64
		Legion string
		Term   uint64
		Batch  jobs.Batch
		Dated  time.Time // the latest time of day by which something in it was decided
	}
	// Write asks for a write to this node's own disk; the answer is [Done].
	Write struct {
		ID    uint64
		Batch jobs.Batch
	}
	// Publish has the voters know of settled records, once this disk does. It
	// is repeated until a quorum has them.
	Publish struct{ Records []jobs.Record }
	// Start asks for the process of a committed claim, if this node is still
	// lord in its term; the answer is [Ended], whatever comes of it.
	Start struct {
		Job    jobs.Job
		Record jobs.Record
	}
	// Stop asks for a run to be ended, politely or at once. If it has no
	// process yet it gets none; its slot may go on elsewhere if it was for
	// Kill, and not otherwise.
	Stop struct {
		Run  string
		Why  string
		Kill bool
	}
	// AskNode asks a run's node how the run is; the answer is [Told].
	AskNode struct{ Record jobs.Record }
	// AskVoters asks voters what they know of the slots of records; the answer
	// is [Recalled]. It is of no use once the reign is over.
	AskVoters struct {
		ID        uint64
		Legion    string
		Term      uint64
		Questions map[string][]jobs.Record // by voter
	}
	// Abandon asks for a lordship to be given up; [Unreign] follows.
	Abandon struct{ Legion, Reason string }
	// LetGo says that nothing of a lordship is left that must have ended
	// before another node may reign.
	LetGo struct {
		Legion string
		Term   uint64
	}
	// Note is one line for the log.
	Note struct {
		Warn   bool
		Event  string
		Text   string
		Legion string
		Term   uint64
		Record jobs.Record // the zero Record: about none
		Err    error
	}
	// Idle says that after [Close] nothing of this node runs any more.
	Idle struct{}
)

func (Commit) action()    {}
func (Write) action()     {}
func (Publish) action()   {}
func (Start) action()     {}
func (Stop) action()      {}
func (AskNode) action()   {}
func (AskVoters) action() {}
func (Abandon) action()   {}
func (LetGo) action()     {}
func (Note) action()      {}
func (Idle) action()      {}

// A Ledger is what this node has written. It returns only what stands
// ([jobs.Standing]), but for Unsettled, which returns what a voter would tell.
type Ledger interface {
	// Unsettled returns every mark and every record that is not settled of a
	// legion, or of jobs without one: "".
	Unsettled(legion string) jobs.Batch
	// Slots returns every record of the slots, and the rows that they are in.
	Slots(slots ...jobs.Slot) ([]jobs.Record, error)
	// Stranded returns at most limit records of a legion, or of jobs without
	// one, that are never started or lost, the newest slots since a time.
	Stranded(legion string, since time.Time, limit int) ([]jobs.Record, error)
	// Within returns at most limit settled records, of the newest slots, that
	// the lord of the row's term wrote about slots of the row after its first.
	Within(row jobs.Record, limit int) ([]jobs.Record, error)
}

// Peers is what this node knows of others.
type Peers interface {
	// Away reports that there has been no word of a node's incarnation for as
	// long as that.
	Away(node, incarnation string, long time.Duration) bool
	// Dead reports that an incarnation has ended for good.
	Dead(incarnation string) bool
}
