package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// quarterOf is the start of the quarter that holds t.
func quarterOf(t time.Time) time.Time { return t.UTC().Truncate(schema.Quarter) }

// loose begins the scope of a node that stands in no box.
const loose = "node:"

// LooseScope is the scope of ProcessorPower for a node that stands in no box.
// No box can have such a name.
func LooseScope(cluster, node string) string { return loose + cluster + "/" + node }

// LooseNode is the node of a LooseScope; false of a box.
func LooseNode(scope string) (cluster, node string, ok bool) {
	rest, ok := strings.CutPrefix(scope, loose)
	cluster, node, _ = strings.Cut(rest, "/")
	return cluster, node, ok
}

// reach is what one change touches: boxes, whose power is computed again (and
// heat, carbon and cost after it), clusters, whose cost is, and boxes of which
// heat or carbon alone is. Of the clusters in carbonOf, carbon is also of those
// nodes that nobody has described.
type reach struct{ boxes, clusters, heat, carbon, carbonOf map[string]bool }

func newReach() reach {
	return reach{make(map[string]bool), make(map[string]bool), make(map[string]bool), make(map[string]bool), make(map[string]bool)}
}

// world answers who stands where in a stretch of time, before or after a change.
type world []fleet.Object

// affected is the work that the edits make due: for each stretch of time in
// which an object says something else, the quarters that hold data.
func (r *Registry) affected(ctx context.Context, q queryer, edits []edit, existing []fleet.Object) ([]Due, error) {
	if len(edits) == 0 {
		return nil, nil
	}
	first, err := firstQuarters(ctx, q)
	if err != nil || len(first) == 0 { // nothing was received that could change
		return nil, err
	}
	all := world(slices.Clone(existing))
	for _, e := range edits {
		for _, s := range e.new {
			all = append(all, s.object(e.kind, e.name))
		}
	}
	reasons := make(map[Due]string)
	now := nanos(r.clock.Now())
	stretches := make(map[[2]int64]stretch) // many edits change the same time
	for _, e := range edits {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, d := range deltas(e.old, e.new) {
			stretch, known := stretches[[2]int64{d.from, d.to}]
			if !known {
				stretch = all.in(d).since(first)
				stretches[[2]int64{d.from, d.to}] = stretch
			}
			touched := stretch.touched(e.key, d)
			if err := touched.undescribed(ctx, q, stretch); err != nil {
				return nil, err
			}
			reason := fmt.Sprintf("%s/%s changed", e.kind, e.name)
			for processor, boxes := range map[string]map[string]bool{ProcessorPower: touched.boxes, ProcessorHeat: touched.heat, ProcessorCarbon: touched.carbon} {
				for box := range boxes {
					stretch.quarters(d, now, stretch.earliest(box), func(at time.Time) {
						reasons[Due{Processor: processor, Scope: box, Quarter: at}] = reason
					})
				}
			}
			for cluster := range touched.clusters {
				if since, ok := first[cluster]; ok {
					stretch.quarters(d, now, since, func(at time.Time) {
						reasons[Due{Processor: ProcessorCost, Scope: cluster, Quarter: at}] = reason
					})
				}
			}
		}
	}
	return sortedDue(reasons), nil
}

// sortedDue is work with its reasons, in the order in which it is done.
func sortedDue(reasons map[Due]string) []Due {
	due := make([]Due, 0, len(reasons))
	for d, reason := range reasons {
		d.Reason = reason
		due = append(due, d)
	}
	slices.SortFunc(due, compareDue)
	return due
}

func compareDue(a, b Due) int {
	if a.Processor != b.Processor {
		return -strings.Compare(a.Processor, b.Processor) // power before cost
	}
	if c := a.Quarter.Compare(b.Quarter); c != 0 {
		return c
	}
	return strings.Compare(a.Scope, b.Scope)
}

// firstQuarters are the first quarters of which anything was received.
func firstQuarters(ctx context.Context, q queryer) (map[string]int64, error) {
	first := make(map[string]int64)
	err := each(ctx, q, func(scan func(...any) error) error {
		var cluster string
		var quarter int64
		if err := scan(&cluster, &quarter); err != nil {
			return err
		}
		if known, ok := first[cluster]; !ok || quarter < known {
			first[cluster] = quarter
		}
		return nil
	}, `SELECT m.cluster, (SELECT l.quarter FROM ledger l WHERE l.cluster = m.cluster AND l.tbl = m.tbl ORDER BY l.quarter LIMIT 1) AS q
		FROM mark m WHERE q IS NOT NULL
		UNION ALL SELECT m.cluster, (SELECT d.window_from - d.window_from % ? FROM ledger_day d
			WHERE d.cluster = m.cluster AND d.tbl = m.tbl ORDER BY d.day LIMIT 1) AS q FROM mark m WHERE q IS NOT NULL`, int64(schema.Quarter))
	return first, err
}

// in are the objects that hold in the stretch.
func (w world) in(d delta) world {
	var found world
	for _, o := range w {
		if s := spanOf(o); s.from < d.to && d.from < s.to {
			found = append(found, o)
		}
	}
	return found
}

// quarters calls f with each quarter that the stretch touches and that lies
// between the first received one and now.
func (world) quarters(d delta, now, first int64, f func(time.Time)) {
	from, to := max(d.from, first), min(d.to, now)
	if from >= to {
		return
	}
	for at := quarterOf(moment(from)); nanos(at) < to; at = at.Add(schema.Quarter) {
		f(at)
	}
}

// stretch is a world with the first received quarter of each power scope.
type stretch struct {
	world
	first, received map[string]int64
}

// since tells for each box, and each node for itself, the first received quarter
// of the clusters in it.
func (w world) since(received map[string]int64) stretch {
	s := stretch{w, make(map[string]int64), received}
	for _, o := range w {
		n, ok := o.Spec.(fleet.Node)
		since, known := received[n.Cluster]
		if !ok || !known {
			continue
		}
		for _, scope := range []string{n.Box, LooseScope(n.Cluster, n.Node)} {
			if before, had := s.first[scope]; !had || since < before {
				s.first[scope] = since
			}
		}
	}
	return s
}

// earliest is the first received quarter of the clusters in a box, or of an
// undescribed node's cluster.
func (s stretch) earliest(box string) int64 {
	if cluster, _, ok := LooseNode(box); ok {
		if since, known := s.received[cluster]; known {
			return since
		}
	}
	if since, known := s.first[box]; known {
		return since
	}
	return forever
}

// touched is what a change of an object reaches.
func (w world) touched(k key, d delta) reach {
	to := newReach()
	for _, spec := range []fleet.Spec{d.old, d.new} {
		switch s := spec.(type) {
		case fleet.Customer:
			if differs(d, "spec.currency") {
				w.customer(k.name, to)
			}
		case fleet.Cluster:
			if differs(d, "spec.region") { // it may be on another grid, or have another contract
				w.carbonOf(to, func(cluster fleet.Cluster) bool { return cluster.Name == k.name })
			}
			if differs(d, "spec.provider", "spec.region") { // rates may be for either
				to.clusters[k.name] = true
			}
			if differs(d, "spec.customer") {
				to.clusters[k.name] = true
				w.nodes(to, func(n fleet.Node) bool { return n.Cluster == k.name })
			}
		case fleet.Box:
			if differs(d, "spec.overheadWatts", "spec.idlePolicy") {
				to.boxes[k.name] = true
			}
			if differs(d, "spec.heatFraction") {
				to.heat[k.name] = true
			}
			if differs(d, "spec.site") { // it joins or leaves those that a meter counts
				w.metered(to, func(m fleet.Meter) bool { return slices.Contains(m.Boxes, k.name) || m.Site != "" && m.Site == s.Site })
			}
		case fleet.Hardware:
			if differs(d, "spec.embodiedKg", "spec.lifetimeYears") {
				to.carbonOfNodes(w, func(n fleet.Node) bool { return n.Hardware == k.name })
			}
			if differs(d, "spec.idleWatts", "spec.maxWatts", "spec.cores", "spec.year") || curvesDiffer(d) {
				w.nodes(to, func(n fleet.Node) bool { return n.Hardware == k.name })
			}
		case fleet.Node:
			to.node(s)
			if d.old == nil || d.new == nil { // until it was described, or from now on, it stands in no box
				to.boxes[LooseScope(s.Cluster, s.Node)] = true
			}
			to.clusters[s.Cluster] = true
		case fleet.Meter:
			if differs(d, "spec.box", "spec.boxes", "spec.site", "spec.node", "spec.driver", "spec.url", "spec.channel", "spec.stepJoules", "spec.lag", "spec.accuracyClass") {
				w.counted(to, s)
			}
		case fleet.Assignment:
			w.clusters(to, s.Cluster)
		case fleet.PriceList:
			w.prices(s, to)
		case fleet.HeatSource:
			to.heat[s.Box] = true
		case fleet.Grid:
			w.carbon(s.Binding, to)
		case fleet.EnergyContract:
			w.carbon(s.Binding, to)
		case fleet.PriceSeries: // its prices come, or not
		case fleet.ExchangeRates: // no stored cost is converted
		}
	}
	w.together(to)
	return to
}

// together adds the boxes that share a meter with one that is reached: what one of
// them draws changes the others' shares.
func (w world) together(to reach) {
	if len(to.boxes) == 0 {
		return
	}
	for _, o := range w {
		m, ok := o.Spec.(fleet.Meter)
		if !ok || m.Site == "" && len(m.Boxes) == 0 {
			continue
		}
		counted := reach{boxes: make(map[string]bool)}
		w.counted(counted, m)
		for box := range counted.boxes {
			if to.boxes[box] {
				maps.Copy(to.boxes, counted.boxes)
				break
			}
		}
	}
}

// differs says whether the change adds, ends or alters one of the fields.
func differs(d delta, fields ...string) bool {
	if d.old == nil || d.new == nil {
		return true
	}
	for _, c := range fleet.FieldChanges(fleet.Object{Spec: d.old}, fleet.Object{Spec: d.new}) {
		if slices.ContainsFunc(fields, func(f string) bool { return c.Field == f || strings.HasPrefix(c.Field, f+".") }) {
			return true
		}
	}
	return false
}

// curvesDiffer says whether the change alters a type's declared curve.
func curvesDiffer(d delta) bool {
	before, _ := d.old.(fleet.Hardware)
	after, _ := d.new.(fleet.Hardware)
	return !slices.Equal(before.Curve, after.Curve)
}

// node adds the box of a node, or the node itself where it stands in none.
func (to reach) node(n fleet.Node) {
	if n.Box == "" {
		to.boxes[LooseScope(n.Cluster, n.Node)] = true
		return
	}
	to.boxes[n.Box] = true
}

// metered adds what the matching meters count.
func (w world) metered(to reach, match func(fleet.Meter) bool) {
	for _, o := range w {
		if m, ok := o.Spec.(fleet.Meter); ok && match(m) {
			w.counted(to, m)
		}
	}
}

// counted adds the boxes that a meter counts.
func (w world) counted(to reach, m fleet.Meter) {
	if m.Box != "" {
		to.boxes[m.Box] = true
	}
	for _, box := range m.Boxes {
		to.boxes[box] = true
	}
	for _, o := range w {
		if b, ok := o.Spec.(fleet.Box); ok && m.Site != "" && b.Site == m.Site {
			to.boxes[o.Name()] = true
		}
	}
}

// nodes adds the boxes of the matching nodes.
func (w world) nodes(to reach, match func(fleet.Node) bool) {
	for _, o := range w {
		if n, ok := o.Spec.(fleet.Node); ok && match(n) {
			to.node(n)
		}
	}
}

// clusters adds the named cluster, or all for "".
func (w world) clusters(to reach, name string) {
	for _, o := range w {
		if o.Kind == fleet.KindCluster && (name == "" || name == o.Name()) {
			to.clusters[o.Name()] = true
		}
	}
}

// customer adds the clusters that a customer owns or uses.
func (w world) customer(name string, to reach) {
	for _, o := range w {
		switch s := o.Spec.(type) {
		case fleet.Cluster:
			if s.Customer == name {
				to.clusters[o.Name()] = true
			}
		case fleet.Assignment:
			if s.Customer == name {
				w.clusters(to, s.Cluster)
			}
		}
	}
}

func (w world) prices(list fleet.PriceList, to reach) {
	for _, cluster := range list.Clusters {
		to.clusters[cluster] = true
	}
	for _, customer := range list.Customers {
		w.customer(customer, to)
	}
	if len(list.Clusters)+len(list.Customers) == 0 {
		w.clusters(to, "")
	}
}
