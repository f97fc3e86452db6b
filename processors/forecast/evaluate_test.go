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

// demo is the demo's nodes' CPU by the hour, for three weeks.
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
			for hour := range 21 * day {
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
	bounds := map[string]struct{ worse, least float64 }{ // WAPE over that of the best baseline; coverage
		"walks with jumps, 1 day ahead": {0.8, 0.70}, "walks with jumps, 1 week ahead": {1.05, 0.5},
		"offices, 1 day ahead": {1.1, 0.7}, "offices, 1 week ahead": {1.01, 0.65},
		"offices that grow, 1 day ahead": {1.25, 0.65}, "offices that grow, 1 week ahead": {1.01, 0.7},
		"the demo's nodes, 1 day ahead": {1.1, 0.7},
	}
	var table strings.Builder
	table.WriteString("| series | WAPE | run-rate | day-naive | week-naive | P10–P90 held |\n|---|---|---|---|---|---|\n")
	for _, x := range append(Examples(), Example{"the demo's nodes, 1 day ahead", day, demo(t)}) {
		e, err := x.Evaluate()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v", e.Series, e.Chosen)
		fmt.Fprintf(&table, "| %s | %.2f %% | %.2f %% | %.2f %% | %.2f %% | %.0f %% of %d |\n", e.Series, 100*e.WAPE, 100*e.RunRate, 100*e.DayAgo, 100*e.WeekAgo, 100*e.Covered, e.Bounded)
		bound := bounds[x.Name]
		if best := min(e.RunRate, e.DayAgo, e.WeekAgo); e.WAPE > bound.worse*best {
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
