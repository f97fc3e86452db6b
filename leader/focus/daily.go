package focus

import (
	"cmp"
	"math/big"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// spot is whose a share of a line is.
type spot struct{ cluster, namespace, project, user string }

func spotOf(s books.Share) spot { return spot{s.Cluster, s.Namespace, s.Project, s.User} }

// daily cuts the lines of a statement by the days that they rest on.
type daily struct {
	lines   []books.Line // of usage
	uses    map[spot][]books.Use
	carrier map[spotDay]string // the line whose row has the energy
	days    map[spotDay]books.Figures
}

// spotDay is a spot on a day.
type spotDay struct {
	spot
	from int64
}

// newDaily reads what a statement's own period used. Credit notes, and statements of
// which no days are kept, have none: their rows are of the whole period.
func newDaily(statement books.Statement, uses []books.Use) (*daily, error) {
	d := &daily{uses: make(map[spot][]books.Use), carrier: make(map[spotDay]string), days: make(map[spotDay]books.Figures)}
	if statement.Kind != books.StatementKind {
		return d, nil
	}
	for _, use := range uses {
		at := spot{use.Cluster, use.Namespace, use.Project, use.User}
		d.uses[at] = append(d.uses[at], use)
		day := spotDay{at, use.From.Unix()}
		sum := d.days[day]
		if err := sum.Add(use.Figures); err != nil {
			return nil, err
		}
		d.days[day] = sum
	}
	for _, line := range statement.Lines {
		if line.Kind == books.KindUsage && line.ChargePeriod == statement.Period {
			d.lines = append(d.lines, line)
		}
	}
	ofEnergy := func(l books.Line) bool { return processors.Resource(l.Resource).General() == processors.Energy }
	ordered := slices.Clone(d.lines)
	slices.SortStableFunc(ordered, func(a, b books.Line) int { // those of the energy first
		return cmp.Compare(boolOf(ofEnergy(b)), boolOf(ofEnergy(a)))
	})
	for _, line := range ordered {
		for _, share := range line.Shares {
			for _, part := range d.parts(line, share) {
				day := spotDay{spotOf(share), part.From.Unix()}
				if d.carrier[day] == "" {
					d.carrier[day] = line.ID
				}
			}
		}
	}
	return d, nil
}

func boolOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// part is a day's part of a share.
type part struct {
	schema.Window
	share books.Share
}

// parts are a share of a line by day, which add up to it to the last unit: the
// quantity by what was used on each day, the costs by what that came to. nil is a
// share of which no days are known.
func (d *daily) parts(line books.Line, share books.Share) []part {
	var parts []part
	var quantities, costs []*big.Rat
	for _, use := range d.uses[spotOf(share)] {
		quantity := use.Quantities[processors.Resource(line.Resource)]
		if quantity == 0 || !d.charges(line, use) {
			continue
		}
		last := len(parts) - 1
		if last < 0 || parts[last].Window != use.Window {
			parts = append(parts, part{Window: use.Window, share: share})
			quantities, costs = append(quantities, new(big.Rat)), append(costs, new(big.Rat))
			last++
		}
		of := new(big.Rat).SetInt64(quantity)
		quantities[last].Add(quantities[last], of)
		costs[last].Add(costs[last], new(big.Rat).Mul(of, priceIn(line, use.Slot)))
	}
	whole, ok := apportion(new(big.Rat).SetInt64(share.Quantity), 0, quantities)
	if !ok {
		return nil
	}
	billed, okBilled := apportionText(share.Cost, costs, quantities)
	listed, okListed := apportionText(share.ListCost, costs, quantities)
	if !okBilled || !okListed {
		return nil
	}
	for i := range parts {
		parts[i].share.Quantity = whole[i].Num().Int64()
		parts[i].share.Cost, parts[i].share.ListCost = billed[i], listed[i]
	}
	return slices.DeleteFunc(parts, func(p part) bool {
		return p.share.Quantity == 0 && isNothing(p.share.Cost) && isNothing(p.share.ListCost)
	})
}

// of are a share's parts by day, where its line is of what the period used.
func (d *daily) of(line books.Line, share books.Share) []part {
	if line.Kind != books.KindUsage || !slices.ContainsFunc(d.lines, func(l books.Line) bool { return l.ID == line.ID }) {
		return nil
	}
	return d.parts(line, share)
}

// energy fills how well a spot's day was measured and, in the one of its rows that has
// them, the columns of energy, CO2e and heat.
func (d *daily) energy(r *Row, line books.Line, p part) {
	day := spotDay{spotOf(p.share), p.From.Unix()}
	f, known := d.days[day]
	if !known {
		return
	}
	if f.Uptime > 0 {
		r.DataCoverage = fromRat(big.NewRat(min(f.Covered, f.Uptime), f.Uptime), 6)
	}
	r.MeasurementKind = Some(kinds[usage.QualityOf(f.Measured, f.Integrated, f.Energy)])
	if d.carrier[day] != line.ID {
		return
	}
	r.EnergyKilowattHours = kilowattHours(f.Energy)
	if f.Active != 0 || f.Idle != 0 {
		r.EnergyActiveKilowattHours, r.EnergyIdleKilowattHours = kilowattHours(f.Active), kilowattHours(f.Idle)
	}
	if processors.Resource(line.Resource).General() == processors.Energy {
		r.EnergyCost = r.ListCost
	}
	if f.Heat != 0 {
		r.HeatKilowattHours = kilowattHours(f.Heat)
	}
	if f.Energy > 0 && f.CarbonOf == f.Energy {
		r.emitted(f.Carbon, f.Energy)
	}
}

// charges says whether what was used is in the line: that of its price list and slot
// which names most of where it was used.
func (d *daily) charges(line books.Line, use books.Use) bool {
	fits := func(l books.Line) bool {
		return !use.Excluded && l.Version == use.Version && l.Slot == use.Slot.Tariff && l.Resource == line.Resource && holds(l.Match, use.Facts)
	}
	if !fits(line) {
		return false
	}
	return !slices.ContainsFunc(d.lines, func(o books.Line) bool { return fits(o) && named(o.Match) > named(line.Match) })
}

func fields(m rating.Match) [3]string { return [3]string{m.Hardware, m.Provider, m.Region} }

func holds(m rating.Match, facts rating.Facts) bool {
	at := fields(facts)
	for i, want := range fields(m) {
		if want != "" && want != at[i] {
			return false
		}
	}
	return true
}

func named(m rating.Match) (n int) {
	for _, field := range fields(m) {
		if field != "" {
			n++
		}
	}
	return n
}

// priceIn is the price of a line in a slot: that of its part, where it has a dynamic
// price, else 1 for all.
func priceIn(line books.Line, slot rating.Slot) *big.Rat {
	for _, p := range line.Parts {
		if p.Prices == slot.Prices {
			if price, ok := new(big.Rat).SetString(p.Price); ok {
				return price
			}
		}
	}
	return big.NewRat(1, 1)
}
