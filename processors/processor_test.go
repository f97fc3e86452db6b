package processors

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLargestRemainder(t *testing.T) {
	for _, test := range []struct {
		name    string
		total   int64
		weights []int64
		want    []int64
	}{
		{"even", 9, []int64{1, 1, 1}, []int64{3, 3, 3}},
		{"tie goes to the earlier", 10, []int64{1, 1, 1}, []int64{4, 3, 3}},
		{"largest remainder", 10, []int64{5, 3, 3}, []int64{4, 3, 3}},
		{"negative counts 0", 10, []int64{-5, 1, 0, 1}, []int64{0, 5, 0, 5}},
		{"nobody", 10, []int64{0, -1}, nil},
		{"nothing", 0, []int64{1, 2}, []int64{0, 0}},
		{"less than one each", 2, []int64{1, 1, 1}, []int64{1, 1, 0}},
		{"weights beyond 64 bits", 9, []int64{math.MaxInt64, math.MaxInt64, math.MaxInt64}, []int64{3, 3, 3}},
		{"total of 63 bits", math.MaxInt64, []int64{1}, []int64{math.MaxInt64}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := LargestRemainder(test.total, test.weights)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLargestRemainderAddsUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		weights := make([]int64, 1+rng.IntN(40))
		var sum float64
		for i := range weights {
			weights[i] = rng.Int64N(1<<uint(1+rng.IntN(50))) - 1
			sum += float64(max(weights[i], 0))
		}
		total := rng.Int64N(1 << uint(1+rng.IntN(50)))
		shares := LargestRemainder(total, weights)
		if shares == nil {
			if sum != 0 {
				t.Fatalf("no shares of %v", weights)
			}
			continue
		}
		got, err := Sum(shares...)
		if err != nil || got != total {
			t.Fatalf("Σ shares = %d (%v), want %d of %v", got, err, total, weights)
		}
		for i, share := range shares {
			exact := float64(total) * float64(max(weights[i], 0)) / sum
			if math.Abs(float64(share)-exact) > 1+exact*1e-12 {
				t.Fatalf("share %d of %v is %d, want within 1 of %g", i, weights, share, exact)
			}
		}
	}
}

func TestSum(t *testing.T) {
	for _, test := range []struct {
		values []int64
		want   int64
		err    error
	}{
		{nil, 0, nil},
		{[]int64{1, -2, 3}, 2, nil},
		{[]int64{math.MaxInt64, 1}, 0, ErrOverflow},
		{[]int64{math.MinInt64, -1}, 0, ErrOverflow},
		{[]int64{math.MaxInt64, math.MinInt64, 5}, 4, nil},
	} {
		got, err := Sum(test.values...)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("Sum(%v) = %d, %v, want %d, %v", test.values, got, err, test.want, test.err)
		}
	}
}

func TestMulDiv(t *testing.T) {
	for _, test := range []struct{ a, b, c, want int64 }{
		{7, 3, 2, 10}, {0, 3, 2, 0}, {math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64},
		{math.MaxInt64, 4, 8, math.MaxInt64 / 2}, {math.MaxInt64, 2, 1, math.MaxInt64},
	} {
		if got := MulDiv(test.a, test.b, test.c); got != test.want {
			t.Errorf("MulDiv(%d, %d, %d) = %d, want %d", test.a, test.b, test.c, got, test.want)
		}
	}
}
