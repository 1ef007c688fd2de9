package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.uber.org/zap"

	"github.com/legion-cron/legion-cron/cmd/internal/logging"
	"github.com/legion-cron/legion-cron/cmd/internal/slots"
	"github.com/legion-cron/legion-cron/jobs"
	"github.com/legion-cron/legion-cron/jobs/ledger"
)

// A voter that was away, or whose disk was full or lost, has gaps in its
// history. Nothing that is decided rests on them: what a lord acts upon, a
// quorum has told it. They are filled in the background, for people, and so
// that any voter may be lost.
//
//	asker                               other voter
//	  | -- hash of my past ------------>  |
//	  | <- "the same", or a digest of --  |
//	  |     each of its hours             |
//	  | -- an hour that differs, page ->  |
//	  | <- settled records -------------  |
//
// A voter only ever asks; what it has and the other does not, the other will
// ask for.
const (
	askDigests = 'd' // a digestsQuestion, answered by a digestsAnswer in CBOR
	askHour    = 'p' // an hourQuestion, answered by an hourAnswer
)

const (
	fillFirst   = 5 * time.Second        // at most, after the start: then all voters are asked
	fillEvery   = time.Minute            // one voter is asked; while nothing differs, this is all the cost
	fillPause   = 100 * time.Millisecond // between two pages, so that claims do not wait
	fillPage    = 500                    // records of one question, and of one transaction
	fillMost    = 50_000                 // records of one round
	fillTimeout = 10 * time.Second       // of one question
	// fillAge is how old an hour must be: a lord looks for what may still be
	// started as far back as this in its own ledger, and takes it for what its
	// quorum has told it.
	fillAge     = slots.StrandedBack
	maxFutile   = 4096      // hours that are remembered to differ for good
	maxFillHour = 24 * 3660 // digests of one answer: ten years
)

// A filler asks other voters for what this one has missed.
type filler struct {
	store *ledger.Store
	log   *zap.Logger
	clock clock
	keep  func() time.Duration
	// voters are the other voters; none if this node is no voter.
	voters func() []string
	call   func(ctx context.Context, voter string, question []byte) ([]byte, error)
	// learnt is told of runs that have ended, by their own node's word.
	learnt func([]jobs.Record)

	futile      map[futile]bool
	futileUntil ledger.Hour // as long as this is the end of the window
}

// A futile question brought nothing new, and will not until one of the two
// digests changes: the other voter is the one that has a gap, say.
type futile struct {
	voter       string
	own, theirs ledger.Digest
}

// digestsQuestion and the others are sent after the byte that says what is asked.
type digestsQuestion struct {
	From   ledger.Hour `cbor:"1,keyasint"`
	Before ledger.Hour `cbor:"2,keyasint"`
	Hash   jobs.Hash   `cbor:"3,keyasint"` // of the asker's digests in between
}

type digestsAnswer struct {
	Same    bool         `cbor:"1,keyasint,omitempty"`
	From    ledger.Hour  `cbor:"2,keyasint"` // the answerer has forgotten what is older
	Digests []wireDigest `cbor:"3,keyasint,omitempty"`
}

type wireDigest struct {
	_     struct{} `cbor:",toarray"`
	Hour  ledger.Hour
	Count int
	Hash  jobs.Hash
}

type hourQuestion struct {
	Hour ledger.Hour `cbor:"1,keyasint"`
	At   int64       `cbor:"2,keyasint,omitempty"` // the place to go on from
	ID   int64       `cbor:"3,keyasint,omitempty"`
}

type hourAnswer struct {
	Batch []byte `cbor:"1,keyasint"` // an encoded jobs.Batch
	At    int64  `cbor:"2,keyasint,omitempty"`
	ID    int64  `cbor:"3,keyasint,omitempty"`
}

func (f *filler) run(ctx context.Context) {
	wait := fillFirst/2 + rand.N(fillFirst/2) // not all voters at once after a power cut
	for first := true; ; first = false {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		voters := f.voters()
		if !first && len(voters) > 1 {
			voters = []string{voters[rand.N(len(voters))]}
		}
		for _, voter := range voters {
			n, err := f.fill(ctx, voter)
			if n > 0 {
				f.log.Info("history filled", logging.Event("history-filled"), zap.String("member", voter), zap.Int("runs", n))
			}
			if err != nil && ctx.Err() == nil {
				f.log.Debug("history not compared", zap.String("member", voter), zap.Error(err)) // it is gossip's to say that it is away
			}
		}
		wait = fillEvery/2 + rand.N(fillEvery)
	}
}

// window is the part of history that is compared now: what this node has not
// forgotten, and no lord acts upon any more.
func (f *filler) window() (from, before ledger.Hour) {
	now := f.clock().Wall
	return ledger.HourOf(now.Add(-f.keep())) + 1, ledger.HourOf(now.Add(-fillAge))
}

// fill asks one voter for what it has and this one does not, and returns how
// many records were news.
func (f *filler) fill(ctx context.Context, voter string) (news int, err error) {
	from, before := f.window()
	if f.futileUntil != before { // what was not taken may be old enough now
		f.futile, f.futileUntil = nil, before
	}
	own, err := f.store.Digests(from, before)
	if err != nil {
		return 0, err
	}
	var theirs digestsAnswer
	if err := f.ask(ctx, voter, askDigests, digestsQuestion{From: from, Before: before, Hash: fold(own)}, &theirs); err != nil || theirs.Same {
		return 0, err
	}
	mine := map[ledger.Hour]ledger.Digest{}
	for _, d := range own {
		mine[d.Hour] = d
	}
	slices.SortFunc(theirs.Digests, func(a, b wireDigest) int { return cmp.Compare(b.Hour, a.Hour) }) // what is newest is missed most
	for _, w := range theirs.Digests {
		d := ledger.Digest{Hour: w.Hour, Count: w.Count, Hash: w.Hash}
		vain := futile{voter, mine[d.Hour], d}
		if d == mine[d.Hour] || d.Hour < from || d.Hour >= before || f.futile[vain] {
			continue
		}
		n, err := f.fillHour(ctx, voter, d.Hour, fillMost-news)
		news += n
		if err != nil || news >= fillMost {
			return news, err
		}
		if n == 0 {
			f.giveUp(vain)
		}
	}
	return news, nil
}

// recent takes what a voter knows to have ended of slots that might be gone on
// with. A voter that is new takes the place of one that knew; and another
// voter, which was cut off meanwhile and still tells of them, may stay.
func (f *filler) recent(ctx context.Context, voter string) error {
	now := f.clock().Wall
	from, before := ledger.HourOf(now.Add(-slots.LostBack)), ledger.HourOf(now)+2
	own, err := f.store.Digests(from, before)
	if err != nil {
		return err
	}
	var theirs digestsAnswer
	if err := f.ask(ctx, voter, askDigests, digestsQuestion{From: from, Before: before, Hash: fold(own)}, &theirs); err != nil || theirs.Same {
		return err
	}
	for _, d := range theirs.Digests {
		if d.Hour < from || d.Hour >= before || slices.Contains(own, ledger.Digest{Hour: d.Hour, Count: d.Count, Hash: d.Hash}) {
			continue
		}
		for q := (hourQuestion{Hour: d.Hour}); ; {
			var a hourAnswer
			if err := f.ask(ctx, voter, askHour, q, &a); err != nil {
				return err
			}
			batch, err := jobs.DecodeBatch(a.Batch)
			if err != nil {
				return err
			}
			if _, err := f.store.Fill(slices.DeleteFunc(batch.Records, func(r jobs.Record) bool { return r.Slot.Local() })); err != nil {
				return err
			}
			next := hourQuestion{Hour: d.Hour, At: a.At, ID: a.ID}
			if a.At == 0 && a.ID == 0 || a.At < q.At || a.At == q.At && a.ID <= q.ID {
				break // the last page, or nonsense
			}
			q = next
		}
	}
	return nil
}

func (f *filler) giveUp(vain futile) {
	if f.futile == nil || len(f.futile) >= maxFutile {
		f.futile = map[futile]bool{}
	}
	f.futile[vain] = true
}

// fillHour takes what a voter has of one hour, about most records of it at most.
func (f *filler) fillHour(ctx context.Context, voter string, hour ledger.Hour, most int) (news int, err error) {
	// A slot whose last attempt was lost may be gone on with for longer.
	young := ledger.HourOf(f.clock().Wall.Add(-slots.LostBack))
	question := hourQuestion{Hour: hour}
	for {
		var a hourAnswer
		if err := f.ask(ctx, voter, askHour, question, &a); err != nil {
			return news, err
		}
		batch, err := jobs.DecodeBatch(a.Batch)
		if err != nil {
			return news, err
		}
		records := slices.DeleteFunc(batch.Records, func(r jobs.Record) bool {
			return r.Slot.Local() || ledger.HourOfRecord(r) != hour || hour >= young && (r.State == jobs.Lost || r.State == jobs.NeverStarted)
		})
		fresh, err := f.store.Fill(records)
		if err != nil {
			return news, err
		}
		news += len(fresh)
		f.learnt(slices.DeleteFunc(fresh, func(r jobs.Record) bool { return !r.State.Final() }))
		further := hourQuestion{Hour: hour, At: a.At, ID: a.ID}
		if a.At == 0 && a.ID == 0 || news >= most {
			return news, nil
		}
		if a.At < question.At || a.At == question.At && a.ID <= question.ID {
			return news, errors.New("decode history: the pages go backwards")
		}
		question = further
		select {
		case <-time.After(fillPause):
		case <-ctx.Done():
			return news, ctx.Err()
		}
	}
}

func (f *filler) ask(ctx context.Context, voter string, kind byte, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	q, err := cbor.Marshal(question)
	if err != nil {
		return err
	}
	a, err := f.call(ctx, voter, append([]byte{kind}, q...))
	if err != nil {
		return err
	}
	if err := decodeFill.Unmarshal(a, answer); err != nil {
		return fmt.Errorf("decode history: %w", err)
	}
	return nil
}

// answer answers another voter's question; nil, which is no answer, if it cannot.
func (f *filler) answer(kind byte, question []byte) []byte {
	var a any
	var err error
	switch kind {
	case askDigests:
		var q digestsQuestion
		if err = decodeFill.Unmarshal(question, &q); err == nil {
			a, err = f.compare(q)
		}
	case askHour:
		var q hourQuestion
		if err = decodeFill.Unmarshal(question, &q); err == nil {
			a, err = f.page(q)
		}
	}
	if err != nil {
		f.log.Debug("no answer about history", zap.Error(err))
		return nil
	}
	b, err := cbor.Marshal(a)
	if err != nil {
		f.log.Error("encode history", zap.Error(err))
		return nil
	}
	return b
}

func (f *filler) compare(q digestsQuestion) (digestsAnswer, error) {
	oldest, _ := f.window()
	a := digestsAnswer{From: max(q.From, oldest)}
	own, err := f.store.Digests(a.From, min(q.Before, a.From+maxFillHour))
	if err != nil {
		return a, err
	}
	if a.From == q.From && fold(own) == q.Hash {
		a.Same = true
		return a, nil
	}
	for _, d := range own {
		a.Digests = append(a.Digests, wireDigest{Hour: d.Hour, Count: d.Count, Hash: d.Hash})
	}
	return a, nil
}

func (f *filler) page(q hourQuestion) (hourAnswer, error) {
	records, next, err := f.store.Settled(q.Hour, ledger.Place{At: q.At, ID: q.ID}, fillPage)
	if err != nil {
		return hourAnswer{}, err
	}
	b, err := jobs.Batch{Records: records}.Encode()
	return hourAnswer{Batch: b, At: next.At, ID: next.ID}, err
}

// fold is one hash of many digests, in order.
func fold(ds []ledger.Digest) jobs.Hash {
	h := sha256.New()
	for _, d := range ds {
		fmt.Fprintf(h, "%d %d %x\n", d.Hour, d.Count, d.Hash)
	}
	return jobs.Hash(h.Sum(nil)[:len(jobs.Hash{})])
}

// decodeFill takes what anybody may have sent.
var decodeFill = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: maxFillHour + 1, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// otherVoters are the names of the voters besides this node, if it is one.
func (d *Daemon) otherVoters() []string {
	e := d.protocol.electorate()
	if e == nil {
		return nil
	}
	var others []string
	own := false
	for _, v := range e.Voters {
		if v.Name == d.name {
			own = true
		} else {
			others = append(others, v.Name)
		}
	}
	if !own {
		return nil
	}
	return others
}

const (
	retellBack = 24 * time.Hour
	retellMost = scribeBatch
)

// retell is what earlier agents of this node recorded of their runs' ends: one
// that was killed may have told nobody but its own disk, and nobody else may
// ever say it. The voters that know it already lose nothing by hearing it again.
// What never started is left out: a lord may go on from it, and asks for it.
func (d *Daemon) retell() []jobs.Record {
	records, err := d.store.Runs(ledger.Query{Node: d.name, Since: d.clock().Wall.Add(-retellBack), Limit: retellMost})
	if err != nil {
		d.log.Warn("read earlier runs", zap.Error(err))
		return nil
	}
	return slices.DeleteFunc(records, func(r jobs.Record) bool {
		return r.Run == "" || !r.State.Final() || r.State == jobs.NeverStarted || r.Slot.Local()
	})
}
