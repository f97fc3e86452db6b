package ahead

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// labelled is an engine that knows pods of a group too, and may have provisional energy.
type labelled struct {
	*usedBy
	open   bool
	pods   map[string]schema.Window // of batch=big, in edge-a/batch
	broken map[string]bool          // pods that cannot be rated
	asked  int                      // for one of these
	now    time.Time                // where the data end; zero is now
}

func (l *labelled) Settled(ctx context.Context) (time.Time, error) {
	if !l.now.IsZero() {
		return l.now, nil
	}
	return l.usedBy.Settled(ctx)
}

func (l *labelled) Charges(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	var all []query.Charges
	if slices.ContainsFunc(request.Filter, func(c usage.Condition) bool { return c.Key == usage.Label("batch") }) {
		for pod, life := range l.pods {
			if life.Overlap(request.Window.From, request.Window.To) > 0 {
				all = append(all, query.Charges{Row: query.Row{Key: map[string]string{"cluster": "edge-a", "namespace": "batch", "pod": pod, "label:batch": "big"}}})
			}
		}
		return all, nil
	}
	if slices.ContainsFunc(request.Filter, func(c usage.Condition) bool { return c.Key == usage.Pod && l.broken[c.Values[0]] }) {
		l.asked++
		return nil, errors.New("there is no cost of it")
	}
	all, err := l.usedBy.Charges(ctx, request)
	for i := range all {
		all[i].Row.Provisional = l.open
	}
	return all, err
}

// announced is an announcer with what it is of.
type announced struct {
	*Announcer
	engine *labelled
	desk   *Desk
	hook   *hook
	books  *registry.Registry
	clock  *clock.Manual
	server *httptest.Server
	config AnnounceConfig
}

func newAnnounced(t *testing.T) *announced {
	t.Helper()
	a := &announced{desk: runsDesk(), hook: &hook{status: 200}, clock: clock.NewManual(now)}
	a.engine = &labelled{usedBy: a.desk.engine.(*usedBy)}
	a.desk.engine = a.engine
	a.server = httptest.NewServer(a.hook)
	t.Cleanup(a.server.Close)
	var err error
	if a.books, err = registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), a.clock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.books.Close() })
	a.config = AnnounceConfig{URL: a.server.URL, PublicURL: "https://acc.example/", GroupLabel: "batch"}
	a.restart(t)
	return a
}

func (a *announced) restart(t *testing.T) {
	t.Helper()
	var err error
	a.Announcer, err = NewAnnouncer(a.config, a.desk, a.books, a.server.Client(), a.clock, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
}

func (a *announced) told(t *testing.T) (all []runEvent) {
	t.Helper()
	for _, body := range a.hook.bodies {
		var e runEvent
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func subjects(all []runEvent) string {
	var names []string
	for _, e := range all {
		names = append(names, e.Subject)
	}
	return strings.Join(names, " ")
}

// TestRunsAreToldOnce: each Job is told of once with the report of its pods, also after
// a restart and where its facts come late; its pods are not told of by themselves.
func TestRunsAreToldOnce(t *testing.T) {
	a := newAnnounced(t)
	late := ended(kindJob, "nightly-100", 60, time.Hour, 0)
	for range 2 {
		if err := a.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.restart(t)
	}
	all := a.told(t)
	if got, want := subjects(all), "edge-a/batch/Job/nightly-101 edge-a/batch/Job/nightly-102 edge-a/batch/Job/failed"; got != want {
		t.Fatalf("told of %s, want %s", got, want)
	}
	job := all[1]
	if job.Type != RunType || job.Source != "accumulus" || len(job.Data.Report.Runs) != 2 || job.Data.Report.Failures != 1 || job.Data.Failed || job.Data.Report.Total.Cost[0].Cost != "0.40" || !job.Time.Equal(now.Add(-24*time.Hour)) {
		t.Errorf("%+v", job)
	}
	if failed := all[2].Data; !failed.Failed || len(failed.Report.Runs) != 0 || failed.Report.Seconds != 60 {
		t.Errorf("%+v", failed)
	}
	a.desk.facts = append(a.desk.facts.(finished), late)
	if err := a.Tick(t.Context()); err != nil || len(a.hook.bodies) != 4 {
		t.Errorf("what comes late: told %d times, %v", len(a.hook.bodies), err)
	}
	ids := make(map[string]bool)
	for _, e := range a.told(t) {
		ids[e.ID] = true
	}
	if len(ids) != 4 {
		t.Errorf("ids %v", ids)
	}
	// The control: who forgets what was told tells again, under the same ids.
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), a.clock)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = books.Close() }()
	a.books = books
	a.restart(t)
	if err := a.Tick(t.Context()); err != nil || len(a.hook.bodies) != 8 {
		t.Errorf("the control told %d times, %v", len(a.hook.bodies), err)
	}
	for _, e := range a.told(t) {
		if !ids[e.ID] {
			t.Errorf("another id of %s", e.Subject)
		}
	}
}

// TestLinkIsTheReport: the link of an event asks for the very report that is in it.
func TestLinkIsTheReport(t *testing.T) {
	a := newAnnounced(t)
	if err := a.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := a.told(t)[1].Data
	link, err := url.Parse(told.HTML)
	if err != nil || link.Host != "acc.example" || link.Path != "/api/v1/reports/run" {
		t.Fatalf("%s, %v", told.HTML, err)
	}
	v := link.Query()
	r, err := a.desk.Report(t.Context(), ReportQuestion{Name: v.Get("name"), Cluster: v.Get("cluster"), Namespace: v.Get("namespace"), Window: v.Get("window")})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(r)
	want, _ := json.Marshal(told.Report)
	if string(got) != string(want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestRunsWaitForTheirEnergy: a run whose energy is provisional is told of when it no
// longer is, and after a day all the same, with a note.
func TestRunsWaitForTheirEnergy(t *testing.T) {
	a := newAnnounced(t)
	a.engine.open = true
	a.desk.facts = finished{ended(kindPod, "job-x-abcde", 2, time.Hour, 0), ended(kindPod, "old-y-abcde", 25, time.Hour, 0)}
	for i, p := range a.desk.facts.(finished) { // of nobody
		for j, tag := range p.Tags {
			if tag.Key == schema.WorkloadKind || tag.Key == schema.Workload {
				a.desk.facts.(finished)[i].Tags[j].Value = ""
			}
		}
	}
	if err := a.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := a.told(t)
	if got := subjects(all); got != "edge-a/batch/Pod/old-y-abcde" || !strings.Contains(strings.Join(all[0].Data.Report.Notes, " "), "provisional") {
		t.Fatalf("told of %s: %+v", got, all)
	}
	a.engine.open = false
	a.restart(t) // it looks again at once
	if err := a.Tick(t.Context()); err != nil || subjects(a.told(t)) != "edge-a/batch/Pod/old-y-abcde edge-a/batch/Pod/job-x-abcde" {
		t.Errorf("told of %s, %v", subjects(a.told(t)), err)
	}
}

// TestRunsAreToldAgainUntilAnswered: without an answer an event is sent again, later; a
// refused one is kept and sent when somebody says so.
func TestRunsAreToldAgainUntilAnswered(t *testing.T) {
	a := newAnnounced(t)
	a.hook.status = http.StatusServiceUnavailable
	if err := a.Tick(t.Context()); err == nil || len(a.hook.bodies) != 1 {
		t.Fatalf("a webhook that is away: asked %d times, %v", len(a.hook.bodies), err)
	}
	a.hook.status = http.StatusForbidden
	a.clock.Advance(5 * time.Minute)
	if err := a.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, err := a.books.RunEvents(t.Context(), now)
	if err != nil || len(events) != 3 || events[0].State != registry.EventRefused || events[0].Attempts != 2 || !strings.HasPrefix(events[0].Error, "403") {
		t.Fatalf("%+v, %v", events, err)
	}
	if err := a.Tick(t.Context()); err != nil || len(a.hook.bodies) != 4 {
		t.Errorf("what was refused: asked %d times, %v", len(a.hook.bodies), err)
	}
	a.hook.status = http.StatusOK
	if n, err := a.books.RetryEvents(t.Context(), now.Add(-72*time.Hour)); err != nil || n != 3 {
		t.Errorf("retried %d, %v", n, err)
	}
	if err := a.Tick(t.Context()); err != nil || len(a.hook.bodies) != 7 {
		t.Errorf("asked %d times, %v", len(a.hook.bodies), err)
	}
	if events, err = a.books.RunEvents(t.Context(), now); err != nil || len(events) != 0 {
		t.Errorf("%+v, %v", events, err)
	}
}

// TestGroupsEndTogether: a group is told of when its last pod has ended and it has been
// quiet, and what ends later of it is told of by itself.
func TestGroupsEndTogether(t *testing.T) {
	a := newAnnounced(t)
	a.desk.facts = finished{ended(kindPod, "a", 5, time.Hour, 0), ended(kindPod, "b", 4, time.Hour, 1)}
	life := func(from, to float64) schema.Window {
		return schema.Window{From: now.Add(-time.Duration(from * float64(time.Hour))), To: now.Add(-time.Duration(to * float64(time.Hour)))}
	}
	a.engine.pods = map[string]schema.Window{"a": life(6, 5), "b": life(5, 4), "c": life(4, 0)} // c still runs
	tick := func(want string) {
		t.Helper()
		if err := a.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := subjects(a.told(t)); got != want {
			t.Fatalf("told of %q, want %q", got, want)
		}
	}
	tick("")
	a.desk.facts = append(a.desk.facts.(finished), ended(kindPod, "c", 1, time.Hour, 0))
	tick("Group/batch=big")
	group := a.told(t)[0].Data
	if len(group.Report.Runs) != 3 || !group.Failed || group.Kind != kindGroup || group.Report.Failures != 1 || !strings.Contains(group.HTML, "group=batch%3Dbig") {
		t.Errorf("%+v", group)
	}
	a.engine.pods["d"] = life(1, 0.5)
	a.restart(t)
	tick("Group/batch=big")
	a.desk.facts = append(a.desk.facts.(finished), ended(kindPod, "d", 0.5, time.Hour/2, 0))
	tick("Group/batch=big Group/batch=big")
	if again := a.told(t)[1]; len(again.Data.Report.Runs) != 1 || again.ID == a.told(t)[0].ID {
		t.Errorf("%+v", again)
	}
}

func TestAnnounceConfig(t *testing.T) {
	for _, bad := range []AnnounceConfig{{URL: "hook"}, {URL: "ftp://a/b"}, {URL: "https://me:secret@a/b"}, {URL: "https://a", PublicURL: "a"}, {Lookback: -1}, {Lookback: 1000 * time.Hour}, {GroupLabel: "a,b"}} {
		err := bad.Validate()
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := (AnnounceConfig{URL: "https://hooks.example/runs", PublicURL: "https://acc.example", GroupLabel: "example.com/batch"}).Validate(); err != nil {
		t.Error(err)
	}
}
