package processors

import (
	"cmp"
	"errors"
	"math"
	"math/bits"
	"slices"
)

// Processor is a pure function of one scope and one quarter.
type Processor[In, Out any] interface {
	// Name is the processor's name in the due queue.
	Name() string
	// Fingerprint is a stable hash of all that the result depends on: equal
	// inputs, in whatever order, have equal fingerprints.
	Fingerprint(In) string
	// Process computes the result. It fails only on inputs that contradict
	// themselves (ErrInput) or do not fit 64 bits (ErrOverflow).
	Process(In) (Out, error)
}

// The processors.
var (
	_ Processor[PowerInput, PowerResult] = Power{}
	_ Processor[CostInput, CostResult]   = Cost{}
)

var (
	// ErrOverflow: a sum does not fit an int64. InfluxQL would wrap silently.
	ErrOverflow = errors.New("sum overflows 64 bits")
	// ErrInput: the input contradicts itself (two rows of a node in one minute,
	// readings out of order, a window that is no whole number of minutes).
	ErrInput = errors.New("contradictory input")
)

// Sum adds with an overflow check. It returns ErrOverflow.
func Sum(values ...int64) (int64, error) {
	var total int64
	for _, v := range values {
		next := total + v
		if (v > 0 && next < total) || (v < 0 && next > total) {
			return 0, ErrOverflow
		}
		total = next
	}
	return total, nil
}

// MulDiv is ⌊a·b/c⌋ without overflow in between, for a, b >= 0 and c > 0. A
// result beyond int64 is the largest int64.
func MulDiv(a, b, c int64) int64 {
	quotient, _ := mulDivRem(a, b, c)
	return quotient
}

func mulDivRem(a, b, c int64) (quotient, remainder int64) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return math.MaxInt64, 0
	}
	q, r := bits.Div64(hi, lo, uint64(c))
	if q > math.MaxInt64 {
		return math.MaxInt64, 0
	}
	return int64(q), int64(r)
}

// LargestRemainder shares total out in proportion to the weights: each share
// is the exact one rounded down, and the units that are left go to the largest
// remainders, on a tie to the earlier. The shares' sum is total. Negative
// weights count 0. If no weight is positive there is nobody to share with: it
// returns nil. total is >= 0.
func LargestRemainder(total int64, weights []int64) []int64 {
	weights, sum := summable(weights)
	if sum == 0 {
		return nil
	}
	shares := make([]int64, len(weights))
	if total <= 0 {
		return shares
	}
	type rest struct {
		index     int
		remainder int64
	}
	rests := make([]rest, 0, len(weights))
	left := total
	for i, w := range weights {
		if w <= 0 {
			continue
		}
		share, remainder := mulDivRem(total, w, sum)
		shares[i] = share
		left -= share
		if remainder > 0 {
			rests = append(rests, rest{i, remainder})
		}
	}
	if left > 0 {
		slices.SortFunc(rests, func(a, b rest) int {
			return cmp.Or(cmp.Compare(b.remainder, a.remainder), cmp.Compare(a.index, b.index))
		})
		for _, r := range rests[:left] {
			shares[r.index]++
		}
	}
	return shares
}

// summable is the weights and the sum of the positive ones; weights whose sum
// does not fit are halved until it does.
func summable(weights []int64) ([]int64, int64) {
	for {
		sum, fits := int64(0), true
		for _, w := range weights {
			if w > 0 {
				fits = fits && sum <= math.MaxInt64-w
				sum += w
			}
		}
		if fits {
			return weights, sum
		}
		weights = slices.Clone(weights)
		for i := range weights {
			weights[i] /= 2
		}
	}
}
