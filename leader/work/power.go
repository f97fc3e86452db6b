package work

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	chosen "github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
	"github.com/accumulus-metering/accumulus/processors/models"
)

// Watts per logical core of a node whose hardware nobody has described: the
// means over server processors of Cloud Carbon Footprint's SPECpower
// coefficients (min 0.74 W, max 3.50 W per vCPU). What rests on them is always
// marked estimated.
const (
	priorIdleMilliwatts = 740
	priorMaxMilliwatts  = 3500
)

// Standard errors, 1e-6: of a line between measured watts as over published
// servers (docs/accuracy.md); of watts for each core, whose source gives a range of
// processors between half and twice the mean.
var (
	lineUncertainty  = (models.Evidence{MAPE: 9.6, P95: 25.9}).Uncertainty()
	priorUncertainty = int64(500_000)
)

// maxReach bounds how far readings are looked up before a quarter.
const maxReach = 31 * 24 * time.Hour

// power distributes one box's quarter.
func (w *Worker) power(ctx context.Context, due registry.Due) error {
	quarter := quarterOf(due)
	in, clusters, err := w.powerInput(ctx, due.Scope, quarter)
	if err != nil {
		return err
	}
	in, arriving, err := w.arrived(ctx, in, clusters, quarter)
	if err != nil {
		return err
	}
	if !in.Window.From.Before(in.Window.To) { // nothing was metered; what comes makes it due again
		return w.empty(ctx, due, quarter, clusters)
	}
	fingerprint := processors.Power{}.Fingerprint(in)
	same, err := w.same(ctx, due, fingerprint)
	if err != nil {
		return err
	}
	result, err := processors.Power{}.Process(in)
	if err != nil {
		return err
	}
	var next []registry.Due
	if n := result.Box.IdleAboveMeter; n > 0 && !same {
		w.log.Warn("the meter shows less than what is on draws idle: is its hardware described rightly, and does each meter count what it is said to?",
			"box", due.Scope, "quarter", due.Quarter, "minutes", n)
	}
	if !same {
		reached, failed, err := w.writePower(ctx, due, quarter, clusters, in.Nodes, result)
		if err != nil {
			return err
		}
		closed, err := w.earlier(ctx, due, result)
		if err != nil {
			return err
		}
		next = slices.Concat(closed, sumsOf(due, reached), failed)
	}
	waits := result.Provisional && result.Metered || in.Settled.Before(quarter.To)
	if arriving || waits && w.clock.Now().Before(quarter.To.Add(w.config.Open)) {
		next = append(next, registry.Due{Processor: due.Processor, Scope: due.Scope, Quarter: due.Quarter, Reason: "provisional"})
	}
	return w.registry.Done(ctx, due, fingerprint, next)
}

// empty ends an entry of a box in which nothing was metered: rows that it had, of
// nodes that were taken out of it, become zeros.
func (w *Worker) empty(ctx context.Context, due registry.Due, quarter schema.Window, clusters []string) error {
	reached, failed, err := w.writePower(ctx, due, quarter, clusters, []processors.Node{}, processors.PowerResult{})
	if err != nil {
		return err
	}
	return w.registry.Done(ctx, due, "", append(sumsOf(due, reached), failed...))
}

// sumsOf are the sums that follow from energy of the box.
func sumsOf(due registry.Due, clusters []string) []registry.Due {
	next := make([]registry.Due, len(clusters))
	for i, cluster := range clusters {
		next[i] = registry.Due{Processor: registry.ProcessorUsage, Scope: cluster, Quarter: due.Quarter, Reason: "energy of " + due.Scope}
	}
	return next
}

// earlier are the quarters before this one that the closed meter intervals reach
// into: what is known of them has changed too, also of boxes that share a meter with
// this one.
func (w *Worker) earlier(ctx context.Context, due registry.Due, result processors.PowerResult) ([]registry.Due, error) {
	var quarters []registry.Due
	first := due.Quarter
	for _, interval := range result.Intervals {
		if interval.Closed && interval.From.Before(first) {
			first = interval.From.Truncate(schema.Quarter)
		}
	}
	for at := first; at.Before(due.Quarter); at = at.Add(schema.Quarter) {
		snapshot, err := w.registry.Fleet(ctx, at)
		if err != nil {
			return nil, err
		}
		for _, box := range snapshot.MeteredWith(due.Scope) {
			quarters = append(quarters, registry.Due{Processor: due.Processor, Scope: box, Quarter: at, Reason: "meter interval closed"})
		}
	}
	return quarters, nil
}

// powerInput reads what the power processor needs of a box: it is also the list
// of the clusters that have nodes in it.
func (w *Worker) powerInput(ctx context.Context, box string, quarter schema.Window) (processors.PowerInput, []string, error) {
	in := processors.PowerInput{Window: quarter, Box: processors.Box{Name: box}}
	parts, err := w.boxValidities(ctx, quarter, box)
	if err != nil {
		return in, nil, err
	}
	meters, err := w.meters(ctx, box, quarter, parts)
	if err != nil {
		return in, nil, err
	}
	boxes := []string{box}
	for _, m := range meters {
		in.Meters = append(in.Meters, m.Meter)
		boxes = append(boxes, m.boxes...)
	}
	span, _ := processors.Span(quarter, in.Meters)
	if parts, err = w.boxValidities(ctx, span, boxes...); err != nil {
		return in, nil, err
	}
	var clusters []string
	for _, part := range parts {
		described, _ := part.fleet.Box(box)
		in.Box.IdlePolicy = processors.IdlePolicy(described.IdlePolicy)
		in.Box.OverheadMilliwatts = int64(math.Round(described.OverheadWatts * 1000))
		in.Box.Shared = in.Box.Shared || len(part.fleet.CustomersOfBox(box)) > 1
		for _, node := range nodesOf(part.fleet, box) {
			read, err := w.node(ctx, box, node, part, quarter, span)
			if err != nil {
				return in, nil, err
			}
			in.Nodes = append(in.Nodes, read)
			clusters = append(clusters, node.Cluster)
		}
	}
	waits, err := w.others(ctx, &in, meters, parts, span)
	if err != nil {
		return in, nil, err
	}
	slices.Sort(clusters)
	clusters = slices.Compact(clusters)
	if in.Window.From, err = w.begin(ctx, clusters, quarter); err != nil {
		return in, nil, err
	}
	in.Settled, err = w.settled(ctx, append(waits, clusters...))
	return in, clusters, err
}

// validity is a time in which no object of the fleet and no model of the boxes'
// nodes changed.
type validity struct {
	schema.Window
	fleet  *fleet.Fleet
	models chosen.States
}

func (w *Worker) boxValidities(ctx context.Context, window schema.Window, boxes ...string) ([]validity, error) {
	recorded, err := w.registry.ModelStates(ctx)
	if err != nil {
		return nil, err
	}
	states := chosen.States(recorded)
	parts, err := w.validities(ctx, window, states.Cuts(window, boxes...)...)
	for i := range parts {
		parts[i].models = states
	}
	return parts, err
}

// validities are the times in which no object of the fleet changed, cut at other
// moments too.
func (w *Worker) validities(ctx context.Context, window schema.Window, more ...time.Time) ([]validity, error) {
	cuts, err := w.registry.Cuts(ctx, window)
	if err != nil {
		return nil, err
	}
	cuts = append(cuts, more...)
	slices.SortFunc(cuts, time.Time.Compare)
	var parts []validity
	from := window.From
	for _, to := range append(cuts, window.To) {
		if !to.After(from) {
			continue
		}
		snapshot, err := w.registry.Fleet(ctx, from)
		if err != nil {
			return nil, err
		}
		parts = append(parts, validity{Window: schema.Window{From: from, To: to}, fleet: snapshot})
		from = to
	}
	return parts, nil
}

// nodesOf are the nodes of a power scope: those of a box, or the one node that
// stands in none.
func nodesOf(f *fleet.Fleet, box string) []fleet.Node {
	cluster, name, loose := registry.LooseNode(box)
	if !loose {
		return f.NodesOfBox(box)
	}
	node, known := f.Node(cluster, name)
	if known && node.Box != "" {
		return nil
	}
	node.Cluster, node.Node = cluster, name
	return []fleet.Node{node}
}

// node reads a node's minutes over span, with its pods over the quarter.
func (w *Worker) node(ctx context.Context, box string, node fleet.Node, part validity, quarter, span schema.Window) (processors.Node, error) {
	read := processors.Node{Cluster: node.Cluster, Name: node.Node}
	if part.From.After(span.From) {
		read.From = part.From
	}
	if part.To.Before(span.To) {
		read.To = part.To
	}
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: node.Cluster}, {Tag: schema.Node, Value: node.Node}}
	at := make(map[time.Time]int)
	var cores int64
	err := w.stores.Minute.TimeQuery(ctx, schema.NodeMinute.Name, span, where, func(row influxsync.Point) error {
		uptime := row.Int(schema.Uptime)
		if uptime > 0 {
			cores = max(cores, row.Int(schema.CapacityCPU)/(uptime*1000))
		}
		i, twice := at[row.Time]
		if twice { // a node whose facts came late stands under two keys, one of them zero
			read.Minutes[i] = addNode(read.Minutes[i], row)
			return nil
		}
		at[row.Time] = len(read.Minutes)
		read.Minutes = append(read.Minutes, addNode(processors.NodeMinute{Time: row.Time}, row))
		return nil
	})
	if err != nil {
		return read, fmt.Errorf("read node %s: %w", node.Node, err)
	}
	if err := w.processors(ctx, node, part.fleet, span, at, read.Minutes); err != nil {
		return read, fmt.Errorf("read processor counters of node %s: %w", node.Node, err)
	}
	err = w.stores.Minute.TimeQuery(ctx, schema.PodMinute.Name, quarter, where, func(row influxsync.Point) error {
		if i, ok := at[row.Time]; ok {
			read.Minutes[i].Pods = append(read.Minutes[i].Pods, podOf(row))
		}
		return nil
	})
	if err != nil {
		return read, fmt.Errorf("read pods of node %s: %w", node.Node, err)
	}
	read.Hardware, err = hardwareOf(part, box, node, cores)
	return read, err
}

// hardwareOf is a node's model: what was chosen for its type, in the box or in
// general, else the line between the watts that its owner gave, else so much for
// each core.
func hardwareOf(part validity, box string, node fleet.Node, cores int64) (processors.Hardware, error) {
	hardware, known := part.fleet.Hardware(node.Hardware)
	if known {
		choice, err := part.models.Of(hardware, box, part.From)
		if err != nil {
			return processors.Hardware{}, err
		}
		if choice != nil {
			return choice.Hardware()
		}
	}
	if !known || hardware.MaxWatts <= 0 {
		return processors.Hardware{IdleMilliwatts: priorIdleMilliwatts * cores, MaxMilliwatts: priorMaxMilliwatts * cores, Uncertainty: priorUncertainty}, nil
	}
	return processors.Hardware{IdleMilliwatts: int64(math.Round(hardware.IdleWatts * 1000)), MaxMilliwatts: int64(math.Round(hardware.MaxWatts * 1000)),
		Uncertainty: lineUncertainty}, nil
}

func addNode(minute processors.NodeMinute, row influxsync.Point) processors.NodeMinute {
	minute.CPU += row.Int(schema.CPU)
	minute.Capacity += row.Int(schema.CapacityCPU)
	minute.AllocatableCPU += row.Int(schema.AllocatableCPU)
	minute.AllocatableMemory += row.Int(schema.AllocatableMem)
	minute.Uptime += row.Int(schema.Uptime)
	if energy, ok := row.Field(schema.ProcessorEnergy); ok {
		minute.Processor, minute.HasProcessor = minute.Processor+energy.Int(), true
	}
	minute.Estimated = minute.Uptime > 0 && row.Int(schema.Coverage) == 0 && row.Int(schema.Interpolated) == 0
	return minute
}

func podOf(row influxsync.Point) processors.Pod {
	return processors.Pod{
		Namespace: row.Tag(schema.Namespace), Pod: row.Tag(schema.Pod), UID: row.Tag(schema.PodUID),
		WorkloadKind: row.Tag(schema.WorkloadKind), Workload: row.Tag(schema.Workload),
		CPU: row.Int(schema.CPU), CPURequest: row.Int(schema.CPURequest),
		MemoryRequest: row.Int(schema.MemoryRequest), Uptime: row.Int(schema.Uptime),
	}
}

// writePower replaces the box's rows of the quarter: those of the clusters that
// have nodes in it, of those that had, and its own; with them heat and carbon. It
// returns the clusters whose sums follow from it, and heat and carbon as due where
// they failed.
func (w *Worker) writePower(ctx context.Context, due registry.Due, quarter schema.Window, clusters []string, nodes []processors.Node, result processors.PowerResult) (reached []string, failed []registry.Due, err error) {
	former, err := w.registry.ClustersOfBox(ctx, due.Scope)
	if err != nil {
		return nil, nil, err
	}
	owned := append(slices.Clone(clusters), former...)
	slices.Sort(owned)
	owned = slices.Compact(owned)
	rows := make(map[string][]influxsync.Point)
	ids := make(map[string]string)
	for _, cluster := range owned {
		id, err := w.registry.BoxID(ctx, cluster, due.Scope)
		if err != nil {
			return nil, nil, err
		}
		ids[cluster] = id
	}
	ids[schema.BoxCluster] = due.Scope
	for _, row := range result.Rows {
		rows[row.Cluster] = append(rows[row.Cluster], energyPoint(row, ids[row.Cluster]))
	}
	owned = append(owned, schema.BoxCluster)
	all := &boxRows{energy: rows}
	for _, minute := range result.Minutes {
		all.minutes = append(all.minutes, boxPoint(schema.BoxMinute.Name, due.Scope, minute.Time, minute.BoxEnergy, minute.Quality))
	}
	found, deriving := w.derive(ctx, due.Scope, quarter, nodes, all)
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	for _, cluster := range owned {
		if _, err := w.energy.Replace(ctx, cluster, quarter, ownedBy(ids[cluster]), rows[cluster], due.Reason); err != nil {
			return nil, nil, err
		}
	}
	if err := w.writeBox(ctx, due, quarter, result, all.minutes); err != nil {
		return nil, nil, err
	}
	return owned, derivedFor(due, deriving), w.registry.PutHeatQuarters(ctx, found.quarters)
}

func (w *Worker) writeBox(ctx context.Context, due registry.Due, quarter schema.Window, result processors.PowerResult, minutes []influxsync.Point) error {
	if err := w.writeMinutes(ctx, due, quarter, minutes); err != nil {
		return err
	}
	quality := ""
	for _, minute := range result.Minutes {
		quality = mixed(quality, minute.Quality)
	}
	var sum []influxsync.Point
	if len(minutes) > 0 {
		sum = append(sum, withDerived(boxPoint(schema.BoxQuarter.Name, due.Scope, quarter.From, result.Box, quality), minutes))
	}
	_, err := w.boxQuarter.Replace(ctx, schema.BoxCluster, quarter, ownedBy(due.Scope), sum, due.Reason)
	return err
}

func (w *Worker) writeMinutes(ctx context.Context, due registry.Due, quarter schema.Window, minutes []influxsync.Point) error {
	_, err := w.box.Replace(ctx, schema.BoxCluster, quarter, ownedBy(due.Scope), minutes, due.Reason)
	return err
}

func energyPoint(row processors.EnergyRow, box string) influxsync.Point {
	return influxsync.NewPoint(schema.EnergyMinute.Name, map[string]string{
		schema.Cluster: row.Cluster, schema.Node: row.Node, schema.Namespace: row.Namespace, schema.Pod: row.Pod,
		schema.PodUID: row.UID, schema.Box: box, schema.WorkloadKind: row.WorkloadKind, schema.Workload: row.Workload,
	}, map[string]influxsync.Value{
		schema.EnergyActive: influxsync.Int(row.Active), schema.EnergyIdle: influxsync.Int(row.Idle),
		schema.EnergyOverhead: influxsync.Int(row.Overhead), schema.EnergyModelled: influxsync.Int(row.Modelled),
		schema.EnergyMeasured: influxsync.Int(row.Measured), schema.Quality: influxsync.Str(row.Quality),
		schema.Uncertainty: influxsync.Int(row.Uncertainty), schema.Integrated: influxsync.Int(row.Integrated),
	}, row.Time)
}

func boxPoint(table, box string, at time.Time, energy processors.BoxEnergy, quality string) influxsync.Point {
	return influxsync.NewPoint(table, map[string]string{schema.Cluster: schema.BoxCluster, schema.Box: box}, map[string]influxsync.Value{
		schema.EnergyMeasured: influxsync.Int(energy.Measured), schema.Integrated: influxsync.Int(energy.Integrated), schema.MeasuredModel: influxsync.Int(energy.MeasuredModel),
		schema.Provisional: influxsync.Int(energy.Provisional), schema.EstimatedEnergy: influxsync.Int(energy.Estimated),
		schema.EnergyModelled: influxsync.Int(energy.Modelled), schema.Quality: influxsync.Str(quality),
	}, at)
}

// mixed is the quality of two parts together; "" is no part.
func mixed(a, b string) string {
	switch {
	case a == "" || a == b:
		return b
	case b == "":
		return a
	default:
		return schema.Mixed
	}
}
