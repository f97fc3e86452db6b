package books

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// Quantity is an amount that has no line.
type Quantity struct {
	Resource string `json:"resource"`
	Quantity int64  `json:"quantity"` // stored units
	Text     string `json:"text"`     // for people, with its unit
}

// ClusterFigures say how well what was billed of a cluster was measured.
type ClusterFigures struct {
	Cluster  string `json:"cluster"`
	Expected int64  `json:"expected"` // node-windows
	Received int64  `json:"received"`
	Complete bool   `json:"complete"`
	Figures
	Gaps []string `json:"gaps,omitempty"`
}

// Rated is what a period's days come to.
type Rated struct {
	Lines    []Line           `json:"lines"`
	Currency string           `json:"currency"` // "" without lines
	Total    string           `json:"total"`
	Unpriced []Quantity       `json:"unpriced,omitempty"`
	Excluded []Quantity       `json:"excluded,omitempty"` // by the price lists
	Clusters []ClusterFigures `json:"clusters"`
	// Fingerprint is that of all that the lines come from.
	Fingerprint string `json:"fingerprint"`

	days  []registry.BookDay // without their cells
	cells []registry.BookDay // with them
	tally *tally
}

// Complete says whether nothing is missing of any cluster.
func (r Rated) Complete() bool {
	return !slices.ContainsFunc(r.Clusters, func(c ClusterFigures) bool { return !c.Complete })
}

// tally adds up days by version of the price list.
type tally struct {
	versions map[string]*versionTally
	clusters map[string]*ClusterFigures
	excluded processors.Quantities
	unlisted processors.Quantities // where there is no list at all
}

// versionTally is what one version of a list is for.
type versionTally struct {
	usage map[cellKey]processors.Quantities
	held  []schema.Window
}

type cellKey struct {
	key   string
	facts rating.Facts
	slot  rating.Slot
}

func newTally() *tally {
	return &tally{versions: make(map[string]*versionTally), clusters: make(map[string]*ClusterFigures), excluded: make(processors.Quantities), unlisted: make(processors.Quantities)}
}

func (t *tally) version(name string) *versionTally {
	v := t.versions[name]
	if v == nil {
		v = &versionTally{usage: make(map[cellKey]processors.Quantities)}
		t.versions[name] = v
	}
	return v
}

// add counts a day.
func (t *tally) add(d registry.BookDay) error {
	s, err := unpackSheet(d.Cells)
	if err != nil {
		return fmt.Errorf("day %s of %s: %w", d.Window, d.Cluster, err)
	}
	of := t.clusters[d.Cluster]
	if of == nil {
		of = &ClusterFigures{Cluster: d.Cluster, Complete: true}
		t.clusters[d.Cluster] = of
	}
	of.Expected, of.Received, of.Complete = of.Expected+d.Expected, of.Received+d.Received, of.Complete && d.Complete
	if !d.Complete {
		var gaps []string
		if err := json.Unmarshal([]byte(d.Gaps), &gaps); err != nil {
			return fmt.Errorf("gaps of %s: %w", d.Cluster, err)
		}
		of.Gaps = append(of.Gaps, gaps...)
	}
	for version, edges := range s.Held {
		v := t.version(version)
		for i := 0; i+1 < len(edges); i += 2 {
			v.held = append(v.held, schema.Window{From: time.Unix(edges[i], 0).UTC(), To: time.Unix(edges[i+1], 0).UTC()})
		}
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		if err := of.Figures.add(g.Figures); err != nil {
			return err
		}
		into := t.unlisted
		switch {
		case g.Excluded:
			into = t.excluded
		case g.List != "":
			id := cellKey{keyOf(d.Cluster, g.place), g.Facts, g.Slot}
			v := t.version(g.List)
			if into = v.usage[id]; into == nil {
				v.usage[id] = g.Quantities // of this day alone: nobody else has it
				continue
			}
		}
		if err := usage.AddNamed(&into, g.Quantities); err != nil {
			return err
		}
	}
	return nil
}

// rate makes the lines of a period of its stored days; of sealed ones alone where
// sealed is true.
func (b *Books) rate(ctx context.Context, c Calendar, sealed bool) (Rated, error) {
	t := newTally()
	sum := sha256.New()
	var days, cells []registry.BookDay
	own := c.days()
	err := b.registry.BookDays(ctx, c.Customer, c.Window, sealed, func(d registry.BookDay) error {
		if !slices.Contains(own, d.Window) {
			return nil // summed when the customer was thought to be in another zone
		}
		if err := t.add(d); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(sum, "%s %d %s %d %d\n", d.Cluster, d.Window.From.Unix(), d.Fingerprint, d.Expected, d.Received) // a hash returns no error
		cells = append(cells, d)
		d.Cells = nil
		days = append(days, d)
		return ctx.Err()
	})
	if err != nil {
		return Rated{}, err
	}
	rated, err := b.charge(ctx, c, t)
	if err != nil {
		return Rated{}, fmt.Errorf("rate period %s of %s: %w", c.Period, c.Customer, err)
	}
	rated.days, rated.cells, rated.tally = days, cells, t
	_, _ = fmt.Fprintf(sum, "%s %s", rated.Currency, rated.Total) // exchange rates too
	rated.Fingerprint = hex.EncodeToString(sum.Sum(nil))
	return rated, nil
}

// charge makes the lines of what was added up, by the price lists that were kept.
func (b *Books) charge(ctx context.Context, c Calendar, t *tally) (Rated, error) {
	currency, tables, err := b.exchange(ctx, c)
	if err != nil {
		return Rated{}, err
	}
	return charge(c, t, currency, tables, func(version string) (*rating.Plan, error) { return b.planOf(ctx, version, c.Customer) })
}

// charge makes the lines of what was added up, in a currency ("" is the lists').
func charge(c Calendar, t *tally, currency string, tables []rating.Exchange, planOf func(version string) (*rating.Plan, error)) (Rated, error) {
	rated := Rated{Lines: []Line{}, Total: "0", Clusters: []ClusterFigures{}}
	var lines []rating.Line
	unpriced := t.unlisted
	for _, version := range sortedKeys(t.versions) {
		plan, err := planOf(version)
		if err != nil {
			return rated, err
		}
		result, err := plan.Charges(t.versions[version].input(c))
		if err != nil {
			return rated, err
		}
		lines = append(lines, result.Lines...)
		if err := usage.AddNamed(&unpriced, result.Unpriced); err != nil {
			return rated, err
		}
	}
	lines, err := convert(c, lines, currency, tables)
	if err != nil {
		return rated, err
	}
	for _, line := range lines {
		rated.Lines = append(rated.Lines, lineOf(c, line))
	}
	sorted(rated.Lines)
	if len(lines) > 0 {
		rated.Currency = lines[0].Currency
	}
	for _, cluster := range sortedKeys(t.clusters) {
		rated.Clusters = append(rated.Clusters, *t.clusters[cluster])
	}
	rated.qualify()
	rated.Unpriced, rated.Excluded = quantities(unpriced, true), quantities(t.excluded, false)
	rated.Total, err = total(rated.Lines)
	return rated, err
}

// planOf is a kept version compiled. The values of dynamic prices are in the days'
// slots.
func (b *Books) planOf(ctx context.Context, version, customer string) (*rating.Plan, error) {
	list, _, err := b.kept(ctx, version)
	if err != nil {
		return nil, err
	}
	return compile(list, version, customer, nil)
}

// input is what rating takes.
func (v *versionTally) input(c Calendar) rating.Input {
	in := rating.Input{Period: c.Window, Held: merged(v.held), Location: c.Zone, Usage: make([]rating.Usage, 0, len(v.usage))}
	for id, quantities := range v.usage {
		in.Usage = append(in.Usage, rating.Usage{Key: id.key, Facts: id.facts, Slot: id.slot, Quantities: quantities})
	}
	return in
}

// merged are windows in order, those that touch or overlap as one.
func merged(windows []schema.Window) []schema.Window {
	slices.SortFunc(windows, func(a, b schema.Window) int { return a.From.Compare(b.From) })
	all := []schema.Window{}
	for _, w := range windows {
		if last := len(all) - 1; last >= 0 && !w.From.After(all[last].To) {
			all[last].To = schema.Later(all[last].To, w.To)
			continue
		}
		all = append(all, w)
	}
	return all
}

// exchange is the currency that a customer pays in, "" for that of its lists, and
// the tables of rates that there are.
func (b *Books) exchange(ctx context.Context, c Calendar) (string, []rating.Exchange, error) {
	snapshot, err := b.registry.Fleet(ctx, c.To.Add(-time.Minute))
	if err != nil {
		return "", nil, fmt.Errorf("read fleet: %w", err)
	}
	customer, _ := snapshot.Customer(c.Customer)
	var tables []rating.Exchange
	for _, rates := range snapshot.Exchanges() {
		table, err := rates.Exchange()
		if err != nil {
			return "", nil, fmt.Errorf("exchange rates %s: %w", rates.Name, err)
		}
		tables = append(tables, table)
	}
	return customer.Currency, tables, nil
}

// convert makes lines ones of a currency, by the rates of the month.
func convert(c Calendar, lines []rating.Line, currency string, tables []rating.Exchange) ([]rating.Line, error) {
	if currency != "" {
		converted, err := rating.ConvertLines(lines, currency, c.Period, tables)
		if missing, ok := errors.AsType[*rating.MissingExchangeError](err); ok {
			return nil, &Error{Kind: ErrInput, Text: fmt.Sprintf("period %s of %s: %s", c.Period, c.Customer, missing),
				Hint: "Apply the month's ExchangeRates (docs/prices.md), or give the customer the currency of its price list."}
		}
		return converted, err
	}
	for _, line := range lines {
		if line.Currency != lines[0].Currency {
			return nil, &Error{Kind: ErrInput, Text: fmt.Sprintf("customer %s has prices in %s and in %s", c.Customer, lines[0].Currency, line.Currency),
				Hint: "Give the customer a currency, and the month its ExchangeRates."}
		}
	}
	return lines, nil
}

// quantities are amounts in the order of lines, for people too. Those that are
// another way to count something are left out where that is asked for.
func quantities(of processors.Quantities, underived bool) []Quantity {
	var all []Quantity
	for _, r := range of.Resources() {
		if of[r] == 0 || underived && r.Derived() || r.Base() == 0 {
			continue
		}
		all = append(all, Quantity{string(r), of[r], new(big.Rat).SetFrac64(of[r], r.Base()).FloatString(6) + " " + r.Unit()})
	}
	return all
}

// qualify writes coverage and quality on the lines: those of the period's clusters
// together.
func (r *Rated) qualify() {
	var all Figures
	for _, c := range r.Clusters {
		if all.add(c.Figures) != nil {
			return // beyond 64 bits: nothing that a text could say
		}
	}
	coverage := all.coverage()
	for i := range r.Lines {
		if l := &r.Lines[i]; l.Kind == KindUsage {
			l.Coverage = coverage
			if processors.Resource(l.Resource).General() == processors.Energy {
				l.Quality = usage.QualityOf(all.Measured, all.Integrated, all.Energy)
			}
		}
	}
}

// coverage is the covered part of pods' time alive, with four decimals, rounded
// down; "" without any.
func (f Figures) coverage() string {
	if f.Uptime <= 0 {
		return ""
	}
	parts := new(big.Int).Mul(big.NewInt(min(f.Covered, f.Uptime)), big.NewInt(10000))
	return new(big.Rat).SetFrac(parts.Quo(parts, big.NewInt(f.Uptime)), big.NewInt(10000)).FloatString(4)
}
