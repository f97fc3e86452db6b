package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Names of the tables that are no measurement's: windows as the ledger has them,
// what a cluster had told of its objects, the registry's objects, and of a cluster's
// boxes the energy and what carried it beside the cluster's own pods.
const (
	WindowTable    = "window"
	HeldTable      = "held"
	RegistryTable  = "registry"
	BoxTable       = "box"
	BoxEnergyTable = "box_energy"
	MeterTable     = "meter"
)

// Kinds of the registry table that are no objects of the fleet.
const (
	KindModel  = "Model"       // power model of a hardware type
	KindSeries = "SeriesSlots" // values of a dynamic price, by quarter
)

// The tables of the archive alone.
var (
	// windowTable has one row for each window of each table with windows, at its start:
	// what the archive has of it, and what the journal said.
	windowTable = schema.Table{Name: WindowTable, Tags: []string{"table"}, Fields: []schema.Field{
		{Name: "window_to"}, {Name: "revision"}, {Name: "rows"}, {Name: "digest"}, {Name: "journal_rows"}, {Name: "journal_digest"},
		{Name: "coverage"}, {Name: "entry_time"}, {Name: "store", Type: schema.String}, {Name: "reason", Type: schema.String}}}
	// heldTable has one row for each row of object that held in the day, at the time at
	// which it was told.
	heldTable = schema.Table{Name: HeldTable, Tags: schema.Object.Tags, Fields: schema.Object.Fields}
	// registryTable has one row for each version of an object that held in the day, at
	// the moment from which it did: the day's start where that was before.
	registryTable = schema.Table{Name: RegistryTable, Tags: []string{schema.Kind, "name"}, Fields: []schema.Field{
		{Name: "spec", Type: schema.String}, {Name: "valid_from"}, {Name: "valid_to"}}} // Unix ns; 0 = always, or beyond the day
)

// Source is where a day is read from.
type Source struct {
	Registry *registry.Registry
	Store    *influxsync.Server // the centre's
}

// minuteTables are the tables of the minute database that a day of the cluster has,
// and that retention deletes.
func minuteTables(cluster string) []schema.Table {
	if cluster == schema.BoxCluster {
		return []schema.Table{schema.EnergyMinute, schema.BoxMinute}
	}
	return []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute, schema.VolumeMinute, schema.EnergyMinute}
}

// content is what a day of a cluster consists of, before its rows are read.
type content struct {
	source  Source
	cluster string
	day     schema.Window
	objects []influxsync.Point // rows of the registry table
	boxes   []string           // that the cluster's nodes stood in
	state   string
	settled bool
}

// look is what there is of a day.
func (s Source) look(ctx context.Context, cluster string, day time.Time) (*content, error) {
	c := &content{source: s, cluster: cluster, day: schema.Window{From: day, To: day.Add(dayLength)}}
	state, settled, err := s.Registry.DayState(ctx, cluster, day)
	if err != nil {
		return nil, err
	}
	if c.settled = settled; cluster != schema.BoxCluster {
		if err := c.facts(ctx); err != nil {
			return nil, fmt.Errorf("objects of %s on %s: %w", cluster, day.Format(time.DateOnly), err)
		}
	}
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s\n%s\n", manifestFormat, state) // a hash takes all
	for _, p := range c.objects {
		_, _ = fmt.Fprintf(sum, "%x\n", p.Hash())
	}
	c.state = hex.EncodeToString(sum.Sum(nil))
	return c, nil
}

// facts are the registry's objects that held in the day and concern the cluster: its
// nodes, their boxes, hardware and meters, assignments, price lists, exchange rates,
// models. Of some a change makes no work due, so that registry.Archivable does not
// tell of it: who needs a day as it is, Seal and prune, looks at it.
func (c *content) facts(ctx context.Context) error {
	boxes, hardware, series := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	kinds := []fleet.Kind{fleet.KindCluster, fleet.KindNode, fleet.KindBox, fleet.KindHardware, fleet.KindMeter, fleet.KindAssignment,
		fleet.KindPriceList, fleet.KindExchangeRates}
	for _, kind := range kinds {
		versions, err := c.source.Registry.History(ctx, kind, c.day)
		if err != nil {
			return err
		}
		for _, o := range versions {
			keep := true
			switch spec := o.Spec.(type) {
			case fleet.Cluster: // how it is reached is nobody's business a year later
				keep = o.Name() == c.cluster
				o.Spec = fleet.Cluster{Customer: spec.Customer, Provider: spec.Provider, Region: spec.Region}
			case fleet.Node:
				if keep = spec.Cluster == c.cluster; keep {
					boxes[spec.Box], hardware[spec.Hardware] = true, true
				}
			case fleet.Box:
				keep = boxes[o.Name()]
			case fleet.Hardware:
				keep = hardware[o.Name()]
			case fleet.Meter:
				keep = spec.Box != "" && boxes[spec.Box]
				o.Spec = fleet.Meter{Box: spec.Box, Driver: spec.Driver, AccuracyClass: spec.AccuracyClass, StepJoules: spec.StepJoules}
			case fleet.Assignment:
				keep = spec.Cluster == "" || spec.Cluster == c.cluster
			case fleet.PriceList:
				for _, name := range spec.Series() {
					series[name] = true
				}
			case fleet.ExchangeRates: // which hold since always, and come when their month is over
				keep = c.near(spec.Month)
			}
			if !keep {
				continue
			}
			if err := c.object(string(kind), o.Name(), o.Spec, o.ValidFrom, o.ValidTo); err != nil {
				return err
			}
		}
	}
	delete(boxes, "")
	c.boxes = slices.Sorted(maps.Keys(boxes))
	if err := c.models(ctx, hardware); err != nil {
		return err
	}
	return c.series(ctx, slices.Sorted(maps.Keys(series)))
}

// near says whether the day is of a month, such as 2026-11, in some time zone.
func (c *content) near(month string) bool {
	return slices.ContainsFunc([]time.Time{c.day.From.Add(-dayLength), c.day.From, c.day.To},
		func(at time.Time) bool { return at.UTC().Format("2006-01") == month })
}

// models adds the states of the power models of hardware types that held.
func (c *content) models(ctx context.Context, hardware map[string]bool) error {
	states, err := c.source.Registry.ModelStates(ctx)
	if err != nil {
		return err
	}
	for i, s := range states {
		var until time.Time
		if i+1 < len(states) && states[i+1].Hardware == s.Hardware && states[i+1].Box == s.Box {
			until = states[i+1].From
		}
		if !hardware[s.Hardware] || !s.From.Before(c.day.To) || !until.IsZero() && !until.After(c.day.From) {
			continue
		}
		body := map[string]any{"hardware": s.Hardware, "box": s.Box, "model": s.Body}
		if err := c.object(KindModel, s.Hardware+"/"+s.Box, body, s.From, until); err != nil {
			return err
		}
	}
	return nil
}

// series adds the day's values of dynamic prices.
func (c *content) series(ctx context.Context, names []string) error {
	all, err := c.source.Registry.PriceSeries(ctx, names, c.day)
	if err != nil {
		return err
	}
	for _, name := range names {
		slots := make(map[string]string, len(all[name]))
		for at, value := range all[name] {
			if value != nil && c.day.Contains(at) {
				slots[at.UTC().Format(time.RFC3339)] = value.Text('f')
			}
		}
		if err := c.object(KindSeries, name, slots, c.day.From, c.day.To); err != nil {
			return err
		}
	}
	return nil
}

// object adds a row of the registry table. What holds beyond the day is open, so that
// its end, which comes later, changes nothing of the day.
func (c *content) object(kind, name string, spec any, from, to time.Time) error {
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("%s/%s: %w", kind, name, err)
	}
	var since, until int64
	if !from.IsZero() {
		since = from.UnixNano()
	}
	if !to.IsZero() && to.Before(c.day.To) {
		until = to.UnixNano()
	}
	c.objects = append(c.objects, influxsync.NewPoint(RegistryTable, map[string]string{schema.Kind: kind, "name": name},
		map[string]influxsync.Value{"spec": influxsync.Str(string(text)), "valid_from": influxsync.Int(since), "valid_to": influxsync.Int(until)},
		schema.Later(from, c.day.From)))
	return nil
}
