package books

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// sharedCell is a cell that is somebody's; of a part of what another namespace used,
// or of what nobody used, origin names that.
type sharedCell struct {
	query.Cell
	origin string
	// pooled names the namespace where this is what is left of it.
	pooled string
	// nobodys says that no carrier carries it: it is told, and not billed.
	nobodys bool
}

// share is the cells of a piece of time of a cluster after the price list of its own
// customer has shared what it shares: whatever is taken from a pool is with its
// carriers, to the last stored unit, and what they do not carry stays where it was.
func (b *Books) share(ctx context.Context, p part, cluster string, cells []query.Cell, step time.Duration, metering []string) ([]sharedCell, error) {
	owner, _ := p.fleet.Cluster(cluster)
	list, ok := p.fleet.PriceListFor(cluster, owner.Customer)
	if !ok || len(list.Share) == 0 {
		all := make([]sharedCell, len(cells))
		for i, cell := range cells {
			all[i].Cell = cell
		}
		return all, nil
	}
	capacity, err := b.capacity(ctx, p, cluster, step)
	if err != nil {
		return nil, err
	}
	byTime := make(map[time.Time][]query.Cell)
	for _, cell := range cells {
		byTime[cell.From] = append(byTime[cell.From], cell)
	}
	var times []time.Time
	for at := range byTime {
		times = append(times, at)
	}
	slices.SortFunc(times, time.Time.Compare)
	var all []sharedCell
	for _, at := range times {
		s := &sharing{list: list, metering: metering, owner: owner, cells: byTime[at], capacity: capacity[at], carriers: make(map[string]*carrier)}
		shared, err := s.apply()
		if err != nil {
			return nil, fmt.Errorf("share what cluster %s has for all, by price list %s: %w", cluster, list.Name, err)
		}
		all = append(all, shared...)
	}
	return all, nil
}

// allocatable is what the nodes of one hardware could give in a step.
type allocatable struct{ cpu, memory int64 }

// capacity is what a cluster's nodes could give, by step and hardware.
func (b *Books) capacity(ctx context.Context, p part, cluster string, step time.Duration) (map[time.Time]map[string]allocatable, error) {
	assets, err := b.engine.Assets(ctx, query.ChargeRequest{Window: p.Window, Step: step, Filter: []query.Condition{{Key: query.Cluster, Values: []string{cluster}}}})
	if err != nil {
		return nil, err
	}
	all := make(map[time.Time]map[string]allocatable)
	for _, asset := range assets {
		at := asset.Row.From.UTC()
		if all[at] == nil {
			all[at] = make(map[string]allocatable)
		}
		node, _ := p.fleet.Node(cluster, asset.Row.Key[string(query.Node)])
		of := all[at][node.Hardware]
		of.cpu, of.memory = of.cpu+asset.Row.Sums[usage.AllocatableCPU], of.memory+asset.Row.Sums[usage.AllocatableMemory]
		all[at][node.Hardware] = of
	}
	return all, nil
}

// carrier is a namespace that carries a part of what is shared.
type carrier struct {
	key                 string
	as                  query.Cell // its names
	alive, used         int64
	requested, memory   int64 // of CPU and memory
	requestedOfCapacity int64
}

// sharing is one step of a cluster.
type sharing struct {
	list     fleet.PriceList
	metering []string
	owner    fleet.Cluster
	cells    []query.Cell
	capacity map[string]allocatable
	carriers map[string]*carrier
	made     []sharedCell
	at       map[[3]string]int // of made: carrier, origin, hardware
}

// wholeCapacity is all of a cluster's capacity, in the unit of rating.Carrier.Requests.
const wholeCapacity = 1_000_000_000

func (s *sharing) apply() ([]sharedCell, error) {
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
			s.made = append(s.made, sharedCell{Cell: cell})
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
func (s *sharing) idle() []query.Cell {
	if !slices.ContainsFunc(s.list.Share, func(rule fleet.Sharing) bool { return rule.Of == fleet.ShareIdle }) || len(s.cells) == 0 {
		return nil
	}
	left := make(map[string]allocatable, len(s.capacity))
	for hardware, of := range s.capacity {
		left[hardware] = of
	}
	for _, cell := range s.cells {
		q, of := cell.Quantities, left[cell.Hardware]
		of.cpu -= max(q[processors.CPUMax], q[processors.CPURequested])
		of.memory -= max(q[processors.MemoryMax], q[processors.MemoryRequested])
		left[cell.Hardware] = of
	}
	var cells []query.Cell
	for _, hardware := range sortedKeys(s.capacity) {
		of := left[hardware]
		cells = append(cells, query.Cell{From: s.cells[0].From, To: s.cells[0].To, Customer: s.owner.Customer, Namespace: schema.IdleNamespace, Hardware: hardware,
			Provider: s.owner.Provider, Region: s.owner.Region, Quantities: processors.Quantities{processors.CPUIdle: max(0, of.cpu), processors.MemoryIdle: max(0, of.memory)}})
	}
	return cells
}

// carry counts a cell as its carrier's.
func (s *sharing) carry(cell query.Cell) {
	key := strings.Join([]string{cell.Customer, cell.Project, cell.User, cell.Namespace}, keySeparator)
	c := s.carriers[key]
	if c == nil {
		c = &carrier{key: key, as: query.Cell{From: cell.From, To: cell.To, Customer: cell.Customer, Project: cell.Project, User: cell.User, Namespace: cell.Namespace}}
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
		whole.cpu, whole.memory = whole.cpu+of.cpu, whole.memory+of.memory
	}
	part := func(of, all int64) int64 {
		if all <= 0 {
			return 0
		}
		n := new(big.Int).Mul(big.NewInt(of), big.NewInt(wholeCapacity))
		return n.Quo(n, big.NewInt(all)).Int64()
	}
	for _, c := range s.carriers {
		c.requestedOfCapacity = max(part(c.requested, whole.cpu), part(c.memory, whole.memory))
	}
}

// distribute shares a pool out. What no carrier carries stays with the pool; of idle
// it is nobody's.
func (s *sharing) distribute(rule fleet.Sharing, pool query.Cell, idle bool) error {
	carriers := make([]rating.Carrier, 0, len(s.carriers))
	for _, key := range sortedKeys(s.carriers) {
		c := s.carriers[key]
		carriers = append(carriers, rating.Carrier{Key: key, Alive: c.alive, Requests: c.requestedOfCapacity, Used: c.used})
	}
	origin := pool.Namespace
	stays := sharedCell{Cell: pool, nobodys: idle}
	if !idle {
		stays.pooled = origin
	}
	stays.Quantities = make(processors.Quantities, len(pool.Quantities))
	split := func(amount int64, give func(c *query.Cell, part int64)) (left int64, err error) {
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
		left, err := split(pool.Quantities[resource], func(c *query.Cell, part int64) { c.Quantities[resource] += part })
		if err != nil {
			return err
		}
		if left != 0 {
			stays.Quantities[resource] = left
		}
	}
	for _, figure := range []func(c *query.Cell) *int64{
		func(c *query.Cell) *int64 { return &c.EnergyMeasured }, func(c *query.Cell) *int64 { return &c.EnergyIntegrated },
		func(c *query.Cell) *int64 { return &c.CarbonMicrograms }, func(c *query.Cell) *int64 { return &c.CarbonOf }} {
		left, err := split(*figure(&pool), func(c *query.Cell, part int64) { *figure(c) += part })
		if err != nil {
			return err
		}
		*figure(&stays.Cell) = left
	}
	s.made = append(s.made, stays)
	return nil
}

// partOf is the cell of a carrier's part of a pool.
func (s *sharing) partOf(key, origin string, pool query.Cell) *query.Cell {
	id := [3]string{key, origin, pool.Hardware}
	i, known := s.at[id]
	if !known {
		i = len(s.made)
		s.at[id] = i
		cell := s.carriers[key].as
		cell.Hardware, cell.Provider, cell.Region, cell.Quantities = pool.Hardware, pool.Provider, pool.Region, make(processors.Quantities)
		s.made = append(s.made, sharedCell{Cell: cell, origin: origin})
	}
	return &s.made[i].Cell
}
