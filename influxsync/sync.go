package influxsync

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Mark is how far a sink has a journal: the store it is of, and the last entry
// whose window the sink was seen to hold. The zero Mark is the beginning.
type Mark struct {
	Store string
	Time  time.Time
	Hash  string
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
	// Span bounds the windows that are read in one query, and with it memory
	// (8 bytes a row); 0 is 2 hours.
	Span time.Duration
	// Shared says that the source's table holds other clusters too, each with
	// a journal of its own: only rows of Cluster are read. Otherwise rows of
	// another cluster are foreign.
	Shared bool
	// CountBy names a tag; Confirmed.Values then says which values of it had
	// rows. "" is none.
	CountBy string
	// Parallel is how many parts of the time are copied side by side; 0 is 1.
	Parallel int
}

// Confirmed is a window that the sink was seen to hold, but for Refused rows.
type Confirmed struct {
	Entry            // the newest of the window; it may be newer than the mark
	Values  []string // distinct values of the tag CountBy in its rows, sorted
	Refused int64    // rows that the sink does not take; they are in SyncResult.Refused
	Extra   int64    // rows that the sink holds and the source does not
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
	// does not: the overlap with an earlier era. Without one they are a mismatch.
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
	defaultSpan  = 2 * time.Hour
	keptForeign  = 1000
)

// Sync follows the source's journal from the mark. It verifies the chain
// (ErrChain), copies the windows that the entries name, contiguous ones in one
// read, and compares rows and digest of what it streamed, and of what the sink
// returns, with the newest entry of each window. Where they differ it is
// ErrMismatch: rows may have been written, but the result's mark is the
// request's, and another call does all of it again. That also happens when a
// window is being rewritten; a source without a journal is no error.
func Sync(ctx context.Context, request SyncRequest) (SyncResult, error) {
	s := &syncer{SyncRequest: request, differ: func(want, got tally) bool { return want != got }}
	result, err := s.run(ctx)
	if err != nil {
		return SyncResult{Mark: request.Mark, NewEra: s.result.NewEra},
			fmt.Errorf("sync %s of %s: %w", request.Table.Name, request.Cluster, err)
	}
	return result, nil
}

// tally is what is compared of a window.
type tally struct {
	rows   int64
	digest Digest
}

func (t *tally) add(hash uint64) {
	t.rows++
	t.digest += Digest(hash)
}

// syncer is one call of Sync.
type syncer struct {
	SyncRequest
	differ func(want, got tally) bool
	result SyncResult
	last   Entry // the newest entry that this call follows
}

// copied is a window with what was seen of it.
type copied struct {
	entry    Entry
	streamed tally // all rows of the source
	accepted tally // those of this cluster, which were written
	returned tally // what the sink says it holds
}

func (s *syncer) run(ctx context.Context) (SyncResult, error) {
	if s.Limit <= 0 {
		s.Limit = defaultLimit
	}
	if s.Span <= 0 {
		s.Span = defaultSpan
	}
	if s.SinkTable == "" {
		s.SinkTable = s.Table.Name
	}
	s.result.Mark = s.Mark
	store, err := readStoreID(ctx, s.Source)
	if err != nil || store == "" { // nothing was ever settled there
		return s.result, err
	}
	entries, err := s.follow(ctx, store)
	if err != nil {
		return s.result, err
	}
	if s.result.NewEra {
		if err := s.beginEra(ctx); err != nil {
			return s.result, err
		}
	}
	if len(entries) == 0 {
		return s.result, nil
	}
	s.last = entries[len(entries)-1]
	windows := newest(entries)
	for _, part := range contiguous(windows, s.Span) {
		if err := s.copy(ctx, part); err != nil {
			return s.result, err
		}
	}
	slices.SortFunc(windows, func(a, b *copied) int { return a.entry.Time.Compare(b.entry.Time) })
	for _, w := range windows {
		s.result.Windows = append(s.result.Windows, Confirmed{Entry: w.entry})
	}
	s.result.Mark = Mark{Store: store, Time: s.last.Time, Hash: s.last.Hash}
	return s.result, nil
}

// follow reads the entries after the mark and verifies their chain. The mark's
// own entry must be there with its hash; otherwise a new era begins.
func (s *syncer) follow(ctx context.Context, store string) ([]Entry, error) {
	mark := s.Mark
	if mark.Store != "" && mark.Store != store {
		s.result.NewEra, mark = true, Mark{}
	}
	if mark.Hash != "" {
		// With the mark's entry, and one to know whether there are more.
		entries, err := s.read(ctx, mark.Time.Add(-1), s.Limit+2)
		if err != nil {
			return nil, err
		}
		if len(entries) > 0 && entries[0].Time.Equal(mark.Time) && entries[0].Hash == mark.Hash {
			s.result.Mark = Mark{Store: store, Time: mark.Time, Hash: mark.Hash}
			return s.limited(entries[1:]), VerifyChain(entries[1:], mark.Hash)
		}
		s.result.NewEra = true
	}
	s.result.Mark = Mark{Store: store}
	entries, err := s.read(ctx, time.Time{}, s.Limit+1)
	if err != nil {
		return nil, err
	}
	return s.limited(entries), VerifyChain(entries, "")
}

func (s *syncer) limited(entries []Entry) []Entry {
	s.result.More = len(entries) > s.Limit
	return entries[:min(len(entries), s.Limit)]
}

func (s *syncer) read(ctx context.Context, after time.Time, limit int) ([]Entry, error) {
	return ReadJournal(ctx, s.Source, s.Cluster, s.Table.Name, after, limit)
}

// newest keeps the last entry of each window, by the windows' time.
func newest(entries []Entry) []*copied {
	bySpan := make(map[span]*copied)
	for _, e := range entries {
		bySpan[spanOf(e.Window)] = &copied{entry: e}
	}
	windows := make([]*copied, 0, len(bySpan))
	for _, w := range bySpan {
		windows = append(windows, w)
	}
	slices.SortFunc(windows, func(a, b *copied) int {
		return cmp.Or(a.entry.Window.From.Compare(b.entry.Window.From), a.entry.Window.To.Compare(b.entry.Window.To))
	})
	return windows
}

// part is a run of windows without a gap between them.
type part struct {
	window  schema.Window
	windows []*copied // by time
	longest time.Duration
}

// contiguous cuts the windows where there is a gap, and after limit.
func contiguous(windows []*copied, limit time.Duration) []part {
	var parts []part
	for _, w := range windows {
		window := w.entry.Window
		last := len(parts) - 1
		if last < 0 || window.From.After(parts[last].window.To) || window.To.Sub(parts[last].window.From) > limit {
			parts = append(parts, part{window: window})
			last++
		}
		p := &parts[last]
		p.windows = append(p.windows, w)
		p.longest = max(p.longest, window.Length())
		if window.To.After(p.window.To) {
			p.window.To = window.To
		}
	}
	return parts
}

// at calls each for the windows of the part that hold t: one, unless windows
// of different lengths overlap.
func (p part) at(t time.Time, each func(*copied)) {
	i, _ := slices.BinarySearchFunc(p.windows, t, func(w *copied, t time.Time) int {
		if w.entry.Window.From.After(t) {
			return 1
		}
		return -1
	})
	for i--; i >= 0 && t.Sub(p.windows[i].entry.Window.From) < p.longest; i-- {
		if p.windows[i].entry.Window.Contains(t) {
			each(p.windows[i])
		}
	}
}
