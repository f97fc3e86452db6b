package fleet

import (
	"encoding/json"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
)

// In each body, Name is metadata.name: it is filled when an object is read and
// in the answers of a Fleet.

// Customer pays for usage.
type Customer struct {
	Name        string `json:"-"`
	DisplayName string `json:"displayName,omitempty"`
	TimeZone    string `json:"timeZone,omitempty"` // IANA, of its reports and periods; "" = UTC
	Currency    string `json:"currency,omitempty"` // ISO 4217
}

// Cluster is one Kubernetes cluster (or host) with a follower.
type Cluster struct {
	Name     string `json:"-"`
	Customer string `json:"customer,omitempty"`
	// Via says how the follower is reached: "" by URL, ViaServiceProxy through the
	// cluster's API server, with credentials that the leader keeps.
	Via       string `json:"via,omitempty"`
	URL       string `json:"url,omitempty"` // of the follower, http or https; a path is kept as prefix
	Provider  string `json:"provider,omitempty"`
	Region    string `json:"region,omitempty"`
	TokenFile string `json:"tokenFile,omitempty"` // bearer token of the role leader
	CAFile    string `json:"caFile,omitempty"`    // PEM; "" = the system's roots

	// Files on the leader's machine, read again at each request.
	ClientCertFile string `json:"clientCertFile,omitempty"` // PEM, with ClientKeyFile
	ClientKeyFile  string `json:"clientKeyFile,omitempty"`
	HeaderFile     string `json:"headerFile,omitempty"` // lines "Name: value", sent with each request

	Compress bool `json:"compress,omitempty"` // for a slow link: costs the follower CPU
	// PullInterval is the least time between two pulls; 0 is each tick. Several
	// minutes at once cost the follower much less than each by itself.
	PullInterval Duration `json:"pullInterval,omitzero"`
	// Manage says who installs and upgrades the follower of a cluster that is
	// reached by ViaServiceProxy: "" and ManageLeader the leader, ManageGitOps
	// somebody else, and the leader only meters.
	Manage string `json:"manage,omitempty"`
}

// ViaServiceProxy is the service proxy of the cluster's API server.
const ViaServiceProxy = "service-proxy"

// Who manages a cluster's follower.
const (
	ManageLeader = "leader"
	ManageGitOps = "gitops"
)

// Idle policies of a box: how the energy of its idle nodes is shared.
const (
	IdleEqual    = "equal"    // by pod-seconds alive
	IdleRequests = "requests" // by CPU or memory request; what is not requested stays idle
	IdleUsage    = "usage"    // by CPU time
	IdleNone     = "none"     // not at all: it stays idle
)

// Box is a physical unit with one or more electricity meters. Its nodes may
// belong to clusters of different customers.
type Box struct {
	Name          string  `json:"-"`
	Site          string  `json:"site,omitempty"`
	OverheadWatts float64 `json:"overheadWatts,omitempty"` // switch, fans: what no node draws
	IdlePolicy    string  `json:"idlePolicy,omitempty"`    // IdleEqual (default), IdleRequests, IdleUsage or IdleNone
	// HeatFraction is the part of its energy that becomes heat in it; 0 = all.
	HeatFraction float64 `json:"heatFraction,omitempty"`
}

// Hardware is a type of node.
type Hardware struct {
	Name        string  `json:"-"`
	CPUType     string  `json:"cpuType,omitempty"`
	RAMType     string  `json:"ramType,omitempty"`
	DiskType    string  `json:"diskType,omitempty"`
	Cores       int64   `json:"cores,omitempty"` // logical
	MemoryBytes int64   `json:"memoryBytes,omitempty"`
	IdleWatts   float64 `json:"idleWatts,omitempty"`
	MaxWatts    float64 `json:"maxWatts,omitempty"`
	// Curve is the power at more loads than these two, such as idle, 10, 50 and
	// 100 %, as somebody measured it; it stands before IdleWatts and MaxWatts.
	Curve  []LoadWatts `json:"curve,omitempty"`
	Year   int         `json:"year,omitempty"`   // from which such a node could be had: its typical curve depends on it
	Source string      `json:"source,omitempty"` // where the watts come from

	// EmbodiedKg is the CO2e of making one such node with its part of the box,
	// spread over LifetimeYears of 365.25 days; 0 = unknown.
	EmbodiedKg    float64 `json:"embodiedKg,omitempty"`
	LifetimeYears float64 `json:"lifetimeYears,omitempty"`
}

// LoadWatts is a node's power at the wall at one load.
type LoadWatts struct {
	Load  float64 `json:"load"` // % of its cores' time
	Watts float64 `json:"watts"`
}

// Node is one node of a cluster and where it stands. By convention its object
// is named "cluster.node".
type Node struct {
	Name     string `json:"-"`
	Cluster  string `json:"cluster"`
	Node     string `json:"node"` // as Kubernetes names it
	Box      string `json:"box,omitempty"`
	Hardware string `json:"hardware,omitempty"`
}

// Assignment says who used what it matches. An empty matcher matches all. Of
// several that match, the highest priority wins, then the most specific.
type Assignment struct {
	Name      string            `json:"-"`
	Priority  int               `json:"priority,omitempty"`
	Cluster   string            `json:"cluster,omitempty"`
	Namespace string            `json:"namespace,omitempty"` // glob: * ? [a-z]
	Labels    map[string]string `json:"labels,omitempty"`    // all must be equal
	Customer  string            `json:"customer,omitempty"`  // "" = the cluster's
	Project   string            `json:"project,omitempty"`
	User      string            `json:"user,omitempty"`
}

// PriceList is what things cost in one currency, for the clusters or the
// customers that it names; one that names none is the default.
type PriceList struct {
	Name      string   `json:"-"`
	Currency  string   `json:"currency"` // ISO 4217
	Customers []string `json:"customers,omitempty"`
	Clusters  []string `json:"clusters,omitempty"`
	Rates     []Rate   `json:"rates,omitempty"`
	// Exclude are namespaces that cost nothing, as patterns (* ? [a-z]): they stay
	// in the usage, and what they would have cost is told apart. Absent, it is
	// MeteringNamespace; an empty list excludes nothing.
	Exclude []string `json:"exclude,omitzero"`
	// Share is what others carry in bills: idle nodes, the metering's own namespaces
	// and named ones.
	Share []Sharing `json:"share,omitempty"`

	TimeOfUse *TimeOfUse `json:"timeOfUse,omitempty"`
	Discounts []Discount `json:"discounts,omitempty"`
	Minimum   Decimal    `json:"minimum,omitempty"` // the least that a billing period costs a customer
	// Markup in percent is laid on the cost of rates without a price, and taken off
	// the price of rates without a cost.
	Markup Decimal `json:"markup,omitempty"`
}

// Rate is the price of one unit of a resource. It has one of price, price with
// slots, tiers and dynamic; or none of them, and cost with a markup.
type Rate struct {
	Resource string `json:"resource"` // one of Units, cpu, memory, ephemeral or volume with a mode, fee:NAME
	// Mode is used, reserved, max (per pod and minute the larger one) or
	// reserved+used, of cpu, memory, ephemeral and volume; "" = used, of memory max,
	// of volume reserved.
	Mode  string             `json:"mode,omitempty"`
	Match *PriceMatch        `json:"match,omitempty"`
	Unit  string             `json:"unit,omitempty"` // "" or the resource's own
	Per   string             `json:"per,omitempty"`  // of a fee: month or day
	Price Decimal            `json:"price,omitempty"`
	Slots map[string]Decimal `json:"slots,omitempty"` // by slot of timeOfUse; price is for those not named

	Tiers   *PriceTiers   `json:"tiers,omitempty"`
	Dynamic *DynamicPrice `json:"dynamic,omitempty"`

	// Cost is what the operator pays; no customer and no cluster is told it.
	Cost   Decimal `json:"cost,omitempty"`
	Markup Decimal `json:"markup,omitempty"` // percent; "" = the list's
}

// Units are the resources that have a price, with the unit that it is for.
// GiB = 2^30 B, GB = 10^9 B.
var Units = map[string]string{
	"cpu_used":         "core-hour",
	"cpu_requested":    "core-hour",
	"memory_used":      "GiB-hour",
	"memory_requested": "GiB-hour",
	"network_receive":  "GB",
	"network_transmit": "GB",
	"energy":           "kWh",
	"node_hours":       "hour",

	"node_network_receive":  "GB",
	"node_network_transmit": "GB",
	"ephemeral_used":        "GiB-hour",
	"volume_claimed":        "GiB-hour", // "volume_claimed:CLASS" of one storage class
	"volume_used":           "GiB-hour", // "volume_used:CLASS" of one storage class
	"cpu_max":               "core-hour",
	"memory_max":            "GiB-hour",
	"cpu_idle":              "core-hour", // of what a list shares of idle nodes
	"memory_idle":           "GiB-hour",  // of what a list shares of idle nodes
	"heat_credit":           "kWh",       // of useful heat: money back
}

// UnitOf is the unit that a resource's price is for, and whether it can have one:
// one of Units, a class of volumes or of network, or "extended:NAME" for what pods
// request of a device, ephemeral-storage or hugepages-*.
func UnitOf(resource string) (string, bool) {
	general, _, named := strings.Cut(resource, ":")
	if _, known := Units[general]; !known && !(named && general == "extended") {
		return "", false
	}
	unit := processors.Resource(resource).Unit()
	return unit, unit != ""
}

// Price is the price of one unit of the resource, and whether the list has it. A
// class of volumes without a price of its own has that of all classes.
func (p PriceList) Price(resource string) (Decimal, bool) {
	for _, wanted := range processors.Resource(resource).PricedAs() {
		for _, rate := range p.Rates {
			if rate.Resource == string(wanted) {
				return rate.Price, true
			}
		}
	}
	return "", false
}

// MeteringNamespace stands in PriceList.Exclude for the namespace of each
// cluster in which the metering itself runs.
const MeteringNamespace = "__metering__"

// Excludes says whether a namespace is left out of the cost. metering are the
// cluster's namespaces in which the metering itself runs.
func (p PriceList) Excludes(namespace string, metering []string) bool {
	for _, pattern := range p.excluded() {
		if pattern == MeteringNamespace {
			if slices.Contains(metering, namespace) {
				return true
			}
			continue
		}
		if ok, err := path.Match(pattern, namespace); ok && err == nil {
			return true
		}
	}
	return false
}

// ExcludesAny says whether the list excludes namespaces at all.
func (p PriceList) ExcludesAny() bool { return len(p.excluded()) > 0 }

func (p PriceList) excluded() []string {
	if p.Exclude == nil {
		return []string{MeteringNamespace}
	}
	return p.Exclude
}

// Duration is a time.Duration that reads and writes as "10s".
type Duration time.Duration

// MarshalJSON writes the duration as text.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads the duration from text.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("duration %s: want text such as \"10s\"", data)
	}
	parsed, err := time.ParseDuration(text)
	*d = Duration(parsed)
	return err
}

// milli is 1000·v, rounded to the nearest integer.
func milli(v float64) int64 { return int64(math.Round(v * 1000)) }

// Kind is KindCustomer.
func (Customer) Kind() Kind { return KindCustomer }

// Kind is KindCluster.
func (Cluster) Kind() Kind { return KindCluster }

// Kind is KindBox.
func (Box) Kind() Kind { return KindBox }

// Kind is KindHardware.
func (Hardware) Kind() Kind { return KindHardware }

// Kind is KindNode.
func (Node) Kind() Kind { return KindNode }

// Kind is KindMeter.
func (Meter) Kind() Kind { return KindMeter }

// Kind is KindAssignment.
func (Assignment) Kind() Kind { return KindAssignment }

// Kind is KindPriceList.
func (PriceList) Kind() Kind { return KindPriceList }

func (c Customer) named(name string) Spec   { c.Name = name; return c }
func (c Cluster) named(name string) Spec    { c.Name = name; return c }
func (b Box) named(name string) Spec        { b.Name = name; return b }
func (h Hardware) named(name string) Spec   { h.Name = name; return h }
func (n Node) named(name string) Spec       { n.Name = name; return n }
func (m Meter) named(name string) Spec      { m.Name = name; return m }
func (a Assignment) named(name string) Spec { a.Name = name; return a }
func (p PriceList) named(name string) Spec  { p.Name = name; return p }

// FieldsNaming are the fields of a body that name the object of that kind.
func FieldsNaming(spec Spec, kind Kind, name string) []string {
	var fields []string
	for _, ref := range spec.references() {
		if ref.kind == kind && ref.name == name {
			fields = append(fields, ref.field)
		}
	}
	return fields
}
