package ahead

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors/forecast"
)

// historyDays is how far back forecasts look: five weeks.
const historyDays = 35

// history is what was used by the hour, at the prices to come.
type history struct {
	from    time.Time
	hours   int
	keys    map[string]*past
	unknown []bool // hours in which no node was metered that the caller may have something on
	assumed []string
}

// past is a key's hours.
type past struct {
	key    map[string]string
	values map[string][]int64 // by measure
	costs  map[string][]int64 // 1e-9 by currency
	first  int                // the first hour with something
	carbon bool               // CO2e of all of its energy is known
}

// history reads the hours up to end, day by day.
func (d *Desk) history(ctx context.Context, q Question, end time.Time, coming schema.Window) (*history, error) {
	h := &history{from: end.AddDate(0, 0, -historyDays), hours: historyDays * 24, keys: make(map[string]*past)}
	h.unknown = make([]bool, h.hours)
	for i := range h.unknown {
		h.unknown[i] = true
	}
	for day := range historyDays {
		w := schema.Window{From: h.from.AddDate(0, 0, day), To: h.from.AddDate(0, 0, day+1)}
		metered, err := d.engine.Metered(ctx, w, time.Hour)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", w, err)
		}
		for _, hour := range metered {
			h.unknown[h.at(hour)] = false
		}
		if len(metered) == 0 {
			continue
		}
		all, assumed, err := d.engine.ChargesAhead(ctx, query.ChargeRequest{Window: w, Step: time.Hour, Aggregate: q.Aggregate, Filter: q.Filter, Figures: true}, coming)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", w, err)
		}
		h.assumed = assumed
		for _, c := range all {
			if err := h.add(c, q.Aggregate); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

func (h *history) at(t time.Time) int { return int(t.Sub(h.from) / time.Hour) }

func (h *history) add(c query.Charges, keys []usage.Key) error {
	id, hour := keyOf(c.Row, keys), h.at(c.Row.From)
	one := h.keys[id]
	if one == nil {
		one = &past{key: c.Row.Key, values: make(map[string][]int64), costs: make(map[string][]int64), first: hour, carbon: true}
		h.keys[id] = one
	}
	for _, m := range measures {
		value, err := m.of(c)
		if err != nil {
			return err
		}
		put(one.values, m.name, h.hours, hour, value)
	}
	if energy, _ := c.Row.Sums.Energy(); energy != 0 && !c.CarbonKnown {
		one.carbon = false
	}
	for currency, cost := range costsOf(c) {
		nanos, err := nanosOf(cost)
		if err != nil {
			return err
		}
		put(one.costs, currency, h.hours, hour, nanos)
	}
	return nil
}

func put(series map[string][]int64, name string, hours, at int, value int64) {
	if series[name] == nil {
		series[name] = make([]int64, hours)
	}
	series[name][at] = value
}

// series is a key's hours from its first on.
func (h *history) series(values []int64, first int) forecast.Series {
	return forecast.Series{Values: values[first:], Unknown: h.unknown[first:]}
}

// nano is what costs by the hour are rounded to.
var nano = big.NewRat(1_000_000_000, 1)

// nanosOf is an amount in 1e-9 of its currency, rounded half away from zero.
func nanosOf(amount *big.Rat) (int64, error) {
	text := new(big.Rat).Mul(amount, nano).FloatString(0)
	whole, ok := new(big.Int).SetString(text, 10)
	if !ok || !whole.IsInt64() {
		return 0, usage.ErrOverflow
	}
	return whole.Int64(), nil
}
