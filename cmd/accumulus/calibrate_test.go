package main

import "testing"

func TestParsePoints(t *testing.T) {
	points, err := parsePoints("idle=62.5, 10=95,50%=140,100=231")
	if err != nil || len(points) != 4 || points[0].Load != 0 || points[2].Utilisation != 0.5 || points[3].Watts != 231 {
		t.Errorf("points %+v, %v", points, err)
	}
	for _, wrong := range []string{"", "idle", "idle=", "10=-3", "120=5", "ten=4", "10=NaN"} {
		if points, err := parsePoints(wrong); err == nil {
			t.Errorf("%q is taken as %+v", wrong, points)
		}
	}
}
