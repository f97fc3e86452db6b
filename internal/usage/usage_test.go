package usage

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

func TestParseWindow(t *testing.T) {
	settled := time.Date(2026, 11, 23, 10, 42, 0, 0, time.UTC)
	day := func(month time.Month, d int) time.Time { return time.Date(2026, month, d, 0, 0, 0, 0, time.UTC) }
	for text, want := range map[string]schema.Window{
		"1h":        {From: settled.Add(-time.Hour), To: settled},
		"90m":       {From: settled.Add(-90 * time.Minute), To: settled},
		"7d":        {From: settled.Add(-7 * 24 * time.Hour), To: settled},
		"today":     {From: day(11, 23), To: settled},
		"yesterday": {From: day(11, 22), To: day(11, 23)},
		"month":     {From: day(11, 1), To: settled},
		"lastmonth": {From: day(10, 1), To: day(11, 1)},
		"2026-10":   {From: day(10, 1), To: day(11, 1)},
		"2026-11":   {From: day(11, 1), To: settled},
		"2026-12":   {From: day(12, 1), To: day(12, 1).AddDate(0, 1, 0)},
		"2026-11-01T00:00:00+01:00,2026-11-02T00:00:00Z": {From: day(10, 31).Add(23 * time.Hour), To: day(11, 2)},
	} {
		if got, err := ParseWindow(text, settled); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "h", "-1h", "30s", "1h30s", "1.5d", "2026-13", "tomorrow", "2026-11-02T00:00:00Z,2026-11-01T00:00:00Z",
		"2026-11-01T00:00:30Z,2026-11-02T00:00:00Z", "a,b", "99999999999999d",
		"0000-01", "9999-12", "2200-12", "1000000h", "3661d", "0001-01-01T00:00:00Z,0001-01-02T00:00:00Z",
		"2026-11-01T00:00:00Z,2262-01-01T00:00:00Z", "2026-11-01T00:00:00Z,2036-12-01T00:00:00Z"} {
		var input *InputError
		if got, err := ParseWindow(text, settled); !errors.As(err, &input) || input.Hint == "" {
			t.Errorf("%q: got %s, %v; want an InputError with a hint", text, got, err)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, seed := range []string{"1h", "7d", "month", "2026-11", "2026-11-01T00:00:00Z,2026-11-02T00:00:00Z"} {
		f.Add(seed)
	}
	settled := time.Date(2026, 11, 23, 10, 42, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWindow(text, settled)
		if err == nil && (!w.From.Before(w.To) || w.Length() > maxWindow || !w.From.Equal(w.From.Truncate(time.Minute))) {
			t.Errorf("%q: %s", text, w)
		}
	})
}

func TestParseStep(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "1m": time.Minute, "15m": 15 * time.Minute, "6h": 6 * time.Hour, "1d": 24 * time.Hour} {
		if got, err := ParseStep(text); err != nil || got != want {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"7m", "5h", "2d", "30s", "x"} {
		if got, err := ParseStep(text); err == nil {
			t.Errorf("%q: got %s, want an error", text, got)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		pattern, value string
		want           bool
	}{
		{"shop", "shop", true}, {"shop", "shops", false}, {"shop*", "shops", true}, {"*", "", true}, {"a*c", "abc", true}, {"a*c", "ab", false},
		{"*b*", "abc", true}, {"a*a", "a", false}, {"", "", true}, {"*-db", "x-db", true}, {"a*b*c", "acb", false},
	} {
		if got := matches(test.pattern, test.value); got != test.want {
			t.Errorf("%q on %q: got %v", test.pattern, test.value, got)
		}
	}
}

func TestExact(t *testing.T) {
	for _, test := range []struct {
		value Exact
		want  string
	}{
		{CoreSeconds(1_234_567), "1.234567"}, {CoreSeconds(-500_000), "-0.5"}, {CoreSeconds(0), "0"}, {CoreSeconds(3_000_000), "3"},
		{Joules(5), "0.005"}, {Exact{}, "0"}, {ByteSeconds(math.MaxInt64), "9444732965739290426368"},
	} {
		text, err := json.Marshal(test.value)
		if err != nil || string(text) != test.want {
			t.Errorf("got %s, %v; want %s", text, err, test.want)
		}
		var back Exact
		if err := json.Unmarshal(text, &back); err != nil || back.Cmp(test.value) != 0 {
			t.Errorf("%s reads back as %s, %v", text, back, err)
		}
	}
}

func TestMoneyIsRoundedOnceAndTrimmed(t *testing.T) {
	for _, test := range []struct {
		amount   *big.Rat
		currency string
		want     string
	}{
		{big.NewRat(1, 3), "EUR", "0.333333333"}, {big.NewRat(2, 3), "EUR", "0.666666667"}, {big.NewRat(5, 2), "EUR", "2.50"},
		{big.NewRat(5, 1), "JPY", "5"}, {big.NewRat(-1, 10_000_000_000), "EUR", "0.00"}, {big.NewRat(0, 1), "KWD", "0.000"},
	} {
		if got := Decimal(test.amount, test.currency); got != test.want {
			t.Errorf("%s: got %s, want %s", test.amount, got, test.want)
		}
	}
}

func TestQuestionsThatNoNameCanAnswer(t *testing.T) {
	for _, request := range []Request{
		{Filter: []Condition{{Namespace, []string{"\xff"}}}},
		{Filter: []Condition{{Pod, []string{"web", "a\x00b"}}}},
		{Filter: []Condition{{Label("team"), []string{"a\rb"}}}},
		{Filter: []Condition{{Label("\xff"), []string{"a"}}}},
		{Aggregate: []Key{Label("a\x00b")}},
	} {
		var input *InputError
		if err := request.Check(); !errors.As(err, &input) || input.Hint == "" {
			t.Errorf("%+v: got %v, want an InputError with a hint", request, err)
		}
	}
	fine := Request{Filter: []Condition{{Namespace, []string{"a' OR ''='"}}, {Label("Größe"), []string{`x"; DROP`}}}}
	if err := fine.Check(); err != nil {
		t.Errorf("odd but possible: %v", err)
	}
}

func TestQualityOf(t *testing.T) {
	for want, of := range map[string][][3]int64{ // measured, of it by integrated watts, all
		schema.Estimated: {{0, 0, 0}, {0, 0, 7}},
		schema.Measured:  {{7, 0, 7}},
		schema.Mixed:     {{5, 0, 7}, {7, 7, 7}, {7, 1, 7}},
	} {
		for _, v := range of {
			if got := QualityOf(v[0], v[1], v[2]); got != want {
				t.Errorf("%v: %s, want %s", v, got, want)
			}
		}
	}
}
