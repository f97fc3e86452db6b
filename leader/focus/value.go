package focus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Decimal columns are DECIMAL(38, scale): a cost holds the exact product of a unit
// price and a quantity.
const (
	precision     = 38
	scaleQuantity = 9
	scalePrice    = 15
	scaleCost     = scaleQuantity + scalePrice
)

// Text is a string or null: an empty string is no null.
type Text struct {
	Value string
	Valid bool
}

// Some is a string that is not null.
func Some(value string) Text { return Text{value, true} }

// SomeOr is null where the string is empty.
func SomeOr(value string) Text { return Text{value, value != ""} }

// KeyValue is a flat JSON object; nil is null. Values are string, bool, nil, int,
// or a *apd.Decimal.
type KeyValue map[string]any

// encode is the object with sorted keys.
func (kv KeyValue) encode() (string, error) {
	plain := make(map[string]any, len(kv))
	for key, value := range kv {
		switch v := value.(type) {
		case nil, string, bool, int:
			plain[key] = v
		case *apd.Decimal:
			plain[key] = json.Number(plainDecimal(v))
		default:
			return "", fmt.Errorf("key %q has a %T: a key-value holds strings, numbers, booleans and nulls", key, value)
		}
	}
	return encodeJSON(plain)
}

func encodeJSON(value any) (string, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// AllocatedElement says by what a part of a split charge was allocated.
type AllocatedElement struct {
	Ratio    *apd.Decimal // 0 to 1
	Unit     string       // "" where there is no quantity
	Quantity *apd.Decimal // nil where none is told
}

// encodeElements is the AllocatedMethodDetails object.
func encodeElements(elements []AllocatedElement) (string, error) {
	type element struct {
		AllocatedRatio json.Number
		UsageUnit      string       `json:",omitempty"`
		UsageQuantity  *json.Number `json:",omitempty"`
	}
	object := struct{ Elements []element }{}
	for _, e := range elements {
		made := element{AllocatedRatio: json.Number(plainDecimal(e.Ratio)), UsageUnit: e.Unit}
		if e.Quantity != nil {
			n := json.Number(plainDecimal(e.Quantity))
			made.UsageQuantity = &n
		}
		object.Elements = append(object.Elements, made)
	}
	return encodeJSON(object)
}

// cell is one value on its way into a file.
type cell struct {
	null   bool
	text   string
	at     time.Time
	number *apd.Decimal
}

// csv is the cell as CSV shows it; null is nothing.
func (c cell) csv(t Type) string {
	switch {
	case c.null:
		return ""
	case t == Moment:
		return c.at.UTC().Format(timeFormat)
	case t == Decimal:
		return pointed(c.number)
	}
	return c.text
}

// timeFormat is how a moment is written.
const timeFormat = "2006-01-02T15:04:05Z"

// plainDecimal is a number without exponent and without zeros at its end.
func plainDecimal(d *apd.Decimal) string {
	var reduced apd.Decimal
	reduced.Reduce(d)
	if reduced.IsZero() {
		return "0"
	}
	return reduced.Text('f')
}

// pointed is a number with a decimal point always: a reader that guesses types
// takes 3.0 for a decimal and 3 for an integer.
func pointed(d *apd.Decimal) string {
	text := plainDecimal(d)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// places is how many decimals a number needs.
func places(d *apd.Decimal) int {
	var reduced apd.Decimal
	reduced.Reduce(d)
	return max(0, -int(reduced.Exponent))
}

// unscaled is the number times 10^scale, which must be whole.
func unscaled(d *apd.Decimal, scale int) (*big.Int, bool) {
	if d.Form != apd.Finite || places(d) > scale || d.Exponent > precision {
		return nil, false
	}
	var reduced apd.Decimal
	reduced.Reduce(d)
	n := reduced.Coeff.MathBigInt()
	n.Mul(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)+int64(reduced.Exponent)), nil))
	if reduced.Negative {
		n.Neg(n)
	}
	return n, true
}

// fromRat is a fraction to so many decimals, half to even.
func fromRat(r *big.Rat, decimals int) *apd.Decimal {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil)
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(scale))
	whole, rest := new(big.Int).QuoRem(scaled.Num(), scaled.Denom(), new(big.Int))
	switch twice := rest.Abs(rest).Lsh(rest, 1).Cmp(scaled.Denom()); {
	case twice > 0 || twice == 0 && whole.Bit(0) == 1:
		whole.Add(whole, big.NewInt(int64(scaled.Sign())))
	}
	d := apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(whole), int32(-decimals))
	d.Reduce(d)
	return d
}

// times is the exact product.
func times(a, b *apd.Decimal) *apd.Decimal {
	var product apd.Decimal
	product.Coeff.Mul(&a.Coeff, &b.Coeff)
	product.Exponent = a.Exponent + b.Exponent
	product.Negative = a.Negative != b.Negative
	product.Reduce(&product)
	return &product
}

// zero is 0.
func zero() *apd.Decimal { return apd.New(0, 0) }
