package gossip

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// Limits of the wire.
const (
	// maxPacket is the largest user message sent as a UDP packet. With
	// memberlist's and AES-GCM's overhead it stays under 1280 bytes, the
	// smallest MTU of IPv6.
	maxPacket = 1200
	// MaxMessage is the largest message, question or answer in bytes.
	MaxMessage = 8 << 20
	// MaxState is the largest announced state in bytes.
	MaxState = 1 << 20
	// maxStates bounds what one push/pull says about others, in bytes.
	maxStates = 8 << 20
	// maxName bounds names, instances and incarnations, in bytes; three times
	// that and the framing must fit memberlist's 512 bytes of metadata.
	maxName = 128
	// maxOrigins bounds the announcements accepted in one push/pull.
	maxOrigins = 4096
)

// wireVersion is the first byte of all that this package sends.
const wireVersion = 1

// kind is the second byte of every user message.
type kind byte

const (
	kindMessage  kind = 1 + iota // Send: the payload as it is
	kindState                    // one announcement
	kindStates                   // push/pull: every announcement known
	kindWho                      // who are you? (name conflicts)
	kindIam                      // answer to kindWho
	kindRival                    // a third node: your name is also held there
	kindLeave                    // goodbye
	kindAsk                      // Call, step 1: may I ask?
	kindTicket                   // step 2: once, with this ticket
	kindQuestion                 // step 3
	kindAnswer                   // step 4
	kindWant                     // tell me what you announce
)

// announcement is the state of one node. Seq orders those of one incarnation.
// Where the body was left out it says only that there is one, to be asked for.
type announcement struct {
	Origin      string `cbor:"1,keyasint"`
	Incarnation string `cbor:"2,keyasint"`
	Seq         uint64 `cbor:"3,keyasint"`
	Body        []byte `cbor:"4,keyasint"`
	Held        bool   `cbor:"5,keyasint,omitempty"` // the body was left out
}

// want asks a node for its announcement, on behalf of From.
type want struct {
	From string `cbor:"1,keyasint"`
}

// who asks the node at an address who it is, and says who asks; the answer goes
// to Reply.
type who struct {
	Reply string `cbor:"1,keyasint"`
	From  iam    `cbor:"2,keyasint"`
}

// rival tells one holder of a name where the other is.
type rival struct {
	Name string `cbor:"1,keyasint"`
	Addr string `cbor:"2,keyasint"`
}

// goodbye ends an incarnation; as no other bears its name, replaying it is no
// harm.
type goodbye struct {
	Name        string `cbor:"1,keyasint"`
	Incarnation string `cbor:"2,keyasint"`
}

// iam answers who. Age is a duration on the sender's clock, never a time.
type iam struct {
	Nonce       uint64        `cbor:"1,keyasint"`
	Name        string        `cbor:"2,keyasint"`
	Incarnation string        `cbor:"3,keyasint"`
	Age         time.Duration `cbor:"4,keyasint"`
}

// call is each of the four steps of a Call; unused fields stay empty.
type call struct {
	ID     uint64        `cbor:"1,keyasint"`
	From   string        `cbor:"2,keyasint,omitempty"`
	Ticket uint64        `cbor:"3,keyasint,omitempty"`
	Within time.Duration `cbor:"4,keyasint,omitempty"`
	Error  string        `cbor:"5,keyasint,omitempty"`
	Body   []byte        `cbor:"6,keyasint,omitempty"`
	To     string        `cbor:"7,keyasint,omitempty"` // of an ask: who is meant
}

// meta is what memberlist carries beside name and address.
type meta struct {
	Instance    string `cbor:"1,keyasint"`
	Incarnation string `cbor:"2,keyasint"`
}

var decoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  4,
		MaxArrayElements: maxOrigins,
		MaxMapPairs:      32,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return mode
}()

var errFrame = errors.New("not a message of this version")

// pack frames v, which must be one of the wire structs.
func pack(k kind, v any) ([]byte, error) {
	body, err := cbor.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message of kind %d: %w", k, err)
	}
	return frame(k, body), nil
}

func frame(k kind, body []byte) []byte {
	buf := make([]byte, 0, 2+len(body))
	return append(append(buf, wireVersion, byte(k)), body...)
}

// split undoes frame. The body aliases buf.
func split(buf []byte) (kind, []byte, error) {
	if len(buf) < 2 || buf[0] != wireVersion || len(buf) > maxStates+MaxMessage {
		return 0, nil, errFrame
	}
	return kind(buf[1]), buf[2:], nil
}

// unpack decodes and checks a body; T is one of the wire structs.
func unpack[T any](body []byte) (T, error) {
	var v T
	if err := decoding.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("decode message: %w", err)
	}
	return v, check(v)
}

func check(v any) error {
	switch v := v.(type) {
	case announcement:
		if !named(v.Origin) || !named(v.Incarnation) || len(v.Body) > MaxState {
			return errors.New("decode announcement: field out of bounds")
		}
	case []announcement:
		for _, a := range v {
			if err := check(a); err != nil {
				return err
			}
		}
	case want:
		if !named(v.From) {
			return errors.New("decode want: field out of bounds")
		}
	case who:
		if len(v.Reply) > maxName {
			return errors.New("decode who: field out of bounds")
		}
		return check(v.From)
	case rival:
		if !named(v.Name) || len(v.Addr) > maxName {
			return errors.New("decode rival: field out of bounds")
		}
	case goodbye:
		if !named(v.Name) || !named(v.Incarnation) {
			return errors.New("decode goodbye: field out of bounds")
		}
	case iam:
		if !named(v.Name) || !named(v.Incarnation) || v.Age < 0 {
			return errors.New("decode iam: field out of bounds")
		}
	case call:
		if len(v.From) > maxName || len(v.To) > maxName || len(v.Error) > maxCallError || len(v.Body) > MaxMessage {
			return errors.New("decode call: field out of bounds")
		}
	case meta:
		if len(v.Instance) > maxName || !named(v.Incarnation) {
			return errors.New("decode metadata: field out of bounds")
		}
	}
	return nil
}

// named says whether s can name a node or its life. It is told to hooks, metrics
// and logs, which cannot hold everything.
func named(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// packMeta is a version byte and the metadata; Start has bounded its strings.
func packMeta(m meta) ([]byte, error) {
	body, err := cbor.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return append([]byte{wireVersion}, body...), nil
}

func unpackMeta(buf []byte) (meta, error) {
	if len(buf) < 1 || buf[0] != wireVersion {
		return meta{}, errFrame
	}
	return unpack[meta](buf[1:])
}

// nonce makes a number that cannot be guessed, nor met again in a recording.
func nonce() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
