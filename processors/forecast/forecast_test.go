package forecast

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOnlyWinnersAreTaken: of a constant series no other model is better than the
// run-rate; of a series that alternates by the day the day before is.
func TestOnlyWinnersAreTaken(t *testing.T) {
	flat, waves := Series{}, Series{}
	for i := range 20 * day {
		flat.Values = append(flat.Values, 70)
		waves.Values = append(waves.Values, int64(100*(i%day)))
	}
	f, err := Of(flat, 100)
	if err != nil || f.Model != RunRate || f.P10 != 7000 || f.P50 != 7000 || f.P90 != 7000 || !f.Interval || f.Covered != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	f, err = Of(waves, 6)
	if want := int64(100 * (0 + 1 + 2 + 3 + 4 + 5)); err != nil || f.Model != DayAgo || f.P50 != want || f.P90 != want {
		t.Errorf("%+v, %v, want %d of %s", f, err, want, DayAgo)
	}
	f, err = Of(flat, 0.25)
	if err != nil || f.P50 != 18 {
		t.Errorf("a quarter of an hour of 70: %+v, %v", f, err)
	}
}

func TestShortSeries(t *testing.T) {
	f, err := Of(Series{Values: []int64{10, 20}}, 10)
	if err != nil || f.Interval || f.P50 != 150 {
		t.Errorf("two hours: %+v, %v", f, err)
	}
	for _, bad := range []struct {
		values []int64
		hours  float64
		want   error
	}{{nil, 1, ErrEmpty}, {[]int64{1}, 0, ErrHorizon}, {[]int64{1}, math.NaN(), ErrHorizon}, {[]int64{1}, maxHours + 1, ErrHorizon}} {
		if _, err := Of(Series{Values: bad.values}, bad.hours); !errors.Is(err, bad.want) {
			t.Errorf("%v for %v h: %v, want %v", bad.values, bad.hours, err, bad.want)
		}
	}
	if _, err := Evaluate("x", Series{Values: make([]int64, week)}, day, 10); !errors.Is(err, ErrShort) {
		t.Errorf("a week: %v", err)
	}
	if f, err := Of(Series{Values: []int64{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64}}, 1000); err != nil || f.P50 != math.MaxInt64 {
		t.Errorf("beyond int64: %+v, %v", f, err)
	}
}

// TestNeverNegativeAndOrdered: of any series P10 ≤ P50 ≤ P90, none is below 0, and
// the same series gives the same forecast.
func TestNeverNegativeAndOrdered(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := Series{}
		for range 1 + r.IntN(500) {
			v := int64(0)
			if r.Float64() < 0.2 {
				v = r.Int64N(1 << 40)
			}
			s.Values = append(s.Values, v)
		}
		hours := 0.1 + 1000*r.Float64()
		f, err := Of(s, hours)
		if err != nil {
			t.Fatal(err)
		}
		if f.P10 < 0 || f.P10 > f.P50 || f.P50 > f.P90 {
			t.Errorf("seed %d: %d, %d, %d", seed, f.P10, f.P50, f.P90)
		}
		again, _ := Of(s, hours)
		if diff := cmp.Diff(fmt.Sprint(f), fmt.Sprint(again)); diff != "" {
			t.Error(diff)
		}
	}
}

// TestUnknownHoursAreNoZeros: an outage of the metering does not lower the forecast;
// the control counts it as zeros.
func TestUnknownHoursAreNoZeros(t *testing.T) {
	s := Series{}
	for i := range 10 * day {
		unknown := i >= 9*day && i < 9*day+12
		v := int64(1000)
		if unknown {
			v = 0
		}
		s.Values, s.Unknown = append(s.Values, v), append(s.Unknown, unknown)
	}
	f, err := Of(s, day)
	if err != nil || f.P50 != 24000 {
		t.Errorf("%+v, %v, want 24000", f, err)
	}
	s.Unknown = nil
	if f, _ = Of(s, day); f.P50 == 24000 {
		t.Error("the control sees no outage")
	}
}
