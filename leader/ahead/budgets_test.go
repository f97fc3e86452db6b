package ahead

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// hook is a webhook that remembers what it was told.
type hook struct {
	status int
	bodies []string
	signed bool
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	mac := hmac.New(sha256.New, []byte("secret"))
	_, _ = mac.Write(body)
	h.signed = r.Header.Get(SignatureHeader) == "sha256="+hex.EncodeToString(mac.Sum(nil))
	h.bodies = append(h.bodies, string(body))
	w.WriteHeader(h.status)
	_, _ = io.WriteString(w, "told")
}

// budgeter is one of a budget of 180 EUR a month: acme spends 0.10 an hour for each of
// four cores, 0.4 · 540 h = 216 so far, 0.4 · 720 h = 288 at the end.
func budgeter(t *testing.T, h *hook, amount string) (*Budgeter, *registry.Registry, *clock.Manual) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u := &usedBy{since: now.AddDate(0, 0, -33), cores: map[string]float64{"acme": 4, "zeta": 100}, ahead: big.NewRat(1, 10)}
	u.objects = []fleet.Object{{Kind: fleet.KindBudget, Metadata: fleet.Metadata{Name: "b"}, Spec: fleet.Budget{Customer: "acme", Amount: fleet.Decimal(amount), Currency: "EUR",
		Thresholds: []fleet.Threshold{{Percent: 80}, {Percent: 100}, {Percent: 100, On: fleet.OnForecast}}, Webhook: &fleet.Webhook{URL: server.URL, SecretFile: secret}}}}
	clk := clock.NewManual(now)
	books, err := registry.Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), clk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	b, err := NewBudgeter(desk(u), books, server.Client(), clk, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return b, books, clk
}

// TestBudgetsTellOnce: of a budget of 250, 80 % are passed and the forecast passes all
// of it, each told once, signed; a restart tells nothing again.
func TestBudgetsTellOnce(t *testing.T) {
	h := &hook{status: 200}
	b, books, _ := budgeter(t, h, "250")
	for range 3 {
		if err := b.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.bodies) != 2 || !h.signed {
		t.Fatalf("told %d times, signed %v: %v", len(h.bodies), h.signed, h.bodies)
	}
	var told alertBody
	if err := json.Unmarshal([]byte(h.bodies[1]), &told); err != nil || told.Percent != 100 || told.On != fleet.OnForecast || told.Budget.Actual != "216.00" || told.Budget.Forecast != "288.00" {
		t.Errorf("%+v, %v", told, err)
	}
	again, err := NewBudgeter(b.desk, books, b.client, b.clock, b.log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Tick(t.Context()); err != nil || len(h.bodies) != 2 {
		t.Errorf("after a restart told %d times, %v", len(h.bodies), err)
	}
	states, err := again.States(t.Context())
	if err != nil || len(states.Items) != 1 || len(states.Items[0].Alerts) != 2 || states.Items[0].Alerts[0].State != registry.EventSent || states.Items[0].ForecastShare != 1.152 {
		t.Errorf("%+v, %v", states, err)
	}
}

// TestBudgetsTryAgain: without an answer an alert is told again, later and later; a
// refusal is kept.
func TestBudgetsTryAgain(t *testing.T) {
	h := &hook{status: 503}
	b, books, clk := budgeter(t, h, "230")
	for range 3 {
		if err := b.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.bodies) != 2 {
		t.Fatalf("without time passing told %d times", len(h.bodies))
	}
	clk.Advance(2*time.Minute + time.Second)
	h.status = 410
	if err := b.Tick(t.Context()); err != nil || len(h.bodies) != 4 || h.bodies[0] != h.bodies[2] {
		t.Fatalf("told %d times, %v", len(h.bodies), err)
	}
	clk.Advance(48 * time.Hour)
	if err := b.Tick(t.Context()); err != nil || len(h.bodies) != 4 {
		t.Errorf("a refused alert was told again: %d, %v", len(h.bodies), err)
	}
	alerts, err := books.BudgetAlerts(t.Context(), now.AddDate(0, -1, 0))
	if err != nil || len(alerts) != 2 || alerts[0].State != registry.EventRefused || alerts[0].Error != "410 Gone: told" || alerts[0].Attempts != 2 {
		t.Errorf("%+v, %v", alerts, err)
	}
}

func TestReachedIsExact(t *testing.T) {
	if !reached("80", "100", 80) || reached("79.999999999", "100", 80) || !reached("0.3", "0.1", 300) {
		t.Error("a threshold is not exact")
	}
}
