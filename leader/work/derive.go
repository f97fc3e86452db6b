package work

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// boxRows are the rows of one box and quarter on their way into the store: heat
// and carbon are fields of the rows of energy, so that a row is written once.
type boxRows struct {
	energy  map[string][]influxsync.Point // by cluster, the box's own among them
	minutes []influxsync.Point            // of the box
}

// derived is what heat and carbon made of a box's rows.
type derived struct {
	heat, carbon string // fingerprints
	quarters     []registry.HeatQuarter
}

// derive puts heat and carbon into the rows. What fails leaves zeros, of which
// the fields of covered energy say that they are not known. nodes are what the
// pods requested; nil is to read them where they are needed.
func (w *Worker) derive(ctx context.Context, scope string, quarter schema.Window, nodes []processors.Node, rows *boxRows) (derived, error) {
	var out derived
	fields := newFields(rows)
	defer fields.put(rows) // whatever fails, each row has every field
	parts, err := w.validities(ctx, quarter)
	if err != nil {
		return out, err
	}
	energy := energyRows(rows)
	heat, sources, heatErr := w.heat(ctx, scope, quarter, parts, energy)
	fields.heat(heat, sources)
	making := makingOf(parts, scope)
	if len(making) > 0 && nodes == nil {
		in, _, err := w.powerInput(ctx, scope, quarter)
		if err != nil {
			return out, errors.Join(heatErr, err)
		}
		nodes = in.Nodes
	}
	in := processors.CarbonInput{Window: quarter, Box: scope, Rows: energy, Making: making, Nodes: nodes, Heat: sources.credits(heat)}
	if in.Location, in.Market, err = w.intensities(ctx, scope, quarter, parts); err != nil {
		return out, errors.Join(heatErr, err)
	}
	carbon, err := processors.Carbon{}.Process(in)
	if err != nil {
		return out, errors.Join(heatErr, err)
	}
	fields.carbon(carbon, sources)
	fields.located = usedOf(in.Location, carbon.Sources)
	out.heat, out.carbon = sources.fingerprint, processors.Carbon{}.Fingerprint(in)
	out.quarters = sources.quarters(scope, quarter, heat, carbon)
	return out, heatErr
}

// deriveAgain computes heat and carbon of rows that are stored: their own inputs
// changed, and power's did not.
func (w *Worker) deriveAgain(ctx context.Context, due registry.Due) error {
	quarter := quarterOf(due)
	ids := map[string]string{schema.BoxCluster: due.Scope}
	clusters, err := w.registry.ClustersOfBox(ctx, due.Scope)
	if err != nil {
		return err
	}
	for _, cluster := range clusters {
		if ids[cluster], err = w.registry.BoxID(ctx, cluster, due.Scope); err != nil {
			return err
		}
	}
	clusters = append(clusters, schema.BoxCluster)
	rows := boxRows{energy: make(map[string][]influxsync.Point)}
	for _, cluster := range clusters {
		if rows.energy[cluster], err = stored(ctx, w.stores.Minute, schema.EnergyMinute, cluster, ids[cluster], quarter); err != nil {
			return err
		}
	}
	if rows.minutes, err = stored(ctx, w.stores.Minute, schema.BoxMinute, schema.BoxCluster, due.Scope, quarter); err != nil {
		return err
	}
	found, err := w.derive(ctx, due.Scope, quarter, nil, &rows)
	if err != nil {
		return err
	}
	var reached []string
	for _, cluster := range clusters {
		changed, err := w.energy.Replace(ctx, cluster, quarter, ownedBy(ids[cluster]), rows.energy[cluster], due.Reason)
		if err != nil {
			return err
		}
		if len(changed) > 0 {
			reached = append(reached, cluster)
		}
	}
	if err := w.writeMinutes(ctx, due, quarter, rows.minutes); err != nil {
		return err
	}
	sums, err := stored(ctx, w.stores.Quarter, schema.BoxQuarter, schema.BoxCluster, due.Scope, quarter)
	if err != nil {
		return err
	}
	for i := range sums {
		sums[i] = withDerived(sums[i], rows.minutes)
	}
	if _, err := w.boxQuarter.Replace(ctx, schema.BoxCluster, quarter, ownedBy(due.Scope), sums, due.Reason); err != nil {
		return err
	}
	if err := w.registry.PutHeatQuarters(ctx, found.quarters); err != nil {
		return err
	}
	fingerprint := found.carbon
	if due.Processor == registry.ProcessorHeat {
		fingerprint = found.heat
	}
	return w.registry.Done(ctx, due, fingerprint, sumsOf(due, reached))
}

// derivedFor makes heat and carbon due of a box of which they failed while its
// power was written.
func derivedFor(due registry.Due, err error) []registry.Due {
	if err == nil {
		return nil
	}
	reason := "failed: " + err.Error()
	return []registry.Due{{Processor: registry.ProcessorHeat, Scope: due.Scope, Quarter: due.Quarter, Reason: reason},
		{Processor: registry.ProcessorCarbon, Scope: due.Scope, Quarter: due.Quarter, Reason: reason}}
}

func ownedBy(box string) func(influxsync.Point) bool {
	return func(row influxsync.Point) bool { return row.Tag(schema.Box) == box }
}

// stored are the rows of a box in a table.
func stored(ctx context.Context, db *influxsync.Database, table schema.Table, cluster, box string, w schema.Window) ([]influxsync.Point, error) {
	var rows []influxsync.Point
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}, {Tag: schema.Box, Value: box}}
	err := db.TimeQuery(ctx, table.Name, w, where, func(row influxsync.Point) error {
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s of box %s in %s: %w", table.Name, box, cluster, err)
	}
	return rows, nil
}

// energyRows are the rows as the processors read them.
func energyRows(rows *boxRows) []processors.EnergyRow {
	var all []processors.EnergyRow
	for _, points := range rows.energy {
		for _, p := range points {
			all = append(all, processors.EnergyRow{Time: p.Time, Cluster: p.Tag(schema.Cluster), Node: p.Tag(schema.Node), Namespace: p.Tag(schema.Namespace),
				Pod: p.Tag(schema.Pod), UID: p.Tag(schema.PodUID), Box: p.Tag(schema.Box), WorkloadKind: p.Tag(schema.WorkloadKind), Workload: p.Tag(schema.Workload),
				Active: p.Int(schema.EnergyActive), Idle: p.Int(schema.EnergyIdle), Overhead: p.Int(schema.EnergyOverhead)})
		}
	}
	return all
}

func keyOf(p influxsync.Point) processors.RowKey {
	return processors.RowKey{Time: p.Time.UTC(), Cluster: p.Tag(schema.Cluster), Node: p.Tag(schema.Node), Namespace: p.Tag(schema.Namespace),
		Pod: p.Tag(schema.Pod), UID: p.Tag(schema.PodUID), Box: p.Tag(schema.Box), WorkloadKind: p.Tag(schema.WorkloadKind), Workload: p.Tag(schema.Workload)}
}

// derivedFields are the fields that heat and carbon fill in.
type derivedFields struct {
	rows    map[processors.RowKey]map[string]int64
	minutes map[time.Time]map[string]int64
	source  string
	located string // the location-based part of source: what a cluster is told
}

// rowFields are those of a row, boxFields those that only a box has.
var (
	rowFields = []string{schema.Heat, schema.CarbonLocation, schema.CarbonLocationEnergy, schema.CarbonEstimatedEnergy,
		schema.CarbonMarket, schema.CarbonMarketEnergy, schema.CarbonEmbodied}
	boxFields = append(slices.Clone(rowFields), schema.UsefulHeat, schema.CarbonAvoided)
)

func newFields(rows *boxRows) *derivedFields {
	f := &derivedFields{rows: make(map[processors.RowKey]map[string]int64), minutes: make(map[time.Time]map[string]int64)}
	for _, p := range rows.minutes {
		f.minutes[p.Time.UTC()] = make(map[string]int64)
	}
	return f
}

// row and minute are the values of a key; of a minute that the box has no row of
// they are lost.
func (f *derivedFields) row(key processors.RowKey) map[string]int64 {
	if f.rows[key] == nil {
		f.rows[key] = make(map[string]int64)
	}
	return f.rows[key]
}

func (f *derivedFields) minute(at time.Time) map[string]int64 {
	if values := f.minutes[at.UTC()]; values != nil {
		return values
	}
	return make(map[string]int64)
}

func (f *derivedFields) heat(result processors.HeatResult, found heatSources) {
	for _, row := range result.Rows {
		f.row(row.Key)[schema.Heat] = row.Heat
	}
	for _, m := range result.Minutes {
		f.minute(m.Time)[schema.Heat] = m.Millijoule
	}
	for _, source := range result.Sources {
		if found.household(source.Name) {
			continue // of a household, daily sums alone
		}
		for _, m := range source.Minutes {
			f.minute(m.Time)[schema.UsefulHeat] += m.Millijoule
		}
	}
}

func (f *derivedFields) carbon(result processors.CarbonResult, found heatSources) {
	set := func(values map[string]int64, s processors.CarbonSums) {
		values[schema.CarbonLocation], values[schema.CarbonLocationEnergy], values[schema.CarbonEstimatedEnergy] = s.Location, s.LocationEnergy, s.EstimatedEnergy
		values[schema.CarbonMarket], values[schema.CarbonMarketEnergy], values[schema.CarbonEmbodied] = s.Market, s.MarketEnergy, s.Embodied
	}
	for _, row := range result.Rows {
		set(f.row(row.Key), row.CarbonSums)
	}
	for _, m := range result.Minutes {
		set(f.minute(m.Time), m.CarbonSums)
	}
	for _, avoided := range result.Avoided {
		if found.household(avoided.Source) {
			continue
		}
		for _, m := range avoided.Minutes {
			f.minute(m.Time)[schema.CarbonAvoided] += m.Micrograms
		}
	}
	f.source = strings.Join(result.Sources, "; ")
}

// usedOf names the sources of intensities that were used.
func usedOf(intensities []processors.Intensity, used []string) string {
	var names []string
	for _, one := range intensities {
		if slices.Contains(used, one.Source) && !slices.Contains(names, one.Source) {
			names = append(names, one.Source)
		}
	}
	slices.Sort(names)
	return strings.Join(names, "; ")
}

// put writes every field into every row.
func (f *derivedFields) put(rows *boxRows) {
	for _, points := range rows.energy {
		for i := range points {
			points[i] = withInts(points[i], rowFields, f.rows[keyOf(points[i])])
			if points[i].Tag(schema.Namespace) == schema.IdleNamespace {
				points[i] = withField(points[i], schema.CarbonSource, influxsync.Str(f.located))
			}
		}
	}
	for i, p := range rows.minutes {
		p = withInts(p, boxFields, f.minutes[p.Time.UTC()])
		rows.minutes[i] = withField(p, schema.CarbonSource, influxsync.Str(f.source))
	}
}

func withInts(p influxsync.Point, names []string, values map[string]int64) influxsync.Point {
	fields := make([]influxsync.FieldValue, 0, len(p.Fields)+len(names)+1)
	for _, field := range p.Fields {
		if !slices.Contains(names, field.Name) {
			fields = append(fields, field)
		}
	}
	for _, name := range names {
		fields = append(fields, influxsync.FieldValue{Name: name, Value: influxsync.Int(values[name])})
	}
	p.Fields = fields
	p.Sort()
	return p
}

// withField is the row with one field set; the fields stay sorted.
func withField(p influxsync.Point, name string, value influxsync.Value) influxsync.Point {
	for i := range p.Fields {
		if p.Fields[i].Name == name {
			p.Fields = slices.Clone(p.Fields)
			p.Fields[i].Value = value
			return p
		}
	}
	p.Fields = append(slices.Clone(p.Fields), influxsync.FieldValue{Name: name, Value: value})
	p.Sort()
	return p
}

// withDerived is a box's quarter with the sums of its minutes.
func withDerived(sum influxsync.Point, minutes []influxsync.Point) influxsync.Point {
	values := make(map[string]int64)
	source := ""
	for _, m := range minutes {
		for _, name := range boxFields {
			values[name] += m.Int(name) // one box and quarter: far from 2^63, which the processors have checked
		}
		if text, ok := m.Field(schema.CarbonSource); ok {
			source = text.Str()
		}
	}
	return withField(withInts(sum, boxFields, values), schema.CarbonSource, influxsync.Str(source))
}
