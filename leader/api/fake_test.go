package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"github.com/accumulus-metering/accumulus/leader/allocation"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/audit"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/accumulus-metering/accumulus/leader/heat"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/quarantine"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/accumulus-metering/accumulus/leader/status"
	"github.com/prometheus/client_golang/prometheus"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	operatorToken = "operator-token-of-the-tests"
	metersToken   = "meters-token-of-the-tests"
	viewerToken   = "viewer-token-of-the-tests"
)

// leader is everything behind the API; it remembers what was changed.
type leader struct {
	mu      sync.Mutex
	changes []string
	asked   []query.Request
	log     fakeLog
	clock   *clock.Manual
	scoped  []bool // of what was asked, whether it was bounded
	live    error
	ready   error
}

func (l *leader) did(format string, args ...any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, fmt.Sprintf(format, args...))
	return nil
}

// fakeMeters knows the meters plug and 1.
type fakeMeters struct{ *leader }

func (f fakeMeters) Status() []meters.Status {
	return []meters.Status{{Meter: "plug", Box: "b", LagSeconds: 6, Counted: 1}, {Meter: "1", Box: "box-1"}}
}

func (f fakeMeters) Push(_ context.Context, meter string, sent []meters.Sent) ([]meters.Verdict, error) {
	if meter != "plug" && meter != "1" {
		return nil, fmt.Errorf("meter %q: %w", meter, registry.ErrNotFound)
	}
	verdicts := make([]meters.Verdict, len(sent))
	for i, one := range sent {
		verdicts[i] = meters.Verdict{Time: one.Time, Result: []string{meters.ResultCounted, meters.ResultDuplicate, meters.ResultRefused}[i%3]}
	}
	return verdicts, f.did("push %s %d %s", meter, len(sent), sent[0].Counter)
}

func (l *leader) Usage(ctx context.Context, request query.Request) (query.Answer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, request)
	l.scoped = append(l.scoped, query.Scoped(ctx))
	if request.Window == "overflow" {
		return query.Answer{}, query.ErrOverflow
	}
	if request.Window == "moved" {
		return query.Answer{}, archive.ErrMoved
	}
	if request.Window == "broken" {
		return query.Answer{}, errors.New("query minute: connection lost")
	}
	return query.Answer{Answer: usage.Answer{Rows: []query.Row{}, Aggregate: request.Aggregate}}, nil
}

func (l *leader) Energy(ctx context.Context, request query.Request) (query.EnergyAnswer, error) {
	answer, err := l.Usage(ctx, request)
	answer.Rows = []query.Row{{Key: map[string]string{"box": "b"}, EnergyJoules: usage.Joules(1500)}}
	return query.EnergyAnswer{Figures: usage.FiguresOf(answer.Answer, func(r query.Row) usage.EnergyRow { return usage.EnergyOf(r, false) })}, err
}

func (l *leader) Heat(ctx context.Context, request query.Request, days bool) (query.HeatAnswer, error) {
	answer, err := l.Usage(ctx, request)
	heat := query.HeatAnswer{Figures: query.Figures[usage.HeatRow]{Figures: usage.FiguresOf(answer.Answer, func(r query.Row) usage.HeatRow { return usage.HeatOf(r, true) })}}
	if days {
		heat.Days = []query.HeatDay{{Day: "2026-11-23", Source: "tank"}}
	}
	return heat, err
}

func (l *leader) Carbon(ctx context.Context, request query.Request, _ bool) (query.CarbonAnswer, error) {
	answer, err := l.Usage(ctx, request)
	return query.CarbonAnswer{Figures: query.Figures[usage.CarbonRow]{Figures: usage.FiguresOf(answer.Answer, func(r query.Row) usage.CarbonRow { return usage.CarbonOf(r, true, true) })}}, err
}

func (l *leader) Boxes(context.Context, string) (query.BoxAnswer, error) {
	return query.BoxAnswer{Boxes: []query.BoxRow{}}, nil
}

func (l *leader) Completeness(_ context.Context, cluster, _ string) (query.Completeness, error) {
	return query.Completeness{Cluster: cluster}, nil
}

func (l *leader) Export(_ context.Context, request query.ExportRequest) (query.Export, error) {
	if request.RequireComplete {
		return query.Export{}, &query.IncompleteError{Period: request.Period,
			Clusters: []query.ClusterCompleteness{{Cluster: "edge-a", Totals: query.Totals{Expected: 200, Received: 199}}},
			Gaps:     []query.Gap{{Cluster: "edge-a", Tables: []string{"pod"}, Gap: registry.Gap{From: now, To: now, Reason: registry.GapLinkDown}}}}
	}
	return query.Export{Period: request.Period, Lines: []query.Line{{Customer: "acme, Inc.", Cluster: "edge-a", Namespace: "shop", Resource: "cpu_used",
		Quantity: "1.5", Unit: "core-hour", UnitPrice: "0.03", Cost: "0.045", Currency: "EUR", From: now, To: now, Coverage: 1, Quality: "measured", Completeness: "0.9950"}}}, nil
}

func (l *leader) Overview(context.Context) (status.Overview, error) {
	return status.Overview{Now: now, Clusters: []status.Cluster{{Name: "edge-a", State: status.OK, Problems: []status.Problem{}}}}, nil
}

func (l *leader) StartLoops(context.Context) error { return l.did("start") }
func (l *leader) StopLoops(context.Context) error  { return l.did("stop") }

func (l *leader) AddCluster(_ context.Context, name string, spec fleet.Cluster) error {
	if name == "taken" {
		return fmt.Errorf("add cluster %s: it is there: %w", name, ErrConflict)
	}
	return l.did("add %s %s", name, spec.URL)
}

func (l *leader) RemoveCluster(_ context.Context, name string, force bool) error {
	if name == "nowhere" {
		return fmt.Errorf("remove cluster %s: %w", name, ErrNotFound)
	}
	if force {
		return l.did("remove %s by force", name)
	}
	return l.did("remove %s", name)
}

func (l *leader) PutIntensities(_ context.Context, source, zone string, list []registry.Intensity) (int, error) {
	return len(list), l.did("intensities %s %s %d", source, zone, len(list))
}

// Receive knows the source tank alone, whose token is tankToken.
func (l *leader) Receive(_ context.Context, source, mediaType string, body []byte) (heat.Receipt, error) {
	if source != "tank" {
		return heat.Receipt{}, fmt.Errorf("heat source %q: %w", source, heat.ErrNoSource)
	}
	if bytes.Contains(body, []byte("bad")) {
		return heat.Receipt{}, fmt.Errorf("%w: line 2: no flow", heat.ErrReadings)
	}
	return heat.Receipt{Source: source, Readings: 1}, l.did("heat %s %q", source, mediaType)
}

const tankToken = "token-of-the-tank"

func (l *leader) Allowed(_ context.Context, source, token string) bool {
	return source == "tank" && token == tankToken
}

func (l *leader) Clear(_ context.Context, cluster string) error { return l.did("clear %q", cluster) }

func (l *leader) Objects(context.Context) ([]fleet.Object, error) {
	return []fleet.Object{
		fleet.NewObject("edge-a", fleet.Cluster{URL: "http://127.0.0.1:1"}),
		fleet.NewObject("old", fleet.Cluster{URL: "http://127.0.0.1:2"}).Until(now.Add(-time.Hour)),
		fleet.NewObject("box-1", fleet.Box{Site: "cellar"}),
		fleet.NewObject("1", fleet.Meter{Box: "box-1", Driver: fleet.DriverPush}),
	}, nil
}

func (l *leader) PlanChange(_ context.Context, objects []fleet.Object, change registry.Change) (registry.Applied, error) {
	return registry.Applied{Diff: fleet.Compare(nil, objects)}, fleet.Validate(objects, nil)
}

func (l *leader) ApplyChange(ctx context.Context, objects []fleet.Object, change registry.Change) (registry.Applied, error) {
	applied, err := l.PlanChange(ctx, objects, change)
	if err != nil {
		return registry.Applied{}, fmt.Errorf("apply: %w", err)
	}
	return applied, l.did("apply %d by %s%s", len(objects), change.By, change.Reason)
}

// Quarantined are three kept rows.
func (l *leader) Quarantined(_ context.Context, filter registry.QuarantineFilter, before int64, limit int) ([]registry.Quarantined, error) {
	rows := []registry.Quarantined{}
	for id := int64(3); id > 0 && len(rows) < limit; id-- {
		if before == 0 || id < before {
			rows = append(rows, registry.Quarantined{ID: id, Cluster: "edge-a", Table: "pod", Kind: registry.Refused, Class: filter.Class, Line: "pod v=1i 1"})
		}
	}
	return rows, nil
}

func (l *leader) QuarantineCounts(context.Context, registry.QuarantineFilter) ([]registry.QuarantineCount, error) {
	return []registry.QuarantineCount{{Cluster: "edge-a", Table: "pod", Kind: registry.Refused, Rows: 3}}, nil
}

func (l *leader) Discard(_ context.Context, filter registry.QuarantineFilter, reason, by string) (int64, error) {
	return 3, l.did("discard %+v: %s by %s", filter, reason, by)
}

func (l *leader) Replay(_ context.Context, filter registry.QuarantineFilter) (quarantine.Outcome, error) {
	outcome := quarantine.Outcome{Accepted: 2, Refused: map[influxsync.Class]int64{influxsync.TypeConflict: 1}}
	if len(filter.IDs) == 0 {
		return outcome, l.did("replay %+v", filter)
	}
	switch filter.IDs[0] {
	case 503:
		return outcome, &influxsync.StatusError{Status: 503, Message: "later"}
	case 403:
		return quarantine.Outcome{}, &influxsync.WriteError{Status: 403, Message: "no"}
	case 422:
		return quarantine.Outcome{}, fmt.Errorf("replay: %w", quarantine.ErrForeign)
	case 404:
		return quarantine.Outcome{}, fmt.Errorf("row 9: %w", quarantine.ErrGone)
	}
	return outcome, l.did("replay %+v", filter)
}

func (l *leader) Audit(_ context.Context, request audit.Request) (audit.Report, error) {
	if request.Table == "nowhere" {
		return audit.Report{}, fmt.Errorf("audit: %w", audit.ErrTable)
	}
	return audit.Report{Cluster: request.Cluster, From: request.Window.From, To: request.Window.To, At: now, Tables: []audit.Table{}},
		l.did("audit %s %s %q repair %t", request.Cluster, request.Window, request.Table, request.Repair)
}

func (l *leader) SeedKey() string { return "key" }

func (l *leader) Seed(_ context.Context, cluster string) (seed.Signed, error) {
	if cluster == "nowhere" {
		return seed.Signed{}, fmt.Errorf("cluster %s: %w", cluster, ErrNotFound)
	}
	return seed.Signed{Cluster: cluster, Version: "1", Generation: 1 << 62, Packed: []byte{1}, Signature: []byte{2}}, nil
}

func (l *leader) RenewSeed(ctx context.Context, cluster string) (seed.Signed, error) {
	signed, err := l.Seed(ctx, cluster)
	return signed, errors.Join(err, l.did("renew %s", cluster))
}

func (l *leader) Check(cluster fleet.Cluster) error {
	if cluster.TokenFile != "" {
		return fmt.Errorf("read tokenFile: open %s: no such file or directory", cluster.TokenFile)
	}
	return nil
}

func (l *leader) Live() error  { return l.live }
func (l *leader) Ready() error { return l.ready }

// changed is what was changed since it was last asked.
func (l *leader) changed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	changes := l.changes
	l.changes = nil
	return changes
}

func newServer(t *testing.T, demo bool) (*Server, *leader) {
	t.Helper()
	return newLimited(t, demo, identity.Limits{Principal: -1, Address: -1, FailedSignIns: -1})
}

func newLimited(t *testing.T, demo bool, limits identity.Limits) (*Server, *leader) {
	t.Helper()
	l := &leader{clock: clock.NewManual(now)}
	registry := prometheus.NewRegistry()
	s, err := New(Config{Listen: "127.0.0.1:0", Demo: demo, Version: "test", Limits: limits, Tokens: Tokens{Operator: operatorToken, Viewer: viewerToken, Meters: metersToken}},
		Deps{Answers: l, Allocations: fakeAllocations{}, Overview: l, Loops: l, Clusters: l, Eraser: l, Objects: l, Links: l, Meters: fakeMeters{l}, Models: fakeModels{l}, Health: l, Kept: l, Replayer: l, Auditor: l, Seeds: l, Credentials: l, Contexts: l, Installations: l, Upgrades: l, Heat: l, Intensities: l, Prices: fakePrices{l}, Ahead: fakeAhead{l}, Budgets: fakeAhead{l}, Exporter: l, Events: l, Books: fakeBooks{l}, Archive: fakeArchive{}, Callers: callers, Tokens: fakeTokens{l}, Log: &l.log, Metrics: registry, Clock: l.clock},
		slog.New(slog.DiscardHandler), registry)
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

// call sends one request and returns the answer.
func call(s *Server, method, path, token, body string, edit ...func(*http.Request)) *http.Response {
	request := httptest.NewRequest(method, "http://127.0.0.1:8080"+path, strings.NewReader(body))
	request.RemoteAddr = "127.0.0.1:50000"
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for _, change := range edit {
		change(request)
	}
	recorder := httptest.NewRecorder()
	s.Handler().ServeHTTP(recorder, request)
	return recorder.Result()
}

func text(t *testing.T, answer *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// fakeModels is the power models behind the API.
type fakeModels struct{ l *leader }

func (f fakeModels) Answer(context.Context) (models.Answer, error) {
	return models.Answer{Models: []models.InUse{}}, nil
}

func (f fakeModels) Measure(_ context.Context, node string, _ schema.Window) (models.Measured, error) {
	if node == "nowhere" {
		return models.Measured{}, models.ErrNode
	}
	return models.Measured{Node: node}, nil
}

func (f fakeModels) Calibrate(_ context.Context, c registry.Calibration, _ time.Time) (models.Changed, error) {
	if len(c.Points) == 0 {
		return models.Changed{}, models.ErrCalibration
	}
	return models.Changed{Calibration: c}, f.l.did("calibrate %s/%s by %s", c.Cluster, c.Node, c.By)
}

func (l *leader) PrepareExport(ctx context.Context, request ExportRequest) (*focus.Prepared, error) {
	if request.RequireComplete {
		return nil, &focus.IncompleteError{Period: request.Period, Sectors: 3, First: "2026-11-02T00:00:00Z"}
	}
	if request.Customer == "broken" {
		return nil, &focus.RowError{Row: 1, Column: "BilledCost", Rule: "BilledCost MUST NOT be null", Detail: "it is null"}
	}
	return focus.Prepare(ctx, noRows{}, request.Request, focus.Options{Version: request.Version, Compression: request.Compression})
}

// noRows is a source of a month without rows.
type noRows struct{}

func (noRows) State(context.Context, focus.Request) (focus.State, error) { return focus.State{}, nil }

func (noRows) Rows(context.Context, focus.Request, func(*focus.Row) error) ([]focus.LeftOut, error) {
	return nil, nil
}

func (l *leader) EventCounts(context.Context) (map[string]int64, error) {
	return map[string]int64{registry.EventRefused: 1}, nil
}

func (l *leader) Events(_ context.Context, state string, _ int) ([]registry.Event, error) {
	return []registry.Event{{EventKey: registry.EventKey{Cluster: "edge-a"}, State: state}}, nil
}

func (l *leader) RunEvents(context.Context, time.Time) ([]registry.RunEvent, error) {
	return []registry.RunEvent{{ID: "5e", Subject: "edge-a/batch/Job/nightly-101", State: registry.EventSent, Ended: now, At: now}}, nil
}

func (l *leader) DismissedRunEvents(context.Context, int) ([]registry.RunEvent, error) {
	return []registry.RunEvent{{ID: "5f", Subject: "edge-a/batch/Job/nightly-99", State: registry.EventDismissed, Ended: now, At: now, Attempts: 12, Error: "no report"}}, nil
}

func (l *leader) RetryEvents(context.Context, time.Time) (int64, error) {
	return 1, l.did("retry events")
}

// fakeAllocations answer with one closed set.
type fakeAllocations struct{}

func (fakeAllocations) Parse(_ context.Context, query string) (allocation.Request, error) {
	return allocation.Parse(query, now)
}

func (fakeAllocations) Compute(_ context.Context, r allocation.Request) (allocation.Answer, error) {
	return allocation.Answer{Window: r.Window, Currency: "EUR", Total: 1, Closed: true,
		Sets: []allocation.Set{{Window: r.Window, Allocations: []allocation.Allocation{{Name: "shop", Currency: "EUR"}}}}}, nil
}

func (fakeAllocations) Metrics(context.Context, string) (prometheus.Gatherer, error) {
	return prometheus.NewRegistry(), nil
}
