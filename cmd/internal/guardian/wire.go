package guardian

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/legion-cron/legion-cron/cmd/internal/hooks"
	"github.com/legion-cron/legion-cron/legion"
)

// Limits of the pipe.
const (
	maxFrame  = 1 << 20 // bytes
	maxRuns   = 10_000  // told of at a time; later ones are as safe as the lease
	maxWills  = legion.MaxLegions
	frameHead = 4 // bytes: the length, big-endian
)

// A frame is what the agent tells at a time. Guardian and agent are the same
// binary, so it carries no version.
type frame struct {
	Oath        *Config      `cbor:"1,keyasint,omitempty"` // in the first one
	Certificate *Certificate `cbor:"2,keyasint,omitempty"`
	Held        []holding    `cbor:"3,keyasint,omitempty"`
	Began       *run         `cbor:"4,keyasint,omitempty"`
	Ended       string       `cbor:"5,keyasint,omitempty"` // a run id
	Dismissed   bool         `cbor:"6,keyasint,omitempty"`
	Reign       *hooks.Will  `cbor:"7,keyasint,omitempty"`  // unlord hooks
	Leaving     string       `cbor:"8,keyasint,omitempty"`  // a legion whose trust ran out; the agent calls its hooks
	Left        string       `cbor:"9,keyasint,omitempty"`  // a legion whose unlord hooks have ended
	Mourn       *hooks.Will  `cbor:"10,keyasint,omitempty"` // death hooks
	AllHeld     legion.Stamp `cbor:"11,keyasint,omitzero"`  // until when every lordship told of lasts
}

// A holding says until when a lordship lasts on this machine's clocks. One
// that is let go has the zero Stamp.
type holding struct {
	Legion string       `cbor:"1,keyasint"`
	Until  legion.Stamp `cbor:"2,keyasint"`
}

// A run is one that must not outlive the lordship it was begun under.
type run struct {
	ID     string `cbor:"1,keyasint"`
	Legion string `cbor:"2,keyasint"`
}

// A Certificate ends the incarnation: it is delivered when a Quorum of the
// Deliveries has been answered.
type Certificate struct {
	Deliveries []Delivery `cbor:"1,keyasint,omitempty"`
	Quorum     int        `cbor:"2,keyasint,omitempty"`
}

// A Delivery is a datagram for one voter, and the one that answers it.
type Delivery struct {
	Name     string `cbor:"1,keyasint"`
	Addr     string `cbor:"2,keyasint"` // ip:port
	Datagram []byte `cbor:"3,keyasint"`
	Receipt  []byte `cbor:"4,keyasint"`
}

// encode returns the frame with its length in front.
func (f frame) encode() ([]byte, error) {
	body, err := cbor.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	if len(body) > maxFrame {
		return nil, fmt.Errorf("encode frame: %d bytes, the limit is %d", len(body), maxFrame)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), nil
}

// readFrame returns io.EOF where the file ends, be it inside of a frame: the
// agent was killed while it wrote.
func readFrame(r *bufio.Reader) (frame, error) {
	var f frame
	head := make([]byte, frameHead)
	if _, err := io.ReadFull(r, head); err != nil {
		return f, ended(err)
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxFrame {
		return f, fmt.Errorf("read frame: %d bytes, the limit is %d", size, maxFrame)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return f, ended(err)
	}
	if err := cbor.Unmarshal(body, &f); err != nil {
		return f, fmt.Errorf("read frame: %w", err)
	}
	return f, nil
}

func ended(err error) error {
	if err == io.ErrUnexpectedEOF {
		return io.EOF
	}
	return err
}
