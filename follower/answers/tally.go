package answers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// parts are what a question is about. Heat and carbon come with the energy.
type parts struct{ usage, energy, cost, heat, carbon, coverage bool }

// tally is a question while it is being answered.
type tally struct {
	engine  *Engine
	request usage.Request
	parts   parts
	window  schema.Window
	settled time.Time
	asOf    AsOf
	scope   scope
	rows    map[string]*row
	alive   map[int64]float64 // by step: ms that the longest-living node was there
	labels  map[string]usage.Labels
	costs   bool // cost has the keys of this question
	kept    int  // whole days that were read for it and are remembered
}

// row is one row in the making.
type row struct {
	usage.Tally
	nanos map[price]int64
}

// price is what a sum of cost is of.
type price struct{ resource, currency string }

// who is whose a group of rows is, by the names that people know.
type who struct {
	node, box, namespace, workload, pod, container string
	claim, class, storage                          string
	labels                                         map[string]string
}

// tally reads everything that the question needs.
func (e *Engine) tally(ctx context.Context, request usage.Request, sight Sight, of parts) (*tally, error) {
	if err := check(request); err != nil {
		return nil, err
	}
	t := &tally{engine: e, request: request, parts: of, rows: make(map[string]*row), alive: make(map[int64]float64)}
	t.costs = of.cost && priced(request)
	tables := []schema.Table{schema.PodMinute, schema.VolumeMinute}
	if of.energy {
		tables = append(tables, schema.EnergyMinute)
	}
	if t.costs {
		tables = append(tables, schema.CostQuarter)
	}
	var err error
	if t.scope, err = e.scope(ctx, sight, request, tables); err != nil {
		return nil, err
	}
	if t.window, t.settled, err = e.window(request); err != nil {
		return nil, err
	}
	if t.asOf, err = e.AsOf(ctx); err != nil {
		return nil, err
	}
	if !usage.KeepsAll(request.Filter, usage.Cluster, e.config.Cluster) {
		return t, nil
	}
	return t, t.readAll(ctx)
}

// priced says whether cost, which is stored by namespace and workload and by
// quarters, has the question's keys and steps.
func priced(request usage.Request) bool {
	return !slices.ContainsFunc(keysOf(request), func(k usage.Key) bool {
		return k != usage.Cluster && k != usage.Namespace && k != usage.Workload
	}) && request.Step%schema.Quarter == 0
}

func (t *tally) readAll(ctx context.Context) error {
	cuts := []schema.Window{t.window}
	if t.request.UsesLabels() {
		var err error
		if cuts, err = t.cutAtLabels(ctx); err != nil {
			return err
		}
	}
	if t.parts.usage || t.parts.coverage {
		if err := t.presence(ctx); err != nil {
			return err
		}
	}
	for _, cut := range cuts {
		for _, source := range t.sources() {
			if err := t.read(ctx, cut, source); err != nil {
				return err
			}
		}
	}
	if t.parts.usage {
		if err := t.extended(ctx, cuts); err != nil {
			return err
		}
	}
	if t.costs {
		return t.readCost(ctx)
	}
	return nil
}

// presence adds up how long the longest-living node was there, by step: the
// part of the time asked for of which there are rows at all.
func (t *tally) presence(ctx context.Context) error {
	q := influxsync.Query{Select: []string{schema.Uptime}, Aggregate: "sum", From: schema.NodeMinute.Name, Window: t.window,
		Group: []string{schema.Node}, Every: t.request.Step}
	type stay struct {
		node string
		from int64
	}
	stays := make(map[stay]float64)
	err := t.sums(ctx, schema.MinuteDB, q, func(p influxsync.Point) error {
		stays[stay{p.Tag(schema.Node), t.bucket(p).From.Unix()}] += float64(p.Int(schema.Uptime))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read presence of nodes: %w", err)
	}
	for of, length := range stays {
		t.alive[of.from] = max(t.alive[of.from], length)
	}
	return nil
}

func (t *tally) share(b schema.Window) float64 {
	return min(1, t.alive[b.From.Unix()]/float64(b.Length().Milliseconds()))
}

func (t *tally) bucket(p influxsync.Point) schema.Window {
	if t.request.Step == 0 {
		return t.window
	}
	return usage.Bucket(t.window, t.request.Step, p.Time)
}

// source is a table with the quantities to take from it.
type source struct {
	db    string
	table schema.Table
	take  []usage.Quantity
	lacks []string // tags that it does not have
}

// volumeLacks are the tags that volumes do not have: they are the cluster's, not a
// node's.
var volumeLacks = []string{schema.Node, schema.Box, schema.Pod, schema.PodUID, schema.Container, schema.WorkloadKind, schema.Workload}

// volumeTags are the tags that only volumes have.
var volumeTags = []string{schema.Claim, schema.StorageClass, schema.Storage}

// podTags are the tags that say whose something is below a node.
var podTags = []string{schema.Namespace, schema.Pod, schema.PodUID, schema.Container, schema.WorkloadKind, schema.Workload}

func (t *tally) sources() []source {
	var all []source
	if t.parts.energy {
		take := slices.Clone(usage.OfEnergy)
		if t.parts.heat {
			take = append(take, usage.Heat)
		}
		if t.parts.carbon {
			take = append(take, usage.OfCarbon...)
		}
		all = append(all, source{schema.ResultsDB, schema.EnergyMinute, take, append([]string{schema.Container}, volumeTags...)})
	}
	if t.parts.coverage {
		all = append(all, source{schema.MinuteDB, schema.PodMinute, usage.OfCoverage, volumeTags})
	}
	if !t.parts.usage {
		return all
	}
	if t.scope.all {
		all = append(all, source{schema.MinuteDB, schema.NodeMinute, usage.OfNodes, append(podTags, volumeTags...)})
	}
	all = append(all, source{schema.MinuteDB, schema.VolumeMinute, usage.OfVolumes, volumeLacks})
	if !t.request.Uses(usage.Container) {
		return append(all, source{schema.MinuteDB, schema.PodMinute, usage.OfPods, volumeTags})
	}
	return append(all, source{schema.MinuteDB, schema.ContainerMinute, usage.OfContainers, volumeTags},
		source{schema.MinuteDB, schema.PodMinute, usage.OfSandboxes, append([]string{schema.Container}, volumeTags...)})
}

// tags are what the rows are grouped by.
func (t *tally) tags() []string {
	var tags []string
	add := func(wanted bool, names ...string) {
		if wanted {
			tags = append(tags, names...)
		}
	}
	labels := t.request.UsesLabels()
	add(t.request.Uses(usage.Node), schema.Node)
	add(t.request.Uses(usage.Box), schema.Box)
	add(!t.scope.all || t.request.Uses(usage.Namespace), schema.Namespace)
	add(t.request.Uses(usage.Workload), schema.WorkloadKind, schema.Workload)
	add(t.request.Uses(usage.Pod), schema.Pod)
	add(labels, schema.PodUID)
	add(t.request.Uses(usage.Container), schema.Container)
	add(t.request.Uses(usage.Claim), schema.Claim)
	add(t.request.Uses(usage.StorageClass), schema.StorageClass)
	add(t.request.Uses(usage.Storage), schema.Storage)
	return tags
}

// read adds the sums of one table over one part of the window.
func (t *tally) read(ctx context.Context, cut schema.Window, from source) error {
	lacks := func(tag string) bool { return slices.Contains(from.lacks, tag) }
	q := influxsync.Query{Aggregate: "sum", From: from.table.Name, Window: cut, Every: t.request.Step}
	for _, quantity := range from.take {
		q.Select = append(q.Select, quantity.Field())
	}
	for _, tag := range t.tags() {
		if !lacks(tag) {
			q.Group = append(q.Group, tag)
		}
	}
	ofNode := lacks(schema.Namespace)
	if !ofNode {
		q.Where = t.where()
	}
	err := t.sums(ctx, from.db, q, func(p influxsync.Point) error {
		var sums usage.Sums
		for _, quantity := range from.take {
			sums[quantity] = p.Int(quantity.Field())
		}
		if sums == (usage.Sums{}) || !ofNode && !t.scope.sees(p.Tag(schema.Namespace)) {
			return nil // rows that a correction has set to zero, or another's
		}
		return t.add(t.identify(p, ofNode, cut), t.bucket(p), sums)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", from.table.Name, err)
	}
	return nil
}

// where narrows the reading to the one namespace that is looked at.
func (t *tally) where() []influxsync.Condition {
	if t.scope.all || len(t.scope.raw) != 1 {
		return nil
	}
	var conditions []influxsync.Condition
	for stored := range t.scope.raw {
		conditions = append(conditions, influxsync.Condition{Tag: schema.Namespace, Value: stored})
	}
	return conditions
}

// identify resolves a group. What a node is counted for itself belongs to its
// system namespace.
func (t *tally) identify(p influxsync.Point, ofNode bool, cut schema.Window) who {
	name := t.engine.names.Resolve
	w := who{node: name(p.Tag(schema.Node)), box: p.Tag(schema.Box), namespace: name(p.Tag(schema.Namespace)), pod: name(p.Tag(schema.Pod)),
		container: name(p.Tag(schema.Container)), workload: workloadOf(p, name),
		claim: name(p.Tag(schema.Claim)), class: p.Tag(schema.StorageClass), storage: p.Tag(schema.Storage)}
	if ofNode {
		w.namespace, w.pod = schema.SystemNamespace, schema.SystemNamespace
	}
	if t.labels != nil {
		w.labels = t.labels[p.Tag(schema.PodUID)].At(cut)
	}
	return w
}

// workloadOf is "Deployment/web", "" for a pod without a controller.
func workloadOf(p influxsync.Point, name func(string) string) string {
	if workload := p.Tag(schema.Workload); workload != "" {
		return p.Tag(schema.WorkloadKind) + "/" + name(workload)
	}
	return ""
}

// value is what the group has for a key.
func (t *tally) value(w who, k usage.Key) string {
	switch k {
	case usage.Cluster:
		return t.engine.config.Cluster
	case usage.Node:
		return w.node
	case usage.Box:
		return w.box
	case usage.Namespace:
		return w.namespace
	case usage.Workload:
		return w.workload
	case usage.Pod:
		return w.pod
	case usage.Container:
		return w.container
	case usage.Claim:
		return w.claim
	case usage.StorageClass:
		return w.class
	case usage.Storage:
		return w.storage
	}
	if name, ok := k.LabelName(); ok {
		return t.engine.names.Resolve(w.labels[name])
	}
	return ""
}

// add counts one group's sums into its row.
func (t *tally) add(w who, b schema.Window, sums usage.Sums) error {
	made, err := t.row(w, b)
	if err != nil || made == nil {
		return err
	}
	return made.Count(&sums, t.share(b))
}

// row finds or makes the row of a key and a step; nil where a filter drops it.
func (t *tally) row(w who, b schema.Window) (*row, error) {
	for _, c := range t.request.Filter {
		if !c.Keeps(t.value(w, c.Key)) {
			return nil, nil
		}
	}
	key := make(map[string]string, len(t.request.Aggregate))
	for _, k := range t.request.Aggregate {
		key[string(k)] = t.value(w, k)
	}
	id := rowID(t.request.Aggregate, key, b.From)
	if found, ok := t.rows[id]; ok {
		return found, nil
	}
	if most := t.engine.config.MaxRows; len(t.rows) >= most {
		return nil, usage.Wrong("aggregate", usage.KeyList(t.request.Aggregate),
			fmt.Sprintf("the answer has more than %d rows: aggregate by fewer keys, filter, or take a longer step", most))
	}
	made := &row{Tally: usage.Tally{Key: key, Window: b}, nanos: make(map[price]int64)}
	t.rows[id] = made
	return made, nil
}

func rowID(aggregate []usage.Key, key map[string]string, from time.Time) string {
	var id strings.Builder
	fmt.Fprintf(&id, "%d", from.Unix())
	for _, k := range aggregate {
		fmt.Fprintf(&id, "\x00%s", key[string(k)])
	}
	return id.String()
}
