package demo

import (
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
)

// The month that is closed ended before anything that the demonstration meters, whenever
// it begins, and the night is in it, on both sides of a midnight.
func TestLastMonth(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Amsterdam")
	if err != nil {
		t.Fatal(err)
	}
	for live, want := range map[string]string{"2026-11-27T16:00:00Z": "2026-10", "2026-12-01T00:10:00Z": "2026-10", "2026-12-01T23:59:00Z": "2026-10", "2026-12-02T00:30:00Z": "2026-11",
		"2027-01-15T12:00:00Z": "2026-12", "2027-11-20T12:00:00Z": "2027-10"} { // the clock changed on 31 October 2027
		at, err := time.Parse(time.RFC3339, live)
		if err != nil {
			t.Fatal(err)
		}
		period, edge := lastMonth(at, zone)
		w := night(edge)
		if period != want || w.To.After(at.Add(-historyLength)) || w.From.In(zone).Format("2006-01") != want || w.To.Add(-1).In(zone).Format("2006-01") != want ||
			w.From.In(zone).Day() == w.To.Add(-1).In(zone).Day() || edge.Unix()%900 != 0 {
			t.Errorf("%s: %s, %s", live, period, w)
		}
	}
}

// The cluster of that month is a fleet without a fault, and used something all night.
func TestPastFleet(t *testing.T) {
	w := night(time.Date(2026, 10, 30, 23, 0, 0, 0, time.UTC))
	s, err := simulator.New(past(w))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{w.From, w.To.Add(-schema.Minute)} {
		if bodies := s.Readings(pastCluster, at); len(bodies) != 3 || bodies[0].Node != "fra-1" {
			t.Errorf("at %s: %d nodes", at, len(bodies))
		}
	}
	namespaces := make(map[string]bool)
	for _, pod := range s.PodInfos(pastCluster, w.From, w.To) {
		namespaces[pod.Namespace] = true
	}
	if !namespaces[movedNamespace] {
		t.Errorf("no pod of %s in %v", movedNamespace, namespaces)
	}
}
