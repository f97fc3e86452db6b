package rating

import (
	"cmp"
	"math/big"
	"math/bits"
	"slices"

	"github.com/accumulus-metering/accumulus/processors"
)

// apportion shares total out in proportion to the weights, whose sum is sum and
// not 0: each share is the exact one rounded down, and the units that are left go
// to the largest remainders, of equal ones to the earlier. Weights may be below 0,
// and so may total; the shares' sum is total.
func apportion(total int64, weights []int64, sum int64) []int64 {
	if shares, ok := signedSmall(total, weights, sum); ok {
		return shares
	}
	exact := make([]*big.Int, len(weights))
	for i, w := range weights {
		exact[i] = new(big.Int).Mul(big.NewInt(w), big.NewInt(total))
	}
	return spread(big.NewInt(total), exact, big.NewInt(sum))
}

// apportionSmall is apportion in integers of 64 bits, where all weights have the
// sign of their sum.
func apportionSmall(total int64, weights []int64, sum int64) ([]int64, bool) {
	if total < 0 || sum <= 0 {
		return nil, false
	}
	shares := make([]int64, len(weights))
	remainders := make([]uint64, len(weights))
	rest := total
	for i, w := range weights {
		if w < 0 {
			return nil, false
		}
		hi, lo := bits.Mul64(uint64(w), uint64(total))
		if hi >= uint64(sum) {
			return nil, false
		}
		q, r := bits.Div64(hi, lo, uint64(sum))
		shares[i], remainders[i] = int64(q), r
		rest -= shares[i]
	}
	if rest < 0 || rest > int64(len(shares)) {
		return nil, false // sum is not that of the weights
	}
	give(shares, rest, func(a, b int) int { return cmp.Compare(remainders[b], remainders[a]) })
	return shares, true
}

// give adds 1 to the first rest shares in the order of compare.
func give(shares []int64, rest int64, compare func(a, b int) int) {
	if rest == 0 {
		return
	}
	order := make([]int, len(shares))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(compare(a, b), cmp.Compare(a, b)) })
	for _, i := range order[:rest] {
		shares[i]++
	}
}

// spread rounds exact[i]/den down and gives what is missing from total, their sum
// rounded, to the largest remainders. It returns nil where a share is beyond
// int64.
func spread(total *big.Int, exact []*big.Int, den *big.Int) []int64 {
	den = new(big.Int).Set(den)
	flip := den.Sign() < 0
	if flip {
		den.Neg(den)
	}
	shares := make([]int64, len(exact))
	remainders := make([]*big.Int, len(exact))
	left := new(big.Int).Set(total)
	for i, n := range exact {
		if flip {
			n = new(big.Int).Neg(n)
		}
		floor, rest := new(big.Int).DivMod(n, den, new(big.Int))
		if !floor.IsInt64() {
			return nil
		}
		shares[i], remainders[i] = floor.Int64(), rest
		left.Sub(left, floor)
	}
	give(shares, left.Int64(), func(a, b int) int { return remainders[b].Cmp(remainders[a]) })
	return shares
}

// partition cuts the sums by key into the tiers that they reach together. Rows and
// columns add up exactly: each key's parts to its sum, each tier's to its part of
// the whole. reached, where it is not 0, is the tier of a volume rate whose price
// counts though the sum does not reach it.
func (r *rate) partition(sums []int64, reached int) ([]linePart, error) {
	total, err := sumAll(sums)
	if err != nil {
		return nil, err
	}
	if r.volume {
		for i := range r.tiers {
			if total <= r.tiers[i].upTo && i+1 >= reached {
				return []linePart{{tier: i + 1, prices: &r.tiers[i].prices, sums: sums}}, nil
			}
		}
	}
	var parts []linePart
	below, left, rest := int64(0), slices.Clone(sums), total
	for i := range r.tiers {
		t := &r.tiers[i]
		if total <= t.upTo || rest <= 0 {
			return append(parts, linePart{tier: i + 1, prices: &t.prices, sums: left}), nil
		}
		column := apportion(t.upTo-below, left, rest)
		if column == nil {
			return nil, processors.ErrOverflow
		}
		parts = append(parts, linePart{tier: i + 1, prices: &t.prices, sums: column})
		for k := range left {
			left[k] -= column[k]
		}
		rest -= t.upTo - below
		below = t.upTo
	}
	return parts, nil
}

// tierKey names the rate's tiers in charging.reached.
func (r *rate) tierKey() string { return string(r.resource) + "\x00" + r.id }

func sumAll(values []int64) (int64, error) {
	total := int64(0)
	for _, v := range values {
		var err error
		if total, err = sum(total, v); err != nil {
			return 0, err
		}
	}
	return total, nil
}
