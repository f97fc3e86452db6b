package work

import (
	"context"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// rate writes a cluster's showback of a quarter.
func (w *Worker) rate(ctx context.Context, due registry.Due) error {
	quarter, cluster := quarterOf(due), due.Scope
	in := processors.CostInput{Window: quarter, Cluster: cluster}
	parts, err := w.validities(ctx, quarter)
	if err != nil {
		return err
	}
	for _, part := range parts {
		slot, err := w.slot(ctx, cluster, part)
		if err != nil {
			return err
		}
		in.Slots = append(in.Slots, slot)
	}
	fingerprint := processors.Cost{}.Fingerprint(in)
	same, err := w.same(ctx, due, fingerprint)
	if err != nil || same {
		return w.finish(ctx, due, fingerprint, nil, err)
	}
	result, err := processors.Cost{}.Process(in)
	if err != nil {
		return err
	}
	rows := make([]influxsync.Point, len(result.Rows))
	for i, row := range result.Rows {
		rows[i] = costPoint(row)
	}
	all := func(influxsync.Point) bool { return true }
	if _, err := w.cost.Replace(ctx, cluster, quarter, all, rows, due.Reason); err != nil {
		return err
	}
	return w.registry.Done(ctx, due, fingerprint, nil)
}

// slot is what a cluster used while one price list held, and that list.
func (w *Worker) slot(ctx context.Context, cluster string, part validity) (processors.CostSlot, error) {
	slot := processors.CostSlot{Window: part.Window}
	described, _ := part.fleet.Cluster(cluster)
	list, priced := part.fleet.PriceListFor(cluster, described.Customer)
	if priced {
		version, err := w.priceVersion(ctx, list.Name, part.Window)
		if err != nil {
			return slot, err
		}
		prices, err := priceList(list, version)
		if err != nil {
			return slot, err
		}
		slot.Prices = append(slot.Prices, prices)
	}
	group := []string{schema.Namespace, schema.WorkloadKind, schema.Workload}
	usage := make(slotUsage)
	for _, source := range []struct {
		table      schema.Table
		quantities func(influxsync.Point) (processors.Quantities, error)
	}{{schema.PodMinute, podQuantities}, {schema.EnergyMinute, energyQuantities}, {schema.NodeMinute, nodeQuantities}} {
		rows, err := w.sum(ctx, source.table, cluster, part.Window, group)
		if err != nil {
			return slot, err
		}
		for _, row := range rows {
			quantities, err := source.quantities(row)
			if err != nil {
				return slot, err
			}
			key := [3]string{row.Tag(schema.Namespace), row.Tag(schema.WorkloadKind), row.Tag(schema.Workload)}
			if source.table.Name == schema.NodeMinute.Name {
				key = [3]string{schema.SystemNamespace}
			}
			if err := usage.add(key, quantities); err != nil {
				return slot, err
			}
		}
	}
	if err := w.addVolumes(ctx, cluster, part.Window, usage); err != nil {
		return slot, err
	}
	if err := w.addExtended(ctx, cluster, part.Window, usage); err != nil {
		return slot, err
	}
	metering, err := w.registry.MeteringNamespaces(ctx, cluster)
	if err != nil {
		return slot, err
	}
	for key, quantities := range usage {
		if list.Excludes(key[0], metering) {
			continue // it stays in the usage, and has no cost
		}
		slot.Usage = append(slot.Usage, processors.Usage{Namespace: key[0], WorkloadKind: key[1], Workload: key[2], Quantities: quantities})
	}
	return slot, nil
}

func podQuantities(row influxsync.Point) (processors.Quantities, error) {
	return processors.Quantities{
		processors.CPUUsed: row.Int(schema.CPU), processors.CPURequested: row.Int(schema.CPURequest),
		processors.MemoryUsed: row.Int(schema.Memory), processors.MemoryRequested: row.Int(schema.MemoryRequest),
		processors.NetworkReceive: row.Int(schema.NetworkReceive), processors.NetworkTransmit: row.Int(schema.NetworkTransmit),
		processors.EphemeralUsed: row.Int(schema.Ephemeral), processors.CPUMax: row.Int(schema.CPUMax), processors.MemoryMax: row.Int(schema.MemoryMax),
	}, nil
}

func energyQuantities(row influxsync.Point) (processors.Quantities, error) {
	energy, err := processors.Sum(row.Int(schema.EnergyActive), row.Int(schema.EnergyIdle), row.Int(schema.EnergyOverhead))
	return processors.Quantities{processors.Energy: energy}, err
}

// nodeQuantities are a cluster's node-hours and what its nodes' interfaces
// counted: they stand under __system__.
func nodeQuantities(row influxsync.Point) (processors.Quantities, error) {
	return processors.Quantities{processors.NodeHours: row.Int(schema.Uptime),
		processors.NodeReceive: row.Int(schema.InterfaceReceive), processors.NodeTransmit: row.Int(schema.InterfaceTransmit)}, nil
}

// priceVersion names a list with the moment from which it said what it says,
// "list@2026-11-01T00:00:00Z"; one without a beginning by its name alone.
func (w *Worker) priceVersion(ctx context.Context, name string, window schema.Window) (string, error) {
	lists, err := w.registry.History(ctx, fleet.KindPriceList, window)
	if err != nil {
		return "", err
	}
	for _, list := range lists {
		if list.Name() == name && list.ValidAt(window.From) && !list.ValidFrom.IsZero() {
			return name + "@" + list.ValidFrom.UTC().Format(time.RFC3339), nil
		}
	}
	return name, nil
}

// priceList is the registry's list as the processors read it.
func priceList(list fleet.PriceList, version string) (processors.PriceList, error) {
	prices := processors.PriceList{Version: version, Kind: processors.Sale, Currency: list.Currency}
	for _, rate := range list.Rates {
		price, err := processors.ParsePrice(string(rate.Price))
		if err != nil {
			return prices, fmt.Errorf("price list %s, %s: %w", list.Name, rate.Resource, err)
		}
		prices.Prices = append(prices.Prices, processors.Price{Resource: processors.Resource(rate.Resource), Price: price})
	}
	return prices, nil
}

func costPoint(row processors.CostRow) influxsync.Point {
	return influxsync.NewPoint(schema.CostQuarter.Name, map[string]string{
		schema.Cluster: row.Cluster, schema.Namespace: row.Namespace, schema.WorkloadKind: row.WorkloadKind, schema.Workload: row.Workload,
		schema.Resource: string(row.Resource), schema.Currency: row.Currency, schema.PriceKind: string(row.PriceKind),
	}, map[string]influxsync.Value{schema.CostNanos: influxsync.Int(row.Nanos), schema.PriceVersion: influxsync.Str(row.PriceVersion)}, row.Time)
}
