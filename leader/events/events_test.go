package events

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/prometheus/client_golang/prometheus"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// engine has one hour's charges.
type engine struct {
	microseconds int64 // of CPU, from 10 to 11 o'clock
	customer     string
	provisional  bool
}

func (e *engine) Settled(context.Context) (time.Time, error) { return noon.Add(3 * time.Minute), nil }

func (e *engine) Charges(_ context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	at := noon.Add(-2 * time.Hour)
	if !request.Window.Contains(at) || e.microseconds == 0 {
		return nil, nil
	}
	list := fleet.PriceList{Name: "standard", Currency: "EUR"}
	price := new(big.Rat).Mul(big.NewRat(3, 100), big.NewRat(1, processors.CPUUsed.Base()))
	return []query.Charges{{Row: query.Row{Key: map[string]string{"customer": e.customer, "cluster": "ams-03", "namespace": "shop"}, From: at, To: at.Add(time.Hour), Provisional: e.provisional},
		Lines: []query.Charge{{Resource: processors.CPUUsed, Quantity: e.microseconds, List: &list, Price: "0.03", UnitPrice: price}}}}, nil
}

// receiver adds up as a meter does: an id that it knows is forgotten.
type receiver struct {
	mu     sync.Mutex
	known  map[string]bool
	sums   map[string]*big.Rat // by subject
	answer func(n int) int     // status of the nth request; 0 is taken and not answered
	asked  int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, _ := io.ReadAll(request.Body)
	var list []cloudEvent
	if strings.HasPrefix(string(body), "[") {
		_ = json.Unmarshal(body, &list)
	} else {
		list = make([]cloudEvent, 1)
		_ = json.Unmarshal(body, &list[0])
	}
	r.asked++
	status := http.StatusNoContent
	if r.answer != nil {
		status = r.answer(r.asked)
	}
	if status == 0 || status < 300 {
		for _, e := range list {
			if r.known[e.ID] {
				continue
			}
			r.known[e.ID] = true
			if r.sums[e.Subject] == nil {
				r.sums[e.Subject] = new(big.Rat)
			}
			quantity, _ := new(big.Rat).SetString(string(e.Data.Quantity))
			r.sums[e.Subject].Add(r.sums[e.Subject], quantity)
		}
	}
	if status == 0 {
		status = http.StatusBadGateway
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "no such meter")
}

func (r *receiver) sum(subject string) string {
	if r.sums[subject] == nil {
		return ""
	}
	return r.sums[subject].FloatString(6)
}

type fixture struct {
	*Sender
	engine   *engine
	receiver *receiver
	books    *registry.Registry
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	clk := clock.NewManual(noon)
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	f := &fixture{engine: &engine{microseconds: 3_600_000_000, customer: "acme"}, receiver: &receiver{known: map[string]bool{}, sums: map[string]*big.Rat{}}, books: books}
	server := httptest.NewServer(f.receiver)
	t.Cleanup(server.Close)
	f.Sender, err = New(Config{URL: server.URL}, f.engine, books, server.Client(), hurried{clk}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// hurried is a clock on which nobody waits.
type hurried struct{ *clock.Manual }

func (h hurried) Sleep(ctx context.Context, d time.Duration) error {
	h.Advance(d)
	return ctx.Err()
}

func (f *fixture) counts(t *testing.T) string {
	t.Helper()
	counts, err := f.books.EventCounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d sent %d pending %d refused", counts[registry.EventSent], counts[registry.EventPending], counts[registry.EventRefused])
}

// TestSums: whatever is rated again, sent twice or lost on its way, the receiver's
// sums are what is rated.
func TestSums(t *testing.T) {
	f := newFixture(t)
	lost := false
	f.receiver.answer = func(int) int { // the first request of each run is taken, and its answer lost
		if lost = !lost; lost {
			return 0
		}
		return 204
	}
	for _, step := range []struct {
		microseconds int64
		customer     string
		want         map[string]string
	}{
		{3_600_000_000, "acme", map[string]string{"acme": "1.000000"}},
		{3_600_000_000, "acme", map[string]string{"acme": "1.000000"}}, // nothing to tell
		{1_800_000_000, "acme", map[string]string{"acme": "0.500000"}},
		{7_200_000_000, "acme", map[string]string{"acme": "2.000000"}},
		{7_200_000_000, "globex", map[string]string{"acme": "0.000000", "globex": "2.000000"}}, // the namespace changed hands
		{0, "globex", map[string]string{"acme": "0.000000", "globex": "0.000000"}},
	} {
		f.engine.microseconds, f.engine.customer = step.microseconds, step.customer
		if err := f.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		for subject, want := range step.want {
			if got := f.receiver.sum(subject); got != want {
				t.Errorf("after %+v, %s has %s", step, subject, got)
			}
		}
	}
	if got := f.counts(t); got != "2 sent 0 pending 0 refused" {
		t.Errorf("state: %s", got)
	}
}

// TestWaits: what may still change is not told.
func TestWaits(t *testing.T) {
	f := newFixture(t)
	f.engine.provisional = true
	if err := f.Tick(t.Context()); err != nil || f.receiver.asked != 0 {
		t.Errorf("%v, %d requests", err, f.receiver.asked)
	}
	f.engine.provisional = false
	if err := f.Tick(t.Context()); err != nil || f.receiver.sum("acme") != "1.000000" {
		t.Errorf("%v, sum %s", err, f.receiver.sum("acme"))
	}
}

// TestRefused: a 4xx is kept and shown, and not sent again until somebody says so
// or its value changes.
func TestRefused(t *testing.T) {
	f := newFixture(t)
	f.receiver.answer = func(int) int { return http.StatusUnprocessableEntity }
	for range 3 {
		if err := f.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refused, err := f.books.Events(t.Context(), registry.EventRefused, 10)
	if err != nil || len(refused) != 1 || !strings.Contains(refused[0].Error, "422") || !strings.Contains(refused[0].Error, "no such meter") || f.receiver.asked != 1 {
		t.Fatalf("%v, %+v, %d requests", err, refused, f.receiver.asked)
	}
	f.receiver.answer = nil
	if n, err := f.books.RetryEvents(t.Context(), time.Unix(0, 0)); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if err := f.Tick(t.Context()); err != nil || f.receiver.sum("acme") != "1.000000" {
		t.Errorf("%v, sum %s", err, f.receiver.sum("acme"))
	}
}

// TestNoAnswer: a receiver that is away is asked a few times and again in the next
// run, with the same id.
func TestNoAnswer(t *testing.T) {
	f := newFixture(t)
	f.receiver.answer = func(int) int { return http.StatusServiceUnavailable }
	if err := f.Tick(t.Context()); err == nil || f.receiver.asked != attempts {
		t.Errorf("%v after %d requests", err, f.receiver.asked)
	}
	if got := f.counts(t); got != "0 sent 1 pending 0 refused" {
		t.Errorf("state: %s", got)
	}
	f.engine.microseconds *= 2 // what is on its way is told first
	f.receiver.answer = nil
	for range 2 {
		if err := f.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if f.receiver.sum("acme") != "2.000000" || len(f.receiver.known) != 2 {
		t.Errorf("sum %s of %d events", f.receiver.sum("acme"), len(f.receiver.known))
	}
}

// TestBatch: of several events one that is refused holds back no other.
func TestBatch(t *testing.T) {
	f := newFixture(t)
	var values []registry.EventValue
	for i := range 3 {
		values = append(values, registry.EventValue{EventKey: registry.EventKey{Customer: "acme", Cluster: fmt.Sprint("c", i), Resource: "cpu_used", Currency: "EUR", Bucket: noon}, Quantity: 3_600_000_000, Cost: "0.03"})
	}
	if err := f.books.PlanEvents(t.Context(), nil, values); err != nil {
		t.Fatal(err)
	}
	f.receiver.answer = func(n int) int { // the batch, then the second by itself
		if n == 1 || n == 3 {
			return http.StatusBadRequest
		}
		return 204
	}
	if err := f.Send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.counts(t); got != "2 sent 0 pending 1 refused" || f.receiver.sum("acme") != "2.000000" {
		t.Errorf("state: %s, sum %s", got, f.receiver.sum("acme"))
	}
}

// TestID: an id depends on each part and on nothing else.
func TestID(t *testing.T) {
	e := registry.Event{EventKey: registry.EventKey{Customer: "a", Cluster: "b", Namespace: "c", Resource: "d", Currency: "EUR", Bucket: noon}}
	other := e
	if other.Quantity, other.Cost = 5, "1"; ID(e) != ID(other) {
		t.Error("the id depends on the value")
	}
	for _, change := range []func(*registry.Event){
		func(e *registry.Event) { e.Customer = "x" }, func(e *registry.Event) { e.Cluster = "x" }, func(e *registry.Event) { e.Namespace = "x" },
		func(e *registry.Event) { e.Resource = "x" }, func(e *registry.Event) { e.Revision = 1 }, func(e *registry.Event) { e.Bucket = noon.Add(time.Hour) },
		func(e *registry.Event) { e.Customer, e.Cluster = "ab", "" },
	} {
		other = e
		if change(&other); ID(e) == ID(other) {
			t.Errorf("%+v has the id of %+v", other, e)
		}
	}
}
