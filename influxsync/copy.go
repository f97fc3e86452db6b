package influxsync

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"golang.org/x/sync/errgroup"
)

// copy streams the part's rows into the sink, and compares.
func (s *syncer) copy(ctx context.Context, p part) error {
	hashes, err := s.stream(ctx, p)
	if err != nil {
		return err
	}
	if err := s.compareSource(ctx, p); err != nil {
		return err
	}
	return s.compareSink(ctx, p, hashes)
}

// stream reads and writes side by side, one request ahead, and returns the
// hashes of the rows that it wrote.
func (s *syncer) stream(ctx context.Context, p part) ([]uint64, error) {
	var hashes []uint64
	err := pump(ctx, s.Sink, func(ctx context.Context, write func(Point) error) error {
		return s.Source.TimeQuery(ctx, s.Table.Name, p.window, s.sourceFilter(), func(row Point) error {
			hash := row.Hash()
			p.at(row.Time, func(w *copied) { w.streamed.add(hash) })
			if row.Tag(schema.Cluster) != s.Cluster {
				s.foreign(row)
				return nil
			}
			p.at(row.Time, func(w *copied) { w.accepted.add(hash) })
			hashes = append(hashes, hash)
			s.result.Rows++
			row.Table = s.SinkTable
			return write(row)
		})
	})
	return hashes, err
}

func (s *syncer) sourceFilter() []Condition {
	if s.Shared {
		return s.sinkFilter()
	}
	return nil
}

func (s *syncer) sinkFilter() []Condition { return []Condition{{schema.Cluster, s.Cluster}} }

func (s *syncer) foreign(row Point) {
	s.result.ForeignRows++
	if len(s.result.Foreign) < keptForeign {
		s.result.Foreign = append(s.result.Foreign, row)
	}
}

// pump writes what read hands over, in requests of about 1 MB, while read goes
// on reading. Rows are written in no particular order of shards.
func pump(ctx context.Context, sink *Database, read func(ctx context.Context, write func(Point) error) error) error {
	group, ctx := errgroup.WithContext(ctx)
	requests, free := make(chan []byte), make(chan []byte, 1)
	free <- nil // with the reader's own, two buffers
	group.Go(func() error {
		for lines := range requests {
			if err := sink.post(ctx, lines); err != nil {
				return err
			}
			free <- lines[:0]
		}
		return nil
	})
	group.Go(func() error {
		defer close(requests)
		var lines []byte
		send := func() error {
			select {
			case requests <- lines:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select {
			case lines = <-free:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		err := read(ctx, func(row Point) (err error) {
			if lines, err = appendLine(lines, row); err != nil || len(lines) < batchBytes {
				return err
			}
			return send()
		})
		if err != nil || len(lines) == 0 {
			return err
		}
		return send()
	})
	return group.Wait()
}

// compareSource compares the streamed rows with the newest entry of each
// window. The digest of an entry may count rows that were quarantined.
func (s *syncer) compareSource(ctx context.Context, p part) error {
	stale := make(map[span]*copied)
	for _, w := range p.windows {
		if !s.agrees(w.entry, w) {
			stale[spanOf(w.entry.Window)] = w
		}
	}
	if len(stale) == 0 {
		return nil
	}
	// A newer revision may stand behind the limit, or have come in between.
	previous := s.last.Hash
	err := eachEntry(ctx, s.Source, s.Cluster, s.Table.Name, schema.Window{From: following(s.last.Time)}, 0, func(e Entry) error {
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
		if !s.agrees(w.entry, w) {
			return fmt.Errorf("window %s revision %d: journal has %d rows, digest %x; source gave %d rows, digest %x: %w",
				w.entry.Window, w.entry.Revision, w.entry.Rows, uint64(w.entry.Digest),
				w.streamed.rows, uint64(w.streamed.digest), ErrMismatch)
		}
	}
	return nil
}

func (s *syncer) agrees(e Entry, w *copied) bool {
	want := tally{e.Rows, e.Digest}
	return !s.differ(want, w.accepted) || !s.differ(want, w.streamed)
}

// compareSink reads the windows back from the sink.
func (s *syncer) compareSink(ctx context.Context, p part, hashes []uint64) error {
	err := s.readBack(ctx, p, func(row Point, hash uint64) {
		p.at(row.Time, func(w *copied) { w.returned.add(hash) })
	})
	if err != nil {
		return err
	}
	for _, w := range p.windows {
		if s.differ(w.accepted, w.returned) {
			return s.compareRows(ctx, p, hashes)
		}
	}
	return nil
}

func (s *syncer) readBack(ctx context.Context, p part, each func(Point, uint64)) error {
	return s.Sink.TimeQuery(ctx, s.SinkTable, p.window, s.sinkFilter(), func(row Point) error {
		row.Table = s.Table.Name // as the source's row was hashed
		each(row, row.Hash())
		return nil
	})
}

// compareRows looks for each written row in the sink. Rows beyond them are
// from an earlier era, or a mismatch.
func (s *syncer) compareRows(ctx context.Context, p part, hashes []uint64) error {
	missing := make(map[uint64]struct{}, len(hashes))
	for _, hash := range hashes {
		missing[hash] = struct{}{}
	}
	extra := 0
	err := s.readBack(ctx, p, func(_ Point, hash uint64) {
		if _, ok := missing[hash]; !ok {
			extra++
		}
		delete(missing, hash)
	})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("windows %s: sink does not return %d of %d rows: %w", p.window, len(missing), len(hashes), ErrMismatch)
	}
	if extra > 0 {
		known, err := s.overlaps(ctx)
		if err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("windows %s: sink holds %d rows that the source does not: %w", p.window, extra, ErrMismatch)
		}
	}
	s.result.Extra += extra
	return nil
}

// eraTable notes in the sink, by cluster and table, that an earlier era's rows
// may stand there. Its rows are at the time of the mark that was given up.
const eraTable = "era"

func (s *syncer) beginEra(ctx context.Context) error {
	at := s.Mark.Time
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	return s.Sink.Write(ctx, []Point{NewPoint(eraTable,
		map[string]string{schema.Cluster: s.Cluster, tableTag: s.SinkTable},
		map[string]Value{"store": Str(s.Mark.Store), "hash": Str(s.Mark.Hash)}, at)})
}

// overlaps says whether an earlier era's rows may be in the sink: one was
// noted, or the mark is the beginning and the sink is not empty.
func (s *syncer) overlaps(ctx context.Context) (bool, error) {
	if s.Mark == (Mark{}) {
		s.result.NewEra = true
		return true, s.beginEra(ctx)
	}
	known := false
	err := s.Sink.TimeQuery(ctx, eraTable, schema.Window{}, append(s.sinkFilter(), Condition{tableTag, s.SinkTable}),
		func(Point) error {
			known = true
			return nil
		})
	return known, err
}
