package facts

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// carriedTable has what pods that live on used in days whose minutes were deleted: a
// row of each pod and day, at the day's start, in the database of facts. Their runs are
// summed from it and from the minutes that are there.
const carriedTable = "run_carried"

// carriedRows is the field of how many minutes a row is of.
const carriedRows = "minutes"

// Carry keeps, durably, what pods that had not ended by the end of a day used in it,
// before the minutes of the day are deleted. It may be repeated, also after a crash has
// left a part of them.
func (w *Writer) Carry(ctx context.Context, day schema.Window) error {
	tags := []string{schema.Namespace, schema.Pod, schema.PodUID}
	query := influxsync.Query{Select: append([]string{schema.Coverage}, summed...), Aggregate: "sum", From: schema.PodMinute.Name, Window: day,
		Where: []influxsync.Condition{{Tag: schema.Cluster, Value: w.config.Cluster}}, Group: tags}
	rows := make(map[string]*influxsync.Point)
	err := w.stores.Minute.Query(ctx, query, func(p influxsync.Point) error {
		if w.livesAfter(p, day.To) {
			p.Table, p.Time = carriedTable, day.From.UTC()
			rows[p.Tag(schema.PodUID)] = &p
		}
		return nil
	})
	if err == nil && len(rows) > 0 {
		query.Select, query.Aggregate = []string{schema.Uptime}, "count"
		err = w.stores.Minute.Query(ctx, query, func(p influxsync.Point) error {
			if row := rows[p.Tag(schema.PodUID)]; row != nil {
				row.Fields = append(row.Fields, influxsync.FieldValue{Name: carriedRows, Value: influxsync.Int(p.Int(schema.Uptime))})
			}
			return nil
		})
	}
	if err == nil && len(rows) > 0 { // a day of which a part is deleted already is not whole any more
		err = w.stores.Facts.TimeQuery(ctx, carriedTable, day, nil, func(p influxsync.Point) error {
			if row := rows[p.Tag(schema.PodUID)]; row != nil && p.Int(carriedRows) >= row.Int(carriedRows) {
				delete(rows, p.Tag(schema.PodUID))
			}
			return nil
		})
	}
	var points []influxsync.Point
	for _, row := range rows {
		row.Sort()
		points = append(points, *row)
	}
	if err == nil && len(points) > 0 {
		err = w.stores.Facts.Write(ctx, points)
	}
	if err != nil {
		return fmt.Errorf("carry pods of %s: %w", day, err)
	}
	return nil
}

// livesAfter says whether the pod of a row had not ended at a moment.
func (w *Writer) livesAfter(row influxsync.Point, t time.Time) bool {
	for id, o := range w.known {
		if id.uid == row.Tag(schema.PodUID) && id.namespace == row.Tag(schema.Namespace) && id.name == row.Tag(schema.Pod) {
			return o.end.IsZero() || o.end.After(t)
		}
	}
	return false
}

// carried adds to sums what a pod used in days whose minutes were deleted; it returns
// of how many minutes that is, and from when on minutes are to be added.
func (w *Writer) carried(ctx context.Context, o object, sums map[string]int64) (minutes int64, from time.Time, err error) {
	from = o.life().From
	where := []influxsync.Condition{{Tag: schema.Namespace, Value: o.namespace}, {Tag: schema.Pod, Value: o.name}, {Tag: schema.PodUID, Value: o.uid}}
	err = w.stores.Facts.TimeQuery(ctx, carriedTable, schema.Window{}, where, func(p influxsync.Point) error {
		for _, f := range p.Fields {
			if f.Name == carriedRows {
				minutes += f.Value.Int()
			} else {
				sums[f.Name] += f.Value.Int()
			}
		}
		from = schema.Later(from, p.Time.Add(24*time.Hour))
		return nil
	})
	if err != nil {
		return 0, from, fmt.Errorf("days of pod %s/%s before: %w", o.namespace, o.name, err)
	}
	return minutes, from, nil
}
