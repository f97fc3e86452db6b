// Package facts keeps what the watch tells: the table object (a row for each
// change of a pod, node or Job) and the table run (a row for each finished pod
// and Job, with its exact totals), both journaled by minute.
//
// Object rows are only appended, at the time they are stored: a row holds from
// its valid_from until the valid_from of the next row of the same uid; valid_to
// is set in the row that says that the object ended, and 0 before. Its spec is
// the JSON of package watch.
//
// A pod's run is the sum of its minute rows and is written when the window in
// which it ended has settled; it is written again, at the same key, when a
// later revision of one of its windows changes the sums. It is measured if
// readings cover the pod's whole life up to a second in each window, else
// estimated. A Job's run is the sum of its pods' runs, and they are told apart
// by the tag kind: who sums takes one of the two.
//
// A crash between rows and journal entry is repaired by Restore: it compares
// store and journal and appends what is missing.
package facts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says whose facts these are.
type Config struct {
	Cluster string // tag of every row
	// Keep is how long an ended object is still looked at: its run is revised
	// within this time. Default 7 days.
	Keep time.Duration
}

// Stores are the databases: Facts is written, Minute is read for the runs.
type Stores struct {
	Facts, Minute *influxsync.Database
}

// Writer writes both tables. Its methods are for one goroutine; Status is for
// all.
type Writer struct {
	config Config
	stores Stores
	clock  clock.Clock
	log    *slog.Logger

	restored bool
	objects  ledger
	known    map[identity]object // the newest row of each object still looked at
	newest   time.Time           // time of the newest object row
	runs     runs

	mu     sync.Mutex
	status Status

	rows *prometheus.CounterVec
}

// Status is what the writer holds.
type Status struct {
	Objects     int `json:"objects"`     // nodes, pods and Jobs still looked at, ended ones included
	RunsWaiting int `json:"runsWaiting"` // ended pods and Jobs whose last window has not settled
}

// New makes a writer; Restore comes before the first Observe.
func New(config Config, stores Stores, clk clock.Clock, log *slog.Logger, registry prometheus.Registerer) (*Writer, error) {
	if config.Cluster == "" {
		return nil, fmt.Errorf("facts: no cluster")
	}
	if config.Keep == 0 {
		config.Keep = 7 * 24 * time.Hour
	}
	w := &Writer{config: config, stores: stores, clock: clk, log: log,
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_facts_rows_total",
			Help: "Rows written, by table."}, []string{"table"})}
	if err := registry.Register(w.rows); err != nil {
		return nil, fmt.Errorf("register facts metrics: %w", err)
	}
	return w, nil
}

// ErrNotRestored is what Observe answers before Restore succeeded.
var ErrNotRestored = errors.New("facts: not restored")

// LatestObjects is the newest journal entry of a minute of the table object, if it
// has one. It is for all goroutines once Restore has returned.
func (w *Writer) LatestObjects(minute schema.Window) (influxsync.Entry, bool) {
	if w.objects.journal == nil {
		return influxsync.Entry{}, false
	}
	return w.objects.journal.Latest(minute)
}

// Restore reads the state back from the store and repairs the journal. After
// an error it is called again; once it succeeded it is not.
func (w *Writer) Restore(ctx context.Context) error {
	for table, l := range map[*schema.Table]*ledger{&schema.Object: &w.objects, &schema.Run: &w.runs.ledger} {
		if l.journal != nil {
			continue // it knows of entries that were sent and not acknowledged
		}
		journal, err := influxsync.OpenJournal(ctx, w.stores.Facts, w.config.Cluster, *table, w.clock)
		if err != nil {
			return err
		}
		*l = ledger{db: w.stores.Facts, journal: journal, table: *table, cluster: w.config.Cluster}
	}
	if err := w.restoreObjects(ctx); err != nil {
		return err
	}
	if err := w.restoreRuns(ctx); err != nil {
		return err
	}
	w.restored = true
	w.report()
	return nil
}

// restoreObjects repairs the journal from its newest window on, object rows
// being in the order of time, and takes the newest row of each object.
func (w *Writer) restoreObjects(ctx context.Context) error {
	from := time.Time{}
	if head, ok := w.objects.journal.Head(); ok {
		from = head.Window.From
	}
	w.newest = time.Time{}
	err := w.objects.reconcile(ctx, from, func(row influxsync.Point) error {
		if row.Time.After(w.newest) {
			w.newest = row.Time
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.known = make(map[identity]object)
	for _, kind := range []string{watch.KindNode, watch.KindJob, watch.KindPod, watch.KindClaim, watch.KindNamespace} { // Jobs say which pods are kept
		newest := influxsync.Query{From: schema.Object.Name, Group: []string{"*"}, Descending: true, Limit: 1,
			Where: []influxsync.Condition{{Tag: schema.Cluster, Value: w.config.Cluster}, {Tag: schema.Kind, Value: kind}}}
		err := w.stores.Facts.Query(ctx, newest, func(row influxsync.Point) error {
			o, err := parseRow(row)
			if err == nil && !w.past(o) {
				w.known[o.identity] = o
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("read table %s: %w", schema.Object.Name, err)
		}
	}
	return nil
}

// Load is the newest change of each object that has not ended longer than Keep
// ago: what the watch's log is rebuilt from at start. Restore comes before it.
func (w *Writer) Load() []watch.Change {
	changes := make([]watch.Change, 0, len(w.known))
	for _, o := range w.known {
		changes = append(changes, o.change())
	}
	slices.SortFunc(changes, func(a, b watch.Change) int {
		return cmp.Or(a.ValidFrom.Compare(b.ValidFrom), strings.Compare(a.Kind+a.UID, b.Kind+b.UID))
	})
	return changes
}

// Observe stores the changes, in their order, and the runs of what ended and
// whose last window has settled. After an error the caller gives the same
// changes again; none is written twice.
func (w *Writer) Observe(ctx context.Context, changes []watch.Change) error {
	if !w.restored {
		return ErrNotRestored
	}
	defer w.report()
	for _, l := range []*ledger{&w.objects, &w.runs.ledger} {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	if err := w.observe(ctx, changes); err != nil {
		return err
	}
	if err := w.settleRuns(ctx); err != nil {
		return err
	}
	w.forget()
	return nil
}

func (w *Writer) observe(ctx context.Context, changes []watch.Change) error {
	// Row times only grow, so that all rows without an entry lie behind the
	// journal's newest window, also when the clock was set back.
	at := w.clock.Now()
	if !at.After(w.newest) {
		at = w.newest.Add(1)
	}
	var rows []influxsync.Point
	fresh := make(map[identity]object)
	for _, c := range changes {
		o, err := parse(c)
		if err != nil {
			return err
		}
		if old, had := w.known[o.identity]; had && !o.from.After(old.from) {
			continue // an earlier attempt stored it
		}
		rows = append(rows, o.row(w.config.Cluster, at))
		fresh[o.identity] = o
		at = at.Add(1)
	}
	if len(rows) == 0 {
		return nil
	}
	return w.objects.write(ctx, rows, nil, "changed", func() {
		w.newest = at
		w.rows.WithLabelValues(schema.Object.Name).Add(float64(len(rows)))
		maps.Copy(w.known, fresh)
	})
}

// forgotten says whether an end lies longer than Keep ago.
func (w *Writer) forgotten(end time.Time) bool {
	return !end.IsZero() && !end.After(w.clock.Now().Add(-w.config.Keep))
}

// past says whether an object is not looked at any more. The pods of a Job
// that runs on are part of its total.
func (w *Writer) past(o object) bool {
	if !w.forgotten(o.end) {
		return false
	}
	job, ok := w.jobOf(o)
	return !ok || w.forgotten(job.end)
}

// jobOf is the Job that a pod belongs to.
func (w *Writer) jobOf(pod object) (object, bool) {
	for _, owner := range pod.pod.Owners {
		if owner.Kind == watch.KindJob {
			job, ok := w.known[identity{watch.KindJob, pod.namespace, owner.Name, owner.UID}]
			return job, ok
		}
	}
	return object{}, false
}

// forget drops what ended longer than Keep ago.
func (w *Writer) forget() {
	maps.DeleteFunc(w.known, func(_ identity, o object) bool { return w.past(o) })
	maps.DeleteFunc(w.runs.done, func(id identity, _ influxsync.Point) bool {
		_, looked := w.known[id]
		return !looked
	})
}

// Status is safe to call from any goroutine.
func (w *Writer) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

func (w *Writer) report() {
	status := Status{Objects: len(w.known)}
	for id, o := range w.known {
		if _, done := w.runs.done[id]; (o.kind == watch.KindPod || o.kind == watch.KindJob) && !o.end.IsZero() && !done {
			status.RunsWaiting++
		}
	}
	w.mu.Lock()
	w.status = status
	w.mu.Unlock()
}
