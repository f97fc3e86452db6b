package usage

import (
	"encoding/csv"
	"io"
	"strconv"
	"time"
)

// figureRow is a row of energy, heat or carbon.
type figureRow interface {
	key() map[string]string
	span() (from, to time.Time)
	cells() []cell
}

// cell is a row's value in one column. A column that no row has is left out.
type cell struct {
	title, value string
	absent       bool
}

func exact(title string, v Exact) cell { return cell{title: title, value: v.String()} }

// perhaps is of a value that only some questions have.
func perhaps(title string, v *Exact) cell {
	if v == nil {
		return cell{title: title, absent: true}
	}
	return exact(title, *v)
}

func flag(title string, v bool) cell { return cell{title: title, value: strconv.FormatBool(v)} }

// WriteFiguresCSV writes rows for programs: a column for each key, then those of
// the API.
func WriteFiguresCSV[R figureRow](w io.Writer, aggregate []Key, rows []R) error {
	var none R
	titles := none.cells()
	shown := make([]bool, len(titles))
	for i, c := range titles {
		shown[i] = !c.absent
	}
	for _, row := range rows {
		for i, c := range row.cells() {
			shown[i] = shown[i] || !c.absent
		}
	}
	var head []string
	for _, k := range aggregate {
		head = append(head, string(k))
	}
	head = append(head, "from", "to")
	for i, c := range titles {
		if shown[i] {
			head = append(head, c.title)
		}
	}
	out := csv.NewWriter(w)
	if err := out.Write(head); err != nil {
		return err
	}
	for _, row := range rows {
		line := make([]string, 0, len(head))
		for _, k := range aggregate {
			line = append(line, row.key()[string(k)])
		}
		from, to := row.span()
		line = append(line, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
		for i, c := range row.cells() {
			if shown[i] {
				line = append(line, c.value)
			}
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func (e EnergyRow) key() map[string]string       { return e.Key }
func (e EnergyRow) span() (time.Time, time.Time) { return e.From, e.To }
func (h HeatRow) key() map[string]string         { return h.Key }
func (h HeatRow) span() (time.Time, time.Time)   { return h.From, h.To }
func (c CarbonRow) key() map[string]string       { return c.Key }
func (c CarbonRow) span() (time.Time, time.Time) { return c.From, c.To }

func (e EnergyRow) cells() []cell {
	return []cell{exact("energyJoules", e.EnergyJoules), exact("energyActiveJoules", e.EnergyActiveJoules), exact("energyIdleJoules", e.EnergyIdleJoules),
		exact("energyOverheadJoules", e.EnergyOverheadJoules), exact("energyMeasuredJoules", e.EnergyMeasuredJoules),
		exact("energyModelledJoules", e.EnergyModelledJoules), exact("energyUncertaintyJoules", e.EnergyUncertaintyJoules), exact("heatJoules", e.HeatJoules),
		{title: "coverage", value: strconv.FormatFloat(e.Coverage, 'f', 4, 64)}, {title: "quality", value: e.Quality}, flag("provisional", e.Provisional),
		perhaps("residualJoules", e.ResidualJoules)}
}

func (h HeatRow) cells() []cell {
	return []cell{exact("energyJoules", h.EnergyJoules), exact("producedJoules", h.ProducedJoules), {title: "quality", value: h.Quality},
		flag("provisional", h.Provisional), perhaps("usefulJoules", h.UsefulJoules)}
}

func (c CarbonRow) cells() []cell {
	return []cell{exact("energyJoules", c.EnergyJoules), exact("locationGrams", c.LocationGrams), exact("locationEnergyJoules", c.LocationEnergyJoules),
		exact("locationEstimatedJoules", c.LocationEstimatedJoules), {title: "locationQuality", value: c.LocationQuality}, exact("marketGrams", c.MarketGrams),
		exact("marketEnergyJoules", c.MarketEnergyJoules), exact("embodiedGrams", c.EmbodiedGrams), {title: "quality", value: c.Quality},
		flag("provisional", c.Provisional), perhaps("avoidedGrams", c.AvoidedGrams)}
}

// TotalEnergy adds rows up, exactly.
func TotalEnergy(rows []EnergyRow) EnergyRow {
	return EnergyRow{EnergyJoules: sum(rows, func(r EnergyRow) Exact { return r.EnergyJoules }),
		EnergyActiveJoules:      sum(rows, func(r EnergyRow) Exact { return r.EnergyActiveJoules }),
		EnergyIdleJoules:        sum(rows, func(r EnergyRow) Exact { return r.EnergyIdleJoules }),
		EnergyOverheadJoules:    sum(rows, func(r EnergyRow) Exact { return r.EnergyOverheadJoules }),
		EnergyMeasuredJoules:    sum(rows, func(r EnergyRow) Exact { return r.EnergyMeasuredJoules }),
		EnergyModelledJoules:    sum(rows, func(r EnergyRow) Exact { return r.EnergyModelledJoules }),
		EnergyUncertaintyJoules: sum(rows, func(r EnergyRow) Exact { return r.EnergyUncertaintyJoules }),
		HeatJoules:              sum(rows, func(r EnergyRow) Exact { return r.HeatJoules }),
		ResidualJoules:          perhapsSum(rows, func(r EnergyRow) *Exact { return r.ResidualJoules })}
}

// TotalHeat adds rows up, exactly.
func TotalHeat(rows []HeatRow) HeatRow {
	return HeatRow{EnergyJoules: sum(rows, func(r HeatRow) Exact { return r.EnergyJoules }),
		ProducedJoules: sum(rows, func(r HeatRow) Exact { return r.ProducedJoules }),
		UsefulJoules:   perhapsSum(rows, func(r HeatRow) *Exact { return r.UsefulJoules })}
}

// TotalCarbon adds rows up, exactly, each figure by itself.
func TotalCarbon(rows []CarbonRow) CarbonRow {
	return CarbonRow{EnergyJoules: sum(rows, func(r CarbonRow) Exact { return r.EnergyJoules }),
		LocationGrams:           sum(rows, func(r CarbonRow) Exact { return r.LocationGrams }),
		LocationEnergyJoules:    sum(rows, func(r CarbonRow) Exact { return r.LocationEnergyJoules }),
		LocationEstimatedJoules: sum(rows, func(r CarbonRow) Exact { return r.LocationEstimatedJoules }),
		MarketGrams:             sum(rows, func(r CarbonRow) Exact { return r.MarketGrams }),
		MarketEnergyJoules:      sum(rows, func(r CarbonRow) Exact { return r.MarketEnergyJoules }),
		EmbodiedGrams:           sum(rows, func(r CarbonRow) Exact { return r.EmbodiedGrams }),
		AvoidedGrams:            perhapsSum(rows, func(r CarbonRow) *Exact { return r.AvoidedGrams })}
}

// sum is of the known values; Unknown where there is none.
func sum[R any](rows []R, of func(R) Exact) Exact {
	total := Unknown
	for _, r := range rows {
		total = total.Plus(of(r))
	}
	return total
}

func perhapsSum[R any](rows []R, of func(R) *Exact) *Exact {
	var total *Exact
	for _, r := range rows {
		if v := of(r); v != nil {
			all := *v
			if total != nil {
				all = total.Plus(*v)
			}
			total = &all
		}
	}
	return total
}
