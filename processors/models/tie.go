package models

import "math"

// tie puts types into one group as long as the condition of their loads is
// above MaxCondition: the two groups that vary most alike. Tied types keep the
// proportions of their priors; a type whose load does not vary at all says
// nothing of its rise, and its prior stays by the ridge.
func (f *boxFit) tie(windows []Window) {
	f.condition = 0
	for {
		correlations, varied := f.correlations(windows)
		condition := conditionOf(correlations, varied)
		if f.condition == 0 {
			f.condition = condition
		}
		if condition <= MaxCondition {
			return
		}
		a, b, most := -1, -1, -2.0
		for i := range correlations {
			for j := range i {
				if varied[i] && varied[j] && correlations[i][j] > most {
					a, b, most = j, i, correlations[i][j]
				}
			}
		}
		if a < 0 {
			return
		}
		f.merge(a, b)
	}
}

func (f *boxFit) merge(into, from int) {
	for i := range f.types {
		switch {
		case f.types[i].group == from:
			f.types[i].group = into
		case f.types[i].group > from:
			f.types[i].group--
		}
	}
	f.groups--
}

// correlations of the groups' rises over the windows, and which of them vary at
// all: by at least a thousandth of the box.
func (f *boxFit) correlations(windows []Window) (c [][]float64, varied []bool) {
	series := make([][]float64, f.groups)
	for g := range series {
		series[g] = make([]float64, len(windows))
	}
	for i, w := range windows {
		for _, n := range w.Nodes {
			t := f.types[f.find(n.Type)]
			series[t.group][i] += f.at(n, nil) - t.prior[0]
		}
	}
	least := meanWatts(windows) / 1000
	varied = make([]bool, f.groups)
	for g, s := range series {
		mean, squares := 0.0, 0.0
		for _, v := range s {
			mean += v / float64(len(s))
		}
		for i := range s {
			s[i] -= mean
			squares += s[i] * s[i]
		}
		sd := math.Sqrt(squares / float64(len(s)))
		varied[g] = sd > least
		for i := range s {
			s[i] /= max(sd, 1e-12) * math.Sqrt(float64(len(s)))
		}
	}
	c = make([][]float64, f.groups)
	for i := range c {
		c[i] = make([]float64, f.groups)
		for j := range c[i] {
			c[i][j] = dot(series[i], series[j])
		}
	}
	return c, varied
}

// conditionOf is the square root of the largest over the smallest eigenvalue
// of the correlations of those that vary: 1 if they vary apart.
func conditionOf(c [][]float64, varied []bool) float64 {
	var sub [][]float64
	for i := range c {
		if !varied[i] {
			continue
		}
		var row []float64
		for j := range c {
			if varied[j] {
				row = append(row, c[i][j])
			}
		}
		sub = append(sub, row)
	}
	if len(sub) < 2 {
		return 1
	}
	least, most := math.Inf(1), 0.0
	for _, v := range eigenvalues(sub) {
		least, most = min(least, v), max(most, v)
	}
	return math.Sqrt(most / max(least, 1e-12))
}
