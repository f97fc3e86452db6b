package fleet

import (
	"encoding/json"
	"fmt"

	"github.com/cockroachdb/apd/v3"
)

// maxDecimal bounds the text of a Decimal.
const maxDecimal = 100

// Decimal is an exact decimal number as text, such as a price. In YAML it is
// quoted, since an unquoted number would pass through binary floating point.
type Decimal string

// Value is the number. Errors: not a finite decimal.
func (d Decimal) Value() (*apd.Decimal, error) {
	if len(d) > maxDecimal {
		return nil, fmt.Errorf("%.20s… is longer than %d characters", string(d), maxDecimal)
	}
	value, _, err := apd.NewFromString(string(d))
	if err != nil {
		return nil, fmt.Errorf("%q is no decimal number", string(d))
	}
	if value.Form != apd.Finite {
		return nil, fmt.Errorf("%q is not finite", string(d))
	}
	return value, nil
}

// UnmarshalJSON takes text only.
func (d *Decimal) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("price %s: want quoted text such as \"0.025\"", data)
	}
	*d = Decimal(text)
	return nil
}

// scaled is the number times 10^places as an integer, what lies beyond cut off;
// 0 where it is none.
func (d Decimal) scaled(places int32) int64 {
	value, err := d.Value()
	if err != nil {
		return 0
	}
	var shifted, whole apd.Decimal
	shifted.Set(value)
	shifted.Exponent += places
	if _, err := apd.BaseContext.WithPrecision(maxDecimal).Floor(&whole, &shifted); err != nil {
		return 0
	}
	n, err := whole.Int64()
	if err != nil {
		return 0
	}
	return n
}

// Thousandths is 1000 times the number, what lies beyond cut off; 0 where it is
// none.
func (d Decimal) Thousandths() int64 { return d.scaled(3) }
