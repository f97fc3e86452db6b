package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// ErrRows are rows of the centre that are not those that the journal names: they are
// not archived, and so not deleted, until they are.
var ErrRows = errors.New("the centre's rows are not those of the journal: `accumulus sync audit --cluster NAME` says how they differ, and --repair copies them again")

// readAtOnce is the part of a day whose series are read together.
const readAtOnce = time.Hour

// journalPage is how many entries of a journal are held at once.
const journalPage = 10_000

// recorded is what a journal says of a window, and what was found of it.
type recorded struct {
	table, store, reason                        string
	to, revision, rows, digest, coverage, entry int64
	loose                                       bool // more or less rows than the journal's are explained
	found                                       tally
	journal                                     tally // of an archived window, whose rows and digest are as archived
	foreign                                     []registry.ForeignRow
}

// dayWriter writes the files of one revision.
type dayWriter struct {
	*content
	dir      string
	revision int64
	tables   []Table
	windows  []influxsync.Point
}

// file writes one table.
func (w *dayWriter) file(name string, table schema.Table, fill func(put func(influxsync.Point) error) error) error {
	one := Table{Name: name, Measurement: table.Name, File: tableName(name, w.revision)}
	err := replaceFile(filepath.Join(w.dir, one.File), func(to io.Writer) error {
		out := newTableWriter(to, table)
		if err := fill(out.write); err != nil {
			return err
		}
		if err := out.close(); err != nil {
			return err
		}
		one.Rows, one.Bytes, one.SHA256, one.Digest = out.Rows, out.count.bytes, out.sum(), digestText(out.Digest)
		return nil
	})
	if err != nil {
		return fmt.Errorf("archive %s of %s on %s: %w", name, w.cluster, w.day.From.Format(time.DateOnly), err)
	}
	w.tables = append(w.tables, one)
	return nil
}

// rows calls put with the rows of a table in the day, an hour's series at a time.
func (w *dayWriter) rows(ctx context.Context, table schema.Table, where []influxsync.Condition, put func(influxsync.Point) error) error {
	for _, part := range w.day.Split(readAtOnce) {
		if err := w.source.Store.Database(table.DB).TimeQuery(ctx, table.Name, part, where, put); err != nil {
			return err
		}
	}
	return nil
}

// journalled writes a table whose windows a journal names, and compares them.
func (w *dayWriter) journalled(ctx context.Context, table schema.Table, windows map[int64]*recorded) error {
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: w.cluster}}
	err := w.file(table.Name, table, func(put func(influxsync.Point) error) error {
		return w.rows(ctx, table, where, func(p influxsync.Point) error {
			held := windows[p.Time.Truncate(schema.Minute).UnixNano()]
			if held == nil {
				return fmt.Errorf("a row at %s is in no window: %w", p.Time.Format(time.RFC3339Nano), ErrRows)
			}
			held.found.add(p)
			return put(p)
		})
	})
	if err != nil {
		return err
	}
	starts := make([]int64, 0, len(windows))
	for from, held := range windows {
		if !held.holds() {
			return fmt.Errorf("archive %s of %s: the window of %s has %d rows with digest %016x, and should have %d with %016x: %w", table.Name, w.cluster,
				time.Unix(0, from).UTC().Format(time.RFC3339), held.found.Rows, uint64(held.found.Digest), held.rows, uint64(held.digest), ErrRows)
		}
		starts = append(starts, from)
	}
	slices.Sort(starts)
	for _, from := range starts {
		w.windows = append(w.windows, windows[from].point(from))
	}
	return nil
}

// holds says whether the rows are those of the journal, where nothing explains others.
func (r *recorded) holds() bool {
	if r.loose || r.found == (tally{r.rows, influxsync.Digest(r.digest)}) {
		return true
	}
	own := tally{r.rows, influxsync.Digest(r.digest)} // the journal may count rows of other clusters
	for _, row := range r.foreign {
		own.Rows, own.Digest = own.Rows-1, own.Digest-influxsync.Digest(row.Hash)
	}
	return r.found == own
}

func (r *recorded) point(from int64) influxsync.Point {
	return influxsync.NewPoint(WindowTable, map[string]string{"table": r.table}, map[string]influxsync.Value{
		"window_to": influxsync.Int(r.to), "revision": influxsync.Int(r.revision), "rows": influxsync.Int(r.found.Rows),
		"digest": influxsync.Int(int64(r.found.Digest)), "journal_rows": influxsync.Int(r.rows), "journal_digest": influxsync.Int(r.digest),
		"coverage": influxsync.Int(r.coverage), "entry_time": influxsync.Int(r.entry), "store": influxsync.Str(r.store),
		"reason": influxsync.Str(r.reason)}, time.Unix(0, from))
}

// journal are the windows of a table in the day: by the ledger where it is pulled.
func (c *content) journal(ctx context.Context, table schema.Table) (map[int64]*recorded, error) {
	if slices.ContainsFunc(schema.Pulled, func(t schema.Table) bool { return t.Name == table.Name && t.DB == table.DB }) {
		return c.ledger(ctx, table)
	}
	return c.own(ctx, table)
}

// ledger are the windows of a pulled table.
func (c *content) ledger(ctx context.Context, table schema.Table) (map[int64]*recorded, error) {
	entries, err := c.source.Registry.Ledger(ctx, c.cluster, table.Name, c.day)
	if err != nil {
		return nil, err
	}
	kept, err := c.source.Registry.Kept(ctx, c.cluster, table.Name, c.day)
	if err != nil {
		return nil, err
	}
	windows := make(map[int64]*recorded, len(entries))
	for _, e := range entries {
		windows[e.Window.From.UnixNano()] = &recorded{table: table.Name, store: e.Store, reason: e.Reason, to: e.Window.To.UnixNano(), revision: e.Revision,
			rows: e.Rows, digest: int64(e.Digest), coverage: e.Coverage, entry: e.Entered.UnixNano(), loose: e.Extra > 0}
	}
	for _, row := range kept.Foreign {
		if held := windows[row.Time.Truncate(schema.Minute).UnixNano()]; held != nil {
			held.foreign = append(held.foreign, row)
		}
	}
	return windows, nil
}

// own are the windows of a table that the leader itself writes, by its journal.
func (c *content) own(ctx context.Context, table schema.Table) (map[int64]*recorded, error) {
	db := c.source.Store.Database(table.DB)
	windows := make(map[int64]*recorded)
	for after := c.day.From; ; { // no entry is older than its window
		entries, err := influxsync.ReadJournal(ctx, db, c.cluster, table.Name, after, journalPage)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if c.day.Contains(e.Window.From) {
				windows[e.Window.From.UnixNano()] = &recorded{table: table.Name, reason: e.Reason, to: e.Window.To.UnixNano(), revision: e.Revision,
					rows: e.Rows, digest: int64(e.Digest), coverage: e.Coverage, entry: e.Time.UnixNano()}
			}
			after = e.Time
		}
		if len(entries) < journalPage {
			return windows, nil
		}
	}
}

// writeDay writes all files of a revision, not its manifest.
func (w *dayWriter) writeDay(ctx context.Context) error {
	for _, table := range minuteTables(w.cluster) {
		windows, err := w.journal(ctx, table)
		if err == nil {
			err = w.journalled(ctx, table, windows)
		}
		if err != nil {
			return err
		}
	}
	if w.cluster != schema.BoxCluster {
		if err := w.writeFacts(ctx); err != nil {
			return err
		}
		if err := w.writeBoxes(ctx); err != nil {
			return err
		}
	}
	return w.file(WindowTable, windowTable, each(w.windows))
}

func each(rows []influxsync.Point) func(put func(influxsync.Point) error) error {
	return func(put func(influxsync.Point) error) error {
		for _, p := range rows {
			if err := put(p); err != nil {
				return err
			}
		}
		return nil
	}
}

// writeFacts writes what came of objects and runs in the day, what held in it, and
// the registry's objects.
func (w *dayWriter) writeFacts(ctx context.Context) error {
	for _, table := range []schema.Table{schema.Object, schema.Run} {
		windows, err := w.ledger(ctx, table)
		if err == nil {
			err = w.journalled(ctx, table, windows)
		}
		if err != nil {
			return err
		}
	}
	err := w.file(HeldTable, heldTable, func(put func(influxsync.Point) error) error {
		return w.source.Registry.ToldObjects(ctx, w.cluster, w.day, func(o registry.ToldObject) error {
			return put(influxsync.NewPoint(HeldTable, map[string]string{schema.Cluster: w.cluster, schema.Kind: o.Kind, schema.Namespace: o.Namespace, "name": o.Name, "uid": o.UID},
				map[string]influxsync.Value{"spec": influxsync.Str(o.Spec), "reason": influxsync.Str(o.Reason), "valid_from": influxsync.Int(o.ValidFrom),
					"valid_to": influxsync.Int(o.ValidTo)}, o.Time))
		})
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(w.objects, func(a, b influxsync.Point) int {
		return strings.Compare(a.Tag(schema.Kind)+"\x00"+a.Tag("name"), b.Tag(schema.Kind)+"\x00"+b.Tag("name"))
	})
	return w.file(RegistryTable, registryTable, each(w.objects))
}

// writeBoxes writes the energy of the boxes that the cluster's nodes stood in, and the
// readings of their meters.
func (w *dayWriter) writeBoxes(ctx context.Context) error {
	for _, one := range []struct {
		name  string
		table schema.Table
		where []influxsync.Condition
	}{
		{BoxTable, schema.BoxMinute, []influxsync.Condition{{Tag: schema.Cluster, Value: schema.BoxCluster}}},
		{BoxEnergyTable, schema.EnergyMinute, []influxsync.Condition{{Tag: schema.Cluster, Value: schema.BoxCluster}}},
		{MeterTable, schema.MeterReading, nil},
	} {
		err := w.file(one.name, one.table, func(put func(influxsync.Point) error) error {
			for _, box := range w.boxes {
				if err := w.rows(ctx, one.table, append(slices.Clone(one.where), influxsync.Condition{Tag: schema.Box, Value: box}), put); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
