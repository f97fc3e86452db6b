package forecast

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/simulator"
)

var update = flag.Bool("update", false, "write the table of docs/forecasts.md")

const docs = "../../docs/forecasts.md"

// demo is the demo's nodes' CPU by the hour, for nine weeks.
func demo(t *testing.T) []Named {
	start := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	s, err := simulator.New(simulator.DemoSince(start))
	if err != nil {
		t.Fatal(err)
	}
	var all []Named
	for _, cluster := range s.Fleet().Clusters {
		for _, node := range cluster.Nodes {
			one := Named{Name: cluster.Name + "/" + node.Name}
			for hour := range exampleHours {
				from := start.Add(time.Duration(hour) * time.Hour)
				one.Values = append(one.Values, s.NodeCoreMicroseconds(cluster.Name, node.Name, from, from.Add(time.Hour)))
			}
			all = append(all, one)
		}
	}
	return all
}

// TestForecastsAgainstNaive holds forecasts against the best of the baselines and their
// quantiles against what they claim; docs/forecasts.md has the figures.
func TestForecastsAgainstNaive(t *testing.T) {
	// WAPE over that of the best baseline, and coverage; of what nobody named 1.1 and 0.7.
	bounds := map[string]struct{ worse, least float64 }{
		"walks with jumps, 1 hour ahead": {0.5, 0.7}, "walks with jumps, 1 day ahead": {0.8, 0.7}, "walks with jumps, 1 week ahead": {1.05, 0.72},
		"offices, to the month's end": {4, 0.7}, // its first days have no week before them
	}
	var table strings.Builder
	table.WriteString("| series | WAPE | run-rate | day-naive | week-naive | P10–P90 held |\n|---|---|---|---|---|---|\n")
	for _, x := range append(Examples(), Ahead("the demo's nodes", demo(t))...) {
		e, err := x.Evaluate()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v", e.Series, e.Chosen)
		fmt.Fprintf(&table, "| %s | %.2f %% | %.2f %% | %.2f %% | %.2f %% | %.0f %% of %d |\n", e.Series, 100*e.WAPE, 100*e.RunRate, 100*e.DayAgo, 100*e.WeekAgo, 100*e.Covered, e.Bounded)
		bound, ok := bounds[x.Name]
		if !ok {
			bound.worse, bound.least = 1.1, 0.7
		}
		if best := min(e.RunRate, e.DayAgo, e.WeekAgo); e.WAPE > bound.worse*best+1e-4 {
			t.Errorf("%s: WAPE %.4f, the best baseline's is %.4f", x.Name, e.WAPE, best)
		}
		if e.Covered < bound.least {
			t.Errorf("%s: P10 to P90 hold %.2f", x.Name, e.Covered)
		}
	}
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := bytes.Cut(text, []byte("<!-- figures -->\n"))
	_, after, ok := bytes.Cut(rest, []byte("<!-- /figures -->"))
	if !ok {
		t.Fatal("docs/forecasts.md has no figures")
	}
	want := string(before) + "<!-- figures -->\n" + table.String() + "<!-- /figures -->" + string(after)
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("docs/forecasts.md has other figures (-update writes them):\n%s", table.String())
	}
	if err := os.WriteFile(docs, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestAWeekAheadOfAWalkHolds: on other walks than those of the examples P10 to P90 hold
// what they claim of a week ahead, nearly. The control takes the few errors of a week
// alone, as they are: it holds far less.
func TestAWeekAheadOfAWalkHolds(t *testing.T) {
	held, alone, of := 0, 0, 0
	for seed := range uint64(15) {
		s := walk(1000 + seed)
		for at := 3 * week; at+week <= len(s.Values); at += 75 {
			before := Series{Values: s.Values[max(0, at-mostHistory):at]}
			f, err := Of(before, week)
			if err != nil || !f.Interval {
				t.Fatal(f, err)
			}
			truth := 0.0
			for _, v := range s.Values[at : at+week] {
				truth += float64(v)
			}
			x := before.filled()
			trial := backTest(x, nil, week)
			low, high := quantiles(trial.errorsOf(f.Model, len(trial.origins)), trial.independent(len(trial.origins)))
			scale := max(1, week/float64(trial.hours))
			if of++; truth >= float64(f.P10) && truth <= float64(f.P90) {
				held++
			}
			if point := ahead(f.Model, x, week); truth >= point+scale*low && truth <= point+scale*high {
				alone++
			}
		}
	}
	told, control := float64(held)/float64(of), float64(alone)/float64(of)
	t.Logf("held %.0f %% of %d; the control %.0f %%", 100*told, of, 100*control)
	if told < 0.7 || told > 0.9 || control > told-0.1 {
		t.Errorf("held %.2f, the control %.2f", told, control)
	}
}

func TestReadCSV(t *testing.T) {
	all, err := ReadCSV(strings.NewReader("time,value,series\n2026-11-01T00:00:00Z,1.5,b\n2026-11-01T02:00:00Z,3,b\n2026-11-01T00:00:00+01:00,7,a\n"))
	if err != nil || len(all) != 2 || all[0].Name != "a" || len(all[1].Values) != 3 || !all[1].Unknown[1] || all[1].Values[0] != 1_500_000 {
		t.Errorf("%+v, %v", all, err)
	}
	for _, bad := range []string{"", "a,b\n", "time,value\nnow,1\n", "time,value\n2026-11-01T00:30:00Z,1\n", "time,value\n2026-11-01T00:00:00Z,-1\n", "time,value\n2026-11-01T00:00:00Z,NaN\n",
		"time,value\n2026-11-01T00:00:00Z,1\n2026-11-01T00:00:00Z,1\n", "time,value\n1980-11-01T00:00:00Z,1\n2026-11-01T00:00:00Z,1\n", "time,value\n1\n"} {
		if _, err := ReadCSV(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add("time,value,series\n2026-11-01T00:00:00Z,1.5,b\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ReadCSV(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, one := range all {
			if len(one.Values) == 0 || len(one.Values) != len(one.Unknown) {
				t.Errorf("%q: %+v", text, one)
			}
		}
	})
}
