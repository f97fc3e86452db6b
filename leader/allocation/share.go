package allocation

import (
	"math/big"
	"slices"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// shareIdle puts what is idle in a scope on what ran there. What cannot be put on
// anything stays, and is returned.
func shareIdle(atoms, idle []*atom, byNode bool, split string) (left []*atom) {
	in := make(map[scope][]*atom)
	for _, a := range atoms {
		s := a.scope(byNode)
		in[s] = append(in[s], a)
	}
	for _, from := range idle {
		on := in[from.scope(byNode)]
		cpu, ram, energy := evenly(on), evenly(on), evenly(on)
		if split == weighted {
			cpu = firstOf(by(on, costCPU), by(on, cpuMax))
			ram = firstOf(by(on, costRAM), by(on, ramMax))
			energy = firstOf(by(on, energyActive), by(on, cpuMax))
		}
		if !move(from, on, cpu, costCPU, costCPU, idleCPU) {
			left = appendOnce(left, from)
		}
		if !move(from, on, ram, costRAM, costRAM, idleRAM) {
			left = appendOnce(left, from)
		}
		for _, q := range []quantity{costEnergy, energyActive, energyOverhead, energyIdle, energyMeasured, energyIntegrated, co2e, heat} {
			if !move(from, on, energy, q, q) {
				left = appendOnce(left, from)
			}
		}
		if energy != nil {
			for _, a := range on {
				a.noCarbon, a.noHeat = a.noCarbon || from.noCarbon, a.noHeat || from.noHeat
			}
		}
	}
	return left
}

func appendOnce(atoms []*atom, a *atom) []*atom {
	if slices.Contains(atoms, a) {
		return atoms
	}
	return append(atoms, a)
}

// move puts one value of an atom on others by their weights. It says whether
// nothing of it is left.
func move(from *atom, on []*atom, weights []*big.Rat, q quantity, into ...quantity) bool {
	amount := from.values.get(q)
	if amount.Sign() == 0 {
		return true
	}
	if weights == nil {
		return false
	}
	for i, a := range on {
		part := new(big.Rat).Mul(amount, weights[i])
		for _, to := range into {
			a.values.add(to, part)
		}
	}
	from.values.clear(q)
	return true
}

// by are weights by one quantity; nil where they have none of it, or less than none.
func by(on []*atom, of ...quantity) []*big.Rat {
	total := new(big.Rat)
	weights := make([]*big.Rat, len(on))
	for i, a := range on {
		weights[i] = a.values.sum(of...)
		if weights[i].Sign() < 0 {
			return nil
		}
		total.Add(total, weights[i])
	}
	return scaled(weights, total)
}

func scaled(weights []*big.Rat, total *big.Rat) []*big.Rat {
	if total.Sign() == 0 {
		return nil
	}
	for _, w := range weights {
		w.Quo(w, total)
	}
	return weights
}

func firstOf(weights ...[]*big.Rat) []*big.Rat {
	for _, w := range weights {
		if w != nil {
			return w
		}
	}
	return nil
}

// evenly are weights by which each name gets the same, and of it each of its parts.
func evenly(on []*atom) []*big.Rat {
	parts := make(map[string]int64)
	for _, a := range on {
		parts[a.name]++
	}
	weights := make([]*big.Rat, len(on))
	for i, a := range on {
		weights[i] = big.NewRat(1, parts[a.name]*int64(len(parts)))
	}
	if len(on) == 0 {
		return nil
	}
	return weights
}

// shared says whether the atom is put on the others.
func (r Request) shared(a *atom) bool {
	if slices.Contains(r.shareNamespaces, a.key[string(usage.Namespace)]) {
		return true
	}
	for i, d := range r.shareLabels {
		if a.value(d) != "" && a.value(d) == r.shareLabelValue[i] {
			return true
		}
	}
	return false
}

// shareCosts puts what is shared, and a part of the month's shared cost, on the
// rest. It is false where there is nothing to put it on; then nothing is changed.
func (r Request) shareCosts(atoms []*atom, hours *big.Rat) (rest []*atom, ok bool) {
	cost, energy := new(big.Rat), new(big.Rat)
	for _, a := range atoms {
		if !r.shared(a) {
			rest = append(rest, a)
			continue
		}
		cost.Add(cost, a.values.total())
		energy.Add(energy, a.values.energy())
	}
	if r.shareCost != nil {
		part := new(big.Rat).Mul(r.shareCost, hours)
		cost.Add(cost, part.Quo(part, big.NewRat(monthHours, 1)))
	}
	if cost.Sign() == 0 && energy.Sign() == 0 {
		return rest, true
	}
	weights := evenly(rest)
	if r.shareSplit == weighted {
		weights = firstOf(by(rest, costs...), by(rest, cpuMax))
	}
	if weights == nil {
		return atoms, false
	}
	for i, a := range rest {
		a.values.add(costShared, new(big.Rat).Mul(cost, weights[i]))
		a.values.add(sharedEnergy, new(big.Rat).Mul(energy, weights[i]))
	}
	return rest, true
}
