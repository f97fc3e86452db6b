package query

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// Keys of BoxRow.AttributedJoules for what no pod carries.
const (
	idleKey         = "idle"
	overheadKey     = "overhead"
	unattributedKey = "unattributed"
)

// boxTally is one box in the making, in mJ.
type boxTally struct {
	measured, integrated, measuredModel, provisional, estimated, modelled int64
	active, idle, overhead                                                int64
	present, closed                                                       float64 // seconds with rows; of them covered by closed intervals
	until                                                                 time.Time
	shares                                                                map[string]*boxShare
}

// boxShare is what one key carries.
type boxShare struct{ total, measured int64 }

// Boxes is the energy of every box that stands or stood in the fleet in the
// window. Errors: *InputError, ErrOverflow, ErrScope, and what the stores say.
func (e *Engine) Boxes(ctx context.Context, window string) (BoxAnswer, error) {
	if Scoped(ctx) {
		return BoxAnswer{}, fmt.Errorf("boxes: %w", ErrScope)
	}
	_, settled, err := e.settled(ctx, nil)
	if err != nil {
		return BoxAnswer{}, err
	}
	if window == "" {
		window = "1h"
	}
	w, err := usage.ParseWindow(window, settled)
	if err != nil {
		return BoxAnswer{}, err
	}
	parts, err := e.slices(ctx, w, nil)
	if err != nil {
		return BoxAnswer{}, err
	}
	open, err := e.openQuarters(ctx, schema.BoxCluster, w)
	if err != nil {
		return BoxAnswer{}, err
	}
	tallies := make(map[string]*boxTally)
	for _, r := range runs(w, open, true) {
		if err := e.boxRows(ctx, r, tallies); err != nil {
			return BoxAnswer{}, fmt.Errorf("energy of boxes: %w", err)
		}
		if err := e.boxShares(ctx, r, tallies); err != nil {
			return BoxAnswer{}, fmt.Errorf("energy of boxes: %w", err)
		}
	}
	return boxAnswer(w, parts, tallies)
}

func tallyOf(tallies map[string]*boxTally, box string) *boxTally {
	if tallies[box] == nil {
		tallies[box] = &boxTally{shares: make(map[string]*boxShare)}
	}
	return tallies[box]
}

// boxRows adds the boxes' own rows: what the meters counted, and the model.
func (e *Engine) boxRows(ctx context.Context, r run, tallies map[string]*boxTally) error {
	db, table := e.stores.Minute, schema.BoxMinute
	if r.whole {
		db, table = e.stores.Quarter, schema.BoxQuarter
	}
	q := influxsync.Query{Select: table.Integers(), From: table.Name, Window: r.Window, Group: []string{schema.Box}}
	return db.Query(ctx, q, func(p influxsync.Point) error {
		t := tallyOf(tallies, p.Tag(schema.Box))
		for into, field := range map[*int64]string{&t.measured: schema.EnergyMeasured, &t.measuredModel: schema.MeasuredModel, &t.integrated: schema.Integrated,
			&t.provisional: schema.Provisional, &t.estimated: schema.EstimatedEnergy, &t.modelled: schema.EnergyModelled} {
			sum, err := usage.Add(*into, p.Int(field))
			if err != nil {
				return fmt.Errorf("sum of %s: %w", field, err)
			}
			*into = sum
		}
		seconds := table.Grain.Seconds()
		t.present += seconds
		if model := p.Int(schema.EnergyModelled); model > 0 {
			t.closed += seconds * float64(p.Int(schema.MeasuredModel)) / float64(model)
		}
		if p.Int(schema.EnergyMeasured) > 0 && p.Int(schema.Provisional) == 0 {
			t.until = schema.Later(t.until, p.Time.Add(table.Grain))
		}
		return nil
	})
}

// boxShares adds who carries the boxes' energy.
func (e *Engine) boxShares(ctx context.Context, r run, tallies map[string]*boxTally) error {
	db, table := e.stores.Minute, schema.EnergyMinute
	if r.whole {
		db, table = e.stores.Quarter, schema.EnergyQuarter
	}
	q := influxsync.Query{Aggregate: "sum", From: table.Name, Window: r.Window,
		Select: []string{schema.EnergyActive, schema.EnergyIdle, schema.EnergyOverhead, schema.EnergyMeasured},
		Group:  []string{schema.Box, schema.Cluster, schema.Namespace}}
	return db.Query(ctx, q, func(p influxsync.Point) error {
		sums := Sums{usage.EnergyActive: p.Int(schema.EnergyActive), usage.EnergyIdle: p.Int(schema.EnergyIdle), usage.EnergyOverhead: p.Int(schema.EnergyOverhead)}
		total, err := sums.Energy()
		if err != nil {
			return err
		}
		box, err := e.boxOf(ctx, p.Tag(schema.Cluster), p.Tag(schema.Box))
		if err != nil {
			return err
		}
		t := tallyOf(tallies, box)
		for into, part := range map[*int64]usage.Quantity{&t.active: usage.EnergyActive, &t.idle: usage.EnergyIdle, &t.overhead: usage.EnergyOverhead} {
			if *into, err = usage.Add(*into, sums[part]); err != nil {
				return err
			}
		}
		shares, key := t.shares, boxKey(p.Tag(schema.Cluster), p.Tag(schema.Namespace))
		if shares[key] == nil {
			shares[key] = &boxShare{}
		}
		if shares[key].total, err = usage.Add(shares[key].total, total); err != nil {
			return err
		}
		shares[key].measured, err = usage.Add(shares[key].measured, p.Int(schema.EnergyMeasured))
		return err
	})
}

// boxOf is the box behind the random id that a cluster's rows name it by.
func (e *Engine) boxOf(ctx context.Context, cluster, id string) (string, error) {
	box, known, err := e.registry.BoxOf(ctx, cluster, id)
	if err != nil || known {
		return box, err
	}
	return id, nil
}

// boxKey is who carries a row: no pod, or the cluster's namespace.
func boxKey(cluster, namespace string) string {
	switch namespace {
	case schema.IdleNamespace:
		return idleKey
	case schema.OverheadNamespace:
		return overheadKey
	case schema.UnattributedNamespace:
		return unattributedKey
	}
	return cluster + "/" + namespace
}

// boxAnswer is a row for every box that the fleet has or that has energy.
func boxAnswer(w schema.Window, parts []slice, tallies map[string]*boxTally) (BoxAnswer, error) {
	answer := BoxAnswer{From: w.From, To: w.To, Boxes: []BoxRow{}}
	var names []string
	metered := make(map[string]bool)
	for _, part := range parts {
		for _, box := range part.fleet.Boxes() {
			names = append(names, box.Name)
			metered[box.Name] = metered[box.Name] || len(part.fleet.MetersOfBox(box.Name)) > 0
		}
	}
	for name := range tallies {
		if _, _, loose := registry.LooseNode(name); name != "" && !loose { // nodes that stand in no box
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		t := tallyOf(tallies, name)
		row, err := t.finish(metered[name] || t.measured != 0)
		if err != nil {
			return BoxAnswer{}, fmt.Errorf("box %s: %w", name, err)
		}
		row.describe(name, parts[len(parts)-1].fleet)
		answer.Boxes = append(answer.Boxes, row)
	}
	return answer, nil
}

// describe adds what the registry knows at the window's end.
func (r *BoxRow) describe(name string, f *fleet.Fleet) {
	box, _ := f.Box(name)
	r.Box, r.Site, r.Clusters, r.Nodes, r.Meters = name, box.Site, f.ClustersOfBox(name), []string{}, []string{}
	if r.Clusters == nil {
		r.Clusters = []string{}
	}
	r.IdlePolicy = string(processors.Box{IdlePolicy: processors.IdlePolicy(box.IdlePolicy), Shared: len(f.CustomersOfBox(name)) > 1}.Policy())
	for _, node := range f.NodesOfBox(name) {
		r.Nodes = append(r.Nodes, node.Cluster+"/"+node.Node)
	}
	for _, meter := range f.MetersOfBox(name) {
		r.Meters = append(r.Meters, meter.Name)
	}
}

// finish makes the row. With a meter what is attributed is the measured part,
// which closed meter intervals cover; without one it is the model's energy, and
// nothing is measured.
func (t *boxTally) finish(metered bool) (BoxRow, error) {
	row := BoxRow{AttributedJoules: map[string]Exact{idleKey: usage.Joules(0), overheadKey: usage.Joules(0), unattributedKey: usage.Joules(0)},
		ActiveJoules: usage.Joules(t.active), IdleJoules: usage.Joules(t.idle), OverheadJoules: usage.Joules(t.overhead),
		ModelledJoules: usage.Joules(t.modelled), ProvisionalJoules: usage.Joules(0), EstimatedJoules: usage.Joules(t.estimated), Quality: schema.Estimated}
	var attributed int64
	for key, share := range t.shares {
		millijoules := share.total
		if metered {
			millijoules = share.measured
		}
		var err error
		if attributed, err = usage.Add(attributed, millijoules); err != nil {
			return BoxRow{}, err
		}
		if _, always := row.AttributedJoules[key]; always || *share != (boxShare{}) {
			row.AttributedJoules[key] = usage.Joules(millijoules)
		}
	}
	row.ModelledWatts = watts(t.modelled, t.present)
	if !metered {
		return row, nil
	}
	residual, err := usage.Add(t.measured, -attributed)
	if err != nil {
		return BoxRow{}, err
	}
	measured, rest := usage.Joules(t.measured), usage.Joules(residual)
	row.MeasuredJoules, row.ResidualJoules = &measured, &rest
	row.ModelledJoules, row.ProvisionalJoules = usage.Joules(t.measuredModel), usage.Joules(t.provisional)
	row.MeasuredWatts = watts(t.measured, t.closed)
	if !t.until.IsZero() {
		row.MeasuredUntil = &t.until
	}
	switch {
	case t.measured == 0:
	case t.provisional == 0 && t.estimated == 0 && t.integrated == 0:
		row.Quality = schema.Measured
	default:
		row.Quality = schema.Mixed
	}
	return row, nil
}

// watts is the mean power, nil where there was no time.
func watts(millijoules int64, seconds float64) *float64 {
	if seconds <= 0 {
		return nil
	}
	power := float64(millijoules) / 1000 / seconds
	return &power
}
