package decimal

import (
	"math/big"
	"strings"
	"testing"
)

func TestFloorIsExact(t *testing.T) {
	tests := []struct {
		text   string
		factor int64
		want   int64
	}{
		{"0.1", 3_600_000, 360_000}, {"45012.123", 3_600_000, 162_043_642_800}, {"0.0000001", 3_600_000, 0},
		{"-0.0000001", 3_600_000, -1}, {"9007199254740993", 1, 9007199254740993}, {"9223372036854775807", 1, 9223372036854775807},
		{"1.5e3", 1000, 1_500_000}, {"2562047788.015", 3_600_000_000, 9_223_372_036_854_000_000},
	}
	for _, test := range tests {
		if got, err := Floor(test.text, test.factor); err != nil || got != test.want {
			t.Errorf("%s × %d = %d, %v; want %d", test.text, test.factor, got, err, test.want)
		}
	}
}

func TestRoundIsExact(t *testing.T) {
	for text, want := range map[string]int64{
		"231.4567": 231_457, "231.4565": 231_457, "231.45649999999999999999999999999999": 231_456, "-0.0005": -1, "-0.0004999": 0,
		"1e-400": 0, "0e20": 0, "9223372036854775.807": 9223372036854775807, "1e3": 1_000_000,
	} {
		value, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Round(value, 3); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestWhatIsNoNumber(t *testing.T) {
	for text, want := range map[string]string{"": "no number", " 1": "no number", "NaN": "no number", "Infinity": "no number", "0x10": "no number",
		strings.Repeat("1", 41): "41 digits", "1e20": "out of range", "1e31": "out of range", "1e300": "out of range"} {
		if got, err := Floor(text, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Floor %q: %d, %v; want %s", text, got, err, want)
		}
		value, err := Parse(text)
		if err == nil {
			_, err = Round(value, 0)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Round %q: %v; want %s", text, err, want)
		}
	}
}

// FuzzWhole: both are the nearest whole number of their side, by exact fractions.
func FuzzWhole(f *testing.F) {
	for _, text := range []string{"0", "-1.5", "1e30", "123.456e-7", "1e-70", "NaN", "Infinity", "0x1p4", "."} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := Floor(text, 3_600_000); err == nil {
			if rest := rest(t, text, 3_600_000, got); rest.Sign() < 0 || rest.Cmp(big.NewRat(1, 1)) >= 0 {
				t.Errorf("%q: %d is off by %s", text, got, rest)
			}
		}
		value, err := Parse(text)
		if err != nil || value.Exponent < -1000 { // big.Rat would take long
			return
		}
		if got, err := Round(value, 3); err == nil {
			rest := rest(t, text, 1000, got)
			if half := rest.Abs(rest).Cmp(big.NewRat(1, 2)); half > 0 {
				t.Errorf("%q: %d is off by %s", text, got, rest)
			}
		}
	})
}

// rest is text × factor − got.
func rest(t *testing.T, text string, factor, got int64) *big.Rat {
	t.Helper()
	exact, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is %d, but no rational number", text, got)
	}
	exact.Mul(exact, big.NewRat(factor, 1))
	return exact.Sub(exact, new(big.Rat).SetInt64(got))
}
