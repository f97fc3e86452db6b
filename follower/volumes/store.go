package volumes

import (
	"context"
	"fmt"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// rowKey is a row of the table: its minute in Unix ns, and the tags that tell
// claims apart or may come to be others.
type rowKey struct {
	at                  int64
	uid, storage, class string
}

func keyOf(p influxsync.Point) rowKey {
	return rowKey{p.Time.UnixNano(), p.Tag(schema.ClaimUID), p.Tag(schema.Storage), p.Tag(schema.StorageClass)}
}

// store writes the rows that the store does not have as they are, and then an
// entry for each minute that has any and whose entry says something else. Rows
// that are there and were not made again become zeros where their claim, by its
// UID, is among the known ones; the others are counted as they are.
func (v *Writer) store(ctx context.Context, w schema.Window, rows []influxsync.Point, known map[string]bool, reason string) (int, error) {
	content := make(map[rowKey]influxsync.Point)
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: v.cluster}}
	err := v.stores.Minute.TimeQuery(ctx, schema.VolumeMinute.Name, w, where, func(p influxsync.Point) error {
		p.Table = schema.VolumeMinute.Name
		content[keyOf(p)] = p
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read table %s: %w", schema.VolumeMinute.Name, err)
	}
	rows = append(rows, unmade(content, rows, known)...)
	var write []influxsync.Point
	for _, p := range rows {
		if before, had := content[keyOf(p)]; !had || before.Hash() != p.Hash() {
			write = append(write, p)
		}
		content[keyOf(p)] = p
	}
	if len(write) > 0 {
		if err := v.stores.Minute.Write(ctx, write); err != nil {
			return 0, fmt.Errorf("write table %s: %w", schema.VolumeMinute.Name, err)
		}
		v.rows.Add(float64(len(write)))
	}
	return v.enter(ctx, w, content, reason)
}

// unmade are zeros for the rows of known claims that are stored and were not made.
func unmade(stored map[rowKey]influxsync.Point, made []influxsync.Point, known map[string]bool) []influxsync.Point {
	is := make(map[rowKey]bool, len(made))
	for _, p := range made {
		is[keyOf(p)] = true
	}
	var zeros []influxsync.Point
	for key, p := range stored {
		if is[key] || !known[key.uid] {
			continue
		}
		z := p
		z.Fields = make([]influxsync.FieldValue, len(p.Fields))
		for i, f := range p.Fields {
			z.Fields[i] = influxsync.FieldValue{Name: f.Name, Value: influxsync.Int(0)}
		}
		zeros = append(zeros, z)
	}
	return zeros
}

// enter appends the entries of the minutes of w.
func (v *Writer) enter(ctx context.Context, w schema.Window, content map[rowKey]influxsync.Point, reason string) (int, error) {
	sums := make(map[int64]influxsync.Entry)
	for key, p := range content {
		sum := sums[key.at]
		sum.Rows++
		sum.Digest.Add(p)
		sums[key.at] = sum
	}
	var entries []influxsync.Entry
	for _, minute := range w.Split(schema.Minute) {
		sum, any := sums[minute.From.UnixNano()]
		if last, has := v.journal.Latest(minute); !any || has && last.Rows == sum.Rows && last.Digest == sum.Digest {
			continue
		}
		entries = append(entries, influxsync.Entry{Window: minute, Rows: sum.Rows, Digest: sum.Digest, Coverage: 1000, Reason: reason})
	}
	if len(entries) == 0 {
		return 0, nil
	}
	if _, err := v.journal.Append(ctx, entries...); err != nil {
		return 0, fmt.Errorf("journal of table %s: %w", schema.VolumeMinute.Name, err)
	}
	return len(entries), nil
}
