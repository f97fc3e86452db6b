package usage

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/processors"
)

// Row is the usage of one key in one step.
type Row struct {
	Key  map[string]string `json:"key"`
	From time.Time         `json:"from"`
	To   time.Time         `json:"to"`

	CPUCoreSeconds           Exact `json:"cpuCoreSeconds"`
	MemoryByteSeconds        Exact `json:"memoryByteSeconds"`
	NetworkReceiveBytes      Exact `json:"networkReceiveBytes"`
	NetworkTransmitBytes     Exact `json:"networkTransmitBytes"`
	CPURequestCoreSeconds    Exact `json:"cpuRequestCoreSeconds"`
	MemoryRequestByteSeconds Exact `json:"memoryRequestByteSeconds"`
	// FilesystemByteSeconds are the files that containers wrote; only in rows by
	// container.
	FilesystemByteSeconds *Exact `json:"filesystemByteSeconds,omitempty"`
	PodSeconds            Exact  `json:"podSeconds"`  // time alive, summed over pods
	NodeSeconds           Exact  `json:"nodeSeconds"` // time alive, summed over nodes; stands under __system__

	// What nodes' interfaces counted stands under __system__. Network of pods is no
	// part of it: what one sends to another on its node passes no interface of the node.
	NodeReceiveBytes  Exact `json:"nodeReceiveBytes"`
	NodeTransmitBytes Exact `json:"nodeTransmitBytes"`

	EphemeralByteSeconds     Exact `json:"ephemeralByteSeconds"` // of nodes' disks, by pods
	VolumeClaimedByteSeconds Exact `json:"volumeClaimedByteSeconds"`
	VolumeUsedByteSeconds    Exact `json:"volumeUsedByteSeconds"` // while some pod mounted it
	VolumeMountedSeconds     Exact `json:"volumeMountedSeconds"`  // summed over the pods that mounted it
	// Extended is what pods requested of resources that Kubernetes knows by name
	// alone: piece-seconds (nvidia.com/gpu), or byte-seconds (ephemeral-storage,
	// hugepages-*).
	Extended map[string]Exact `json:"extended,omitempty"`

	EnergyJoules         Exact `json:"energyJoules"` // active + idle + overhead
	EnergyActiveJoules   Exact `json:"energyActiveJoules"`
	EnergyIdleJoules     Exact `json:"energyIdleJoules"`
	EnergyOverheadJoules Exact `json:"energyOverheadJoules"`
	EnergyMeasuredJoules Exact `json:"energyMeasuredJoules"` // the part of energyJoules that closed meter intervals cover
	EnergyModelledJoules Exact `json:"energyModelledJoules"` // what the model alone would have said
	// EnergyUncertaintyJoules is what energyJoules is off by at the most, of one
	// standard error of the models and of the meters' gain.
	EnergyUncertaintyJoules Exact `json:"energyUncertaintyJoules"`

	// Cost is a decimal, null where nothing of the row has a price or where it
	// has prices in several currencies: then they stand in Costs.
	Cost     *string `json:"cost"`
	Currency string  `json:"currency"`
	Costs    []Money `json:"costs,omitempty"`
	// Excluded is what namespaces that the price list excludes would have cost: no
	// part of the cost.
	Excluded []Money `json:"excluded,omitempty"`

	Coverage     float64 `json:"coverage"`     // 0..1 of the time asked for, with readings close enough
	Interpolated Exact   `json:"interpolated"` // pod-seconds over which growth was spread in a reading gap
	Quality      string  `json:"quality"`      // of the energy: measured, estimated or mixed
	Provisional  bool    `json:"provisional"`  // some of it may still change

	// Sums are what the figures are of, in stored units.
	Sums Sums `json:"-"`
}

// Money is an amount in one currency.
type Money struct {
	Cost     string `json:"cost"`
	Currency string `json:"currency"`
}

// Money is the row's cost by currency; none without a price.
func (r Row) Money() []Money {
	if r.Cost != nil {
		return []Money{{Cost: *r.Cost, Currency: r.Currency}}
	}
	return r.Costs
}

// Tally is a row in the making.
type Tally struct {
	Key     map[string]string
	Window  schema.Window
	Sums    Sums
	covered []covered // by share, in order
	share   float64   // the largest share, for rows without pods' time
	Open    bool      // some of it may still change

	// Named is what goes by class or name: volumes by storage class, and extended
	// resources, in stored units.
	Named processors.Quantities
}

// CountNamed adds quantities that go by class or name.
func (t *Tally) CountNamed(named processors.Quantities) error { return AddNamed(&t.Named, named) }

// AddNamed adds more to sum.
func AddNamed(sum *processors.Quantities, more processors.Quantities) error {
	if *sum == nil && len(more) > 0 {
		*sum = make(processors.Quantities)
	}
	for resource, quantity := range more {
		total, err := Add((*sum)[resource], quantity)
		if err != nil {
			return fmt.Errorf("sum of %s: %w", resource, err)
		}
		(*sum)[resource] = total
	}
	return nil
}

// ExtendedInBytes says whether an extended resource is one of bytes.
func ExtendedInBytes(name string) bool { return processors.Extended(name).InBytes() }

// extended are the row's extended resources.
func (t *Tally) extended() map[string]Exact {
	var all map[string]Exact
	for resource, quantity := range t.Named {
		name, ok := resource.ExtendedName()
		if !ok {
			continue
		}
		if all == nil {
			all = make(map[string]Exact)
		}
		if all[name] = Seconds(quantity); resource.InBytes() {
			all[name] = ByteSeconds(quantity)
		}
	}
	return all
}

// Count adds a group's sums, of whose window the share is there at all.
func (t *Tally) Count(sums *Sums, share float64) error {
	if err := t.Sums.Add(sums); err != nil {
		return err
	}
	t.share = max(t.share, share)
	i, known := slices.BinarySearchFunc(t.covered, share, func(c covered, share float64) int { return cmp.Compare(c.share, share) })
	if !known {
		t.covered = slices.Insert(t.covered, i, covered{share: share})
	}
	t.covered[i].seconds += sums[Coverage]
	return nil
}

// covered is for how long there were readings in groups of one share. It is an
// integer, so that it is the same in whatever pieces it was counted.
type covered struct {
	share   float64
	seconds int64
}

// Bare is the row with its key, its times, its sums and how good they are, without
// the figures of them.
func (t *Tally) Bare() (Row, error) {
	s := t.Sums
	energy, err := s.Energy()
	if err != nil {
		return Row{}, err
	}
	return Row{Key: t.Key, From: t.Window.From, To: t.Window.To, Coverage: t.CoverageShare(), Provisional: t.Open, Sums: s,
		Quality: QualityOf(s[EnergyMeasured], s[EnergyIntegrated], energy)}, nil
}

// Row turns stored units into those of the answer. It has no cost yet.
func (t *Tally) Row() (Row, error) {
	s := t.Sums
	energy, err := s.Energy()
	if err != nil {
		return Row{}, err
	}
	bare, err := t.Bare()
	var files *Exact
	if _, by := t.Key[string(Container)]; by {
		f := ByteSeconds(s[Filesystem])
		files = &f
	}
	return Row{Key: t.Key, FilesystemByteSeconds: files, From: t.Window.From, To: t.Window.To,
		CPUCoreSeconds: CoreSeconds(s[CPU]), MemoryByteSeconds: ByteSeconds(s[Memory]),
		NetworkReceiveBytes: Whole(s[NetworkReceive]), NetworkTransmitBytes: Whole(s[NetworkTransmit]),
		CPURequestCoreSeconds: CoreSeconds(s[CPURequest]), MemoryRequestByteSeconds: ByteSeconds(s[MemoryRequest]),
		PodSeconds: Seconds(s[Uptime]), NodeSeconds: Seconds(s[NodeTime]),
		NodeReceiveBytes: Whole(s[NodeReceive]), NodeTransmitBytes: Whole(s[NodeTransmit]),
		EphemeralByteSeconds: ByteSeconds(s[Ephemeral]), VolumeClaimedByteSeconds: ByteSeconds(s[VolumeClaimed]),
		VolumeUsedByteSeconds: ByteSeconds(s[VolumeUsed]), VolumeMountedSeconds: Seconds(s[VolumeMounted]), Extended: t.extended(),
		EnergyJoules: Joules(energy), EnergyActiveJoules: Joules(s[EnergyActive]), EnergyIdleJoules: Joules(s[EnergyIdle]),
		EnergyOverheadJoules: Joules(s[EnergyOverhead]), EnergyModelledJoules: Joules(s[EnergyModelled]),
		EnergyMeasuredJoules: Joules(s[EnergyMeasured]), EnergyUncertaintyJoules: Joules(s[EnergyUncertainty]),
		Coverage: bare.Coverage, Interpolated: Whole(s[Interpolated]),
		Quality: bare.Quality, Provisional: bare.Provisional, Sums: s}, err
}

// CoverageShare is the pods' covered part of their time alive, times the cluster's
// share of the window that is there at all.
func (t *Tally) CoverageShare() float64 {
	uptime := t.Sums[Uptime]
	if uptime <= 0 {
		return t.share
	}
	var milliseconds float64
	for _, c := range t.covered {
		milliseconds += float64(c.seconds) * 1000 * c.share
	}
	return min(1, milliseconds/float64(uptime))
}

// QualityOf is measured where counters of meters covered all of the energy, mixed
// also where a part of that rests on their watts, estimated where they covered
// none of it.
func QualityOf(measured, integrated, energy int64) string {
	switch {
	case measured == 0:
		return schema.Estimated
	case measured == energy && integrated == 0:
		return schema.Measured
	}
	return schema.Mixed
}

// CostPlaces are the decimals of an answer's cost: nanos, as showback is
// stored. A bill rounds to the currency's smallest unit (processors/rating).
const CostPlaces = 9

// Decimal rounds an exact amount once, half away from zero, and drops zeros
// beyond the currency's own decimals.
func Decimal(amount *big.Rat, currency string) string {
	return trimMoney(amount.FloatString(CostPlaces), currency)
}

func trimMoney(text, currency string) string {
	least, ok := processors.CurrencyExponent(currency)
	if !ok {
		least = 2
	}
	point := strings.IndexByte(text, '.')
	if point < 0 {
		return text
	}
	end := len(text)
	for end > point+1+int(least) && text[end-1] == '0' {
		end--
	}
	text = strings.TrimSuffix(text[:end], ".")
	if strings.Trim(text, "-0.") == "" {
		text = strings.TrimPrefix(text, "-")
	}
	return text
}

// Moneys are exact amounts by currency, rounded.
func Moneys(amounts map[string]*big.Rat) []Money {
	var all []Money
	for currency, amount := range amounts {
		all = append(all, Money{Cost: Decimal(amount, currency), Currency: currency})
	}
	slices.SortFunc(all, func(a, b Money) int { return strings.Compare(a.Currency, b.Currency) })
	return all
}

// SetCost fills the row's money from exact amounts by currency.
func (r *Row) SetCost(costs map[string]*big.Rat) {
	r.Costs = Moneys(costs)
	if len(r.Costs) == 1 {
		r.Cost, r.Currency = &r.Costs[0].Cost, r.Costs[0].Currency
		r.Costs = nil
	}
}

// Labels are the labels of a pod's versions, the older first.
type Labels []LabelVersion

// LabelVersion is a pod's labels from a moment on.
type LabelVersion struct {
	From   time.Time
	Labels map[string]string
}

// At are the labels at a window's start, or the first ones of a pod that was
// born in it.
func (l Labels) At(w schema.Window) map[string]string {
	var found map[string]string
	for i, v := range l {
		if i > 0 && v.From.After(w.From) {
			break
		}
		found = v.Labels
	}
	return found
}

// LabelText is labels as a JSON object, as OpenCost's column Labels has them: without
// annotations, and "" of none.
func LabelText(labels map[string]string) (string, error) {
	own := make(map[string]string, len(labels))
	for name, value := range labels {
		if !strings.HasPrefix(name, schema.AnnotationPrefix) {
			own[name] = value
		}
	}
	if len(own) == 0 {
		return "", nil
	}
	text, err := json.Marshal(own)
	if err != nil {
		return "", fmt.Errorf("write labels: %w", err)
	}
	return string(text), nil
}
