package fleet

import (
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
)

// Budget is an amount that the cost of a calendar month is held against.
type Budget struct {
	Name      string  `json:"-"`
	Customer  string  `json:"customer,omitempty"` // what it is of: all that are named must hold; none is the whole fleet
	Project   string  `json:"project,omitempty"`
	Cluster   string  `json:"cluster,omitempty"`
	Namespace string  `json:"namespace,omitempty"`
	Amount    Decimal `json:"amount"`
	Currency  string  `json:"currency"`         // ISO 4217; cost in others does not count
	Period    string  `json:"period,omitempty"` // month, also where it is ""
	// Zone is the time zone of its months: IANA; "" is the customer's, else UTC.
	Zone       string      `json:"zone,omitempty"`
	Thresholds []Threshold `json:"thresholds,omitempty"`
	Webhook    *Webhook    `json:"webhook,omitempty"` // is told when a threshold is passed
}

// Threshold is passed once in a period.
type Threshold struct {
	Percent int    `json:"percent"`      // of the amount
	On      string `json:"of,omitempty"` // actual, also where it is "", or forecast: P50 of the period's end
}

// Webhook is where something is told.
type Webhook struct {
	URL        string `json:"url"`
	SecretFile string `json:"secretFile,omitempty"` // its content signs the body, HMAC-SHA256
	TokenFile  string `json:"tokenFile,omitempty"`  // sent as a bearer token
}

// What thresholds are on.
const (
	OnActual   = "actual"
	OnForecast = "forecast"
	monthly    = "month"
)

// KindBudget is the kind of Budget.
const KindBudget Kind = "Budget"

// Kind is KindBudget.
func (Budget) Kind() Kind { return KindBudget }

func (b Budget) named(name string) Spec { b.Name = name; return b }

func (b Budget) references() []reference {
	var all []reference
	if b.Customer != "" {
		all = append(all, reference{"customer", KindCustomer, b.Customer})
	}
	if b.Cluster != "" {
		all = append(all, reference{"cluster", KindCluster, b.Cluster})
	}
	return all
}

func (b Budget) check(report reporter) {
	c := converter{}
	if value := c.decimal("amount", b.Amount); value == nil || value.IsZero() || value.Negative {
		report("amount", "%q is no amount above 0", b.Amount)
	}
	if !processors.KnownCurrency(b.Currency) {
		report("currency", "%q is no currency of ISO 4217, such as EUR", b.Currency)
	}
	if b.Period != "" && b.Period != monthly {
		report("period", "%q is not month", b.Period)
	}
	if _, err := time.LoadLocation(b.Zone); err != nil || b.Zone == "Local" {
		report("zone", "%q is no IANA time zone such as Europe/Amsterdam", b.Zone)
	}
	for field, value := range map[string]string{"project": b.Project, "namespace": b.Namespace, "customer": b.Customer, "cluster": b.Cluster} {
		if strings.ContainsAny(value, "*,") {
			report(field, "%q is no exact name", value)
		}
	}
	seen := make(map[Threshold]bool)
	for _, t := range b.Thresholds {
		t.On = t.OnOrDefault()
		switch {
		case t.Percent < 1 || t.Percent > 1000:
			report("thresholds", "%d is no percentage from 1 to 1000", t.Percent)
		case t.On != OnActual && t.On != OnForecast:
			report("thresholds", "%q is neither actual nor forecast", t.On)
		case seen[t]:
			report("thresholds", "%d %% on %s is there twice", t.Percent, t.On)
		}
		seen[t] = true
	}
	if b.Webhook != nil {
		checkURL(func(field, format string, args ...any) { report("webhook."+field, format, args...) }, b.Webhook.URL)
	}
}

// OnOrDefault is what the threshold is on.
func (t Threshold) OnOrDefault() string {
	if t.On == "" {
		return OnActual
	}
	return t.On
}

// Budgets are all budgets, by name.
func (f *Fleet) Budgets() []Budget { return f.budgets.all() }
