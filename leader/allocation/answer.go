package allocation

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Number is an exact amount that prints as a JSON number with at most nine
// decimals.
type Number struct{ *big.Rat }

func number(r *big.Rat) Number { return Number{r} }

// Value is the amount, 0 of one that is not there.
func (n Number) Value() *big.Rat {
	if n.Rat == nil {
		return new(big.Rat)
	}
	return n.Rat
}

// String is the number in plain decimals without trailing zeros.
func (n Number) String() string {
	if n.Rat == nil {
		return "0"
	}
	text := strings.TrimRight(strings.TrimRight(n.FloatString(usage.CostPlaces), "0"), ".")
	if text == "-0" || text == "" {
		return "0"
	}
	return text
}

// MarshalJSON is the number itself.
func (n Number) MarshalJSON() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalJSON reads a number without loss.
func (n *Number) UnmarshalJSON(text []byte) error {
	value, ok := new(big.Rat).SetString(string(text))
	if !ok || len(text) > 100 {
		return fmt.Errorf("%q is not a number", text)
	}
	n.Rat = value
	return nil
}

// MarshalText is for encoders of text.
func (n Number) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// Window is a set's time.
type Window struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// Properties are what all of an allocation has in common.
type Properties struct {
	Cluster        string            `json:"cluster,omitempty"`
	Clusters       []string          `json:"clusters,omitempty"` // where it is of several
	Node           string            `json:"node,omitempty"`
	Container      string            `json:"container,omitempty"`
	Controller     string            `json:"controller,omitempty"`
	ControllerKind string            `json:"controllerKind,omitempty"`
	Namespace      string            `json:"namespace,omitempty"`
	Pod            string            `json:"pod,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Annotations    map[string]string `json:"annotations,omitempty"`
	Customer       string            `json:"customer,omitempty"`
	Project        string            `json:"project,omitempty"`
	User           string            `json:"user,omitempty"`
	Hardware       string            `json:"hardware,omitempty"`
	Provider       string            `json:"provider,omitempty"`
	Region         string            `json:"region,omitempty"`
}

// Volume is one of an allocation's persistent volumes.
type Volume struct {
	ByteHours  Number `json:"byteHours"`
	Cost       Number `json:"cost"`
	ProviderID string `json:"providerID"`
}

// Allocation is what one key has in one step: OpenCost's fields, then those that
// Accumulus adds. Byte-hours are of 1 byte, core-hours of 1 core.
type Allocation struct {
	Name       string     `json:"name"`
	Properties Properties `json:"properties"`
	Window     Window     `json:"window"`
	Start      string     `json:"start"`
	End        string     `json:"end"`
	Minutes    Number     `json:"minutes"`

	CPUCores              Number  `json:"cpuCores"`
	CPUCoreRequestAverage Number  `json:"cpuCoreRequestAverage"`
	CPUCoreUsageAverage   Number  `json:"cpuCoreUsageAverage"`
	CPUCoreHours          Number  `json:"cpuCoreHours"`
	CPUCost               Number  `json:"cpuCost"`
	CPUCostAdjustment     Number  `json:"cpuCostAdjustment"`
	CPUCostIdle           Number  `json:"cpuCostIdle"` // of cpuCost, a share of idle
	CPUEfficiency         float64 `json:"cpuEfficiency"`

	GPUCount          Number `json:"gpuCount"`
	GPUHours          Number `json:"gpuHours"`
	GPUCost           Number `json:"gpuCost"`
	GPUCostAdjustment Number `json:"gpuCostAdjustment"`

	NetworkTransferBytes   Number `json:"networkTransferBytes"`
	NetworkReceiveBytes    Number `json:"networkReceiveBytes"`
	NetworkCost            Number `json:"networkCost"`
	NetworkCrossZoneCost   Number `json:"networkCrossZoneCost"`
	NetworkCrossRegionCost Number `json:"networkCrossRegionCost"`
	NetworkInternetCost    Number `json:"networkInternetCost"`
	NetworkCostAdjustment  Number `json:"networkCostAdjustment"`

	LoadBalancerCost           Number `json:"loadBalancerCost"`
	LoadBalancerCostAdjustment Number `json:"loadBalancerCostAdjustment"`

	PVBytes          Number            `json:"pvBytes"`
	PVByteHours      Number            `json:"pvByteHours"`
	PVCost           Number            `json:"pvCost"`
	PVs              map[string]Volume `json:"pvs"`
	PVCostAdjustment Number            `json:"pvCostAdjustment"`

	RAMBytes              Number  `json:"ramBytes"`
	RAMByteRequestAverage Number  `json:"ramByteRequestAverage"`
	RAMByteUsageAverage   Number  `json:"ramByteUsageAverage"`
	RAMByteHours          Number  `json:"ramByteHours"`
	RAMCost               Number  `json:"ramCost"`
	RAMCostAdjustment     Number  `json:"ramCostAdjustment"`
	RAMCostIdle           Number  `json:"ramCostIdle"` // of ramCost, a share of idle
	RAMEfficiency         float64 `json:"ramEfficiency"`

	ExternalCost    Number  `json:"externalCost"`
	SharedCost      Number  `json:"sharedCost"`
	TotalCost       Number  `json:"totalCost"`
	TotalEfficiency float64 `json:"totalEfficiency"`

	EnergyKwh       Number  `json:"energyKwh"` // active + idle + overhead
	EnergyActiveKwh Number  `json:"energyActiveKwh"`
	EnergyIdleKwh   Number  `json:"energyIdleKwh"`
	SharedEnergyKwh Number  `json:"sharedEnergyKwh"` // of what is shared by sharedCost; no part of energyKwh
	EnergyCost      Number  `json:"energyCost"`
	OtherCost       Number  `json:"otherCost"` // nodes, ephemeral storage, other resources that have a price
	CO2eKg          *Number `json:"co2eKg"`    // location-based; null where the intensity of some of it is unknown
	HeatKwh         *Number `json:"heatKwh"`   // null where it was not computed for all of it
	Coverage        float64 `json:"coverage"`  // 0..1 of the time, with readings close enough
	Quality         string  `json:"quality"`   // of the energy: measured, estimated or mixed
	Currency        string  `json:"currency"`  // of all costs; "" without a price
	Provisional     bool    `json:"provisional"`
}

// Set is the allocations of one step by their names, in a stable order.
type Set struct {
	Window      schema.Window
	Allocations []Allocation
}

// Answer is what was asked for.
type Answer struct {
	Sets     []Set
	Window   schema.Window
	Currency string
	Total    int  // names in all sets, on all pages
	Closed   bool // nothing of it can change but by a correction
	Offset   int
	Warnings []string
	// Idle is how costs and idle add up, where idle was asked for.
	Idle []Reconciliation
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
