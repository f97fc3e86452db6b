package prices

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors/rating"
	"github.com/cockroachdb/apd/v3"
)

// Charger rates billing periods: *query.Engine.
type Charger interface {
	Bills(ctx context.Context, w schema.Window, lists []fleet.Object) ([]query.Charged, error)
}

// Amounts are a customer's period before and with the lists that were simulated, in
// one currency. Decimals.
type Amounts struct {
	Customer string `json:"customer"`
	Currency string `json:"currency"`
	Before   string `json:"before"`
	After    string `json:"after"`
	Change   string `json:"change"`
	// Profit is revenue less the operator's cost, of the lines whose cost is known:
	// the operator's alone. Partial says that a line has no cost price.
	ProfitBefore string `json:"profitBefore"`
	ProfitAfter  string `json:"profitAfter"`
	Partial      bool   `json:"partial"`
}

// Simulation is what a period would have been.
type Simulation struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Customers []Amounts `json:"customers"`
	Totals    []Amounts `json:"totals"` // by currency; without a customer
}

// Simulate compares a period at the prices that hold with the same at lists laid over
// them. Nothing is stored.
func Simulate(ctx context.Context, charger Charger, w schema.Window, lists []fleet.Object) (Simulation, error) {
	before, err := charger.Bills(ctx, w, nil)
	if err != nil {
		return Simulation{}, fmt.Errorf("rate the period as it is: %w", err)
	}
	after, err := charger.Bills(ctx, w, lists)
	if err != nil {
		return Simulation{}, fmt.Errorf("rate the period with the new prices: %w", err)
	}
	customers, totals := make(sums), make(sums)
	for side, charged := range [2][]query.Charged{before, after} {
		for _, one := range charged {
			for _, to := range []*sum{customers.of(one.Customer, one.Currency), totals.of("", one.Currency)} {
				if err := to.add(side, one.Result.Lines); err != nil {
					return Simulation{}, err
				}
			}
		}
	}
	simulation := Simulation{From: w.From, To: w.To}
	if simulation.Customers, err = customers.amounts(); err != nil {
		return Simulation{}, err
	}
	simulation.Totals, err = totals.amounts()
	return simulation, err
}

// sum is the revenue and the operator's cost of both sides.
type sum struct {
	revenue, cost [2]apd.Decimal
	partial       bool
}

type sums map[[2]string]*sum

func (s sums) of(customer, currency string) *sum {
	key := [2]string{customer, currency}
	if s[key] == nil {
		s[key] = &sum{}
	}
	return s[key]
}

var exactly = apd.BaseContext.WithPrecision(60)

func (s *sum) add(side int, lines []rating.Line) error {
	revenue, err := rating.Total(lines)
	if err != nil {
		return err
	}
	cost, known, err := rating.OperatorTotal(lines)
	if err != nil {
		return err
	}
	s.partial = s.partial || !known
	if _, err := exactly.Add(&s.revenue[side], &s.revenue[side], &revenue); err != nil {
		return err
	}
	_, err = exactly.Add(&s.cost[side], &s.cost[side], &cost)
	return err
}

func (s sums) amounts() ([]Amounts, error) {
	all := make([]Amounts, 0, len(s))
	for key, one := range s {
		a := Amounts{Customer: key[0], Currency: key[1], Before: one.revenue[0].Text('f'), After: one.revenue[1].Text('f'), Partial: one.partial}
		for _, difference := range []struct {
			to   *string
			a, b *apd.Decimal
		}{{&a.Change, &one.revenue[1], &one.revenue[0]}, {&a.ProfitBefore, &one.revenue[0], &one.cost[0]}, {&a.ProfitAfter, &one.revenue[1], &one.cost[1]}} {
			var d apd.Decimal
			if _, err := exactly.Sub(&d, difference.a, difference.b); err != nil {
				return nil, err
			}
			*difference.to = d.Text('f')
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b Amounts) int {
		return cmp.Or(cmp.Compare(a.Customer, b.Customer), cmp.Compare(a.Currency, b.Currency))
	})
	return all, nil
}
