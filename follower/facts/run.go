package facts

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// journalPage is how many journal entries are read at once.
const journalPage = 5000

// runs is the state of the table run.
type runs struct {
	ledger  ledger
	done    map[identity]influxsync.Point // the run written for each ended pod still looked at
	settled map[time.Time]bool            // starts of the pod windows that settled within Keep
	mark    time.Time                     // time of the newest journal entry of the pod table that was seen
}

// restoreRuns repairs the journal and reads back which runs are written. A run
// stands at its pod's end, which is at most Keep before it was written.
func (w *Writer) restoreRuns(ctx context.Context) error {
	now := w.clock.Now()
	from := now.Add(-w.config.Keep)
	w.runs.mark = from
	if head, ok := w.runs.ledger.journal.Head(); ok {
		// Entries of minutes after the last run may revise it.
		if head.Time.After(from) {
			w.runs.mark = head.Time
		}
		if lost := head.Time.Add(-w.config.Keep); lost.Before(from) {
			from = lost
		}
	} else {
		from = time.Time{}
	}
	w.runs.done = make(map[identity]influxsync.Point)
	err := w.runs.ledger.reconcile(ctx, from, func(row influxsync.Point) error {
		id := identity{row.Tag(schema.Kind), row.Tag(schema.Namespace), row.Tag("name"), row.Tag("uid")}
		reason, _ := row.Field("reason")
		if _, looked := w.known[id]; looked && reason.Str() != Superseded {
			w.runs.done[id] = row
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.restoreSettled(ctx, now.Add(-w.config.Keep))
}

// restoreSettled reads the pod table's journal of the last Keep, so that it is
// known which windows have settled. The mark stays where it is.
func (w *Writer) restoreSettled(ctx context.Context, after time.Time) error {
	w.runs.settled = make(map[time.Time]bool)
	mark := w.runs.mark
	w.runs.mark = after
	if _, err := w.newEntries(ctx); err != nil {
		return err
	}
	w.runs.mark = mark
	return nil
}

// newEntries reads the pod table's journal after the mark, moves the mark and
// returns the span of the windows that it named.
func (w *Writer) newEntries(ctx context.Context) (windows []schema.Window, err error) {
	for {
		entries, err := influxsync.ReadJournal(ctx, w.stores.Minute, w.config.Cluster, schema.PodMinute.Name, w.runs.mark, journalPage)
		if err != nil {
			return nil, fmt.Errorf("read journal of table %s: %w", schema.PodMinute.Name, err)
		}
		for _, e := range entries {
			w.runs.settled[e.Window.From.UTC()] = true
			windows = append(windows, e.Window)
			w.runs.mark = e.Time
		}
		if len(entries) < journalPage {
			return windows, nil
		}
	}
}

// settleRuns writes the runs of ended pods whose last window has settled, and
// writes those again whose windows were revised since.
func (w *Writer) settleRuns(ctx context.Context) error {
	windows, err := w.newEntries(ctx)
	if err != nil {
		return err
	}
	var rows, replaced []influxsync.Point
	written := make(map[identity]influxsync.Point)
	for id, o := range w.known {
		if o.kind != KindPod || o.end.IsZero() || !w.runs.settled[schema.WindowAt(o.end, schema.Minute).From] {
			continue
		}
		old, done := w.runs.done[id]
		if done && old.Time.Equal(o.end) && !touches(windows, o) {
			continue
		}
		if done { // a key is written once: a corrected owner does not re-tag
			o.pod.Node, o.pod.WorkloadKind, o.pod.Workload = old.Tag(schema.Node), old.Tag(schema.WorkloadKind), old.Tag(schema.Workload)
		}
		row, err := w.run(ctx, o)
		if err != nil {
			return err
		}
		if done && old.Hash() == row.Hash() {
			continue
		}
		if done {
			replaced = append(replaced, old)
		}
		if done && !old.Time.Equal(row.Time) { // the end was corrected: a row leaves its window as zeros
			rows = append(rows, zero(old))
		}
		rows = append(rows, row)
		written[id] = row
	}
	w.runs.expire(w.clock.Now().Add(-w.config.Keep))
	if len(rows) == 0 {
		return nil
	}
	if err := w.runs.ledger.write(ctx, rows, replaced, Ended); err != nil {
		return err
	}
	w.rows.WithLabelValues(schema.Run.Name).Add(float64(len(rows)))
	for id, row := range written {
		w.runs.done[id] = row
	}
	return nil
}

// Superseded is the reason of a run whose end was corrected: its quantities
// are zero, the run stands at its right end.
const Superseded = "superseded"

// zero is the row with its quantities taken out.
func zero(row influxsync.Point) influxsync.Point {
	row.Fields = slices.Clone(row.Fields)
	for i, f := range row.Fields {
		switch {
		case f.Name == "reason":
			row.Fields[i].Value = influxsync.Str(Superseded)
		case slices.Contains(summed, f.Name):
			row.Fields[i].Value = influxsync.Int(0)
		}
	}
	return row
}

func (r *runs) expire(horizon time.Time) {
	for from := range r.settled {
		if from.Before(horizon) {
			delete(r.settled, from)
		}
	}
}

// life are the windows in which the pod can have rows.
func (o object) life() schema.Window {
	w := schema.Window{To: schema.WindowAt(o.end, schema.Minute).To}
	if !o.begin.IsZero() {
		w.From = schema.WindowAt(o.begin, schema.Minute).From
	}
	return w
}

func touches(windows []schema.Window, o object) bool {
	life := o.life()
	for _, w := range windows {
		if w.From.Before(life.To) && (life.From.IsZero() || w.To.After(life.From)) {
			return true
		}
	}
	return false
}

// summed are the quantities of a run.
var summed = []string{schema.CPU, schema.Memory, schema.NetworkReceive, schema.NetworkTransmit,
	schema.CPURequest, schema.CPULimit, schema.MemoryRequest, schema.MemoryLimit, schema.Uptime}

// run is the row of an ended pod: the exact integer sums over its minutes.
func (w *Writer) run(ctx context.Context, o object) (influxsync.Point, error) {
	fields := map[string]influxsync.Value{
		"start": influxsync.Int(nanos(o.begin)), "end": influxsync.Int(nanos(o.end)),
		"exit_code": influxsync.Int(int64(o.pod.ExitCode)), "reason": influxsync.Str(o.pod.EndReason)}
	for _, name := range summed {
		fields[name] = influxsync.Int(0)
	}
	query := influxsync.Query{Select: append([]string{schema.Coverage}, summed...), Aggregate: "sum",
		From: schema.PodMinute.Name, Window: o.life(), Where: []influxsync.Condition{
			{Tag: schema.Cluster, Value: w.config.Cluster}, {Tag: schema.Namespace, Value: o.namespace},
			{Tag: schema.Pod, Value: o.name}, {Tag: schema.PodUID, Value: o.uid}}}
	covered := int64(0)
	err := w.stores.Minute.Query(ctx, query, func(p influxsync.Point) error {
		for _, f := range p.Fields {
			if f.Name == schema.Coverage {
				covered = f.Value.Int()
				continue
			}
			fields[f.Name] = f.Value
		}
		return nil
	})
	if err != nil {
		return influxsync.Point{}, fmt.Errorf("sum of pod %s/%s: %w", o.namespace, o.name, err)
	}
	rows := int64(0)
	query.Select, query.Aggregate = []string{schema.Uptime}, "count"
	if err := w.stores.Minute.Query(ctx, query, func(p influxsync.Point) error { rows = p.Int(schema.Uptime); return nil }); err != nil {
		return influxsync.Point{}, fmt.Errorf("rows of pod %s/%s: %w", o.namespace, o.name, err)
	}
	quality := schema.Estimated
	if alive := fields[schema.Uptime].Int() / 1000; rows > 0 && alive-covered <= rows {
		quality = schema.Measured
	}
	fields[schema.Quality] = influxsync.Str(quality)
	return influxsync.NewPoint(schema.Run.Name, map[string]string{schema.Cluster: w.config.Cluster, schema.Kind: o.kind,
		schema.Namespace: o.namespace, "name": o.name, "uid": o.uid, schema.Node: o.pod.Node,
		schema.WorkloadKind: o.pod.WorkloadKind, schema.Workload: o.pod.Workload}, fields, o.end), nil
}
