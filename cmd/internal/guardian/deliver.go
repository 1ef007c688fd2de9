package guardian

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	// deliverEvery is the pause between two rounds. Less costs packets, more
	// costs time where one is lost.
	deliverEvery = 50 * time.Millisecond
	// deliverTimeout ends the rounds. Any lease but a very long one is over by
	// then; what a later certificate would still tell, the voters learn anyway.
	deliverTimeout = 5 * time.Second
	// deliverRounds is how often those are written to who have not answered
	// when a quorum has: a legion may need more votes than that.
	deliverRounds = 3

	maxReceipt = 64 // bytes
)

// deliver sends the certificate until a quorum of the voters has answered, and
// returns how many have.
func deliver(ctx context.Context, c Certificate) (int, error) {
	if c.Quorum == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return 0, err
	}
	answers := make(chan string)
	read := make(chan struct{})
	go func() { defer close(read); receive(ctx, conn, answers) }()
	defer func() { cancel(); conn.Close(); <-read }()

	waiting := map[string]Delivery{} // by receipt
	for _, d := range c.Deliveries {
		waiting[string(d.Receipt)] = d
	}
	all := len(waiting)
	tick := time.NewTicker(deliverEvery)
	defer tick.Stop()
	for round := 1; ; round++ {
		for _, d := range waiting {
			if addr, err := netip.ParseAddrPort(d.Addr); err == nil {
				_, _ = conn.WriteToUDPAddrPort(d.Datagram, addr) // it is sent again
			}
		}
		for pause := true; pause; {
			select {
			case r := <-answers:
				delete(waiting, r)
			case <-tick.C:
				pause = false
			case <-ctx.Done():
				return all - len(waiting), context.Cause(ctx)
			}
			told := all - len(waiting)
			if told == all || told >= c.Quorum && round >= deliverRounds {
				return told, nil
			}
		}
	}
}

// receive passes on what comes in until conn is closed or ctx ends.
func receive(ctx context.Context, conn *net.UDPConn, answers chan<- string) {
	buf := make([]byte, maxReceipt)
	for ctx.Err() == nil {
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			continue // ICMP's word that a port is closed: it may open again
		}
		select {
		case answers <- string(buf[:n]):
		case <-ctx.Done():
		}
	}
}
