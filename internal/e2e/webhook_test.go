package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader"
	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/accumulus-metering/accumulus/leader/events"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// What the receiver of a webhook does with what it is told.
const (
	away   = "away"   // it answers 503
	losing = "losing" // it takes it, and its answer is lost
	taking = "taking"
)

// told is an event as a receiver of webhooks has it.
type told struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Type    string `json:"type"`
	Data    struct {
		Cluster, Namespace, Resource string
		Quantity                     json.Number
		From                         time.Time
		Name, Kind                   string
		Report                       struct{ Runs []json.RawMessage }
	} `json:"data"`
}

// receiver is where webhooks lead: /runs, /budgets and /usage.
type receiver struct {
	mu     sync.Mutex
	does   string
	asked  map[string]int             // how often, by id
	bodies map[string]string          // by id
	acked  map[string]map[string]told // by path and id: taken, and its answer was sent
	wrong  []string
}

func newReceiver(does string) *receiver {
	return &receiver{does: does, asked: map[string]int{}, bodies: map[string]string{}, acked: map[string]map[string]told{"/runs": {}, "/budgets": {}, "/usage": {}}}
}

func (r *receiver) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	acked := r.acked[request.URL.Path]
	all := []json.RawMessage{body}
	if bytes.HasPrefix(body, []byte("[")) && err == nil {
		err = json.Unmarshal(body, &all)
	}
	if err != nil || acked == nil {
		r.wrong = append(r.wrong, fmt.Sprint(request.URL.Path, " ", err))
		return
	}
	for _, one := range all {
		var event told
		if err := json.Unmarshal(one, &event); err != nil || event.ID == "" {
			r.wrong = append(r.wrong, fmt.Sprintf("%s: %v %s", request.URL.Path, err, one))
		}
		if _, again := acked[event.ID]; again {
			r.wrong = append(r.wrong, fmt.Sprintf("told again of what was acknowledged: %s", one))
		}
		if before := r.bodies[event.ID]; before != "" && before != string(one) {
			r.wrong = append(r.wrong, fmt.Sprintf("another event with the same id: %s, before %s", one, before))
		}
		r.asked[event.ID]++
		r.bodies[event.ID] = string(one)
		if r.does == taking {
			acked[event.ID] = event
		}
	}
	switch r.does {
	case away:
		out.WriteHeader(http.StatusServiceUnavailable)
	case losing:
		panic(http.ErrAbortHandler)
	}
}

// now changes what it does.
func (r *receiver) now(does string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.does = does
}

// often is how many events it was told of, and how often of one at most.
func (r *receiver) often() (events, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.asked {
		most = max(most, n)
	}
	return len(r.asked), most
}

// TestWebhooks: a running leader tells of runs, budgets and usage. A receiver that is
// away at first, and whose first answers are lost, has each event in the end, under one
// id; what it has acknowledged it is not told again, over two starts of the leader.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	hooks := newReceiver(away)
	server := httptest.NewServer(hooks)
	t.Cleanup(server.Close)
	w := newWorld(t, simulator.Shared(start), at(begins), time.Minute)
	c := w.centre
	restart := func() {
		t.Helper()
		w.check(c.stop())
		c.start()
	}
	c.adjust = func(config *leader.Config) {
		config.Announce = ahead.AnnounceConfig{URL: server.URL + "/runs", PublicURL: "https://acc.example"}
		config.Events = events.Config{URL: server.URL + "/usage", Schedule: "7,27,47 * * * *"}
	}
	c.more = 2
	restart()
	w.apply(fleet.NewObject("azure-pilot", fleet.Budget{Customer: "azure", Amount: "0.0001", Currency: "EUR", Thresholds: []fleet.Threshold{{Percent: 80}, {Percent: 100}},
		Webhook: &fleet.Webhook{URL: server.URL + "/budgets"}}))
	w.up()

	c.loose = 1 // who sends usage waits a second and more between attempts
	w.run(at(100 * time.Minute))
	if n, most := hooks.often(); n < 1 || most < 2 { // how often depends on the pace of a sender that waits
		t.Errorf("a receiver that is away was told of %d events, of one %d times", n, most)
	}
	hooks.now(losing)
	w.run(at(120 * time.Minute))
	w.check(c.stop())
	hooks.now(taking)
	c.loose = 0
	c.start()
	w.run(at(150 * time.Minute))
	restart()
	w.run(at(180 * time.Minute))
	w.drain()

	for _, wrong := range hooks.wrong {
		t.Error(wrong)
	}
	t.Run("runs", func(t *testing.T) { checkRunsTold(t, w, hooks) })
	t.Run("usage", func(t *testing.T) { checkUsageTold(t, w, hooks) })
	if n := len(hooks.acked["/budgets"]); n != 2 {
		t.Errorf("%d thresholds of the budget were told, want 2", n)
	}
	// The control: one that is told again is seen.
	for id := range hooks.acked["/runs"] {
		answer, err := server.Client().Post(server.URL+"/runs", "application/cloudevents+json", strings.NewReader(hooks.bodies[id]))
		w.check(err)
		w.check(answer.Body.Close())
		break
	}
	if len(hooks.wrong) != 1 || !strings.Contains(hooks.wrong[0], "acknowledged") {
		t.Errorf("what was sent once more is not seen: %q", hooks.wrong)
	}
}

// checkRunsTold: what was told are the Jobs that ended, each once, with its pod.
func checkRunsTold(t *testing.T, w *world, hooks *receiver) {
	t.Helper()
	names := make(map[string]int)
	for id, event := range hooks.acked["/runs"] {
		names[event.Subject]++
		if event.Type != ahead.RunType || event.Data.Kind != "Job" || len(event.Data.Report.Runs) != 1 {
			t.Errorf("%s: %s", id, hooks.bodies[id])
		}
	}
	ended := 0
	for _, p := range read(t, w.centre.database(schema.FactsDB), schema.Run.Name, "") {
		if p.Tag(schema.Kind) != "Job" {
			continue
		}
		subject := strings.Join([]string{p.Tag(schema.Cluster), p.Tag(schema.Namespace), "Job", p.Tag("name")}, "/")
		switch n := names[subject]; {
		case n > 1, n == 0 && p.Time.Before(at(170*time.Minute)):
			t.Errorf("%s ended at %s and was told %d times", subject, p.Time, n)
		case n == 1:
			ended++
		}
	}
	if ended < 15 || ended != len(names) {
		t.Errorf("%d Jobs ended, %d were told", ended, len(names))
	}
}

// checkUsageTold: what was told of an hour adds up to what the API says of it, and
// nothing waits or was refused.
func checkUsageTold(t *testing.T, w *world, hooks *receiver) {
	t.Helper()
	counts, err := w.centre.leader.Registry().EventCounts(t.Context())
	if err != nil || counts[registry.EventPending] != 0 || counts[registry.EventRefused] != 0 {
		t.Errorf("events by state: %v, %v", counts, err)
	}
	sums := make(map[string]float64)
	for id, event := range hooks.acked["/usage"] {
		quantity, err := event.Data.Quantity.Float64()
		if err != nil || event.Type != events.Type {
			t.Fatalf("%s: %s", id, hooks.bodies[id])
		}
		if event.Data.Resource == "cpu_used" {
			sums[fmt.Sprint(event.Data.From, event.Subject, event.Data.Cluster, event.Data.Namespace)] += quantity * 3600
		}
	}
	seen := 0
	for _, hour := range (schema.Window{From: start, To: start.Add(2 * time.Hour)}).Split(time.Hour) {
		for _, r := range w.usage(t, hour, "customer,cluster,namespace") {
			want := r.CPUCoreSeconds.Float()
			if r.Key["cluster"] == schema.BoxCluster || want == 0 || r.Key["customer"] == "" {
				continue
			}
			id := fmt.Sprint(hour.From, r.Key["customer"], r.Key["cluster"], r.Key["namespace"])
			if math.Abs(sums[id]-want) > 1e-3 {
				t.Errorf("%s: told of %f core-seconds, the API says %f", id, sums[id], want)
			}
			seen++
		}
	}
	if seen < 8 {
		t.Errorf("only %d sums were compared", seen)
	}
}
