package meters

import (
	"fmt"
	"math/big"

	"github.com/cockroachdb/apd/v3"
)

// Bounds of a number's text. A device that answers with more is broken.
const (
	maxDigits   = 40
	maxExponent = 30
)

// counterFactors and powerFactors bring a unit to mJ and to mW.
var (
	counterFactors = map[string]int64{"Wh": 3_600_000, "kWh": 3_600_000_000, "MWh": 3_600_000_000_000, "J": 1_000, "Wmin": 60_000}
	powerFactors   = map[string]int64{"W": 1_000, "kW": 1_000_000, "mW": 1}
)

// scaled is the number in text times factor, floored, exactly. Errors: no
// finite decimal, one of absurd length, or a result beyond 64 bits.
func scaled(text string, factor int64) (int64, error) {
	if len(text) > maxDigits {
		return 0, fmt.Errorf("number of %d digits", len(text))
	}
	value, _, err := apd.NewFromString(text)
	if err != nil || value.Form != apd.Finite {
		return 0, fmt.Errorf("%q is no number", text)
	}
	if value.Exponent > maxExponent || value.Exponent < -maxExponent-maxDigits {
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
