package ahead

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/internal/webhook"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// BudgetState is how a budget stands in the present period.
type BudgetState struct {
	Budget   string    `json:"budget"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Zone     string    `json:"zone"`
	Amount   string    `json:"amount"`
	Currency string    `json:"currency"`
	Actual   string    `json:"actual"`   // spent so far
	Forecast string    `json:"forecast"` // P50 of the period's end
	P10      *string   `json:"p10"`      // null, as p90, where no interval is known
	P90      *string   `json:"p90"`
	// ActualShare and ForecastShare are of the amount, 1 is all of it.
	ActualShare   float64 `json:"actualShare"`
	ForecastShare float64 `json:"forecastShare"`
	// SpentBy is when all of it is spent: p10 is early, p90 late. One that is null is not
	// in this period, or not known.
	SpentBy Moments                `json:"spentBy"`
	Other   []string               `json:"otherCurrencies,omitempty"` // in which there is cost that does not count
	Alerts  []registry.BudgetAlert `json:"alerts"`                    // of this period
}

// BudgetStates are those of all budgets.
type BudgetStates struct {
	Items []BudgetState `json:"items"`
}

// AlertBooks note what was told of budgets: *registry.Registry.
type AlertBooks interface {
	NoteAlert(ctx context.Context, a registry.BudgetAlert) (bool, error)
	AnswerAlert(ctx context.Context, a registry.BudgetAlert) error
	BudgetAlerts(ctx context.Context, since time.Time) ([]registry.BudgetAlert, error)
}

// Budgeter holds cost against budgets and tells when thresholds are passed.
type Budgeter struct {
	desk   *Desk
	books  AlertBooks
	client *http.Client
	clock  clock.Clock
	log    *slog.Logger
	share  *prometheus.GaugeVec
	passed *prometheus.CounterVec
}

// NewBudgeter makes a budgeter.
func NewBudgeter(desk *Desk, books AlertBooks, client *http.Client, clk clock.Clock, log *slog.Logger, registerer prometheus.Registerer) (*Budgeter, error) {
	b := &Budgeter{desk: desk, books: books, client: client, clock: clk, log: log,
		share:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "accumulus_budget_share_ratio", Help: "Part of a budget that is spent (on=actual), or will be by the period's end (on=forecast, P50)."}, []string{"budget", "on"}),
		passed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_budget_alerts_total", Help: "Thresholds of budgets that were passed, and what came of telling it."}, []string{"result"})}
	for _, collector := range []prometheus.Collector{b.share, b.passed} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics of budgets: %w", err)
		}
	}
	return b, nil
}

// States are how all budgets stand, or inside a scope those of which all lies in it.
// What a webhook answered is not told there. Errors: ErrNothing, and those of the engine.
func (b *Budgeter) States(ctx context.Context) (BudgetStates, error) {
	states, _, err := b.states(ctx)
	return states, err
}

func (b *Budgeter) states(ctx context.Context) (BudgetStates, []fleet.Budget, error) {
	states := BudgetStates{Items: []BudgetState{}}
	f, err := b.desk.books.Fleet(ctx, b.clock.Now())
	if err != nil {
		return states, nil, fmt.Errorf("read fleet: %w", err)
	}
	budgets := f.Budgets()
	for _, budget := range budgets {
		if !query.Covers(ctx, budget.Customer, budget.Cluster, budget.Namespace) {
			continue
		}
		state, err := b.state(ctx, budget)
		if err != nil {
			return states, nil, fmt.Errorf("budget %s: %w", budget.Name, err)
		}
		states.Items = append(states.Items, state)
	}
	return states, budgets, nil
}

func (b *Budgeter) state(ctx context.Context, budget fleet.Budget) (BudgetState, error) {
	q := Question{Until: "month", Zone: budget.Zone}
	for key, value := range map[usage.Key]string{usage.Customer: budget.Customer, usage.Project: budget.Project, usage.Cluster: budget.Cluster, usage.Namespace: budget.Namespace} {
		if value != "" {
			q.Filter = append(q.Filter, usage.Condition{Key: key, Values: []string{value}})
		}
	}
	amount, ok := new(big.Rat).SetString(string(budget.Amount))
	if !ok || amount.Sign() <= 0 {
		return BudgetState{}, fmt.Errorf("amount %q is no amount above 0", budget.Amount)
	}
	q.Amount = &Amount{amount, budget.Currency}
	forecasts, err := b.desk.Forecast(ctx, q)
	if err != nil {
		return BudgetState{}, err
	}
	state := BudgetState{Budget: budget.Name, Zone: q.Zone, Amount: string(budget.Amount), Currency: budget.Currency, Actual: "0", Forecast: "0", Alerts: []registry.BudgetAlert{}}
	if state.From, state.To, state.Zone, err = b.desk.month(ctx, q, forecasts); err != nil {
		return state, err
	}
	for _, row := range forecasts.Rows {
		for _, cost := range row.Costs {
			if cost.Currency != budget.Currency {
				state.Other = append(state.Other, cost.Currency)
				continue
			}
			state.Actual, state.Forecast, state.P10, state.P90 = cost.SoFar, cost.P50, cost.P10, cost.P90
			if cost.SpentBy != nil {
				state.SpentBy = *cost.SpentBy
			}
		}
	}
	state.ActualShare, state.ForecastShare = shareOf(state.Actual, amount), shareOf(state.Forecast, amount)
	alerts, err := b.books.BudgetAlerts(ctx, state.From)
	for _, a := range alerts {
		if a.Budget == budget.Name && a.Period.Equal(state.From) {
			if query.Scoped(ctx) {
				a.Error = ""
			}
			state.Alerts = append(state.Alerts, a)
		}
	}
	return state, err
}

// month is the month that a forecast is of, also where it has no rows.
func (d *Desk) month(ctx context.Context, q Question, f Forecasts) (from, to time.Time, zone string, err error) {
	snapshot, err := d.books.Fleet(ctx, f.Settled)
	if err != nil {
		return from, to, zone, fmt.Errorf("read fleet: %w", err)
	}
	periods, err := q.periods(snapshot, f.Settled)
	if err != nil {
		return from, to, zone, err
	}
	p := periods[""]
	return p.From, p.To, p.zone, nil
}

func shareOf(spent string, amount *big.Rat) float64 {
	value, ok := new(big.Rat).SetString(spent)
	if !ok {
		return 0
	}
	share, _ := value.Quo(value, amount).Float64()
	return share
}

// reached says whether a cost has reached a percentage of the amount, exactly.
func reached(spent, amount string, percent int) bool {
	cost, okCost := new(big.Rat).SetString(spent)
	all, okAll := new(big.Rat).SetString(amount)
	return okCost && okAll && cost.Cmp(all.Mul(all, big.NewRat(int64(percent), 100))) >= 0
}

// alertBody is what a webhook is told.
type alertBody struct {
	Type    string      `json:"type"`
	ID      string      `json:"id"` // the same of each attempt
	Percent int         `json:"percent"`
	On      string      `json:"of"`
	At      time.Time   `json:"at"`
	Budget  BudgetState `json:"budget"`
}

// Tick looks which thresholds are passed, notes each once a period, and tells the
// webhooks what is pending.
func (b *Budgeter) Tick(ctx context.Context) error {
	states, budgets, err := b.states(ctx)
	if errors.Is(err, ErrNothing) {
		return nil
	}
	if err != nil {
		return err
	}
	b.share.Reset()
	hooks := make(map[string]*fleet.Webhook, len(budgets))
	for i, budget := range budgets {
		state := states.Items[i]
		hooks[budget.Name] = budget.Webhook
		b.share.WithLabelValues(budget.Name, fleet.OnActual).Set(state.ActualShare)
		b.share.WithLabelValues(budget.Name, fleet.OnForecast).Set(state.ForecastShare)
		for _, threshold := range budget.Thresholds {
			if err := b.note(ctx, budget, state, threshold); err != nil {
				return err
			}
		}
	}
	return b.tell(ctx, hooks)
}

func (b *Budgeter) note(ctx context.Context, budget fleet.Budget, state BudgetState, threshold fleet.Threshold) error {
	on, spent := threshold.OnOrDefault(), state.Actual
	if on == fleet.OnForecast {
		spent = state.Forecast
	}
	if !reached(spent, state.Amount, threshold.Percent) {
		return nil
	}
	alert := registry.BudgetAlert{Budget: budget.Name, Period: state.From, Percent: threshold.Percent, On: on, State: registry.AlertNoted, At: b.clock.Now().UTC()}
	if budget.Webhook != nil {
		alert.State = registry.EventPending
	}
	state.Alerts = []registry.BudgetAlert{}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %s %d %s", alert.Budget, alert.Period.UTC().Format(time.RFC3339), alert.Percent, on))
	body, err := json.Marshal(alertBody{Type: "accumulus.budget.threshold", ID: hex.EncodeToString(sum[:]), Percent: alert.Percent, On: on, At: alert.At, Budget: state})
	if err != nil {
		return err
	}
	alert.Body = string(body)
	fresh, err := b.books.NoteAlert(ctx, alert)
	if err == nil && fresh {
		b.passed.WithLabelValues("passed").Inc()
		b.log.Warn("budget passed a threshold", "budget", budget.Name, "percent", threshold.Percent, "on", on, "spent", spent, "amount", state.Amount, "currency", state.Currency)
	}
	return err
}

// longestWait is between two attempts to tell a webhook.
const longestWait = 6 * time.Hour

// tell tells the webhooks what is pending and due. One that refuses is not told again.
func (b *Budgeter) tell(ctx context.Context, hooks map[string]*fleet.Webhook) error {
	now := b.clock.Now()
	alerts, err := b.books.BudgetAlerts(ctx, now)
	if err != nil {
		return err
	}
	for _, a := range alerts {
		hook := hooks[a.Budget]
		if a.State != registry.EventPending || a.Next.After(now) || hook == nil {
			continue
		}
		a.Attempts++
		refusal, err := b.post(ctx, *hook, []byte(a.Body))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		came := cameOf(refusal, err, a.Attempts, now)
		a.State, a.Error, a.Next = came.state, came.said, came.next
		b.passed.WithLabelValues(came.result).Inc()
		if err := b.books.AnswerAlert(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// backoff is how long after an attempt the next one is made: two minutes after the
// first, then twice as long each time.
func backoff(attempts int) time.Duration {
	return min(longestWait, time.Minute<<min(attempts, 20))
}

// outcome is what came of telling a webhook.
type outcome struct {
	result, state, said string
	next                time.Time // of another attempt
}

// cameOf is the outcome of an attempt: what was not answered is told again, later and
// later; what was refused is not.
func cameOf(refusal string, err error, attempts int, now time.Time) outcome {
	switch {
	case err != nil:
		return outcome{"failed", registry.EventPending, err.Error(), now.Add(backoff(attempts))}
	case refusal != "":
		return outcome{"refused", registry.EventRefused, refusal, now}
	}
	return outcome{"sent", registry.EventSent, "", now}
}

// SignatureHeader has "sha256=" and the body's HMAC-SHA256 in hex.
const SignatureHeader = "X-Accumulus-Signature"

// post sends one body; refusal is the answer of a 4xx.
func (b *Budgeter) post(ctx context.Context, hook fleet.Webhook, body []byte) (refusal string, err error) {
	header := map[string]string{"Content-Type": "application/json"}
	if hook.SecretFile != "" {
		secret, err := os.ReadFile(hook.SecretFile)
		if err != nil {
			return "", fmt.Errorf("read secret of the webhook: %w", err)
		}
		mac := hmac.New(sha256.New, bytes.TrimSpace(secret))
		_, _ = mac.Write(body) // a hash returns no error
		header[SignatureHeader] = "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	return webhook.Post(ctx, b.client, webhook.Request{URL: hook.URL, TokenFile: hook.TokenFile, Header: header, Body: body, Said: 300})
}
