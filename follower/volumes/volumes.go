// Package volumes settles the table volume: for each minute and each claim of a
// persistent volume that was bound in it, how large the claim was, how much of
// it was used, and for how long pods mounted it.
//
// A minute is a function of the watch log and of the readings of kubelets, which
// are kept in raw. It settles when the pods' minute has, and not before three
// minutes after its end: a kubelet measures a volume once a minute, so the
// reading after the minute has come by then. Use is integrated only between
// readings at most three minutes apart; coverage says how much of the minute
// that was. A volume that nobody mounts is measured by nobody: its use is 0 with
// coverage 0, and its size counts.
//
// A claim on several nodes is measured on each; the readings are of one volume
// and are taken together. What becomes known later (a claim or a pod that was there
// while nobody watched, an end, a reading that was under way) revises the minutes
// that it touches: they are built anew, and get a journal entry where that changes
// them. Rows that they no longer have become zeros.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

const (
	// apart is how far two readings of a volume may be apart for its use to be
	// known between them.
	apart = 3 * time.Minute
	// reach is how far back minutes settle after the follower was away.
	reach = 48 * time.Hour
	// batch is how many minutes are written at once.
	batch = 30
)

// Reasons of a journal entry.
const (
	reasonSettled = "settled"
	reasonLate    = "late" // something became known of a settled minute
)

// Watch knows the claims and the pods that mount them.
type Watch interface {
	Claims() []watch.ClaimInfo
	Pods() []reading.PodInfo
}

// Stores are the databases: Raw keeps the readings, Minute the rows.
type Stores struct {
	Raw, Minute *influxsync.Database
}

// Writer settles the table. Its methods are for one goroutine.
type Writer struct {
	cluster string
	stores  Stores
	watch   Watch
	clock   clock.Clock
	log     *slog.Logger
	journal *influxsync.Journal
	next    time.Time // start of the minute to settle next; zero: Settle has not been called
	rows    prometheus.Counter

	known   history                 // what the settled minutes were made of
	resumed bool                    // nothing has settled since Restore
	newest  map[[2]string]time.Time // of the readings, by namespace and claim
	first   time.Time               // start of the oldest minute that can be built anew; zero before the first Settle
	dirty   map[time.Time]bool      // settled minutes that are to be built anew
}

// New makes a writer; Restore comes before the first Settle.
func New(cluster string, stores Stores, w Watch, clk clock.Clock, log *slog.Logger, registry prometheus.Registerer) (*Writer, error) {
	if cluster == "" {
		return nil, errors.New("volumes: no cluster")
	}
	v := &Writer{cluster: cluster, stores: stores, watch: w, clock: clk, log: log,
		rows: prometheus.NewCounter(prometheus.CounterOpts{Name: "accumulus_volumes_rows_total", Help: "Rows of the table volume written."})}
	if err := registry.Register(v.rows); err != nil {
		return nil, fmt.Errorf("register volumes metrics: %w", err)
	}
	return v, nil
}

// Restore opens the journal and goes on after the last minute in it.
func (v *Writer) Restore(ctx context.Context) error {
	journal, err := influxsync.OpenJournal(ctx, v.stores.Minute, v.cluster, schema.VolumeMinute, v.clock)
	if err != nil {
		return err
	}
	v.journal, v.next = journal, time.Time{}
	v.known, v.resumed, v.first = v.look(), true, time.Time{}
	v.newest, v.dirty = make(map[[2]string]time.Time), make(map[time.Time]bool)
	if head, ok := journal.Head(); ok {
		v.next = head.Window.To
	}
	return nil
}

// Journal is that of the table; nil before Restore.
func (v *Writer) Journal() *influxsync.Journal { return v.journal }

// Latest is the newest journal entry of a minute, if it has one.
func (v *Writer) Latest(minute schema.Window) (influxsync.Entry, bool) {
	if v.journal == nil {
		return influxsync.Entry{}, false
	}
	return v.journal.Latest(minute)
}

// Add keeps the bodies' readings of volumes.
func (v *Writer) Add(ctx context.Context, bodies []reading.Body) error {
	var rows []influxsync.Point
	for _, body := range bodies {
		for _, r := range body.Volumes {
			rows = append(rows, influxsync.NewPoint(schema.VolumeReading.Name,
				map[string]string{schema.Node: body.Node, schema.Namespace: r.Namespace, schema.Claim: r.Claim},
				map[string]influxsync.Value{schema.VolumeUsed: influxsync.Int(r.UsedBytes), schema.VolumeCapacity: influxsync.Int(r.Capacity),
					schema.ReadingReceived: influxsync.Int(body.Received.UnixNano())}, r.Time))
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := v.stores.Raw.Write(ctx, rows); err != nil {
		return fmt.Errorf("write %d readings of volumes: %w", len(rows), err)
	}
	for _, body := range bodies {
		for _, r := range body.Volumes {
			v.read([2]string{r.Namespace, r.Claim}, r.Time)
		}
	}
	return nil
}

// Settle revises the minutes of which something became known, and writes those of
// [from, mark) that are due and not yet written: from is where the pods' minutes
// begin, mark where they end. It returns how many have got a journal entry; a
// minute without a claim gets none. After an error the same minutes are due again.
func (v *Writer) Settle(ctx context.Context, from, mark time.Time) (int, error) {
	if v.journal == nil {
		return 0, errors.New("volumes: not restored")
	}
	if from.IsZero() || mark.IsZero() {
		return 0, nil
	}
	until := v.clock.Now().Add(-apart).Truncate(schema.Minute)
	if mark.Before(until) {
		until = mark
	}
	for _, first := range []time.Time{from, until.Add(-reach)} {
		if v.next.Before(first) {
			v.next = first.Truncate(schema.Minute)
		}
	}
	v.compare(from)
	total, err := v.revise(ctx)
	if err != nil {
		return total, err
	}
	for v.next.Before(until) {
		w := schema.Window{From: v.next, To: v.next.Add(batch * schema.Minute)}
		if w.To.After(until) {
			w.To = until
		}
		n, err := v.settle(ctx, w, reasonSettled)
		if total += n; err != nil {
			return total, err
		}
		v.next = w.To
	}
	return total, nil
}

// settle writes the minutes of w.
func (v *Writer) settle(ctx context.Context, w schema.Window, reason string) (int, error) {
	claims := v.watch.Claims()
	known := make(map[string]bool, len(claims))
	for _, c := range claims {
		known[c.UID] = true
	}
	claims = slices.DeleteFunc(claims, func(c watch.ClaimInfo) bool { return alive(c, w) == 0 })
	if len(claims) == 0 && reason == reasonSettled {
		return 0, nil
	}
	samples, err := v.samples(ctx, w)
	if err != nil {
		return 0, err
	}
	mounts := v.mounts(w)
	var rows []influxsync.Point
	for _, minute := range w.Split(schema.Minute) {
		for _, c := range claims {
			if alive(c, minute) > 0 {
				key := [2]string{c.Namespace, c.Name}
				rows = append(rows, v.row(c, minute, samples[key], mounts[key]))
			}
		}
	}
	if reason == reasonSettled {
		known = nil
	}
	return v.store(ctx, w, rows, known, reason)
}
