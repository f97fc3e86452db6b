package focus

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math/big"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/processors"
)

// OpenCostHeader is the order of OpenCost's CSV export.
var OpenCostHeader = []string{"Date", "Namespace", "ControllerKind", "ControllerName", "Pod", "Container",
	"CPUCoreUsageAverage", "CPUCoreRequestAverage", "RAMBytesUsageAverage", "RAMBytesRequestAverage",
	"NetworkReceiveBytes", "NetworkTransferBytes", "GPUs", "PVBytes",
	"CPUCost", "RAMCost", "NetworkCost", "PVCost", "GPUCost", "TotalCost"}

// openCostKeys are what its rows are by; the file has no column for the cluster.
var openCostKeys = []query.Key{query.Cluster, query.Namespace, query.Workload, query.Pod, query.Container}

// isGPU says whether an extended resource is what OpenCost calls a GPU.
func isGPU(name string) bool {
	return strings.HasSuffix(name, "/gpu") || strings.Contains(name, "/gpu-")
}

// PrepareOpenCost makes OpenCost's CSV of a month in UTC, a row per day and
// container, and its manifest. It has one currency: else it is an error, since the
// file has no column for that. TotalCost holds energy, nodes and what else has a
// price, beside the five costs.
func PrepareOpenCost(ctx context.Context, engine Engine, request Request, options Options) (_ *Prepared, err error) {
	year, month, err := request.Check()
	if err != nil {
		return nil, err
	}
	w := BillingPeriod(year, month, time.UTC)
	sectors, err := engine.Sectors(ctx, w, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	state := State{Sectors: sectors}
	if request.RequireComplete && !state.complete() {
		return nil, incomplete(request.Period, state)
	}
	settled, err := engine.Settled(ctx)
	if err != nil {
		return nil, err
	}
	w.To = schema.Earlier(w.To, settled)
	p, err := newPrepared(options.Scratch)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	p.Manifest = Manifest{Format: "opencost-csv", Period: request.Period, Customer: request.Customer, Complete: state.complete(),
		Totals: map[string]string{}, Billed: map[string]string{}, LeftOut: []LeftOut{}}
	dir := "opencost"
	if request.Customer != "" {
		dir = path.Join(dir, "customer="+Partition(request.Customer))
	}
	file, err := p.create(path.Join(dir, request.Period+".csv"))
	if err != nil {
		return nil, err
	}
	out := openCost{csv: csv.NewWriter(file), total: new(big.Rat)}
	if err := out.month(ctx, engine, request, w); err != nil {
		return nil, errors.Join(err, file.file.Close())
	}
	if p.Manifest.Rows = out.rows; out.currency != "" {
		p.Manifest.Totals[out.currency] = plainDecimal(fromRat(out.total, scaleQuantity))
	}
	if err := file.finish(out.rows); err != nil {
		return nil, err
	}
	return p, p.seal(path.Join(dir, request.Period+"."+manifestName))
}

// openCost is the file in the making.
type openCost struct {
	csv      *csv.Writer
	currency string
	rows     int
	total    *big.Rat
}

func (o *openCost) month(ctx context.Context, engine Engine, request Request, w schema.Window) error {
	header, keys := slices.Clone(OpenCostHeader), slices.Clone(openCostKeys)
	all := false
	for _, label := range request.Labels {
		if label == AllLabels {
			header, all = append(header, "Labels"), true
			continue
		}
		header, keys = append(header, "Label_"+label), append(keys, usage.Label(label))
	}
	if err := o.csv.Write(header); err != nil {
		return err
	}
	question := query.ChargeRequest{Aggregate: keys, Step: 24 * time.Hour, Labels: all}
	if request.Customer != "" {
		question.Filter = []query.Condition{{Key: query.Customer, Values: []string{request.Customer}}}
	}
	for at := w.From; at.Before(w.To); {
		question.Window = usage.Bucket(w, 24*time.Hour, at)
		at = question.Window.To
		charges, err := engine.Charges(ctx, question)
		if err != nil {
			return fmt.Errorf("charges of %s: %w", question.Window, err)
		}
		for _, c := range charges {
			if err := o.row(c, request.Labels); err != nil {
				return err
			}
		}
	}
	o.csv.Flush()
	return o.csv.Error()
}

// row writes one container's day.
func (o *openCost) row(c query.Charges, labels []string) error {
	costs := make(map[string]*big.Rat)
	for _, name := range []string{"cpu", "ram", "network", "pv", "gpu", "total"} {
		costs[name] = new(big.Rat)
	}
	for _, line := range c.Lines {
		if line.List == nil {
			continue
		}
		if o.currency == "" {
			o.currency = line.List.Currency
		}
		if line.List.Currency != o.currency {
			return &query.InputError{Parameter: "format", Value: "opencost-csv",
				Hint: fmt.Sprintf("the period has prices in %s and in %s, and OpenCost's CSV has no column for the currency: name a customer, or use the format focus", o.currency, line.List.Currency)}
		}
		cost := line.Cost()
		if of := openCostColumn(line.Resource); of != "" {
			costs[of].Add(costs[of], cost)
		}
		costs["total"].Add(costs["total"], cost)
	}
	o.total.Add(o.total, costs["total"])
	o.rows++
	cells := append(o.figures(c), decimals(costs, "cpu", "ram", "network", "pv", "gpu", "total")...)
	for _, label := range labels {
		if label == AllLabels {
			text, err := usage.LabelText(c.Labels)
			if err != nil {
				return err
			}
			cells = append(cells, text)
			continue
		}
		cells = append(cells, c.Row.Key[string(usage.Label(label))])
	}
	return o.csv.Write(cells)
}

// figures are the columns before the costs. Averages are over the time that the
// container, or of what is no container the window, was there.
func (o *openCost) figures(c query.Charges) []string {
	key, s := c.Row.Key, c.Row.Sums
	kind, name, _ := strings.Cut(key[string(query.Workload)], "/")
	alive := s[usage.Uptime] // ms
	length := c.Row.To.Sub(c.Row.From).Milliseconds()
	if alive == 0 {
		alive = length
	}
	bytes := func(kibibyteSeconds, milliseconds int64) string {
		return plainDecimal(fromRat(new(big.Rat).Mul(big.NewRat(kibibyteSeconds, milliseconds), big.NewRat(1024*1000, 1)), 3))
	}
	cores := func(microseconds int64) string {
		return plainDecimal(fromRat(big.NewRat(microseconds, alive*1000), 6))
	}
	gpu := new(big.Rat)
	for _, line := range c.Lines {
		if name, ok := line.Resource.ExtendedName(); ok && isGPU(name) {
			gpu.Add(gpu, big.NewRat(line.Quantity, alive)) // ms of one piece
		}
	}
	return []string{c.Row.From.UTC().Format("2006-01-02"), key[string(query.Namespace)], strings.ToLower(kind), name, key[string(query.Pod)], key[string(query.Container)],
		cores(s[usage.CPU]), cores(s[usage.CPURequest]), bytes(s[usage.Memory], alive), bytes(s[usage.MemoryRequest], alive),
		fmt.Sprint(s[usage.NetworkReceive]), fmt.Sprint(s[usage.NetworkTransmit]), plainDecimal(fromRat(gpu, 6)), bytes(s[usage.VolumeClaimed], length)}
}

// openCostColumn is the column that a resource's cost belongs to, "" where it has
// none of its own.
func openCostColumn(r processors.Resource) string {
	if name, ok := r.ExtendedName(); ok {
		if isGPU(name) {
			return "gpu"
		}
		return ""
	}
	switch r.General() {
	case processors.CPUUsed, processors.CPURequested, "cpu_max":
		return "cpu"
	case processors.MemoryUsed, processors.MemoryRequested, "memory_max":
		return "ram"
	case processors.NetworkReceive, processors.NetworkTransmit, processors.NodeReceive, processors.NodeTransmit:
		return "network"
	case processors.VolumeClaimed, processors.VolumeUsed:
		return "pv"
	}
	return ""
}

// decimals are amounts to nine places.
func decimals(amounts map[string]*big.Rat, names ...string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = plainDecimal(fromRat(amounts[name], scaleQuantity))
	}
	return all
}
