package processors

import (
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// carbonRun is one box and window in work.
type carbonRun struct {
	in               CarbonInput
	location, market carry
	sources          map[string]bool
	result           CarbonResult
}

// minute finds the grams of one minute's rows.
func (r *carbonRun) minute(at time.Time, rows []EnergyRow, weights []int64, energy int64) error {
	out := make([]CarbonRow, len(rows))
	for i, row := range rows {
		out[i].Key = row.Key()
	}
	if one, known := intensityAt(r.in.Location, at); known {
		r.sources[one.Source] = true
		grams := LargestRemainder(r.location.mulDiv(energy, one.Milligram, gramScale), weights)
		for i := range out {
			out[i].LocationEnergy = weights[i]
			if one.Estimated {
				out[i].EstimatedEnergy = weights[i]
			}
			if grams != nil {
				out[i].Location = grams[i]
			}
		}
	}
	if one, known := intensityAt(r.in.Market, at); known {
		r.sources[one.Source] = true
		grams := LargestRemainder(r.market.mulDiv(energy, one.Milligram, gramScale), weights)
		for i := range out {
			out[i].MarketEnergy = weights[i]
			if grams != nil {
				out[i].Market = grams[i]
			}
		}
	}
	r.embody(at, rows, out)
	minute := CarbonMinute{Time: at}
	for _, row := range out {
		if err := minute.add(row.CarbonSums); err != nil {
			return err
		}
	}
	r.result.Rows = append(r.result.Rows, out...)
	r.result.Minutes = append(r.result.Minutes, minute)
	return r.result.Box.add(minute.CarbonSums)
}

// intensityAt is the intensity that holds at a minute's start. The list is in
// order and does not overlap.
func intensityAt(list []Intensity, at time.Time) (Intensity, bool) {
	for _, one := range list {
		if !at.Before(one.From) && (one.To.IsZero() || at.Before(one.To)) {
			return one, true
		}
	}
	return Intensity{}, false
}

// embody shares the making of each node's hardware over the node's rows.
func (r *carbonRun) embody(at time.Time, rows []EnergyRow, out []CarbonRow) {
	for first := 0; first < len(rows); {
		last := first
		for last < len(rows) && rows[last].Cluster == rows[first].Cluster && rows[last].Node == rows[first].Node {
			last++
		}
		if grams := r.making(rows[first].Cluster, rows[first].Node, at); grams > 0 {
			weights := r.requested(at, rows[first:last])
			for i, share := range LargestRemainder(grams, weights) {
				out[first+i].Embodied = share
			}
		}
		first = last
	}
}

// making is the part of a node's making that falls into a minute, µg: the
// difference of one function of time, so that any minutes of a lifetime add up.
func (r *carbonRun) making(cluster, node string, at time.Time) int64 {
	for _, m := range r.in.Making {
		if m.Cluster != cluster || m.Node != node || at.Before(m.From) || !m.To.IsZero() && !at.Before(m.To) {
			continue
		}
		until := func(t time.Time) int64 { return MulDiv(m.Micrograms, t.Unix(), int64(m.Lifetime/time.Second)) }
		return until(at.Add(schema.Minute)) - until(at)
	}
	return 0
}

// requested is each row's weight in its node's hardware: of a pod what it
// requested, of __idle__ what nobody did.
func (r *carbonRun) requested(at time.Time, rows []EnergyRow) []int64 {
	weights := make([]int64, len(rows))
	type podKey struct{ namespace, pod, uid, kind, workload string }
	shares := make(map[podKey]int64)
	for _, n := range r.in.Nodes {
		if n.Cluster != rows[0].Cluster || n.Name != rows[0].Node || !n.validAt(at) {
			continue
		}
		i, found := slices.BinarySearchFunc(n.Minutes, at, func(m NodeMinute, t time.Time) int { return m.Time.Compare(t) })
		if !found {
			continue
		}
		for _, pod := range withRests(n.Minutes[i].Pods) {
			if pod.real() {
				shares[podKey{pod.Namespace, pod.Pod, pod.UID, pod.WorkloadKind, pod.Workload}] = requestShare(pod, n.Minutes[i])
			}
		}
	}
	var sum int64
	idle := -1
	for i, row := range rows {
		weights[i] = shares[podKey{row.Namespace, row.Pod, row.UID, row.WorkloadKind, row.Workload}]
		sum += weights[i]
		if row.Namespace == schema.IdleNamespace {
			idle = i
		}
	}
	if idle >= 0 {
		weights[idle] = max(requestUnit-sum, 0)
	}
	return weights
}
