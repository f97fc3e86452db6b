package meter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// errCrash is what a store answers when its process is killed in the call,
// errFault when the call fails and the process goes on.
var (
	errCrash = errors.New("killed")
	errFault = errors.New("store unreachable")
)

// disk is both databases and the journals in memory, with the power to die in
// the middle of any call.
type disk struct {
	rng      *rand.Rand
	calls    int
	at       int   // the call in which it fails; 0: never
	how      error // errCrash or errFault
	subset   bool  // what is durable of the failed call: any subset instead of a prefix
	forgets  bool  // control: a killed store loses rows that it had confirmed
	early    bool  // control: minute rows are durable only after the journal
	failedIn string
	raw      *table
	minute   *table
	journal  map[string]*ledger
	held     []influxsync.Point
	recent   [][]func()
	trusting bool // control: the restarted meter rebuilds nothing
	due      bool
}

type table struct {
	disk *disk
	name string
	rows map[string]map[rowID]influxsync.Point
}

type rowID struct {
	key string
	at  int64
}

type ledger struct {
	disk    *disk
	name    string
	entries []influxsync.Entry
	latest  map[int64]int
}

func newDisk(seed uint64) *disk {
	d := &disk{rng: rand.New(rand.NewPCG(seed, 99)), journal: map[string]*ledger{}}
	d.raw = &table{disk: d, name: "raw", rows: map[string]map[rowID]influxsync.Point{}}
	d.minute = &table{disk: d, name: "minute", rows: map[string]map[rowID]influxsync.Point{}}
	for _, t := range tables {
		d.journal[t.Name] = &ledger{disk: d, name: t.Name, latest: map[int64]int{}}
	}
	return d
}

func (d *disk) journals() map[string]Journal {
	all := map[string]Journal{}
	for name, l := range d.journal {
		all[name] = l
	}
	return all
}

// fails says whether this call does, and which of its n parts become durable.
func (d *disk) fails(what string, n int) ([]bool, error) {
	d.calls++
	if d.at == 0 || d.calls != d.at {
		if d.due {
			d.land()
		}
		return nil, nil
	}
	d.failedIn = what
	keep := make([]bool, n)
	prefix := 0
	if n > 0 {
		prefix = d.rng.IntN(n + 1)
	}
	for i := range keep {
		keep[i] = i < prefix
		if d.subset {
			keep[i] = d.rng.IntN(2) == 0
		}
	}
	if d.how == errCrash {
		d.held = nil
		if d.forgets {
			for _, write := range d.recent {
				for _, undo := range write {
					undo()
				}
			}
		}
	}
	return keep, d.how
}

// land makes the held rows durable.
func (d *disk) land() {
	for _, p := range d.held {
		d.minute.put(p)
	}
	d.held, d.due = nil, false
}

func (t *table) put(p influxsync.Point) {
	rows := t.rows[p.Table]
	if rows == nil {
		rows = map[rowID]influxsync.Point{}
		t.rows[p.Table] = rows
	}
	id := rowID{rowKey(p), p.Time.UnixNano()}
	if old, ok := rows[id]; ok { // the engine merges the fields of a key
		fields := map[string]influxsync.Value{}
		for _, f := range append(append([]influxsync.FieldValue{}, old.Fields...), p.Fields...) {
			fields[f.Name] = f.Value
		}
		tags := map[string]string{}
		for _, tag := range p.Tags {
			tags[tag.Key] = tag.Value
		}
		p = influxsync.NewPoint(p.Table, tags, fields, p.Time)
	}
	rows[id] = p
}

func (t *table) Write(_ context.Context, points []influxsync.Point) error {
	d := t.disk
	keep, err := d.fails(t.name, len(points))
	if err != nil {
		for i, ok := range keep {
			if ok {
				t.put(points[i])
			}
		}
		return err
	}
	if d.early && t == d.minute {
		d.held = append(d.held, points...)
		return nil
	}
	d.recent = append(d.recent[max(0, len(d.recent)-2):], nil)
	for _, p := range points {
		if d.forgets && len(points) > 1 && d.rng.IntN(2) == 0 {
			rows, id := t.rows[p.Table], rowID{rowKey(p), p.Time.UnixNano()}
			if _, had := rows[id]; !had {
				d.recent[len(d.recent)-1] = append(d.recent[len(d.recent)-1], func() { delete(t.rows[p.Table], id) })
			}
		}
		t.put(p)
	}
	return nil
}

func (t *table) Rows(_ context.Context, name, node string, w schema.Window, each func(influxsync.Point) error) error {
	if _, err := t.disk.fails("read", 0); err != nil {
		return err
	}
	from, to := w.From.UnixNano(), w.To.UnixNano()
	for id, p := range t.rows[name] {
		if id.at >= from && id.at < to && (node == "" || p.Tag(schema.Node) == node) {
			if err := each(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *table) Last(_ context.Context, name, node string, before time.Time, each func(influxsync.Point) error) error {
	if _, err := t.disk.fails("read", 0); err != nil {
		return err
	}
	last := map[string]influxsync.Point{}
	for id, p := range t.rows[name] {
		if p.Time.Before(before) && (node == "" || p.Tag(schema.Node) == node) {
			if old, ok := last[id.key]; !ok || old.Time.Before(p.Time) {
				last[id.key] = p
			}
		}
	}
	for _, p := range last {
		if err := each(p); err != nil {
			return err
		}
	}
	return nil
}

// Append is atomic, as one request to one shard is.
func (l *ledger) Append(_ context.Context, entries ...influxsync.Entry) ([]influxsync.Entry, error) {
	keep, err := l.disk.fails("journal", 1)
	if err != nil && !keep[0] {
		return nil, err
	}
	for _, e := range entries {
		w := e.Window.From.UnixNano()
		if i, ok := l.latest[w]; ok {
			e.Revision = l.entries[i].Revision
		}
		e.Revision++
		l.latest[w] = len(l.entries)
		l.entries = append(l.entries, e)
	}
	l.disk.due = l.disk.early && l.name == tables[len(tables)-1].Name
	return entries, err
}

func (l *ledger) Latest(w schema.Window) (influxsync.Entry, bool) {
	i, ok := l.latest[w.From.UnixNano()]
	if !ok {
		return influxsync.Entry{}, false
	}
	return l.entries[i], true
}

// world is a watch and a tagger that say what a test puts in.
type world struct {
	nodes []reading.NodeInfo
	pods  []reading.PodInfo
	facts map[string]reading.Facts
}

func (w *world) Nodes() []reading.NodeInfo { return w.nodes }
func (w *world) Pods() []reading.PodInfo   { return w.pods }

func (w *world) FactsAt(node string, _ time.Time) (reading.Facts, bool) {
	f, ok := w.facts[node]
	return f, ok
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

var testConfig = Config{Cluster: "c1", Interval: 15 * time.Second, SettleDeadline: 2 * time.Minute, FactsDeadline: 10 * time.Minute}

// open is a restored meter on a disk.
func open(cfg Config, d *disk, w *world, clk clock.Clock) (*Meter, error) {
	m, err := New(cfg, Deps{Clock: clk, Raw: d.raw, Minute: d.minute, Journals: d.journals(), Watch: w, Tagger: w},
		quiet, prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	err = m.Restore(context.Background())
	if d.trusting {
		clear(m.dirty)
	}
	return m, err
}

func (t *table) sorted(name string) []influxsync.Point {
	ids := make([]rowID, 0, len(t.rows[name]))
	for id := range t.rows[name] {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b rowID) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key)) })
	points := make([]influxsync.Point, len(ids))
	for i, id := range ids {
		points[i] = t.rows[name][id]
	}
	return points
}

// checkJournal: no hole, no window twice at one revision, rows and digest of
// the newest entry are those of the store, no row without an entry.
func (d *disk) checkJournal(cluster string, from, mark time.Time) error {
	for _, t := range tables {
		l := d.journal[t.Name]
		revision := map[int64]int64{}
		for _, e := range l.entries {
			w := e.Window.From.UnixNano()
			if e.Revision != revision[w]+1 {
				return fmt.Errorf("%s %v: revision %d after %d", t.Name, e.Window, e.Revision, revision[w])
			}
			revision[w] = e.Revision
		}
		byWindow := map[int64]tally{}
		for id, p := range d.minute.rows[t.Name] {
			if p.Tag(schema.Cluster) != cluster {
				return fmt.Errorf("%s: a row of cluster %q", t.Name, p.Tag(schema.Cluster))
			}
			c := byWindow[id.at]
			c.rows++
			c.digest.Add(p)
			byWindow[id.at] = c
		}
		for w := from; w.Before(mark); w = w.Add(schema.Minute) {
			e, ok := l.Latest(schema.WindowAt(w, schema.Minute))
			if !ok {
				return fmt.Errorf("%s: window %v is a hole", t.Name, w)
			}
			if got := byWindow[w.UnixNano()]; got.rows != e.Rows || got.digest != e.Digest {
				return fmt.Errorf("%s %v: the journal says %d rows %x, the store holds %d rows %x",
					t.Name, e.Window, e.Rows, uint64(e.Digest), got.rows, uint64(got.digest))
			}
			delete(byWindow, w.UnixNano())
		}
		for w := range byWindow {
			return fmt.Errorf("%s: rows in window %v outside the journal", t.Name, at(w))
		}
	}
	return nil
}

// checkAddsUp: per node and window Σ pods = node, Σ containers = pod.
func (d *disk) checkAddsUp() error {
	fields := []string{schema.CPU, schema.Memory, schema.NetworkReceive, schema.NetworkTransmit, schema.DiskRead, schema.DiskWrite}
	type place struct {
		at               int64
		node, pod, field string
	}
	sums := map[place]int64{}
	for id, p := range d.minute.rows["node"] {
		for _, f := range fields {
			sums[place{id.at, p.Tag(schema.Node), "", f}] += p.Int(f)
		}
	}
	for id, p := range d.minute.rows["pod"] {
		for _, f := range fields {
			sums[place{id.at, p.Tag(schema.Node), "", f}] -= p.Int(f)
			if p.Tag(schema.Namespace)[0] != '_' && f != schema.NetworkReceive && f != schema.NetworkTransmit {
				sums[place{id.at, p.Tag(schema.Node), p.Tag(schema.PodUID), f}] += p.Int(f)
			}
		}
	}
	for id, p := range d.minute.rows["container"] {
		for _, f := range fields {
			sums[place{id.at, p.Tag(schema.Node), p.Tag(schema.PodUID), f}] -= p.Int(f)
		}
	}
	for where, sum := range sums {
		if sum != 0 {
			return fmt.Errorf("%v %s %q: %s is off by %d", at(where.at), where.node, where.pod, where.field, sum)
		}
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// nothing is a store that takes all and holds nothing.
type nothing struct{}

func (nothing) Write(context.Context, []influxsync.Point) error { return nil }

func (nothing) Rows(context.Context, string, string, schema.Window, func(influxsync.Point) error) error {
	return nil
}

func (nothing) Last(context.Context, string, string, time.Time, func(influxsync.Point) error) error {
	return nil
}
