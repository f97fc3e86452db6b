package influxsync

import (
	"context"
	"fmt"
	"maps"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// SyncFull copies the window of every table, for databases without a journal.
// After each UTC day of each table it reads the day back from the sink and
// compares the number of values and the sum of the integers of every field
// (ErrMismatch); a sink that holds other rows in that window does not agree.
// Calling it again overwrites the same rows.
func SyncFull(ctx context.Context, source, sink *Database, w schema.Window) error {
	if w.From.IsZero() || w.To.IsZero() {
		return fmt.Errorf("sync database %s: window %s is open", source.name, w)
	}
	tables, err := source.GetTables(ctx)
	if err != nil {
		return fmt.Errorf("sync database %s: %w", source.name, err)
	}
	for _, table := range tables {
		for _, day := range w.Split(shard) {
			if err := copyFull(ctx, source, sink, table, day); err != nil {
				return fmt.Errorf("sync table %s of %s: %w", table, day, err)
			}
		}
	}
	return nil
}

// columnSum is what is compared of a field; the sum wraps at 2^64.
type columnSum struct {
	values int64
	sum    uint64
}

type columnSums map[string]columnSum

func (sums columnSums) add(row Point) {
	for _, field := range row.Fields {
		column := sums[field.Name]
		column.values++
		column.sum += uint64(field.Value.Int())
		sums[field.Name] = column
	}
}

func copyFull(ctx context.Context, source, sink *Database, table string, w schema.Window) error {
	want, got := make(columnSums), make(columnSums)
	err := pump(ctx, sink, func(ctx context.Context, write func(Point) error) error {
		return source.TimeQuery(ctx, table, w, nil, func(row Point) error {
			want.add(row)
			return write(row)
		})
	})
	if err != nil || len(want) == 0 {
		return err
	}
	err = sink.TimeQuery(ctx, table, w, nil, func(row Point) error {
		got.add(row)
		return nil
	})
	if err != nil {
		return err
	}
	if !maps.Equal(want, got) {
		return fmt.Errorf("source has %v, sink returns %v (values, sum of integers): %w", want, got, ErrMismatch)
	}
	return nil
}
