package focus

import (
	"math/big"
	"slices"
	"strings"
)

// apportion cuts an amount with so many decimals by weights, so that the parts add up
// to it: each is rounded towards zero, and the units that are left go to those that
// lost most. It is false where the weights come to nothing, or the amount has more
// decimals.
func apportion(amount *big.Rat, places int, weights []*big.Rat) ([]*big.Rat, bool) {
	total := new(big.Rat)
	for _, w := range weights {
		total.Add(total, w)
	}
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil))
	units := new(big.Rat).Mul(amount, scale)
	if total.Sign() == 0 || !units.IsInt() {
		return nil, false
	}
	left := new(big.Int).Set(units.Num())
	parts, lost, order := make([]*big.Int, len(weights)), make([]*big.Rat, len(weights)), make([]int, len(weights))
	for i, w := range weights {
		exact := new(big.Rat).Mul(units, new(big.Rat).Quo(w, total))
		parts[i] = new(big.Int).Quo(exact.Num(), exact.Denom())
		lost[i] = new(big.Rat).Sub(exact, new(big.Rat).SetInt(parts[i]))
		lost[i].Abs(lost[i])
		left.Sub(left, parts[i])
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return lost[b].Cmp(lost[a]) })
	one := big.NewInt(int64(left.Sign()))
	for i := 0; left.Sign() != 0; i++ {
		parts[order[i%len(order)]].Add(parts[order[i%len(order)]], one)
		left.Sub(left, one)
	}
	cut := make([]*big.Rat, len(weights))
	for i := range parts {
		cut[i] = new(big.Rat).Quo(new(big.Rat).SetInt(parts[i]), scale)
	}
	return cut, true
}

// apportionText cuts a decimal to its own decimals by weights or, where these come to
// nothing, by others.
func apportionText(text string, weights, others []*big.Rat) ([]string, bool) {
	amount, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, false
	}
	places := 0
	if _, decimals, has := strings.Cut(text, "."); has {
		places = len(decimals)
	}
	parts, ok := apportion(amount, places, weights)
	if !ok {
		if parts, ok = apportion(amount, places, others); !ok {
			return nil, false
		}
	}
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.FloatString(places)
	}
	return texts, true
}

// isNothing says whether a decimal is 0.
func isNothing(text string) bool {
	amount, ok := new(big.Rat).SetString(text)
	return ok && amount.Sign() == 0
}
