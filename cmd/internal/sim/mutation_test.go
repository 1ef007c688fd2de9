package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	allMutations = flag.Bool("mutations", false, "try every mutation, not only the quick ones")
	onlyMutation = flag.String("mutation", "", "with -mutations: only those whose rule has this in it")
	rewrite      = flag.Bool("rewrite", false, "write the transcripts, or with -mutations the table in docs/simulator.md, anew")
)

// patience is within how many seeds a mutation must be caught.
const patience = 1000

// A mutation breaks one rule of the protocol, in a copy of its source.
type mutation struct {
	rule  string
	quick bool // caught within a few seeds, so tried in every test run
	edits []edit
}

type edit struct{ file, old, new string }

const (
	core      = "legion/core.go"
	voters    = "legion/voter.go"
	campaign  = "legion/campaign.go"
	lord      = "legion/lord.go"
	times     = "legion/time.go"
	yielding  = "legion/yield.go"
	wallClock = "legion/clock.go"
	shell     = "cmd/internal/sim/node.go"
	shellOf   = "cmd/internal/sim/slots.go"
	deciding  = "cmd/internal/slots/decide.go"
	resuming  = "cmd/internal/slots/resume.go"
	records   = "jobs/record.go"
	marking   = "jobs/mark.go"
	standing  = "jobs/standing.go"
	record    = "legion/electorate.go"
	change    = "legion/change.go"
	refill    = "legion/refill.go"
	faulty    = "cmd/internal/sim/electorate.go"
)

var mutations = []mutation{
	{"trust is counted from the answer, not from the request", false, []edit{
		{campaign, "k.grants.credit(h.From, s.at)", "k.grants.credit(h.From, c.now.Stamp())"},
		{lord, "l.grants.credit(h.From, s.at)", "l.grants.credit(h.From, c.now.Stamp())"}}},
	{"an answer is credited to the latest beat, not to the one it answers", false, []edit{
		{lord, "l.grants.credit(h.From, s.at)", "l.grants.credit(h.From, c.nextBeat.add(-c.beatEvery()))"}}},
	{"no margin for clocks: the holder uses the whole lease", true, []edit{
		{times, "holderShare = 0.8", "holderShare = 1.0"}}},
	{"the holder's time stands still while it is suspended", false, []edit{
		{times, "return max(n.Boot-s.Boot, n.Raw-s.Raw)", "return min(n.Boot-s.Boot, n.Raw-s.Raw)"}}},
	{"a lord whose trust has run out is not demoted", true, []edit{
		{lord, "ok && now.held(until) < 0", "ok"}}},
	{"a lord whose trust has run out is demoted a second late", false, []edit{
		{lord, "ok && now.held(until) < 0", "ok && now.held(until) < time.Second"}}},
	{"a vote breaks a living lease", true, []edit{
		{voters, "case c.occupied(t) && t.Incarnation != h.Incarnation:", "case false:"}}},
	{"one vote less than a quorum is enough", false, []edit{
		{"legion/unsafe.go", "return min(max(e.Quorum, part.Quorum), len(e.Voters))", "return max(1, e.Quorum-1)"}}},
	{"the answer to a vote leaves before the grant is on disk", false, []edit{
		{voters, "sendOpts{after: max(t.written, c.storedAt), attach: true, hash: b.Hash}", "sendOpts{attach: true, hash: b.Hash}"}}},
	{"a restarted voter does not abstain", false, []edit{
		{voters, "live: g.Instance != c.cfg.Instance, fresh: true", "live: false, fresh: true"}}},
	{"a grant that is not on disk yet is renewed", false, []edit{
		{voters, "return max(t.written, c.adopted) <= c.durable", "return c.adopted <= c.durable"}}},
	{"a release frees whatever its sender holds", false, []edit{
		{voters, "t == nil || t.Term != r.Term || t.Incarnation != h.Incarnation || h.Seq <= t.seq", "t == nil || t.Incarnation != h.Incarnation"}}},
	{"answers are counted after the release", false, []edit{
		{campaign, "	c.withdraw(k)\n	rest, waits", "	if k.phase == asking {\n		c.release(k.legion, k.term, \"\")\n		k.until = c.in(2 * c.lease())\n		return\n	}\n	rest, waits"}}},
	{"no echo: a lord that hears nobody is renewed as long as its hooks run", false, []edit{
		{voters, "o.version == b.Version && h.To == c.cfg.Incarnation && c.hears(o, b.Heard)", "o.version == b.Version"},
		{lord, "		l.lost = true\n		c.setVersion++", ""}}},
	{"a beat for an earlier incarnation of a voter is not answered", false, []edit{
		{core, "if _, ok := m.Body.(Beat); !ok && m.To", "if m.To"}}},
	{"a term is promised twice, and candidates do not hear of it from probes", false, []edit{
		{campaign, "	k.highest = max(k.highest, b.Term)\n", ""},
		{voters, "case !same && b.Term <= t.Term:", "case !same && b.Term < t.Term:"}}},
	{"a candidate does not raise the term", false, []edit{
		{campaign, "t.asked, c.electorate.Base) + 1", "c.electorate.Base + 1)"}}},
	{"a write of an older term is accepted", false, []edit{
		{voters, "if t.Term != b.Term || t.Incarnation != h.Incarnation {", "if t.Term < b.Term {"}}},
	{"a write is acknowledged before it is on disk", false, []edit{
		{voters, "sendOpts{after: max(o.writes[i].written, promise)}", "sendOpts{after: min(0, promise)}"}}},
	{"a write is committed with one voter less than a quorum", true, []edit{
		{lord, "need = c.quorum(p.Legion)", "need = max(1, c.quorum(p.Legion)-1)"}}},
	{"a throne is released as soon as its successor is ready", false, []edit{
		{yielding, "		c.concede(l, h.From)\n", "		c.concede(l, h.From)\n		c.end(l)\n"}}},
	{"a lord gives way to whoever is as good", false, []edit{
		{yielding, "return r.Effective-o.Effective > over", "return r.Effective-o.Effective >= over"}}},
	{"a lord that is not fit goes on", false, []edit{
		{yielding, "	case y.must() && !found:\n		c.concede(l, \"\")\n	case y.must() && over:\n		c.concede(l, c.nextInLine(l.legion))\n", ""}}},
	{"a lord never gives way", true, []edit{
		{yielding, "	if !late && (!part.Preempt || !c.due(l.kept)) {", "	if true {"}}},
	{"a load that was guessed counts for ever", false, []edit{
		{"legion/succession.go", "p.saidUntil != (Stamp{}) && !c.due(p.saidUntil)", "p.saidUntil != (Stamp{})"},
		{core, "		p.saidUntil = Stamp{}\n", ""}}},
	{"a candidate that is held back ranks as ever", false, []edit{
		{"legion/rank.go", "if r.Held != o.Held {\n		if o", "if false {\n		if o"},
		{yielding, "	if r.Held != o.Held {\n		return o.Held\n	}\n", ""}}},
	{"the state is read when the vote is asked for, not after the promise is on disk", false, []edit{
		{shell, "n.waiting = append(n.waiting, a)", "n.waiting = append(n.waiting, n.fill(a))"},
		{shell, "	s = n.fill(s)\n	to :=", "	if s.After == 0 || s.Message.Body != nil && !s.Attach {\n		s = n.fill(s)\n	}\n	to :="}}},
	{"a voter that lost its disk passes for the one it was", false, []edit{
		{record, "return e != nil && slices.Contains(e.Voters, Voter{name, instance})", "return e != nil && slices.ContainsFunc(e.Voters, func(v Voter) bool { return v.Name == name })"},
		{change, "p != nil && c.living(p) && p.state.Instance != v.Instance", "false"},
		{change, "if v.Instance != c.cfg.Instance {", "if false {"}}},
	{"a voter stores the next amendment before it is whole", false, []edit{
		{change, "c.trouble != \"\" || !c.isWhole() || b", "c.trouble != \"\" || b"},
		{change, "if c.voter() && !c.isWhole() {", "if false {"}}},
	{"a voter is whole without what the others had written", false, []edit{
		{faulty, "n.keep(all, func()", "n.keep(jobs.Batch{}, func()"}}},
	{"a voter is whole before the leases of the epoch before have ended", false, []edit{
		{refill, ">= share(c.electorate.longest(), restartShare)", ">= min(0, restartShare)"}}},
	{"votes do not carry the amendment that a voter has stored", false, []edit{
		{voters, "v.Pending = c.stored()", "v.Pending = nil"}}},
	{"a voter acts on an amendment that it has stored", false, []edit{
		{change, "		c.storedAt = c.write(Persist{Pending: c.pending})", "		c.storedAt = c.write(Persist{Pending: c.pending})\n		c.adopt(&c.pending.Electorate)"}}},
	{"an amendment is acknowledged before it is on disk", false, []edit{
		{change, "sendOpts{after: max(c.storedAt, t.written)}", "sendOpts{}"}}},
	{"what was granted before a lease became shorter outlasts it", false, []edit{
		{change, "share(min(old.Lease, c.electorate.Lease), holderShare)", "share(old.Lease, holderShare)"}}},
	{"a lord counts an old grant for a lease that became longer since", false, []edit{
		{change, "longer > 0 {", "longer > time.Hour {"},
		{change, "import (\n", "import (\n	\"time\"\n"}}},
	{"a claim is started before a quorum has it", false, []edit{
		{shellOf, "	n.w.check.decided(n, a)\n", "	n.w.check.decided(n, a)\n	n.decide(slots.Done{ID: a.ID})\n"}}},
	{"lost replaces the word of the run's own node", true, []edit{
		{records, "return RankLost + 1", "return RankLost - 1"}}},
	{"what no quorum had stands beside what a later lord decided", true, []edit{
		{standing, "return later.Term > r.Term && stand", "return false && stand"}}},
	{"a voter that has the same is not asked about what others tell", false, []edit{
		{resuming, "		q := slices.Clone(stranded)\n", "		for _, rec := range known {\n			t.records[rec.Key()] = true\n		}\n		q := slices.Clone(stranded)\n"}}},
	{"the mark that is further on wins, whatever its term", false, []edit{
		{marking, "cmp.Compare(a.Term, b.Term), a.At.Compare(b.At)", "a.At.Compare(b.At), cmp.Compare(a.Term, b.Term)"}}},
	{"a lord sets a mark back", false, []edit{
		{deciding, "old.At.After(m.At)", "false && old.At.After(m.At)"}}},
	{"voters take what is dated ahead of their clocks, and lords whose clocks are ahead go on", false, []edit{
		{voters, "if b.Term > 0 && b.Dated > c.now.Wall.Add(MaxAhead).UnixMilli() {", "if false {"},
		{wallClock, "return len(c.electorate.Voters)-c.disbelievers(dated) < c.quorum(legion)", "return c.disbelievers(dated) > 99"},
		{wallClock, "return n >= c.quorum(legion)", "return n >= 0"}}},
	{"a lord whose clock is ahead leaves its marks on its own disk", false, []edit{
		{wallClock, "return len(c.electorate.Voters)-c.disbelievers(dated) < c.quorum(legion)", "return c.disbelievers(dated) > 99"},
		{wallClock, "return n >= c.quorum(legion)", "return n >= 0"}}},
	{"a lord reads what one voter less than a quorum had written", false, []edit{
		{lord, "States: k.states}", "States: k.states[:max(1, len(k.states)-1)]}"}}},
	{"a slot goes on though something about it is on its way", false, []edit{
		{resuming, "if rec.Concerns(last.Slot) && rec.Key() != key", "if false && rec.Key() != key"}}},
}

var caughtAt = regexp.MustCompile(`seed (\d+): at [^:]*: (.*)`)

// TestMutations shows that the simulator notices what the rules are there for.
func TestMutations(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for i, m := range mutations {
		if !m.quick && !*allMutations || !strings.Contains(m.rule, *onlyMutation) {
			continue
		}
		seed, how := m.try(t, root, strconv.Itoa(i))
		if seed == 0 {
			t.Errorf("not caught in %d seeds: %s", patience, m.rule)
			how = "**not caught**"
		}
		t.Logf("seed %4d: %s: %s", seed, m.rule, how)
		fmt.Fprintf(&table, "| %s | %d | %s |\n", m.rule, seed, how)
	}
	if *rewrite && *allMutations && *onlyMutation == "" {
		writeTable(t, filepath.Join(root, "docs/simulator.md"), table.String())
	}
}

// TestMutationsApply: each edit changes one place of the source as it is now.
func TestMutationsApply(t *testing.T) {
	t.Parallel()
	for _, m := range mutations {
		for _, e := range m.edits {
			b, err := os.ReadFile(filepath.Join("../../..", e.file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(b), e.old); n != 1 {
				t.Errorf("%s: %q is in %s %d times", m.rule, e.old, e.file, n)
			}
		}
	}
}

// try builds the simulator with the mutation and returns the first seed that
// fails, 0 if none does, and how.
func (m mutation) try(t *testing.T, root, name string) (seed int, how string) {
	t.Helper()
	dir := t.TempDir()
	texts := map[string]string{}
	for _, e := range m.edits {
		text, ok := texts[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		if strings.Count(text, e.old) != 1 {
			t.Fatalf("%s: %q is not there exactly once in %s", m.rule, e.old, e.file)
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		copied := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, file)] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "sim"+name+".test")
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", list, "-o", bin, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("build with %q: %v\n%s", m.rule, err, out)
		return 0, ""
	}
	out, err := exec.Command(bin, "-test.run", "^TestSeeds$", "-seeds", strconv.Itoa(patience), "-lines", "0").CombinedOutput()
	if err == nil {
		return 0, ""
	}
	seed = patience + 1
	for _, hit := range caughtAt.FindAllStringSubmatch(string(out), -1) { // one for each core at most
		if n, err := strconv.Atoi(hit[1]); err == nil && n < seed {
			seed, how = n, hit[2]
		}
	}
	if how == "" {
		t.Fatalf("%s: the simulator did not say what it found: %v\n%s", m.rule, err, out)
	}
	return seed, how
}

// writeTable puts the table between its two marks in a document.
func writeTable(t *testing.T, file, table string) {
	t.Helper()
	const begin, end = "<!-- mutations -->\n", "<!-- end -->\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: no place for the table", file)
	}
	text := before + begin + "| Broken rule | Caught by seed | How |\n| --- | --- | --- |\n" + table + end + after
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
