package legion

import "time"

// An Event is something that happened to the node.
type Event interface{ event() }

type (
	// Tick says that time has passed. See [Core.Wake].
	Tick struct{}
	// Receive is a message from the network, or from the node itself.
	Receive struct{ Message Message }
	// Durable says that every Persist up to Seq is on disk.
	Durable struct{ Seq uint64 }
	// DiskTrouble says that the disk takes no more writes, or takes them again.
	// A node that cannot write neither votes nor stands.
	DiskTrouble struct{ Trouble string } // empty: none
	// Announced is an announcement of another node.
	Announced struct{ State NodeState }
	// Membership says what the gossip believes of another node.
	Membership struct {
		Name        string
		Incarnation ID
		Alive       bool
	}
	// Configure replaces the node's own part in the legions, and what it says
	// of its checks.
	Configure struct {
		Legions map[string]Legion
		Checks  []Check
	}
	// Propose asks for a fenced write; the answer is [Wrote] with the same ID,
	// which must be new in this incarnation: voters know a repetition by it.
	// Legion and Term say under which lordship; Term 0 asks for an unfenced one
	// (a run's own outcome), which is repeated until a quorum has it.
	Propose struct {
		ID      uint64
		Legion  string
		Term    uint64
		Payload []byte
		// Dated is by what time of day a fenced one was decided; zero: now. It may
		// not be far ahead of the voters' clocks; see clock.go.
		Dated time.Time
	}
	// Abandon gives up one lordship that the shell cannot act on: it stops at
	// once ([Unreign]), and is released when the shell says [LetGo].
	Abandon struct {
		Legion string
		Reason string
	}
	// StepDown hands a lordship over by an administrator's word, to To or, if
	// that is empty, to the best that is ready. Without To it is given up even
	// if nobody is. The successor then reigns for at least Keep, whoever is
	// better. It does not keep this node from standing again: see [Legion] Last.
	StepDown struct {
		Legion string
		To     string
		Keep   time.Duration
		Now    bool // give it up at once, without asking anybody
		Reason string
	}
	// LetGo says that nothing of a lordship is left running that must not be.
	LetGo struct {
		Legion string
		Term   uint64
	}
	// Merged says that what a [Merge] brought is on disk.
	Merged struct{ Epoch uint64 }
	// Settings are what the lord of [ClusterLegion] is to bring about, by its
	// own configuration. On another node they change nothing.
	Settings struct {
		Size        int
		Beat, Lease time.Duration
	}
	// Willing says whether the node is willing to be a voter, from now on, and
	// for how long it lets other voters be unheard; see [Config].
	Willing struct {
		Vote        bool
		ForgetAfter time.Duration
	}
	// Counted says that the instance has counted on: see [Started].
	Counted struct{ Starts uint64 }
	// Forget asks the lord of [ClusterLegion] to remove a voter that is gone;
	// any other node ignores it.
	Forget struct{ Name string }
	// Refound makes this node the only voter of its cluster, by hand.
	Refound struct{}
	// Stop gives up every lordship; once all are let go the incarnation ends
	// with a death certificate, and [Stopped] follows.
	Stop struct{}
)

func (Tick) event()        {}
func (Receive) event()     {}
func (Durable) event()     {}
func (DiskTrouble) event() {}
func (Announced) event()   {}
func (Membership) event()  {}
func (Configure) event()   {}
func (Propose) event()     {}
func (Abandon) event()     {}
func (StepDown) event()    {}
func (LetGo) event()       {}
func (Stop) event()        {}
func (Merged) event()      {}
func (Settings) event()    {}
func (Willing) event()     {}
func (Counted) event()     {}
func (Forget) event()      {}
func (Refound) event()     {}

// An Action is something the shell must do. Actions are to be done in the
// order in which they are returned.
type Action interface{ action() }

type (
	// Persist asks for all of it to be made durable in one transaction.
	// The shell answers with [Durable]. Several may be written together.
	Persist struct {
		Seq        uint64
		Grants     []Grant
		Electorate *Electorate
		Founding   *FoundingState
		Pending    *Amendment // replaces the one before; void once its epoch is adopted
		Whole      uint64     // the epoch in which this voter is whole; 0: unchanged
		Payloads   [][]byte
		Starts     []Started // of voters; replaces those before; nil: unchanged
	}
	// Send asks for a message to be sent to the node named To, which may be
	// this node. It must not leave before every Persist up to After is durable.
	Send struct {
		To      string
		Message Message
		After   uint64
		// Attach asks the shell to fill in Same or State of the [Vote] in
		// Message, or States of the [Standing], read when After is durable.
		// Hash is what the asker has.
		Attach bool
		Hash   []byte
	}
	// Announce asks for the node's state to be gossiped.
	Announce struct{ State NodeState }
	// Reign says that the node is lord. States is what the voters that elected
	// it had written; the shell reads it before it acts.
	Reign struct {
		Legion string
		Term   uint64
		States []VoterState
	}
	// Unreign says that a lordship has ended, at the latest now. The shell
	// stops what acts for it and answers with [LetGo].
	Unreign struct {
		Legion string
		Term   uint64
		Reason string
	}
	// Merge asks the shell to merge what other voters had written into what
	// this one has; [Merged] follows once it is on disk. One that fails is
	// asked for again.
	Merge struct {
		Epoch  uint64
		States map[string][]LegionState // by voter
	}
	// Wrote answers a [Propose].
	Wrote struct {
		ID        uint64
		Committed bool
		Reason    string // if not committed; it may still be, unseen
	}
	// Note is one line for the log, at most one for each transition.
	Note struct {
		Event  string // "founded", "campaign", "refused", ...
		Legion string
		Term   uint64
		Text   string
		Warn   bool
	}
	// Disowned says that the state directory is a copy of another, or older
	// than it was: this node may not act on what it finds there. It takes no
	// part any more, and must become another instance.
	Disowned struct {
		By     string // the node that noticed
		Starts uint64 // that it had heard of
	}
	// Stopped says that the incarnation has ended and a quorum knows, or that
	// nobody could be told in time.
	Stopped struct{}
)

func (Persist) action()  {}
func (Send) action()     {}
func (Announce) action() {}
func (Reign) action()    {}
func (Unreign) action()  {}
func (Wrote) action()    {}
func (Note) action()     {}
func (Stopped) action()  {}
func (Merge) action()    {}
func (Disowned) action() {}

// A Grant is a voter's promise as it is on disk. Renewals are not written.
type Grant struct {
	Legion      string        `cbor:"1,keyasint"`
	Term        uint64        `cbor:"2,keyasint"`
	Holder      string        `cbor:"3,keyasint"`
	Instance    ID            `cbor:"4,keyasint"`
	Incarnation ID            `cbor:"5,keyasint"`
	Lease       time.Duration `cbor:"6,keyasint"`
}

// A LegionState is what a voter had written of one legion.
type LegionState struct {
	Legion string `cbor:"1,keyasint"`
	State  []byte `cbor:"2,keyasint"`
}

// A VoterState is what one voter had written when it granted its vote.
type VoterState struct {
	Voter string
	Same  bool // as the candidate's own when it asked
	State []byte
}
