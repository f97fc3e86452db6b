package facts

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/follower/watch"
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
	touched []schema.Window               // windows that it named since the runs were last right
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
	for _, o := range w.known { // pods of a Job that runs on
		if !o.end.IsZero() && o.end.Before(from) {
			from = o.end
		}
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
	if err := w.newEntries(ctx); err != nil {
		return err
	}
	w.runs.mark, w.runs.touched = mark, nil
	return nil
}

// newEntries reads the pod table's journal after the mark and moves the mark.
func (w *Writer) newEntries(ctx context.Context) error {
	for {
		entries, err := influxsync.ReadJournal(ctx, w.stores.Minute, w.config.Cluster, schema.PodMinute.Name, w.runs.mark, journalPage)
		if err != nil {
			return fmt.Errorf("read journal of table %s: %w", schema.PodMinute.Name, err)
		}
		for _, e := range entries {
			w.runs.settled[e.Window.From.UTC()] = true
			w.runs.touched = append(w.runs.touched, e.Window)
			w.runs.mark = e.Time
		}
		if len(entries) < journalPage {
			return nil
		}
	}
}

// settleRuns writes the runs of ended pods whose last window has settled, and
// of Jobs whose pods all have theirs; it writes those again that a revision of
// their windows changed.
func (w *Writer) settleRuns(ctx context.Context) error {
	if err := w.newEntries(ctx); err != nil {
		return err
	}
	b := batch{done: maps.Clone(w.runs.done)}
	for id, o := range w.known {
		if o.kind != watch.KindPod || o.end.IsZero() || !w.runs.settled[schema.WindowAt(o.end, schema.Minute).From] {
			continue
		}
		if old, done := b.done[id]; done && old.Time.Equal(o.end) && !touches(w.runs.touched, o) {
			continue
		}
		row, err := w.run(ctx, o)
		if err != nil {
			return err
		}
		b.put(id, row)
	}
	w.settleJobs(&b)
	w.runs.expire(w.clock.Now().Add(-w.config.Keep))
	if len(b.rows) == 0 {
		w.runs.touched = nil
		return nil
	}
	return w.runs.ledger.write(ctx, b.rows, b.replaced, "ended", func() {
		w.rows.WithLabelValues(schema.Run.Name).Add(float64(len(b.rows)))
		w.runs.done, w.runs.touched = b.done, nil
	})
}

// batch are the runs to write.
type batch struct {
	done           map[identity]influxsync.Point // with the batch applied
	rows, replaced []influxsync.Point
}

// put adds a run, unless it stands there as it is. A key is written once: a
// corrected owner does not re-tag; a corrected end leaves the old row as zeros.
func (b *batch) put(id identity, row influxsync.Point) {
	old, done := b.done[id]
	if done {
		row.Tags = old.Tags
		if old.Hash() == row.Hash() {
			return
		}
		b.replaced = append(b.replaced, old)
		if !old.Time.Equal(row.Time) {
			b.rows = append(b.rows, zero(old))
		}
	}
	b.rows = append(b.rows, row)
	b.done[id] = row
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

// run is the row of an ended object.
func (o object) run(cluster, node, workloadKind, workload, quality, reason string, exitCode int64, sums map[string]int64) influxsync.Point {
	fields := map[string]influxsync.Value{
		"start": influxsync.Int(nanos(o.started)), "end": influxsync.Int(nanos(o.end)), "exit_code": influxsync.Int(exitCode),
		schema.Quality: influxsync.Str(quality), "reason": influxsync.Str(reason)}
	for _, name := range summed {
		fields[name] = influxsync.Int(sums[name])
	}
	return influxsync.NewPoint(schema.Run.Name, map[string]string{schema.Cluster: cluster, schema.Kind: o.kind,
		schema.Namespace: o.namespace, "name": o.name, "uid": o.uid, schema.Node: node,
		schema.WorkloadKind: workloadKind, schema.Workload: workload}, fields, o.end)
}

// run is the run of an ended pod: the exact integer sums over its minutes, those that
// were deleted included.
func (w *Writer) run(ctx context.Context, o object) (influxsync.Point, error) {
	query := influxsync.Query{Select: append([]string{schema.Coverage}, summed...), Aggregate: "sum",
		From: schema.PodMinute.Name, Window: o.life(), Where: []influxsync.Condition{
			{Tag: schema.Cluster, Value: w.config.Cluster}, {Tag: schema.Namespace, Value: o.namespace},
			{Tag: schema.Pod, Value: o.name}, {Tag: schema.PodUID, Value: o.uid}}}
	sums := make(map[string]int64)
	rows, from, err := w.carried(ctx, o, sums)
	if err != nil {
		return influxsync.Point{}, err
	}
	query.Window.From = from
	err = w.stores.Minute.Query(ctx, query, func(p influxsync.Point) error {
		for _, f := range p.Fields {
			sums[f.Name] += f.Value.Int()
		}
		return nil
	})
	if err != nil {
		return influxsync.Point{}, fmt.Errorf("sum of pod %s/%s: %w", o.namespace, o.name, err)
	}
	query.Select, query.Aggregate = []string{schema.Uptime}, "count"
	err = w.stores.Minute.Query(ctx, query, func(p influxsync.Point) error {
		rows += p.Int(schema.Uptime)
		return nil
	})
	if err != nil {
		return influxsync.Point{}, fmt.Errorf("rows of pod %s/%s: %w", o.namespace, o.name, err)
	}
	quality := schema.Estimated
	if missing := sums[schema.Uptime]/1000 - sums[schema.Coverage]; rows > 0 && missing <= rows {
		quality = schema.Measured
	}
	return o.run(w.config.Cluster, o.pod.Node, o.pod.WorkloadKind, o.pod.Workload, quality, o.pod.EndReason, int64(o.pod.ExitCode), sums), nil
}

// settleJobs puts the runs of the finished Jobs whose pods all have theirs.
func (w *Writer) settleJobs(b *batch) {
	pods := make(map[identity][]influxsync.Point)
	waiting := make(map[identity]bool)
	for id, o := range w.known {
		job, ok := w.jobOf(o)
		if !ok || job.end.IsZero() {
			continue
		}
		row, done := b.done[id]
		if !done {
			waiting[job.identity] = true
		}
		pods[job.identity] = append(pods[job.identity], row)
	}
	for id, o := range w.known {
		if o.kind == watch.KindJob && !o.end.IsZero() && !waiting[id] {
			b.put(id, w.jobRun(o, pods[id]))
		}
	}
}

// jobRun is the run of a finished Job: the sum of its pods' runs.
func (w *Writer) jobRun(job object, pods []influxsync.Point) influxsync.Point {
	sums := make(map[string]int64)
	quality := schema.Estimated
	for i, row := range pods {
		for _, name := range summed {
			sums[name] += row.Int(name)
		}
		value, _ := row.Field(schema.Quality)
		if i == 0 {
			quality = value.Str()
		} else if quality != value.Str() {
			quality = schema.Mixed
		}
	}
	kind, workload := watch.KindJob, job.name
	if top := job.job.Top(); top != nil {
		kind, workload = top.Kind, top.Name
	}
	exitCode := int64(1)
	if job.job.Succeeded {
		exitCode = 0
	}
	return job.run(w.config.Cluster, "", kind, workload, quality, job.job.EndReason, exitCode, sums)
}
