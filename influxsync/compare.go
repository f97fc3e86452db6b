package influxsync

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// compareSource compares the streamed rows with the newest entry of each
// window. The digest of an entry may count rows that are foreign.
func (c *copier) compareSource(ctx context.Context, p *part) error {
	stale := make(map[span]*copied)
	for _, w := range p.windows {
		if !c.agrees(w.entry, w) {
			stale[spanOf(w.entry.Window)] = w
		}
	}
	if len(stale) == 0 {
		return nil
	}
	// A newer revision may stand behind the limit, or have come in between.
	previous := c.last.Hash
	err := eachEntry(ctx, c.Source, c.Cluster, c.Table.Name, schema.Window{From: following(c.last.Time)}, 0, func(e Entry) error {
		if err := e.follows(previous); err != nil {
			return err
		}
		previous = e.Hash
		if w, ok := stale[spanOf(e.Window)]; ok {
			w.entry = e
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, w := range stale {
		if !c.agrees(w.entry, w) {
			return fmt.Errorf("window %s revision %d: journal has %d rows, digest %x; source gave %d rows, digest %x: %w",
				w.entry.Window, w.entry.Revision, w.entry.Rows, uint64(w.entry.Digest),
				w.streamed.rows, uint64(w.streamed.digest), ErrMismatch)
		}
	}
	return nil
}

func (c *copier) agrees(e Entry, w *copied) bool {
	want := tally{e.Rows, e.Digest}
	return !c.differ(want, w.accepted) || !c.differ(want, w.streamed)
}

// compareSink reads the windows back from the sink.
func (c *copier) compareSink(ctx context.Context, p *part) error {
	err := c.Sink.rows(ctx, c.brief(c.query(c.SinkTable, p.window, true)), c.Table.Name, c.SinkTable, func(r *row) error {
		for _, w := range p.of(r.at) {
			w.returned.add(r.hash)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, w := range p.windows {
		if c.differ(w.accepted.less(w.refused), w.returned) {
			if err := c.compareRows(ctx, p, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareRows looks for each row of a window in the sink, by reading both once
// more, so that only a window that does not agree is held. Where a row of
// the sink has fields that the source's no longer has (a write adds fields and
// takes none away), it is replaced. Rows of the sink beyond the source's are
// told of, unless they are what a refused row did not overwrite; so are fields
// that cannot be taken away.
func (c *copier) compareRows(ctx context.Context, p *part, w *copied) error {
	for replaced := false; ; replaced = true {
		rows, err := c.windowRows(ctx, p, w)
		if err != nil {
			return err
		}
		extra, grown, err := c.match(ctx, p, w, rows)
		if err != nil {
			return err
		}
		if len(grown) > 0 && !replaced {
			done, err := c.replace(ctx, p, grown)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		for _, row := range grown {
			delete(rows, rowKey(row))
		}
		if len(rows) > 0 {
			return fmt.Errorf("window %s: sink does not return %d of %d rows: %w", w.entry.Window, len(rows), w.accepted.rows, ErrMismatch)
		}
		w.extra = int64(extra + len(grown))
		w.unexplained = w.extra > 0 && (c.reach.era == 0 || len(grown) > 0)
		return nil
	}
}

// windowRows are the rows of a window that the sink must hold, by key.
func (c *copier) windowRows(ctx context.Context, p *part, w *copied) (map[string]Point, error) {
	rows := make(map[string]Point, w.accepted.rows)
	var again tally
	changed := fmt.Errorf("window %s: the source was written while it was copied: %w", w.entry.Window, ErrMismatch)
	err := c.Source.rows(ctx, c.query(c.Table.Name, w.entry.Window, true), c.Table.Name, c.SinkTable, func(r *row) error {
		if again.add(r.hash); again.rows > w.accepted.rows {
			return changed
		}
		row := r.point(c.Table.Name)
		rows[rowKey(row)] = row
		return nil
	})
	if err != nil {
		return nil, err
	}
	if again != w.accepted {
		return nil, changed
	}
	for key := range p.stale {
		delete(rows, key)
	}
	return rows, nil
}

// match takes the rows that the sink returns out of rows, and counts those that
// were not among them. Grown are rows as they must be, of which the sink holds
// more fields.
func (c *copier) match(ctx context.Context, p *part, w *copied, rows map[string]Point) (extra int, grown []Point, err error) {
	err = c.Sink.rows(ctx, c.query(c.SinkTable, w.entry.Window, true), c.Table.Name, c.SinkTable, func(r *row) error {
		held := r.point(c.Table.Name)
		key := rowKey(held)
		want, ok := rows[key]
		switch {
		case ok && want.Hash() == r.hash:
			delete(rows, key)
		case ok && holds(held, want):
			grown = append(grown, want)
		case !ok && !p.stale[key]:
			extra++
		}
		return nil
	})
	return extra, grown, err
}

// holds says whether a row has all fields of another one, and more.
func holds(row, of Point) bool {
	for _, field := range of.Fields {
		if value, ok := row.Field(field.Name); !ok || value != field.Value {
			return false
		}
	}
	return len(row.Fields) > len(of.Fields)
}

// replace deletes rows in the sink and writes them again. It does nothing and
// says so where the sink has no statement for it: InfluxQL deletes by tags, and
// takes a tag that has a field's name for the field; a follower's port lets
// nobody delete. The mark has not moved: should this end in between, another
// call writes the rows.
func (c *copier) replace(ctx context.Context, p *part, rows []Point) (bool, error) {
	table, err := c.Sink.GetTable(ctx, c.SinkTable)
	if err != nil {
		if errors.Is(err, errTwoTypes) {
			return false, nil
		}
		return false, err
	}
	for _, field := range table.Fields {
		if slices.Contains(table.Tags, field.Name) {
			return false, nil
		}
	}
	var lines []byte
	for i, row := range rows {
		row.Table = c.SinkTable
		err := c.Sink.deleteRow(ctx, row, table.Tags)
		if i == 0 && neverDeletes(err) {
			return false, nil
		}
		if err == nil {
			lines, err = appendLine(lines, row)
		}
		if err != nil {
			return false, err
		}
	}
	return true, c.write(ctx, p, lines)
}

// neverDeletes says whether an answer to DELETE is of a server that lets nobody
// delete, and not of one that has too much to do (429), waited too long (408) or
// does not know us any more (401): those may delete next time.
func neverDeletes(err error) bool {
	var answered *StatusError
	if !errors.As(err, &answered) {
		return false
	}
	switch answered.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// deleteRow deletes one row. Every tag that the table knows is named, since a
// condition on some would meet series that have others beside them.
func (d *Database) deleteRow(ctx context.Context, row Point, tags []string) error {
	b := &builder{}
	b.text("DELETE FROM ")
	b.ident(row.Table)
	b.text(" WHERE time = " + strconv.FormatInt(nanoseconds(row.Time), 10))
	for _, tag := range tags {
		b.text(" AND ")
		b.ident(tag)
		b.text(" = ")
		b.literal(row.Tag(tag))
	}
	if b.err != nil {
		return fmt.Errorf("delete row %s: %w", rowName(row), b.err)
	}
	if err := d.server.execute(ctx, d.name, b.String()); err != nil {
		return fmt.Errorf("delete row %s: %w", rowName(row), err)
	}
	return nil
}

// rowKey is what makes two rows one: tags and time.
func rowKey(p Point) string {
	var b strings.Builder
	for _, tag := range p.Tags {
		b.WriteString(tag.Key + "\x00" + tag.Value + "\x00")
	}
	return b.String() + p.Time.UTC().Format(time.RFC3339Nano)
}
