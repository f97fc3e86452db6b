package archive

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followertest"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/pull"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/work"
	"github.com/prometheus/client_golang/prometheus"
)

// first is the day that most tests are about.
var first = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

const (
	edge = "edge-a"
	busy = 30 // minutes of each day that have rows
)

// signer is a leader's key.
type signer struct{ private ed25519.PrivateKey }

func (s signer) SignBook(message []byte) []byte { return ed25519.Sign(s.private, message) }
func (s signer) BookKey() ed25519.PublicKey     { return s.private.Public().(ed25519.PublicKey) }

// ajar is a gate that keeps nobody out.
type ajar struct{}

func (ajar) Alone(ctx context.Context, _ string, do func(context.Context) error) error {
	return do(ctx)
}

// world is a centre with one follower, all stores real.
type world struct {
	*Keeper
	t        testing.TB
	clk      *clock.Manual
	reg      *registry.Registry
	store    *influxsync.Server
	network  http.RoundTripper // to the store
	follower *followertest.Follower
	puller   *pull.Puller
	worker   *work.Worker
	engine   *query.Engine
	metrics  *prometheus.Registry
}

func newWorld(t testing.TB, config Config) *world {
	t.Helper()
	w := &world{t: t, clk: clock.NewManual(first.Add(-time.Hour)), metrics: prometheus.NewRegistry()}
	var err error
	if w.reg, err = registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), w.clk); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.reg.Close() })
	embedded := influxtest.Open(t, t.TempDir())
	w.network = embedded.Transport()
	if w.store, err = embedded.Client(); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Create(t.Context(), schema.MinuteDB, schema.FactsDB, schema.QuarterDB, schema.MetersDB); err != nil {
		t.Fatal(err)
	}
	w.follower, w.puller = followertest.New(t, edge, w.clk), pull.New(w.reg, w.store)
	if config.Dir == "" {
		config.Dir = filepath.Join(t.TempDir(), "archive")
	}
	key := signer{ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	log := slog.New(slog.DiscardHandler)
	if w.Keeper, err = New(config, Source{w.reg, w.store}, key, ajar{}, w.clk, log, w.metrics); err != nil {
		t.Fatal(err)
	}
	minute, quarter := w.store.Database(schema.MinuteDB), w.store.Database(schema.QuarterDB)
	w.worker, err = work.New(work.Config{Archive: w.Keeper}, w.reg, work.Stores{Minute: minute, Quarter: quarter}, meters.NewStore(w.store), w.clk, log, w.metrics)
	if err != nil {
		t.Fatal(err)
	}
	w.engine = query.New(query.Config{}, query.Stores{Minute: NewMinutes(config.Dir, w.reg, minute), Quarter: quarter}, w.reg, w.clk)
	w.apply(
		fleet.NewObject(edge, fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", TokenFile: "/secret"}),
		fleet.NewObject("acme", fleet.Customer{}),
		fleet.NewObject("b1", fleet.Box{IdlePolicy: "equal"}),
		fleet.NewObject("xeon", fleet.Hardware{CPUType: "xeon", IdleWatts: 40, MaxWatts: 120}),
		fleet.NewObject("n1", fleet.Node{Cluster: edge, Node: "n1", Box: "b1", Hardware: "xeon"}),
		fleet.NewObject("standard", fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "0.03"}}}),
	)
	return w
}

func (w *world) apply(objects ...fleet.Object) {
	w.t.Helper()
	if _, err := w.reg.Apply(w.t.Context(), objects, "test"); err != nil {
		w.t.Fatal(err)
	}
}

// meanwhile is the way to the store on which do happens once, before the first question
// to a database.
type meanwhile struct {
	http.RoundTripper
	db string
	do func()
}

func (m *meanwhile) RoundTrip(request *http.Request) (*http.Response, error) {
	if do := m.do; do != nil && request.URL.Query().Get("db") == m.db {
		m.do = nil
		do()
	}
	return m.RoundTripper.RoundTrip(request)
}

// whileWriting lets something happen when the minute rows of the next day that is
// written have been read.
func (w *world) whileWriting(do func()) {
	w.t.Helper()
	var err error
	if w.source.Store, err = influxsync.New(influxsync.Config{URL: "http://embedded", Transport: &meanwhile{w.network, schema.MetersDB, do}}); err != nil {
		w.t.Fatal(err)
	}
}

// settle writes the busy minutes of a day at the follower: pods a and b on a node, of
// cpu and twice as many core-seconds in each minute.
func (w *world) settle(day time.Time, from, to int, cpu int64) {
	w.t.Helper()
	span := schema.Window{From: day.Add(time.Duration(from) * time.Minute), To: day.Add(time.Duration(to) * time.Minute)}
	rows := make(map[string][]influxsync.Point)
	for _, minute := range span.Split(schema.Minute) {
		for i, name := range []string{"a", "b"} {
			tags := map[string]string{schema.Cluster: edge, schema.Node: "n1", schema.Namespace: "shop", schema.Pod: name, schema.PodUID: "uid-" + name,
				schema.WorkloadKind: "Deployment", schema.Workload: "web"}
			values := map[string]int64{schema.CPU: cpu * int64(i+1) * 1e6, schema.Uptime: 60_000, schema.Coverage: 60}
			rows["pod"] = append(rows["pod"], followertest.Row(schema.PodMinute, minute.From, tags, values))
			tags[schema.Container] = "main"
			rows["container"] = append(rows["container"], followertest.Row(schema.ContainerMinute, minute.From, tags, values))
		}
		rows["node"] = append(rows["node"], followertest.Row(schema.NodeMinute, minute.From, map[string]string{schema.Cluster: edge, schema.Node: "n1"},
			map[string]int64{schema.CPU: 3 * cpu * 1e6, schema.CapacityCPU: 600e6, schema.Uptime: 60_000, schema.Coverage: 60}))
	}
	for _, table := range []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute} {
		w.follower.Settle(table, span, rows[table.Name]...)
	}
}

// work pulls, computes and folds.
func (w *world) work() {
	w.t.Helper()
	if _, err := w.puller.Pull(w.t.Context(), edge, w.follower.Store); err != nil {
		w.t.Fatal(err)
	}
	for range 4 {
		if err := w.worker.Run(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := w.reg.FoldLedger(w.t.Context(), w.clk.Now()); err != nil {
		w.t.Fatal(err)
	}
}

// days settles so many days, from the first, and lets them be worked on when the last
// has ended for as long as given.
func (w *world) days(n int, after time.Duration) {
	w.t.Helper()
	w.daysFrom(0, n, after)
}

// daysFrom is days of those from one to before another.
func (w *world) daysFrom(from, to int, after time.Duration) {
	w.t.Helper()
	for i := from; i < to; i++ {
		day := first.AddDate(0, 0, i)
		w.clk.Set(day.Add(busy * time.Minute))
		w.settle(day, 0, busy, int64(10+i))
	}
	w.clk.Set(first.AddDate(0, 0, to).Add(after))
	w.work()
}

// pass makes one pass, which must not fail.
func (w *world) pass() {
	w.t.Helper()
	w.Pass(w.t.Context())
	for cluster, problem := range w.failed {
		w.t.Fatalf("archive of %s: %s", cluster, problem)
	}
}

func (w *world) archived(cluster string, day time.Time) registry.ArchivedDay {
	w.t.Helper()
	d, found, err := w.known(w.t.Context(), cluster, day)
	if err != nil || !found {
		w.t.Fatalf("%s on %s is not archived: %v", cluster, day.Format(time.DateOnly), err)
	}
	return d
}

// inStore is how many rows of a table the store has of a day, and their digest.
func (w *world) inStore(table schema.Table, cluster string, day time.Time) tally {
	w.t.Helper()
	var seen tally
	err := w.store.Database(table.DB).TimeQuery(w.t.Context(), table.Name, schema.Window{From: day, To: day.Add(dayLength)},
		[]influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}, func(p influxsync.Point) error {
			seen.add(p)
			return nil
		})
	if err != nil {
		w.t.Fatal(err)
	}
	return seen
}

// files are the names and bytes of a day's files.
func (w *world) files(cluster string, day time.Time) map[string]string {
	w.t.Helper()
	dir, err := dayDir(w.config.Dir, cluster, day)
	if err != nil {
		w.t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	found := make(map[string]string)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			w.t.Fatal(err)
		}
		found[e.Name()] = string(text)
	}
	return found
}

// usage is the answer to a question, as text.
func (w *world) usage(request query.Request) string {
	w.t.Helper()
	answer, err := w.engine.Usage(w.t.Context(), request)
	if err != nil {
		w.t.Fatal(err)
	}
	text := ""
	for _, row := range answer.Rows {
		line, err := json.Marshal(row)
		if err != nil {
			w.t.Fatal(err)
		}
		text += string(line) + "\n"
	}
	return text
}

// other is a key that is not the leader's.
var other = ed25519.NewKeyFromSeed([]byte("another key of thirty-two bytes!"))
