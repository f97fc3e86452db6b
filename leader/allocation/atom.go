package allocation

import (
	"math/big"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// atom is the smallest thing that the question tells apart, in one step.
type atom struct {
	key     map[string]string // by usage.Key; not to be changed
	name    string
	idle    bool
	mounted bool // a volume that some pod mounted
	values  *values
	labels  map[string]string // of its pods; shared

	noCarbon, noHeat, provisional bool
	uptime, covered, coverage     float64
}

// newAtom is an atom with the costs in one currency, of all where it is "". Its values
// are put into those that are given, which have none.
func newAtom(c *query.Charges, currency string, into *values) *atom {
	a := &atom{key: c.Row.Key, values: into, labels: c.Labels, provisional: c.Row.Provisional}
	into.take(c, currency)
	a.idle = a.key[string(usage.Namespace)] == schema.IdleNamespace
	a.mounted = c.Row.Sums[usage.VolumeMounted] > 0
	total, err := c.Row.Sums.Energy()
	energy := total != 0 || err != nil
	a.noCarbon, a.noHeat = energy && !c.CarbonKnown, energy && !c.HeatKnown
	a.uptime = float64(c.Row.Sums[usage.Uptime])
	a.covered, a.coverage = c.Row.Coverage*a.uptime, c.Row.Coverage
	return a
}

// scope is the cluster, and the node where idle is by node.
type scope struct{ cluster, node string }

func (a *atom) scope(byNode bool) scope {
	s := scope{cluster: a.key[string(usage.Cluster)]}
	if byNode {
		s.node = a.key[string(usage.Node)]
	}
	return s
}

// Reconciliation is how the costs of CPU and memory of a cluster, or of a node where
// idle is by node, stand against what its nodes would cost at full use.
type Reconciliation struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node,omitempty"`
	Start   string `json:"start"`
	End     string `json:"end"`
	// AssetCost = AllocatedCost + IdleCost + DifferenceCost, exactly before rounding.
	// The difference is what is reserved and not paid for (or the other way round)
	// under the prices, customers' other prices, and what is overcommitted.
	AssetCost      Number `json:"assetCost"`
	AllocatedCost  Number `json:"allocatedCost"`
	IdleCost       Number `json:"idleCost"`
	DifferenceCost Number `json:"differenceCost"`
	// What was requested or used beyond what is allocatable.
	OvercommittedCPUCoreHours Number `json:"overcommittedCpuCoreHours"`
	OvercommittedRAMByteHours Number `json:"overcommittedRamByteHours"`
}

// findIdle makes an atom of what is idle in each scope, with the energy that the
// rows of __idle__ have, and says what does not add up. Idle is found node by node:
// what is overcommitted on one is not idle on another.
func findIdle(atoms []*atom, assets []query.Charges, currency string, byNode bool) (rest, idle []*atom, books map[scope]*reconciled) {
	used := make(map[scope]*values)
	byScope := make(map[scope]*atom)
	idleOf := func(a *atom) *atom {
		s := a.scope(byNode)
		if byScope[s] == nil {
			made := &atom{key: map[string]string{string(usage.Cluster): s.cluster, string(usage.Namespace): Idle}, idle: true, values: new(values)}
			if byNode {
				made.key[string(usage.Node)] = s.node
			}
			byScope[s] = made
			idle = append(idle, made)
		}
		return byScope[s]
	}
	for _, a := range atoms {
		if a.idle {
			into := idleOf(a)
			into.values.plus(a.values)
			into.noCarbon, into.noHeat, into.provisional = into.noCarbon || a.noCarbon, into.noHeat || a.noHeat, into.provisional || a.provisional
			into.coverage = max(into.coverage, a.coverage)
			continue
		}
		rest = append(rest, a)
		if len(assets) == 0 {
			continue
		}
		s := a.scope(true)
		if used[s] == nil {
			used[s] = new(values)
		}
		used[s].plus(a.values)
	}
	books = make(map[scope]*reconciled)
	for i := range assets {
		asset := &assets[i]
		node := newAtom(asset, currency, new(values))
		of := used[node.scope(true)]
		if of == nil {
			of = new(values)
		}
		into, s := idleOf(node), node.scope(byNode)
		if books[s] == nil {
			books[s] = new(reconciled)
		}
		into.coverage = max(into.coverage, node.coverage)
		cores := big.NewRat(asset.Row.Sums[usage.AllocatableCPU], microsecondsPerHour)
		books[s].resource(into.values, cores, node.values.get(costCPU), of, cpuMax, costCPU, &books[s].overCPU)
		books[s].resource(into.values, byteHours(asset.Row.Sums[usage.AllocatableMemory]), node.values.get(costRAM), of, ramMax, costRAM, &books[s].overRAM)
	}
	return rest, idle, books
}

// reconciled is a Reconciliation in the making.
type reconciled struct{ asset, allocated, idle, overCPU, overRAM big.Rat }

// resource finds what of one resource of one node is idle.
func (r *reconciled) resource(idle *values, allocatable, assetCost *big.Rat, used *values, amount, cost quantity, over *big.Rat) {
	r.asset.Add(&r.asset, assetCost)
	r.allocated.Add(&r.allocated, used.get(cost))
	left := new(big.Rat).Sub(allocatable, used.get(amount))
	if left.Sign() < 0 {
		over.Sub(over, left)
		return
	}
	if allocatable.Sign() == 0 {
		return
	}
	idle.add(amount, left)
	price := new(big.Rat).Quo(assetCost, allocatable)
	price.Mul(price, left)
	idle.add(cost, price)
	r.idle.Add(&r.idle, price)
}

func (r *reconciled) difference() *big.Rat {
	d := new(big.Rat).Sub(&r.asset, &r.allocated)
	return d.Sub(d, &r.idle)
}

func (r *reconciled) told(s scope, w schema.Window) Reconciliation {
	return Reconciliation{Cluster: s.cluster, Node: s.node, Start: stamp(w.From), End: stamp(w.To), AssetCost: number(&r.asset), AllocatedCost: number(&r.allocated),
		IdleCost: number(&r.idle), DifferenceCost: number(r.difference()), OvercommittedCPUCoreHours: number(&r.overCPU), OvercommittedRAMByteHours: number(&r.overRAM)}
}
