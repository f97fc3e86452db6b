package query

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// slice is a part of the window in which no fact changes, with the facts.
type slice struct {
	schema.Window
	fleet *fleet.Fleet
}

// slices cuts the window where an object begins or ceases to hold. A change
// inside a minute counts from the next minute on.
func (e *Engine) slices(ctx context.Context, w schema.Window, extra []time.Time) ([]slice, error) {
	cuts, err := e.registry.Cuts(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("read changes of the fleet: %w", err)
	}
	cuts = append(cuts, extra...)
	var parts []slice
	for _, part := range cutAt(w, cuts) {
		snapshot, err := e.registry.Fleet(ctx, part.From)
		if err != nil {
			return nil, fmt.Errorf("read fleet at %s: %w", part.From.Format(time.RFC3339), err)
		}
		parts = append(parts, slice{part, snapshot})
	}
	return parts, nil
}

// cutAt cuts the window at the moments inside it, each rounded up to a minute.
func cutAt(w schema.Window, moments []time.Time) []schema.Window {
	edges := []time.Time{w.From, w.To}
	for _, t := range moments {
		if t.IsZero() {
			continue
		}
		edge := t.UTC().Truncate(schema.Minute)
		if edge.Before(t) {
			edge = edge.Add(schema.Minute)
		}
		if edge.After(w.From) && edge.Before(w.To) {
			edges = append(edges, edge)
		}
	}
	slices.SortFunc(edges, time.Time.Compare)
	edges = slices.CompactFunc(edges, time.Time.Equal)
	parts := make([]schema.Window, 0, len(edges)-1)
	for i := 1; i < len(edges); i++ {
		parts = append(parts, schema.Window{From: edges[i-1], To: edges[i]})
	}
	return parts
}

// run is a part of a slice that is read from one grain.
type run struct {
	schema.Window
	whole bool // whole quarters, none of them open
}

// runs splits a slice into its whole closed quarters and the minutes between
// and around them; neighbours of one grain are one run.
func runs(w schema.Window, open []schema.Window, coarse bool) []run {
	if !coarse {
		return []run{{Window: w}}
	}
	isOpen := make(map[int64]bool, len(open))
	for _, quarter := range open {
		for _, part := range quarter.Split(schema.Quarter) {
			isOpen[part.From.Truncate(schema.Quarter).Unix()] = true
		}
	}
	var all []run
	for _, part := range w.Split(schema.Quarter) {
		whole := part.Length() == schema.Quarter && !isOpen[part.From.Unix()]
		if last := len(all) - 1; last >= 0 && all[last].whole == whole {
			all[last].To = part.To
			continue
		}
		all = append(all, run{Window: part, whole: whole})
	}
	return all
}

// bucket is the step that holds t: [start, end) within the window.
func bucket(w schema.Window, step time.Duration, t time.Time) schema.Window {
	if step == 0 {
		return w
	}
	b := schema.WindowAt(t, step)
	if b.From.Before(w.From) {
		b.From = w.From
	}
	if b.To.After(w.To) {
		b.To = w.To
	}
	return b
}

// need is what a question makes necessary to read.
type need struct {
	assign  bool     // customer, project or user
	labels  bool     // pods' labels, of rules or asked for
	podRows bool     // only the tables with a row per pod can answer
	columns bool     // container
	tags    []string // to group by
}

// needs looks at the question and at the facts of every slice.
func needs(request Request, parts []slice) need {
	n := need{assign: request.uses(Customer, Project, User), labels: request.usesLabels(), columns: request.uses(Container)}
	for _, part := range parts {
		for _, list := range part.fleet.PriceLists() {
			n.assign = n.assign || len(list.Customers) > 0
		}
	}
	for _, part := range parts {
		for _, rule := range part.fleet.Assignments() {
			n.labels = n.labels || n.assign && len(rule.Labels) > 0
		}
	}
	n.podRows = n.labels || n.columns || request.uses(Pod)
	add := func(wanted bool, tags ...string) {
		if wanted {
			n.tags = append(n.tags, tags...)
		}
	}
	add(request.uses(Node, Box, Hardware), schema.Node, schema.Box)
	add(n.assign || n.labels || request.uses(Namespace), schema.Namespace)
	add(request.uses(Workload), schema.WorkloadKind, schema.Workload)
	add(request.uses(Pod), schema.Pod)
	add(n.labels, schema.PodUID)
	add(n.columns, schema.Container)
	return n
}
