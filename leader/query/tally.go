package query

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors"
)

// tally is a question while it is being answered.
type tally struct {
	engine   *Engine
	request  Request
	window   schema.Window
	parts    []slice
	need     need
	rowsByID map[string]*tallyRow
	made     []*tallyRow // the same, in the order in which they came
	given    int         // rows that take has taken
	id       []byte      // scratch for the id of a row
	work     dueWork
	open     map[string][]schema.Window // by cluster; what may still change
	alive    map[aliveKey]float64
	labels   map[string]map[string]usage.Labels // by cluster and pod
	boxes    map[string]bool                    // that have something in the answer
	pricing  *pricing
	bills    *bills               // where the lines of billing periods are wanted
	moved    bool                 // the window's start is the coming window's
	coming   schema.Window        // whose prices hold; where it is empty, those of the time of use
	as       string               // the hardware type whose prices hold; "" is that of the node
	ends     map[string]time.Time // of the newest minutes of clusters
	settled  time.Time            // that of the cluster that is being read
	owner    owner
	metering []string // namespaces in which the metering itself runs, of the cluster that is being read
	labelled bool     // rows have the labels of their pods
	figures  bool     // carbon and heat are read beside the energy
	brief    bool     // energy and nodes alone are read
	assets   bool     // nodes are counted as if all that is allocatable were requested and used
	scopes   bounds
	seen     map[string]bool // clusters that have something in the answer
	// take, where it is set, takes the rows of each cluster when they are whole, in
	// their order; they are used again for the next cluster's.
	take   func(*tallyRow) error
	taking chan error  // where it has rows, says how that ended
	spare  []*tallyRow // those that it has, or had
}

// aliveKey is a cluster in a step.
type aliveKey struct {
	cluster string
	from    int64
}

// tally reads everything that the question needs.
func (e *Engine) tally(ctx context.Context, request Request, w schema.Window) (*tally, error) {
	return e.tallyWith(ctx, request, w, nil, nil, false)
}

// tallyWith is tally with price lists laid over the fleet's, for bills where they
// are given.
func (e *Engine) tallyWith(ctx context.Context, request Request, w schema.Window, lists []fleet.Object, bill *bills, assets bool) (*tally, error) {
	return e.read(ctx, &tally{assets: assets}, request, w, lists, bill)
}

// read reads everything that a question needs into t.
func (e *Engine) read(ctx context.Context, t *tally, request Request, w schema.Window, lists []fleet.Object, bill *bills) (*tally, error) {
	e = e.remembered(ctx)
	t.engine, t.request, t.window, t.rowsByID = e, request, w, make(map[string]*tallyRow)
	t.open, t.alive, t.labels = make(map[string][]schema.Window), make(map[aliveKey]float64), make(map[string]map[string]usage.Labels)
	t.boxes, t.scopes, t.seen = make(map[string]bool), scopesOf(ctx), make(map[string]bool)
	if err := t.scopes.allows(request); err != nil {
		return nil, err
	}
	coming := t.coming
	parts, err := e.slices(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	t.need = needs(request, parts, t.scopes)
	clusters, err := e.clusters(ctx, w)
	if err != nil {
		return nil, err
	}
	clusters = slices.DeleteFunc(clusters, func(name string) bool { return !t.scopes.reads(name, fleetsOf(parts)...) })
	if t.labelled {
		t.need.podRows = true
		t.need.add(schema.Namespace, schema.PodUID)
	}
	if t.need.labels || t.labelled {
		cuts, err := t.readLabels(ctx, clusters)
		if err != nil {
			return nil, err
		}
		if t.need.labels {
			if parts, err = e.slices(ctx, w, cuts); err != nil {
				return nil, err
			}
		}
	}
	if parts, err = e.overlay(ctx, parts, lists); err != nil {
		return nil, err
	}
	prices := w
	if coming.Length() > 0 {
		prices = schema.Window{From: coming.From.Add(-lookBack), To: coming.To}
		if parts, err = e.pricedAt(ctx, parts, coming.From); err != nil {
			return nil, err
		}
	}
	t.parts = parts
	if t.bills = bill; t.bills != nil {
		t.need.hardware, t.need.assign = true, true
		t.need.add(schema.Node, schema.Box, schema.Namespace)
	}
	if t.pricing, err = e.newPricing(ctx, parts, prices); err != nil {
		return nil, err
	}
	if coming.Length() > 0 {
		t.pricing.assume(coming)
	}
	if t.work, err = e.workIn(ctx, w); err != nil {
		return nil, err
	}
	if len(t.scopes) == 0 { // what no pod carries is nobody's
		clusters = append(clusters, schema.BoxCluster)
	}
	clusters = slices.DeleteFunc(clusters, func(name string) bool { return !usage.KeepsAll(request.Filter, Cluster, name) })
	if t.ends, err = e.settledMinutes(ctx, clusters); err != nil {
		return nil, err
	}
	next, stop := t.daysAhead(ctx, clusters)
	defer stop()
	defer func() { _ = t.taken() }() // where reading failed
	for _, cluster := range clusters {
		known, err := next()
		if err != nil {
			return nil, err
		}
		if err := t.cluster(ctx, cluster, parts, known); err != nil {
			return nil, fmt.Errorf("usage of %s: %w", cluster, err)
		}
		if err := t.give(); err != nil {
			return nil, err
		}
	}
	if err := t.taken(); err != nil {
		return nil, err
	}
	return t, nil
}

// clusters are the names of all clusters that were known in the window, also
// those that were removed since.
func (e *Engine) clusters(ctx context.Context, w schema.Window) ([]string, error) {
	objects, err := e.registry.History(ctx, fleet.KindCluster, w)
	if err != nil {
		return nil, fmt.Errorf("read history of clusters: %w", err)
	}
	var names []string
	for _, o := range objects {
		names = append(names, o.Name())
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// readLabels reads the pods' labels. It returns when a pod's labels changed while it
// lived.
func (t *tally) readLabels(ctx context.Context, clusters []string) (cuts []time.Time, err error) {
	for _, cluster := range clusters {
		byPod, err := t.engine.podLabels(ctx, cluster, t.window)
		if err != nil {
			return nil, err
		}
		for _, versions := range byPod {
			for _, changed := range versions[1:] {
				cuts = append(cuts, changed.From)
			}
		}
		t.labels[cluster] = byPod
	}
	return cuts, nil
}

// cluster adds what one cluster used.
func (t *tally) cluster(ctx context.Context, cluster string, parts []slice, known days) error {
	if t.bills != nil && byCells(parts) && cluster != schema.BoxCluster {
		for _, part := range parts {
			if err := t.bills.cluster(ctx, t, cluster, part); err != nil {
				return err
			}
		}
		return nil
	}
	open := t.work.open(cluster)
	if cluster != schema.BoxCluster {
		end := t.ends[cluster]
		t.settled = end
		if end.Before(t.window.To) && !end.IsZero() {
			open = append(open, schema.Window{From: schema.Later(end, t.window.From), To: t.window.To})
		}
	}
	t.open[cluster] = open
	var err error
	if t.metering, err = t.engine.registry.MeteringNamespaces(ctx, cluster); err != nil {
		return err
	}
	coarse := !t.need.podRows && t.request.Step%schema.Quarter == 0
	all := make([][]run, len(parts))
	for i, part := range parts {
		all[i] = known.cut(runs(part.Window, open, coarse))
		if err := t.presence(ctx, cluster, known, all[i]); err != nil {
			return err
		}
	}
	for i, part := range parts {
		if err := t.part(ctx, cluster, part, known, all[i]); err != nil {
			return err
		}
	}
	return nil
}

// part adds what a cluster used while no fact changed.
func (t *tally) part(ctx context.Context, cluster string, part slice, known days, all []run) error {
	for _, r := range all {
		sources := t.sources(cluster, r.whole)
		if r.byDay {
			if err := t.readDays(ctx, cluster, part, known, r, sources); err != nil {
				return err
			}
			continue
		}
		for _, source := range sources {
			if t.keepsNone(source) {
				continue
			}
			if err := t.read(ctx, cluster, part, r, source); err != nil {
				return err
			}
		}
	}
	if t.request.About != usage.AboutUsage || t.assets || t.brief {
		return nil
	}
	return t.extended(ctx, cluster, part)
}

// share is the part of a step of which the cluster has rows, 0 to 1.
func (t *tally) share(cluster string, b schema.Window) float64 {
	if cluster == schema.BoxCluster {
		return 1
	}
	return min(1, t.alive[aliveKey{cluster, b.From.Unix()}]/float64(b.Length().Milliseconds()))
}

func (t *tally) bucketAt(at time.Time) schema.Window {
	if t.request.Step == 0 {
		return t.window
	}
	return usage.Bucket(t.window, t.request.Step, at)
}

// source is a table with the quantities to take from it.
type source struct {
	db    Reader
	table schema.Table
	take  []usage.Quantity
	lacks []string // tags that it does not have
	more  []string // tags to group by that it alone has
}

func (t *tally) sources(cluster string, whole bool) []source {
	db, energy, node, volume := t.engine.stores.Minute, schema.EnergyMinute, schema.NodeMinute, schema.VolumeMinute
	if whole {
		db, energy, node, volume = t.engine.stores.Quarter, schema.EnergyQuarter, schema.NodeQuarter, schema.VolumeQuarter
	}
	if t.request.About != usage.AboutUsage {
		return t.figureSources(cluster, whole)
	}
	if t.assets {
		return assetSources(cluster, db, node)
	}
	take := usage.OfEnergy
	if t.figures {
		take = append(slices.Clone(take), usage.Heat, usage.CarbonLocation, usage.CarbonLocationEnergy)
	}
	sources := []source{{db, energy, take, []string{schema.Container}, nil}}
	if cluster == schema.BoxCluster {
		return sources
	}
	if sources = append(sources, source{db, node, usage.OfNodes, podTags, nil}); t.brief {
		return sources
	}
	sources = append(sources, source{db, volume, usage.OfVolumes, volumeLacks, t.volumeTags()})
	switch {
	case whole:
		sources = append(sources, source{db, schema.UsageQuarter, usage.OfPods, nil, nil})
	case t.need.columns:
		sources = append(sources, source{db, schema.ContainerMinute, usage.OfContainers, nil, nil},
			source{db, schema.PodMinute, usage.OfSandboxes, []string{schema.Container}, nil})
	default:
		sources = append(sources, source{db, schema.PodMinute, usage.OfPods, nil, nil})
	}
	return sources
}

// volumeTags are what volumes are grouped by beside their namespace: always by
// class, for its price.
func (t *tally) volumeTags() []string {
	tags := []string{schema.StorageClass}
	if t.request.Uses(usage.Claim) {
		tags = append(tags, schema.Claim)
	}
	if t.request.Uses(usage.Storage) {
		tags = append(tags, schema.Storage)
	}
	return tags
}

// volumeLacks are the tags that volumes do not have: they are the cluster's, not a
// node's.
var volumeLacks = []string{schema.Node, schema.Box, schema.Pod, schema.PodUID, schema.Container, schema.WorkloadKind, schema.Workload}

// podTags are the tags that say whose something is below a node.
var podTags = []string{schema.Namespace, schema.Pod, schema.PodUID, schema.Container, schema.WorkloadKind, schema.Workload}

// read adds the sums of one table over one run. What a node is counted for
// itself stands under its system namespace.
func (t *tally) read(ctx context.Context, cluster string, part slice, r run, from source) error {
	q := influxsync.Query{Aggregate: "sum", From: from.table.Name, Window: r.Window, Every: t.every(part)}
	for _, quantity := range from.take {
		q.Select = append(q.Select, quantity.Field())
	}
	lacks := func(tag string) bool { return slices.Contains(from.lacks, tag) }
	q.Group = t.groupBy(from)
	for _, condition := range t.where(cluster) {
		if !lacks(condition.Tag) {
			q.Where = append(q.Where, condition)
		}
	}
	return from.db.Query(ctx, q, func(p influxsync.Point) error {
		var sums Sums
		for _, quantity := range from.take {
			sums[quantity] = p.Int(quantity.Field())
		}
		return t.count(cluster, part, from, lacks(schema.Namespace), p, t.bucketAt(p.Time), &sums)
	})
}

// keepsNone says that the filter keeps no row of a source, by the keys that its rows do
// not have: those of a node itself have no pod, for instance.
func (t *tally) keepsNone(from source) bool {
	lacks := func(tag string) bool { return slices.Contains(from.lacks, tag) }
	fixed := make(map[Key]string)
	if lacks(schema.Pod) {
		fixed[Pod] = ""
	}
	if lacks(schema.Workload) && lacks(schema.WorkloadKind) {
		fixed[Workload] = ""
	}
	if lacks(schema.Namespace) { // as identify has it
		fixed[Namespace], fixed[Pod] = schema.SystemNamespace, schema.SystemNamespace
	}
	for key, value := range fixed {
		if !usage.KeepsAll(t.request.Filter, key, value) {
			return true
		}
	}
	return false
}

// groupBy are the tags that tell groups of a table apart.
func (t *tally) groupBy(from source) []string {
	var tags []string
	for _, tag := range t.need.tags {
		if !slices.Contains(from.lacks, tag) {
			tags = append(tags, tag)
		}
	}
	return append(tags, from.more...)
}

// where narrows the reading by what is a tag and has one value, or one beginning: of
// the tables of minutes, whose series are pods that ran at some time of the day, each
// series costs, also where it has nothing in the window. add looks at what is read.
func (t *tally) where(cluster string) []influxsync.Condition {
	conditions := []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}
	for _, c := range t.request.Filter {
		if len(c.Values) != 1 {
			continue
		}
		begins, _, open := strings.Cut(c.Values[0], "*")
		tag := map[Key]string{Namespace: schema.Namespace, Node: schema.Node, Pod: schema.Pod}[c.Key]
		switch kind, name, _ := strings.Cut(begins, "/"); {
		case tag != "" && !open:
			conditions = append(conditions, influxsync.Condition{Tag: tag, Value: begins})
		case tag != "" && begins != "" && !strings.ContainsAny(begins, "\x00\r\n\\"): // else no statement can have it
			conditions = append(conditions, influxsync.Condition{Tag: tag, Value: begins, Prefix: true})
		case c.Key == Workload && !open && kind != "" && name != "":
			conditions = append(conditions, influxsync.Condition{Tag: schema.WorkloadKind, Value: kind}, influxsync.Condition{Tag: schema.Workload, Value: name})
		}
	}
	return conditions
}

// add counts one group's sums into its row, at the prices of the quarter that holds
// at.
func (t *tally) add(who *identity, b schema.Window, at time.Time, sums *Sums, named processors.Quantities) error {
	for _, c := range t.request.Filter {
		if !c.Keeps(who.value(c.Key)) {
			return nil
		}
	}
	if !t.scopes.keeps(who) {
		return nil
	}
	row, err := t.row(who, b)
	if err != nil {
		return err
	}
	if err := row.Count(sums, t.share(who.cluster, b)); err != nil {
		return err
	}
	if err := row.CountNamed(named); err != nil {
		return err
	}
	if t.labelled && who.pod != "" {
		row.carry(who.labels)
	}
	row.Open = row.Open || overlaps(t.open[who.cluster], b)
	t.boxes[who.box], t.seen[who.cluster] = true, true
	if t.request.About != usage.AboutUsage {
		return nil
	}
	payer := t.pricing.payerOf(who)
	if !payer.priced {
		return nil
	}
	excluded := payer.list.Excludes(who.namespace, t.metering)
	if t.bills != nil && !excluded {
		return t.bills.add(t.pricing, payer.list, who, at, sums, named)
	}
	who.as = t.as
	prices, err := t.pricing.find(payer, who, t.costsAt(at))
	switch {
	case err != nil:
		return err
	case excluded:
		return row.excluded.add(prices, sums, named)
	}
	return row.prices.add(prices, sums, named)
}

func overlaps(windows []schema.Window, w schema.Window) bool {
	return slices.ContainsFunc(windows, func(o schema.Window) bool { return w.Overlap(o.From, o.To) > 0 })
}

// tells says whether the answer may name a cluster: a tenant hears of those that
// are his, and of those in which he has something in the answer.
func (t *tally) tells(cluster string) bool {
	return t.seen[cluster] || t.scopes.owns(cluster, fleetsOf(t.parts)...)
}
