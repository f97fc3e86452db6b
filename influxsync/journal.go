package influxsync

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// StoreTable holds the random id of a store that has journals.
const StoreTable = "store"

// Journal is the record of what one writer settled in one table of one
// cluster: a chain of entries, in the same database as the table. There is one
// writer per (cluster, table). It is safe for concurrent use.
type Journal struct {
	db             *Database
	cluster, table string
	clock          clock.Clock

	mu      sync.Mutex
	head    Entry // zero while there is none
	latest  map[span]latest
	reasons map[string]string
	// pending were sent without an answer: they may be stored or not, and are
	// sent again, as they are, before anything else.
	pending []Entry
}

// span is a window as a small key.
type span struct{ from, to int64 }

func spanOf(w schema.Window) span { return span{w.From.UnixNano(), w.To.UnixNano()} }

func (s span) window() schema.Window {
	return schema.Window{From: time.Unix(0, s.from).UTC(), To: time.Unix(0, s.to).UTC()}
}

// latest is the newest entry of a window, in about 100 bytes.
type latest struct {
	revision, rows, coverage, time int64
	digest                         Digest
	hash, previous                 [16]byte
	first                          bool // previous is ""
	reason                         string
}

// OpenJournal reads the journal, verifies its chain (ErrChain) and keeps its
// head and the newest entry of each window. A store without an id gets one.
// It reads about 200,000 entries a second and holds about 200 bytes a window.
func OpenJournal(ctx context.Context, db *Database, cluster string, table schema.Table, clk clock.Clock) (*Journal, error) {
	j := &Journal{db: db, cluster: cluster, table: table.Name, clock: clk}
	if _, err := StoreID(ctx, db); err != nil {
		return nil, fmt.Errorf("open journal of %s: %w", table.Name, err)
	}
	if err := j.load(ctx); err != nil {
		return nil, fmt.Errorf("open journal of %s: %w", table.Name, err)
	}
	return j, nil
}

func (j *Journal) load(ctx context.Context) error {
	base, err := ReadBase(ctx, j.db, j.cluster, j.table)
	if err != nil {
		return err
	}
	fresh := Journal{latest: make(map[span]latest), reasons: make(map[string]string)}
	fresh.head.Hash = base.Previous
	err = eachEntry(ctx, j.db, j.cluster, j.table, schema.Window{From: base.At}, 0, func(e Entry) error {
		if err := e.follows(fresh.head.Hash); err != nil {
			return err
		}
		fresh.remember(e)
		return nil
	})
	if err != nil {
		return err
	}
	j.head, j.latest, j.reasons = fresh.head, fresh.latest, fresh.reasons
	return nil
}

func (j *Journal) remember(e Entry) {
	reason, ok := j.reasons[e.Reason]
	if !ok {
		reason = e.Reason
		j.reasons[reason] = reason
	}
	e.Reason = reason
	l := latest{revision: e.Revision, rows: e.Rows, coverage: e.Coverage, time: e.Time.UnixNano(), digest: e.Digest,
		first: e.Previous == "", reason: reason}
	_, _ = hex.Decode(l.hash[:], []byte(e.Hash)) // verified or made by hash()
	_, _ = hex.Decode(l.previous[:], []byte(e.Previous))
	j.latest[spanOf(e.Window)] = l
	j.head = e
}

// Append adds the entries in their order. The rows they speak of must be
// durable. It fills Cluster, Table, Revision (the window's last + 1),
// Previous, Hash and Time (after the entry before, else the present) and
// returns the entries as stored; all go in one request to one shard, so that
// all of them or none are durable. After an error they may still become so,
// with those revisions: the next Append sends them again, unchanged, before
// its own. Call it again with the window's state of then.
func (j *Journal) Append(ctx context.Context, entries ...Entry) ([]Entry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.settlePending(ctx); err != nil {
		return nil, fmt.Errorf("append to journal of %s: %w", j.table, err)
	}
	filled := j.fill(entries)
	if err := j.store(ctx, filled); err != nil {
		return nil, fmt.Errorf("append to journal of %s: %w", j.table, err)
	}
	return filled, nil
}

// settlePending repeats the last request when its outcome is not known. If it
// is refused now, the store says what it holds.
func (j *Journal) settlePending(ctx context.Context) error {
	if len(j.pending) == 0 {
		return nil
	}
	err := j.store(ctx, j.pending)
	var refused *WriteError
	if !errors.As(err, &refused) {
		return err
	}
	if err := j.load(ctx); err != nil {
		return err
	}
	j.pending = nil
	return nil
}

func (j *Journal) store(ctx context.Context, entries []Entry) error {
	var lines []byte
	for _, e := range entries {
		var err error
		if lines, err = appendLine(lines, e.point()); err != nil {
			return err // nothing was sent
		}
	}
	j.pending = entries
	if err := j.db.post(ctx, lines); err != nil {
		return err
	}
	j.pending = nil
	for _, e := range entries {
		j.remember(e)
	}
	return nil
}

// fill chains the entries. Their times are 1 ns apart and lie in one shard.
func (j *Journal) fill(entries []Entry) []Entry {
	at := j.clock.Now().UTC()
	if next := j.head.Time.Add(1); j.head.Hash != "" && at.Before(next) {
		at = next
	}
	end := at.Add(time.Duration(len(entries) - 1))
	if day := end.Truncate(shard); day.After(at) {
		at = day
	}
	filled := make([]Entry, len(entries))
	revisions := make(map[span]int64)
	previous := j.head.Hash
	for i, e := range entries {
		key := spanOf(e.Window)
		revision, ok := revisions[key]
		if !ok {
			revision = j.latest[key].revision
		}
		revisions[key] = revision + 1
		e.Cluster, e.Table, e.Window, e.Revision = j.cluster, j.table, key.window(), revision+1
		e.Previous, e.Time = previous, at.Add(time.Duration(i))
		e.Hash = e.hash()
		previous = e.Hash
		filled[i] = e
	}
	return filled
}

// Latest is the newest entry of a window.
func (j *Journal) Latest(w schema.Window) (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l, ok := j.latest[spanOf(w)]
	if !ok {
		return Entry{}, false
	}
	e := Entry{Cluster: j.cluster, Table: j.table, Window: spanOf(w).window(), Revision: l.revision, Rows: l.rows,
		Digest: l.digest, Coverage: l.coverage, Reason: l.reason, Hash: hex.EncodeToString(l.hash[:]),
		Time: time.Unix(0, l.time).UTC()}
	e.Previous = l.before()
	return e, true
}

// before is the hash of the entry before.
func (l latest) before() string {
	if l.first {
		return ""
	}
	return hex.EncodeToString(l.previous[:])
}

// Head is the newest entry of the journal.
func (j *Journal) Head() (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.head, j.head.Hash != ""
}

// ReadJournal reads up to limit entries (0: all) of a journal whose time is
// after the given one, in their order. It does not verify them.
func ReadJournal(ctx context.Context, db *Database, cluster, table string, after time.Time, limit int) ([]Entry, error) {
	var entries []Entry
	err := eachEntry(ctx, db, cluster, table, schema.Window{From: following(after)}, limit, func(e Entry) error {
		if limit > 0 && len(entries) == limit { // a server that gives more than it was asked for
			return fmt.Errorf("the answer has more than %d entries", limit)
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read journal of %s: %w", table, err)
	}
	return entries, nil
}

// following is the first moment after t; zero stays open.
func following(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(1)
}

func eachEntry(ctx context.Context, db *Database, cluster, table string, w schema.Window, limit int, each func(Entry) error) error {
	query := Query{From: journalTable, Window: w, Limit: limit, Group: []string{schema.Cluster, tableTag},
		Where: []Condition{{Tag: schema.Cluster, Value: cluster}, {Tag: tableTag, Value: table}}}
	return db.Query(ctx, query, func(p Point) error {
		e := entryOf(p)
		if e.Cluster != cluster || e.Table != table {
			return fmt.Errorf("asked for the journal of %s of %s, the source gives an entry of %s of %s: %w", table, cluster, e.Table, e.Cluster, ErrChain)
		}
		return each(e)
	})
}

// StoreID is the random id of the store that the database is, made when it has
// none. Whoever opens the database first with another id absent makes it; a
// lost or replaced volume therefore has another one.
func StoreID(ctx context.Context, db *Database) (string, error) {
	id, err := readStoreID(ctx, db)
	if err != nil || id != "" {
		return id, err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make store id: %w", err)
	}
	row := NewPoint(StoreTable, nil, map[string]Value{"id": Str(hex.EncodeToString(random))}, time.Unix(0, 0))
	if err := db.Write(ctx, []Point{row}); err != nil {
		return "", fmt.Errorf("make store id: %w", err)
	}
	return readStoreID(ctx, db)
}

// readStoreID is "" where the store has none yet.
func readStoreID(ctx context.Context, db *Database) (string, error) {
	var id string
	err := db.Query(ctx, Query{Select: []string{"id"}, From: StoreTable}, func(p Point) error {
		value, _ := p.Field("id")
		id = value.Str()
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read store id: %w", err)
	}
	return id, nil
}
