package fleet

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Fleet is an immutable snapshot: the objects that hold at one moment, with
// look-ups. Lists are sorted by name.
type Fleet struct {
	at          time.Time
	customers   index[Customer]
	clusters    index[Cluster]
	boxes       index[Box]
	hardware    index[Hardware]
	nodes       index[Node]
	meters      index[Meter]
	assignments []Assignment // highest priority, then most specific first
	prices      index[PriceList]
	heat        index[HeatSource]
	grids       index[Grid]
	contracts   index[EnergyContract]
	exchanges   index[ExchangeRates]
	series      index[PriceSeries]
	budgets     index[Budget]
	byNode      map[[2]string]Node // cluster, node
}

// index is a kind's objects by name, and sorted.
type index[T Spec] struct {
	byName map[string]T
	list   []T
}

func (i index[T]) get(name string) (T, bool) {
	value, ok := i.byName[name]
	return value, ok
}

func (i index[T]) all() []T { return slices.Clone(i.list) }

func (i index[T]) where(keep func(T) bool) []T {
	var found []T
	for _, value := range i.list {
		if keep(value) {
			found = append(found, value)
		}
	}
	return found
}

// New is the snapshot of those objects that hold at the given moment. Of two
// with one name, which a checked set does not have, the last wins.
func New(at time.Time, objects []Object) *Fleet {
	var valid []Object
	for _, o := range objects {
		if o.Spec != nil && o.ValidAt(at) {
			valid = append(valid, o)
		}
	}
	f := &Fleet{at: at.UTC(),
		customers: indexOf[Customer](valid), clusters: indexOf[Cluster](valid), boxes: indexOf[Box](valid),
		hardware: indexOf[Hardware](valid), nodes: indexOf[Node](valid), meters: indexOf[Meter](valid),
		assignments: indexOf[Assignment](valid).list, prices: indexOf[PriceList](valid),
		heat: indexOf[HeatSource](valid), grids: indexOf[Grid](valid), contracts: indexOf[EnergyContract](valid), exchanges: indexOf[ExchangeRates](valid), series: indexOf[PriceSeries](valid), budgets: indexOf[Budget](valid),
		byNode: make(map[[2]string]Node)}
	for _, n := range f.nodes.list {
		f.byNode[[2]string{n.Cluster, n.Node}] = n
	}
	slices.SortStableFunc(f.assignments, compareAssignments)
	return f
}

func indexOf[T Spec](objects []Object) index[T] {
	i := index[T]{byName: make(map[string]T)}
	for _, o := range objects {
		if _, ok := o.Spec.(T); ok {
			i.byName[o.Name()] = o.Spec.named(o.Name()).(T)
		}
	}
	names := make([]string, 0, len(i.byName))
	for name := range i.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		i.list = append(i.list, i.byName[name])
	}
	return i
}

// At is the moment of the snapshot.
func (f *Fleet) At() time.Time { return f.at }

// Customer is the customer of that name.
func (f *Fleet) Customer(name string) (Customer, bool) { return f.customers.get(name) }

// Customers are all customers.
func (f *Fleet) Customers() []Customer { return f.customers.all() }

// Cluster is the cluster of that name.
func (f *Fleet) Cluster(name string) (Cluster, bool) { return f.clusters.get(name) }

// Clusters are all clusters.
func (f *Fleet) Clusters() []Cluster { return f.clusters.all() }

// Box is the box of that name.
func (f *Fleet) Box(name string) (Box, bool) { return f.boxes.get(name) }

// Boxes are all boxes.
func (f *Fleet) Boxes() []Box { return f.boxes.all() }

// Hardware is the hardware of that name.
func (f *Fleet) Hardware(name string) (Hardware, bool) { return f.hardware.get(name) }

// HardwareTypes are all types, by name.
func (f *Fleet) HardwareTypes() []Hardware { return f.hardware.all() }

// Meters are all electricity meters.
func (f *Fleet) Meters() []Meter { return f.meters.all() }

// PriceLists are all price lists.
func (f *Fleet) PriceLists() []PriceList { return f.prices.all() }

// Assignments are all rules in the order in which they are tried.
func (f *Fleet) Assignments() []Assignment { return slices.Clone(f.assignments) }

// Node is the node of a cluster by its Kubernetes name.
func (f *Fleet) Node(cluster, node string) (Node, bool) {
	n, ok := f.byNode[[2]string{cluster, node}]
	return n, ok
}

// Nodes are all nodes.
func (f *Fleet) Nodes() []Node { return f.nodes.all() }

// NodesOfCluster are the nodes of a cluster.
func (f *Fleet) NodesOfCluster(cluster string) []Node {
	return f.nodes.where(func(n Node) bool { return n.Cluster == cluster })
}

// NodesOfBox are the nodes in a box, whichever clusters they are in.
func (f *Fleet) NodesOfBox(box string) []Node {
	return f.nodes.where(func(n Node) bool { return n.Box == box })
}

// BoxesOfCluster are the boxes that hold a node of the cluster.
func (f *Fleet) BoxesOfCluster(cluster string) []Box {
	held := make(map[string]bool)
	for _, n := range f.NodesOfCluster(cluster) {
		held[n.Box] = true
	}
	return f.boxes.where(func(b Box) bool { return held[b.Name] })
}

// ClustersOfBox are the names of the clusters with a node in the box.
func (f *Fleet) ClustersOfBox(box string) []string {
	var names []string
	for _, n := range f.NodesOfBox(box) {
		names = append(names, n.Cluster)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// CustomersOfBox are the names of the customers whose clusters have a node in
// the box; a cluster without a customer counts as "". More than one means that
// the box is shared: its idle goes by requests.
func (f *Fleet) CustomersOfBox(box string) []string {
	var names []string
	for _, cluster := range f.ClustersOfBox(box) {
		c, _ := f.Cluster(cluster)
		names = append(names, c.Customer)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// MaxMilliwatts is the most that the box can draw by its nodes' hardware and
// its overhead, in mW; false where the hardware of a node is not known.
func (f *Fleet) MaxMilliwatts(box string) (int64, bool) {
	b, ok := f.Box(box)
	nodes := f.NodesOfBox(box)
	if !ok || len(nodes) == 0 {
		return 0, false
	}
	total := milli(b.OverheadWatts)
	for _, n := range nodes {
		hw, known := f.Hardware(n.Hardware)
		if !known || hw.MaxWatts <= 0 {
			return 0, false
		}
		total += milli(hw.MaxWatts)
	}
	return total, true
}

// Billed is who is billed for what was used in a cluster: whom a rule names, else the
// cluster's customer; "" is nobody.
func (f *Fleet) Billed(cluster, customer string) string {
	if customer != "" && customer != schema.Unassigned {
		return customer
	}
	owner, _ := f.Cluster(cluster)
	return owner.Customer
}

// PriceListFor is the price list of the most specific binding: one that names
// the cluster, else one that names the customer, else one that names neither.
func (f *Fleet) PriceListFor(cluster, customer string) (PriceList, bool) {
	bindings := []func(PriceList) bool{
		func(p PriceList) bool { return slices.Contains(p.Clusters, cluster) },
		func(p PriceList) bool { return customer != "" && slices.Contains(p.Customers, customer) },
		func(p PriceList) bool { return len(p.Clusters) == 0 && len(p.Customers) == 0 },
	}
	for _, bound := range bindings {
		if found := f.prices.where(bound); len(found) > 0 {
			return found[0], true
		}
	}
	return PriceList{}, false
}

// Assigned says who used something.
type Assigned struct {
	Customer, Project, User string
}

// Assign is who used what runs in the namespace with those labels. The rule of
// the highest priority decides, of equal ones the most specific: more labels,
// then an exact namespace, then a longer pattern, then a named cluster, then
// the name. Where it names no customer, the cluster's is taken. What no rule
// names is schema.Unassigned.
func (f *Fleet) Assign(cluster, namespace string, labels map[string]string) Assigned {
	for _, rule := range f.assignments {
		if !rule.matches(cluster, namespace, labels) {
			continue
		}
		owner, _ := f.Cluster(cluster)
		return Assigned{
			Customer: cmp.Or(rule.Customer, owner.Customer, schema.Unassigned),
			Project:  cmp.Or(rule.Project, schema.Unassigned),
			User:     cmp.Or(rule.User, schema.Unassigned),
		}
	}
	return Assigned{Customer: schema.Unassigned, Project: schema.Unassigned, User: schema.Unassigned}
}

func (a Assignment) matches(cluster, namespace string, labels map[string]string) bool {
	if a.Cluster != "" && a.Cluster != cluster {
		return false
	}
	if a.Namespace != "" {
		if ok, err := path.Match(a.Namespace, namespace); err != nil || !ok {
			return false
		}
	}
	for key, want := range a.Labels {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	return true
}

// compareAssignments orders the rule that decides before the other.
func compareAssignments(a, b Assignment) int {
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(len(b.Labels), len(a.Labels)),
		cmp.Compare(b.exactness(), a.exactness()),
		cmp.Compare(min(len(b.Cluster), 1), min(len(a.Cluster), 1)),
		strings.Compare(a.Name, b.Name),
	)
}

// exactness grows with how little a namespace pattern leaves open.
func (a Assignment) exactness() int {
	if a.Namespace == "" {
		return 0
	}
	open := strings.IndexAny(a.Namespace, `*?[\`)
	if open < 0 {
		return 1 << 20
	}
	return 1 + open
}
