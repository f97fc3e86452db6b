package bench

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/books/sealtest"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/prometheus/client_golang/prometheus"
)

// The month that is closed.
const (
	bookClusters   = 100
	bookNamespaces = 200
)

// bookEngine knows by formula what namespaces used: the benchmark is of the books,
// not of the store beneath them. The price list asks for nothing else of an engine.
type bookEngine struct {
	books.Engine
	names []string
}

func (e bookEngine) Cells(_ context.Context, cluster string, w schema.Window, _ time.Duration) ([]query.Cell, error) {
	cells := make([]query.Cell, len(e.names))
	for i, name := range e.names {
		n := w.From.Unix()/3600 + int64(i)*31 + int64(len(cluster))
		cells[i] = query.Cell{From: w.From, To: w.To, Customer: "acme", Project: "web", Namespace: name, Region: "eu", Uptime: 86_400_000, Covered: 86_400_000, EnergyMeasured: n,
			Quantities: processors.Quantities{processors.CPUUsed: n * 1_000_003, processors.CPURequested: n * 2_000_000, processors.CPUMax: n * 2_000_003, processors.MemoryUsed: n * 524_287,
				processors.MemoryRequested: n * 1 << 20, processors.MemoryMax: n*1<<20 + 7, processors.NetworkReceive: n * 1001, processors.NetworkTransmit: n * 307,
				processors.Energy: n, processors.EphemeralUsed: n * 4096, processors.VolumeClaimed.Of("fast"): n << 20, processors.VolumeUsed.Of("fast"): n << 19}}
	}
	return cells, nil
}

func (bookEngine) Arrived(_ context.Context, cluster string, w schema.Window) (query.ClusterCompleteness, []query.Gap, error) {
	n := int(w.Length() / time.Minute)
	return query.ClusterCompleteness{Cluster: cluster, Complete: true, Totals: query.Totals{Expected: n, Received: n}}, nil, nil
}

type bookKey struct{ ed25519.PrivateKey }

func (k bookKey) SignBook(message []byte) []byte { return ed25519.Sign(k.PrivateKey, message) }
func (k bookKey) BookKey() ed25519.PublicKey     { return k.Public().(ed25519.PublicKey) }

// newBooks are books of one customer with all clusters, whose quarters have
// fingerprints.
func newBooks(b *testing.B) (*books.Books, *registry.Registry, *clock.Manual) {
	b.Helper()
	clk := clock.NewManual(time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC))
	reg, err := registry.Open(b.Context(), filepath.Join(b.TempDir(), "registry.db"), clk)
	check(b, err)
	b.Cleanup(func() { check(b, reg.Close()) })
	since := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	var rates []fleet.Rate
	for _, resource := range []string{"cpu_used", "cpu_requested", "memory", "network_transmit", "energy", "ephemeral", "volume"} {
		rates = append(rates, fleet.Rate{Resource: resource, Price: "0.00123"})
	}
	objects := []fleet.Object{fleet.NewObject("acme", fleet.Customer{TimeZone: "Europe/Amsterdam"}).Since(since),
		fleet.NewObject("standard", fleet.PriceList{Currency: "EUR", Rates: rates}).Since(since)}
	engine := bookEngine{}
	for i := range bookNamespaces {
		engine.names = append(engine.names, fmt.Sprintf("namespace-%03d", i))
	}
	for i := range bookClusters {
		objects = append(objects, fleet.NewObject(fmt.Sprintf("cluster-%03d", i), fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1", Region: "eu"}).Since(since))
	}
	_, err = reg.Apply(b.Context(), objects, "bench")
	check(b, err)
	kept, err := books.New(books.Config{Batch: 1 << 20, Archive: new(sealtest.Archive)}, reg, engine, bookKey{ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}, clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	check(b, err)
	return kept, reg, clk
}

// BenchmarkBooksMonth closes a month of 100 clusters with 200 namespaces each, whose
// days were summed as they settled; then it sums all days anew and rates them, which
// must come to the same lines.
func BenchmarkBooksMonth(b *testing.B) {
	for range b.N {
		b.StopTimer()
		kept, reg, clk := newBooks(b)
		ctx := b.Context()
		before := clock.System().Now()
		summed, err := kept.Tick(ctx)
		check(b, err)
		b.ReportMetric(float64(summed)/clock.System().Now().Sub(before).Seconds(), "days/s")
		clk.Set(time.Date(2026, 12, 2, 0, 10, 0, 0, time.UTC))
		b.StartTimer()
		phase := clock.System().Now()
		lap := func(unit string) {
			now := clock.System().Now()
			b.ReportMetric(now.Sub(phase).Seconds(), unit)
			phase = now
		}
		draft, err := kept.Draft(ctx, "acme", "2026-11", "dora")
		check(b, err)
		lap("s/draft")
		_, err = kept.Review(ctx, "acme", "2026-11", "dora")
		check(b, err)
		lap("s/review")
		_, err = kept.Approve(ctx, "acme", "2026-11", "anna")
		check(b, err)
		lap("s/approve")
		statement, err := kept.Close(ctx, "acme", "2026-11", books.CloseRequest{By: "anna"})
		check(b, err)
		lap("s/close")
		b.StopTimer()
		if statement.LineCount != len(draft.Lines) || statement.LineCount != 7 || len(draft.Lines[0].Shares) != bookClusters*bookNamespaces {
			b.Fatalf("%d lines", statement.LineCount)
		}
		anew(b, kept, reg)
		lap("s/rerate")
	}
}

// anew makes each day's inputs others and rates the month again.
func anew(b *testing.B, kept *books.Books, reg *registry.Registry) {
	b.Helper()
	for i := range bookClusters {
		for day := time.Date(2026, 10, 31, 12, 0, 0, 0, time.UTC); day.Before(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)); day = day.AddDate(0, 0, 1) {
			due := registry.Due{Processor: registry.ProcessorUsage, Scope: fmt.Sprintf("cluster-%03d", i), Quarter: day, Reason: "bench"}
			check(b, reg.Done(b.Context(), due, "revised", nil))
		}
	}
	made, err := kept.Rerate(b.Context(), "acme", "2026-11")
	check(b, err)
	if len(made.Lines) != 0 || len(made.Changed) != bookClusters*30 {
		b.Fatalf("re-rated: %d lines differ, %d days were summed anew", len(made.Lines), len(made.Changed))
	}
}
