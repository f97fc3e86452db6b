package models

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func randomEquations(rng *rand.Rand, n int) *normal {
	e := newNormal(n)
	for range n + 3 + rng.IntN(10) {
		row := make([]float64, n)
		for i := range row {
			row[i] = rng.NormFloat64()
		}
		e.add(row, rng.NormFloat64(), rng.Float64())
	}
	for i := range n {
		e.pull(i, float64(rng.IntN(2)), 1e-3)
	}
	return e
}

func objective(e *normal, x []float64) float64 {
	v := 0.0
	for i := range x {
		v += x[i] * (dot(e.a[i], x)/2 - e.b[i])
	}
	return v
}

// Against all sets of unknowns that may be free, and the conditions of Karush,
// Kuhn and Tucker.
func TestNNLS(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	bound := 0
	for range 400 {
		n := 1 + rng.IntN(7)
		e := randomEquations(rng, n)
		x, err := nnls(e.a, e.b)
		if err != nil {
			t.Fatal(err)
		}
		best := 0.0 // of x = 0
		for set := range 1 << n {
			free := make([]bool, n)
			for i := range free {
				free[i] = set&(1<<i) != 0
			}
			if y, err := solveFree(e.a, e.b, free); err == nil && slices.Min(y) >= 0 {
				best = min(best, objective(e, y))
			}
		}
		if got := objective(e, x); got > best+1e-9*(1+math.Abs(best)) {
			t.Fatalf("%v gives %v, the best is %v", x, got, best)
		}
		for i := range x {
			gradient := e.b[i] - dot(e.a[i], x)
			if x[i] < 0 || x[i] == 0 && gradient > 1e-8 || x[i] > 0 && math.Abs(gradient) > 1e-7 {
				t.Fatalf("unknown %d is %v, its gradient %v", i, x[i], gradient)
			}
			if x[i] == 0 {
				bound++
			}
		}
	}
	if bound == 0 {
		t.Error("no unknown was held at 0: the law sees nothing")
	}
}

func TestNNLSLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range 20 {
		e := randomEquations(rng, 37)
		x, err := nnls(e.a, e.b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range x {
			gradient := e.b[i] - dot(e.a[i], x)
			if x[i] < 0 || x[i] == 0 && gradient > 1e-6 || x[i] > 0 && math.Abs(gradient) > 1e-6 {
				t.Fatalf("unknown %d is %v, its gradient %v", i, x[i], gradient)
			}
		}
	}
}

func TestDependentEquationsAreRefused(t *testing.T) {
	if _, err := cholesky([][]float64{{1, 1}, {1, 1}}, []float64{1, 1}); err == nil {
		t.Error("solved what has no one solution")
	}
}

// The eigenvalues of a matrix have its trace and its squares' sum, and for two
// correlated series are 1 ± r.
func TestEigenvalues(t *testing.T) {
	got := eigenvalues([][]float64{{1, .98}, {.98, 1}})
	slices.Sort(got)
	if math.Abs(got[0]-.02) > 1e-12 || math.Abs(got[1]-1.98) > 1e-12 {
		t.Errorf("%v", got)
	}
	rng := rand.New(rand.NewPCG(1, 9))
	for range 50 {
		e := randomEquations(rng, 6)
		var trace, squares, sum, sumSquares float64
		for i, row := range e.a {
			trace += row[i]
			squares += dot(row, row)
		}
		for _, v := range eigenvalues(e.a) {
			sum, sumSquares = sum+v, sumSquares+v*v
		}
		if math.Abs(sum-trace) > 1e-9*trace || math.Abs(sumSquares-squares) > 1e-9*squares {
			t.Fatalf("trace %v, %v; squares %v, %v", trace, sum, squares, sumSquares)
		}
	}
}
