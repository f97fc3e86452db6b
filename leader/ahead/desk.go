package ahead

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Engine answers what was used: *query.Engine.
type Engine interface {
	Settled(ctx context.Context) (time.Time, error)
	Charges(ctx context.Context, request query.ChargeRequest) ([]query.Charges, error)
	Metered(ctx context.Context, w schema.Window, step time.Duration) ([]time.Time, error)
	Whole(ctx context.Context, w schema.Window, filter []usage.Condition) (bool, error)
	ChargesAhead(ctx context.Context, request query.ChargeRequest, coming schema.Window) ([]query.Charges, []string, error)
	ChargesStarts(ctx context.Context, request query.ChargeRequest, coming []schema.Window) ([][]query.Charges, []string, error)
	Remember(ctx context.Context) context.Context
}

// Books are the fleet's facts: *registry.Registry.
type Books interface {
	Fleet(ctx context.Context, at time.Time) (*fleet.Fleet, error)
}

// Desk answers what people ask about rates and forecasts. It is safe for concurrent use.
type Desk struct {
	engine Engine
	books  Books
	facts  Facts
	clock  clock.Clock
}

// NewDesk makes a desk.
func NewDesk(engine Engine, books Books, facts Facts, clk clock.Clock) *Desk {
	return &Desk{engine: engine, books: books, facts: facts, clock: clk}
}

// Question is what rates and forecasts are asked of.
type Question struct {
	Aggregate []usage.Key
	Filter    []usage.Condition
	Until     string  // of forecasts: month, a length such as 7d, or a time
	Zone      string  // of forecasts: an IANA zone; "" is the customer's, or UTC
	Amount    *Amount // of forecasts: when will it be spent; nil asks nothing
}

// The parameters of the questions, beside each key as a filter.
var (
	RatesParameters     = []string{"aggregate", "filter"}
	ForecastParameters  = []string{"until", "zone", "amount", "aggregate", "filter"}
	RecommendParameters = []string{"filter"}
)

// ParseQuestion reads a URL's query, of which the named parameters are known and
// each key as a filter. Errors: *usage.InputError.
func ParseQuestion(text string, known []string) (Question, error) {
	values := parsed(text)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if _, err := usage.ParseKey(name); err != nil && !slices.Contains(known, name) {
			return Question{}, usage.Wrong("parameter", name, "this endpoint knows "+strings.Join(known, ", ")+", and each key as a filter (namespace=shop)")
		}
	}
	request, err := usage.ParseRequest(text, "until", "zone", "amount")
	if err != nil {
		return Question{}, err
	}
	if err := request.Check(); err != nil {
		return Question{}, err
	}
	amount, err := parseAmount(values.Get("amount"))
	return Question{Aggregate: request.Aggregate, Filter: request.Filter, Until: values.Get("until"), Zone: values.Get("zone"), Amount: amount}, err
}

// keyOf is a row's identity among the rows of a question.
func keyOf(row query.Row, keys []usage.Key) string {
	id := ""
	for _, k := range keys {
		id += "\x00" + row.Key[string(k)]
	}
	return id
}

// costsOf are the exact costs of charges by currency.
func costsOf(charges query.Charges) map[string]*big.Rat {
	costs := make(map[string]*big.Rat)
	for _, line := range charges.Lines {
		if line.List == nil {
			continue
		}
		if costs[line.List.Currency] == nil {
			costs[line.List.Currency] = new(big.Rat)
		}
		costs[line.List.Currency].Add(costs[line.List.Currency], line.Cost())
	}
	return costs
}

// measure is a quantity that is told by the hour and ahead.
type measure struct {
	name  string
	of    func(query.Charges) (int64, error)
	exact func(int64) usage.Exact
}

// sum makes a measure of one stored quantity.
func sum(name string, q usage.Quantity, exact func(int64) usage.Exact) measure {
	return measure{name, func(c query.Charges) (int64, error) { return c.Row.Sums[q], nil }, exact}
}

// measures are told in this order.
var measures = []measure{
	sum("cpuCoreSeconds", usage.CPU, usage.CoreSeconds),
	sum("cpuRequestCoreSeconds", usage.CPURequest, usage.CoreSeconds),
	sum("memoryByteSeconds", usage.Memory, usage.ByteSeconds),
	sum("memoryRequestByteSeconds", usage.MemoryRequest, usage.ByteSeconds),
	sum("networkReceiveBytes", usage.NetworkReceive, usage.Whole),
	sum("networkTransmitBytes", usage.NetworkTransmit, usage.Whole),
	sum("volumeClaimedByteSeconds", usage.VolumeClaimed, usage.ByteSeconds),
	{"energyJoules", func(c query.Charges) (int64, error) { return c.Row.Sums.Energy() }, usage.Joules},
	{"co2eGrams", func(c query.Charges) (int64, error) { return c.CarbonMicrograms, nil }, usage.Grams},
}

// settled is where the settled data end. Errors: ErrNothing where nothing has settled.
func (d *Desk) settled(ctx context.Context) (time.Time, error) {
	end, err := d.engine.Settled(ctx)
	if err != nil {
		return end, err
	}
	if end.IsZero() || end.Unix() <= 0 {
		return end, ErrNothing
	}
	return end.UTC(), nil
}

// known is an error of a cluster that is not there; "" is all.
func (d *Desk) known(ctx context.Context, cluster string) error {
	if cluster == "" {
		return nil
	}
	f, err := d.books.Fleet(ctx, d.clock.Now())
	if err != nil {
		return err
	}
	if _, ok := f.Cluster(cluster); !ok {
		return usage.Wrong("cluster", cluster, "there is none of that name: `accumulus get clusters` lists them")
	}
	return nil
}

// ErrNothing is a leader of which nothing has settled yet.
var ErrNothing = fmt.Errorf("nothing has been metered yet")

// sortRows puts rows into the order of their keys.
func sortRows[R any](rows []R, keys []usage.Key, key func(R) map[string]string) {
	slices.SortFunc(rows, func(a, b R) int {
		return usage.CompareKeys(usage.Row{Key: key(a)}, usage.Row{Key: key(b)}, keys)
	})
}
