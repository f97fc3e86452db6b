package rating

import (
	"fmt"
	"math/big"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
)

// pricePlaces are the decimals of a price or quantity that is no finite decimal,
// such as the mean of dynamic prices: for people, no cost is computed from it.
const pricePlaces = 12

// exactly computes in as many digits as two prices can have.
var exactly = apd.Context{Precision: 200, MaxExponent: 400, MinExponent: -400,
	Traps: apd.DefaultTraps | apd.Inexact | apd.Rounded, Rounding: apd.RoundHalfUp}

var one, hundred = apd.New(1, 0), apd.New(100, 0)

func ratOf(d *apd.Decimal) *big.Rat {
	n := new(big.Int).Set(d.Coeff.MathBigInt())
	if d.Negative {
		n.Neg(n)
	}
	if d.Exponent >= 0 {
		return new(big.Rat).SetInt(n.Mul(n, pow10(d.Exponent)))
	}
	return new(big.Rat).SetFrac(n, pow10(-d.Exponent))
}

func pow10(n int32) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// round is the nearest integer to num/den, halves away from zero; den > 0.
func round(num, den *big.Int) *big.Int {
	n := new(big.Int).Abs(num)
	n.Lsh(n, 1).Add(n, den)
	n.Quo(n, new(big.Int).Lsh(den, 1))
	if num.Sign() < 0 {
		n.Neg(n)
	}
	return n
}

// rounded is r in units of 10^-places.
func rounded(r *big.Rat, places int32) *big.Int {
	return round(new(big.Int).Mul(r.Num(), pow10(places)), r.Denom())
}

// decimal is n·10^-places.
func decimal(n *big.Int, places int32) apd.Decimal {
	var d apd.Decimal
	d.Negative = n.Sign() < 0
	d.Coeff.SetMathBigInt(new(big.Int).Abs(n))
	d.Exponent = -places
	return d
}

// shown is r to pricePlaces, without zeros at the end.
func shown(r *big.Rat) apd.Decimal {
	d := decimal(rounded(r, pricePlaces), pricePlaces)
	d.Reduce(&d)
	return d
}

// mul and add are exact; prices are bounded so that they cannot overflow.
func mul(a, b *apd.Decimal) (apd.Decimal, error) {
	var d apd.Decimal
	_, err := exactly.Mul(&d, a, b)
	return d, err
}

func add(a, b *apd.Decimal) (apd.Decimal, error) {
	var d apd.Decimal
	_, err := exactly.Add(&d, a, b)
	return d, err
}

// percentOf is d · (100+percent)/100.
func percentOf(d, percent *apd.Decimal) (apd.Decimal, error) {
	factor, err := add(hundred, percent)
	if err != nil {
		return apd.Decimal{}, err
	}
	product, err := mul(d, &factor)
	product.Exponent -= 2
	return product, err
}

// units is an amount of units as stored units, which it must be a whole number of.
func units(d *apd.Decimal, base int64) (int64, error) {
	r := ratOf(d)
	r.Mul(r, new(big.Rat).SetInt64(base))
	if !r.IsInt() || !r.Num().IsInt64() || r.Sign() <= 0 {
		return 0, fmt.Errorf("%s is no whole number of stored units above 0: %w", d.Text('f'), processors.ErrInput)
	}
	return r.Num().Int64(), nil
}

// sum adds stored quantities.
func sum(a, b int64) (int64, error) {
	c := a + b
	if (c > a) == (b > 0) || b == 0 {
		return c, nil
	}
	return 0, processors.ErrOverflow
}
