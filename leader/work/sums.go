package work

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// sums writes a cluster's quarter: usage by workload and node, the nodes' rows,
// and energy by workload.
func (w *Worker) sums(ctx context.Context, due registry.Due) error {
	quarter, cluster := quarterOf(due), due.Scope
	pods, err := w.sum(ctx, schema.PodMinute, cluster, quarter, schema.UsageQuarter.Tags)
	if err != nil {
		return err
	}
	energy, err := w.sum(ctx, schema.EnergyMinute, cluster, quarter, schema.EnergyQuarter.Tags)
	if err != nil {
		return err
	}
	qualities, err := w.qualities(ctx, cluster, quarter)
	if err != nil {
		return err
	}
	nodes, err := w.sum(ctx, schema.NodeMinute, cluster, quarter, schema.NodeQuarter.Tags)
	if err != nil {
		return err
	}
	volumes, err := w.sum(ctx, schema.VolumeMinute, cluster, quarter, schema.VolumeQuarter.Tags)
	if err != nil {
		return err
	}
	fingerprint := digest(qualities, pods, energy, nodes, volumes)
	same, err := w.same(ctx, due, fingerprint)
	if err != nil || same {
		return w.finish(ctx, due, fingerprint, nil, err)
	}
	quarters := make([]influxsync.Point, 0, len(energy))
	for _, row := range energy {
		quarters = append(quarters, withFields(row, schema.EnergyQuarter, qualityOf(qualities[part(row)])))
	}
	usage, err := joinEnergy(pods, energy, qualities)
	if err != nil {
		return err
	}
	for i := range nodes {
		nodes[i] = withFields(nodes[i], schema.NodeQuarter)
	}
	for i := range volumes {
		volumes[i] = withFields(volumes[i], schema.VolumeQuarter)
	}
	all := func(influxsync.Point) bool { return true }
	if _, err := w.usage.Replace(ctx, cluster, quarter, all, usage, due.Reason); err != nil {
		return err
	}
	if _, err := w.nodes.Replace(ctx, cluster, quarter, all, nodes, due.Reason); err != nil {
		return err
	}
	if _, err := w.volumes.Replace(ctx, cluster, quarter, all, volumes, due.Reason); err != nil {
		return err
	}
	if _, err := w.energyQuarter.Replace(ctx, cluster, quarter, all, quarters, due.Reason); err != nil {
		return err
	}
	var next []registry.Due
	if cluster != schema.BoxCluster { // what no pod carries is nobody's cost
		next = append(next, registry.Due{Processor: registry.ProcessorCost, Scope: cluster, Quarter: due.Quarter, Reason: "usage"})
	}
	return w.registry.Done(ctx, due, fingerprint, next)
}

// finish ends an entry whose inputs have not changed.
func (w *Worker) finish(ctx context.Context, due registry.Due, fingerprint string, next []registry.Due, err error) error {
	if err != nil {
		return err
	}
	return w.registry.Done(ctx, due, fingerprint, next)
}

// sum adds a table's integers over a window, by the tags. Each row stands at
// the window's start. One cluster's quarter fits 64 bits in every unit.
func (w *Worker) sum(ctx context.Context, table schema.Table, cluster string, window schema.Window, group []string) ([]influxsync.Point, error) {
	return w.sumFrom(ctx, w.stores.Minute, table, cluster, window, group)
}

func (w *Worker) sumFrom(ctx context.Context, db *influxsync.Database, table schema.Table, cluster string, window schema.Window, group []string) ([]influxsync.Point, error) {
	var rows []influxsync.Point
	query := influxsync.Query{Select: table.Integers(), Aggregate: "sum", From: table.Name, Window: window, Group: group,
		Where: []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}}
	err := db.Query(ctx, query, func(row influxsync.Point) error {
		row.Time = window.From
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sum %s of %s: %w", table.Name, cluster, err)
	}
	return rows, nil
}

// qualities are the distinct qualities of a cluster's energy, by part.
func (w *Worker) qualities(ctx context.Context, cluster string, window schema.Window) (map[string]string, error) {
	return w.qualitiesBy(ctx, w.stores.Minute, schema.EnergyMinute, cluster, window, schema.EnergyQuarter.Tags)
}

func (w *Worker) qualitiesBy(ctx context.Context, db *influxsync.Database, table schema.Table, cluster string, window schema.Window, group []string) (map[string]string, error) {
	found := make(map[string]string)
	query := influxsync.Query{Select: []string{schema.Quality}, Aggregate: "distinct", From: table.Name, Window: window,
		Group: group, Where: []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}}
	err := db.Query(ctx, query, func(row influxsync.Point) error {
		value, _ := row.Field(schema.Quality)
		found[part(row)] = mixed(found[part(row)], value.Str())
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("qualities of %s: %w", cluster, err)
	}
	return found, nil
}

// part is what usage and energy have in common.
func part(row influxsync.Point) string {
	return strings.Join([]string{row.Tag(schema.Node), row.Tag(schema.Namespace), row.Tag(schema.WorkloadKind), row.Tag(schema.Workload)}, "\x00")
}

func qualityOf(quality string) map[string]influxsync.Value {
	if quality == "" {
		quality = schema.Estimated
	}
	return map[string]influxsync.Value{schema.Quality: influxsync.Str(quality)}
}

// withFields is the row as the table has it: every required field, zero where
// the row has none.
func withFields(row influxsync.Point, table schema.Table, more ...map[string]influxsync.Value) influxsync.Point {
	values := make(map[string]influxsync.Value, len(table.Fields))
	for _, field := range table.Fields {
		value, has := row.Field(field.Name)
		switch {
		case has:
			values[field.Name] = value
		case !field.Optional && field.Type == schema.Integer:
			values[field.Name] = influxsync.Int(0)
		}
	}
	for _, extra := range more {
		for name, value := range extra {
			values[name] = value
		}
	}
	tags := make(map[string]string, len(row.Tags))
	for _, tag := range row.Tags {
		tags[tag.Key] = tag.Value
	}
	return influxsync.NewPoint(table.Name, tags, values, row.Time)
}

// joinEnergy puts energy beside usage. Energy of what no pod carries gets a row
// of its own; of two rows of a workload on one node, whose facts changed, the
// first in order takes it.
func joinEnergy(pods, energy []influxsync.Point, qualities map[string]string) ([]influxsync.Point, error) {
	joules := make(map[string]map[string]influxsync.Value, len(energy))
	rest := make(map[string]influxsync.Point, len(energy))
	for _, row := range energy {
		values := joules[part(row)]
		if values == nil {
			values = make(map[string]influxsync.Value)
			joules[part(row)] = values
		}
		for _, field := range row.Fields {
			sum, err := processors.Sum(values[field.Name].Int(), field.Value.Int())
			if err != nil {
				return nil, fmt.Errorf("add %s: %w", field.Name, err)
			}
			values[field.Name] = influxsync.Int(sum)
		}
		rest[part(row)] = row
	}
	var usage []influxsync.Point
	for _, row := range pods {
		usage = append(usage, withFields(row, schema.UsageQuarter, joules[part(row)], qualityOf(qualities[part(row)])))
		delete(joules, part(row))
		delete(rest, part(row))
	}
	for key, row := range rest {
		usage = append(usage, withFields(row, schema.UsageQuarter, joules[key], qualityOf(qualities[key])))
	}
	return usage, nil
}

// digest is a fingerprint of rows, whatever their order, and their qualities.
func digest(qualities map[string]string, groups ...[]influxsync.Point) string {
	var b strings.Builder
	for _, part := range slices.Sorted(maps.Keys(qualities)) {
		fmt.Fprintf(&b, "%q=%s ", part, qualities[part])
	}
	hash := sha256.Sum256([]byte(b.String()))
	b.Reset()
	fmt.Fprintf(&b, "%x ", hash[:8])
	for _, rows := range groups {
		var sum influxsync.Digest
		for _, row := range rows {
			sum.Add(row)
		}
		fmt.Fprintf(&b, "%d:%016x ", len(rows), uint64(sum))
	}
	return b.String()
}
