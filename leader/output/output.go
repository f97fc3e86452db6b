// Package output writes the tables that the leader itself computes. A table's
// windows are journalled by cluster, as a follower journals its own, so that a
// push and a leader above follow a journal too.
//
// It guarantees that a scope's rows of a window are replaced as a whole, that
// the same rows written twice are one revision, and that a crash between rows
// and journal is mended by the next Replace of the same scope. It computes
// nothing.
package output

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Table is one table of the centre with its journals. It is safe for
// concurrent use; replacements of one cluster follow one another.
type Table struct {
	db    *influxsync.Database
	table schema.Table
	clock clock.Clock

	mu       sync.Mutex
	journals map[string]*clusterJournal
}

type clusterJournal struct {
	mu      sync.Mutex
	journal *influxsync.Journal // nil until it was opened
}

// New is the table in its database.
func New(db *influxsync.Database, table schema.Table, clk clock.Clock) *Table {
	return &Table{db: db, table: table, clock: clk, journals: make(map[string]*clusterJournal)}
}

// Replace makes rows the content of a scope: all rows of the cluster in span for
// which owns is true. Rows of the scope that are not named any more are written
// as zeros, since absence never deletes. Rows of other scopes stay. It returns
// the windows that changed, each with a new journal entry.
func (t *Table) Replace(ctx context.Context, cluster string, span schema.Window, owns func(influxsync.Point) bool, rows []influxsync.Point, reason string) ([]schema.Window, error) {
	held, err := t.lock(ctx, cluster)
	if err != nil {
		return nil, err
	}
	defer held.mu.Unlock()
	stored, err := t.read(ctx, cluster, span)
	if err != nil {
		return nil, err
	}
	wanted := make(map[time.Time]map[string]influxsync.Point)
	for _, row := range rows {
		put(wanted, row)
	}
	var changes []influxsync.Point
	var entries []influxsync.Entry
	for _, window := range span.Split(t.table.Grain) {
		changed, final := merge(stored[window.From], wanted[window.From], owns)
		entry := entryOf(window, final, reason)
		latest, known := held.journal.Latest(window)
		if len(changed) == 0 && (len(final) == 0 || known && latest.Digest == entry.Digest && latest.Rows == entry.Rows) {
			continue
		}
		changes, entries = append(changes, changed...), append(entries, entry)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	if err := t.db.Write(ctx, changes); err != nil {
		return nil, fmt.Errorf("write %s of %s: %w", t.table.Name, cluster, err)
	}
	if _, err := held.journal.Append(ctx, entries...); err != nil {
		return nil, fmt.Errorf("journal %s of %s: %w", t.table.Name, cluster, err)
	}
	windows := make([]schema.Window, len(entries))
	for i, entry := range entries {
		windows[i] = entry.Window
	}
	return windows, nil
}

// lock returns the cluster's open journal, locked.
func (t *Table) lock(ctx context.Context, cluster string) (*clusterJournal, error) {
	t.mu.Lock()
	held := t.journals[cluster]
	if held == nil {
		held = &clusterJournal{}
		t.journals[cluster] = held
	}
	t.mu.Unlock()
	held.mu.Lock()
	if held.journal != nil {
		return held, nil
	}
	journal, err := influxsync.OpenJournal(ctx, t.db, cluster, t.table, t.clock)
	if err != nil {
		held.mu.Unlock()
		return nil, fmt.Errorf("open the journal of %s of %s: %w", t.table.Name, cluster, err)
	}
	held.journal = journal
	return held, nil
}

// read is what is stored of the cluster in span: window start → key → row.
func (t *Table) read(ctx context.Context, cluster string, span schema.Window) (map[time.Time]map[string]influxsync.Point, error) {
	stored := make(map[time.Time]map[string]influxsync.Point)
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}
	err := t.db.TimeQuery(ctx, t.table.Name, span, where, func(row influxsync.Point) error {
		put(stored, row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s of %s in %s: %w", t.table.Name, cluster, span, err)
	}
	return stored, nil
}

func put(rows map[time.Time]map[string]influxsync.Point, row influxsync.Point) {
	window := rows[row.Time]
	if window == nil {
		window = make(map[string]influxsync.Point)
		rows[row.Time] = window
	}
	window[key(row)] = row
}

// merge is what has to be written, and what the window then holds.
func merge(stored, wanted map[string]influxsync.Point, owns func(influxsync.Point) bool) (changed, final []influxsync.Point) {
	for key, row := range wanted {
		if before, ok := stored[key]; !ok || before.Hash() != row.Hash() {
			changed = append(changed, row)
		}
		final = append(final, row)
	}
	for key, before := range stored {
		if _, ok := wanted[key]; ok {
			continue
		}
		if owns(before) {
			if zero := zeroed(before); zero.Hash() != before.Hash() {
				changed = append(changed, zero)
				before = zero
			}
		}
		final = append(final, before)
	}
	sort.Slice(changed, func(i, j int) bool { return key(changed[i]) < key(changed[j]) })
	return changed, final
}

// zeroed is the row with its quantities at zero.
func zeroed(row influxsync.Point) influxsync.Point {
	fields := make([]influxsync.FieldValue, len(row.Fields))
	for i, field := range row.Fields {
		if field.Value.Type == schema.Integer {
			field.Value = influxsync.Int(0)
		}
		fields[i] = field
	}
	row.Fields = fields
	return row
}

func entryOf(window schema.Window, rows []influxsync.Point, reason string) influxsync.Entry {
	entry := influxsync.Entry{Window: window, Rows: int64(len(rows)), Coverage: 1000, Reason: reason}
	for _, row := range rows {
		entry.Digest.Add(row)
	}
	return entry
}

func key(row influxsync.Point) string {
	var b strings.Builder
	for _, tag := range row.Tags {
		b.WriteString(tag.Key)
		b.WriteByte(0)
		b.WriteString(tag.Value)
		b.WriteByte(0)
	}
	return b.String()
}

// Forget lets go of what is remembered of the journals, after rows and journals
// were deleted.
func (t *Table) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.journals = make(map[string]*clusterJournal)
}
