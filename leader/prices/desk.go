package prices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// Desk answers what people ask about prices. It is safe for concurrent use.
type Desk struct {
	registry *registry.Registry
	engine   *query.Engine
	clock    clock.Clock
}

// NewDesk makes a desk.
func NewDesk(books *registry.Registry, engine *query.Engine, clk clock.Clock) *Desk {
	return &Desk{registry: books, engine: engine, clock: clk}
}

// ErrSeries is a name that no series can have.
var ErrSeries = errors.New("no name of a series: use lower-case letters, digits, '-' and '.'")

// Pushed is what a push did.
type Pushed struct {
	Series  string `json:"series"`
	Slots   int    `json:"slots"`
	Changed int    `json:"changed"` // quarters that are new or have another price
	// Unused: no price list of now names the series.
	Unused bool `json:"unused,omitempty"`
}

// Push stores slots of a series. Errors: ErrSeries, ErrSlots.
func (d *Desk) Push(ctx context.Context, series, mediaType string, body []byte) (Pushed, error) {
	if !fleet.SeriesForm(series) {
		return Pushed{}, fmt.Errorf("%.40q: %w", series, ErrSeries)
	}
	slots, err := ParseSlots(mediaType, body)
	if err != nil {
		return Pushed{}, err
	}
	changed, err := d.registry.PutPrices(ctx, series, "pushed", slots)
	if err != nil {
		return Pushed{}, err
	}
	f, err := d.registry.Fleet(ctx, d.clock.Now())
	if err != nil {
		return Pushed{}, err
	}
	used := slices.ContainsFunc(f.PriceLists(), func(p fleet.PriceList) bool { return slices.Contains(p.Series(), series) })
	return Pushed{Series: series, Slots: len(slots), Changed: changed, Unused: !used}, nil
}

// Ahead is what is known of the prices of the coming time.
type Ahead struct {
	From      time.Time     `json:"from"` // the start of the present quarter
	To        time.Time     `json:"to"`
	Series    []AheadSeries `json:"series"` // what may be the operator's cost: not for tenants
	TimeOfUse []AheadTariff `json:"timeOfUse"`
	Carbon    []AheadGrid   `json:"carbon"`
	// Prices are what is charged, of a customer that was asked for or of who asks.
	Prices []AheadPrices `json:"prices"`
}

// AheadSeries is a series with the slots that are known; a part of the time that
// lies in none has no price yet.
type AheadSeries struct {
	Series string `json:"series"`
	Slots  []Slot `json:"slots"`
}

// AheadTariff is the slots of a price list's time of use.
type AheadTariff struct {
	List  string       `json:"list"`
	Slots []TariffSlot `json:"slots"`
}

// TariffSlot is a named slot from From to To.
type TariffSlot struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Slot string    `json:"slot"`
}

// Ahead is what is known of the coming hours, with what a customer is charged where one
// is named. Inside a scope it is what is charged of what lies in it, and no more.
func (d *Desk) Ahead(ctx context.Context, hours int, customer string) (Ahead, error) {
	w := schema.Window{From: d.clock.Now().UTC().Truncate(schema.Quarter)}
	w.To = w.From.Add(time.Duration(hours) * time.Hour)
	ahead := Ahead{From: w.From, To: w.To, Series: []AheadSeries{}, TimeOfUse: []AheadTariff{}, Carbon: []AheadGrid{}, Prices: []AheadPrices{}}
	if query.Scoped(ctx) {
		return ahead, d.charged(ctx, &ahead, customer)
	}
	names, err := d.registry.SeriesNames(ctx)
	if err != nil {
		return ahead, err
	}
	all, err := d.registry.PriceSeries(ctx, names, w)
	if err != nil {
		return ahead, err
	}
	for _, name := range names {
		ahead.Series = append(ahead.Series, AheadSeries{Series: name, Slots: slotsOf(all[name], w)})
	}
	f, err := d.registry.Fleet(ctx, w.From)
	if err != nil {
		return ahead, err
	}
	if _, ok := f.Customer(customer); customer != "" && !ok {
		return ahead, usage.Wrong("customer", customer, "there is none of that name: `accumulus get customers` lists them")
	}
	if ahead.Carbon, err = d.gridsAhead(ctx, f.Grids(), w); err != nil {
		return ahead, err
	}
	for _, list := range f.PriceLists() {
		if list.TimeOfUse == nil {
			continue
		}
		compilable, err := list.Rating(list.Name)
		if err != nil {
			return ahead, err
		}
		plan, err := rating.Compile(compilable, "", nil)
		if err != nil {
			return ahead, err
		}
		ahead.TimeOfUse = append(ahead.TimeOfUse, AheadTariff{List: list.Name, Slots: tariffOf(plan, w)})
	}
	if customer != "" {
		return ahead, d.charged(ctx, &ahead, customer)
	}
	return ahead, nil
}

// slotsOf are the known quarters, neighbours of one price as one slot.
func slotsOf(series rating.Series, w schema.Window) []Slot {
	slots := []Slot{}
	for _, quarter := range w.Split(schema.Quarter) {
		price := series[quarter.From]
		if price == nil {
			continue
		}
		slots = joined(slots, quarter, price.Text('f'))
	}
	return slots
}

func tariffOf(plan *rating.Plan, w schema.Window) []TariffSlot {
	slots := []TariffSlot{}
	for _, quarter := range w.Split(schema.Quarter) {
		slot := plan.SlotAt(quarter.From).Tariff
		if last := len(slots) - 1; last >= 0 && slots[last].Slot == slot {
			slots[last].To = quarter.To
			continue
		}
		slots = append(slots, TariffSlot{From: quarter.From, To: quarter.To, Slot: slot})
	}
	return slots
}

// Simulate is Simulate of the price lists among the objects, over a period such as
// 2026-10 or a window. Errors: *query.InputError of the period, fleet.Problems of the
// lists.
func (d *Desk) Simulate(ctx context.Context, period string, objects []fleet.Object) (Simulation, error) {
	settled, err := d.engine.Settled(ctx)
	if err != nil {
		return Simulation{}, err
	}
	w, err := usage.ParseWindow(period, settled)
	if err != nil {
		return Simulation{}, usage.Wrong("period", period, "use a month such as 2026-10, or a window such as lastmonth, of ten years at most")
	}
	var problems fleet.Problems
	for _, o := range objects {
		if o.Kind != fleet.KindPriceList {
			problems = append(problems, fleet.Problem{Object: o.String(), Field: "kind", Message: "only price lists are simulated: leave it out"})
		}
		problems = append(problems, fleet.CheckAlone(o)...)
	}
	if len(objects) == 0 {
		problems = append(problems, fleet.Problem{Object: "file", Field: "kind", Message: "holds no PriceList"})
	}
	if len(problems) > 0 {
		return Simulation{}, problems
	}
	return Simulate(ctx, d.engine, w, objects)
}

// History is the changes of a price list, the newest first: who, when and why.
// Errors: registry.ErrNotFound.
func (d *Desk) History(ctx context.Context, list string) ([]registry.AuditEntry, error) {
	entries, err := d.registry.AuditOf(ctx, fleet.KindPriceList, list)
	if err == nil && len(entries) == 0 {
		err = fmt.Errorf("price list %q: %w", list, registry.ErrNotFound)
	}
	return entries, err
}
