package models

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
)

// Prior is the shape of servers that were measured by others: what share of the
// way from idle to full power a node has gone at each tenth of load. It is a
// table over the ratio of idle to full power and over years of availability.
type Prior struct {
	Source string        `json:"source"` // who measured, and how the table was made
	Curves int           `json:"curves"` // how many servers are in it
	Levels []float64     `json:"levels"` // of load, rising, between 0 and 1
	Ratios []float64     `json:"ratios"` // of idle to full power, rising
	Years  []int         `json:"years"`  // rising; 0, which comes first, is an unknown year
	Shapes [][][]float64 `json:"shapes"` // by year, ratio, level: 0 … 1
	Median []float64     `json:"median"` // by year: the typical ratio
}

// priorJSON is the table of the servers that published SPECpower_ssj2008
// results (www.spec.org): aggregated by `accumulus evaluate prior`, no single
// server's figures are in it.
//
//go:embed prior.json
var priorJSON []byte

// Shipped is the prior that is built in.
var Shipped = sync.OnceValue(func() Prior {
	prior, err := ReadPrior(priorJSON)
	if err != nil {
		panic(err) // the file is part of the program, and a test reads it
	}
	return prior
})

// ReadPrior reads a prior as JSON.
func ReadPrior(data []byte) (Prior, error) {
	var p Prior
	if err := json.Unmarshal(data, &p); err != nil {
		return Prior{}, fmt.Errorf("read prior: %w", err)
	}
	ok := p.Source != "" && len(p.Levels) > 0 && len(p.Ratios) > 0 && len(p.Years) > 0 && p.Years[0] == 0 &&
		len(p.Shapes) == len(p.Years) && len(p.Median) == len(p.Years)
	for _, byRatio := range p.Shapes {
		ok = ok && len(byRatio) == len(p.Ratios)
		for _, shape := range byRatio {
			ok = ok && len(shape) == len(p.Levels) && slices.IsSorted(shape) && shape[0] >= 0 && shape[len(shape)-1] <= 1
		}
	}
	if !ok || !slices.IsSorted(p.Levels) || !slices.IsSorted(p.Ratios) || !slices.IsSorted(p.Years) || p.Levels[0] <= 0 || p.Levels[len(p.Levels)-1] >= 1 {
		return Prior{}, fmt.Errorf("read prior: it needs a source, and shapes of shares that never fall, for each year (0 first), ratio and level")
	}
	return p, nil
}

// Shape is the shape of a node by its ratio of idle to full power and the year
// from which its hardware could be had (0: unknown): 0 at idle, 1 at full load.
// Ratios and years beyond the table are as its edge.
func (p Prior) Shape(ratio float64, year int) Cubic {
	yearBelow, yearAbove, yearPart := p.years(year)
	at, part := between(p.Ratios, ratio)
	points := []Point{{0, 0}}
	for i, level := range p.Levels {
		mix := func(y int) float64 {
			s := p.Shapes[y]
			return (1-part)*s[at][i] + part*s[min(at+1, len(s)-1)][i]
		}
		points = append(points, Point{level, (1-yearPart)*mix(yearBelow) + yearPart*mix(yearAbove)})
	}
	cubic, err := NewCubic(append(points, Point{1, 1}))
	if err != nil {
		panic(err) // ReadPrior and BuildPrior see to it
	}
	return cubic
}

// Ratio is the typical ratio of idle to full power.
func (p Prior) Ratio(year int) float64 {
	below, above, part := p.years(year)
	return (1-part)*p.Median[below] + part*p.Median[above]
}

func (p Prior) years(year int) (below, above int, part float64) {
	if year <= 0 || len(p.Years) == 1 {
		return 0, 0, 0
	}
	known := make([]float64, 0, len(p.Years)-1)
	for _, y := range p.Years[1:] {
		known = append(known, float64(y))
	}
	at, part := between(known, float64(year))
	return at + 1, min(at+2, len(p.Years)-1), part
}

// between is the place of a value in a rising list: after which entry, and how
// far towards the next.
func between(list []float64, v float64) (at int, part float64) {
	if !(v > list[0]) {
		return 0, 0
	}
	if v >= list[len(list)-1] {
		return len(list) - 1, 0
	}
	at = sort.SearchFloat64s(list, v)
	if list[at] == v {
		return at, 0
	}
	at--
	return at, (v - list[at]) / (list[at+1] - list[at])
}

// Server is a server measured by others: its power by load.
type Server struct {
	Points []Point // from idle to full load
	Year   int     // from which it could be had; 0: unknown
	Group  string  // servers with one processor
}

// The grid of a prior, and how wide around a place in it servers count: to
// ratio and year as to a normal distribution of these widths. Chosen by
// cross-validation (docs/accuracy.md).
var (
	priorLevels = []float64{.1, .2, .3, .4, .5, .6, .7, .8, .9}
	priorRatios = []float64{.05, .1, .15, .2, .25, .3, .35, .4, .5, .6, .7, .8}
	priorYears  = []int{0, 2007, 2008, 2009, 2010, 2011, 2012, 2013, 2014, 2016, 2018, 2020, 2022}
)

const (
	ratioWidth = 0.24 // of the ratio itself, or of leastRatio
	leastRatio = 0.05
	yearWidth  = 0.8
	// floorWeight is every server's weight at every place, so that where there
	// are few the shape is that of all.
	floorWeight = 1e-3
)

// BuildPrior makes a prior of servers' curves: at each place of the grid the
// weighted median of their shapes. Servers of one group, which are alike, count
// together as the square root of their number.
func BuildPrior(servers []Server, source string) (Prior, error) {
	var all []shaped
	sizes := map[string]float64{}
	for _, s := range servers {
		sizes[s.Group]++
	}
	for _, s := range servers {
		one, ok, err := shapeOf(s)
		if err != nil {
			return Prior{}, err
		}
		if ok {
			one.weight = 1 / math.Sqrt(sizes[s.Group])
			all = append(all, one)
		}
	}
	if len(all) == 0 {
		return Prior{}, fmt.Errorf("no server's power rises with load: %w", ErrPoints)
	}
	p := Prior{Source: source, Curves: len(all), Levels: priorLevels, Ratios: priorRatios, Years: priorYears}
	for _, year := range priorYears {
		byRatio := make([][]float64, 0, len(priorRatios))
		for _, ratio := range priorRatios {
			byRatio = append(byRatio, medianShape(all, ratio, year))
		}
		p.Shapes = append(p.Shapes, byRatio)
		p.Median = append(p.Median, medianRatio(all, year))
	}
	return p, nil
}

// shaped is a server's shape at the prior's levels.
type shaped struct {
	shares []float64
	ratio  float64
	year   int
	weight float64
}

// shapeOf is a server's shape; not ok where power does not rise.
func shapeOf(s Server) (one shaped, ok bool, err error) {
	points, _ := rising(s.Points)
	cubic, err := NewCubic(points)
	if err != nil {
		return shaped{}, false, err
	}
	idle, full := points[0].Watts, points[len(points)-1].Watts
	if !(full > idle) {
		return shaped{}, false, nil
	}
	one = shaped{ratio: idle / full, year: s.Year}
	for _, level := range priorLevels {
		one.shares = append(one.shares, (cubic.At(level)-idle)/(full-idle))
	}
	return one, true, nil
}

func yearWeight(year, of int) float64 {
	if year == 0 {
		return 1
	}
	if of == 0 {
		return 0
	}
	d := float64(of-year) / yearWidth
	return math.Exp(-d * d / 2)
}

func medianShape(all []shaped, ratio float64, year int) []float64 {
	weights := make([]float64, len(all))
	for i, s := range all {
		d := (s.ratio - ratio) / (ratioWidth * max(ratio, leastRatio))
		weights[i] = s.weight * (math.Exp(-d*d/2) + floorWeight) * (yearWeight(year, s.year) + floorWeight)
	}
	shape := make([]float64, len(priorLevels))
	values := make([]float64, len(all))
	for l := range priorLevels {
		for i, s := range all {
			values[i] = s.shares[l]
		}
		shape[l] = round4(min(max(weightedMedian(values, weights), 0), 1))
		if l > 0 {
			shape[l] = max(shape[l], shape[l-1])
		}
	}
	return shape
}

func medianRatio(all []shaped, year int) float64 {
	values, weights := make([]float64, len(all)), make([]float64, len(all))
	for i, s := range all {
		values[i], weights[i] = s.ratio, s.weight*(yearWeight(year, s.year)+floorWeight)
	}
	return round4(weightedMedian(values, weights))
}

// weightedMedian is the least value with half of the weight at or below it.
func weightedMedian(values, weights []float64) float64 {
	order := make([]int, len(values))
	total := 0.0
	for i := range order {
		order[i] = i
		total += weights[i]
	}
	sort.Slice(order, func(a, b int) bool { return values[order[a]] < values[order[b]] })
	sum := 0.0
	for _, i := range order {
		if sum += weights[i]; sum >= total/2 {
			return values[i]
		}
	}
	return values[order[len(order)-1]]
}

func round4(v float64) float64 { return math.Round(v*1e4) / 1e4 }
