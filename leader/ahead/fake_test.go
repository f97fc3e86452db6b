package ahead

import (
	"context"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

var now = time.Date(2026, 11, 23, 12, 20, 0, 0, time.UTC)

// usedBy is what customers use in each hour: core-µs. A CPU hour costs 0.10 EUR, and
// ahead the price that ahead says.
type usedBy struct {
	since   time.Time
	cores   map[string]float64 // by customer
	outage  schema.Window
	ahead   *big.Rat
	objects []fleet.Object

	requested float64 // cores
}

func (u *usedBy) Remember(ctx context.Context) context.Context { return ctx }

func (u *usedBy) Settled(context.Context) (time.Time, error) { return now, nil }

func (u *usedBy) Fleet(_ context.Context, at time.Time) (*fleet.Fleet, error) {
	return fleet.New(at, u.objects), nil
}

func (u *usedBy) Charges(_ context.Context, request query.ChargeRequest) ([]query.Charges, error) {
	return u.charges(request, big.NewRat(1, 10)), nil
}

func (u *usedBy) ChargesAhead(_ context.Context, request query.ChargeRequest, _ schema.Window) ([]query.Charges, []string, error) {
	return u.charges(request, u.ahead), []string{"spot is assumed"}, nil
}

func (u *usedBy) ChargesStarts(ctx context.Context, request query.ChargeRequest, coming []schema.Window) (all [][]query.Charges, notes []string, err error) {
	return startsOf(ctx, u, request, coming)
}

// startsOf asks for each of the coming windows.
func startsOf(ctx context.Context, of interface {
	ChargesAhead(context.Context, query.ChargeRequest, schema.Window) ([]query.Charges, []string, error)
}, request query.ChargeRequest, coming []schema.Window) (all [][]query.Charges, notes []string, err error) {
	for _, w := range coming {
		charges, assumed, err := of.ChargesAhead(ctx, request, w)
		if err != nil {
			return nil, nil, err
		}
		all, notes = append(all, charges), assumed
	}
	return all, notes, nil
}

// Metered are the hours in which somebody used something.
func (u *usedBy) Metered(_ context.Context, w schema.Window, step time.Duration) (hours []time.Time, _ error) {
	for _, c := range u.charges(query.ChargeRequest{Window: w, Step: step}, u.ahead) {
		hours = append(hours, c.Row.From)
	}
	return hours, nil
}

// Whole says that all is the caller's but what is named canary.
func (u *usedBy) Whole(ctx context.Context, _ schema.Window, filter []usage.Condition) (bool, error) {
	return !query.Scoped(ctx) || !slices.ContainsFunc(filter, func(c usage.Condition) bool { return strings.Contains(c.Values[0], "canary") }), nil
}

func (u *usedBy) charges(request query.ChargeRequest, price *big.Rat) []query.Charges {
	steps := []schema.Window{request.Window}
	if request.Step > 0 {
		steps = request.Window.Split(request.Step)
	}
	var all []query.Charges
	for _, step := range steps {
		for customer, cores := range u.cores {
			if !usage.KeepsAll(request.Filter, usage.Customer, customer) {
				continue
			}
			seconds := step.Length().Seconds() - u.outage.Overlap(step.From, step.To).Seconds() - max(0, min(u.since.Sub(step.From), step.Length())).Seconds()
			if seconds <= 0 {
				continue
			}
			row := query.Row{Key: map[string]string{}, From: step.From, To: step.To}
			if len(request.Aggregate) > 0 {
				row.Key["customer"] = customer
			}
			row.Sums[usage.CPU] = int64(cores * 1e6 * seconds)
			row.Sums[usage.CPURequest] = int64(u.requested * 1e6 * seconds)
			row.Sums[usage.EnergyActive] = int64(cores * 10_000 * seconds)
			all = append(all, query.Charges{Row: row, CarbonKnown: true, CarbonMicrograms: row.Sums[usage.EnergyActive],
				Lines: []query.Charge{{Resource: processors.CPUUsed, Quantity: row.Sums[usage.CPU], List: &fleet.PriceList{Currency: "EUR"}, UnitPrice: new(big.Rat).Mul(big.NewRat(1, 3_600_000_000), price)}, {Resource: processors.Energy}}})
		}
	}
	return all
}
