package query

import (
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// identity is whose a group of rows is, by the facts of its slice. Facts come
// from the registry: a row's own tags say what was known when it was written.
type identity struct {
	fleet     *fleet.Fleet
	cluster   string
	node      string
	box       string
	namespace string
	workload  string
	pod       string
	container string
	claim     string
	class     string // of storage
	storage   string
	labels    map[string]string
	assigned  fleet.Assigned
	billed    string // the customer whose prices hold
	as        string // the hardware type as which it is priced; "" is the node's
}

// identify resolves a group. What a node is counted for itself belongs to its
// system namespace.
func (t *tally) identify(cluster string, part slice, p influxsync.Point, ofNode bool) identity {
	who := identity{fleet: part.fleet, cluster: cluster, node: p.Tag(schema.Node), namespace: p.Tag(schema.Namespace), pod: p.Tag(schema.Pod), container: p.Tag(schema.Container),
		claim: p.Tag(schema.Claim), class: p.Tag(schema.StorageClass), storage: p.Tag(schema.Storage)}
	if ofNode {
		who.namespace, who.pod = schema.SystemNamespace, schema.SystemNamespace
	}
	if kind, name := p.Tag(schema.WorkloadKind), p.Tag(schema.Workload); name != "" {
		who.workload = kind + "/" + name
	}
	who.box = t.box(part, p, &who)
	if t.need.labels || t.labelled {
		who.labels = t.labels[cluster][p.Tag(schema.PodUID)].At(part.Window)
	}
	if t.need.assign {
		who.assigned = part.fleet.Assign(cluster, who.namespace, who.labels)
		who.billed = who.assigned.Customer
	}
	if who.billed == "" || who.billed == schema.Unassigned {
		who.billed = t.owner.of(part.fleet, cluster)
	}
	return who
}

// owner is who owns the cluster that is being counted.
type owner struct {
	fleet             *fleet.Fleet
	cluster, customer string
}

// of is the customer who owns a cluster by a fleet; "" is nobody.
func (o *owner) of(f *fleet.Fleet, cluster string) string {
	if o.fleet != f || o.cluster != cluster {
		known, _ := f.Cluster(cluster)
		*o = owner{f, cluster, known.Customer}
	}
	return o.customer
}

// box is where the node stands by the registry. The rows of a cluster name a
// box by an id that says nothing; the box's own rows name it.
func (t *tally) box(part slice, p influxsync.Point, who *identity) string {
	if who.cluster != schema.BoxCluster {
		if who.node == "" {
			return ""
		}
		node, _ := part.fleet.Node(who.cluster, who.node)
		return node.Box
	}
	if _, _, loose := registry.LooseNode(p.Tag(schema.Box)); loose {
		return ""
	}
	return p.Tag(schema.Box)
}

// value is what the group has for a key.
func (i *identity) value(k Key) string {
	switch k {
	case Cluster:
		return i.cluster
	case Node:
		return i.node
	case Box:
		return i.box
	case Namespace:
		return i.namespace
	case Workload:
		return i.workload
	case Pod:
		return i.pod
	case Container:
		return i.container
	case usage.Claim:
		return i.claim
	case usage.StorageClass:
		return i.class
	case usage.Storage:
		return i.storage
	case Customer:
		return i.assigned.Customer
	case Project:
		return i.assigned.Project
	case User:
		return i.assigned.User
	}
	return i.fact(k)
}

// fact is what the registry has for a key.
func (i *identity) fact(k Key) string {
	owner, _ := i.fleet.Cluster(i.cluster)
	node, _ := i.fleet.Node(i.cluster, i.node)
	switch k {
	case Hardware:
		return node.Hardware
	case Provider:
		return owner.Provider
	case Region:
		return owner.Region
	}
	if name, ok := k.LabelName(); ok {
		return i.labels[name]
	}
	return ""
}
