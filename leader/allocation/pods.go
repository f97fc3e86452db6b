package allocation

import (
	"math/big"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// splitPods gives what is known of a pod alone to its containers: CPU and memory,
// and their costs, by the larger of each one's request and use, energy by CPU used,
// and the rest, as network, evenly. Nothing is lost. A pod without containers stays.
func splitPods(atoms []*atom, keys []usage.Key) []*atom {
	if !slices.Contains(keys, usage.Container) {
		return atoms
	}
	idOf := func(a *atom) string {
		id := ""
		for _, k := range keys {
			if k != usage.Container {
				id += a.key[string(k)] + "\x00"
			}
		}
		return id
	}
	containers := make(map[string][]*atom)
	for _, a := range atoms {
		if a.key[string(usage.Container)] != "" {
			id := idOf(a)
			containers[id] = append(containers[id], a)
		}
	}
	return slices.DeleteFunc(atoms, func(a *atom) bool {
		on := containers[idOf(a)]
		if a.key[string(usage.Container)] != "" || len(on) == 0 {
			return false
		}
		splitPod(a, on)
		return true
	})
}

func splitPod(a *atom, on []*atom) {
	even := make([]*big.Rat, len(on))
	for i := range even {
		even[i] = big.NewRat(1, int64(len(on)))
	}
	cpu, ram := firstOf(by(on, cpuMax), even), firstOf(by(on, ramMax), even)
	energy := firstOf(by(on, cpuUsed), cpu)
	for _, q := range []quantity{cpuMax, ramMax} {
		if a.values.get(q).Sign() == 0 {
			continue // from before it was counted of pods
		}
		for _, c := range on {
			c.values.clear(q)
		}
	}
	for q := range quantities {
		weights := even
		switch q {
		case cpuMax, cpuRequested, cpuUsed, costCPU:
			weights = cpu
		case ramMax, ramRequested, ramUsed, costRAM:
			weights = ram
		case energyActive, energyIdle, energyOverhead, energyMeasured, energyIntegrated, costEnergy, co2e, heat:
			weights = energy
		}
		move(a, on, weights, q, q)
	}
	for _, c := range on {
		c.noCarbon, c.noHeat, c.provisional = c.noCarbon || a.noCarbon, c.noHeat || a.noHeat, c.provisional || a.provisional
	}
}
