package forecast

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Example is a kind of series that forecasts are held against, made by a seed.
type Example struct {
	Name   string
	Hours  int // ahead, or ToMonthEnd
	Series []Named
}

// exampleHours is how long the series of the examples are: nine weeks, two months' ends.
const exampleHours = 9 * week

// Horizons are the times ahead of the examples.
var Horizons = []struct {
	Name  string
	Hours int
}{{"1 hour ahead", 1}, {"1 day ahead", day}, {"1 week ahead", week}, {"to the month's end", ToMonthEnd}}

// Ahead are examples of some series, over all times ahead.
func Ahead(name string, series []Named) []Example {
	var all []Example
	for _, h := range Horizons {
		all = append(all, Example{name + ", " + h.Name, h.Hours, series})
	}
	return all
}

// Examples are the series of docs/forecasts.md: walks with jumps, in which no hour of
// the day is like another day's, and the load of an office with and without growth.
func Examples() []Example {
	office := func(seed uint64) Series { return working(seed, 0) }
	growing := func(seed uint64) Series { return working(seed, 0.1) }
	var all []Example
	for _, kind := range []struct {
		name string
		made func(uint64) Series
	}{{"walks with jumps", walk}, {"offices", office}, {"offices that grow", growing}} {
		all = append(all, Ahead(kind.name, twelve(kind.made))...)
	}
	return all
}

// Evaluate is the example's evaluation, of 24 origins in each of its series.
func (x Example) Evaluate() (Evaluation, error) {
	var all []Evaluation
	for _, one := range x.Series {
		e, err := Evaluate(one.Name, one.Series, x.Hours, 24)
		if err != nil {
			return e, err
		}
		all = append(all, e)
	}
	return Together(x.Name, all), nil
}

func twelve(made func(seed uint64) Series) []Named {
	var all []Named
	for seed := range uint64(12) {
		all = append(all, Named{fmt.Sprint(seed), made(seed)})
	}
	return all
}

// walk is a random walk of the level, which jumps about every five days.
func walk(seed uint64) Series {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a repeatable example
	level, s := 1000.0, Series{}
	for range exampleHours {
		level = max(50, level+10*r.NormFloat64())
		if r.Float64() < 1.0/120 {
			level *= 0.6 + 1.1*r.Float64()
		}
		s.Values = append(s.Values, int64(1000*max(0, level+20*r.NormFloat64())))
	}
	return s
}

// working is an office's load: a day's and a week's pattern, noise of 10 %, and growth
// by the week.
func working(seed uint64, growth float64) Series {
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a repeatable example
	s := Series{}
	for i := range exampleHours {
		v := 400 + 300*math.Sin(2*math.Pi*float64(i%day)/day)
		if i/day%7 >= 5 {
			v *= 0.4
		}
		v *= 1 + growth*float64(i)/week + 0.1*r.NormFloat64()
		s.Values = append(s.Values, int64(1000*max(0, v)))
	}
	return s
}
