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
	"github.com/accumulus-metering/accumulus/processors/rating"
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
		slots, err := w.slots(ctx, cluster, part)
		if err != nil {
			return err
		}
		in.Slots = append(in.Slots, slots...)
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

// placed is what was used at the places that prices depend on.
type placed map[rating.Facts]slotUsage

func (p placed) at(facts rating.Facts) slotUsage {
	if p[facts] == nil {
		p[facts] = make(slotUsage)
	}
	return p[facts]
}

// slots are what a cluster used while one price list held, by the places that its
// prices depend on, with the prices. A quarter lies in one slot of each list.
func (w *Worker) slots(ctx context.Context, cluster string, part validity) ([]processors.CostSlot, error) {
	described, _ := part.fleet.Cluster(cluster)
	list, priced := part.fleet.PriceListFor(cluster, described.Customer)
	var plan *rating.Plan
	if priced {
		var err error
		if plan, err = w.plan(ctx, list, described.Customer, part.Window); err != nil {
			return nil, err
		}
	}
	facts := func(node string) rating.Facts {
		if plan == nil || !plan.MatchesPlaces() {
			return rating.Facts{}
		}
		known, _ := part.fleet.Node(cluster, node)
		return rating.Facts{Hardware: known.Hardware, Provider: described.Provider, Region: described.Region}
	}
	used, err := w.used(ctx, cluster, part.Window, plan != nil && plan.MatchesPlaces(), facts)
	if err != nil {
		return nil, err
	}
	metering, err := w.registry.MeteringNamespaces(ctx, cluster)
	if err != nil {
		return nil, err
	}
	var slots []processors.CostSlot
	for at, usage := range used {
		slot := processors.CostSlot{Window: part.Window, Place: at.String()}
		for key, quantities := range usage {
			if list.Excludes(key[0], metering) {
				continue // it stays in the usage, and has no cost
			}
			slot.Usage = append(slot.Usage, processors.Usage{Namespace: key[0], WorkloadKind: key[1], Workload: key[2], Quantities: quantities})
		}
		if plan != nil {
			prices, err := plan.PricesIn(plan.SlotAt(part.From), at)
			if err != nil {
				return nil, err
			}
			slot.Prices = append(slot.Prices, prices.Sale) // the table is pushed to the cluster: never what the operator pays
		}
		slots = append(slots, slot)
	}
	return slots, nil
}

// plan compiles a list for a customer, with the prices of the series that it uses.
func (w *Worker) plan(ctx context.Context, list fleet.PriceList, customer string, window schema.Window) (*rating.Plan, error) {
	version, err := w.priceVersion(ctx, list.Name, window)
	if err != nil {
		return nil, err
	}
	series, err := w.registry.PriceSeries(ctx, list.Series(), window)
	if err != nil {
		return nil, err
	}
	compilable, err := list.Rating(version)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", list.Name, err)
	}
	return rating.Compile(compilable, customer, series)
}

// used is what a cluster used in a window, by place.
func (w *Worker) used(ctx context.Context, cluster string, window schema.Window, byNode bool, facts func(node string) rating.Facts) (placed, error) {
	group := []string{schema.Namespace, schema.WorkloadKind, schema.Workload}
	if byNode {
		group = append(group, schema.Node)
	}
	usage := placed{facts(""): make(slotUsage)}
	for _, source := range []struct {
		table      schema.Table
		quantities func(influxsync.Point) (processors.Quantities, error)
	}{{schema.PodMinute, podQuantities}, {schema.EnergyMinute, energyQuantities}, {schema.NodeMinute, nodeQuantities}} {
		rows, err := w.sum(ctx, source.table, cluster, window, group)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			quantities, err := source.quantities(row)
			if err != nil {
				return nil, err
			}
			key := [3]string{row.Tag(schema.Namespace), row.Tag(schema.WorkloadKind), row.Tag(schema.Workload)}
			if source.table.Name == schema.NodeMinute.Name {
				key = [3]string{schema.SystemNamespace}
			}
			if err := usage.at(facts(row.Tag(schema.Node))).add(key, quantities); err != nil {
				return nil, err
			}
		}
	}
	if err := w.addVolumes(ctx, cluster, window, usage.at(facts(""))); err != nil {
		return nil, err
	}
	return usage, w.addExtended(ctx, cluster, window, func(node string) slotUsage { return usage.at(facts(node)) })
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

func costPoint(row processors.CostRow) influxsync.Point {
	return influxsync.NewPoint(schema.CostQuarter.Name, map[string]string{
		schema.Cluster: row.Cluster, schema.Namespace: row.Namespace, schema.WorkloadKind: row.WorkloadKind, schema.Workload: row.Workload,
		schema.Resource: string(row.Resource), schema.Currency: row.Currency, schema.PriceKind: string(row.PriceKind),
	}, map[string]influxsync.Value{schema.CostNanos: influxsync.Int(row.Nanos), schema.PriceVersion: influxsync.Str(row.PriceVersion)}, row.Time)
}
