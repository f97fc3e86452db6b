package fleet

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Where a grid's intensity comes from.
const (
	// GridYearly: the built-in table of yearly means, by country.
	GridYearly = "yearly"
	// GridElectricityMaps: an HTTP API in the shape of Electricity Maps' v3.
	GridElectricityMaps = "electricitymaps"
	// GridImported: what somebody imports (accumulus carbon import).
	GridImported = "imported"
)

// Emission factors that Electricity Maps can give.
const (
	FactorsLifecycle = "lifecycle"
	FactorsDirect    = "direct"
)

// Binding says which boxes an object is for: those that it names, those with
// nodes in the clusters that it names, or in clusters of the regions that it
// names; one that names nothing is for all others.
type Binding struct {
	Boxes    []string `json:"boxes,omitempty"`
	Clusters []string `json:"clusters,omitempty"`
	Regions  []string `json:"regions,omitempty"` // as clusters name theirs
}

// Grid is the electricity grid of some boxes: the CO2e of a kWh by place.
type Grid struct {
	Name string `json:"-"`
	Binding
	// Zone is the source's name of the place: NL, DE, SE-SE3. The table of yearly
	// means takes what stands before the first '-'.
	Zone   string `json:"zone"`
	Source string `json:"source,omitempty"` // "" = GridYearly
	// NoYearly: where the source has no value, the intensity is unknown, and not
	// the yearly mean.
	NoYearly bool `json:"noYearly,omitempty"`

	// Of electricitymaps.
	URL       string   `json:"url,omitempty"`       // without /v3
	TokenFile string   `json:"tokenFile,omitempty"` // sent as auth-token
	CAFile    string   `json:"caFile,omitempty"`    // PEM; "" = the system's roots
	Factors   string   `json:"factors,omitempty"`   // "" = lifecycle
	Interval  Duration `json:"interval,omitzero"`   // 0 = 15m
}

// SourceOrDefault is the source, GridYearly where none is named.
func (g Grid) SourceOrDefault() string {
	if g.Source == "" {
		return GridYearly
	}
	return g.Source
}

// Values is the name under which the source's values of its zone are kept: direct
// and life-cycle factors are two sources.
func (g Grid) Values() string {
	if g.Factors == FactorsDirect {
		return g.Source + "/" + g.Factors
	}
	return g.SourceOrDefault()
}

// FactorsOrDefault are the emission factors, FactorsLifecycle where none are named.
func (g Grid) FactorsOrDefault() string {
	if g.Factors == "" {
		return FactorsLifecycle
	}
	return g.Factors
}

// EnergyContract is what the electricity of some boxes was bought as: the CO2e of
// a kWh by contract (market-based). It holds for the object's validity.
type EnergyContract struct {
	Name string `json:"-"`
	Binding
	GramsPerKWh Decimal `json:"gramsPerKWh"`
	Instrument  string  `json:"instrument"`         // such as guarantees-of-origin, ppa, supplier-mix, residual-mix
	Evidence    string  `json:"evidence,omitempty"` // where it is written: cancellation, contract number
}

// Kind is KindGrid.
func (Grid) Kind() Kind { return KindGrid }

// Kind is KindEnergyContract.
func (EnergyContract) Kind() Kind { return KindEnergyContract }

func (g Grid) named(name string) Spec           { g.Name = name; return g }
func (c EnergyContract) named(name string) Spec { c.Name = name; return c }

func (g Grid) references() []reference           { return g.Binding.references() }
func (c EnergyContract) references() []reference { return c.Binding.references() }

func (b Binding) references() []reference {
	var refs []reference
	for _, name := range b.Boxes {
		refs = append(refs, reference{"boxes", KindBox, name})
	}
	for _, name := range b.Clusters {
		refs = append(refs, reference{"clusters", KindCluster, name})
	}
	return refs
}

var zoneForm = regexp.MustCompile(`^[A-Z]{2}(-[A-Z0-9]+)*$`)

// minCarbonInterval is the shortest time between two questions to an API of
// intensities.
const minCarbonInterval = time.Minute

func (g Grid) check(report reporter) {
	if !zoneForm.MatchString(g.Zone) {
		report("zone", "%q is no zone: want capital letters such as NL or SE-SE3", g.Zone)
	}
	checkOneOf(report, "source", g.Source, "", GridYearly, GridElectricityMaps, GridImported)
	if g.Source != GridElectricityMaps {
		for _, own := range []struct{ field, value string }{{"url", g.URL}, {"tokenFile", g.TokenFile}, {"caFile", g.CAFile}, {"factors", g.Factors}} {
			if own.value != "" {
				report(own.field, "is for the source %s only", GridElectricityMaps)
			}
		}
		if g.NoYearly && g.SourceOrDefault() == GridYearly {
			report("noYearly", "leaves the source %s nothing", GridYearly)
		}
		return
	}
	checkURL(report, g.URL)
	checkOneOf(report, "factors", g.Factors, "", FactorsLifecycle, FactorsDirect)
	if strings.HasSuffix(strings.TrimRight(g.URL, "/"), "/v3") {
		report("url", "%q ends with /v3: leave that out", g.URL)
	}
	if d := time.Duration(g.Interval); d < 0 || d > 0 && d < minCarbonInterval || d > 24*time.Hour {
		report("interval", "%s is not between %s and 24h", d, minCarbonInterval)
	}
}

func (c EnergyContract) check(report reporter) {
	checkDecimal(report, "gramsPerKWh", c.GramsPerKWh, 3, 0, 5000)
	checkSet(report, "instrument", c.Instrument)
}

// checkDecimal checks a number with so many places at most between two others.
func checkDecimal(report reporter, field string, text Decimal, places int32, low, high float64) {
	value, err := text.Value()
	if err != nil {
		report(field, "%v", err)
		return
	}
	approximate, err := value.Float64()
	switch {
	case err != nil || approximate < low || approximate > high:
		report(field, "%s is not between %v and %v", text, low, high)
	case -value.Exponent > places:
		report(field, "%s has more than %d decimals", text, places)
	}
}

// binds refuses two objects of a kind for one box, cluster or region, or two for
// all others, at the same time.
func (v *validator) binds(objects, known []Object, of func(Spec) (Binding, bool)) {
	for _, o := range objects {
		mine, ok := of(o.Spec)
		if !ok {
			continue
		}
		for _, other := range known {
			theirs, ok := of(other.Spec)
			if !ok || other.Name() == o.Name() || !other.Overlaps(o.ValidFrom, o.ValidTo) {
				continue
			}
			v.bindings(o, other, "boxes", mine.Boxes, theirs.Boxes)
			v.bindings(o, other, "clusters", mine.Clusters, theirs.Clusters)
			v.bindings(o, other, "regions", mine.Regions, theirs.Regions)
			if mine.open() && theirs.open() {
				v.report(o, "spec.boxes", "%s is for all others already; name boxes, clusters or regions", other)
			}
		}
	}
}

func (b Binding) open() bool { return len(b.Boxes)+len(b.Clusters)+len(b.Regions) == 0 }

func gridBinding(s Spec) (Binding, bool)     { g, ok := s.(Grid); return g.Binding, ok }
func contractBinding(s Spec) (Binding, bool) { c, ok := s.(EnergyContract); return c.Binding, ok }

// bound is which of the objects is for a box: the one that names it, else the
// one that its clusters name, else the one that their regions name, else the one
// for all others. A box of which the clusters say different things has none.
func bound[T Spec](list []T, binding func(Spec) (Binding, bool), box string, clusters []Cluster) (found T, ok bool) {
	find := func(match func(Binding) bool) (T, bool) {
		for _, one := range list {
			if b, _ := binding(one); match(b) {
				return one, true
			}
		}
		var none T
		return none, false
	}
	if found, ok = find(func(b Binding) bool { return slices.Contains(b.Boxes, box) }); ok {
		return found, true
	}
	names := make(map[string]T)
	for _, cluster := range clusters {
		one, ok := find(func(b Binding) bool { return slices.Contains(b.Clusters, cluster.Name) })
		if !ok {
			one, ok = find(func(b Binding) bool { return cluster.Region != "" && slices.Contains(b.Regions, cluster.Region) })
		}
		if !ok {
			one, ok = find(Binding.open)
		}
		name := ""
		if ok {
			name = nameOf(one)
		}
		names[name] = one
	}
	if len(names) != 1 {
		return found, false
	}
	for name, one := range names {
		found, ok = one, name != ""
	}
	return found, ok
}

func nameOf(s Spec) string {
	switch one := s.(type) {
	case Grid:
		return one.Name
	case EnergyContract:
		return one.Name
	}
	return ""
}

// GridOf is the grid of a box, or of a node that stands in none (box "" and its
// cluster).
func (f *Fleet) GridOf(box string, clusters ...string) (Grid, bool) {
	return bound(f.grids.list, gridBinding, box, f.clustersAt(box, clusters))
}

// ContractOf is the contract of a box, or of a node that stands in none.
func (f *Fleet) ContractOf(box string, clusters ...string) (EnergyContract, bool) {
	return bound(f.contracts.list, contractBinding, box, f.clustersAt(box, clusters))
}

// clustersAt are the named clusters, or those of the box.
func (f *Fleet) clustersAt(box string, names []string) []Cluster {
	if box != "" {
		names = f.ClustersOfBox(box)
	}
	found := make([]Cluster, len(names))
	for i, name := range names {
		found[i], _ = f.Cluster(name)
		found[i].Name = name
	}
	return found
}

// Grids are all grids.
func (f *Fleet) Grids() []Grid { return f.grids.all() }

// HeatSources are all heat sources.
func (f *Fleet) HeatSources() []HeatSource { return f.heat.all() }

// HeatSource is the heat source of that name.
func (f *Fleet) HeatSource(name string) (HeatSource, bool) { return f.heat.get(name) }

// HeatSourcesOfBox are the heat sources of a box.
func (f *Fleet) HeatSourcesOfBox(box string) []HeatSource {
	return f.heat.where(func(h HeatSource) bool { return h.Box == box })
}
