package allocation

import (
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// nameOf is the key in the answer. What is idle is one thing, of each cluster where
// the question tells clusters apart, of each node where idle is by node.
func (r Request) nameOf(a *atom) string {
	if a.idle {
		byCluster := slices.ContainsFunc(r.aggregate, func(d dimension) bool { return d.key == usage.Cluster })
		switch {
		case r.idleByNode && r.idle():
			return a.key[string(usage.Cluster)] + "/" + a.key[string(usage.Node)] + "/" + Idle
		case byCluster:
			return a.key[string(usage.Cluster)] + "/" + Idle
		}
		return Idle
	}
	if len(r.aggregate) == 1 {
		return a.named(r.aggregate[0])
	}
	parts := make([]string, len(r.aggregate))
	for i, d := range r.aggregate {
		parts[i] = a.named(d)
	}
	return strings.Join(parts, "/")
}

// group is an allocation in the making.
type group struct {
	atom
	clusters map[string]bool
	volumes  map[string]*values
	share    float64 // the largest coverage of what has no pods' time
}

func newGroup(a *atom) *group {
	g := &group{clusters: make(map[string]bool), volumes: make(map[string]*values)}
	g.name, g.idle, g.values, g.labels = a.name, a.idle, new(values), a.labels
	g.key = maps.Clone(a.key)
	return g
}

// add adds an atom; keys that differ are nobody's.
func (g *group) add(a *atom, keys []usage.Key) {
	g.values.plus(a.values)
	for _, k := range keys {
		if g.key[string(k)] != a.key[string(k)] {
			g.key[string(k)] = ""
		}
	}
	g.labels = usage.CommonLabels(g.labels, a.labels)
	g.clusters[a.key[string(usage.Cluster)]] = true
	g.noCarbon, g.noHeat, g.provisional = g.noCarbon || a.noCarbon, g.noHeat || a.noHeat, g.provisional || a.provisional
	g.uptime, g.covered, g.share = g.uptime+a.uptime, g.covered+a.covered, max(g.share, a.coverage)
	if claim := a.key[string(usage.Claim)]; claim != "" {
		id := "cluster=" + a.key[string(usage.Cluster)] + ":name=" + a.key[string(usage.Namespace)] + "/" + claim
		if g.volumes[id] == nil {
			g.volumes[id] = new(values)
		}
		g.volumes[id].plus(a.values)
	}
}

func (g *group) properties() Properties {
	p := Properties{Cluster: g.key[string(usage.Cluster)], Node: g.key[string(usage.Node)], Namespace: g.key[string(usage.Namespace)], Pod: g.key[string(usage.Pod)], Container: g.key[string(usage.Container)],
		Customer: assigned(g.key[string(usage.Customer)]), Project: assigned(g.key[string(usage.Project)]), User: assigned(g.key[string(usage.User)]),
		Hardware: g.key[string(usage.Hardware)], Provider: g.key[string(usage.Provider)], Region: g.key[string(usage.Region)]}
	kind, name, _ := strings.Cut(g.key[string(usage.Workload)], "/")
	p.ControllerKind, p.Controller = strings.ToLower(kind), name
	for name, value := range g.labels {
		p.label(name, value)
	}
	for k, v := range g.key {
		if name, ok := usage.Key(k).LabelName(); ok && v != "" {
			p.label(name, v)
		}
	}
	if len(g.clusters) > 1 {
		for c := range g.clusters {
			p.Clusters = append(p.Clusters, c)
		}
		slices.Sort(p.Clusters)
	}
	return p
}

// label sets a label, or an annotation that stands as one.
func (p *Properties) label(name, value string) {
	into := &p.Labels
	if annotation, is := strings.CutPrefix(name, schema.AnnotationPrefix); is {
		into, name = &p.Annotations, annotation
	}
	if *into == nil {
		*into = make(map[string]string)
	}
	(*into)[name] = value
}

func assigned(name string) string {
	if name == schema.Unassigned {
		return ""
	}
	return name
}

// told is the group as the answer has it.
func (g *group) told(r Request, w schema.Window, currency string) Allocation {
	v := g.values
	v.settle()
	hours := big.NewRat(int64(w.Length()/time.Minute), 60)
	of := func(q quantity) Number { return number(v.get(q)) }
	per := func(n Number) Number {
		if n.Sign() == 0 {
			return n
		}
		return number(new(big.Rat).Quo(n.Rat, hours))
	}
	money := func(amount *big.Rat) Number {
		if r.metric == 0 || amount.Sign() == 0 {
			return number(amount)
		}
		rate := big.NewRat(int64(r.metric/time.Hour), 1)
		return number(rate.Mul(rate.Quo(rate, hours), amount))
	}
	cost := func(q quantity) Number { return money(v.get(q)) }
	a := Allocation{Name: g.name, Properties: g.properties(), Window: Window{stamp(w.From), stamp(w.To)}, Start: stamp(w.From), End: stamp(w.To),
		Minutes:      number(big.NewRat(int64(w.Length()/time.Minute), 1)),
		CPUCoreHours: of(cpuMax), CPUCost: cost(costCPU), CPUCostIdle: cost(idleCPU), CPUEfficiency: efficiency(v, cpuUsed, cpuRequested, g.idle),
		GPUHours: of(gpuHours), GPUCost: cost(costGPU),
		NetworkTransferBytes: of(transmitted), NetworkReceiveBytes: of(received), NetworkCost: cost(costNetwork),
		PVByteHours: of(pvByteHours), PVCost: cost(costPV),
		RAMByteHours: of(ramMax), RAMCost: cost(costRAM), RAMCostIdle: cost(idleRAM), RAMEfficiency: efficiency(v, ramUsed, ramRequested, g.idle),
		SharedCost: cost(costShared), TotalCost: money(v.total()),
		EnergyKwh: number(v.energy()), EnergyActiveKwh: of(energyActive), EnergyIdleKwh: of(energyIdle), SharedEnergyKwh: of(sharedEnergy),
		EnergyCost: cost(costEnergy), OtherCost: cost(costOther), Coverage: g.share, Currency: currency, Provisional: g.provisional,
		Quality: quality(v)}
	a.CPUCores, a.CPUCoreRequestAverage, a.CPUCoreUsageAverage = per(a.CPUCoreHours), per(of(cpuRequested)), per(of(cpuUsed))
	a.RAMBytes, a.RAMByteRequestAverage, a.RAMByteUsageAverage = per(a.RAMByteHours), per(of(ramRequested)), per(of(ramUsed))
	a.GPUCount, a.PVBytes = per(a.GPUHours), per(a.PVByteHours)
	if g.uptime > 0 {
		a.Coverage = min(1, g.covered/g.uptime)
	}
	a.TotalEfficiency = totalEfficiency(v, a.CPUEfficiency, a.RAMEfficiency)
	if !g.noCarbon {
		n := of(co2e)
		a.CO2eKg = &n
	}
	if !g.noHeat {
		n := of(heat)
		a.HeatKwh = &n
	}
	for id, volume := range g.volumes {
		if a.PVs == nil {
			a.PVs = make(map[string]Volume, len(g.volumes))
		}
		a.PVs[id] = Volume{ByteHours: number(volume.get(pvByteHours)), Cost: money(volume.get(costPV))}
	}
	return a
}

// quality is that of the energy, as usage.QualityOf.
func quality(v *values) string {
	if !v.has(energyMeasured) {
		return schema.Estimated
	}
	measured := v.get(energyMeasured)
	switch {
	case measured.Sign() == 0:
		return schema.Estimated
	case measured.Cmp(v.energy()) == 0 && v.get(energyIntegrated).Sign() == 0:
		return schema.Measured
	}
	return schema.Mixed
}

// efficiency is used by requested; as OpenCost has it, 1 of what is used without a
// request, and 0 of what is idle or not used.
func efficiency(v *values, used, requested quantity, idle bool) float64 {
	if v.rest[used] == nil && v.rest[requested] == nil { // of whole units, which are the same
		switch n := v.whole[used]; {
		case idle || n <= 0:
			return 0
		case v.whole[requested] == 0:
			return 1
		default:
			ratio, _ := big.NewRat(n, v.whole[requested]).Float64()
			return ratio
		}
	}
	of, by := v.get(used), v.get(requested)
	switch {
	case idle || of.Sign() <= 0:
		return 0
	case by.Sign() == 0:
		return 1
	}
	ratio, _ := of.Quo(of, by).Float64()
	return ratio
}

// totalEfficiency weighs both by their costs.
func totalEfficiency(v *values, cpu, ram float64) float64 {
	if !v.has(costCPU) && !v.has(costRAM) {
		return 0
	}
	c, _ := v.get(costCPU).Float64()
	r, _ := v.get(costRAM).Float64()
	if c+r <= 0 {
		return 0
	}
	return (c*cpu + r*ram) / (c + r)
}
