package status

import (
	"testing"
	"time"
)

func TestEachCodeHasAHint(t *testing.T) {
	for _, code := range Codes() {
		if problem := NewProblem(code, "x"); problem.Hint == "" {
			t.Errorf("%s has no hint", code)
		}
	}
	if got := Hint("no such code"); got != "" {
		t.Errorf("hint of an unknown code: %q", got)
	}
}

func TestFraction(t *testing.T) {
	at := func(minutes int) time.Time { return time.Date(2026, 11, 1, 0, minutes, 0, 0, time.UTC) }
	for name, test := range map[string]struct {
		progress Progress
		want     float64
	}{
		"half":   {Progress{at(0), at(10), at(5)}, 0.5},
		"before": {Progress{at(5), at(10), at(0)}, 0},
		"beyond": {Progress{at(0), at(10), at(11)}, 1},
		"empty":  {Progress{at(0), at(0), at(0)}, 1},
	} {
		if got := test.progress.Fraction(); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
