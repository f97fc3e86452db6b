package answers

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// EnergyRow is the energy of one key in one step.
type EnergyRow = usage.EnergyRow

// CarbonRow is the CO2e of one key in one step.
type CarbonRow = usage.CarbonRow

// CostRow is the cost of one key in one step.
type CostRow struct {
	Key         map[string]string `json:"key"`
	From        time.Time         `json:"from"`
	To          time.Time         `json:"to"`
	Cost        *string           `json:"cost"` // null where it has several currencies: then they stand in Costs
	Currency    string            `json:"currency"`
	Costs       []usage.Money     `json:"costs,omitempty"`
	Resources   []ResourceCost    `json:"resources"` // what it is made of
	Provisional bool              `json:"provisional"`
}

// ResourceCost is what one resource cost in one currency.
type ResourceCost struct {
	Resource string `json:"resource"` // cpu_used, memory_requested, energy, …
	usage.Money
}

// Page is a page of rows of one kind.
type Page[R any] struct {
	From        time.Time   `json:"from"`
	To          time.Time   `json:"to"`
	Settled     time.Time   `json:"settled"`
	StepSeconds int64       `json:"stepSeconds,omitempty"`
	Aggregate   []usage.Key `json:"aggregate"`
	Rows        []R         `json:"rows"`
	Total       int         `json:"total"`
	Next        string      `json:"next"`
	Marks
}

// pageOf is a page with the rows of an answer in another form.
func pageOf[R any](answer usage.Answer, marks Marks, form func(usage.Row) R) Page[R] {
	page := Page[R]{From: answer.From, To: answer.To, Settled: answer.Settled, StepSeconds: answer.StepSeconds,
		Aggregate: answer.Aggregate, Rows: make([]R, len(answer.Rows)), Total: answer.Total, Next: answer.Next, Marks: marks}
	for i, r := range answer.Rows {
		page.Rows[i] = form(r)
	}
	return page
}

// Energy answers a question about the energy that was pushed, and the heat that
// it became. What a box has beside its pods, and what heat was of use, no cluster
// is told. Errors: those of Usage.
func (e *Engine) Energy(ctx context.Context, request usage.Request, sight Sight) (Page[EnergyRow], error) {
	request.About = usage.AboutEnergy
	t, err := e.tally(ctx, request, sight, parts{energy: true, heat: true, coverage: true})
	if err != nil {
		return Page[EnergyRow]{}, err
	}
	answer, err := t.answer()
	return pageOf(answer, t.marks(), func(r usage.Row) EnergyRow { return usage.EnergyOf(r, false) }), err
}

// CarbonPage is a page of CO2e, with what the grid's intensity is from: source and
// year. What contracts are called is the operator's.
type CarbonPage struct {
	Page[CarbonRow]
	Sources []string `json:"sources"`
}

// Carbon answers a question about the CO2e of the energy that was pushed. Errors:
// those of Usage.
func (e *Engine) Carbon(ctx context.Context, request usage.Request, sight Sight) (CarbonPage, error) {
	request.About = usage.AboutCarbon
	t, err := e.tally(ctx, request, sight, parts{energy: true, carbon: true})
	if err != nil {
		return CarbonPage{}, err
	}
	sources, err := t.carbonSources(ctx)
	if err != nil {
		return CarbonPage{}, err
	}
	embodied := false
	for _, made := range t.rows {
		embodied = embodied || made.Sums[usage.CarbonEmbodied] != 0
	}
	answer, err := t.answer()
	page := pageOf(answer, t.marks(), func(r usage.Row) CarbonRow { return usage.CarbonOf(r, false, embodied) })
	return CarbonPage{page, sources}, err
}

// carbonSources are what the intensities in the window are from: of the cluster's
// nodes, whatever the caller sees of their pods.
func (t *tally) carbonSources(ctx context.Context) ([]string, error) {
	q := influxsync.Query{Select: []string{schema.CarbonSource}, Aggregate: "distinct", From: schema.EnergyMinute.Name, Window: t.window,
		Where: []influxsync.Condition{{Tag: schema.Namespace, Value: schema.IdleNamespace}}}
	names := []string{}
	err := t.engine.store.Database(schema.ResultsDB).Query(ctx, q, func(p influxsync.Point) error {
		told, _ := p.Field(schema.CarbonSource)
		for name := range strings.SplitSeq(told.Str(), "; ") {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sources of intensities: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// Cost answers a question about the cost that was pushed, by resource. Errors:
// those of Usage.
func (e *Engine) Cost(ctx context.Context, request usage.Request, sight Sight) (Page[CostRow], error) {
	if !priced(request) {
		return Page[CostRow]{}, usage.Wrong("aggregate", usage.KeyList(request.Aggregate),
			"cost is stored by namespace and workload and by quarters of an hour: use cluster, namespace, workload and steps of whole quarters")
	}
	t, err := e.tally(ctx, request, sight, parts{cost: true})
	if err != nil {
		return Page[CostRow]{}, err
	}
	answer, err := t.answer()
	return pageOf(answer, t.marks(), func(r usage.Row) CostRow {
		made := t.rows[rowID(t.request.Aggregate, r.Key, r.From)]
		return CostRow{r.Key, r.From, r.To, r.Cost, r.Currency, r.Costs, made.resources(), r.Provisional}
	}), err
}

// readCost adds the cost of the quarters that begin in the window.
func (t *tally) readCost(ctx context.Context) error {
	group := []string{schema.Namespace, schema.WorkloadKind, schema.Workload, schema.Resource, schema.Currency}
	where := append(t.where(), influxsync.Condition{Tag: schema.PriceKind, Value: string(processors.Sale)})
	q := influxsync.Query{Select: []string{schema.CostNanos}, Aggregate: "sum", From: schema.CostQuarter.Name, Window: t.window,
		Where: where, Group: group, Every: t.request.Step}
	err := t.sums(ctx, schema.ResultsDB, q, func(p influxsync.Point) error {
		if !t.scope.sees(p.Tag(schema.Namespace)) {
			return nil
		}
		name := t.engine.names.Resolve
		made, err := t.row(who{namespace: name(p.Tag(schema.Namespace)), workload: workloadOf(p, name)}, t.bucket(p))
		if err != nil || made == nil {
			return err
		}
		of := price{p.Tag(schema.Resource), p.Tag(schema.Currency)}
		made.nanos[of], err = usage.Add(made.nanos[of], p.Int(schema.CostNanos))
		return err
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", schema.CostQuarter.Name, err)
	}
	return nil
}

// nanosPerUnit of a currency, as showback is stored.
const nanosPerUnit = 1_000_000_000

// costs are the row's amounts by currency. One that is nothing is left out
// beside others: a correction leaves such behind when a price list takes
// another currency.
func (r *row) costs() map[string]*big.Rat {
	sums := make(map[string]*big.Rat)
	for of, nanos := range r.nanos {
		if sums[of.currency] == nil {
			sums[of.currency] = new(big.Rat)
		}
		sums[of.currency].Add(sums[of.currency], big.NewRat(nanos, nanosPerUnit))
	}
	for currency, sum := range sums {
		if sum.Sign() == 0 && len(sums) > 1 {
			delete(sums, currency)
		}
	}
	return sums
}

// resources are the row's amounts by resource, in the order of price lists.
func (r *row) resources() []ResourceCost {
	all := []ResourceCost{}
	for of, nanos := range r.nanos {
		if nanos != 0 {
			all = append(all, ResourceCost{of.resource, usage.Money{Cost: usage.Decimal(big.NewRat(nanos, nanosPerUnit), of.currency), Currency: of.currency}})
		}
	}
	slices.SortFunc(all, func(a, b ResourceCost) int {
		if a.Resource != b.Resource {
			return processors.CompareResources(processors.Resource(a.Resource), processors.Resource(b.Resource))
		}
		return strings.Compare(a.Currency, b.Currency)
	})
	return all
}
