package fleet

import (
	"regexp"
	"time"
)

// PriceSeries is where dynamic prices are read by HTTP, as JSON: a list of objects
// that each have a beginning and a price. What is read is kept under the object's
// name, which the rates' dynamic.series name.
type PriceSeries struct {
	Name      string   `json:"-"`
	URL       string   `json:"url"`
	TokenFile string   `json:"tokenFile,omitempty"` // sent as a bearer token
	CAFile    string   `json:"caFile,omitempty"`    // PEM; "" = the system's roots
	Interval  Duration `json:"interval,omitzero"`   // 0 = 15m

	Items string `json:"items,omitempty"` // path of the list, such as data.prices; "" = the answer itself
	From  string `json:"from"`            // path of the beginning within an item: RFC 3339, or Unix seconds or milliseconds
	To    string `json:"to,omitempty"`    // path of the end; "" = Slot after the beginning
	Price string `json:"price"`           // path of the price within an item: a number or its text
	// Slot is how long a price holds where To is "": 0 = 1h.
	Slot Duration `json:"slot,omitzero"`
	// Factor turns the source's unit into the price list's: 0.001 for a price of a
	// MWh. "" = 1.
	Factor Decimal `json:"factor,omitempty"`
}

// KindPriceSeries is the kind of PriceSeries.
const KindPriceSeries Kind = "PriceSeries"

// Kind is KindPriceSeries.
func (PriceSeries) Kind() Kind { return KindPriceSeries }

func (s PriceSeries) named(name string) Spec  { s.Name = name; return s }
func (s PriceSeries) references() []reference { return nil }

// SlotOrDefault is how long a price without an end holds.
func (s PriceSeries) SlotOrDefault() time.Duration {
	if s.Slot == 0 {
		return time.Hour
	}
	return time.Duration(s.Slot)
}

var pathForm = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (s PriceSeries) check(report reporter) {
	checkURL(report, s.URL)
	for field, path := range map[string]string{"items": s.Items, "from": s.From, "to": s.To, "price": s.Price} {
		switch {
		case path == "" && (field == "from" || field == "price"):
			report(field, "is empty: name the field of an item, such as starts_at")
		case path != "" && !pathForm.MatchString(path):
			report(field, "%q is no path such as data.prices", path)
		}
	}
	if d := time.Duration(s.Interval); d < 0 || d > 0 && d < time.Minute || d > 24*time.Hour {
		report("interval", "%s is not between 1m and 24h", d)
	}
	if d := time.Duration(s.Slot); d < 0 || d%(15*time.Minute) != 0 || d > 24*time.Hour {
		report("slot", "%s is no multiple of 15m up to 24h", d)
	}
	if s.Slot != 0 && s.To != "" {
		report("slot", "is for prices without an end: leave it or to out")
	}
	if s.Factor != "" {
		c := converter{}
		if value := c.decimal("factor", s.Factor); value == nil || value.IsZero() || value.Negative {
			report("factor", "%q is no number above 0", s.Factor)
		}
	}
}

// AllSeries are all price series, by name.
func (f *Fleet) AllSeries() []PriceSeries { return f.series.all() }
