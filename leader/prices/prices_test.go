package prices

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var noon = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func TestParseSlots(t *testing.T) {
	for mediaType, text := range map[string]string{
		"application/json": `{"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"0.21"},{"from":"2026-11-03T14:00:00+01:00","to":"2026-11-03T14:15:00+01:00","price":-0.05}]}`,
		"text/csv":         "from,to,price\n2026-11-03T12:00:00Z,2026-11-03T13:00:00Z,0.21\n2026-11-03T14:00:00+01:00,2026-11-03T14:15:00+01:00,-0.05\n",
	} {
		slots, err := ParseSlots(mediaType, []byte(text))
		if err != nil {
			t.Errorf("%s: %v", mediaType, err)
			continue
		}
		if len(slots) != 2 || !slots[1].From.Equal(noon.Add(time.Hour)) || slots[0].Value.Text('f') != "0.21" || slots[1].Value.Text('f') != "-0.05" {
			t.Errorf("%s: %+v", mediaType, slots)
		}
	}
	for want, text := range map[string]string{
		"there is none":  `{"slots":[]}`,
		"no column":      "from,price\n",
		"slot 1: from":   "from,to,price\nnoon,2026-11-03T13:00:00Z,1\n",
		"whole quarters": "from,to,price\n2026-11-03T12:10:00Z,2026-11-03T13:00:00Z,1\n",
		"is empty":       "from,to,price\n2026-11-03T13:00:00Z,2026-11-03T13:00:00Z,1\n",
		"no decimal":     "from,to,price\n2026-11-03T12:00:00Z,2026-11-03T13:00:00Z,cheap\n",
		"longer than":    "from,to,price\n2026-11-03T12:00:00Z,2027-11-03T13:00:00Z,1\n",
		"unknown field":  `{"slots":[{"start":"2026-11-03T12:00:00Z"}]}`,
		"more than 18":   `{"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"1e-30"}]}`,
	} {
		if _, err := ParseSlots("", []byte(text)); !errors.Is(err, ErrSlots) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func FuzzParseSlots(f *testing.F) {
	f.Add("", "from,to,price\n2026-11-03T12:00:00Z,2026-11-03T13:00:00Z,1\n")
	f.Add("application/json", `{"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":1e3}]}`)
	f.Fuzz(func(t *testing.T, mediaType, text string) {
		slots, err := ParseSlots(mediaType, []byte(text))
		if err != nil && !errors.Is(err, ErrSlots) {
			t.Fatal(err)
		}
		for _, slot := range slots {
			if err := make(rating.Series).Put(slot.From, slot.To, slot.Value); err != nil {
				t.Fatal(err)
			}
		}
	})
}

const openCost = `EndTimestamp,InstanceID,Region,AssetClass,InstanceIDField,InstanceType,MarketPriceHourly,Version
2028-01-06 23:34:45 UTC,,us-east-2,node,metadata.labels.node.kubernetes.io/instance-type,g4dn.xlarge,5.55,
2028-01-06 23:34:45 UTC,,us-east-2,node,metadata.labels.node.kubernetes.io/instance-type,g4dn.xlarge,5.56,
2028-01-06 23:34:45 UTC,,,pv,metadata.name,Gold Disk,0.0044,
2028-01-06 23:34:45 UTC,,,gpu,gpu.nvidia.com/class,Quadro_RTX_4000,0.24,
2028-01-06 23:34:45 UTC,,,cluster,,,0.1,
`

func TestImportOpenCost(t *testing.T) {
	got, err := ImportOpenCost([]byte(openCost), "opencost", "USD")
	if err != nil {
		t.Fatal(err)
	}
	list := got.Object.Spec.(fleet.PriceList)
	want := []fleet.Rate{
		{Resource: "node_hours", Price: "5.56", Match: &fleet.PriceMatch{Hardware: "g4dn.xlarge", Region: "us-east-2"}},
		{Resource: "volume_claimed:gold-disk", Price: "0.0044"}, {Resource: "extended:nvidia.com/gpu", Price: "0.24"}}
	if diff := cmp.Diff(want, list.Rates); diff != "" {
		t.Error(diff)
	}
	if len(got.Skipped) != 1 || !strings.Contains(got.Skipped[0], `row 6: AssetClass "cluster"`) || !cmp.Equal(got.Hardware, []string{"g4dn.xlarge"}) {
		t.Errorf("skipped %v, hardware %v", got.Skipped, got.Hardware)
	}
	for want, text := range map[string]string{"no column": "a,b\n", "header": "", "no row": "AssetClass,MarketPriceHourly\nnode,1\n"} {
		if _, err := ImportOpenCost([]byte(text), "x", "USD"); !errors.Is(err, ErrOpenCost) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzImportOpenCost(f *testing.F) {
	f.Add(openCost)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := ImportOpenCost([]byte(text), "x", "USD"); err != nil && !errors.Is(err, ErrOpenCost) {
			t.Fatal(err)
		}
	})
}

// books hold one series and remember what is stored.
type books struct {
	fleet *fleet.Fleet
	slots []registry.PriceSlot
}

func (b *books) Fleet(context.Context, time.Time) (*fleet.Fleet, error) { return b.fleet, nil }

func (b *books) PutPrices(_ context.Context, series, _ string, slots []registry.PriceSlot) (int, error) {
	b.slots = append(b.slots, slots...)
	return len(slots), nil
}

func TestLoop(t *testing.T) {
	asked, status := 0, http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("asked with %q", r.Header.Get("Authorization"))
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"data":{"prices":[{"start":1793707200,"eur":{"mwh":81.25}},{"start":"2026-11-03T13:00:00Z","eur":{"mwh":"-4"}}]}}`)
	}))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	series := fleet.PriceSeries{URL: server.URL, TokenFile: token, Items: "data.prices", From: "start", Price: "eur.mwh", Factor: "0.001"}
	if problems := fleet.CheckAlone(fleet.NewObject("spot", series)); len(problems) > 0 {
		t.Fatal(problems)
	}
	b := &books{fleet: fleet.New(noon, []fleet.Object{fleet.NewObject("spot", series)})}
	loop, err := NewLoop(Config{}, b, http.DefaultClient, clock.NewManual(noon), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	tick := func(minutes int) Status {
		if err := loop.Tick(t.Context(), noon.Add(time.Duration(minutes)*time.Minute)); err != nil {
			t.Fatal(err)
		}
		return loop.Status()["spot"]
	}
	if s := tick(0); s.Error != "" || !s.Newest.Equal(noon.Add(2*time.Hour)) {
		t.Errorf("status %+v", s)
	}
	if len(b.slots) != 2 || b.slots[0].Value.Text('f') != "0.08125" || !b.slots[0].From.Equal(noon) || b.slots[1].Value.Text('f') != "-0.004" {
		t.Errorf("stored %+v", b.slots)
	}
	if tick(14); asked != 1 {
		t.Errorf("asked %d times within its interval", asked)
	}
	status = http.StatusServiceUnavailable
	if s := tick(15); !strings.Contains(s.Error, "503") || len(b.slots) != 2 {
		t.Errorf("a source that fails: %+v", s)
	}
	for want, body := range map[string]string{"no JSON": "<html>", "no list": `{"data":1}`, "item 1: there is no price": `{"data":{"prices":[{"start":1}]}}`,
		"item 1: there is no time": `{"data":{"prices":[{"eur":{"mwh":1}}]}}`, "is no time": `{"data":{"prices":[{"start":"noon","eur":{"mwh":1}}]}}`} {
		if _, err := ParseAnswer(series, []byte(body)); !errors.Is(err, ErrSlots) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// charger charges acme 10 core-hours at the list's price, EUR 1 without one.
type charger struct{}

func (charger) Bills(_ context.Context, w schema.Window, lists []fleet.Object) ([]query.Charged, error) {
	list := fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "1", Cost: "0.4"}}}
	if len(lists) > 0 {
		list = lists[0].Spec.(fleet.PriceList)
	}
	compilable, err := list.Rating("v")
	if err != nil {
		return nil, err
	}
	plan, err := rating.Compile(compilable, "acme", nil)
	if err != nil {
		return nil, err
	}
	result, err := plan.Charges(rating.Input{Period: w, Usage: []rating.Usage{{Quantities: processors.Quantities{processors.CPUUsed: 10 * 3_600_000_000}}}})
	return []query.Charged{{Customer: "acme", Currency: "EUR", Result: result}}, err
}

func TestSimulate(t *testing.T) {
	w := schema.Window{From: noon, To: noon.Add(24 * time.Hour)}
	got, err := Simulate(t.Context(), charger{}, w, []fleet.Object{fleet.NewObject("x", fleet.PriceList{Currency: "EUR", Minimum: "20", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "1.5", Cost: "0.4"}}})})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got)
	want := `{"from":"2026-11-03T12:00:00Z","to":"2026-11-04T12:00:00Z","customers":[{"customer":"acme","currency":"EUR","before":"10.00","after":"20.00","change":"10.00","profitBefore":"6.00","profitAfter":"16.00","partial":false}],` +
		`"totals":[{"customer":"","currency":"EUR","before":"10.00","after":"20.00","change":"10.00","profitBefore":"6.00","profitAfter":"16.00","partial":false}]}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}
