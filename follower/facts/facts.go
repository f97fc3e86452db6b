// Package facts keeps what the watch tells: the table object (a row for each
// change of a pod or node) and the table run (a row for each finished pod,
// with its exact totals), both journaled by minute.
//
// Object rows are only appended: a row holds from its valid_from until the
// next row of the same uid; valid_to is set in the row that says that the
// object ended, and 0 before. The first row of a pod holds from the pod's
// start. What is compared is the watch's whole list with the newest row of
// each object, so a change that fell into an outage or a crash is found later.
//
// A run is the sum of the pod's minute rows and is written when the window in
// which the pod ended has settled; it is written again, at the same key, when a
// later revision of one of its windows changes the sums. A run is measured if
// readings cover the pod's whole life up to a second in each window, else
// estimated. A Job's runs carry it in their workload tags; its total is the
// sum of its pods' runs.
//
// A crash between rows and journal entry is repaired by Restore: it compares
// store and journal and appends what is missing.
package facts

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
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
	Objects     int `json:"objects"`     // pods and nodes still looked at, ended ones included
	RunsWaiting int `json:"runsWaiting"` // ended pods whose last window has not settled
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

// Restore reads the state back from the store and repairs the journal. It may
// be called again; Observe does so after an error.
func (w *Writer) Restore(ctx context.Context) error {
	w.restored = false
	for table, l := range map[*schema.Table]*ledger{&schema.Object: &w.objects, &schema.Run: &w.runs.ledger} {
		if l.journal != nil {
			continue // it knows of entries that were sent without an answer
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
	horizon := w.clock.Now().Add(-w.config.Keep)
	newest := influxsync.Query{From: schema.Object.Name, Where: []influxsync.Condition{{Tag: schema.Cluster, Value: w.config.Cluster}},
		Group: []string{"*"}, Descending: true, Limit: 1}
	err = w.stores.Facts.Query(ctx, newest, func(row influxsync.Point) error {
		o, err := parseObject(row)
		if err != nil {
			return err
		}
		if o.end.IsZero() || o.end.After(horizon) {
			w.known[o.identity] = o
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read table %s: %w", schema.Object.Name, err)
	}
	return nil
}

// Load is the newest state of each object that has not ended longer than Keep
// ago, sorted: what the watch's log is rebuilt from at start. Restore comes
// before it.
func (w *Writer) Load() (nodes []reading.NodeInfo, pods []reading.PodInfo) {
	for _, o := range w.known {
		if o.kind == KindNode {
			nodes = append(nodes, o.node)
		} else {
			pods = append(pods, o.pod)
		}
	}
	slices.SortFunc(nodes, func(a, b reading.NodeInfo) int {
		return strings.Compare(a.Name+"\x00"+a.UID, b.Name+"\x00"+b.UID)
	})
	slices.SortFunc(pods, func(a, b reading.PodInfo) int { return strings.Compare(a.UID, b.UID) })
	return nodes, pods
}

// Observe takes the watch's present list, writes what changed since the newest
// rows, and the runs of ended pods whose last window has settled. What is
// missing from the list is left as it is: only the watch says that something
// ended.
func (w *Writer) Observe(ctx context.Context, nodes []reading.NodeInfo, pods []reading.PodInfo) error {
	if !w.restored {
		if err := w.Restore(ctx); err != nil {
			return err
		}
	}
	defer w.report()
	if err := w.observe(ctx, nodes, pods); err != nil {
		w.restored = false // what became durable is read back before the next attempt
		return err
	}
	if err := w.settleRuns(ctx); err != nil {
		w.restored = false
		return err
	}
	w.forget()
	return nil
}

func (w *Writer) observe(ctx context.Context, nodes []reading.NodeInfo, pods []reading.PodInfo) error {
	changed, err := w.changed(nodes, pods)
	if err != nil || len(changed) == 0 {
		return err
	}
	// Row times only grow, so that all rows without an entry lie behind the
	// journal's newest window, also when the clock was set back.
	at := w.clock.Now()
	if !at.After(w.newest) {
		at = w.newest.Add(time.Nanosecond)
	}
	rows := make([]influxsync.Point, 0, len(changed))
	for _, o := range changed {
		_, had := w.known[o.identity]
		rows = append(rows, o.row(w.config.Cluster, reasonOf(o, had), at))
	}
	if err := w.objects.write(ctx, rows, nil, Changed); err != nil {
		return err
	}
	w.newest = at
	w.rows.WithLabelValues(schema.Object.Name).Add(float64(len(rows)))
	for _, o := range changed {
		w.known[o.identity] = o
	}
	return nil
}

func reasonOf(o object, had bool) string {
	switch {
	case !had:
		return Added // an object that ended before it was seen has one row
	case !o.end.IsZero():
		return Ended
	}
	return Changed
}

// changed are the objects whose newest row says something else.
func (w *Writer) changed(nodes []reading.NodeInfo, pods []reading.PodInfo) ([]object, error) {
	horizon := w.clock.Now().Add(-w.config.Keep)
	var list []object
	consider := func(o object, err error) error {
		if err != nil {
			return err
		}
		old, had := w.known[o.identity]
		if had && old.spec == o.spec || !had && !o.end.IsZero() && !o.end.After(horizon) {
			return nil
		}
		list = append(list, o)
		return nil
	}
	for _, n := range nodes {
		if err := consider(nodeObject(n)); err != nil {
			return nil, err
		}
	}
	for _, p := range pods {
		if err := consider(podObject(p)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// forget drops what ended longer than Keep ago.
func (w *Writer) forget() {
	horizon := w.clock.Now().Add(-w.config.Keep)
	for id, o := range w.known {
		if !o.end.IsZero() && !o.end.After(horizon) {
			delete(w.known, id)
			delete(w.runs.done, id)
		}
	}
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
		if _, done := w.runs.done[id]; o.kind == KindPod && !o.end.IsZero() && !done {
			status.RunsWaiting++
		}
	}
	w.mu.Lock()
	w.status = status
	w.mu.Unlock()
}
