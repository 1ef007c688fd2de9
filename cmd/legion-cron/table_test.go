package main

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
)

func TestShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                            "0ms",
		3 * time.Millisecond:         "3ms",
		-3 * time.Millisecond:        "-3ms",
		1490 * time.Millisecond:      "1.4s",
		59999 * time.Millisecond:     "59s",
		time.Minute:                  "1m",
		130 * time.Second:            "2m10s",
		3*time.Hour + 4*time.Minute:  "3h4m",
		24*time.Hour - 1:             "23h59m",
		5*24*time.Hour + 2*time.Hour: "5d2h",
		365 * 24 * time.Hour:         "365d",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for want, at := range map[string]time.Time{
		"":                 {},
		"02:03:04":         time.Date(2026, 3, 1, 2, 3, 4, 0, time.UTC),
		"Feb 28 23:59":     time.Date(2026, 2, 28, 23, 59, 0, 0, time.UTC),
		"2025-03-01 12:00": now.AddDate(-1, 0, 0),
	} {
		if got := clock(control.At(at), now); got != want {
			t.Errorf("clock(%v) = %q, want %q", at, got, want)
		}
	}
}

// TestTable: columns line up, nothing trails, and no cell can break a line.
func TestTable(t *testing.T) {
	t.Parallel()
	tb := newTable("JOB", "NEXT")
	tb.row("backup", "")
	tb.row("a\tb\x1b[2J\n", "soon")
	var b strings.Builder
	if err := tb.print(&b, "nothing"); err != nil {
		t.Fatal(err)
	}
	want := "JOB       NEXT\nbackup    -\na?b?[2J?  soon\n"
	if b.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", &b, want)
	}
	b.Reset()
	if err := newTable("JOB").print(&b, "no jobs"); err != nil || b.String() != "no jobs\n" {
		t.Errorf("empty table: %q, %v", &b, err)
	}
}

func TestPrintStatus(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	behind := int64(-700)
	s := control.Status{
		Node: "node1", Version: "1.2.3",
		Cluster: control.Cluster{
			ID: "c1", Epoch: 1, Voters: control.List[string]{"node1", "node2", "node3"}, Size: 3, Quorum: 2, BeatMS: 300, LeaseMS: 2000, Lord: "node2",
			Members: control.List[control.Member]{
				{Name: "node1", Addr: "10.0.0.1:4242", State: "alive", Version: "1.2.3", ClockSkewMS: new(int64)},
				{Name: "node2", Addr: "10.0.0.2:4242", State: "dead", Version: "1.2.3"},
				{Name: "node3", Addr: "10.0.0.3:4242", State: "alive", Version: "1.2.3", ClockSkewMS: &behind},
			},
		},
		Legions: control.List[control.Legion]{
			{
				Name: "foobar", Lord: "node1", Term: 7, Since: control.At(now.Add(-90 * time.Second)), TrustedMS: 1200, Quorum: 2, Votes: 2, Safe: true,
				Succession: control.List[string]{"node3", "node2"},
				Voters:     control.List[control.Vote]{{Name: "node1", For: "node1", Term: 7}, {Name: "node2", Why: "away"}, {Name: "node3", For: "node1", Term: 7}},
				Members: control.List[control.LegionMember]{
					{Name: "node1", Valor: 100, Effective: 50, Fit: true, VoteFor: "node1", Role: "lord", Checks: control.List[control.Check]{{Name: "ping", State: "failing", Valor: -50}}, Reasons: control.List[string]{"check ping is failing (-50): no answer from 192.0.2.1"}},
					{Name: "node0", Valor: 100, Role: "candidate", Reasons: control.List[string]{"drained"}},
					{Name: "node2", Valor: 20, Effective: 20, Fit: true, Role: "candidate"},
					{Name: "node3", Valor: 40, Effective: 40, Fit: true, Role: "candidate"},
				},
				LastChange: &control.Change{At: control.At(now.Add(-90 * time.Second)), To: "node1", Reason: "elected"},
			},
			{Name: "risky", Quorum: 1, Doubles: 3},
		},
	}
	var b strings.Builder
	if err := printStatus(&b, s, now); err != nil {
		t.Fatal(err)
	}
	want := `node1, legion-cron 1.2.3
cluster c1, epoch 1, voters node1 node2 node3
size 3, quorum 2, beat 300ms, lease 2s, lord of the cluster node2

LEGION  LORD   TERM  SINCE  TRUST  VOTES             NEXT         LAST CHANGE
foobar  node1  7     1m30s  1.2s   2 of 3, quorum 2  node3 node2  nobody to node1, 1m30s ago: elected
risky   -      0     -      -      0 of 3, quorum 1  -            -

LEGION  NODE   ROLE       VALOR  EFFECTIVE  FIT  VOTES FOR  WHY
foobar  node1  lord       100    50         yes  node1      check ping is failing (-50): no answer from 192.0.2.1
foobar  node3  candidate  40     40         yes  -          -
foobar  node2  candidate  20     20         yes  -          -
foobar  node0  candidate  100    0          no   -          drained

NODE   ADDRESS        STATE  VERSION  CLOCK
node1  10.0.0.1:4242  alive  1.2.3    +0ms
node2  10.0.0.2:4242  dead   1.2.3    -
node3  10.0.0.3:4242  alive  1.2.3    -700ms

warning: foobar: not all voters vote for node1: node2 (away)
warning: risky has no lord
warning: risky is unsafe: with a quorum of 1 of 3, two nodes may be lord at once
warning: risky: 3 slots ran on more than one side of a split (LEGION_EVENT=double in the log)
warning: the clock of node3 differs by -700 ms
`
	if b.String() != want {
		t.Errorf("status:\n%s\nwant:\n%s", &b, want)
	}

	b.Reset()
	if err := printStatus(&b, control.Status{Node: "node1", Version: "1.2.3"}, now); err != nil {
		t.Fatal(err)
	}
	if want := "no cluster yet: waiting for the founding\n\nno legion has a lord before the founding\n"; !strings.Contains(b.String(), want) {
		t.Errorf("before the founding:\n%s\nwant:\n%s", &b, want)
	}
}

// TestWipe: status --watch writes control characters to a terminal alone.
func TestWipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wipe(w)
	w.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "\n" {
		t.Errorf("a pipe gets %q, %v", got, err)
	}
}
