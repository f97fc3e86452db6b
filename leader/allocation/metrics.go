package allocation

import (
	"context"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/prometheus/client_golang/prometheus"
)

// maxSeries bounds the series of containers in one answer; beyond it none of them
// are told, and accumulus_allocation_series_dropped says how many there are.
const maxSeries = 50_000

// sample is one series.
type sample struct {
	desc   *prometheus.Desc
	value  float64
	labels []string
}

// The names that OpenCost's boards know. A cost has its currency beside OpenCost's
// labels.
var (
	nodeLabels      = []string{"cluster", "node", "instance", "currency"}
	containerLabels = []string{"cluster", "node", "instance", "namespace", "pod", "container"}

	nodeCPU   = prometheus.NewDesc("node_cpu_hourly_cost", "Price of a core for an hour.", nodeLabels, nil)
	nodeRAM   = prometheus.NewDesc("node_ram_hourly_cost", "Price of a GiB of memory for an hour.", nodeLabels, nil)
	nodeGPU   = prometheus.NewDesc("node_gpu_hourly_cost", "Price of a GPU for an hour, of nodes on which some pod requests one.", nodeLabels, nil)
	nodeTotal = prometheus.NewDesc("node_total_hourly_cost", "Price of all allocatable cores and memory of a node, and of the node itself, for an hour; without GPUs.", nodeLabels, nil)
	boxCPU    = prometheus.NewDesc("container_cpu_allocation", "Cores, the larger of requested and used.", containerLabels, nil)
	boxRAM    = prometheus.NewDesc("container_memory_allocation_bytes", "Bytes of memory, the larger of requested and used.", containerLabels, nil)
	boxGPU    = prometheus.NewDesc("container_gpu_allocation", "GPUs that are requested, of pods with one container.", containerLabels, nil)
	pvCost    = prometheus.NewDesc("pv_hourly_cost", "Price of a GiB of a persistent volume for an hour, by its claim.", []string{"cluster", "namespace", "persistentvolumeclaim", "currency"}, nil)
	podPV     = prometheus.NewDesc("pod_pvc_allocation", "Bytes of a persistent volume, by its claim, of each pod that mounted it.", []string{"cluster", "namespace", "pod", "persistentvolumeclaim"}, nil)
	dropped   = prometheus.NewDesc("accumulus_allocation_series_dropped", "Series of containers and of their volumes that are left out because there are too many: ask with cluster=NAME.", nil, nil)
	until     = prometheus.NewDesc("accumulus_allocation_until_timestamp_seconds", "End of the quarter of an hour that these metrics are of.", nil, nil)
)

// board is what was computed of one quarter.
type board struct {
	quarter schema.Window
	samples []sample
	left    int // series that are too many
}

// Describe tells nothing: which metrics there are depends on what there is.
func (*board) Describe(chan<- *prometheus.Desc) {}

// Collect gives the samples.
func (b *board) Collect(to chan<- prometheus.Metric) {
	for _, s := range b.samples {
		to <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, s.value, s.labels...)
	}
}

// Metrics are prices and allocations of the last settled quarter of an hour, of one
// cluster or of all where it is "". They are computed once in a quarter.
func (e *Engine) Metrics(ctx context.Context, cluster string) (prometheus.Gatherer, error) {
	settled, err := e.ledger.Settled(ctx)
	if err != nil {
		return nil, err
	}
	end := settled.UTC().Truncate(schema.Quarter)
	w := schema.Window{From: end.Add(-schema.Quarter), To: end}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	made := e.boards[cluster]
	if made == nil || made.quarter != w {
		if made, err = e.board(ctx, w, cluster); err != nil {
			return nil, err
		}
		if len(e.boards) >= maxBoards {
			clear(e.boards)
		}
		e.boards[cluster] = made
	}
	registry := prometheus.NewRegistry()
	return registry, registry.Register(made)
}

// maxBoards bounds what is kept: a board per name that was asked for.
const maxBoards = 200

func (e *Engine) board(ctx context.Context, w schema.Window, cluster string) (*board, error) {
	question := query.ChargeRequest{Window: w, Aggregate: []usage.Key{usage.Cluster, usage.Node, usage.Namespace, usage.Pod, usage.Container, usage.Claim}}
	if cluster != "" {
		question.Filter = []usage.Condition{{Key: usage.Cluster, Values: []string{cluster}}}
	}
	assets, err := e.source.Assets(ctx, question)
	if err != nil {
		return nil, err
	}
	var charges []query.Charges
	err = e.source.EachCharge(ctx, question, func(c *query.Charges) error {
		own := *c
		own.Lines = slices.Clone(c.Lines)
		charges = append(charges, own)
		return nil
	})
	if err != nil {
		return nil, err
	}
	b := &board{quarter: w, samples: []sample{{until, float64(w.To.Unix()), nil}}}
	for _, asset := range assets {
		b.node(asset, w.Length())
	}
	b.containers(charges, question.Aggregate, w.Length())
	mounts, err := e.source.Mounts(ctx, w, func(name string) bool { return cluster == "" || name == cluster })
	if err != nil {
		return nil, err
	}
	b.mounts(charges, mounts, w.Length())
	if b.left > 0 {
		b.samples = append(b.samples, sample{dropped, float64(b.left), nil})
	}
	return b, nil
}

// mounts adds the volumes by the pods that mounted them: one that several pods mount
// stands there for each, as OpenCost has it.
func (b *board) mounts(charges []query.Charges, mounts []query.Mount, length time.Duration) {
	bytes := make(map[query.Mount]float64) // by claim
	for _, c := range charges {
		if claim := c.Row.Key[string(usage.Claim)]; claim != "" {
			of := query.Mount{Cluster: c.Row.Key[string(usage.Cluster)], Namespace: c.Row.Key[string(usage.Namespace)], Claim: claim}
			bytes[of] += usage.ByteSeconds(c.Row.Sums[usage.VolumeClaimed]).Float() / length.Seconds()
		}
	}
	if len(mounts) > maxSeries {
		b.left += len(mounts)
		return
	}
	for _, m := range mounts {
		if size := bytes[query.Mount{Cluster: m.Cluster, Namespace: m.Namespace, Claim: m.Claim}]; size > 0 {
			b.samples = append(b.samples, sample{podPV, size, []string{m.Cluster, m.Namespace, m.Pod, m.Claim}})
		}
	}
}

// currencies are those of a row's prices.
func currencies(c query.Charges) []string {
	found := make(map[string]bool)
	for _, line := range c.Lines {
		if line.List != nil {
			found[line.List.Currency] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

const gib = 1 << 30

// noCurrency leaves all costs out of an atom.
const noCurrency = "-"

// node adds the prices of a node. Energy and network have prices of their own.
func (b *board) node(c query.Charges, length time.Duration) {
	for _, currency := range currencies(c) {
		a := newAtom(&c, currency, new(values))
		labels := []string{a.key[string(usage.Cluster)], a.key[string(usage.Node)], a.key[string(usage.Node)], currency}
		b.ratio(nodeCPU, a.values.get(costCPU), big.NewRat(c.Row.Sums[usage.AllocatableCPU], microsecondsPerHour), labels)
		b.ratio(nodeRAM, a.values.get(costRAM), new(big.Rat).Quo(byteHours(c.Row.Sums[usage.AllocatableMemory]), big.NewRat(gib, 1)), labels)
		b.ratio(nodeTotal, a.values.sum(costCPU, costRAM, costOther), big.NewRat(int64(length/time.Minute), 60), labels)
	}
}

// ratio adds a price, where it is one.
func (b *board) ratio(desc *prometheus.Desc, cost, amount *big.Rat, labels []string) {
	if cost.Sign() == 0 || amount.Sign() == 0 {
		return
	}
	value, _ := new(big.Rat).Quo(cost, amount).Float64()
	b.samples = append(b.samples, sample{desc, value, labels})
}

// containers adds what is of containers, nodes' GPUs and volumes.
func (b *board) containers(charges []query.Charges, keys []usage.Key, length time.Duration) {
	hours := big.NewRat(int64(length/time.Minute), 60)
	podOf := func(a *atom) string {
		return strings.Join([]string{a.key[string(usage.Cluster)], a.key[string(usage.Node)], a.key[string(usage.Namespace)], a.key[string(usage.Pod)]}, "\x00")
	}
	var atoms []*atom
	count := make(map[string]int)
	gpus := make(map[[3]string]*values)
	for _, c := range charges {
		for _, currency := range currencies(c) {
			a := newAtom(&c, currency, new(values))
			if a.key[string(usage.Claim)] != "" {
				b.ratio(pvCost, a.values.get(costPV), new(big.Rat).Quo(a.values.get(pvByteHours), big.NewRat(gib, 1)),
					[]string{a.key[string(usage.Cluster)], a.key[string(usage.Namespace)], a.key[string(usage.Claim)], currency})
			}
			if id := [3]string{a.key[string(usage.Cluster)], a.key[string(usage.Node)], currency}; a.values.has(costGPU) {
				if gpus[id] == nil {
					gpus[id] = new(values)
				}
				gpus[id].plus(a.values)
			}
		}
		if a := newAtom(&c, noCurrency, new(values)); a.key[string(usage.Pod)] != "" && !strings.HasPrefix(a.key[string(usage.Pod)], "__") {
			atoms = append(atoms, a)
			if a.key[string(usage.Container)] != "" {
				count[podOf(a)]++
			}
		}
	}
	for id, v := range gpus {
		b.ratio(nodeGPU, v.get(costGPU), v.get(gpuHours), []string{id[0], id[1], id[1], id[2]})
	}
	atoms = splitPods(atoms, keys)
	if 2*len(atoms) > maxSeries {
		b.left += 2 * len(atoms)
		return
	}
	for _, a := range atoms {
		labels := []string{a.key[string(usage.Cluster)], a.key[string(usage.Node)], a.key[string(usage.Node)], a.key[string(usage.Namespace)], a.key[string(usage.Pod)], a.value(dimension{key: usage.Container})}
		for desc, q := range map[*prometheus.Desc]quantity{boxCPU: cpuMax, boxRAM: ramMax} {
			value, _ := new(big.Rat).Quo(a.values.get(q), hours).Float64()
			b.samples = append(b.samples, sample{desc, value, labels})
		}
		if a.values.has(gpuHours) && count[podOf(a)] == 1 {
			b.ratio(boxGPU, a.values.get(gpuHours), hours, labels)
		}
	}
}
