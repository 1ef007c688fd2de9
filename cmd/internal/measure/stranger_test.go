package measure

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stranger makes this binary one of the programs on the lab's hosts that wish
// the cluster no good.
func stranger() {
	var err error
	switch os.Getenv("MEASURE_STRANGER") {
	case "":
		return
	case "junk":
		err = junk(os.Args[1:])
	case "capture":
		err = capture(os.Args[1])
	case "replay":
		err = replay(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// junk sends two bytes a second to every address, by UDP and TCP, as have
// confused others, and with them datagrams that begin like real ones, and
// streams that begin and never end. It does so until it is killed.
func junk(addrs []string) error {
	const (
		datagrams   = 20 * time.Millisecond
		streams     = 200 * time.Millisecond
		maxStreams  = 100 // held open to each
		twoBytes    = time.Second
		largest     = 1400
		marks       = "L\x00\x01\x02\x03\x04\x05\x08\x09\x0a\x0b\x0c\xf4" // what messages begin with
		dialTimeout = time.Second
	)
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	held := map[string][]net.Conn{}
	stream := func(addr string, b []byte, hold bool) {
		c, err := net.DialTimeout("tcp", addr, dialTimeout)
		if err != nil {
			return // it is full of us, or its agent is not there now
		}
		_, _ = c.Write(b)
		if !hold {
			c.Close()
			return
		}
		held[addr] = append(held[addr], c)
		if len(held[addr]) > maxStreams {
			held[addr][0].Close()
			held[addr] = held[addr][1:]
		}
	}
	some := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return b
	}
	fmt.Println("ready")
	tick := time.NewTicker(datagrams)
	for n := time.Duration(0); ; n += datagrams {
		for _, addr := range addrs {
			to, err := net.ResolveUDPAddr("udp4", addr)
			if err != nil {
				return err
			}
			b := some(1 + rand.IntN(largest))
			b[0] = marks[rand.IntN(len(marks))]
			_, _ = conn.WriteToUDP(b, to) // there may be nobody now
			if n%streams == 0 {
				stream(addr, b[:1+rand.IntN(len(b))], true)
			}
			if n%twoBytes == 0 {
				_, _ = conn.WriteToUDP(some(2), to)
				stream(addr, some(2), false)
			}
		}
		<-tick.C
	}
}

const (
	frameHead  = 12 // a frame in a file: its length, and when it came
	etherHead  = 14
	maxFrame   = 64 << 10
	outgoing   = 4 // PACKET_OUTGOING
	protocolIP = 0x0800
	udp        = 17
)

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// capture writes every UDP packet that the switch's ports take in to a file,
// until it is told to end.
func capture(path string) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return err
	}
	ports, err := ports()
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGTERM)
	frames := 0
	began := time.Now()
	buf := make([]byte, maxFrame)
	for {
		select {
		case <-ended:
			fmt.Println("captured", frames)
			return out.Close()
		default:
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue // nothing passed for a while
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		frame := buf[:n]
		if !ok || ll.Pkttype == outgoing || ports[ll.Ifindex] == "" || n < etherHead+20 ||
			binary.BigEndian.Uint16(frame[12:]) != protocolIP || frame[etherHead+9] != udp {
			continue
		}
		head := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(n)), uint64(time.Since(began)))
		if _, err := out.Write(append(head, frame...)); err != nil {
			return err
		}
		frames++
	}
}

// ports are the switch's interfaces to hosts, by index.
func ports() (map[int]string, error) {
	all, err := net.Interfaces()
	byIndex := map[int]string{}
	for _, i := range all {
		if _, err := strconv.Atoi(strings.TrimPrefix(i.Name, "p")); err == nil && strings.HasPrefix(i.Name, "p") {
			byIndex[i.Index] = i.Name
		}
	}
	return byIndex, err
}

// replay sends what was captured to the hosts it was for, so many times as
// fast as it came.
func replay(path, speed string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	faster, err := strconv.Atoi(speed)
	if err != nil {
		return err
	}
	byIndex, err := ports()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	sent, began := 0, time.Now()
	for len(text) >= frameHead {
		n := int(binary.BigEndian.Uint32(text))
		due := time.Duration(binary.BigEndian.Uint64(text[4:])) / time.Duration(faster)
		frame := text[frameHead : frameHead+n]
		text = text[frameHead+n:]
		if wait := due - time.Since(began); wait > 0 {
			<-time.After(wait)
		}
		for index, name := range byIndex {
			// The last byte of a host's address is its number, as is its port's.
			if name == fmt.Sprintf("p%d", frame[5]) {
				if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Addr: [8]byte(append(frame[:6:6], 0, 0))}); err == nil {
					sent++
				}
			}
		}
	}
	fmt.Println("replayed", sent)
	return nil
}
