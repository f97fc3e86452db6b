package processors

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// HeatMethod is how a source's useful heat is known.
type HeatMethod string

// The methods.
const (
	// HeatTemperatures: temperatures of supply and return and a flow; measured.
	HeatTemperatures HeatMethod = "temperatures"
	// HeatCapture: a fixed part of what the box produces; estimated.
	HeatCapture HeatMethod = "capture"
)

// whole is all of something, in 1e-6.
const whole = 1_000_000

// Useful heat above this part of what the box produced, in 1e-6, is not
// plausible over a quarter: a sensor, an offset or the flow is wrong.
const plausibleMicro = 1_050_000

// Value is a number that a device told, in 1e-6 of its unit, or did not.
type Value struct {
	Micro int64
	Known bool
}

// HeatReading is what a source's sensors showed at one moment.
type HeatReading struct {
	Time                  time.Time
	Supply, Return, Store Value // as the sensors' kinds say
	Flow                  Value // l/min
}

// HeatSource is one loop or store that takes heat out of the box.
type HeatSource struct {
	Name     string
	From, To time.Time // validity, half-open; zero is open
	Method   HeatMethod

	Supply, Return, Store Sensor
	// OffsetMillikelvin is supply less return as the pair shows it where both
	// have one temperature: it is taken off (zeroing).
	OffsetMillikelvin int64
	// ReversedMillikelvin is how far the return may seem warmer than the supply
	// and still count as no difference. Beyond, the sensors are swapped or it
	// flows backwards, and there is no heat.
	ReversedMillikelvin int64
	FluidMillijoules    int64         // heat of one litre and one kelvin
	Period              time.Duration // between readings; more than two of them apart is a gap

	Limited          bool  // the store has a maximum, at which no heat is useful
	MaxMillicelsius  int64 // of the store
	CaptureMicro     int64 // of HeatCapture: the useful part of what is produced, 1e-6
	Readings         []HeatReading
	Kept             []HeatMinute // its minutes as they were found while the readings were there; not nil: they count, and Readings do not
	KeptCircumstance Circumstances
}

// HeatMinute is an amount of heat in one minute, mJ.
type HeatMinute struct {
	Time       time.Time `json:"time"`
	Millijoule int64     `json:"mJ"`
}

// HeatInput is a box and a quarter.
type HeatInput struct {
	Window schema.Window
	Box    string
	// ProducedMicro is the part of the energy that becomes heat in the box, 1e-6:
	// all of it, but for what leaves it as light or over a cable.
	ProducedMicro int64
	Rows          []EnergyRow
	Sources       []HeatSource
}

// Circumstances are how long a source did what, within its validity: they add
// up to it.
type Circumstances struct {
	Covered  time.Duration // heat is known, though it may be none
	Full     time.Duration // the store was at its maximum: no heat is useful
	Faulty   time.Duration // a sensor was open, shorted or silent
	Reversed time.Duration // the return was warmer than the supply
	Gap      time.Duration // no readings
}

// SourceHeat is a source's useful heat in the window.
type SourceHeat struct {
	Name    string
	Useful  int64        // mJ
	Minutes []HeatMinute // those in which it was valid; they add up to Useful
	Circumstances
	Estimated bool // by a capture factor
}

// HeatRow is a row's part of the heat that was produced, mJ.
type HeatRow struct {
	Key  RowKey
	Heat int64
}

// HeatResult is a box's heat in the quarter.
type HeatResult struct {
	Rows     []HeatRow    // by key
	Minutes  []HeatMinute // produced: the sum of the rows of a minute
	Produced int64        // mJ
	Sources  []SourceHeat // by name
	// Implausible: more useful heat than the box can have produced.
	Implausible bool
}

// Heat finds what a box's energy became, and how much of that was made use of.
//
// Useful heat by temperatures is the integral of fluid · flow · (supply -
// return - offset) by trapezoids between the readings' own times. Between two
// readings it is spread evenly, in integers whose sum is the trapezoid, so that
// two quarters that share one add up.
type Heat struct{}

// Name is "heat".
func (Heat) Name() string { return "heat" }

var _ Processor[HeatInput, HeatResult] = Heat{}

// Process computes produced heat by row and useful heat by source.
func (Heat) Process(in HeatInput) (HeatResult, error) {
	in = in.canonical()
	if err := in.check(); err != nil {
		return HeatResult{}, fmt.Errorf("check heat of box %s: %w", in.Box, err)
	}
	result, err := in.produced()
	if err != nil {
		return HeatResult{}, fmt.Errorf("heat of box %s: %w", in.Box, err)
	}
	var useful int64
	for _, source := range in.Sources {
		heat, err := source.heat(in.Window, result.Minutes)
		if err == nil {
			useful, err = Sum(useful, heat.Useful)
		}
		if err != nil {
			return HeatResult{}, fmt.Errorf("heat of source %s: %w", source.Name, err)
		}
		result.Sources = append(result.Sources, heat)
	}
	minutes := int(in.Window.Length() / schema.Minute)
	complete := len(result.Minutes) == minutes // else there may be energy that is not here yet
	result.Implausible = complete && useful > MulDiv(result.Produced, plausibleMicro, whole)
	return result, nil
}

// canonical is the input in the order of its keys.
func (in HeatInput) canonical() HeatInput {
	in.Rows, in.Sources = sortedEnergy(in.Rows), slices.Clone(in.Sources)
	slices.SortStableFunc(in.Sources, func(a, b HeatSource) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.From.Compare(b.From))
	})
	for i := range in.Sources {
		readings := slices.Clone(in.Sources[i].Readings)
		slices.SortStableFunc(readings, func(a, b HeatReading) int { return a.Time.Compare(b.Time) })
		in.Sources[i].Readings = readings
	}
	return in
}

func (in HeatInput) check() error {
	if err := checkWindow(in.Window); err != nil {
		return err
	}
	if in.ProducedMicro < 0 || in.ProducedMicro > whole {
		return fmt.Errorf("%d of %d parts of the energy become heat: %w", in.ProducedMicro, whole, ErrInput)
	}
	for i, s := range in.Sources {
		if i > 0 && in.Sources[i-1].Name == s.Name && (in.Sources[i-1].To.IsZero() || in.Sources[i-1].To.After(s.From)) {
			return fmt.Errorf("source %s stands twice at one time: %w", s.Name, ErrInput)
		}
		for j, r := range s.Readings {
			if j > 0 && r.Time.Equal(s.Readings[j-1].Time) {
				return fmt.Errorf("source %s has two readings at %s: %w", s.Name, r.Time.Format(time.RFC3339Nano), ErrInput)
			}
		}
	}
	return checkRows(in.Rows, in.Window)
}

// produced is the heat of each row: the box's part of each minute's energy, by
// the rows' energy.
func (in HeatInput) produced() (HeatResult, error) {
	var result HeatResult
	var left carry
	err := eachMinute(in.Rows, func(at time.Time, rows []EnergyRow, weights []int64, energy int64) error {
		heat := left.mulDiv(energy, in.ProducedMicro, whole)
		result.Minutes = append(result.Minutes, HeatMinute{Time: at, Millijoule: heat})
		var err error
		if result.Produced, err = Sum(result.Produced, heat); err != nil {
			return err
		}
		shares := LargestRemainder(heat, weights)
		for i, row := range rows {
			out := HeatRow{Key: row.Key()}
			if shares != nil {
				out.Heat = shares[i]
			}
			result.Rows = append(result.Rows, out)
		}
		return nil
	})
	return result, err
}

// heat is the source's useful heat in the window.
func (s HeatSource) heat(w schema.Window, produced []HeatMinute) (SourceHeat, error) {
	out := SourceHeat{Name: s.Name, Estimated: s.Method == HeatCapture}
	valid := w
	valid.From, valid.To = schema.Later(w.From, s.From), w.To
	if !s.To.IsZero() {
		valid.To = schema.Earlier(w.To, s.To)
	}
	switch {
	case !valid.From.Before(valid.To):
		return out, nil
	case s.Kept != nil:
		out.Minutes, out.Circumstances = s.Kept, s.KeptCircumstance
	case s.Method == HeatCapture:
		s.captured(&out, valid, produced)
	default:
		s.measured(&out, valid)
	}
	var err error
	for _, m := range out.Minutes {
		if out.Useful, err = Sum(out.Useful, m.Millijoule); err != nil {
			return out, err
		}
	}
	return out, nil
}
