package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/daypack"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/processors"
)

// days are the sums of a cluster's settled days, by their start in Unix seconds.
type days map[int64]registry.DaySums

// days reads those that the question can use: it must have no steps below a day,
// and not need rows per pod. They lie in room, and the room to use next time is returned.
func (t *tally) days(ctx context.Context, room []byte, cluster string) (days, []byte, error) {
	if t.need.podRows || t.request.Step%schema.Day != 0 || t.window.Length() < schema.Day {
		return nil, room, nil
	}
	list, room, err := t.engine.registry.DaysInto(ctx, room, cluster, t.window)
	known := make(days, len(list))
	for _, d := range list {
		known[d.Day.Unix()] = d
	}
	return known, room, err
}

// daysAhead reads the days of clusters, in their order: those of the next one while
// one is added up. stop must be called, and waits.
func (t *tally) daysAhead(ctx context.Context, clusters []string) (next func() (days, error), stop func()) {
	type read struct {
		known days
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	all := make(chan read)
	var group sync.WaitGroup
	group.Go(func() {
		var rooms [2][]byte // in turns: who takes one cluster's days is done with those before
		for i, cluster := range clusters {
			var known days
			var err error
			known, rooms[i%2], err = t.days(ctx, rooms[i%2], cluster)
			select {
			case all <- read{known, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	next = func() (days, error) {
		select {
		case r := <-all:
			return r.known, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return next, func() { cancel(); group.Wait() }
}

// cut takes the days that are known out of runs of whole quarters: a day inside a run
// is settled, for no quarter of it is open, and no fact changes inside it. Neighbours
// are one run.
func (d days) cut(all []run) []run {
	if len(d) == 0 {
		return all
	}
	cut := make([]run, 0, len(all))
	for _, r := range all {
		if !r.whole {
			cut = append(cut, r)
			continue
		}
		for at := r.From; at.Before(r.To); {
			end := schema.Earlier(schema.WindowAt(at, schema.Day).To, r.To)
			_, known := d[at.Unix()]
			byDay := known && end.Sub(at) == schema.Day
			if last := len(cut) - 1; last >= 0 && cut[last].whole && cut[last].byDay == byDay && cut[last].To.Equal(at) {
				cut[last].To = end
			} else {
				cut = append(cut, run{Window: schema.Window{From: at, To: end}, whole: true, byDay: byDay})
			}
			at = end
		}
	}
	return cut
}

// Of a day's sums.
var (
	usageOf   = func(d registry.DaySums) []byte { return d.Usage }
	nodesOf   = func(d registry.DaySums) []byte { return d.Nodes }
	volumesOf = func(d registry.DaySums) []byte { return d.Volumes }
)

// daySource is what of the days a table of quarters can be read from, with the tags
// to group by.
func (t *tally) daySource(cluster string, part slice, from source) (of func(registry.DaySums) []byte, group []string, ok bool) {
	table := schema.UsageDay
	switch from.table.Name {
	case schema.UsageQuarter.Name, schema.EnergyQuarter.Name: // whose sums usage has, too
		of = usageOf
	case schema.NodeQuarter.Name:
		table, of = schema.NodeDay, nodesOf
	case schema.VolumeQuarter.Name:
		table, of = schema.VolumeDay, volumesOf
	default:
		return nil, nil, false
	}
	if t.every(part) != t.request.Step {
		return nil, nil, false // prices change within days
	}
	for _, tag := range t.groupBy(from) {
		if tag == schema.Box && table.Name == schema.NodeDay.Name && cluster != schema.BoxCluster {
			continue // the registry knows it of a node
		}
		if !slices.Contains(table.Tags, tag) {
			return nil, nil, false
		}
		group = append(group, tag)
	}
	return of, group, true
}

// readDays adds the sums of whole days from sources: from the packed ones where they
// can tell, else from the quarters.
func (t *tally) readDays(ctx context.Context, cluster string, part slice, known days, r run, sources []source) error {
	var energy *source // and usage are of one table of days: they are read at once
	for _, from := range sources {
		of, group, ok := t.daySource(cluster, part, from)
		if ok && (from.table.Name == schema.EnergyQuarter.Name || from.table.Name == schema.UsageQuarter.Name) {
			if energy == nil {
				energy = &from
				continue
			}
			from.take = slices.Concat(energy.take, from.take)
			energy = nil
		}
		if err := t.readDay(ctx, cluster, part, known, r, from, of, group, ok); err != nil {
			return err
		}
	}
	if energy == nil {
		return nil
	}
	of, group, ok := t.daySource(cluster, part, *energy)
	return t.readDay(ctx, cluster, part, known, r, *energy, of, group, ok)
}

func (t *tally) readDay(ctx context.Context, cluster string, part slice, known days, r run, from source, of func(registry.DaySums) []byte, group []string, ok bool) error {
	if !ok {
		return t.read(ctx, cluster, part, r, from)
	}
	columns := make([]string, len(from.take))
	for i, quantity := range from.take {
		columns[i] = quantity.Field()
	}
	steps, err := t.sumDays(known, r, of, group, columns)
	if errors.Is(err, daypack.ErrFormat) { // of another version: the quarters have it
		return t.read(ctx, cluster, part, r, from)
	}
	if err != nil {
		return fmt.Errorf("days %s of %s: %w", r.Window, cluster, err)
	}
	ofNode := slices.Contains(from.lacks, schema.Namespace)
	for _, step := range steps {
		err := step.sums.Each(func(key []string, values []int64) error {
			var sums Sums
			for i, quantity := range from.take {
				sums[quantity] = values[i]
			}
			return t.count(cluster, part, from, ofNode, pointOf(group, key, step.Window.From), step.Window, &sums)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pointOf is a group as a query has it.
func pointOf(tags, values []string, at time.Time) influxsync.Point {
	p := influxsync.Point{Tags: make([]influxsync.Tag, 0, len(tags)), Time: at}
	for i, tag := range tags {
		p.Tags = append(p.Tags, influxsync.Tag{Key: tag, Value: values[i]})
	}
	return p
}

// stepSums are the sums of the days in one step of the question.
type stepSums struct {
	schema.Window
	sums *daypack.Sums
}

// sumDays adds up the days of a run by step.
func (t *tally) sumDays(known days, r run, of func(registry.DaySums) []byte, group, columns []string) ([]stepSums, error) {
	var steps []stepSums
	for at := r.From; at.Before(r.To); at = at.Add(schema.Day) {
		bucket := t.bucketAt(at)
		if last := len(steps) - 1; last < 0 || !steps[last].From.Equal(bucket.From) {
			steps = append(steps, stepSums{bucket, daypack.NewSums(group, columns)})
		}
		if err := steps[len(steps)-1].sums.Add(of(known[at.Unix()])); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

// count adds the sums of a group of rows.
func (t *tally) count(cluster string, part slice, from source, ofNode bool, p influxsync.Point, b schema.Window, sums *Sums) error {
	if *sums == (Sums{}) {
		return nil // rows that a correction has set to zero
	}
	if t.assets {
		fullyUsed(sums)
	}
	var named processors.Quantities
	if class := p.Tag(schema.StorageClass); slices.Contains(from.more, schema.StorageClass) {
		named = processors.Quantities{processors.VolumeClaimed.Of(class): sums[usage.VolumeClaimed], processors.VolumeUsed.Of(class): sums[usage.VolumeUsed]}
	}
	who := t.identify(cluster, part, p, ofNode)
	return t.add(&who, b, p.Time, sums, named)
}

// presence adds up how long the cluster's longest-living node was there in a slice,
// by step: the part of the time asked for of which there are rows at all.
func (t *tally) presence(ctx context.Context, cluster string, known days, all []run) error {
	if cluster == schema.BoxCluster {
		return nil
	}
	uptime := make(map[int64]map[string]int64) // by step and node
	add := func(b schema.Window, node string, milliseconds int64) {
		from := b.From.Unix()
		if uptime[from] == nil {
			uptime[from] = make(map[string]int64)
		}
		uptime[from][node] += milliseconds
	}
	for _, r := range all {
		if err := t.uptime(ctx, cluster, known, r, add); err != nil {
			return err
		}
	}
	for from, nodes := range uptime {
		var longest int64
		for _, milliseconds := range nodes {
			longest = max(longest, milliseconds)
		}
		t.alive[aliveKey{cluster, from}] += float64(longest)
	}
	return nil
}

// uptime tells how long each node was there, by step.
func (t *tally) uptime(ctx context.Context, cluster string, known days, r run, add func(b schema.Window, node string, milliseconds int64)) error {
	group, columns := []string{schema.Node}, []string{schema.Uptime}
	if r.byDay {
		steps, err := t.sumDays(known, r, nodesOf, group, columns)
		for _, step := range steps {
			_ = step.sums.Each(func(key []string, values []int64) error {
				add(step.Window, key[0], values[0])
				return nil
			})
		}
		if err == nil || !errors.Is(err, daypack.ErrFormat) {
			return err
		}
	}
	table, db := schema.NodeMinute, t.engine.stores.Minute
	if r.whole {
		table, db = schema.NodeQuarter, t.engine.stores.Quarter
	}
	q := influxsync.Query{Select: columns, Aggregate: "sum", From: table.Name, Window: r.Window,
		Where: []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}, Group: group, Every: t.request.Step}
	return db.Query(ctx, q, func(p influxsync.Point) error {
		add(t.bucketAt(p.Time), p.Tag(schema.Node), p.Int(schema.Uptime))
		return nil
	})
}
