package gossip

import (
	"bytes"
	"net"
	"testing"
	"time"
)

// messenger is a socket of nobody's. It sends a datagram and returns what it
// is answered, nil if nothing.
func messenger(t *testing.T, to string, datagram []byte, patience time.Duration) []byte {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(datagram); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxDatagram)
	n, err := c.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func TestNotice(t *testing.T) {
	t.Parallel()
	next := bytes.Repeat([]byte{9}, 32)
	other := bytes.Repeat([]byte{8}, 32)
	for name, keys := range map[string]struct {
		sender, receiver [][]byte
		want             bool
	}{
		"one key":    {[][]byte{key}, [][]byte{key}, true},
		"rotating":   {[][]byte{next, key}, [][]byte{key, next}, true},
		"no keys":    {nil, nil, true},
		"wrong key":  {[][]byte{other}, [][]byte{key}, false},
		"no key yet": {nil, [][]byte{key}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := make(chan []byte, 10)
			cfg := config("receiver")
			cfg.Keys = keys.receiver
			cfg.Notice = func(msg []byte, receipt func()) {
				heard <- msg
				receipt()
			}
			receiver := start(t, cfg)
			cfg = config("sender")
			cfg.Keys = keys.sender
			sender := start(t, cfg)
			n, err := sender.Notice([]byte("it is dead"))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := sender.Notice([]byte("it is dead")); err != nil || bytes.Equal(again.Receipt, n.Receipt) {
				t.Errorf("a second notice has the same receipt (%v)", err)
			}
			if err := sender.Stop(t.Context()); err != nil { // it is delivered by others
				t.Fatal(err)
			}
			if !keys.want {
				before := receiver.Stats().Junk
				if got := messenger(t, receiver.Addr(), n.Datagram, 300*time.Millisecond); got != nil {
					t.Errorf("it is answered %x", got)
				}
				eventually(t, "it is counted as junk", func() bool { return receiver.Stats().Junk > before })
				if len(heard) > 0 {
					t.Errorf("heard %q", <-heard)
				}
				return
			}
			if got := messenger(t, receiver.Addr(), n.Datagram, patience); !bytes.Equal(got, n.Receipt) {
				t.Errorf("it is answered %x, want %x", got, n.Receipt)
			}
			if got := string(<-heard); got != "it is dead" {
				t.Errorf("heard %q", got)
			}
			before := receiver.Stats().Junk
			n.Datagram[len(n.Datagram)/2] ^= 1
			if keys.sender != nil && messenger(t, receiver.Addr(), n.Datagram, 300*time.Millisecond) != nil {
				t.Error("a damaged one is answered")
			}
			for _, junk := range [][]byte{{noticeMark}, {noticeMark, 1}, bytes.Repeat([]byte{noticeMark}, 30)} {
				messenger(t, receiver.Addr(), junk, time.Millisecond)
			}
			eventually(t, "the junk is counted", func() bool { return receiver.Stats().Junk >= before+2 })
		})
	}
}

func TestNoticeTooLarge(t *testing.T) {
	t.Parallel()
	n := start(t, config("a"))
	if _, err := n.Notice(make([]byte, maxPacket)); err == nil {
		t.Error("no error")
	}
}
