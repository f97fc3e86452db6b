package query

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/work"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// dayStart is the beginning of the days' test, a UTC day.
var dayStart = time.Date(2026, 11, 17, 0, 0, 0, 0, time.UTC)

const dayCount = 4 // the last of them is running

// dayWorld is two centres over one store of quarters: the leader sums the days of
// one, and the other has none, so that it answers from quarters alone.
type dayWorld struct {
	t        *testing.T
	random   *rand.Rand
	clk      *clock.Manual
	server   *influxsync.Server
	books    [2]*registry.Registry
	engines  [2]*Engine
	worker   *work.Worker
	revision int
}

func newDayWorld(t *testing.T, seed uint64) *dayWorld {
	t.Helper()
	ctx := t.Context()
	w := &dayWorld{t: t, random: rand.New(rand.NewPCG(seed, 7)), clk: clock.NewManual(dayStart.Add(-time.Hour)), server: influxtest.New(t)}
	if err := w.server.Create(ctx, schema.MinuteDB, schema.QuarterDB, schema.MetersDB); err != nil {
		t.Fatal(err)
	}
	minute, quarter := w.server.Database(schema.MinuteDB), w.server.Database(schema.QuarterDB)
	for i := range w.books {
		var err error
		if w.books[i], err = registry.Open(ctx, filepath.Join(t.TempDir(), "registry.db"), w.clk); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.books[i].Close() })
		w.engines[i] = New(Config{}, Stores{Minute: minute, Quarter: quarter}, w.books[i], w.clk)
	}
	var err error
	w.worker, err = work.New(work.Config{}, w.books[0], work.Stores{Minute: minute, Quarter: quarter}, meters.NewStore(w.server), w.clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	w.apply(edge()...)
	w.apply(fleet.NewObject("prices-c", fleet.PriceList{Currency: "EUR", Clusters: []string{"edge-a"}, Exclude: []string{"base"}, Rates: []fleet.Rate{
		{Resource: "cpu_max", Price: "0.037"}, {Resource: "volume_claimed", Price: "0.0003"}, {Resource: "node_hours", Price: "0.7"}}}))
	w.changes()
	w.clk.Set(dayStart.Add(dayCount*schema.Day - 20*time.Hour))
	w.receive()
	for at := dayStart; at.Before(w.clk.Now()); at = at.Add(schema.Day) {
		w.fill(schema.Window{From: at, To: schema.Earlier(at.Add(schema.Day), w.clk.Now())})
	}
	return w
}

// both does the same in both centres.
func (w *dayWorld) both(f func(*registry.Registry) error) {
	w.t.Helper()
	for _, books := range w.books {
		if err := f(books); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *dayWorld) apply(objects ...fleet.Object) {
	w.t.Helper()
	w.both(func(books *registry.Registry) error {
		_, err := books.Apply(w.t.Context(), objects, "test")
		return err
	})
}

// changes are facts that change inside days: whose a namespace is, what a cluster
// pays, and what a node is. In the last settled day nothing changes.
func (w *dayWorld) changes() {
	when := func() time.Time {
		return dayStart.Add(time.Duration(w.random.IntN((dayCount-2)*96)) * schema.Quarter)
	}
	w.apply(fleet.NewObject("large", fleet.Hardware{Cores: 8, IdleWatts: 9, MaxWatts: 40, Source: "test"}))
	w.apply(fleet.NewObject("space-1", fleet.Assignment{Cluster: "edge-b", Namespace: "ns-1", Customer: "acme", Project: "moved"}).Since(when()))
	w.apply(fleet.NewObject("edge-a.n1", fleet.Node{Cluster: "edge-a", Node: "n1", Box: "box-1", Hardware: "large"}).Since(when()))
	if w.random.IntN(2) == 0 {
		w.apply(fleet.NewObject("prices-b", fleet.PriceList{Currency: "USD", Clusters: []string{"edge-b"}, Rates: []fleet.Rate{{Resource: "cpu_used", Price: "0.07"}}}).Since(when()))
	}
	switch w.random.IntN(6) {
	case 0:
		w.apply(fleet.NewObject("prices-a", fleet.PriceList{Currency: "EUR", Customers: []string{"acme"},
			TimeOfUse: &fleet.TimeOfUse{Zone: "Asia/Kathmandu", Rules: []fleet.TimeRule{{Slot: "peak", From: "07:00", To: "19:30"}}},
			Rates:     []fleet.Rate{{Resource: "cpu_used", Price: "0.02", Slots: map[string]fleet.Decimal{"peak": "0.05"}}}}).Since(when()))
	case 1:
		w.apply(fleet.NewObject("prices-d", fleet.PriceList{Currency: "EUR", Customers: []string{"bolt"}, Rates: []fleet.Rate{
			{Resource: "cpu_used", Price: "0.02"}, {Resource: "energy", Price: "0.3", Match: &fleet.PriceMatch{Hardware: "large"}}}}).Since(when()))
	}
}

// receive tells that the minutes of both clusters have come up to now.
func (w *dayWorld) receive() {
	w.t.Helper()
	for _, cluster := range []string{"edge-a", "edge-b"} {
		last := influxsync.Confirmed{Entry: influxsync.Entry{Cluster: cluster, Table: schema.PodMinute.Name, Revision: 1, Rows: 1, Coverage: 1000,
			Window: schema.WindowAt(w.clk.Now().Add(-1), schema.Minute), Time: w.clk.Now(), Hash: "1"}}
		receipt := registry.Receipt{Mark: influxsync.Mark{Store: "store-" + cluster, Time: last.Time, Hash: last.Hash}, Windows: []influxsync.Confirmed{last}}
		w.both(func(books *registry.Registry) error {
			return books.Received(w.t.Context(), cluster, schema.PodMinute.Name, receipt, nil)
		})
	}
}

// rows are a quarter of a cluster, at random.
func (w *dayWorld) rows(cluster string, at time.Time) []influxsync.Point {
	random := func(table schema.Table) map[string]int64 {
		values := make(map[string]int64)
		for _, field := range table.Integers() {
			values[field] = w.random.Int64N(1 << uint(1+w.random.IntN(30)))
		}
		if table.Name == schema.UsageQuarter.Name {
			values[schema.Coverage], values[schema.Uptime] = w.random.Int64N(900), 900_000
		}
		return values
	}
	var points []influxsync.Point
	put := func(node, namespace, workload string) {
		tags := map[string]string{schema.Cluster: cluster, schema.Node: node, schema.Namespace: namespace, schema.Box: "box-1"}
		if workload != "" {
			tags[schema.WorkloadKind], tags[schema.Workload] = "Deployment", workload
		}
		values := random(schema.UsageQuarter)
		if namespace == schema.SystemNamespace {
			values[schema.CPU] -= 1 << 29
		}
		points = append(points, point(schema.EnergyQuarter, at, tags, values))
		if cluster != schema.BoxCluster {
			points = append(points, point(schema.UsageQuarter, at, tags, values))
		} else { // as the leader joins them
			points = append(points, point(schema.UsageQuarter, at, tags, only(values, schema.EnergyQuarter)))
		}
	}
	if cluster == schema.BoxCluster {
		put(schema.BoxCluster, schema.OverheadNamespace, "")
		return points
	}
	for n := range 2 {
		node := fmt.Sprint("n", n+1)
		put(node, schema.SystemNamespace, "")
		points = append(points, point(schema.NodeQuarter, at, map[string]string{schema.Cluster: cluster, schema.Node: node}, random(schema.NodeQuarter)))
		for space := range 3 {
			if w.random.IntN(4) > 0 {
				put(node, fmt.Sprint("ns-", space), []string{"", "web", "api"}[w.random.IntN(3)])
			}
		}
	}
	put("n1", "base", "")
	return append(points, point(schema.VolumeQuarter, at, map[string]string{schema.Cluster: cluster, schema.Namespace: "ns-0", schema.Claim: fmt.Sprint("claim-", w.random.IntN(2)),
		schema.ClaimUID: "u", schema.StorageClass: "fast", schema.Storage: "local"}, random(schema.VolumeQuarter)))
}

// only are the values of a table's fields.
func only(values map[string]int64, table schema.Table) map[string]int64 {
	kept := make(map[string]int64)
	for _, field := range table.Integers() {
		kept[field] = values[field]
	}
	return kept
}

var dayScopes = []string{"edge-a", "edge-b", schema.BoxCluster}

// fill writes the quarters of a day of all, and notes that one of each was done.
func (w *dayWorld) fill(window schema.Window) {
	w.t.Helper()
	for _, cluster := range dayScopes {
		var points []influxsync.Point
		for at := window.From; at.Before(window.To); at = at.Add(schema.Quarter) {
			points = append(points, w.rows(cluster, at)...)
		}
		if err := w.server.Database(schema.QuarterDB).Write(w.t.Context(), points); err != nil {
			w.t.Fatal(err)
		}
		w.done(cluster, window.From)
	}
}

// rewrite gives a quarter other quantities.
func (w *dayWorld) rewrite(cluster string, at time.Time) {
	w.t.Helper()
	db := w.server.Database(schema.QuarterDB)
	var points []influxsync.Point
	for _, table := range []schema.Table{schema.UsageQuarter, schema.EnergyQuarter, schema.NodeQuarter, schema.VolumeQuarter} { // what leaves a window is written as zeros
		err := db.TimeQuery(w.t.Context(), table.Name, schema.WindowAt(at, schema.Quarter), []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}, func(p influxsync.Point) error {
			tags := make(map[string]string)
			for _, tag := range p.Tags {
				tags[tag.Key] = tag.Value
			}
			zero := point(table, at, tags, nil)
			for i, field := range p.Fields {
				if field.Value.Type == schema.Integer {
					p.Fields[i].Value = influxsync.Int(0)
				}
			}
			zero.Fields = p.Fields
			points = append(points, zero)
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for _, batch := range [][]influxsync.Point{points, w.rows(cluster, at)} {
		if len(batch) == 0 {
			continue
		}
		if err := db.Write(w.t.Context(), batch); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *dayWorld) due(cluster string, at time.Time) registry.Due {
	return registry.Due{Processor: registry.ProcessorUsage, Scope: cluster, Quarter: at, Reason: "test"}
}

// done notes that a quarter was summed, of other inputs than before.
func (w *dayWorld) done(cluster string, at time.Time) {
	w.t.Helper()
	w.revision++
	w.both(func(books *registry.Registry) error {
		due := w.due(cluster, at)
		list, err := books.Due(w.t.Context(), due.Processor, 0)
		if err != nil {
			return err
		}
		for _, d := range list {
			if d.Scope == cluster && d.Quarter.Equal(at) {
				due = d
			}
		}
		return books.Done(w.t.Context(), due, fmt.Sprint(w.revision), nil)
	})
}

// sum lets the leader sum the days that it can.
func (w *dayWorld) sum() {
	w.t.Helper()
	if err := w.worker.Run(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// summed is how many days are kept.
func (w *dayWorld) summed() int {
	w.t.Helper()
	all := 0
	for _, cluster := range dayScopes {
		list, err := w.books[0].Days(w.t.Context(), cluster, schema.Window{From: dayStart, To: dayStart.Add(dayCount * schema.Day)})
		if err != nil {
			w.t.Fatal(err)
		}
		all += len(list)
	}
	return all
}

// question is one of many kinds, over a random window: between quarters, minutes, or
// midnights of a zone.
func (w *dayWorld) question() func(*Engine) (any, error) {
	zones := []string{"UTC", "Europe/Amsterdam", "Asia/Kathmandu", "Pacific/Auckland"}
	zone, err := time.LoadLocation(zones[w.random.IntN(len(zones))])
	if err != nil {
		w.t.Fatal(err)
	}
	edge := func() time.Time {
		at := dayStart.Add(time.Duration(w.random.IntN(dayCount*96)) * schema.Quarter)
		switch w.random.IntN(4) {
		case 0:
			return at
		case 1:
			return at.Add(7 * time.Minute)
		}
		local := at.In(zone)
		return time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, zone).UTC()
	}
	window := schema.Window{From: dayStart.Add(-schema.Day), To: dayStart.Add(dayCount * schema.Day)}
	if from, to := edge(), edge(); w.random.IntN(8) > 0 && !from.Equal(to) {
		window = schema.Window{From: schema.Earlier(from, to), To: schema.Later(from, to)}
	}
	keys := [][]Key{{}, {Namespace}, {Cluster, Namespace}, {Customer, Cluster, Namespace}, {Project}, {Node}, {Hardware}, {Workload}, {Namespace, usage.Claim}, {usage.StorageClass, Cluster}, {Box}}[w.random.IntN(11)]
	request := Request{Window: window.From.Format(time.RFC3339) + "," + window.To.Format(time.RFC3339), Aggregate: keys, Limit: 100_000,
		Step: []time.Duration{0, 0, schema.Day, 2 * schema.Day, 6 * time.Hour, 20 * time.Minute}[w.random.IntN(6)]}
	if w.random.IntN(3) == 0 {
		request.Filter = []Condition{{Key: Namespace, Values: []string{[]string{"ns-1", "ns-*", schema.SystemNamespace}[w.random.IntN(3)]}}}
	}
	charges := ChargeRequest{Window: window, Step: request.Step, Aggregate: keys, Filter: request.Filter, Figures: w.random.IntN(2) == 0}
	ctx := w.t.Context()
	switch w.random.IntN(10) {
	case 0:
		return func(e *Engine) (any, error) { return e.Energy(ctx, request) }
	case 1:
		return func(e *Engine) (any, error) { return e.Heat(ctx, request, false) }
	case 2:
		return func(e *Engine) (any, error) { return e.Carbon(ctx, request, false) }
	case 3, 4:
		return func(e *Engine) (any, error) { return e.Charges(ctx, charges) }
	case 5:
		return func(e *Engine) (any, error) { return e.Assets(ctx, charges) }
	case 6:
		return func(e *Engine) (any, error) { return e.Export(ctx, ExportRequest{Period: request.Window}) }
	case 7:
		return func(e *Engine) (any, error) { return e.Bills(ctx, window, nil) }
	}
	return func(e *Engine) (any, error) { return e.Usage(ctx, request) }
}

// differs asks both centres and tells how the answers differ.
func (w *dayWorld) differs(ask func(*Engine) (any, error)) string {
	w.t.Helper()
	var answers [2]string
	for i, engine := range w.engines {
		answer, err := ask(engine)
		if err != nil {
			answers[i] = err.Error()
			continue
		}
		text, err := json.MarshalIndent(answer, "", " ")
		if err != nil {
			w.t.Fatal(err)
		}
		answers[i] = string(text)
	}
	return cmp.Diff(answers[1], answers[0])
}

func TestAnswersFromDaysAreThoseFromQuarters(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newDayWorld(t, seed)
			equal := func(when string, times int) {
				t.Helper()
				for i := range times {
					if diff := w.differs(w.question()); diff != "" {
						t.Fatalf("%s, question %d (-quarters +days):\n%s", when, i, diff)
					}
				}
			}
			equal("before any day was summed", 3)
			w.sum()
			if got, want := w.summed(), len(dayScopes)*(dayCount-1); got != want {
				t.Fatalf("%d days are summed, want %d: the last one is running", got, want)
			}
			equal("summed", 30)
			for range 2 {
				cluster, at := dayScopes[w.random.IntN(3)], dayStart.Add(time.Duration(w.random.IntN((dayCount-1)*96))*schema.Quarter)
				w.both(func(books *registry.Registry) error { return books.AddDue(t.Context(), w.due(cluster, at)) })
				w.rewrite(cluster, at)
				equal("while a quarter is due", 4)
				w.done(cluster, at)
				if got, want := w.summed(), len(dayScopes)*(dayCount-1)-1; got != want {
					t.Fatalf("after a revision %d days are kept, want %d", got, want)
				}
				equal("before the day is summed again", 4)
				w.sum()
				equal("after the day was summed again", 8)
			}
			w.control()
		})
	}
}

// control: a day that nobody tells to have changed is seen.
func (w *dayWorld) control() {
	w.t.Helper()
	for at := dayStart.Add(6 * time.Hour); at.Before(w.clk.Now()); at = at.Add(schema.Day) { // those in which a fact changes are read from quarters
		w.rewrite("edge-b", at)
	}
	ask := func(e *Engine) (any, error) {
		return e.Energy(w.t.Context(), Request{Window: dayStart.Format(time.RFC3339) + "," + dayStart.Add(3*schema.Day).Format(time.RFC3339), Aggregate: []Key{Cluster, Namespace}})
	}
	if w.differs(ask) == "" {
		w.t.Error("a stale day is not seen: the answers are not from days, or this test compares nothing")
	}
}

func TestDayRowsAreTheSumsOfQuarters(t *testing.T) {
	w := newDayWorld(t, 99)
	w.sum()
	db, window := w.server.Database(schema.QuarterDB), schema.WindowAt(dayStart.Add(schema.Day), schema.Day)
	for _, table := range [][2]schema.Table{{schema.UsageQuarter, schema.UsageDay}, {schema.NodeQuarter, schema.NodeDay}, {schema.VolumeQuarter, schema.VolumeDay}} {
		sums := [2]map[string]int64{{}, {}}
		for i, of := range table {
			err := db.TimeQuery(t.Context(), of.Name, window, []influxsync.Condition{{Tag: schema.Cluster, Value: "edge-a"}}, func(p influxsync.Point) error {
				if i == 1 && !p.Time.Equal(window.From) {
					t.Errorf("%s: a row at %s", of.Name, p.Time)
				}
				id := ""
				for _, tag := range table[1].Tags {
					id += "/" + p.Tag(tag)
				}
				for _, field := range of.Integers() {
					sums[i][id+" "+field] += p.Int(field)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(sums[0], sums[1]); diff != "" || len(sums[0]) == 0 {
			t.Errorf("%s (-quarters +day):\n%s", table[1].Name, diff)
		}
		entries, err := influxsync.ReadJournal(t.Context(), db, "edge-a", table[1].Name, time.Time{}, 0)
		if err != nil || len(entries) != dayCount-1 || entries[0].Window.Length() != schema.Day {
			t.Errorf("%s: %d journal entries, %v; want one of each settled day", table[1].Name, len(entries), err)
		}
	}
	before := w.summed()
	w.sum() // does nothing
	if entries, err := influxsync.ReadJournal(t.Context(), db, "edge-a", schema.UsageDay.Name, time.Time{}, 0); err != nil || len(entries) != dayCount-1 || w.summed() != before {
		t.Errorf("a second pass: %d journal entries, %d days kept, %v", len(entries), w.summed(), err)
	}
}

func TestRunsAreThoseOfEachQuarter(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	window := func() schema.Window {
		from := start.Add(time.Duration(random.IntN(300)) * time.Minute)
		return schema.Window{From: from, To: from.Add(time.Duration(1+random.IntN(200)) * time.Minute)}
	}
	for range 2000 {
		w := window()
		var open []schema.Window
		for range random.IntN(4) {
			open = append(open, window())
		}
		var want []run
		for _, part := range w.Split(schema.Quarter) {
			whole := part.Length() == schema.Quarter && !slices.ContainsFunc(open, func(o schema.Window) bool { return part.Overlap(o.From, o.To) > 0 })
			if last := len(want) - 1; last >= 0 && want[last].whole == whole {
				want[last].To = part.To
				continue
			}
			want = append(want, run{Window: part, whole: whole})
		}
		if diff := cmp.Diff(want, runs(w, open, true), cmp.AllowUnexported(run{})); diff != "" {
			t.Fatalf("%s, open %v (-want +got):\n%s", w, open, diff)
		}
	}
}
