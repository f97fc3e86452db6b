package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/embedded"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// volume is a follower's store as its writer sees it, and its books.
type volume struct {
	plan     *plan
	clock    clock.Clock
	dir      string
	engine   *embedded.Server
	server   *influxsync.Server
	journals []*influxsync.Journal // by table
	stores   map[string]string     // ids by database
	books    []*books              // by table
}

// openEngine opens a store with the databases of both sides.
func openEngine(ctx context.Context, dir string) (*embedded.Server, *influxsync.Server, error) {
	engine, err := embedded.Open(embedded.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	server, err := engine.Client()
	if err == nil {
		err = server.Create(ctx, schema.MinuteDB, schema.FactsDB)
	}
	if err != nil {
		return nil, nil, errors.Join(err, engine.Close())
	}
	return engine, server, nil
}

// newVolume opens the store at dir; without books it is an empty one.
func newVolume(ctx context.Context, p *plan, clk clock.Clock, dir string, known []*books) (*volume, error) {
	v := &volume{plan: p, clock: clk, dir: dir, stores: make(map[string]string), books: known}
	if v.books == nil {
		for range p.tables {
			v.books = append(v.books, newBooks())
		}
	}
	return v, v.open(ctx)
}

func (v *volume) open(ctx context.Context) (err error) {
	if v.engine, v.server, err = openEngine(ctx, v.dir); err != nil {
		return err
	}
	v.journals = nil
	for _, t := range v.plan.tables {
		db := v.server.Database(t.DB)
		if v.stores[t.DB] == "" && len(v.books[0].entries) == 0 {
			if err := v.name(ctx, db); err != nil {
				return errors.Join(err, v.engine.Close())
			}
		}
		journal, err := influxsync.OpenJournal(ctx, db, cluster, t.Table, v.clock)
		if err != nil {
			return errors.Join(err, v.engine.Close())
		}
		v.journals = append(v.journals, journal)
		if v.stores[t.DB], err = influxsync.StoreID(ctx, db); err != nil {
			return errors.Join(err, v.engine.Close())
		}
	}
	return nil
}

// name gives an empty store an id that the seed decides, where it would be random:
// it is in requests, whose text decides what befalls them.
func (v *volume) name(ctx context.Context, db *influxsync.Database) error {
	id := fmt.Sprintf("%s-%d-%s", db.Name(), v.plan.seed, filepath.Base(v.dir))
	row := influxsync.NewPoint(influxsync.StoreTable, nil, map[string]influxsync.Value{"id": influxsync.Str(id)}, time.Unix(0, 0))
	return db.Write(ctx, []influxsync.Point{row})
}

// reopen is a restart of the follower.
func (v *volume) reopen(ctx context.Context) error {
	if err := v.engine.Close(); err != nil {
		return err
	}
	return v.open(ctx)
}

// store is the id of a table's store.
func (v *volume) store(table int) string { return v.stores[v.plan.tables[table].DB] }

// told are the books of a table whose journal has these entries, and the steps
// that it does not tell of: those after its last settlement. With ahead, what is
// written in those counts already.
func (p *plan) told(table int, steps []step, entries []influxsync.Entry, ahead bool) (*books, []step, error) {
	b := newBooks()
	var left []step
	for _, s := range steps {
		switch {
		case s.table != table:
			continue
		case s.kind == write && (ahead || len(entries) > 0):
			b.wrote(p, s.rows)
		case s.kind == settle && len(entries) >= len(s.windows):
			for i, w := range s.windows {
				if want, got := b.entry(p, w), entries[i]; got.Window != want.Window || got.Rows != want.Rows || got.Digest != want.Digest {
					return nil, nil, fmt.Errorf("the journal of %q has %+v, want %+v", p.tables[table].Name, got, want)
				}
			}
			b.journalled(p, entries[:len(s.windows)])
			entries = entries[len(s.windows):]
			continue
		case s.kind == settle && len(entries) > 0:
			return nil, nil, fmt.Errorf("the journal of %q has a part of a settlement", p.tables[table].Name)
		}
		if len(entries) == 0 {
			left = append(left, s)
		}
	}
	return b, left, nil
}

// do is a step of the follower's.
func (v *volume) do(ctx context.Context, s step) error {
	b := v.books[s.table]
	switch s.kind {
	case write:
		if err := v.server.Database(v.plan.tables[s.table].DB).Write(ctx, s.rows); err != nil {
			return err
		}
		b.wrote(v.plan, s.rows)
	case settle:
		entries := make([]influxsync.Entry, len(s.windows))
		for i, w := range s.windows {
			entries[i] = b.entry(v.plan, w)
		}
		stored, err := v.journals[s.table].Append(ctx, entries...)
		if err != nil {
			return err
		}
		b.journalled(v.plan, stored)
	default:
		return fmt.Errorf("no step of a follower: %s", s.kind)
	}
	return nil
}

// cloneBooks is what the model knows, apart.
func cloneBooks(all []*books) []*books {
	clones := make([]*books, len(all))
	for i, b := range all {
		clones[i] = b.clone()
	}
	return clones
}

// copyDir copies a directory. Zeros become holes: the engine's files are mostly
// those.
func copyDir(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o750)
		}
		return copyFile(target, path)
	})
}

func copyFile(to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(source, block)
		if n > 0 && !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := target.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return target.Truncate(at)
		case err != nil:
			return err
		}
	}
}
