package influxsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"golang.org/x/sync/errgroup"
)

// Mark is how far a sink has a journal: the store it is of, and the last entry
// whose window the sink was seen to hold. The zero Mark is the beginning.
type Mark struct {
	Store string
	Time  time.Time
	Hash  string
	Era   int64 // how often the journal did not go on where it was left
}

// SyncRequest is one table of one cluster between two databases.
type SyncRequest struct {
	Source, Sink *Database
	Table        schema.Table
	Cluster      string
	Mark         Mark
	// Limit is how many journal entries one call follows; 0 is 240.
	Limit int
	// SinkTable is the table's name in the sink; "" is its own.
	SinkTable string
	// Span bounds the windows that are read in one query; 0 is 24 hours. The
	// end of a UTC day ends one too; one longer window, and windows that
	// overlap, are read whole. Memory does not depend on it.
	Span time.Duration
	// Shared says that the source's table holds other clusters too, each with
	// a journal of its own: only rows of Cluster are read. Otherwise rows of
	// another cluster are foreign.
	Shared bool
	// CountBy names a tag; Confirmed.Values then says which values of it had
	// rows. "" is none.
	CountBy string
	// CountIf says of a row, by its integer fields (0 where it has none of the
	// name), whether it counts for CountBy; nil counts all rows. It is called by
	// Parallel goroutines.
	CountIf func(field func(name string) int64) bool
	// Parallel is how many parts of the time are copied side by side; 0 is 1.
	// They take about 5 MB in all, and 0.5 MB more for each beyond 16.
	Parallel int
	Verify   Verify
	// Gone says of a window that the source has its rows no more, though its journal
	// names it: it is passed over, and nothing is told of it. nil is none.
	Gone func(w schema.Window) bool
	// Pause waits between two attempts of a write; nil is by the system's clock.
	Pause func(context.Context, time.Duration) error
}

// Verify is what a call looks at before it moves the mark.
type Verify uint8

// What is compared with the journal's rows and digests.
const (
	VerifyReadBack Verify = iota // what was streamed, and what the sink returns
	VerifyStream                 // what was streamed
	VerifyNone                   // nothing: a copy, to compare the costs with
)

// Confirmed is a window that the sink was seen to hold, but for Refused rows.
type Confirmed struct {
	Entry            // the newest of the window; it may be newer than the mark
	Values  []string // distinct values of the tag CountBy in its rows that count, sorted; nil without CountBy
	Refused int64    // rows that the sink does not take; they are in SyncResult.Refused
	Extra   int64    // rows that the sink holds and the source does not
	// Unexplained says that no earlier era is known to have left the Extra
	// rows there: they may be usage that is counted twice.
	Unexplained bool
}

// Refused is a row that the sink does not take, whatever the number of attempts.
type Refused struct {
	Window schema.Window
	Line   string // line protocol, with the sink's table
	Hash   uint64 // of the row, as Point.Hash
	Class  Class
	Reason string // what the sink said
}

// SyncResult is what a call did.
type SyncResult struct {
	// Mark is to be stored before the next call.
	Mark Mark
	// Windows are the confirmed ones, in the order of their entries' times. An
	// entry newer than Mark will come again.
	Windows []Confirmed
	Rows    int // written to the sink
	// More says that the journal goes on after Mark.
	More bool
	// NewEra: the source is another store than the mark's, or its journal no
	// longer holds the mark's entry. It is followed from its beginning; the
	// sink keeps what it has.
	NewEra bool
	// Extra counts rows that the sink holds in confirmed windows and the source
	// does not: the overlap with an earlier era, or what a call wrote that did
	// not come to its end before the source lost it. They stay, since absence
	// never deletes, and are told of for each window.
	Extra int
	// Foreign are rows with another cluster's tag, the first 1000 of
	// ForeignRows. They were not written.
	Foreign     []Point
	ForeignRows int
	// Refused are the rows that the sink refused. They are to be kept before
	// the mark is.
	Refused []Refused
}

const (
	defaultLimit = 240
	// A query for less than leastSpan costs the source much more per row: it
	// opens each series anew.
	leastSpan = 2 * time.Hour
	// maxRefused bounds the refused rows of one call, unless they are of one
	// entry: the call begins anew with fewer.
	maxRefused  = 20_000
	keptForeign = 1000
)

// errManyRefused: the sink refuses more rows than are to be held at once.
var errManyRefused = errors.New("too many refused rows")

// Sync follows the source's journal from the mark. It verifies the chain
// (ErrChain), copies the windows that the entries name, contiguous ones in one
// read, and compares rows and digest of what it streamed, and of what the sink
// returns, with the newest entry of each window. Where they differ it is
// ErrMismatch: rows may have been written, but the result's mark is the
// request's, and another call does all of it again. That also happens when a
// window is being rewritten; a source without a journal is no error.
//
// A write whose failure may pass is tried again, with growing pauses; a row
// that the sink refuses for what it is is set apart (SyncResult.Refused), and
// its window is confirmed without it. Any other refusal is an error at once.
func Sync(ctx context.Context, request SyncRequest) (SyncResult, error) {
	return syncWith(ctx, request, unequal)
}

func unequal(want, got tally) bool { return want != got }

func syncWith(ctx context.Context, request SyncRequest, differ func(want, got tally) bool) (SyncResult, error) {
	request.complete()
	flat := flatKinds(request.Table)
	for {
		s := newSyncer(request, differ)
		s.flat = flat
		err := s.run(ctx)
		switch {
		case errors.Is(err, errNotFlat):
			flat = nil
		case errors.Is(err, errManyRefused):
			request.Limit /= 2
		case err != nil:
			return SyncResult{Mark: request.Mark, NewEra: s.result.NewEra},
				fmt.Errorf("sync %s of %s: %w", request.Table.Name, request.Cluster, err)
		default:
			return s.result, nil
		}
	}
}

func (r *SyncRequest) complete() {
	if r.Limit <= 0 {
		r.Limit = defaultLimit
	}
	if r.Span <= 0 {
		r.Span = shard
	}
	if r.Parallel <= 0 {
		r.Parallel = 1
	}
	if r.SinkTable == "" {
		r.SinkTable = r.Table.Name
	}
}

// syncer is one call of Sync.
type syncer struct {
	copier
	result SyncResult
}

func newSyncer(request SyncRequest, differ func(want, got tally) bool) *syncer {
	s := &syncer{copier: copier{SyncRequest: request, differ: differ, spare: make(chan []byte, 2*request.Parallel)}}
	s.result.Mark = request.Mark
	return s
}

func (s *syncer) run(ctx context.Context) error {
	store, err := readStoreID(ctx, s.Source)
	if err != nil || store == "" { // nothing was ever settled there
		return err
	}
	if s.reach, err = s.readReach(ctx); err != nil {
		return err
	}
	entries, err := s.follow(ctx, store)
	if err != nil {
		return err
	}
	if err := s.beginEra(ctx); err != nil {
		return err
	}
	s.result.Mark.Era = s.reach.era
	if len(entries) == 0 {
		return nil
	}
	s.last = entries[len(entries)-1]
	if err := s.raiseReach(ctx, store, s.last); err != nil {
		return err
	}
	there := entries
	if s.Gone != nil {
		there = slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return s.Gone(e.Window) })
	}
	if err := s.copyAll(ctx, newest(there)); err != nil {
		return err
	}
	// A window may have been confirmed by a newer entry than was to be followed.
	if n := len(s.result.Windows); n > 0 {
		if err := s.raiseReach(ctx, store, s.result.Windows[n-1].Entry); err != nil {
			return err
		}
	}
	s.result.Mark = Mark{Store: store, Time: s.last.Time, Hash: s.last.Hash, Era: s.reach.era}
	return nil
}

// copyAll copies windows, Parallel parts side by side, and tells of them.
func (s *syncer) copyAll(ctx context.Context, windows []*copied) error {
	span := s.Span
	if s.Parallel > 1 && len(windows) > 0 {
		all := windows[len(windows)-1].entry.Window.To.Sub(windows[0].entry.Window.From)
		span = min(span, max(leastSpan, all/time.Duration(s.Parallel)))
	}
	all := parts(windows, span)
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(s.Parallel)
	for _, p := range all {
		group.Go(func() error { return s.copy(grouped, p) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, p := range all {
		s.tell(p)
	}
	slices.SortFunc(s.result.Windows, func(a, b Confirmed) int { return a.Time.Compare(b.Time) })
	return nil
}

func (s *syncer) tell(p *part) {
	for _, w := range p.windows {
		s.result.Windows = append(s.result.Windows, p.confirmed(w, s.CountBy != ""))
		s.result.Extra += int(w.extra)
	}
	s.result.Rows += p.rows - len(p.refused)
	s.result.ForeignRows += p.strays
	s.result.Foreign = append(s.result.Foreign, p.foreign[:min(len(p.foreign), keptForeign-len(s.result.Foreign))]...)
	s.result.Refused = append(s.result.Refused, p.refused...)
}

// CopyWindows copies just these windows again, as the newest entries of the
// source's journal have them, compares like Sync, and tells of them. The result
// has the request's mark. It reads the journal whole. A window that the journal
// does not name is ErrNotFound.
func CopyWindows(ctx context.Context, request SyncRequest, windows []schema.Window) (SyncResult, error) {
	request.complete()
	request.Limit = 1 // whatever the sink refuses is told
	s := newSyncer(request, unequal)
	if err := s.copyNamed(ctx, windows); err != nil {
		return SyncResult{Mark: request.Mark}, fmt.Errorf("copy windows of %s of %s: %w", request.Table.Name, request.Cluster, err)
	}
	return s.result, nil
}

func (s *syncer) copyNamed(ctx context.Context, windows []schema.Window) error {
	store, err := readStoreID(ctx, s.Source)
	if err != nil {
		return err
	}
	if s.reach, err = s.readReach(ctx); err != nil {
		return err
	}
	if goesOn, err := s.goesOn(ctx, store); err != nil || !goesOn {
		return errors.Join(err, fmt.Errorf("the source's journal does not go on where the mark left it; sync first: %w", ErrMismatch))
	}
	wanted := make(map[span]*copied, len(windows))
	for _, w := range windows {
		wanted[spanOf(w)] = nil
	}
	base, err := ReadBase(ctx, s.Source, s.Cluster, s.Table.Name)
	if err != nil {
		return err
	}
	s.last.Hash = base.Previous
	err = eachEntry(ctx, s.Source, s.Cluster, s.Table.Name, schema.Window{From: base.At}, 0, func(e Entry) error {
		if err := e.follows(s.last.Hash); err != nil {
			return err
		}
		s.last = e
		if _, ok := wanted[spanOf(e.Window)]; ok {
			wanted[spanOf(e.Window)] = &copied{entry: e}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.sinkHolds() { // else the next Sync has to see that it does not, and copies all
		if err := s.raiseReach(ctx, store, s.last); err != nil {
			return err
		}
	}
	named := make([]*copied, 0, len(wanted))
	for key, w := range wanted {
		if w == nil {
			return fmt.Errorf("window %s: %w in the source's journal", key.window(), ErrNotFound)
		}
		named = append(named, w)
	}
	sortWindows(named)
	return s.copyAll(ctx, named)
}

// follow reads the entries after the mark and verifies their chain. The mark's
// own entry must be there with its hash, and so must the one that an earlier
// call meant to reach; otherwise a new era begins.
func (s *syncer) follow(ctx context.Context, store string) ([]Entry, error) {
	mark := s.Mark
	goesOn, err := s.goesOn(ctx, store)
	if err != nil {
		return nil, err
	}
	if goesOn = goesOn && s.sinkHolds(); goesOn {
		s.result.Mark = Mark{Store: store, Time: mark.Time, Hash: mark.Hash}
		if mark.Hash != "" {
			// With the mark's entry, and one to know whether there are more.
			entries, err := s.read(ctx, mark.Time.Add(-1), s.Limit+2)
			if err != nil {
				return nil, err
			}
			if len(entries) > 0 && entries[0].Time.Equal(mark.Time) && entries[0].Hash == mark.Hash {
				return s.limited(entries[1:]), VerifyChain(entries[1:], mark.Hash)
			}
			goesOn = false
		}
	}
	s.result.NewEra = !goesOn
	s.result.Mark = Mark{Store: store}
	base, err := ReadBase(ctx, s.Source, s.Cluster, s.Table.Name)
	if err != nil {
		return nil, err
	}
	entries, err := s.read(ctx, base.After(), s.Limit+1)
	if err != nil {
		return nil, err
	}
	return s.limited(entries), VerifyChain(entries, base.Previous)
}

// goesOn says whether the mark is of this store and of this era, and the store
// still has all that an earlier call may have copied. What that call copied of
// entries that are lost now is in the sink, and no entry names it any more.
func (s *syncer) goesOn(ctx context.Context, store string) (bool, error) {
	mark, reach := s.Mark, s.reach
	switch {
	case mark.Store != "" && mark.Store != store, mark.Era != reach.era:
		return false, nil
	case reach.hash == "" || reach.store == store && !reach.at.After(mark.Time):
		return true, nil
	case reach.store != store:
		return false, nil
	}
	entries, err := s.read(ctx, reach.at.Add(-1), 1)
	return len(entries) == 1 && entries[0].Time.Equal(reach.at) && entries[0].Hash == reach.hash, err
}

// sinkHolds says whether the sink may hold what the mark says. What is to be
// reached is noted before a mark is given out: one that was emptied, or is an
// older copy, has less.
func (s *syncer) sinkHolds() bool {
	return s.Mark.Hash == "" || s.reach.hash != "" && !s.reach.at.Before(s.Mark.Time)
}

func (s *syncer) limited(entries []Entry) []Entry {
	s.result.More = len(entries) > s.Limit
	return entries[:min(len(entries), s.Limit)]
}

func (s *syncer) read(ctx context.Context, after time.Time, limit int) ([]Entry, error) {
	return ReadJournal(ctx, s.Source, s.Cluster, s.Table.Name, after, limit)
}
