package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"golang.org/x/sync/errgroup"
)

// loaders is how many tables are put into the source at a time.
const loaders = 2

// load puts the rows and their journals into a database of the source, minute
// by minute as they would come, and returns the journals' entries by table.
func (d dataset) load(ctx context.Context, s *server) (map[string][]influxsync.Entry, error) {
	if err := s.Create(ctx, d.name); err != nil {
		return nil, err
	}
	// The first journal makes the store's id.
	if _, err := influxsync.StoreID(ctx, s.Database(d.name)); err != nil {
		return nil, err
	}
	journals := make([][]influxsync.Entry, len(d.tables))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(loaders)
	for i, t := range d.tables {
		group.Go(func() error {
			if err := t.send(ctx, s, d.name, 0, d.minutes); err != nil {
				return err
			}
			journal, err := influxsync.OpenJournal(ctx, s.Database(d.name), cluster, t.Table, clock.System())
			if err != nil {
				return err
			}
			entries := make([]influxsync.Entry, d.minutes)
			for m := range entries {
				entries[m] = t.entry(m)
			}
			journals[i], err = journal.Append(ctx, entries...)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("load %s: %w", d.name, err)
	}
	byTable := make(map[string][]influxsync.Entry)
	for i, t := range d.tables {
		byTable[t.Name] = journals[i]
	}
	return byTable, nil
}

// send writes the minutes [from, to), one after the other.
func (t *table) send(ctx context.Context, s *server, db string, from, to int) error {
	var lines []byte
	for m := from; m < to; m++ {
		for series := range t.keys {
			if lines = t.appendLine(lines, series, m); len(lines) >= requestBytes {
				if err := post(ctx, s.url, db, lines); err != nil {
					return err
				}
				lines = lines[:0]
			}
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return post(ctx, s.url, db, lines)
}

// lines writes the minutes [from, to) of each table into a file, series by
// series, which is the order of the source's answer and the cheapest for a
// sink, and returns the files by table.
func (d dataset) lines(dir string, from, to int) (map[string]string, error) {
	files := make(map[string]string)
	for _, t := range d.tables {
		path := filepath.Join(dir, fmt.Sprintf("%s-%s-%d-%d.lines", d.name, t.Name, from, to))
		if err := t.file(path, from, to); err != nil {
			return nil, fmt.Errorf("prepare lines of %s: %w", t.Name, err)
		}
		files[t.Name] = path
	}
	return files, nil
}

func (t *table) file(path string, from, to int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	out := bufio.NewWriterSize(file, requestBytes)
	var line []byte
	for series := range t.keys {
		for m := from; m < to; m++ {
			line = t.appendLine(line[:0], series, m)
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return file.Close()
}
