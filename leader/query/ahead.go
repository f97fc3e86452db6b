package query

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

const (
	oneDay   = 24 * time.Hour
	lookBack = 7 * oneDay // for the last known price of an hour of the day
)

// ChargesAhead is Charges at the prices of a window to come: what was used, each
// quarter of an hour at the price of the quarter of the same hour of the week in that
// window, or of the same hour of the day where the window is shorter than that. The
// price lists are those that hold at the window's start. Of a dynamic price that is
// not known yet the last known price of that hour of the day within a week counts;
// the second result says of which series that were needed, and from when on. Errors:
// those of Usage.
func (e *Engine) ChargesAhead(ctx context.Context, request ChargeRequest, coming schema.Window) ([]Charges, []string, error) {
	if coming.Length() <= 0 {
		return nil, nil, fmt.Errorf("charges ahead: the time from %s to %s is empty", coming.From.Format(time.RFC3339), coming.To.Format(time.RFC3339))
	}
	question := Request{Aggregate: request.Aggregate, Step: request.Step, Filter: request.Filter}
	table, err := e.read(ctx, &tally{moved: request.Moved, coming: coming, as: request.Hardware, figures: request.Figures}, question, request.Window, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	all, err := chargesOf(table, request)
	if err != nil {
		return nil, nil, err
	}
	return all, table.pricing.assumptions(), nil
}

// costsAt is the moment whose prices hold for what was used at a moment.
func (t *tally) costsAt(at time.Time) time.Time {
	if t.coming.Length() <= 0 {
		return at
	}
	if t.moved {
		return t.coming.From.Add(at.Sub(t.window.From))
	}
	from := t.coming.From.UTC().Truncate(schema.Quarter)
	for _, period := range []time.Duration{lookBack, oneDay} {
		shifted := from.Add(((at.Sub(from) % period) + period) % period)
		if shifted.Before(t.coming.To) {
			return shifted
		}
	}
	return from
}

// pricedAt is the slices with the price lists of a moment in place of their own.
func (e *Engine) pricedAt(ctx context.Context, parts []slice, at time.Time) ([]slice, error) {
	objects, err := e.registry.Objects(ctx)
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	var laid []fleet.Object
	lists := ""
	for _, o := range objects {
		switch {
		case o.Kind != fleet.KindPriceList:
			laid = append(laid, o)
		case o.ValidAt(at):
			laid = append(laid, o.Since(time.Time{}).Until(time.Time{}))
			lists += fmt.Sprintf("%q %d ", o.Name(), o.ValidFrom.UnixNano())
		}
	}
	if kept, known := e.priced[lists]; known {
		return kept, nil
	}
	priced := make([]slice, len(parts))
	for i, part := range parts {
		priced[i] = slice{part.Window, fleet.New(part.From, laid)}
	}
	if e.priced != nil {
		e.priced[lists] = priced
	}
	return priced, nil
}

// assumptions are what was assumed of the series that the lists in use name.
func (p *pricing) assumptions() []string {
	told := make(map[string]bool)
	for of := range p.lists {
		for _, list := range of.fleet.PriceLists() {
			if list.Name != of.name {
				continue
			}
			for _, series := range list.Series() {
				if note := p.assumed[series]; note != "" {
					told[note] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(told))
}

// assume fills the quarters of a window of which no price is known with the last
// known price of the same hour of the day, and notes it.
func (p *pricing) assume(coming schema.Window) {
	for name, series := range p.series {
		var first time.Time
		for at := coming.From.UTC().Truncate(schema.Quarter); at.Before(coming.To); at = at.Add(schema.Quarter) {
			if series[at] != nil {
				continue
			}
			for back := oneDay; back <= lookBack; back += oneDay {
				if price := series[at.Add(-back)]; price != nil {
					series[at] = price
					break
				}
			}
			if first.IsZero() {
				first = at
			}
		}
		if !first.IsZero() {
			p.assumed[name] = fmt.Sprintf("prices of the series %s are not known from %s on: the last known price of each hour of the day is assumed", name, first.Format(time.RFC3339))
		}
	}
}
