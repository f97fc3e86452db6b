package query

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// SharedCell is a cell that is somebody's; of a part of what another namespace used,
// or of what nobody used, Origin names that.
type SharedCell struct {
	Cell
	Origin string
	// Pooled names the namespace where this is what is left of it.
	Pooled string
	// Nobodys says that no carrier carries it: it is told, and not billed.
	Nobodys bool
}

// Assets are what clusters' nodes cost and could give, as Engine.Assets has them.
type Assets interface {
	Assets(ctx context.Context, request ChargeRequest) ([]Charges, error)
}

// Share is the cells of a cluster's time after the price list of its own customer has
// shared what it shares, step by step: whatever is taken from a pool is with its
// carriers, to the last stored unit, and what they do not carry stays where it was. The
// cells are of w in such steps, the metering's namespaces those of the cluster.
func Share(ctx context.Context, from Assets, f *fleet.Fleet, cluster string, w schema.Window, step time.Duration, metering []string, cells []Cell) ([]SharedCell, error) {
	owner, _ := f.Cluster(cluster)
	list, _ := f.PriceListFor(cluster, owner.Customer)
	if len(list.Share) == 0 {
		return unshared(cells), nil
	}
	assets, err := from.Assets(ctx, ChargeRequest{Window: w, Step: step, Filter: []Condition{{Key: Cluster, Values: []string{cluster}}}})
	if err != nil {
		return nil, err
	}
	capacity := capacityOf(assets, f, cluster)
	byTime := make(map[time.Time][]Cell)
	for _, cell := range cells {
		byTime[cell.From] = append(byTime[cell.From], cell)
	}
	var all []SharedCell
	for _, at := range slices.SortedFunc(maps.Keys(byTime), time.Time.Compare) {
		s := &sharing{list: list, metering: metering, owner: owner, cells: byTime[at], capacity: capacity[at], carriers: make(map[string]*carrier)}
		shared, err := s.apply()
		if err != nil {
			return nil, fmt.Errorf("share what cluster %s has for all, by price list %s: %w", owner.Name, list.Name, err)
		}
		all = append(all, shared...)
	}
	return all, nil
}

func unshared(cells []Cell) []SharedCell {
	all := make([]SharedCell, len(cells))
	for i, cell := range cells {
		all[i].Cell = cell
	}
	return all
}

// allocatable is what the nodes of one hardware could give in a step: core-µs and
// KiB·s.
type allocatable struct{ CPU, Memory int64 }

// capacities are what a cluster's nodes could give, by step and hardware.
type capacities map[time.Time]map[string]allocatable

// capacityOf is that of a cluster's assets.
func capacityOf(assets []Charges, f *fleet.Fleet, cluster string) capacities {
	all := make(capacities)
	for _, asset := range assets {
		at := asset.Row.From.UTC()
		if all[at] == nil {
			all[at] = make(map[string]allocatable)
		}
		node, _ := f.Node(cluster, asset.Row.Key[string(Node)])
		of := all[at][node.Hardware]
		of.CPU, of.Memory = of.CPU+asset.Row.Sums[usage.AllocatableCPU], of.Memory+asset.Row.Sums[usage.AllocatableMemory]
		all[at][node.Hardware] = of
	}
	return all
}

// carrier is a namespace that carries a part of what is shared.
type carrier struct {
	key                 string
	as                  Cell // its names
	alive, used         int64
	requested, memory   int64 // of CPU and memory
	requestedOfCapacity int64
}

// sharing is one step of a cluster.
type sharing struct {
	list     fleet.PriceList
	metering []string
	owner    fleet.Cluster
	cells    []Cell
	capacity map[string]allocatable
	carriers map[string]*carrier
	made     []SharedCell
	at       map[[3]string]int // of made: carrier, origin, hardware
}

// wholeCapacity is all of a cluster's capacity, in the unit of rating.Carrier.Requests.
const wholeCapacity = 1_000_000_000

func (s *sharing) apply() ([]SharedCell, error) {
	s.at = make(map[[3]string]int)
	idle := s.idle()
	for _, cell := range s.cells {
		if _, pooled := s.rule(cell.Namespace); pooled || strings.HasPrefix(cell.Namespace, "__") || s.list.Excludes(cell.Namespace, s.metering) {
			continue
		}
		s.carry(cell)
	}
	s.weigh()
	for _, cell := range s.cells {
		rule, pooled := s.rule(cell.Namespace)
		if !pooled {
			s.made = append(s.made, SharedCell{Cell: cell})
			continue
		}
		if err := s.distribute(rule, cell, false); err != nil {
			return nil, err
		}
	}
	for _, cell := range idle {
		for _, rule := range s.list.Share {
			if rule.Of == fleet.ShareIdle {
				if err := s.distribute(rule, cell, true); err != nil {
					return nil, err
				}
			}
		}
	}
	return s.made, nil
}

// rule is the first one that shares a namespace.
func (s *sharing) rule(namespace string) (fleet.Sharing, bool) {
	i := slices.IndexFunc(s.list.Share, func(rule fleet.Sharing) bool { return rule.Shares(namespace, s.metering) })
	if i < 0 {
		return fleet.Sharing{}, false
	}
	return s.list.Share[i], true
}

// idle is what of the nodes was neither requested nor used, by hardware: where the
// larger one of both is not counted, what was requested counts.
func (s *sharing) idle() []Cell {
	if !slices.ContainsFunc(s.list.Share, func(rule fleet.Sharing) bool { return rule.Of == fleet.ShareIdle }) || len(s.cells) == 0 {
		return nil
	}
	left := make(map[string]allocatable, len(s.capacity))
	for hardware, of := range s.capacity {
		left[hardware] = of
	}
	for _, cell := range s.cells {
		q, of := cell.Quantities, left[cell.Hardware]
		of.CPU -= max(q[processors.CPUMax], q[processors.CPURequested])
		of.Memory -= max(q[processors.MemoryMax], q[processors.MemoryRequested])
		left[cell.Hardware] = of
	}
	var cells []Cell
	for _, hardware := range slices.Sorted(maps.Keys(s.capacity)) {
		of := left[hardware]
		cells = append(cells, Cell{From: s.cells[0].From, To: s.cells[0].To, Customer: s.owner.Customer, Namespace: schema.IdleNamespace, Hardware: hardware,
			Provider: s.owner.Provider, Region: s.owner.Region, Quantities: processors.Quantities{processors.CPUIdle: max(0, of.CPU), processors.MemoryIdle: max(0, of.Memory)}})
	}
	return cells
}

// carry counts a cell as its carrier's.
func (s *sharing) carry(cell Cell) {
	key := strings.Join([]string{cell.Customer, cell.Project, cell.User, cell.Namespace}, "\x00")
	c := s.carriers[key]
	if c == nil {
		c = &carrier{key: key, as: Cell{From: cell.From, To: cell.To, Customer: cell.Customer, Project: cell.Project, User: cell.User, Namespace: cell.Namespace}}
		s.carriers[key] = c
	}
	c.alive, c.used = c.alive+cell.Uptime, c.used+cell.Quantities[processors.CPUUsed]
	c.requested, c.memory = c.requested+cell.Quantities[processors.CPURequested], c.memory+cell.Quantities[processors.MemoryRequested]
}

// weigh makes each carrier's requests one share of the capacity: the larger one of
// CPU and memory.
func (s *sharing) weigh() {
	var whole allocatable
	for _, of := range s.capacity {
		whole.CPU, whole.Memory = whole.CPU+of.CPU, whole.Memory+of.Memory
	}
	part := func(of, all int64) int64 {
		if all <= 0 {
			return 0
		}
		n := new(big.Int).Mul(big.NewInt(of), big.NewInt(wholeCapacity))
		return n.Quo(n, big.NewInt(all)).Int64()
	}
	for _, c := range s.carriers {
		c.requestedOfCapacity = max(part(c.requested, whole.CPU), part(c.memory, whole.Memory))
	}
}

// distribute shares a pool out. What no carrier carries stays with the pool; of idle
// it is nobody's.
func (s *sharing) distribute(rule fleet.Sharing, pool Cell, idle bool) error {
	carriers := make([]rating.Carrier, 0, len(s.carriers))
	for _, key := range slices.Sorted(maps.Keys(s.carriers)) {
		c := s.carriers[key]
		carriers = append(carriers, rating.Carrier{Key: key, Alive: c.alive, Requests: c.requestedOfCapacity, Used: c.used})
	}
	origin := pool.Namespace
	stays := SharedCell{Cell: pool, Nobodys: idle}
	if !idle {
		stays.Pooled = origin
	}
	stays.Quantities = make(processors.Quantities, len(pool.Quantities))
	split := func(amount int64, give func(c *Cell, part int64)) (left int64, err error) {
		of := rating.Pool{Amount: amount}
		if idle {
			of.Capacity = wholeCapacity
		}
		parts, left, err := rating.Distribute(processors.IdlePolicy(rule.Policy), of, carriers)
		if err != nil {
			return 0, err
		}
		for _, part := range parts {
			if part.Amount != 0 {
				give(s.partOf(part.Key, origin, pool), part.Amount)
			}
		}
		return left, nil
	}
	for _, resource := range pool.Quantities.Resources() {
		left, err := split(pool.Quantities[resource], func(c *Cell, part int64) { c.Quantities[resource] += part })
		if err != nil {
			return err
		}
		if left != 0 {
			stays.Quantities[resource] = left
		}
	}
	for _, figure := range []func(c *Cell) *int64{
		func(c *Cell) *int64 { return &c.EnergyMeasured }, func(c *Cell) *int64 { return &c.EnergyIntegrated },
		func(c *Cell) *int64 { return &c.CarbonMicrograms }, func(c *Cell) *int64 { return &c.CarbonOf },
		func(c *Cell) *int64 { return &c.EnergyActive }, func(c *Cell) *int64 { return &c.EnergyIdle }, func(c *Cell) *int64 { return &c.Heat }} {
		left, err := split(*figure(&pool), func(c *Cell, part int64) { *figure(c) += part })
		if err != nil {
			return err
		}
		*figure(&stays.Cell) = left
	}
	s.made = append(s.made, stays)
	return nil
}

// partOf is the cell of a carrier's part of a pool.
func (s *sharing) partOf(key, origin string, pool Cell) *Cell {
	id := [3]string{key, origin, pool.Hardware}
	i, known := s.at[id]
	if !known {
		i = len(s.made)
		s.at[id] = i
		cell := s.carriers[key].as
		cell.Hardware, cell.Provider, cell.Region, cell.Quantities = pool.Hardware, pool.Provider, pool.Region, make(processors.Quantities)
		s.made = append(s.made, SharedCell{Cell: cell, Origin: origin})
	}
	return &s.made[i].Cell
}
