package kubelet

import "math"

// fraction is how many digits behind the point a decimal keeps beyond its
// scale: a sum of parts is floored once, after the sum, not part by part.
const (
	fractionDigits = 9
	fractionOne    = 1_000_000_000
)

// decimal is a non-negative number: whole units and 1e-9 of a unit.
type decimal struct {
	whole    int64
	fraction int64 // [0, fractionOne)
}

// add is d + other, and false if that does not fit int64.
func (d decimal) add(other decimal) (decimal, bool) {
	sum := decimal{fraction: d.fraction + other.fraction}
	carry := sum.fraction / fractionOne
	sum.fraction %= fractionOne
	if d.whole > math.MaxInt64-other.whole-carry {
		return decimal{}, false
	}
	sum.whole = d.whole + other.whole + carry
	return sum, true
}

// parseDecimal reads a number as the Prometheus text format writes it ("12",
// "0.25", "5.0963099648e+10") times 10^shift, from its digits: no floating
// point is involved, so 0.3 s are 300,000 µs and nothing else. What lies beyond
// 1e-9 of the shifted unit is cut. It is false for what is no plain number:
// NaN, infinities, anything negative but -0, and what does not fit int64.
func parseDecimal(text []byte, shift int) (decimal, bool) {
	negative := len(text) > 0 && text[0] == '-'
	if len(text) > 0 && (negative || text[0] == '+') {
		text = text[1:]
	}
	mantissa, exponent, ok := splitExponent(text)
	if !ok {
		return decimal{}, false
	}
	point, digits := len(mantissa), 0
	for i, c := range mantissa {
		switch {
		case c == '.' && point == len(mantissa):
			point = i
		case c >= '0' && c <= '9':
			digits++
		default:
			return decimal{}, false
		}
	}
	if digits == 0 {
		return decimal{}, false
	}
	value, ok := place(mantissa, point, point+exponent+shift)
	if !ok || (negative && value != (decimal{})) {
		return decimal{}, false
	}
	return value, true
}

// place reads the digits of mantissa, whose point stands before its byte
// point, as if the point stood behind the first whole of the digits.
func place(mantissa []byte, point, whole int) (decimal, bool) {
	var value decimal
	unit := int64(fractionOne)
	for ; whole < 0 && unit > 0; whole++ {
		unit /= 10
	}
	at := 0
	for i, c := range mantissa {
		if i == point {
			continue
		}
		digit := int64(c - '0')
		if at < whole {
			if value.whole > (math.MaxInt64-digit)/10 {
				return decimal{}, false
			}
			value.whole = value.whole*10 + digit
		} else if unit /= 10; unit > 0 {
			value.fraction += digit * unit
		}
		at++
	}
	for ; at < whole; at++ {
		if value.whole == 0 {
			break
		}
		if value.whole > math.MaxInt64/10 {
			return decimal{}, false
		}
		value.whole *= 10
	}
	return value, true
}

// splitExponent cuts "1.5e+10" into "1.5" and 10.
func splitExponent(text []byte) ([]byte, int, bool) {
	for i, c := range text {
		if c != 'e' && c != 'E' {
			continue
		}
		digits := text[i+1:]
		sign := 1
		if len(digits) > 0 && (digits[0] == '-' || digits[0] == '+') {
			if digits[0] == '-' {
				sign = -1
			}
			digits = digits[1:]
		}
		if len(digits) == 0 || len(digits) > 4 {
			return nil, 0, false
		}
		exponent := 0
		for _, d := range digits {
			if d < '0' || d > '9' {
				return nil, 0, false
			}
			exponent = exponent*10 + int(d-'0')
		}
		return text[:i], sign * exponent, true
	}
	return text, 0, true
}
