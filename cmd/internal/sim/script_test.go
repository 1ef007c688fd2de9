package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/legion-cron/legion-cron/legion"
)

// TestScripts runs testdata/*.txt. A script is a list of blocks: commands, a
// line of dashes, and the transcript of what followed from them, up to an empty
// line; lines that begin with # are for the reader. -rewrite writes the
// transcripts anew. The commands:
//
//	cluster NAME[:VALOR[:novote]]... [size=N] [changing] [preempt=false]
//	        [legions=N] [unsafe=QUORUM]
//	                                            make the nodes; one legion, g, or many;
//	                                            and, where electorates change, _cluster;
//	                                            b' is another node that calls itself b
//	start|crash|stop|freeze|thaw NAME...
//	run DURATION                                let time pass
//	until lord|no lord                          let time pass, at most 30s
//	cut A>B...                                  one direction; * is everybody
//	split A,B C,D...                            only the sides hear each other
//	heal
//	wipe|leave NAME...                          lose the disk; be a voter no more
//	forget NAME
//	size N
//	refound NAME
//	voters                                      who are they
//	stepdown NAME [SUCCESSOR]
//	weigh NAME WEIGHT                           what its checks add to its valor
//	unfit NAME [WHY...]                         a check is a veto; without WHY: no more
//	away NAME [WHY...]                          an administrator's word
//	clock NAME DURATION                         its wall clock is wrong by that
//	lord|lords                                  who is it, who are they
//	loads                                       who reigns over how many
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := (&script{t: t}).run(string(b))
			if got == string(b) {
				return
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("the transcript differs; look at the difference, and if it is right: go test ./cmd/internal/sim -run TestScripts -rewrite\n%s", got)
		})
	}
}

type script struct {
	t     *testing.T
	w     *World
	lines []string // of the transcript of this block
	times []string
	seen  map[string]int // how often a line came, by its text
}

// run returns the script with the transcripts as they are now.
func (s *script) run(text string) string {
	var out strings.Builder
	skipping := false
	s.clear()
	for _, line := range strings.SplitAfter(text, "\n") {
		word := strings.TrimSpace(line)
		switch {
		case skipping && word != "": // the old transcript
			continue
		case word == "----":
			out.WriteString(line)
			s.flush(&out)
			skipping = true
			continue
		case word != "" && !strings.HasPrefix(word, "#"):
			s.do(strings.Fields(word))
		}
		skipping = false
		out.WriteString(line)
	}
	return out.String()
}

func (s *script) clear() { s.lines, s.times, s.seen = nil, nil, map[string]int{} }

func (s *script) flush(out *strings.Builder) {
	for i, line := range s.lines {
		fmt.Fprintf(out, "%s %s", s.times[i], line)
		if n := s.seen[line]; n > 1 {
			fmt.Fprintf(out, " (%d times)", n)
		}
		out.WriteString("\n")
	}
	s.clear()
}

// say adds a line, or counts it if it is there.
func (s *script) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if s.seen[line]++; s.seen[line] > 1 {
		return
	}
	s.lines = append(s.lines, line)
	s.times = append(s.times, fmt.Sprintf("%7.3f", s.w.now.Seconds()))
}

func (s *script) do(args []string) {
	t, w := s.t, s.w
	t.Helper()
	nodes := func() (ns []*node) {
		for _, name := range args[1:] {
			n := w.named[name]
			if n == nil {
				t.Fatalf("no node %q", name)
			}
			ns = append(ns, n)
		}
		return ns
	}
	for _, verb := range []struct {
		name string
		do   func(*node)
	}{
		{"start", (*node).start}, {"stop", (*node).stop}, {"thaw", (*node).thaw},
		{"crash", func(n *node) { n.crash("crashes") }}, {"freeze", func(n *node) { n.freeze(false) }},
		{"wipe", (*node).wipe}, {"leave", func(n *node) { n.will(false) }},
	} {
		if args[0] == verb.name {
			for _, n := range nodes() {
				verb.do(n)
			}
			return
		}
	}
	switch args[0] {
	case "cluster":
		s.cluster(args[1:])
	case "run":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			t.Fatal(err)
		}
		s.pass(d, func() bool { return false })
	case "until":
		want := args[1] == "lord"
		s.pass(30*time.Second, func() bool { return (s.lord() != nil) == want })
	case "lord":
		if n := s.lord(); n != nil {
			s.say("%s is lord of g in term %d", n.conf.Name, n.lords["g"].term)
		} else {
			s.say("g has no lord")
		}
	case "clock":
		d, err := time.ParseDuration(args[2])
		if err != nil {
			t.Fatal(err)
		}
		w.named[args[1]].setWall(d)
	case "stepdown":
		ev := legion.StepDown{Legion: "g", Reason: "told to step down"}
		if len(args) > 2 {
			ev.To = args[2]
		}
		w.named[args[1]].step(ev)
	case "weigh", "unfit", "away":
		n, text := w.named[args[1]], strings.Join(args[2:], " ")
		legions := map[string]legion.Legion{}
		for name, l := range n.legions {
			switch args[0] {
			case "weigh":
				l.Weight, _ = strconv.Atoi(text)
			case "unfit":
				l.Unfit = text
			case "away":
				l.Away = text
			}
			legions[name] = l
		}
		n.legions = legions
		n.step(legion.Configure{Legions: legions})
	case "lords":
		var lords []string
		for _, n := range w.nodes {
			if n.trusted("g") {
				lords = append(lords, n.conf.Name)
			}
		}
		s.say("lords of g: %s", strings.Join(lords, ", "))
	case "loads":
		var loads []string
		for _, n := range w.nodes {
			if n.up {
				loads = append(loads, fmt.Sprintf("%s %d", n.conf.Name, len(n.lords)))
			}
		}
		s.say("lordships: %s", strings.Join(loads, ", "))
	case "cut":
		for _, pair := range args[1:] {
			from, to, _ := strings.Cut(pair, ">")
			for i, a := range w.nodes {
				for j, b := range w.nodes {
					if i != j && (from == "*" || from == a.conf.Name) && (to == "*" || to == b.conf.Name) {
						w.net.cut[i][j] = true
					}
				}
			}
		}
	case "split":
		w.net.split(func(i int) int {
			return slices.IndexFunc(args[1:], func(side string) bool {
				return slices.Contains(strings.Split(side, ","), w.nodes[i].conf.Name)
			})
		})
	case "forget":
		w.lord(legion.ClusterLegion, w.cluster()).step(legion.Forget{Name: args[1]})
	case "size":
		size, _ := strconv.Atoi(args[1])
		w.resettle(w.cluster(), legion.Settings{Size: size, Beat: w.Beat, Lease: w.Lease})
	case "file": // what every node's says from its next start on
		w.Size, _ = strconv.Atoi(strings.TrimPrefix(args[1], "size="))
	case "refound":
		w.named[args[1]].step(legion.Refound{})
	case "voters":
		e := w.latest(w.cluster())
		s.say("epoch %d: voters %s, quorum %d", e.Epoch, voterNames(e.Voters), e.Quorum)
	case "heal":
		w.net.heal()
	default:
		t.Fatalf("no command %q", args[0])
	}
}

// lord returns the lord of g, if there is one.
func (s *script) lord() *node {
	i := slices.IndexFunc(s.w.nodes, func(n *node) bool { return n.trusted("g") })
	if i < 0 {
		return nil
	}
	return s.w.nodes[i]
}

func (s *script) pass(d time.Duration, stop func() bool) {
	s.t.Helper()
	for end := s.w.now + d; s.w.now < end && !stop(); {
		if err := s.w.Run(s.w.now + time.Millisecond); err != nil {
			s.t.Fatal(err)
		}
	}
}

// cluster makes a world in which nothing goes wrong by itself.
func (s *script) cluster(args []string) {
	c := Conf{Fixed: true, Beat: 300 * time.Millisecond, Lease: 2 * time.Second,
		Net: NetConf{Delay: 200 * time.Microsecond, Jitter: 200 * time.Microsecond}}
	set := map[string]string{"size": "0", "preempt": "true", "legions": "1", "unsafe": "0"}
	for _, arg := range args {
		if key, value, ok := strings.Cut(arg, "="); ok {
			set[key] = value
			continue
		}
		if arg == "changing" {
			c.Fixed = false
			continue
		}
		part := strings.Split(arg, ":")
		n := NodeConf{Name: part[0], Vote: !slices.Contains(part, "novote")}
		l := legion.Legion{Valor: 100, Spread: true}
		if len(part) > 1 {
			l.Valor, _ = strconv.Atoi(part[1])
		}
		n.Legions = map[string]legion.Legion{"g": l}
		if name, ok := strings.CutSuffix(n.Name, "'"); ok {
			n.As = name
		}
		c.Nodes = append(c.Nodes, n)
	}
	many, _ := strconv.Atoi(set["legions"])
	for _, n := range c.Nodes {
		l := n.Legions["g"]
		l.Preempt = set["preempt"] == "true"
		l.Quorum, _ = strconv.Atoi(set["unsafe"])
		l.Unsafe = l.Quorum > 0
		for i := range many {
			n.Legions["g"+strings.Repeat("'", i)] = l
		}
	}
	c.Size, _ = strconv.Atoi(set["size"])
	if c.Size == 0 {
		c.Size = len(c.Nodes)
	}
	s.w = New(1, c)
	s.w.calm = true
	if many == 1 {
		s.w.trace.watch = s.watch
	}
	s.w.trace.lines = func(_ time.Duration, line string) {
		if f := strings.Fields(line); f[1] != "<" && f[1] != ">" && !strings.Contains(line, "slot") {
			s.seen[line] = 0
			s.say("%s", line)
		}
	}
}

// watch says what a core does, in words.
func (s *script) watch(n *node, a legion.Action) {
	me := n.conf.Name
	if ofCluster(a) {
		return
	}
	switch a := a.(type) {
	case legion.Note:
		switch a.Event {
		case "campaign":
			s.say("%s, term %d: %s", me, a.Term, a.Text)
		case "yield", "held":
			s.say("%s: %s", me, a.Text)
		case "founded", "foreign", "electorate", "whole", "refounded":
			s.say("%s: %s", me, s.clusters(a.Text))
		}
	case legion.Reign:
		s.say("%s is lord in term %d", me, a.Term)
	case legion.Unreign:
		s.say("%s is lord no more: %s", me, a.Reason)
	case legion.Send:
		switch b := a.Message.Body.(type) {
		case legion.Probe:
			s.say("%s asks whether it may be lord", me)
		case legion.ProbeAck:
			if !b.Would {
				s.say("%s would not vote for %s: %v", me, a.To, b.Why)
			}
		case legion.Vote:
			if b.Granted {
				s.say("%s votes for %s in term %d", me, a.To, b.Term)
			} else {
				s.say("%s does not vote for %s in term %d: %v", me, a.To, b.Term, b.Why)
			}
		case legion.Offer:
			s.say("%s offers the throne to %s", me, a.To)
		case legion.Ready:
			switch {
			case b.Ready:
				s.say("%s is ready to take it", me)
			case b.Busy:
				s.say("%s is taking another", me)
			default:
				s.say("%s does not want it", me)
			}
		case legion.Rival:
			s.say("%s tells %s that it reigns as well", me, a.To)
		case legion.Release:
			if b.Successor != "" {
				s.say("%s gives the throne back, for %s", me, b.Successor)
				return
			}
			s.say("%s gives the throne back", me)
		case legion.Death:
			s.say("%s sends its death certificate", me)
		case legion.Vacant:
			s.say("%s tells %s that the throne is vacant", me, a.To)
		case legion.Found:
			if b.Proposal.Proposer == me {
				s.say("%s proposes to found a cluster with %s", me, voterNames(b.Proposal.Electorate.Voters))
			}
		case legion.FoundAck:
			switch {
			case b.Accepted:
				s.say("%s accepts what %s proposes", me, a.To)
			case b.Rival != nil:
				s.say("%s has accepted what %s proposes, and tells %s", me, b.Rival.Proposer, a.To)
			default:
				s.say("%s will never accept what %s asks about", me, a.To)
			}
		case legion.Refuse:
			s.say("%s asks %s to refuse what stands in its way", me, a.To)
		case legion.RefuseAck:
			s.say("%s refuses it for good", me)
		}
	}
}

// ofCluster reports whether an action is part of an election of the lord of
// the cluster, of which there are enough to read.
func ofCluster(a legion.Action) bool {
	switch a := a.(type) {
	case legion.Note:
		return a.Event == "campaign" && a.Legion == legion.ClusterLegion
	case legion.Reign:
		return a.Legion == legion.ClusterLegion
	case legion.Unreign:
		return a.Legion == legion.ClusterLegion
	case legion.Send:
		switch b := a.Message.Body.(type) {
		case legion.Probe:
			return b.Legion == legion.ClusterLegion
		case legion.ProbeAck:
			return b.Legion == legion.ClusterLegion
		case legion.Vote:
			return b.Legion == legion.ClusterLegion
		case legion.Release:
			return b.Thrones[0].Legion == legion.ClusterLegion
		case legion.Vacant:
			return b.Legion == legion.ClusterLegion
		}
	}
	return false
}

// cluster names the cluster with most nodes; a script has one.
func (w *World) cluster() string {
	for _, n := range w.nodes {
		if c := n.cluster(); c != "" {
			return c
		}
	}
	return ""
}

func voterNames(vs []legion.Voter) string {
	var names []string
	for _, v := range vs {
		names = append(names, v.Name)
	}
	return strings.Join(names, ", ")
}

// clusters takes the random ids out of a note.
func (s *script) clusters(text string) string {
	words := strings.Fields(text)
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return len(w) == 36 && strings.Count(w, "-") == 4 }), " ")
}
