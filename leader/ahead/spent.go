package ahead

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/forecast"
)

// Amount is money that is to be spent in a period.
type Amount struct {
	Value    *big.Rat
	Currency string
}

// parseAmount reads an amount as a user writes it: 500 EUR. Errors: *usage.InputError.
func parseAmount(text string) (*Amount, error) {
	if text == "" {
		return nil, nil
	}
	number, currency, ok := strings.Cut(strings.TrimSpace(text), " ")
	value, isNumber := new(big.Rat).SetString(number)
	if currency = strings.ToUpper(currency); !ok || !isNumber || strings.ContainsAny(number, "/eE") || value.Sign() <= 0 || !processors.KnownCurrency(currency) {
		return nil, usage.Wrong("amount", text, "write an amount above 0 and its currency (ISO 4217), such as 500 EUR")
	}
	return &Amount{value, currency}, nil
}

// spentBy is when the cost of a period will have reached an amount: P50 is the first
// hour at whose end the P50 of the cost has, P10 (early) that of the P90, and P90 (late)
// that of the P10. Each is null where that is not before the period's end. hours is how
// long the period goes on.
func (a Amount) spentBy(s forecast.Series, spent *big.Rat, end time.Time, hours float64) (Moments, error) {
	rest, err := nanosOf(new(big.Rat).Sub(a.Value, spent))
	if err != nil {
		return Moments{}, err
	}
	of := make(map[int]forecast.Forecast) // by hours ahead
	first := func(reached func(forecast.Forecast) bool) (*time.Time, error) {
		told := func(ahead int) (bool, error) {
			f, known := of[ahead]
			if !known {
				if f, err = forecast.Of(s, float64(ahead)); err != nil {
					return false, err
				}
				of[ahead] = f
			}
			return reached(f), nil
		}
		low, high := 0, int(hours) // reached after high, not after low
		if yes, err := told(high); !yes || err != nil {
			return nil, err // not in this period
		}
		for high-low > 1 {
			yes, err := told((low + high) / 2)
			switch {
			case err != nil:
				return nil, err
			case yes:
				high = (low + high) / 2
			default:
				low = (low + high) / 2
			}
		}
		at := end.Add(time.Duration(high) * time.Hour)
		return &at, nil
	}
	var m Moments
	if int(hours) < 1 {
		return m, nil
	}
	if m.P50, err = first(func(f forecast.Forecast) bool { return f.P50 >= rest }); err != nil {
		return m, err
	}
	if m.P10, err = first(func(f forecast.Forecast) bool { return f.Interval && f.P90 >= rest }); err != nil {
		return m, err
	}
	m.P90, err = first(func(f forecast.Forecast) bool { return f.Interval && f.P10 >= rest })
	return m, err
}

// wasSpent is the end of the hour in which the cost of a period reached an amount.
func (d *Desk) wasSpent(ctx context.Context, q Question, key map[string]string, from, end time.Time) (Moments, error) {
	filter := append([]usage.Condition{}, q.Filter...)
	for _, k := range q.Aggregate {
		filter = append(filter, usage.Condition{Key: k, Values: []string{key[string(k)]}})
	}
	sum := new(big.Rat)
	for _, w := range (schema.Window{From: from, To: end}).Split(24 * time.Hour) {
		all, err := d.engine.Charges(ctx, query.ChargeRequest{Window: w, Step: time.Hour, Filter: filter})
		if err != nil {
			return Moments{}, fmt.Errorf("read %s by the hour: %w", w, err)
		}
		for _, c := range all {
			if cost := costsOf(c)[q.Amount.Currency]; cost != nil {
				sum.Add(sum, cost)
			}
			if sum.Cmp(q.Amount.Value) >= 0 {
				at := c.Row.To
				return Moments{&at, &at, &at}, nil
			}
		}
	}
	return Moments{}, nil
}
