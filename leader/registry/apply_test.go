package registry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

func (r *Registry) siteAt(t *testing.T, at time.Time) string {
	t.Helper()
	f, err := r.Fleet(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	b, ok := f.Box("b")
	if !ok {
		return "-"
	}
	return b.Site
}

func box(site string) fleet.Object { return fleet.NewObject("b", fleet.Box{Site: site}) }

// TestValidity applies versions of one box in turn and reads the timeline back:
// the site in each of the hours from 9 to 15; "now" is 12:00:30.
func TestValidity(t *testing.T) {
	at := func(hour int) time.Time { return noon.Add(time.Duration(hour-12) * time.Hour) }
	tests := map[string]struct {
		apply []fleet.Object // "" as the site removes the box
		want  string
		last  fleet.Action // of the last apply
	}{
		"a new one always holds":           {[]fleet.Object{box("A")}, "AAAAAAA", fleet.Added},
		"a new one from its time on":       {[]fleet.Object{box("A").Since(at(11))}, "--AAAAA", fleet.Added},
		"a change holds from now":          {[]fleet.Object{box("A"), box("B")}, "AAABBBB", fleet.Changed},
		"a correction of the past":         {[]fleet.Object{box("A"), box("B").Since(at(10))}, "ABBBBBB", fleet.Changed},
		"a correction up to the next":      {[]fleet.Object{box("A"), box("B").Since(at(13)), box("C").Since(at(10))}, "ACCCBBB", fleet.Changed},
		"a correction of a stretch":        {[]fleet.Object{box("A"), box("B").Since(at(10)).Until(at(11))}, "ABAAAAA", fleet.Changed},
		"a change that is planned":         {[]fleet.Object{box("A"), box("B").Since(at(14))}, "AAAAABB", fleet.Changed},
		"a change before a planned one":    {[]fleet.Object{box("A"), box("B").Since(at(14)), box("C")}, "AAACCBB", fleet.Changed},
		"an earlier beginning":             {[]fleet.Object{box("A").Since(at(11)), box("B").Since(at(10))}, "-BAAAAA", fleet.Added},
		"the same again":                   {[]fleet.Object{box("A"), box("B").Since(at(10)), box("B").Since(at(10))}, "ABBBBBB", fleet.Unchanged},
		"the present one again, undated":   {[]fleet.Object{box("A"), box("B").Since(at(10)), box("B")}, "ABBBBBB", fleet.Unchanged},
		"an end":                           {[]fleet.Object{box("A"), box("A").Until(at(14))}, "AAAAA--", fleet.Changed},
		"an end that is taken back":        {[]fleet.Object{box("A").Until(at(14)), box("A")}, "AAAAAAA", fleet.Changed},
		"removed":                          {[]fleet.Object{box("A"), box("")}, "AAA----", ""},
		"removed and added":                {[]fleet.Object{box("A").Until(at(11)), box("A")}, "AA-AAAA", fleet.Added},
		"removed and added in that minute": {[]fleet.Object{box("A"), box(""), box("A")}, "AAAAAAA", fleet.Added},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, clk := open(t)
			clk.Set(noon.Add(30 * time.Second))
			var last Applied
			for _, o := range test.apply {
				if o.Spec.(fleet.Box).Site != "" {
					last = apply(t, r, o)
					continue
				}
				if _, err := r.Remove(t.Context(), fleet.KindBox, "b", "test"); err != nil {
					t.Fatal(err)
				}
			}
			var got strings.Builder
			for hour := 9; hour <= 15; hour++ {
				got.WriteString(r.siteAt(t, at(hour)))
			}
			if got.String() != test.want {
				t.Errorf("timeline %s, want %s", got.String(), test.want)
			}
			if test.last != "" && last.Diff[0].Action != test.last {
				t.Errorf("the last apply: %s, want %s", last.Diff, test.last)
			}
		})
	}
}

func TestVersionsInOneFile(t *testing.T) {
	r, clk := open(t)
	versions := []fleet.Object{box("A").Until(noon.Add(-time.Hour)), box("B").Since(noon.Add(-time.Hour))}
	apply(t, r, versions...)
	clk.Advance(time.Minute)
	if again := apply(t, r, versions...); !again.Diff.Empty() {
		t.Errorf("again: %s", again.Diff)
	}
	if got := r.siteAt(t, noon.Add(-2*time.Hour)) + r.siteAt(t, noon); got != "AB" {
		t.Errorf("timeline %s, want AB", got)
	}
	cuts, err := r.Cuts(t.Context(), hours(-2, 2))
	if diff := cmp.Diff([]time.Time{noon.Add(-time.Hour)}, cuts); diff != "" || err != nil {
		t.Errorf("cuts: %s %v", diff, err)
	}
	for w, want := range map[schema.Window]int{hours(-2, -1): 1, hours(-1, 0): 1, hours(-2, 0): 2, {}: 2} {
		history, err := r.History(t.Context(), fleet.KindBox, w)
		if err != nil || len(history) != want {
			t.Errorf("history of %s has %d versions, %v; want %d", w, len(history), err, want)
		}
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	r, _ := open(t)
	_, err := r.Apply(t.Context(), []fleet.Object{box("A"), fleet.NewObject("n", fleet.Node{Cluster: "none", Node: "n"})}, "test")
	if problems := (fleet.Problems{}); !errors.As(err, &problems) || len(problems) != 1 {
		t.Errorf("error %v, want one problem", err)
	}
	if objects, err := r.Objects(t.Context()); err != nil || len(objects) != 0 {
		t.Errorf("after a refused apply: %v, %v", objects, err)
	}
	plan, err := r.Plan(t.Context(), []fleet.Object{box("A")})
	if err != nil || plan.Diff.Count(fleet.Added) != 1 || r.siteAt(t, noon) != "-" {
		t.Errorf("plan %s, %v; then the box is %s", plan.Diff, err, r.siteAt(t, noon))
	}
}

func TestReplacedVersionsAreKept(t *testing.T) {
	r, _ := open(t)
	apply(t, r, box("A"))
	apply(t, r, box("B").Since(noon.Add(-time.Hour)))
	var kept int
	if err := r.reader.QueryRow("SELECT count(*) FROM object WHERE superseded_at IS NOT NULL AND spec LIKE '%\"A\"%'").Scan(&kept); err != nil || kept != 1 {
		t.Errorf("%d replaced versions, %v; want 1", kept, err)
	}
	audit, err := r.Audit(t.Context(), 1)
	if err != nil || len(audit) != 1 || audit[0].By != "test" || !strings.Contains(string(audit[0].Before), `"A"`) ||
		!strings.Contains(string(audit[0].After), `"B"`) || !audit[0].At.Equal(noon) {
		t.Errorf("audit %+v, %v", audit, err)
	}
}

// TestThePastIsNotEdited: after any change that holds from a moment on, every
// moment before it reads as it did. The control applies at the beginning.
func TestThePastIsNotEdited(t *testing.T) {
	edited := func(r *Registry, rng *rand.Rand, shift time.Duration) bool {
		from := noon.Add(time.Duration(rng.IntN(600)-300) * time.Minute)
		var before []string
		probe := func() (sites []string) {
			for at := noon.Add(-6 * time.Hour); at.Before(from); at = at.Add(7 * time.Minute) {
				sites = append(sites, r.siteAt(t, at))
			}
			return append(sites, r.siteAt(t, from.Add(-time.Nanosecond)))
		}
		before = probe()
		o := box(string(rune('A' + rng.IntN(5)))).Since(from.Add(shift))
		if rng.IntN(3) == 0 {
			o = o.Until(from.Add(time.Duration(1+rng.IntN(200)) * time.Minute))
		}
		apply(t, r, o)
		if site := r.siteAt(t, o.ValidFrom); site != o.Spec.(fleet.Box).Site {
			t.Errorf("at %s the site is %s, not %s", o.ValidFrom, site, o.Spec.(fleet.Box).Site)
		}
		return cmp.Diff(before, probe()) != ""
	}
	wrong, control := 0, 0
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 3))
		r, _ := open(t)
		apply(t, r, box("A").Since(noon.Add(-5*time.Hour)))
		for range 20 {
			if edited(r, rng, 0) {
				wrong++
			}
		}
		for range 20 {
			if edited(r, rng, -time.Hour) {
				control++
			}
		}
	}
	if wrong != 0 || control < 10 {
		t.Errorf("%d changes edited the past; of the control's 80, %d", wrong, control)
	}
}

func TestRemove(t *testing.T) {
	r, _ := open(t)
	apply(t, r, small()...)
	for _, k := range []key{{fleet.KindBox, "box-1"}, {fleet.KindHardware, "xeon"}, {fleet.KindCustomer, "acme"}} {
		_, err := r.Remove(t.Context(), k.kind, k.name, "test")
		if problems := (fleet.Problems{}); !errors.As(err, &problems) {
			t.Errorf("remove %v: %v, want that others name it", k, err)
		}
	}
	if _, err := r.Remove(t.Context(), fleet.KindCluster, "none", "test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	applied, err := r.Remove(t.Context(), fleet.KindCluster, "alpha", "test")
	if err != nil || applied.Diff.Count(fleet.Removed) != 2 {
		t.Fatalf("removed %s, %v; want the cluster and its node", applied.Diff, err)
	}
	f, err := r.Fleet(t.Context(), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := f.Cluster("alpha"); ok || len(f.NodesOfBox("box-1")) != 1 {
		t.Error("the cluster is still there")
	}
	history, err := r.History(t.Context(), fleet.KindCluster, hours(-1, 0))
	if err != nil || len(history) != 2 {
		t.Errorf("history %v, %v; want both clusters", history, err)
	}
	if _, err := r.Remove(t.Context(), fleet.KindCluster, "alpha", "test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v of the second removal, want ErrNotFound", err)
	}
	apply(t, r, small()...)
	if f, _ := r.Fleet(t.Context(), noon); len(f.NodesOfCluster("alpha")) != 1 {
		t.Error("the cluster was not added again")
	}
}

// TestRemoveSince: what ended in the past is as if it had ended then; what was before
// another absence stays.
func TestRemoveSince(t *testing.T) {
	r, _ := open(t)
	apply(t, r, small()...)
	again := noon.Add(-20 * time.Minute)
	apply(t, r, fleet.NewObject("night", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1"}).Since(noon.Add(-3*time.Hour)).Until(noon.Add(-2*time.Hour)),
		fleet.NewObject("night", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:1"}).Since(again))
	if _, err := r.RemoveSince(t.Context(), fleet.KindCluster, "night", "test", noon.Add(-time.Hour)); !errors.Is(err, ErrNotFound) {
		t.Errorf("since when it was not there: %v", err)
	}
	if _, err := r.RemoveSince(t.Context(), fleet.KindCluster, "night", "test", again); err != nil {
		t.Fatal(err)
	}
	alive, err := lifetime(t.Context(), r.reader, "night", nil)
	if want := (schema.Window{From: noon.Add(-3 * time.Hour), To: noon.Add(-2 * time.Hour)}); err != nil || alive != want {
		t.Errorf("alive %s, want %s: %v", alive, want, err)
	}
}

// TestAffected: which quarters a change makes due, two hours of data being
// there of alpha and one of beta.
func TestAffected(t *testing.T) {
	changed := func(o fleet.Object) fleet.Object { return o.Since(noon.Add(-20 * time.Minute)) }
	hardware := fleet.Hardware{CPUType: "xeon", IdleWatts: 31, MaxWatts: 80}
	price := fleet.PriceList{Currency: "EUR", Rates: []fleet.Rate{{Resource: "cpu_used", Price: "0.03"}}}
	tests := map[string]struct {
		object fleet.Object
		want   string
	}{
		"a corrected idle power": {changed(fleet.NewObject("xeon", hardware)), "power box-1 11:30; power box-1 11:45"},
		"from the beginning, where there is data": {fleet.NewObject("xeon", hardware).Since(noon.AddDate(-1, 0, 0)),
			"power box-1 10:00; power box-1 10:15; power box-1 10:30; power box-1 10:45; power box-1 11:00; power box-1 11:15; power box-1 11:30; power box-1 11:45"},
		"a name of a CPU": {changed(fleet.NewObject("xeon", fleet.Hardware{CPUType: "other", IdleWatts: 30, MaxWatts: 80})), ""},
		"a price":         {changed(fleet.NewObject("default", price)), "cost alpha 11:30; cost beta 11:30; cost alpha 11:45; cost beta 11:45"},
		"a price of beta, from before its data": {fleet.NewObject("beta", fleet.PriceList{Currency: "EUR", Clusters: []string{"beta"}}).Since(noon.Add(-80 * time.Minute)),
			"cost beta 11:00; cost beta 11:15; cost beta 11:30; cost beta 11:45"},
		"a price of a customer":  {changed(fleet.NewObject("acme", fleet.PriceList{Currency: "EUR", Customers: []string{"acme"}})), "cost alpha 11:30; cost alpha 11:45"},
		"a price of the future":  {fleet.NewObject("default", price).Since(noon.Add(time.Hour)), ""},
		"an address of a link":   {changed(fleet.NewObject("alpha", fleet.Cluster{Customer: "acme", URL: "http://127.0.0.1:9"})), ""},
		"a cluster's owner":      {changed(fleet.NewObject("alpha", fleet.Cluster{Customer: "globex", URL: "http://127.0.0.1:8081"})), "power box-1 11:30; power box-1 11:45; cost alpha 11:30; cost alpha 11:45"},
		"a box's overhead":       {changed(fleet.NewObject("box-1", fleet.Box{OverheadWatts: 11})), "power box-1 11:30; power box-1 11:45"},
		"a node out of its box":  {changed(fleet.NewObject("beta.n1", fleet.Node{Cluster: "beta", Node: "n1", Hardware: "xeon"})), "power box-1 11:30; power node:beta/n1 11:30; power box-1 11:45; power node:beta/n1 11:45; cost beta 11:30; cost beta 11:45"},
		"a node in no box":       {changed(fleet.NewObject("beta.n2", fleet.Node{Cluster: "beta", Node: "n2"})), "power node:beta/n2 11:30; power node:beta/n2 11:45; cost beta 11:30; cost beta 11:45"},
		"a new meter":            {changed(fleet.NewObject("m", fleet.Meter{Box: "box-1", Driver: fleet.DriverShellyGen1, URL: "http://127.0.0.1:9"})), "power box-1 11:30; power box-1 11:45"},
		"an assignment of alpha": {changed(fleet.NewObject("a", fleet.Assignment{Cluster: "alpha", Customer: "globex"})), "cost alpha 11:30; cost alpha 11:45"},
		"nothing":                {small()[0], ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, _ := open(t)
			apply(t, r, small()...)
			receive(t, r, "alpha", schema.NodeMinute, "s", hours(-2, 0))
			receive(t, r, "beta", schema.NodeMinute, "s", hours(-1, 0))
			applied := apply(t, r, test.object)
			var got []string
			for _, d := range applied.Due {
				got = append(got, fmt.Sprintf("%s %s %s", d.Processor, d.Scope, d.Quarter.Format("15:04")))
			}
			if diff := cmp.Diff(test.want, strings.Join(got, "; ")); diff != "" {
				t.Error(diff)
			}
			counts, err := r.DueCount(t.Context())
			if err != nil || counts["power"]+counts["cost"] != len(got) {
				t.Errorf("due %v, %v; want the %d that Apply returned", counts, err, len(got))
			}
		})
	}
}

// TestSharedMeterIsDue: what changes one box of a site's meter changes the shares of
// the others, and so does a box that joins or goes.
func TestSharedMeterIsDue(t *testing.T) {
	for name, object := range map[string]fleet.Object{
		"the meter":       fleet.NewObject("mains", fleet.Meter{Site: "hall", Driver: fleet.DriverPush, Channel: 1}),
		"a box's base":    fleet.NewObject("box-2", fleet.Box{Site: "hall", OverheadWatts: 3}),
		"a box that goes": fleet.NewObject("box-2", fleet.Box{Site: "elsewhere"}),
	} {
		r, _ := open(t)
		apply(t, r, append(small(), fleet.NewObject("box-2", fleet.Box{Site: "hall"}), fleet.NewObject("box-3", fleet.Box{Site: "hall"}),
			fleet.NewObject("alpha.x", fleet.Node{Cluster: "alpha", Node: "x", Box: "box-2", Hardware: "xeon"}),
			fleet.NewObject("alpha.y", fleet.Node{Cluster: "alpha", Node: "y", Box: "box-3", Hardware: "xeon"}),
			fleet.NewObject("mains", fleet.Meter{Site: "hall", Driver: fleet.DriverPush}))...)
		receive(t, r, "alpha", schema.NodeMinute, "s", hours(-1, 0))
		object.ValidFrom = noon.Add(-15 * time.Minute)
		boxes := make(map[string]bool)
		for _, d := range apply(t, r, object).Due {
			boxes[d.Scope] = true
		}
		if !boxes["box-2"] || !boxes["box-3"] || boxes["box-1"] {
			t.Errorf("%s: due %v", name, boxes)
		}
	}
}
