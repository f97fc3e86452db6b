package query

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
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
	for _, part := range usage.CutAt(w, cuts) {
		snapshot, err := e.registry.Fleet(ctx, part.From)
		if err != nil {
			return nil, fmt.Errorf("read fleet at %s: %w", part.From.Format(time.RFC3339), err)
		}
		parts = append(parts, slice{part, snapshot})
	}
	return parts, nil
}

// run is a part of a slice that is read from one grain.
type run struct {
	schema.Window
	whole bool // whole quarters, none of them open
	byDay bool // whole days of UTC too, whose sums are known
}

// runs splits a slice into its whole closed quarters and the minutes between
// and around them; neighbours of one grain are one run.
func runs(w schema.Window, open []schema.Window, coarse bool) []run {
	if !coarse {
		return []run{{Window: w}}
	}
	at := w.From
	var all []run
	add := func(to time.Time, whole bool) {
		if to = schema.Earlier(to, w.To); !at.Before(to) {
			return
		}
		if last := len(all) - 1; last >= 0 && all[last].whole == whole {
			all[last].To = to
		} else {
			all = append(all, run{Window: schema.Window{From: at, To: to}, whole: whole})
		}
		at = to
	}
	end := w.To.Truncate(schema.Quarter)
	closed := func(to time.Time) { // up to there no quarter is open
		if first := schema.WindowAt(at.Add(-1), schema.Quarter).To; first.After(at) {
			add(first, false)
		}
		add(schema.Earlier(to, end), true)
		add(to, false)
	}
	for _, o := range usage.Joined(open) {
		if o.To.After(at) && o.From.Before(w.To) {
			closed(o.From.Truncate(schema.Quarter))
			add(schema.WindowAt(o.To.Add(-1), schema.Quarter).To, false)
		}
	}
	closed(w.To)
	return all
}

// need is what a question makes necessary to read.
type need struct {
	assign   bool     // customer, project or user
	labels   bool     // pods' labels, of rules or asked for
	podRows  bool     // only the tables with a row per pod can answer
	columns  bool     // container
	hardware bool     // nodes, for a price list has rates for some hardware alone
	spaces   bool     // namespaces, for a price list excludes some
	tags     []string // to group by
}

// add groups by the tags too.
func (n *need) add(tags ...string) {
	for _, tag := range tags {
		if !slices.Contains(n.tags, tag) {
			n.tags = append(n.tags, tag)
		}
	}
}

// needs looks at the question and at the facts of every slice.
func needs(request Request, parts []slice, scopes bounds) need {
	n := need{assign: request.Uses(Customer, Project, User) || scopes.customers(), labels: request.UsesLabels() || scopes.labels(), columns: request.Uses(Container),
		spaces: scopes.namespaces()}
	for _, part := range parts {
		if request.About != usage.AboutUsage {
			break // it has no price
		}
		for _, list := range part.fleet.PriceLists() {
			n.assign = n.assign || list.ForCustomers()
			n.hardware = n.hardware || list.MatchesHardware()
			n.spaces = n.spaces || list.ExcludesAny()
		}
	}
	for _, part := range parts {
		for _, rule := range part.fleet.Assignments() {
			n.labels = n.labels || n.assign && len(rule.Labels) > 0
		}
	}
	n.podRows = n.labels || n.columns || request.Uses(Pod)
	add := func(wanted bool, tags ...string) {
		if wanted {
			n.tags = append(n.tags, tags...)
		}
	}
	add(request.Uses(Node, Box, Hardware) || request.About == usage.AboutCarbon || n.hardware, schema.Node, schema.Box) // carbon names the boxes' sources
	add(n.assign || n.labels || n.spaces || request.Uses(Namespace), schema.Namespace)
	add(request.Uses(Workload), schema.WorkloadKind, schema.Workload)
	add(request.Uses(Pod), schema.Pod)
	add(n.labels, schema.PodUID)
	add(n.columns, schema.Container)
	return n
}
