package daemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"

	"github.com/legion-cron/legion-cron/cmd/internal/control"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
	"github.com/legion-cron/legion-cron/jobs/runner"
)

// Records live on the voters, on the nodes that execute, and nowhere whole: a
// voter that was away has gaps, one without a vote has its own runs alone. So
// whoever asks for history is answered by all nodes, by way of the one asked.

// askRecords is the question for what a node has in its ledger: a
// recordsQuestion in CBOR, answered by an encoded jobs.Batch.
const askRecords = 'q'

const (
	historyTimeout = 2 * time.Second // for all nodes to answer
	maxAskedAtOnce = 32              // nodes
)

type recordsQuestion struct {
	Job     string     `cbor:"1,keyasint,omitempty"`
	Legion  string     `cbor:"2,keyasint,omitempty"`
	Run     string     `cbor:"3,keyasint,omitempty"`
	Since   int64      `cbor:"4,keyasint,omitempty"` // ms since 1970; 0: ever
	Outcome jobs.State `cbor:"5,keyasint,omitempty"`
	Limit   int        `cbor:"6,keyasint,omitempty"`
}

// history is what all nodes know that matches q, newest first, and the nodes
// that were not heard.
//
// Each node is asked for as many as are wanted: what is among the newest of all
// is among the newest of each that has it, for all sort alike. An outcome is
// another matter, because copies differ in it: what one node takes to be
// running has ended on another. So then all are asked once more what they know
// of the slots that were found.
func (d *Daemon) history(ctx context.Context, q ledger.Query) (found []jobs.Record, silent []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	limit := cmp.Or(q.Limit, ledger.DefaultRuns)
	own, err := d.store.Runs(q)
	if err != nil {
		return nil, nil, err
	}
	said, silent := d.askNodes(ctx, func(ctx context.Context, node string) ([]jobs.Record, error) { return d.askRecords(ctx, node, q) })
	found = standing(merged(own, said))
	if q.Outcome != 0 {
		more, _, err := d.slotsOf(ctx, found)
		if err != nil {
			return nil, nil, err
		}
		found = slices.DeleteFunc(standing(merged(found, more)), func(r jobs.Record) bool {
			return r.State != q.Outcome || q.Run != "" && r.Run != q.Run
		})
	}
	slices.SortFunc(found, ledger.NewestFirst)
	return found[:min(len(found), limit)], silent, nil
}

// slotsOf is what all nodes know of the slots of records.
func (d *Daemon) slotsOf(ctx context.Context, records []jobs.Record) (found []jobs.Record, silent []string, err error) {
	one := map[jobs.Slot]bool{}
	var about []jobs.Record
	var slots []jobs.Slot
	for _, r := range records {
		if s := r.Normal().Slot; !one[s] {
			one[s] = true
			about, slots = append(about, r), append(slots, s)
		}
	}
	own, err := d.store.Slots(slots...)
	if err != nil {
		return nil, nil, err
	}
	said, silent := d.askNodes(ctx, func(ctx context.Context, node string) (all []jobs.Record, err error) {
		for chunk := range slices.Chunk(about, recallChunk) {
			said, err := d.recollect(ctx, node, chunk)
			if err != nil {
				return all, err
			}
			all = append(all, said...)
		}
		return all, nil
	})
	return merged(own, said), silent, nil
}

// askNodes asks all other nodes at once, and returns what they said and the
// names of those that did not answer. A node without a vote that is thought
// to be gone is not waited for: what it has, a voter has too.
func (d *Daemon) askNodes(ctx context.Context, ask func(ctx context.Context, node string) ([]jobs.Record, error)) (said []jobs.Record, silent []string) {
	if d.gossip == nil {
		return nil, nil
	}
	up, down := d.nodes()
	var wg sync.WaitGroup
	var mu sync.Mutex
	silent = down
	turn := make(chan struct{}, maxAskedAtOnce)
	for _, node := range up {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			records, err := ask(ctx, node)
			mu.Lock()
			defer mu.Unlock()
			said = append(said, records...)
			if err != nil {
				silent = append(silent, node)
			}
		})
	}
	wg.Wait()
	slices.Sort(silent)
	return said, silent
}

// nodes are the names of the other nodes: those that are thought to be there,
// and the voters that are not.
func (d *Daemon) nodes() (up, missing []string) {
	for _, n := range d.sightings() {
		if n.up && n.Name != d.name {
			up = append(up, n.Name)
		}
	}
	if e := d.protocol.electorate(); e != nil {
		for _, v := range e.Voters {
			if v.Name != d.name && !slices.Contains(up, v.Name) {
				missing = append(missing, v.Name)
			}
		}
	}
	return up, missing
}

// askRecords asks one node.
func (d *Daemon) askRecords(ctx context.Context, node string, q ledger.Query) ([]jobs.Record, error) {
	w := recordsQuestion{Job: q.Job, Legion: q.Legion, Run: q.Run, Outcome: q.Outcome, Limit: q.Limit}
	if !q.Since.IsZero() {
		w.Since = q.Since.UnixMilli()
	}
	question, err := cbor.Marshal(w)
	if err != nil {
		return nil, err
	}
	a, err := d.gossip.Call(ctx, node, append([]byte{askRecords}, question...))
	if err != nil {
		return nil, err
	}
	batch, err := jobs.DecodeBatch(a)
	if err != nil {
		return nil, fmt.Errorf("decode history of %s: %w", node, err)
	}
	return batch.Records, nil
}

// ownRecords answers askRecords; nil, which is no answer, if it cannot.
func (d *Daemon) ownRecords(question []byte) []byte {
	var w recordsQuestion
	if err := decodeFill.Unmarshal(question, &w); err != nil {
		return nil
	}
	q := ledger.Query{Job: w.Job, Legion: w.Legion, Run: w.Run, Outcome: w.Outcome, Limit: w.Limit}
	if w.Since != 0 {
		q.Since = time.UnixMilli(w.Since)
	}
	records, err := d.store.Runs(q)
	if err != nil {
		return nil
	}
	b, err := jobs.Batch{Records: records}.Encode()
	if err != nil {
		return nil
	}
	return b
}

// merged makes one of all copies of each record.
func merged(lists ...[]jobs.Record) []jobs.Record {
	one := map[jobs.Key]jobs.Record{}
	for _, records := range lists {
		for _, r := range records {
			key := r.Key()
			if old, ok := one[key]; ok {
				r = jobs.Merge(old, r)
			}
			one[key] = r
		}
	}
	all := make([]jobs.Record, 0, len(one))
	for _, r := range one {
		all = append(all, r)
	}
	return all
}

// standing leaves out what does not stand, by what all nodes together know of
// the slots.
func standing(records []jobs.Record) []jobs.Record {
	bySlot := map[jobs.Slot][]jobs.Record{}
	var rows []jobs.Record // of slots
	for _, r := range records {
		bySlot[r.Slot] = append(bySlot[r.Slot], r)
		if r.Count > 1 {
			rows = append(rows, r)
		}
	}
	void := map[jobs.Key]bool{}
	for slot, about := range bySlot {
		about := slices.Clone(about)
		for _, row := range rows {
			if row.Slot != slot && row.Concerns(slot) {
				about = append(about, bySlot[row.Slot]...)
			}
		}
		stand := map[jobs.Key]bool{}
		for _, r := range jobs.Standing(about) {
			stand[r.Key()] = true
		}
		for _, r := range bySlot[slot] {
			if key := r.Key(); !stand[key] {
				void[key] = true
			}
		}
	}
	return slices.DeleteFunc(records, func(r jobs.Record) bool { return void[r.Key()] })
}

// Runs implements control.Historian.
func (b backend) Runs(ctx context.Context, q control.RunsQuery) ([]control.Run, []string, error) {
	query := ledger.Query{Job: q.Job, Since: q.Since, Limit: q.Limit}
	if q.Outcome != "" {
		var err error
		if query.Outcome, err = jobs.ParseState(q.Outcome); err != nil {
			return nil, nil, control.BadRequest("legion-cron runs --help", "no outcome %q", q.Outcome)
		}
	}
	found, silent, err := b.d.history(ctx, query)
	return wireRuns(found), silent, err
}

func wireRuns(records []jobs.Record) []control.Run {
	out := make([]control.Run, 0, len(records))
	for _, r := range records {
		out = append(out, wireRun(r))
	}
	return out
}

// wireRun is a record as the control API tells it.
func wireRun(r jobs.Record) control.Run {
	w := control.Run{
		Run: r.Run, Job: r.Job, Legion: r.Slot.Legion, Slot: r.Slot.String(), Attempt: r.Attempt, Term: r.Term, Node: r.Node,
		Outcome: r.State.String(), Reason: r.Reason, Scheduled: control.At(r.Scheduled), Started: control.At(r.Started),
		Ended: control.At(r.Ended), Signal: r.Signal, Manual: r.Manual,
	}
	if r.Count > 1 {
		w.Reason += fmt.Sprintf("; %d slots in a row, to %s", r.Count, r.To.UTC().Format(time.RFC3339))
	}
	if !r.Started.IsZero() {
		late := r.Started.Sub(r.Scheduled).Milliseconds()
		w.LatenessMS = &late
	}
	if r.State.Final() && r.Run != "" && r.Signal == "" && r.ExitCode >= 0 && r.State != jobs.NeverStarted {
		code := r.ExitCode
		w.ExitCode = &code
	}
	return w
}

// Story implements control.Historian.
func (b backend) Story(ctx context.Context, run string) (control.Story, []string, error) {
	d := b.d
	var about []jobs.Record
	var silent []string
	if slot, err := jobs.ParseSlot(run, false); err == nil { // the name does not say whether its owner is a legion
		local := slot
		local.Legion, local.Node = "", slot.Legion
		about = []jobs.Record{{Slot: slot, State: jobs.Claimed}, {Slot: local, State: jobs.Claimed}}
	} else if about, silent, err = d.history(ctx, ledger.Query{Run: run, Limit: 1}); err != nil {
		return control.Story{}, nil, err
	}
	all, quiet, err := d.slotsOf(ctx, about)
	if err != nil {
		return control.Story{}, nil, err
	}
	if len(all) == 0 {
		hint := "legion-cron runs lists them"
		if silent = append(silent, quiet...); len(silent) > 0 {
			hint = "it may be known to those that do not answer: " + strings.Join(slices.Compact(slices.Sorted(slices.Values(silent))), ", ")
		}
		return control.Story{}, nil, control.NotFound(hint, "no run or slot %q", run)
	}
	slices.SortFunc(all, func(a, b jobs.Record) int { return ledger.NewestFirst(b, a) })
	stand := standing(slices.Clone(all))
	for i, r := range all {
		if !slices.Contains(stand, r) {
			all[i].Reason = strings.TrimSuffix("void, because a later lord decided otherwise: "+r.Reason, ": ")
		}
	}
	told := all[len(all)-1] // of a slot: its last attempt
	if i := slices.IndexFunc(all, func(r jobs.Record) bool { return r.Run != "" && r.Run == run }); i >= 0 {
		told = all[i]
	}
	s := control.Story{
		Run: wireRun(told), Incarnation: told.Incarnation, Definition: told.Definition,
		Count: max(told.Count, 1), Until: control.At(told.To), Attempts: wireRuns(all), Timeline: timeline(all),
	}
	if told.State >= jobs.Running && told.Run != "" && told.Node != "" {
		ctx, cancel := context.WithTimeout(ctx, historyTimeout)
		defer cancel()
		out, err := control.From[control.Tail](ctx, b, told.Node, control.ScopedPath("/v1/runs/"+url.PathEscape(told.Run)))
		var e *control.Error
		switch {
		case err == nil:
			s.Output = &out
		case !errors.As(err, &e) || e.Code != http.StatusNotFound:
			quiet = append(quiet, told.Node)
		}
	}
	return s, slices.Compact(slices.Sorted(slices.Values(quiet))), nil
}

// timeline is what happened to a slot, in order.
func timeline(attempts []jobs.Record) []control.Moment {
	var ms []control.Moment
	for i, r := range attempts {
		m := control.Moment{Attempt: r.Attempt, Node: r.Node, Term: r.Term}
		add := func(at time.Time, event, detail string) {
			if !at.IsZero() {
				m := m
				m.At, m.Event, m.Detail = control.At(at), event, detail
				ms = append(ms, m)
			}
		}
		if i == 0 {
			what := "due"
			if r.Slot.Manual != "" {
				what = "asked for"
			}
			ms = append(ms, control.Moment{At: control.At(r.Scheduled), Event: what})
		}
		add(r.Started, "started", "")
		end := r.Ended
		if end.IsZero() && r.State.Settled() {
			end = r.Scheduled // skipped and missed slots have no other time
		}
		add(end, r.State.String(), why(r))
	}
	slices.SortStableFunc(ms, func(a, b control.Moment) int { return a.At.Compare(b.At.Time) })
	return ms
}

// why is the reason of a record, or how its process ended.
func why(r jobs.Record) string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Signal != "":
		return "signal " + r.Signal
	case r.State == jobs.Failed:
		return fmt.Sprintf("exit %d", r.ExitCode)
	}
	return ""
}

// tailBytes is how much of an output's end a Story has.
const tailBytes = 4 << 10

// Tail implements control.Historian.
func (b backend) Tail(_ context.Context, run string) (control.Tail, error) {
	none := control.NotFound("legion-cron show RUN says on which node it ran", "no output of run %q on %s", run, b.d.name)
	if _, err := uuid.Parse(run); err != nil {
		return control.Tail{}, none // and no path is made of it
	}
	path := filepath.Join(b.d.runs.dir, run+".log")
	f, err := runner.ReadOutput(path)
	if errors.Is(err, fs.ErrNotExist) {
		return control.Tail{}, none
	} else if err != nil {
		return control.Tail{}, err
	}
	defer f.Close()
	out := control.Tail{Node: b.d.name, Path: path}
	var tail []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		out.Bytes += int64(n)
		tail = append(tail, buf[:n]...)
		tail = tail[max(0, len(tail)-tailBytes):]
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return control.Tail{}, err
		}
	}
	if out.Bytes > tailBytes { // not half a line
		if _, after, ok := bytes.Cut(tail, []byte("\n")); ok {
			tail = after
		}
	}
	out.Tail = strings.ToValidUTF8(string(tail), string(utf8.RuneError))
	return out, nil
}
