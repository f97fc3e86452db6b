package books

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/books/sealtest"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/prometheus/client_golang/prometheus"
)

// world is books over a real registry, and an engine that knows by formula what
// was used.
type world struct {
	*Books
	t       *testing.T
	path    string
	reg     *registry.Registry
	clock   *clock.Manual
	private ed25519.PrivateKey
	archive *sealtest.Archive

	namespaces map[string][]string // by cluster
	late       map[string]int64    // core-µs that came later, by cluster/namespace/minute
	missing    map[string]bool     // cluster/day's start
	podsSince  time.Time
	lives      map[string]schema.Window // of pods, by NAMESPACE/POD; others live always
	boxes      []query.BoxRow
	heat       int64     // 1: there is useful heat
	silent     time.Time // from when on the pods with a life have no readings
	reads      int
}

type signer struct{ key ed25519.PrivateKey }

func (s signer) SignBook(message []byte) []byte { return ed25519.Sign(s.key, message) }
func (s signer) BookKey() ed25519.PublicKey     { return s.key.Public().(ed25519.PublicKey) }

func newWorld(t *testing.T, now time.Time, objects ...fleet.Object) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewManual(now), path: filepath.Join(t.TempDir(), "registry.db"), late: make(map[string]int64), missing: make(map[string]bool),
		namespaces: map[string][]string{"edge-a": {"shop", "blog"}, "edge-b": {"lab"}}, private: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), archive: new(sealtest.Archive)}
	var err error
	if w.reg, err = registry.Open(t.Context(), w.path, w.clock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.reg.Close() })
	if w.Books, err = New(Config{Archive: w.archive}, w.reg, w, signer{w.private}, w.clock, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	w.apply(objects...)
	return w
}

func (w *world) apply(objects ...fleet.Object) {
	w.t.Helper()
	if _, err := w.reg.Apply(w.t.Context(), objects, "tester"); err != nil {
		w.t.Fatal(err)
	}
}

// used is what a namespace used in a minute.
func (w *world) used(cluster, namespace string, minute int64) processors.Quantities {
	n := (minute*7+int64(len(namespace))*13+int64(len(cluster)))%29 + 1
	cpu := 1_000_003*n + w.late[fmt.Sprintf("%s/%s/%d", cluster, namespace, minute)]
	return processors.Quantities{processors.CPUUsed: cpu, processors.MemoryMax: 524_287 * n, processors.Energy: 1_001 * n}
}

// Cells are by the facts at the window's start, which the books cut there.
func (w *world) Cells(ctx context.Context, cluster string, window schema.Window, step time.Duration) ([]query.Cell, error) {
	w.reads++
	f, err := w.reg.Fleet(ctx, window.From)
	if err != nil {
		return nil, err
	}
	c, ok := f.Cluster(cluster)
	if !ok {
		return nil, nil
	}
	if step == 0 {
		step = window.Length()
	}
	var cells []query.Cell
	for from := window.From; from.Before(window.To); {
		to := schema.Earlier(from.Truncate(step).Add(step), window.To)
		if step == window.Length() {
			to = window.To
		}
		for _, namespace := range w.namespaces[cluster] {
			who := f.Assign(cluster, namespace, nil)
			cell := query.Cell{From: from, To: to, Customer: who.Customer, Project: who.Project, User: who.User, Namespace: namespace,
				Region: c.Region, Quantities: make(processors.Quantities)}
			for minute := from.Unix() / 60; minute < to.Unix()/60; minute++ {
				for resource, quantity := range w.used(cluster, namespace, minute) {
					cell.Quantities[resource] += quantity
				}
				cell.Uptime, cell.Covered = cell.Uptime+60_000, cell.Covered+60_000
			}
			cell.EnergyMeasured = cell.Quantities[processors.Energy]
			cell.CarbonMicrograms, cell.CarbonOf = cell.EnergyMeasured/10, cell.EnergyMeasured
			cells = append(cells, cell)
		}
		from = to
	}
	return cells, nil
}

// PodCells are two pods of each namespace, until the rows per pod are deleted.
func (w *world) PodCells(ctx context.Context, cluster string, _ []string, window schema.Window, step time.Duration) ([]query.PodCell, error) {
	if window.From.Before(w.podsSince) {
		return nil, nil
	}
	cells, err := w.Cells(ctx, cluster, window, step)
	var pods []query.PodCell
	for _, cell := range cells {
		one, other := cell, cell
		one.Quantities, other.Quantities = make(processors.Quantities), make(processors.Quantities)
		for resource, quantity := range cell.Quantities {
			one.Quantities[resource] = quantity / 3
			other.Quantities[resource] = quantity - quantity/3
		}
		pods = append(pods, query.PodCell{Pod: cell.Namespace + "-0", Cell: one}, query.PodCell{Pod: cell.Namespace + "-1", Cell: other})
	}
	return pods, err
}

// Boxes are those that the test says.
func (w *world) Boxes(context.Context, string) (query.BoxAnswer, error) {
	return query.BoxAnswer{Boxes: w.boxes}, nil
}

// HeatCells credit half of the energy as useful heat.
func (w *world) HeatCells(ctx context.Context, cluster string, window schema.Window, step time.Duration) ([]query.Cell, error) {
	cells, err := w.Cells(ctx, cluster, window, step)
	for i, cell := range cells {
		heat := w.heat * cell.Quantities[processors.Energy] / 2
		cells[i] = query.Cell{From: cell.From, To: cell.To, Customer: cell.Customer, Project: cell.Project, User: cell.User, Namespace: cell.Namespace, Region: cell.Region,
			Quantities: processors.Quantities{processors.UsefulHeat: heat}}
	}
	return cells, err
}

// Assets are one node of 8 cores and 16 GiB in each cluster.
func (w *world) Assets(_ context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	step := request.Step
	if step == 0 {
		step = request.Window.Length()
	}
	var all []query.Charges
	for from := request.Window.From; from.Before(request.Window.To); from = from.Add(step) {
		seconds := int64(step / time.Second)
		one := query.Charges{Row: query.Row{Key: map[string]string{"cluster": request.Filter[0].Values[0], "node": "n1"}, From: from}}
		one.Row.Sums[usage.AllocatableCPU], one.Row.Sums[usage.AllocatableMemory] = 8_000_000*seconds, 16<<20*seconds
		all = append(all, one)
	}
	return all, nil
}

// NodePods are the pods of the node n1 of a cluster: all of them, until the rows per
// pod are deleted, each alive in [its start, its end) of the registry.
func (w *world) NodePods(ctx context.Context, cluster, node string, window schema.Window, step time.Duration) ([]query.PodCell, error) {
	if node != "n1" || window.From.Before(w.podsSince) {
		return nil, nil
	}
	cells, err := w.PodCells(ctx, cluster, nil, window, step)
	if err != nil {
		return nil, err
	}
	kept := cells[:0]
	for _, cell := range cells {
		if life, known := w.lives[cell.Namespace+"/"+cell.Pod]; !known || life.Overlap(cell.From, cell.To) > 0 {
			cell.Workload = "Deployment/" + cell.Namespace
			if known && !life.To.IsZero() && !cell.From.Before(w.silent) && !w.silent.IsZero() {
				cell.Covered = 0
			}
			kept = append(kept, cell)
		}
	}
	return kept, nil
}

// NodeWorkloads are each namespace's one workload, of two pods.
func (w *world) NodeWorkloads(ctx context.Context, cluster, node string, window schema.Window, step time.Duration) ([]query.PodCell, error) {
	since := w.podsSince
	w.podsSince = time.Time{}
	defer func() { w.podsSince = since }()
	pods, err := w.NodePods(ctx, cluster, node, window, step)
	var sums []query.PodCell
	for _, pod := range pods {
		i := slices.IndexFunc(sums, func(c query.PodCell) bool {
			return c.Workload == pod.Workload && c.From.Equal(pod.From) && c.Project == pod.Project
		})
		if i < 0 {
			one := pod
			one.Pod, one.Quantities = "", maps.Clone(pod.Quantities)
			sums = append(sums, one)
			continue
		}
		sums[i].Uptime, sums[i].Covered = sums[i].Uptime+pod.Uptime, sums[i].Covered+pod.Covered
		for resource, quantity := range pod.Quantities {
			sums[i].Quantities[resource] += quantity
		}
	}
	return sums, err
}

func (w *world) Arrived(_ context.Context, cluster string, window schema.Window) (query.ClusterCompleteness, []query.Gap, error) {
	minutes := int(window.Length() / time.Minute)
	c := query.ClusterCompleteness{Cluster: cluster, Complete: true, Totals: query.Totals{Expected: minutes, Received: minutes}}
	var gaps []query.Gap
	if w.missing[cluster+"/"+window.From.Format(time.RFC3339)] {
		c.Complete, c.Received, c.Missing = false, minutes-60, 60
		gaps = []query.Gap{{Cluster: cluster, Tables: []string{"pod"}, Gap: registry.Gap{From: window.From, To: window.From.Add(time.Hour), Windows: 60, Reason: registry.GapLinkDown}}}
	}
	return c, gaps, nil
}

// revise tells the registry that a quarter was computed anew.
func (w *world) revise(cluster string, quarter time.Time, fingerprint string) {
	w.t.Helper()
	due := registry.Due{Processor: registry.ProcessorUsage, Scope: cluster, Quarter: quarter.UTC().Truncate(schema.Quarter), Reason: "test"}
	if err := w.reg.Done(w.t.Context(), due, fingerprint, nil); err != nil {
		w.t.Fatal(err)
	}
}

// later lets a namespace have used more in a minute than was known.
func (w *world) later(cluster, namespace string, at time.Time, cpu int64) {
	w.late[fmt.Sprintf("%s/%s/%d", cluster, namespace, at.Unix()/60)] += cpu
	w.revise(cluster, at, fmt.Sprint(at, cpu, w.late))
}

// close takes a period from open to closed.
func (w *world) close(customer, period string) Statement {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.Draft(ctx, customer, period, "dora"); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Review(ctx, customer, period, "dora"); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Approve(ctx, customer, period, "anna"); err != nil {
		w.t.Fatal(err)
	}
	s, err := w.Close(ctx, customer, period, CloseRequest{By: "carl"})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// chain is the customer's chain, which must verify.
func (w *world) chain(customer string) Chain {
	w.t.Helper()
	c, err := w.Chain(w.t.Context(), customer)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := Verify(c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func prices(rates ...fleet.Rate) fleet.PriceList {
	return fleet.PriceList{Currency: "EUR", Rates: rates}
}

// small is a customer in a zone with a cluster of two namespaces.
func small(zone string) []fleet.Object {
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return []fleet.Object{
		fleet.NewObject("acme", fleet.Customer{TimeZone: zone}).Since(since),
		fleet.NewObject("globex", fleet.Customer{TimeZone: zone}).Since(since),
		fleet.NewObject("edge-a", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", Region: "eu"}).Since(since),
		fleet.NewObject("standard", prices(fleet.Rate{Resource: "cpu_used", Price: "0.03"}, fleet.Rate{Resource: "memory", Price: "0.004"},
			fleet.Rate{Resource: "energy", Price: "0.31"}, fleet.Rate{Resource: "fee:platform", Per: "month", Price: "10"})).Since(since),
	}
}
