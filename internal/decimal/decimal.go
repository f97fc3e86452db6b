// Package decimal makes whole numbers of decimal text that devices, people and
// files give: exactly, without a float between. It knows no units.
package decimal

import (
	"fmt"
	"math/big"

	"github.com/cockroachdb/apd/v3"
)

// Bounds of a number's text. A device that answers with more is broken.
const (
	maxLength   = 40
	maxExponent = 30
)

// Parse is the number in text. Errors: more than 40 characters, or no finite
// decimal number. Spaces around it are none of it.
func Parse(text string) (*apd.Decimal, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("number of %d digits", len(text))
	}
	value, _, err := apd.NewFromString(text)
	if err != nil || value.Form != apd.Finite {
		return nil, fmt.Errorf("%q is no number", text)
	}
	return value, nil
}

// Round is the value in units of 10^-places, what lies beyond rounded, half away
// from zero. Error: a result beyond 64 bits.
func Round(value *apd.Decimal, places int32) (int64, error) {
	var rounded apd.Decimal
	if _, err := apd.BaseContext.WithPrecision(maxLength+maxExponent).Quantize(&rounded, value, -places); err != nil {
		return 0, fmt.Errorf("number %s is out of range", value)
	}
	rounded.Exponent = 0
	n, err := rounded.Int64()
	if err != nil {
		return 0, fmt.Errorf("number %s is out of range", value)
	}
	return n, nil
}

// Floor is the number in text times factor, what lies beyond a whole number cut
// off downwards. Errors: those of Parse, and a result beyond 64 bits.
func Floor(text string, factor int64) (int64, error) {
	value, err := Parse(text)
	if err != nil {
		return 0, err
	}
	if value.Exponent > maxExponent || value.Exponent < -maxExponent-maxLength {
		return 0, fmt.Errorf("number %s is out of range", text)
	}
	product := new(big.Int).Mul(value.Coeff.MathBigInt(), big.NewInt(factor))
	if value.Negative {
		product.Neg(product)
	}
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(value.Exponent, -value.Exponent))), nil)
	if value.Exponent >= 0 {
		product.Mul(product, ten)
	} else {
		product.Div(product, ten) // Euclidean: floors, since ten is positive
	}
	if !product.IsInt64() {
		return 0, fmt.Errorf("number %s is out of range", text)
	}
	return product.Int64(), nil
}
