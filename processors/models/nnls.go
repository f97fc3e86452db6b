package models

import (
	"fmt"
	"math"
)

// nnls minimises ½x'Ax - b'x over x >= 0 for a symmetric, positive definite A:
// least squares with nothing negative, on the normal equations, by the active
// sets of Lawson and Hanson (Solving Least Squares Problems, 1974, ch. 23).
func nnls(a [][]float64, b []float64) ([]float64, error) {
	n := len(b)
	x, free := make([]float64, n), make([]bool, n)
	scale := 0.0
	for _, v := range b {
		scale = max(scale, math.Abs(v))
	}
	for range 10*n + 10 {
		enter, steepest := -1, 1e-10*scale
		for i := range n {
			if gradient := b[i] - dot(a[i], x); !free[i] && gradient > steepest {
				enter, steepest = i, gradient
			}
		}
		if enter < 0 {
			return x, nil
		}
		free[enter] = true
		if err := settle(a, b, x, free); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("least squares of %d unknowns do not settle: %w", n, ErrPoints)
}

// settle moves x to the minimum over the free unknowns; those that would become
// negative on the way are held at 0.
func settle(a [][]float64, b, x []float64, free []bool) error {
	for {
		want, err := solveFree(a, b, free)
		if err != nil {
			return err
		}
		step, stop := 1.0, -1
		for i, f := range free {
			if f && want[i] <= 0 {
				if part := x[i] / (x[i] - want[i]); part < step || stop < 0 {
					step, stop = part, i
				}
			}
		}
		if stop < 0 {
			copy(x, want)
			return nil
		}
		for i, f := range free {
			if f {
				x[i] += step * (want[i] - x[i])
			}
		}
		x[stop], free[stop] = 0, false
		for i, f := range free {
			if f && x[i] <= 0 && want[i] <= 0 {
				x[i], free[i] = 0, false
			}
		}
	}
}

// solveFree solves A x = b over the free unknowns; the others are 0.
func solveFree(a [][]float64, b []float64, free []bool) ([]float64, error) {
	var index []int
	for i, f := range free {
		if f {
			index = append(index, i)
		}
	}
	sub, rhs := make([][]float64, len(index)), make([]float64, len(index))
	for r, i := range index {
		sub[r] = make([]float64, len(index))
		for c, j := range index {
			sub[r][c] = a[i][j]
		}
		rhs[r] = b[i]
	}
	solution, err := cholesky(sub, rhs)
	if err != nil {
		return nil, err
	}
	x := make([]float64, len(b))
	for r, i := range index {
		x[i] = solution[r]
	}
	return x, nil
}

// cholesky solves A x = b for a symmetric, positive definite A, which it
// overwrites.
func cholesky(a [][]float64, b []float64) ([]float64, error) {
	n := len(b)
	for i := range n {
		for j := range i + 1 {
			sum := a[i][j]
			for k := range j {
				sum -= a[i][k] * a[j][k]
			}
			if i != j {
				a[i][j] = sum / a[j][j]
				continue
			}
			if !(sum > 0) {
				return nil, fmt.Errorf("equations depend on each other: %w", ErrPoints)
			}
			a[i][i] = math.Sqrt(sum)
		}
	}
	x := make([]float64, n)
	for i := range n {
		x[i] = b[i]
		for k := range i {
			x[i] -= a[i][k] * x[k]
		}
		x[i] /= a[i][i]
	}
	for i := n - 1; i >= 0; i-- {
		for k := i + 1; k < n; k++ {
			x[i] -= a[k][i] * x[k]
		}
		x[i] /= a[i][i]
	}
	return x, nil
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// eigenvalues of a symmetric matrix, in no order, by Jacobi's rotations.
func eigenvalues(m [][]float64) []float64 {
	n := len(m)
	a := make([][]float64, n)
	for i := range a {
		a[i] = append([]float64(nil), m[i]...)
	}
	for range 100 {
		off := 0.0
		for i := range n {
			for j := range i {
				off += a[i][j] * a[i][j]
			}
		}
		if off < 1e-20 {
			break
		}
		for p := range n {
			for q := p + 1; q < n; q++ {
				rotate(a, p, q)
			}
		}
	}
	values := make([]float64, n)
	for i := range values {
		values[i] = a[i][i]
	}
	return values
}

// rotate makes a[p][q] 0.
func rotate(a [][]float64, p, q int) {
	if a[p][q] == 0 {
		return
	}
	theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
	t := math.Copysign(1, theta) / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	c := 1 / math.Sqrt(t*t+1)
	s := t * c
	for k := range a {
		kp, kq := a[k][p], a[k][q]
		a[k][p], a[k][q] = c*kp-s*kq, s*kp+c*kq
	}
	for k := range a {
		pk, qk := a[p][k], a[q][k]
		a[p][k], a[q][k] = c*pk-s*qk, s*pk+c*qk
	}
}

// normal is the normal equations of weighted least squares as they are added up.
type normal struct {
	a [][]float64
	b []float64
}

func newNormal(n int) *normal {
	e := &normal{a: make([][]float64, n), b: make([]float64, n)}
	for i := range e.a {
		e.a[i] = make([]float64, n)
	}
	return e
}

// add adds the equation row·x = y.
func (e *normal) add(row []float64, y, weight float64) {
	for i, v := range row {
		if v == 0 {
			continue
		}
		for j, w := range row {
			e.a[i][j] += weight * v * w
		}
		e.b[i] += weight * v * y
	}
}

// pull adds weight·(x[i] - towards)².
func (e *normal) pull(i int, towards, weight float64) {
	e.a[i][i] += weight
	e.b[i] += weight * towards
}
