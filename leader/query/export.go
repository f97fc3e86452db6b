package query

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// ExportRequest asks for the cost of a period.
type ExportRequest struct {
	Period string // a month, 2026-11, in UTC; or a window as ParseWindow reads it
	// RequireComplete makes it an *IncompleteError if something of the period is
	// missing or was refused.
	RequireComplete bool
}

// IncompleteError is a period of which not all is here.
type IncompleteError struct {
	Period   string
	Clusters []ClusterCompleteness // the incomplete ones
	Gaps     []Gap
	// Ends is when the period ends, where that is later than Settled, up to which
	// all clusters have told.
	Ends, Settled time.Time
}

func (e *IncompleteError) Error() string {
	if !e.Ends.IsZero() {
		return fmt.Sprintf("the period %s ends at %s, and what is here is settled until %s: ask again when it has ended",
			e.Period, usage.HumanTime(e.Ends), usage.HumanTime(e.Settled))
	}
	if len(e.Clusters) == 0 {
		return fmt.Sprintf("the period %s is incomplete", e.Period)
	}
	return fmt.Sprintf("the period %s is incomplete for %s", e.Period, plural.Of(len(e.Clusters), "cluster", "clusters"))
}

// Line is one line of an export: what a customer's namespace in one cluster
// used of one resource at one price. Numbers are decimals.
type Line struct {
	Customer    string    `json:"customer"`
	Cluster     string    `json:"cluster"`
	Namespace   string    `json:"namespace"`
	Resource    string    `json:"resource"`
	Quantity    string    `json:"quantity"`
	Unit        string    `json:"unit"`
	UnitPrice   string    `json:"unitPrice"` // "" where it has no price; then Cost is "" too
	Cost        string    `json:"cost"`
	Currency    string    `json:"currency"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Coverage    float64   `json:"coverage"`
	Quality     string    `json:"quality"` // of the energy
	Provisional bool      `json:"provisional"`
	// Completeness is what came of the cluster in the period by what must exist,
	// in node-windows; "1.0000" is all of it, "" where nothing is expected.
	Completeness string `json:"completeness"`
	// Excluded says that the price list excludes the namespace: the line has no
	// price and no cost, and Export.Excluded has what it would have been.
	Excluded bool `json:"excluded"`
}

// Header are the columns of Line.Record.
var Header = []string{"customer", "cluster", "namespace", "resource", "quantity", "unit", "unitPrice", "cost", "currency",
	"from", "to", "coverage", "quality", "provisional", "completeness", "excluded"}

// Record is the line as the fields of a CSV row.
func (l Line) Record() []string {
	return []string{l.Customer, l.Cluster, l.Namespace, l.Resource, l.Quantity, l.Unit, l.UnitPrice, l.Cost, l.Currency,
		l.From.Format(time.RFC3339), l.To.Format(time.RFC3339), strconv.FormatFloat(l.Coverage, 'f', 4, 64), l.Quality,
		strconv.FormatBool(l.Provisional), l.Completeness, strconv.FormatBool(l.Excluded)}
}

// Export is the cost of a period, line by line.
type Export struct {
	Period string    `json:"period"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Lines  []Line    `json:"lines"`
	Totals []Money   `json:"totals"` // the sums of the lines
	// Excluded is what the lines of excluded namespaces would have cost: no part of
	// the totals.
	Excluded []Money `json:"excluded"`
	// NotApplied are the rules of the price lists that showback does not apply, such
	// as tiers and minimum charges, and prices that are missing.
	NotApplied []string `json:"notApplied,omitempty"`

	Complete bool                  `json:"complete"` // of no cluster anything is missing, and no row was refused
	Clusters []ClusterCompleteness `json:"clusters"` // of which something is expected in the period, also those without a line
	Gaps     []Gap                 `json:"gaps"`
}

// Incomplete are the clusters that are.
func (e Export) Incomplete() []ClusterCompleteness {
	return slices.DeleteFunc(slices.Clone(e.Clusters), func(c ClusterCompleteness) bool { return c.Complete })
}

// WriteCSV writes the lines with their header.
func (e Export) WriteCSV(to io.Writer) error {
	out := csv.NewWriter(to)
	if err := out.Write(Header); err != nil {
		return err
	}
	for _, line := range e.Lines {
		if err := out.Write(line.Record()); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// endOf is the end of a period, that of a month or day which goes on too: its
// window is cut at what is settled.
func endOf(period string, w schema.Window, settled time.Time) time.Time {
	if whole, ok := usage.Calendar(strings.TrimSpace(period), settled.UTC()); ok {
		return whole.To
	}
	return w.To
}

// Export rates a period. The lines of a customer's namespace in a cluster add
// up to the cost of the same row of Usage (aggregate customer, cluster,
// namespace), to the last digit. It is showback: nothing is closed by it.
// Errors: *InputError, *IncompleteError, ErrOverflow, and what the stores say.
func (e *Engine) Export(ctx context.Context, request ExportRequest) (Export, error) {
	_, settled, err := e.settled(ctx, nil)
	if err != nil {
		return Export{}, err
	}
	w, err := usage.ParseWindow(request.Period, settled)
	if err != nil {
		return Export{}, usage.Wrong("period", request.Period, "use a month such as 2026-11, or a window such as lastmonth, of ten years at most")
	}
	export := Export{Period: request.Period, From: w.From, To: w.To, Lines: []Line{}, Totals: []Money{}, Excluded: []Money{}}
	if err := e.exportCompleteness(ctx, &export, w); err != nil {
		return Export{}, err
	}
	if request.RequireComplete && !export.Complete {
		return Export{}, &IncompleteError{Period: request.Period, Clusters: export.Incomplete(), Gaps: export.Gaps}
	}
	if end := endOf(request.Period, w, settled); request.RequireComplete && end.After(settled) {
		return Export{}, &IncompleteError{Period: request.Period, Ends: end, Settled: settled}
	}
	keys := []Key{Customer, Cluster, Namespace}
	table, err := e.tally(ctx, Request{Aggregate: keys}, w)
	if err != nil {
		return Export{}, err
	}
	totals, excluded := make(map[string]*big.Rat), make(map[string]*big.Rat)
	for _, row := range table.sorted() {
		lines, err := row.lines(w, totals)
		if err == nil {
			err = addCosts(excluded, row.excluded)
		}
		if err != nil {
			return Export{}, fmt.Errorf("export %v: %w", row.Key, err)
		}
		export.Lines = append(export.Lines, lines...)
	}
	ratios := make(map[string]string)
	for _, c := range export.Clusters {
		ratios[c.Cluster] = c.Ratio
	}
	for i := range export.Lines {
		export.Lines[i].Completeness = ratios[export.Lines[i].Cluster]
	}
	sum := Row{}
	sum.SetCost(totals)
	if sum.Cost != nil {
		sum.Costs = sum.Money()
	}
	export.Totals = append(export.Totals, sum.Costs...)
	export.NotApplied = table.notApplied()
	export.Excluded = append(export.Excluded, usage.Moneys(excluded)...)
	return export, nil
}

// addCosts adds the exact costs under the price lists to sums by currency.
func addCosts(sums map[string]*big.Rat, slots slots) error {
	costs, err := costsOf(slots)
	for currency, cost := range costs {
		if sums[currency] == nil {
			sums[currency] = new(big.Rat)
		}
		sums[currency].Add(sums[currency], cost)
	}
	return err
}

// exportCompleteness says what of the period is here: before the sums are read,
// so that what comes meanwhile does not make them look better than they are.
func (e *Engine) exportCompleteness(ctx context.Context, export *Export, w schema.Window) error {
	clusters, err := e.clustersIn(ctx, w)
	if err != nil {
		return err
	}
	parts, err := e.slices(ctx, w, nil)
	if err != nil {
		return err
	}
	scopes, fleets := scopesOf(ctx), fleetsOf(parts)
	clusters = slices.DeleteFunc(clusters, func(name string) bool { return !scopes.reads(name, fleets...) })
	export.Clusters, export.Gaps, err = e.completenessOf(ctx, clusters, w)
	export.Complete = len(export.Incomplete()) == 0
	export.Clusters = slices.DeleteFunc(export.Clusters, func(c ClusterCompleteness) bool { return !scopes.whole(c.Cluster, fleets...) })
	export.Gaps = slices.DeleteFunc(export.Gaps, func(g Gap) bool { return !scopes.whole(g.Cluster, fleets...) })
	return err
}

// lines are a row's lines, by resource and price; what has no price comes
// last. Their costs are added to totals.
func (row *tallyRow) lines(w schema.Window, totals map[string]*big.Rat) ([]Line, error) {
	all, err := quantitiesOf(&row.Sums, row.Named)
	if err != nil {
		return nil, err
	}
	excluded, err := row.leftOut()
	if err != nil {
		return nil, err
	}
	var rated []ratedLine
	for _, slot := range row.prices.sorted() {
		lines, err := slot.rate()
		if err != nil {
			return nil, err
		}
		rated = append(rated, lines...)
	}
	if rated, err = together(rated); err != nil {
		return nil, err
	}
	nanos := roundTogether(rated)
	var out []Line
	for i, line := range rated {
		all[line.resource] -= line.quantity
		if line.quantity == 0 {
			continue
		}
		cost := new(big.Rat).SetFrac(nanos[i], usage.Pow10(usage.CostPlaces))
		if totals[line.currency] == nil {
			totals[line.currency] = new(big.Rat)
		}
		totals[line.currency].Add(totals[line.currency], cost)
		made := row.line(w, line.resource, line.quantity)
		made.UnitPrice, made.Cost, made.Currency = line.unit.text, usage.Decimal(cost, line.currency), line.currency
		out = append(out, made)
	}
	for _, resource := range all.Resources() {
		left := row.line(w, resource, excluded[resource])
		if left.Excluded = true; excluded[resource] != 0 && !resource.Derived() {
			out = append(out, left)
		}
		if rest := all[resource] - excluded[resource]; rest != 0 && !resource.Derived() {
			out = append(out, row.line(w, resource, rest))
		}
	}
	return out, nil
}

// leftOut are the quantities of namespaces that a price list excludes.
func (row *tallyRow) leftOut() (processors.Quantities, error) {
	var sum processors.Quantities
	for _, slot := range row.excluded.all {
		quantities, err := quantitiesOf(&slot.sums, slot.named)
		if err != nil {
			return nil, err
		}
		if err := usage.AddNamed(&sum, quantities); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// line is a line without a price.
func (row *tallyRow) line(w schema.Window, resource processors.Resource, quantity int64) Line {
	amount := big.NewRat(quantity, resource.Base())
	energy, _ := row.Sums.Energy() // lines has checked it
	return Line{Customer: row.Key[string(Customer)], Cluster: row.Key[string(Cluster)], Namespace: row.Key[string(Namespace)],
		Resource: string(resource), Quantity: amount.FloatString(usage.CostPlaces), Unit: resource.Unit(),
		From: w.From, To: w.To, Coverage: row.CoverageShare(), Quality: usage.QualityOf(row.Sums[usage.EnergyMeasured], row.Sums[usage.EnergyIntegrated], energy), Provisional: row.Open}
}

// roundTogether rounds each line to nanos so that the lines of a currency add
// up to their exact sum, rounded once: all are rounded down, and the nanos that
// are missing go to the largest remainders.
func roundTogether(lines []ratedLine) []*big.Int {
	nanos := make([]*big.Int, len(lines))
	remainders := make([]*big.Rat, len(lines))
	byCurrency := make(map[string][]int)
	for i, line := range lines {
		scaled := new(big.Rat).Mul(line.cost, new(big.Rat).SetInt(usage.Pow10(usage.CostPlaces)))
		nanos[i] = floor(scaled)
		remainders[i] = scaled.Sub(scaled, new(big.Rat).SetInt(nanos[i]))
		byCurrency[line.currency] = append(byCurrency[line.currency], i)
	}
	for _, indices := range byCurrency {
		rounded, _ := new(big.Int).SetString(roundedTotal(lines, indices), 10)
		for _, i := range indices {
			rounded.Sub(rounded, nanos[i])
		}
		slices.SortStableFunc(indices, func(a, b int) int { return remainders[b].Cmp(remainders[a]) })
		for _, i := range indices[:rounded.Int64()] {
			nanos[i].Add(nanos[i], big.NewInt(1))
		}
	}
	return nanos
}

// roundedTotal is the sum of the lines in nanos, rounded as a row's cost is.
func roundedTotal(lines []ratedLine, indices []int) string {
	total := new(big.Rat)
	for _, i := range indices {
		total.Add(total, lines[i].cost)
	}
	return total.Mul(total, new(big.Rat).SetInt(usage.Pow10(usage.CostPlaces))).FloatString(0)
}

// floor rounds towards minus infinity.
func floor(r *big.Rat) *big.Int { return new(big.Int).Div(r.Num(), r.Denom()) }
