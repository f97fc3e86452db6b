package registry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// node is a node of a world: when it was there, when it was silent, whether it
// ran containers, and whether its pods have rows while it is silent.
type node struct {
	name         string
	lives        []schema.Window // each another machine of the name
	silent       []schema.Window
	noContainers bool
	hollow       bool
}

// ledgerWorld is a cluster of which a random part arrives.
type ledgerWorld struct {
	random *rand.Rand
	window schema.Window
	nodes  []node
	lost   map[string][]schema.Window // by table: windows that did not come
}

func within(t time.Time, windows []schema.Window) bool {
	return slices.ContainsFunc(windows, func(w schema.Window) bool { return w.Contains(t) })
}

func newLedgerWorld(seed uint64, length time.Duration) *ledgerWorld {
	w := &ledgerWorld{random: rand.New(rand.NewPCG(seed, 1)), window: schema.Window{From: noon, To: noon.Add(length)}, lost: make(map[string][]schema.Window)}
	for i := range 1 + w.random.IntN(5) {
		n := node{name: fmt.Sprintf("n%d", i), noContainers: w.random.IntN(4) == 0, hollow: w.random.IntN(2) == 0}
		at := noon.Add(-time.Hour)
		for range 1 + w.random.IntN(2) {
			if w.random.IntN(3) > 0 || len(n.lives) > 0 { // else it was there from the beginning
				at = at.Add(w.stretch())
			}
			life := schema.Window{From: at, To: w.window.To.AddDate(1, 0, 0)}
			if w.random.IntN(3) == 0 {
				life.To = at.Add(w.stretch())
			}
			n.lives = append(n.lives, life)
			if at = life.To; at.After(w.window.To) {
				break
			}
		}
		n.silent = w.stretches(3)
		w.nodes = append(w.nodes, n)
	}
	for _, table := range minuteTables {
		w.lost[table.Name] = w.stretches(3)
	}
	return w
}

// stretch is a length of time, mostly short.
func (w *ledgerWorld) stretch() time.Duration {
	if w.random.IntN(2) == 0 {
		return time.Duration(1+w.random.IntN(200)) * time.Second
	}
	return time.Duration(w.random.Int64N(int64(w.window.Length())))
}

func (w *ledgerWorld) stretches(most int) []schema.Window {
	var list []schema.Window
	for range w.random.IntN(most + 1) {
		from := noon.Add(time.Duration(w.random.Int64N(int64(w.window.Length())))).Truncate(schema.Minute)
		list = append(list, schema.Window{From: from, To: from.Add(w.stretch()).Truncate(schema.Minute).Add(schema.Minute)})
	}
	return list
}

// there says whether the node existed in a part of the minute.
func (n node) there(minute schema.Window) bool {
	return slices.ContainsFunc(n.lives, func(life schema.Window) bool { return life.Overlap(minute.From, minute.To) > 0 })
}

// objects are the cluster's Node objects, as its watch log has them: one when a
// node joins, and one when it leaves.
func (w *ledgerWorld) objects() []influxsync.Point {
	var points []influxsync.Point
	row := func(name, uid string, from, to, at time.Time) {
		until := int64(0)
		if !to.IsZero() {
			until = to.UnixNano()
		}
		points = append(points, influxsync.NewPoint("object", map[string]string{"cluster": "alpha", "kind": "Node", "name": name, "uid": uid},
			map[string]influxsync.Value{"spec": influxsync.Str("{}"), "reason": influxsync.Str("r"),
				"valid_from": influxsync.Int(from.UnixNano()), "valid_to": influxsync.Int(until)}, at))
	}
	for _, n := range w.nodes {
		for i, life := range n.lives {
			uid := fmt.Sprintf("%s-%d", n.name, i)
			row(n.name, uid, life.From, time.Time{}, life.From)
			if life.To.Before(w.window.To) {
				row(n.name, uid, life.To, life.To, life.To)
			}
		}
	}
	return points
}

// rows says whether a window of the table has rows of the node that count.
func (n node) rows(table string, minute schema.Window) bool {
	silent := within(minute.From, n.silent) && (table == "node" || !n.hollow)
	return n.there(minute) && !silent && (table != "container" || !n.noContainers)
}

// values are the nodes of which a window of the table has rows that count.
func (w *ledgerWorld) values(table string, minute schema.Window) []string {
	values := []string{}
	for _, n := range w.nodes {
		if n.rows(table, minute) {
			values = append(values, n.name)
		}
	}
	return values
}

// confirmed is what a sync says of a window.
func (w *ledgerWorld) confirmed(table string, minute schema.Window, revision int64) influxsync.Confirmed {
	values := w.values(table, minute)
	c := influxsync.Confirmed{Values: values, Entry: influxsync.Entry{Cluster: "alpha", Table: table, Window: minute, Revision: revision,
		Rows: int64(len(values)) * 3, Digest: influxsync.Digest(w.random.Uint64()), Coverage: int64(900 + w.random.IntN(101)),
		Time: minute.To.Add(time.Duration(w.random.Int64N(int64(time.Minute)))), Reason: []string{"settled", "deadline"}[w.random.IntN(2)]}}
	if w.random.IntN(100) == 0 {
		c.Refused = int64(1 + w.random.IntN(3))
	}
	if w.random.IntN(100) == 0 {
		c.Extra = 1
	}
	return c
}

// describe adds the cluster to the fleet, from the world's beginning.
func describe(t testing.TB, r *Registry, objects ...fleet.Object) {
	t.Helper()
	cluster := fleet.NewObject("alpha", fleet.Cluster{URL: "http://127.0.0.1:1"}).Since(noon)
	if _, err := r.Apply(t.Context(), append(objects, cluster), "test"); err != nil {
		t.Fatal(err)
	}
}

// arrive receives what is not lost of a table.
func (w *ledgerWorld) arrive(t testing.TB, r *Registry, table string) {
	t.Helper()
	var windows []influxsync.Confirmed
	for _, minute := range w.window.Split(schema.Minute) {
		if !within(minute.From, w.lost[table]) {
			windows = append(windows, w.confirmed(table, minute, 1))
		}
	}
	take(t, r, table, "s1", windows)
}

func take(t testing.TB, r *Registry, table, store string, windows []influxsync.Confirmed) {
	t.Helper()
	if err := r.Received(t.Context(), "alpha", table, Receipt{Mark: influxsync.Mark{Store: store, Time: noon, Hash: "h"}, Windows: windows}, nil); err != nil {
		t.Fatal(err)
	}
}
