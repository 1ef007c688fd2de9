package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
)

// A notice bypasses memberlist, whose packets only a member can send. It is
// told from those by its first byte, which memberlist gives to nothing.
const (
	noticeMark  = 'L'
	receiptSize = 16
)

// noticeData is what the seal covers besides the contents.
var noticeData = []byte("legion-cron notice")

// A Notice is a message in a sealed datagram, for one of the other nodes. Who
// has it needs neither keys nor membership to deliver it, from any socket, at
// any time until its key is removed from the keyring: the guardian of a
// process does, when that process is no more.
type Notice struct {
	Datagram []byte
	// Receipt is the datagram that answers it, to where it came from. It is
	// secret until then, so whoever sends it has opened this very notice.
	Receipt []byte
}

// Notice seals a message with the newest key. Each call makes another one:
// receipts of several nodes are told apart by making a notice for each.
func (n *Node) Notice(msg []byte) (Notice, error) {
	receipt := make([]byte, receiptSize)
	rand.Read(receipt) // never fails
	plain := append(append([]byte{wireVersion}, receipt...), msg...)
	sealed := plain
	if n.keyring != nil {
		aead, err := noticeSeal(n.keyring.GetKeys()[0])
		if err != nil {
			return Notice{}, fmt.Errorf("seal notice: %w", err)
		}
		sealed = aead.Seal(nil, nil, plain, noticeData)
	}
	if 1+len(sealed) > maxPacket {
		return Notice{}, fmt.Errorf("seal notice: %w", ErrTooLarge)
	}
	return Notice{Datagram: append([]byte{noticeMark}, sealed...), Receipt: receipt}, nil
}

func noticeSeal(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// openNotice undoes Notice, but for the mark.
func (n *Node) openNotice(sealed []byte) (receipt, msg []byte, err error) {
	plain := bytes.Clone(sealed)
	if n.keyring != nil {
		plain = nil
		for _, key := range n.keyring.GetKeys() {
			if aead, err := noticeSeal(key); err == nil {
				if plain, err = aead.Open(nil, nil, sealed, noticeData); err == nil {
					break
				}
			}
		}
	}
	if len(plain) <= 1+receiptSize || plain[0] != wireVersion {
		return nil, nil, errors.New("open notice: junk, or another key")
	}
	return plain[1 : 1+receiptSize], plain[1+receiptSize:], nil
}

// heardNotice is called by the goroutine that reads packets.
func (n *Node) heardNotice(sealed []byte, from netip.AddrPort) {
	leave, ok := n.gate.enter()
	if !ok {
		return
	}
	defer leave()
	receipt, msg, err := n.openNotice(sealed)
	if err != nil || n.cfg.Notice == nil {
		n.junk.Add(1)
		return
	}
	n.cfg.Notice(msg, func() {
		_, _ = n.transport.WriteTo(receipt, from.String()) // a lost one is asked for again
	})
}
