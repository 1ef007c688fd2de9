package legion

import (
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Version is the version byte in front of every message. A node drops
// messages of another version and counts them.
const Version = 1

// Limits of what is read from the wire.
const (
	MaxMessage = 8 << 20 // bytes of one message, ledger state included; what gossip carries
	MaxLegions = 10_000  // legions in one set, and thrones a voter keeps
	MaxName    = 255     // bytes of a node's or a legion's name
	// MaxNumber is the highest term or epoch. They begin at Unix seconds and at
	// 1, so one beyond it is junk, and so near the end that none would follow.
	MaxNumber = 1 << 62
	MaxLease  = time.Hour
)

// A Header is what every message carries.
type Header struct {
	Cluster     ID     `cbor:"1,keyasint"` // zero before a founding
	Epoch       uint64 `cbor:"2,keyasint"`
	From        string `cbor:"3,keyasint"` // the sender's name
	Instance    ID     `cbor:"4,keyasint"`
	Incarnation ID     `cbor:"5,keyasint"`
	To          ID     `cbor:"6,keyasint"` // the incarnation meant; zero: any
	Seq         uint64 `cbor:"7,keyasint"` // grows with every message of an incarnation
	Echo        uint64 `cbor:"8,keyasint"` // in an answer: the Seq it answers
	// Wall is the sender's time of day in Unix milliseconds; see clock.go.
	Wall int64 `cbor:"9,keyasint,omitempty"`
}

// A Message is a header and one body.
type Message struct {
	Header
	Body Body
}

// A Body is one of the message types below.
type Body interface{ kind() byte }

type (
	// Beat renews all lordships of its sender with one voter.
	Beat struct {
		// Heard is the latest Seq the sender has from this voter's incarnation.
		Heard   uint64 `cbor:"1,keyasint"`
		Version uint64 `cbor:"2,keyasint"` // of the set of lordships
		// Set is left out once the voter has acknowledged Version.
		Set  []Reigning `cbor:"3,keyasint,omitempty"`
		Full bool       `cbor:"4,keyasint,omitempty"` // Set is present, even if empty
	}
	// Reigning names one lordship.
	Reigning struct {
		Legion string `cbor:"1,keyasint"`
		Term   uint64 `cbor:"2,keyasint"`
	}
	// BeatAck answers a Beat.
	BeatAck struct {
		Version uint64 `cbor:"1,keyasint"` // the set it holds; another than asked: send it
		// Extended says that every lordship of the set but the refused ones
		// was extended, from the moment the beat was received.
		Extended bool       `cbor:"2,keyasint,omitempty"`
		Refused  []Reigning `cbor:"3,keyasint,omitempty"` // with the voter's promise
		// Holders are, for each of the refused, who has a living grant; empty: nobody.
		Holders []string `cbor:"4,keyasint,omitempty"`
	}

	// Probe asks "would you vote for me?" without raising a term.
	Probe struct {
		Legion string `cbor:"1,keyasint"`
		Rank   Rank   `cbor:"2,keyasint"`
	}
	// ProbeAck answers a Probe.
	ProbeAck struct {
		Legion string  `cbor:"1,keyasint"`
		Would  bool    `cbor:"2,keyasint,omitempty"`
		Why    Refusal `cbor:"3,keyasint,omitempty"`
		Term   uint64  `cbor:"4,keyasint"` // the voter's promise
		// Again says when to ask again, for a refusal; 0: not before the next change.
		Again time.Duration `cbor:"5,keyasint,omitempty"`
	}
	// Ask asks for a vote.
	Ask struct {
		Legion string `cbor:"1,keyasint"`
		Term   uint64 `cbor:"2,keyasint"`
		Rank   Rank   `cbor:"3,keyasint"`
		// Hash is of the asker's own ledger state of the legion: a voter whose
		// state has the same hash need not send it.
		Hash []byte `cbor:"4,keyasint,omitempty"`
	}
	// Vote answers an Ask.
	Vote struct {
		Legion  string        `cbor:"1,keyasint"`
		Term    uint64        `cbor:"2,keyasint"` // asked for
		Granted bool          `cbor:"3,keyasint,omitempty"`
		Why     Refusal       `cbor:"4,keyasint,omitempty"`
		Promise uint64        `cbor:"5,keyasint"` // the highest term promised
		Again   time.Duration `cbor:"6,keyasint,omitempty"`
		// Same says that the voter's ledger state has the hash of the Ask;
		// else State holds it. Both are filled in by the shell, after the
		// promise is durable.
		Same  bool   `cbor:"7,keyasint,omitempty"`
		State []byte `cbor:"8,keyasint,omitempty"`
		// Pending is what the voter has stored of a change of electorate that
		// may have been chosen; in a vote for [ClusterLegion] only.
		Pending *Amendment `cbor:"9,keyasint,omitempty"`
	}

	// Release gives thrones back.
	Release struct {
		Thrones   []Reigning `cbor:"1,keyasint"`
		Successor string     `cbor:"2,keyasint,omitempty"`
	}
	// Offer asks a candidate whether it would take a throne over from its lord.
	Offer struct {
		Legion string `cbor:"1,keyasint"`
		Term   uint64 `cbor:"2,keyasint"` // the lord's
		// Rank is the lord's own: the candidate must be better by more than
		// Over, unless the lord must go.
		Rank Rank `cbor:"3,keyasint"`
		Over int  `cbor:"4,keyasint,omitempty"`
		Must bool `cbor:"5,keyasint,omitempty"`
		// Rest asks the new lord not to move it for load for a while, Keep to
		// reign for so long even if another is better.
		Rest bool          `cbor:"6,keyasint,omitempty"`
		Keep time.Duration `cbor:"7,keyasint,omitempty"`
	}
	// Ready answers an Offer.
	Ready struct {
		Legion string `cbor:"1,keyasint"`
		Term   uint64 `cbor:"2,keyasint"`
		Ready  bool   `cbor:"3,keyasint,omitempty"`
		Busy   bool   `cbor:"4,keyasint,omitempty"` // not yet: it is taking another
		Rank   Rank   `cbor:"5,keyasint"`
	}
	// Rival tells another lord of the same legion of one's own rank: where less
	// than a majority does there may be two.
	Rival struct {
		Legion string `cbor:"1,keyasint"`
		Term   uint64 `cbor:"2,keyasint"`
		Rank   Rank   `cbor:"3,keyasint"`
		Answer bool   `cbor:"4,keyasint,omitempty"`
		Of     uint64 `cbor:"5,keyasint"` // the term of the reign that it contests
	}
	// Death ends an incarnation for good.
	Death struct {
		Incarnation ID `cbor:"1,keyasint"`
	}
	// Ack answers a Release or a Death.
	Ack struct{}
	// Vacant tells a candidate without a vote that a throne is free.
	Vacant struct {
		Legion    string `cbor:"1,keyasint"`
		Term      uint64 `cbor:"2,keyasint"`
		Successor string `cbor:"3,keyasint,omitempty"`
	}

	// Accept asks a voter to take a write. Term 0 asks for an unfenced one.
	Accept struct {
		Legion  string `cbor:"1,keyasint"`
		Term    uint64 `cbor:"2,keyasint"`
		Payload []byte `cbor:"3,keyasint"`
		ID      uint64 `cbor:"4,keyasint"` // the same in every repetition
		// Dated is the lord's time of day in Unix milliseconds when it asked for a
		// fenced write.
		Dated int64 `cbor:"5,keyasint,omitempty"`
	}
	// Accepted answers an Accept.
	Accepted struct {
		OK      bool   `cbor:"1,keyasint,omitempty"`
		Promise uint64 `cbor:"2,keyasint,omitempty"`
	}

	// Found asks a node to accept a founding.
	Found struct {
		Proposal Founding `cbor:"1,keyasint"`
		// Dead lists rival foundings that cannot stand any more, because one
		// of their voters has durably refused them.
		Dead []ID `cbor:"2,keyasint,omitempty"`
	}
	// FoundAck answers a Found.
	FoundAck struct {
		Cluster  ID   `cbor:"1,keyasint"`
		Accepted bool `cbor:"2,keyasint,omitempty"`
		// Rival is what the node has accepted instead and cannot drop yet.
		Rival *Founding `cbor:"3,keyasint,omitempty"`
	}
	// Refuse asks a named voter to refuse a founding for good, if it has not
	// accepted it.
	Refuse struct {
		Cluster ID `cbor:"1,keyasint"`
	}
	// RefuseAck answers a Refuse.
	RefuseAck struct {
		Cluster ID   `cbor:"1,keyasint"`
		Refused bool `cbor:"2,keyasint,omitempty"`
	}
	// Amend asks a voter to store the electorate that may follow its own. It is
	// fenced by a term of [ClusterLegion].
	Amend struct {
		Amendment Amendment `cbor:"1,keyasint"`
	}
	// Amended answers an Amend.
	Amended struct {
		OK bool `cbor:"1,keyasint,omitempty"`
	}
	// Read asks a voter of the epoch before for all that it promised and took.
	Read struct{}
	// Standing answers a Read. It leaves once the adoption of the epoch is on
	// disk, after which the voter takes nothing more of an older one.
	Standing struct {
		Promises []Grant `cbor:"1,keyasint"`
		// States is what it had written of each legion, filled in by the shell.
		States []LegionState `cbor:"2,keyasint,omitempty"`
	}

	// Disown tells an incarnation that its state directory is not the newest of
	// its instance: one that had counted Starts was seen.
	Disown struct {
		Incarnation ID     `cbor:"1,keyasint"`
		Starts      uint64 `cbor:"2,keyasint"`
	}

	// Committed tells of the electorate that stands.
	Committed struct {
		Electorate Electorate `cbor:"1,keyasint"`
	}
)

// A Refusal says why a voter would not vote.
type Refusal uint8

// The refusals, in the order they are looked for.
const (
	NotRefused  Refusal = iota
	NoVote              // this node is not a voter of that electorate
	DiskFull            // the voter cannot write
	Dead                // the asker's incarnation has a death certificate
	Occupied            // a grant to another has not ended
	Preferred           // a better candidate is known and the throne fell vacant just now
	StaleTerm           // a term as high was promised
	StaleAnswer         // the request is older than a release
)

var refusals = [...]string{"", "no vote here", "disk full", "declared dead", "throne occupied", "a better candidate is known", "term too low", "older than a release"}

// String says it in words.
func (r Refusal) String() string {
	if int(r) < len(refusals) {
		return refusals[r]
	}
	return "refused"
}

func (Beat) kind() byte      { return 1 }
func (BeatAck) kind() byte   { return 2 }
func (Probe) kind() byte     { return 3 }
func (ProbeAck) kind() byte  { return 4 }
func (Ask) kind() byte       { return 5 }
func (Vote) kind() byte      { return 6 }
func (Release) kind() byte   { return 7 }
func (Death) kind() byte     { return 8 }
func (Ack) kind() byte       { return 9 }
func (Vacant) kind() byte    { return 10 }
func (Accept) kind() byte    { return 11 }
func (Accepted) kind() byte  { return 12 }
func (Found) kind() byte     { return 13 }
func (FoundAck) kind() byte  { return 14 }
func (Refuse) kind() byte    { return 15 }
func (RefuseAck) kind() byte { return 16 }
func (Committed) kind() byte { return 17 }
func (Amend) kind() byte     { return 32 }
func (Amended) kind() byte   { return 33 }
func (Read) kind() byte      { return 34 }
func (Standing) kind() byte  { return 35 }
func (Disown) kind() byte    { return 36 }
func (Offer) kind() byte     { return 40 }
func (Ready) kind() byte     { return 41 }
func (Rival) kind() byte     { return 42 }

// bodies reads a body of each kind.
var bodies = map[byte]func([]byte) (Body, error){
	1: read[Beat], 2: read[BeatAck], 3: read[Probe], 4: read[ProbeAck], 5: read[Ask], 6: read[Vote],
	7: read[Release], 8: read[Death], 9: read[Ack], 10: read[Vacant], 11: read[Accept], 12: read[Accepted],
	13: read[Found], 14: read[FoundAck], 15: read[Refuse], 16: read[RefuseAck], 17: read[Committed],
	32: read[Amend], 33: read[Amended], 34: read[Read], 35: read[Standing], 36: read[Disown],
	40: read[Offer], 41: read[Ready], 42: read[Rival],
}

var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxNestedLevels:  8,
		MaxArrayElements: MaxLegions + 16, // the library wants at least 16
		MaxMapPairs:      64,
		IndefLength:      cbor.IndefLengthForbidden,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

func read[T Body](b []byte) (Body, error) {
	var v T
	if err := decoding.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// Errors of DecodeMessage that mean "drop it", not "it is damaged".
var (
	ErrVersion = errors.New("message of another version")
	ErrKind    = errors.New("message of an unknown kind")
)

// Encode writes the message: a version byte, a kind byte, then the header and
// the body in CBOR with integer keys.
func (m Message) Encode() ([]byte, error) {
	head, err := cbor.Marshal(m.Header)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	body, err := cbor.Marshal(m.Body)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	b := make([]byte, 0, 2+len(head)+len(body))
	b = append(b, Version, m.Body.kind())
	return append(append(b, head...), body...), nil
}

// DecodeMessage reads what Encode wrote. Unknown fields are ignored; ErrVersion
// and ErrKind are for messages of newer software. It keeps no reference to b.
func DecodeMessage(b []byte) (Message, error) {
	var m Message
	if len(b) < 2 {
		return m, fmt.Errorf("decode message: %d bytes", len(b))
	}
	if len(b) > MaxMessage {
		return m, fmt.Errorf("decode message: %d bytes, the limit is %d", len(b), MaxMessage)
	}
	if b[0] != Version {
		return m, ErrVersion
	}
	body, ok := bodies[b[1]]
	if !ok {
		return m, ErrKind
	}
	rest, err := decoding.UnmarshalFirst(b[2:], &m.Header)
	if err != nil {
		return m, fmt.Errorf("decode message header: %w", err)
	}
	if m.Body, err = body(rest); err != nil {
		return m, fmt.Errorf("decode message body: %w", err)
	}
	if len(m.From) == 0 || len(m.From) > MaxName || m.Incarnation == (ID{}) {
		return m, fmt.Errorf("decode message: no sender")
	}
	if r, ok := m.Body.(interface{ valid() error }); ok {
		if err := r.valid(); err != nil {
			return m, fmt.Errorf("decode message: %w", err)
		}
	}
	return m, nil
}

func validLegion(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("legion name of %d bytes", len(name))
	}
	return nil
}

// validTerm checks a legion's name and terms.
func validTerm(legion string, terms ...uint64) error {
	for _, t := range terms {
		if t > MaxNumber {
			return fmt.Errorf("term %d, the limit is %d", t, uint64(MaxNumber))
		}
	}
	return validLegion(legion)
}

func validSet(set []Reigning) error {
	for _, r := range set {
		if err := validTerm(r.Legion, r.Term); err != nil {
			return err
		}
	}
	return nil
}

func (a *Amendment) valid() error {
	if err := validTerm(ClusterLegion, a.Term); err != nil {
		return err
	}
	return a.Electorate.Check()
}

func (b Beat) valid() error    { return validSet(b.Set) }
func (b BeatAck) valid() error { return validSet(b.Refused) }
func (b Probe) valid() error   { return validLegion(b.Legion) }
func (b Ask) valid() error     { return validTerm(b.Legion, b.Term) }
func (b Amend) valid() error   { return b.Amendment.valid() }
func (b Standing) valid() error {
	for _, g := range b.Promises {
		if err := validTerm(g.Legion, g.Term); err != nil {
			return err
		}
		if g.Lease < 0 || g.Lease > MaxLease {
			return fmt.Errorf("lease of %v", g.Lease)
		}
	}
	for _, s := range b.States {
		if len(s.Legion) > MaxName {
			return validLegion(s.Legion)
		}
	}
	return nil
}
func (b Vote) valid() error {
	if b.Pending != nil {
		if err := b.Pending.valid(); err != nil {
			return err
		}
	}
	return validTerm(b.Legion, b.Term, b.Promise)
}
func (b ProbeAck) valid() error  { return validTerm(b.Legion, b.Term) }
func (b Release) valid() error   { return validSet(b.Thrones) }
func (b Vacant) valid() error    { return validTerm(b.Legion, b.Term) }
func (b Offer) valid() error     { return validTerm(b.Legion, b.Term) }
func (b Ready) valid() error     { return validTerm(b.Legion, b.Term) }
func (b Rival) valid() error     { return validTerm(b.Legion, b.Term, b.Of) }
func (b Committed) valid() error { return b.Electorate.Check() }
func (b Found) valid() error     { return b.Proposal.Electorate.Check() }
func (b FoundAck) valid() error {
	if b.Rival != nil {
		return b.Rival.Electorate.Check()
	}
	return nil
}
func (b Accept) valid() error {
	if b.Term == 0 {
		return nil
	}
	return validTerm(b.Legion, b.Term)
}
