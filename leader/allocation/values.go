package allocation

import (
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

// values are exact; nil is 0.
type values [quantities]*big.Rat

func (v *values) get(q quantity) *big.Rat {
	if v[q] == nil {
		return new(big.Rat)
	}
	return v[q]
}

func (v *values) add(q quantity, more *big.Rat) {
	if more == nil || more.Sign() == 0 {
		return
	}
	v[q] = new(big.Rat).Add(v.get(q), more)
}

func (v *values) addInt(q quantity, n, per int64) {
	if n != 0 {
		v.add(q, big.NewRat(n, per))
	}
}

func (v *values) plus(o *values) {
	for q := range o {
		v.add(quantity(q), o[q])
	}
}

func (v *values) sum(of ...quantity) *big.Rat {
	total := new(big.Rat)
	for _, q := range of {
		if v[q] != nil {
			total.Add(total, v[q])
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

// valuesOf are one row's, its costs in the one currency.
func valuesOf(c query.Charges, currency string) *values {
	v := new(values)
	s := c.Row.Sums
	v.addInt(cpuMax, max(s[usage.CPUMax], s[usage.CPU], s[usage.CPURequest]), microsecondsPerHour)
	v.addInt(cpuRequested, s[usage.CPURequest], microsecondsPerHour)
	v.addInt(cpuUsed, s[usage.CPU], microsecondsPerHour)
	v.add(ramMax, byteHours(max(s[usage.MemoryMax], s[usage.Memory], s[usage.MemoryRequest])))
	v.add(ramRequested, byteHours(s[usage.MemoryRequest]))
	v.add(ramUsed, byteHours(s[usage.Memory]))
	v.add(pvByteHours, byteHours(s[usage.VolumeClaimed]))
	v.addInt(received, s[usage.NetworkReceive], 1)
	v.addInt(transmitted, s[usage.NetworkTransmit], 1)
	for q, of := range map[quantity]usage.Quantity{energyActive: usage.EnergyActive, energyIdle: usage.EnergyIdle, energyOverhead: usage.EnergyOverhead,
		energyMeasured: usage.EnergyMeasured, energyIntegrated: usage.EnergyIntegrated} {
		v.addInt(q, s[of], millijoulesPerKWh)
	}
	v.addInt(co2e, c.CarbonMicrograms, microgramsPerKg)
	v.addInt(heat, c.HeatMillijoules, millijoulesPerKWh)
	for _, line := range c.Lines {
		if isGPU(line.Resource) {
			v.addInt(gpuHours, line.Quantity, millisecondsPerHour)
		}
		if line.List != nil && line.List.Currency == currency {
			v.add(costOf(line.Resource), line.Cost)
		}
	}
	return v
}

// isGPU says whether the resource is what OpenCost calls a GPU.
func isGPU(r processors.Resource) bool {
	name, ok := r.ExtendedName()
	return ok && (strings.HasSuffix(name, "/gpu") || strings.Contains(name, "/gpu-"))
}

// costOf is the field that a resource's cost belongs to.
func costOf(r processors.Resource) quantity {
	if isGPU(r) {
		return costGPU
	}
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
	return costOther
}
