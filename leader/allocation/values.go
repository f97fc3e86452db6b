package allocation

import (
	"maps"
	"math/big"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// quantity numbers what is added up.
type quantity int

const (
	cpuMax quantity = iota // core-hours, the larger of requested and used
	cpuRequested
	cpuUsed
	ramMax // byte-hours
	ramRequested
	ramUsed
	gpuHours
	received // bytes
	transmitted
	pvByteHours
	energyActive // kWh
	energyIdle
	energyOverhead
	energyMeasured
	energyIntegrated
	co2e // kg
	heat // kWh
	costCPU
	costRAM
	costGPU
	costNetwork
	costPV
	costEnergy
	costOther  // nodes, ephemeral storage, other extended resources
	costShared // of what is shared
	idleCPU    // the part of costCPU that is a share of idle
	idleRAM
	sharedEnergy // kWh of what is shared
	quantities
)

// costs are those that add up to the total.
var costs = []quantity{costCPU, costRAM, costGPU, costNetwork, costPV, costEnergy, costOther, costShared}

// values are exact: what is counted in whole stored units, what was charged, and the
// rest.
type values struct {
	whole [quantities]int64
	rest  map[quantity]*big.Rat // nil is 0; not changed once it stands here
	// charged are quantities by their price, which are multiplied when they are asked
	// for: most charges of an answer have the same few prices.
	charged map[charge]int64
}

// charge is a cost at one price.
type charge struct {
	cost  quantity
	price *big.Rat // of one stored unit: charges of the same are one by its address
}

// stored is how many of a quantity one stored unit is, as a fraction.
func (q quantity) stored() (numerator, denominator int64) {
	switch q {
	case cpuMax, cpuRequested, cpuUsed:
		return 1, microsecondsPerHour
	case ramMax, ramRequested, ramUsed, pvByteHours:
		return 1024, 3600 // KiB·s
	case gpuHours:
		return 1, millisecondsPerHour
	case energyActive, energyIdle, energyOverhead, energyMeasured, energyIntegrated, heat:
		return 1, millijoulesPerKWh
	case co2e:
		return 1, microgramsPerKg
	}
	return 1, 1
}

func (v *values) get(q quantity) *big.Rat {
	sum := new(big.Rat)
	if n := v.whole[q]; n != 0 {
		if numerator, denominator := q.stored(); numerator == 1 {
			sum.SetFrac64(n, denominator)
		} else {
			sum.SetFrac(new(big.Int).Mul(big.NewInt(n), big.NewInt(numerator)), big.NewInt(denominator))
		}
	}
	if v.rest[q] != nil {
		sum.Add(sum, v.rest[q])
	}
	for c, n := range v.charged {
		if c.cost == q {
			sum.Add(sum, c.of(n))
		}
	}
	return sum
}

// of is the cost of a quantity.
func (c charge) of(n int64) *big.Rat {
	return new(big.Rat).Mul(c.price, new(big.Rat).SetInt64(n))
}

// settle multiplies what was charged.
func (v *values) settle() {
	for c, n := range v.charged {
		v.add(c.cost, c.of(n))
	}
	v.charged = nil
}

// has says whether anything was added.
func (v *values) has(q quantity) bool {
	if v.whole[q] != 0 || v.rest[q] != nil {
		return true
	}
	for c := range v.charged {
		if c.cost == q {
			return true
		}
	}
	return false
}

// empty says that nothing was added.
func (v *values) empty() bool {
	return len(v.charged) == 0 && len(v.rest) == 0 && v.whole == [quantities]int64{}
}

func (v *values) clear(q quantity) {
	v.whole[q] = 0
	delete(v.rest, q)
	maps.DeleteFunc(v.charged, func(c charge, _ int64) bool { return c.cost == q })
}

func (v *values) add(q quantity, more *big.Rat) {
	if more == nil || more.Sign() == 0 {
		return
	}
	if v.rest == nil {
		v.rest = make(map[quantity]*big.Rat)
	}
	if known := v.rest[q]; known != nil {
		more = new(big.Rat).Add(known, more)
	}
	v.rest[q] = more
}

// addInt adds stored units.
func (v *values) addInt(q quantity, n int64) {
	sum, err := usage.Add(v.whole[q], n)
	if err == nil {
		v.whole[q] = sum
		return
	}
	more := &values{}
	more.whole[q] = n
	v.add(q, more.get(q))
}

func (v *values) plus(o *values) {
	for q := range quantities {
		if o.whole[q] != 0 {
			v.addInt(q, o.whole[q])
		}
	}
	for q, more := range o.rest {
		v.add(q, more)
	}
	for c, n := range o.charged {
		v.charge(c, n)
	}
}

// charge adds a quantity at a price.
func (v *values) charge(c charge, n int64) {
	if n == 0 || c.price.Sign() == 0 {
		return
	}
	if v.charged == nil {
		v.charged = make(map[charge]int64)
	}
	sum, err := usage.Add(v.charged[c], n)
	if err != nil {
		v.add(c.cost, c.of(n))
		return
	}
	v.charged[c] = sum
}

func (v *values) sum(of ...quantity) *big.Rat {
	total := new(big.Rat)
	for _, q := range of {
		if v.has(q) {
			total.Add(total, v.get(q))
		}
	}
	return total
}

func (v *values) total() *big.Rat  { return v.sum(costs...) }
func (v *values) energy() *big.Rat { return v.sum(energyActive, energyIdle, energyOverhead) }

// What of the stored units is one hour of the unit.
const (
	microsecondsPerHour = 3_600_000_000
	millisecondsPerHour = 3_600_000
	millijoulesPerKWh   = 3_600_000_000
	microgramsPerKg     = 1_000_000_000
)

// byteHours of KiB·s.
func byteHours(kib int64) *big.Rat {
	return new(big.Rat).Mul(big.NewRat(kib, 3600), big.NewRat(1024, 1))
}

// take adds one row's, its costs in the one currency, or in all where it is "".
func (v *values) take(c *query.Charges, currency string) {
	s := &c.Row.Sums
	v.addInt(cpuMax, max(s[usage.CPUMax], s[usage.CPU], s[usage.CPURequest]))
	v.addInt(cpuRequested, s[usage.CPURequest])
	v.addInt(cpuUsed, s[usage.CPU])
	v.addInt(ramMax, max(s[usage.MemoryMax], s[usage.Memory], s[usage.MemoryRequest]))
	v.addInt(ramRequested, s[usage.MemoryRequest])
	v.addInt(ramUsed, s[usage.Memory])
	v.addInt(pvByteHours, s[usage.VolumeClaimed])
	v.addInt(received, s[usage.NetworkReceive])
	v.addInt(transmitted, s[usage.NetworkTransmit])
	v.addInt(energyActive, s[usage.EnergyActive])
	v.addInt(energyIdle, s[usage.EnergyIdle])
	v.addInt(energyOverhead, s[usage.EnergyOverhead])
	v.addInt(energyMeasured, s[usage.EnergyMeasured])
	v.addInt(energyIntegrated, s[usage.EnergyIntegrated])
	v.addInt(co2e, c.CarbonMicrograms)
	v.addInt(heat, c.HeatMillijoules)
	for i := range c.Lines {
		line := &c.Lines[i]
		if isGPU(line.Resource) {
			v.addInt(gpuHours, line.Quantity)
		}
		if line.List != nil && (currency == "" || line.List.Currency == currency) {
			v.charge(charge{costOf(line.Resource), line.UnitPrice}, line.Quantity)
		}
	}
}

// isGPU says whether the resource is what OpenCost calls a GPU.
func isGPU(r processors.Resource) bool {
	name, ok := r.ExtendedName()
	return ok && (strings.HasSuffix(name, "/gpu") || strings.Contains(name, "/gpu-"))
}

// costOf is the field that a resource's cost belongs to.
func costOf(r processors.Resource) quantity {
	switch r.General() {
	case processors.CPUUsed, processors.CPURequested, processors.CPUMax:
		return costCPU
	case processors.MemoryUsed, processors.MemoryRequested, processors.MemoryMax:
		return costRAM
	case processors.NetworkReceive, processors.NetworkTransmit, processors.NodeReceive, processors.NodeTransmit:
		return costNetwork
	case processors.VolumeClaimed, processors.VolumeUsed:
		return costPV
	case processors.Energy:
		return costEnergy
	}
	if isGPU(r) {
		return costGPU
	}
	return costOther
}
