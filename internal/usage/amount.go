package usage

import (
	"fmt"
	"math"
	"math/big"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Quantity numbers a stored quantity in Sums.
type Quantity int

// The quantities, in the order of their fields.
const (
	CPU Quantity = iota
	Memory
	NetworkReceive
	NetworkTransmit
	CPURequest
	MemoryRequest
	Uptime
	Coverage     // s of each window with readings close enough
	Interpolated // s of each window over which growth was spread
	EnergyActive
	EnergyIdle
	EnergyOverhead
	EnergyModelled
	EnergyMeasured
	EnergyUncertainty
	EnergyIntegrated
	Filesystem  // of containers: their writable layers and logs
	NodeTime    // a node's time alive, counted once for the node, under its system namespace
	NodeReceive // what a node's interfaces counted, under its system namespace too
	NodeTransmit
	Ephemeral     // of nodes' disks, by pods: writable layers, logs, emptyDirs
	VolumeClaimed // sizes of claims
	VolumeUsed
	VolumeMounted // time in which pods mounted claims
	CPUMax        // Σ over pod-minutes of max(used, requested)
	MemoryMax
	AllocatableCPU // of nodes, times their time alive; read for assets alone
	AllocatableMemory

	// Of heat and carbon. The last three are boxes' own, beside what they carry.
	Heat
	CarbonLocation
	CarbonLocationEnergy
	CarbonEstimatedEnergy
	CarbonMarket
	CarbonMarketEnergy
	CarbonEmbodied
	BoxMeasured // what the meters counted
	UsefulHeat
	CarbonAvoided
	quantities
)

var fieldOf = [quantities]string{
	CPU: schema.CPU, Memory: schema.Memory, NetworkReceive: schema.NetworkReceive, NetworkTransmit: schema.NetworkTransmit,
	CPURequest: schema.CPURequest, MemoryRequest: schema.MemoryRequest, Uptime: schema.Uptime,
	Coverage: schema.Coverage, Interpolated: schema.Interpolated,
	EnergyActive: schema.EnergyActive, EnergyIdle: schema.EnergyIdle, EnergyOverhead: schema.EnergyOverhead,
	EnergyModelled: schema.EnergyModelled, EnergyMeasured: schema.EnergyMeasured, EnergyUncertainty: schema.Uncertainty, EnergyIntegrated: schema.Integrated, Filesystem: schema.Filesystem, NodeTime: schema.Uptime,
	NodeReceive: schema.InterfaceReceive, NodeTransmit: schema.InterfaceTransmit, Ephemeral: schema.Ephemeral,
	VolumeClaimed: schema.Claimed, VolumeUsed: schema.Used, VolumeMounted: schema.Mounted,
	CPUMax: schema.CPUMax, MemoryMax: schema.MemoryMax, AllocatableCPU: schema.AllocatableCPU, AllocatableMemory: schema.AllocatableMem,
	Heat: schema.Heat, CarbonLocation: schema.CarbonLocation, CarbonLocationEnergy: schema.CarbonLocationEnergy,
	CarbonEstimatedEnergy: schema.CarbonEstimatedEnergy, CarbonMarket: schema.CarbonMarket, CarbonMarketEnergy: schema.CarbonMarketEnergy,
	CarbonEmbodied: schema.CarbonEmbodied, BoxMeasured: schema.EnergyMeasured, UsefulHeat: schema.UsefulHeat, CarbonAvoided: schema.CarbonAvoided,
}

// Quantities by the kind of table that has them.
var (
	OfPods       = []Quantity{CPU, Memory, NetworkReceive, NetworkTransmit, CPURequest, MemoryRequest, Uptime, Coverage, Interpolated, Ephemeral, CPUMax, MemoryMax}
	OfSandboxes  = []Quantity{NetworkReceive, NetworkTransmit, Ephemeral, CPUMax, MemoryMax} // of pods, beside OfContainers
	OfContainers = []Quantity{CPU, Memory, Filesystem, CPURequest, MemoryRequest, Uptime, Coverage, Interpolated}
	OfNodes      = []Quantity{NodeTime, NodeReceive, NodeTransmit}
	OfAssets     = []Quantity{NodeTime, AllocatableCPU, AllocatableMemory}
	OfVolumes    = []Quantity{VolumeClaimed, VolumeUsed, VolumeMounted}
	OfEnergy     = []Quantity{EnergyActive, EnergyIdle, EnergyOverhead, EnergyModelled, EnergyMeasured, EnergyUncertainty, EnergyIntegrated}
	OfCoverage   = []Quantity{Uptime, Coverage} // of pods, beside their energy
	OfCarbon     = []Quantity{CarbonLocation, CarbonLocationEnergy, CarbonEstimatedEnergy, CarbonMarket, CarbonMarketEnergy, CarbonEmbodied}
)

// Field is the column in which the quantity is stored.
func (q Quantity) Field() string { return fieldOf[q] }

// Sums are the quantities in their stored units (internal/schema).
type Sums [quantities]int64

// Add adds other; a sum beyond int64 is an error, never a wrapped number.
func (s *Sums) Add(other *Sums) error {
	for i, v := range other {
		if v == 0 {
			continue
		}
		sum, err := Add(s[i], v)
		if err != nil {
			return fmt.Errorf("sum of %s: %w", fieldOf[i], err)
		}
		s[i] = sum
	}
	return nil
}

// Energy is active + idle + overhead, in mJ.
func (s *Sums) Energy() (int64, error) {
	sum, err := Add(s[EnergyActive], s[EnergyIdle])
	if err == nil {
		sum, err = Add(sum, s[EnergyOverhead])
	}
	if err != nil {
		return 0, fmt.Errorf("sum of energy: %w", err)
	}
	return sum, nil
}

// ErrOverflow is a sum beyond the range of int64.
var ErrOverflow = fmt.Errorf("beyond the range of a 64-bit integer: ask for a shorter window or fewer clusters")

// Add adds two stored quantities: ErrOverflow where the sum is beyond int64.
func Add(a, b int64) (int64, error) {
	if (b > 0 && a > math.MaxInt64-b) || (b < 0 && a < math.MinInt64-b) {
		return 0, ErrOverflow
	}
	return a + b, nil
}

// Exact is a number with a fixed count of decimals that prints as an exact JSON
// number, whatever its size.
type Exact struct {
	units    *big.Int // value · 10^decimals
	decimals int
	unknown  bool
}

// Unknown is a number that nobody has told: null in JSON, nothing in text, and
// nothing in a sum.
var Unknown = Exact{unknown: true}

// Known says whether the number was told.
func (e Exact) Known() bool { return !e.unknown }

// CoreSeconds of core-µs.
func CoreSeconds(micro int64) Exact { return Exact{units: big.NewInt(micro), decimals: 6} }

// Joules of mJ.
func Joules(milli int64) Exact { return Exact{units: big.NewInt(milli), decimals: 3} }

// Grams of µg.
func Grams(micro int64) Exact { return Exact{units: big.NewInt(micro), decimals: 6} }

// Seconds of ms.
func Seconds(milli int64) Exact { return Exact{units: big.NewInt(milli), decimals: 3} }

// Whole of a count.
func Whole(n int64) Exact { return Exact{units: big.NewInt(n)} }

// ByteSeconds of KiB·s.
func ByteSeconds(kib int64) Exact {
	return Exact{units: new(big.Int).Lsh(big.NewInt(kib), 10)}
}

// String is the number in plain decimals, without trailing zeros; "" for Unknown.
func (e Exact) String() string {
	if e.unknown {
		return ""
	}
	if e.units == nil {
		return "0"
	}
	text := new(big.Int).Abs(e.units).String()
	if e.decimals > 0 {
		if missing := e.decimals + 1 - len(text); missing > 0 {
			text = strings.Repeat("0", missing) + text
		}
		point := len(text) - e.decimals
		text = strings.TrimRight(strings.TrimRight(text[:point]+"."+text[point:], "0"), ".")
	}
	if e.units.Sign() < 0 {
		return "-" + text
	}
	return text
}

// Float is the nearest float, for display and sorting.
func (e Exact) Float() float64 {
	if e.units == nil {
		return 0
	}
	value, _ := new(big.Float).SetInt(e.units).Float64()
	return value / math.Pow10(e.decimals)
}

// MarshalJSON is the number itself, not a string, or null.
func (e Exact) MarshalJSON() ([]byte, error) {
	if e.unknown {
		return []byte("null"), nil
	}
	return []byte(e.String()), nil
}

// UnmarshalJSON reads a JSON number without loss.
func (e *Exact) UnmarshalJSON(text []byte) error {
	number := string(text)
	if number == "null" {
		*e = Unknown
		return nil
	}
	decimals := 0
	if before, after, ok := strings.Cut(number, "."); ok {
		number, decimals = before+after, len(after)
	}
	units, ok := new(big.Int).SetString(number, 10)
	if !ok {
		return fmt.Errorf("number %q is not a plain decimal", text)
	}
	*e = Exact{units: units, decimals: decimals}
	return nil
}

// Cmp compares exactly.
func (e Exact) Cmp(other Exact) int {
	return new(big.Rat).SetFrac(e.integer(), Pow10(e.decimals)).Cmp(new(big.Rat).SetFrac(other.integer(), Pow10(other.decimals)))
}

func (e Exact) integer() *big.Int {
	if e.units == nil {
		return new(big.Int)
	}
	return e.units
}

// Pow10 is 10^n.
func Pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// Minus is the exact difference of two known numbers.
func (e Exact) Minus(other Exact) Exact {
	return e.Plus(Exact{units: new(big.Int).Neg(other.integer()), decimals: other.decimals})
}

// Plus is the exact sum.
func (e Exact) Plus(other Exact) Exact {
	if e.unknown || other.unknown {
		if e.unknown {
			return other
		}
		return e
	}
	decimals := max(e.decimals, other.decimals)
	scaled := func(x Exact) *big.Int { return new(big.Int).Mul(x.integer(), Pow10(decimals-x.decimals)) }
	return Exact{units: new(big.Int).Add(scaled(e), scaled(other)), decimals: decimals}
}
