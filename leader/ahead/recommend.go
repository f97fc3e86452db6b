package ahead

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// Recommendations are requests that fit what workloads used, and hardware and hours that
// cost less, with what that saves.
type Recommendations struct {
	From  time.Time        `json:"from"`
	To    time.Time        `json:"to"`
	Rows  []Recommendation `json:"rows"`  // of requests, the largest saving first
	Moves []Move           `json:"moves"` // to other hardware or hours, likewise
	Notes []string         `json:"notes"`
}

// Recommendation is of one workload: what one of its pods requests, used and should
// request.
type Recommendation struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
	Minutes   int    `json:"podMinutes"` // that it rests on
	CPU       Advice `json:"cpuCores"`
	Memory    Advice `json:"memoryBytes"`
	// Saving is by a month of 730 hours like the window, at the prices of the window;
	// negative where more should be requested. None where neither requests nor the
	// larger of used and requested have a price.
	Saving []usage.Money `json:"savingPerMonth"`
	saving float64
}

// Advice is a request, by pod. The figures are of minutes.
type Advice struct {
	Requested float64 `json:"requested"` // the mean
	P95       float64 `json:"p95"`       // of what was used
	P99       float64 `json:"p99"`
	Max       float64 `json:"max"`
	Recommend float64 `json:"recommend"`
}

// Head-room above what was used, and the least that a recommendation rests on.
const (
	headRoom       = 1.15
	leastMinutes   = 12 * 60
	recommendHours = 24
)

// Recommend recommends requests for workloads by their last settled day: of CPU P99 of
// the pods' minutes and 15 %, at least P95 and 15 %; of memory the maximum and 15 %, as
// a pod that has less is killed; and hardware and hours that cost less. Errors: ErrNothing, and those of the engine.
func (d *Desk) Recommend(ctx context.Context, q Question) (Recommendations, error) {
	end, err := d.settled(ctx)
	if err != nil {
		return Recommendations{}, err
	}
	r := Recommendations{From: end.Add(-recommendHours * time.Hour), To: end, Rows: []Recommendation{}, Notes: []string{
		"figures are means of minutes: shorter peaks are not in them",
		fmt.Sprintf("workloads with less than %d pod-minutes in the day are left out", leastMinutes)}}
	all := make(map[string]*sample)
	for hour := range recommendHours {
		w := schema.Window{From: r.From.Add(time.Duration(hour) * time.Hour), To: r.From.Add(time.Duration(hour+1) * time.Hour)}
		if err := d.sample(ctx, q, w, all); err != nil {
			return r, err
		}
	}
	for _, s := range all {
		if row, ok := s.advise(); ok {
			r.Rows = append(r.Rows, row)
		}
	}
	slices.SortFunc(r.Rows, func(a, b Recommendation) int {
		switch {
		case a.saving > b.saving:
			return -1
		case a.saving < b.saving:
			return 1
		}
		return usage.CompareKeys(a.row(), b.row(), sampleKeys[:3])
	})
	moves, notes, err := d.moves(ctx, q, end)
	r.Moves, r.Notes = append([]Move{}, moves...), append(r.Notes, notes...)
	return r, err
}

func (r Recommendation) row() usage.Row {
	return usage.Row{Key: map[string]string{string(usage.Cluster): r.Cluster, string(usage.Namespace): r.Namespace, string(usage.Workload): r.Workload}}
}

var sampleKeys = []usage.Key{usage.Cluster, usage.Namespace, usage.Workload, usage.Pod}

// sample is what a workload's pods used by the minute.
type sample struct {
	key                       map[string]string
	cpu, memory               []float64 // cores and bytes of each pod-minute
	seconds                   float64   // alive
	cpuRequest, memoryRequest float64   // core-seconds and byte-seconds
	// cpuRequests and memoryRequests are those of each pod-minute, as cpu and memory are.
	cpuRequests, memoryRequests []float64
	// of the requests and, where that is billed, of the larger of used and requested
	cpuPrice, memoryPrice, cpuMaxPrice, memoryMaxPrice map[string]*big.Rat
}

// sample reads an hour by the minute and pod.
func (d *Desk) sample(ctx context.Context, q Question, w schema.Window, into map[string]*sample) error {
	minutes, err := d.engine.Charges(ctx, query.ChargeRequest{Window: w, Step: time.Minute, Aggregate: sampleKeys, Filter: q.Filter})
	if err != nil {
		return fmt.Errorf("read %s by the minute: %w", w, err)
	}
	for _, c := range minutes {
		s := c.Row.Sums
		seconds := usage.Seconds(s[usage.Uptime]).Float()
		if c.Row.Key[string(usage.Workload)] == "" || seconds < 30 || s[usage.Interpolated] > 0 {
			continue
		}
		id := keyOf(c.Row, sampleKeys[:3])
		one := into[id]
		if one == nil {
			one = &sample{key: c.Row.Key, cpuPrice: make(map[string]*big.Rat), memoryPrice: make(map[string]*big.Rat),
				cpuMaxPrice: make(map[string]*big.Rat), memoryMaxPrice: make(map[string]*big.Rat)}
			into[id] = one
		}
		one.cpu = append(one.cpu, usage.CoreSeconds(s[usage.CPU]).Float()/seconds)
		one.memory = append(one.memory, usage.ByteSeconds(s[usage.Memory]).Float()/seconds)
		one.cpuRequests = append(one.cpuRequests, usage.CoreSeconds(s[usage.CPURequest]).Float()/seconds)
		one.memoryRequests = append(one.memoryRequests, usage.ByteSeconds(s[usage.MemoryRequest]).Float()/seconds)
		one.seconds += seconds
		one.cpuRequest += usage.CoreSeconds(s[usage.CPURequest]).Float()
		one.memoryRequest += usage.ByteSeconds(s[usage.MemoryRequest]).Float()
		for _, line := range c.Lines {
			one.price(line)
		}
	}
	return nil
}

// price adds the cost of requests, and of what is billed as the larger of used and
// requested.
func (s *sample) price(line query.Charge) {
	of := map[processors.Resource]map[string]*big.Rat{processors.CPURequested: s.cpuPrice, processors.MemoryRequested: s.memoryPrice,
		processors.CPUMax: s.cpuMaxPrice, processors.MemoryMax: s.memoryMaxPrice}[line.Resource]
	if of == nil || line.List == nil {
		return
	}
	if of[line.List.Currency] == nil {
		of[line.List.Currency] = new(big.Rat)
	}
	of[line.List.Currency].Add(of[line.List.Currency], line.Cost())
}

// advise is the recommendation, where there is enough to go by.
func (s *sample) advise() (Recommendation, bool) {
	r := Recommendation{Cluster: s.key[string(usage.Cluster)], Namespace: s.key[string(usage.Namespace)], Workload: s.key[string(usage.Workload)], Minutes: len(s.cpu)}
	if r.Minutes < leastMinutes {
		return r, false
	}
	r.CPU, r.Memory = adviceOf(s.cpu, s.cpuRequest/s.seconds), adviceOf(s.memory, s.memoryRequest/s.seconds)
	r.CPU.Recommend = math.Ceil(1000*headRoom*max(r.CPU.P95, r.CPU.P99)) / 1000
	r.Memory.Recommend = math.Ceil(headRoom*r.Memory.Max/(1<<20)) * (1 << 20)
	saved := make(map[string]*big.Rat)
	for _, one := range []struct {
		share float64 // of the cost that is left
		costs map[string]*big.Rat
	}{{left(r.CPU), s.cpuPrice}, {left(r.Memory), s.memoryPrice},
		{leftOfMax(s.cpu, s.cpuRequests, r.CPU.Recommend), s.cpuMaxPrice}, {leftOfMax(s.memory, s.memoryRequests, r.Memory.Recommend), s.memoryMaxPrice}} {
		share := new(big.Rat).SetFloat64(1 - one.share)
		for currency, cost := range one.costs {
			if saved[currency] == nil {
				saved[currency] = new(big.Rat)
			}
			saved[currency].Add(saved[currency], new(big.Rat).Mul(cost, share))
		}
	}
	for currency, cost := range saved {
		saved[currency] = cost.Mul(cost, big.NewRat(730, recommendHours))
		v, _ := cost.Float64()
		r.saving += v
	}
	r.Saving = moneyOf(saved)
	return r, true
}

// left is the part of the cost of requests that is left; all where nothing is requested.
func left(a Advice) float64 {
	if a.Requested <= 0 {
		return 1
	}
	return a.Recommend / a.Requested
}

// leftOfMax is the part that is left of the larger of used and requested, by the
// pod-minute, where all request what is recommended.
func leftOfMax(used, requested []float64, recommended float64) float64 {
	before, after := 0.0, 0.0
	for i := range used {
		before, after = before+max(used[i], requested[i]), after+max(used[i], recommended)
	}
	if before <= 0 {
		return 1
	}
	return after / before
}

func adviceOf(used []float64, requested float64) Advice {
	sorted := slices.Clone(used)
	slices.Sort(sorted)
	at := func(q float64) float64 { return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)] }
	return Advice{Requested: requested, P95: at(0.95), P99: at(0.99), Max: at(1)}
}
