package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// Whole says whether all that the filter keeps in a window is in the context's scopes,
// and something is. What is told of something as a whole, such as a finished run, is
// told where this holds. It says no other thing of what lies outside.
func (e *Engine) Whole(ctx context.Context, w schema.Window, filter []Condition) (bool, error) {
	if !Scoped(ctx) {
		return true, nil
	}
	question := Request{About: usage.AboutUsage, Filter: filter}
	own, err := e.sumOf(ctx, question, w)
	if err != nil || own == (Sums{}) {
		return false, err
	}
	all, err := e.sumOf(context.WithValue(ctx, scopeKey{}, bounds(nil)), question, w)
	return err == nil && own == all, err
}

// sumOf adds up all that a question keeps.
func (e *Engine) sumOf(ctx context.Context, question Request, w schema.Window) (Sums, error) {
	table, err := e.tally(ctx, question, w)
	if err != nil {
		return Sums{}, err
	}
	var sums Sums
	for _, row := range table.rowsByID {
		if err := sums.Add(&row.Sums); err != nil {
			return Sums{}, err
		}
	}
	return sums, nil
}

// Metered are the starts of the steps of a window in which there are rows of nodes of
// any cluster that the caller may have something in: what lies in none of them is not
// known, and not unused.
func (e *Engine) Metered(ctx context.Context, w schema.Window, step time.Duration) ([]time.Time, error) {
	parts, err := e.slices(ctx, w, nil)
	if err != nil {
		return nil, err
	}
	clusters, err := e.clusters(ctx, w)
	if err != nil {
		return nil, err
	}
	clusters = slices.DeleteFunc(clusters, func(name string) bool { return !scopesOf(ctx).reads(name, fleetsOf(parts)...) })
	found := make(map[int64]bool)
	if step%schema.Quarter == 0 {
		if err := e.present(ctx, e.stores.Quarter, schema.NodeQuarter, clusters, w, w, step, found); err != nil {
			return nil, err
		}
	}
	var missing []schema.Window // neighbours are one: what is closed has quarters
	for at := w.From; at.Before(w.To); {
		b := usage.Bucket(w, step, at)
		at = b.To
		if last := len(missing) - 1; found[b.From.Unix()] {
			continue
		} else if last >= 0 && missing[last].To.Equal(b.From) {
			missing[last].To = b.To
		} else {
			missing = append(missing, b)
		}
	}
	for _, part := range missing {
		if err := e.present(ctx, e.stores.Minute, schema.NodeMinute, clusters, part, w, step, found); err != nil {
			return nil, err
		}
	}
	var starts []time.Time
	for from := range found {
		starts = append(starts, time.Unix(from, 0).UTC())
	}
	slices.SortFunc(starts, time.Time.Compare)
	return starts, nil
}

// present notes in which steps of w a part of it has rows of nodes.
func (e *Engine) present(ctx context.Context, db Reader, table schema.Table, clusters []string, part, w schema.Window, step time.Duration, found map[int64]bool) error {
	for _, cluster := range clusters {
		q := influxsync.Query{Select: []string{schema.Uptime}, Aggregate: "sum", From: table.Name, Window: part, Every: step,
			Where: []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}}
		err := db.Query(ctx, q, func(p influxsync.Point) error {
			if p.Int(schema.Uptime) != 0 {
				found[usage.Bucket(w, step, p.Time).From.Unix()] = true
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("nodes of %s: %w", cluster, err)
		}
	}
	return nil
}

// Payer is a customer who is billed for something in a cluster; "" is nobody.
type Payer struct{ Cluster, Customer string }

// Payers are who is billed where by the facts of a fleet, as far as the context's
// scopes hold it, ordered. A scope of namespaces or labels without customers has
// those whom a rule names that lies in it, and the cluster's own where no rule could
// give a part of the cluster to another. Inside a scope a cluster is named where it is
// the caller's, where a rule of his names it, or where used says that he has something.
func Payers(ctx context.Context, f *fleet.Fleet, used map[string]bool) []Payer {
	var all []Payer
	for _, c := range f.Clusters() {
		fallback := fleet.Assignment{Cluster: c.Name}
		rules := slices.DeleteFunc(f.Assignments(), func(a fleet.Assignment) bool { return a.Cluster != "" && a.Cluster != c.Name })
		shared := slices.ContainsFunc(rules, func(a fleet.Assignment) bool { return a.Customer != "" && a.Customer != c.Customer })
		for _, rule := range append(rules, fallback) {
			who := Payer{c.Name, cmp.Or(rule.Customer, c.Customer)}
			known := used[c.Name] || rule.Customer != "" && rule.Cluster != "" || scopesOf(ctx).owns(c.Name, f)
			if known && !slices.ContainsFunc(scopesOf(ctx), func(s usage.Scope) bool { return !pays(s, who, rule, shared) }) {
				all = append(all, who)
			}
		}
	}
	slices.SortFunc(all, func(a, b Payer) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Customer, b.Customer))
	})
	return slices.Compact(all)
}

// pays says whether a scope holds something that the payer is billed for by a rule, in
// a cluster that is shared or not.
func pays(s usage.Scope, who Payer, rule fleet.Assignment, shared bool) bool {
	switch {
	case !s.KeepsCluster(who.Cluster):
		return false
	case len(s.Customers) > 0:
		return slices.Contains(s.Customers, who.Customer)
	case len(s.Namespaces) == 0 && len(s.Labels) == 0:
		return true
	case rule.Namespace == "" && len(rule.Labels) == 0: // whatever no rule gives to somebody
		return !shared
	}
	// A pattern that another one matches as a text lies in it, but for ? and [a-z].
	return !strings.ContainsAny(rule.Namespace, "?[") && s.Keeps(who.Customer, who.Cluster, rule.Namespace, rule.Labels)
}
