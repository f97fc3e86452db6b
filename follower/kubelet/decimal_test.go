package kubelet

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strconv"
	"testing"
)

func TestParseDecimal(t *testing.T) {
	for _, test := range []struct {
		text            string
		shift           int
		whole, fraction int64
		ok              bool
	}{
		{"5190.656177059", 6, 5190656177, 59_000_000, true},
		{"0.3", 6, 300000, 0, true},
		{"0.000001", 6, 1, 0, true},
		{"0.0000009999", 6, 0, 999_900_000, true},
		{"1e-7", 6, 0, 100_000_000, true},
		{"1e-20", 6, 0, 0, true},
		{"5.0963099648e+10", 0, 50963099648, 0, true},
		{"9.223372036854775807e18", 0, 9223372036854775807, 0, true},
		{"9223372036854775807", 0, 9223372036854775807, 0, true},
		{"9223372036854775808", 0, 0, 0, false},
		{"1.8446744073709552e+19", 0, 0, 0, false},
		{"0", 6, 0, 0, true},
		{"-0", 6, 0, 0, true},
		{"0e999", 6, 0, 0, true},
		{"1e999", 0, 0, 0, false},
		{"1e9999", 0, 0, 0, false},
		{"1.795402217e+09", 9, 1795402217_000000000, 0, true},
		{"007.50", 0, 7, 500_000_000, true},
		{".5", 0, 0, 500_000_000, true},
		{"5.", 0, 5, 0, true},
		{"+12", 0, 12, 0, true},
		{"-1", 0, 0, 0, false},
		{"NaN", 0, 0, 0, false},
		{"+Inf", 0, 0, 0, false},
		{"", 0, 0, 0, false},
		{".", 0, 0, 0, false},
		{"1.2.3", 0, 0, 0, false},
		{"1e", 0, 0, 0, false},
		{"0x1p4", 0, 0, 0, false},
		{"1_000", 0, 0, 0, false},
	} {
		got, ok := parseDecimal([]byte(test.text), test.shift)
		if want := (decimal{test.whole, test.fraction}); ok != test.ok || got != want {
			t.Errorf("parseDecimal(%q, %d) = %v, %v; want %v, %v", test.text, test.shift, got, ok, want, test.ok)
		}
	}
}

// exactly is the same by rational numbers.
func exactly(text string, shift int) (decimal, bool) {
	r, ok := new(big.Rat).SetString(text)
	if !ok || r.Sign() < 0 {
		return decimal{}, false
	}
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(shift+fractionDigits)), nil))
	r.Mul(r, scale)
	whole := new(big.Int).Quo(r.Num(), r.Denom())
	whole, rest := whole.QuoRem(whole, big.NewInt(fractionOne), new(big.Int))
	return decimal{whole.Int64(), rest.Int64()}, whole.IsInt64()
}

func TestParseDecimalAgainstRationals(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		value := random.Float64() * []float64{1e-9, 1, 1e4, 1e9, 1e13, 1e20}[random.IntN(6)]
		text := strconv.FormatFloat(value, []byte("gfe")[random.IntN(3)], -1, 64)
		got, ok := parseDecimal([]byte(text), 6)
		want, wantOK := exactly(text, 6)
		if ok != wantOK || (ok && got != want) {
			t.Fatalf("parseDecimal(%q) = %v, %v; want %v, %v", text, got, ok, want, wantOK)
		}
	}
}

// The control: through float64 the same texts lose microseconds.
func TestFloatsWouldLose(t *testing.T) {
	lost := 0
	for i := range 10000 {
		text := fmt.Sprintf("%d.%06d", i%7, i)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := parseDecimal([]byte(text), 6); int64(value*1e6) != want.whole {
			lost++
		}
	}
	if lost == 0 {
		t.Error("floats were exact here; the test shows nothing")
	}
}

func TestDecimalSum(t *testing.T) {
	var sum decimal
	for range 3 {
		part, _ := parseDecimal([]byte("0.0000007"), 6)
		var ok bool
		if sum, ok = sum.add(part); !ok {
			t.Fatal("overflow")
		}
	}
	if want := (decimal{2, 100_000_000}); sum != want {
		t.Errorf("sum of parts is %v, want %v: floored once", sum, want)
	}
	full := decimal{whole: 1<<63 - 1}
	if _, ok := full.add(decimal{whole: 1}); ok {
		t.Error("a sum beyond int64 was taken")
	}
}

func FuzzParseDecimal(f *testing.F) {
	for _, seed := range []string{"1", "0.25", "1e9", "-0", "9223372036854775807", "1.795402217e+09", "e", "1e-400"} {
		f.Add(seed, uint8(6))
	}
	f.Fuzz(func(t *testing.T, text string, shift uint8) {
		got, ok := parseDecimal([]byte(text), int(shift%10))
		if !ok {
			return
		}
		if got.whole < 0 || got.fraction < 0 || got.fraction >= fractionOne {
			t.Fatalf("parseDecimal(%q) = %v", text, got)
		}
		if want, good := exactly(text, int(shift%10)); good && got != want {
			t.Fatalf("parseDecimal(%q, %d) = %v, want %v", text, shift%10, got, want)
		}
	})
}
