package processors

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// canonical is the input with nodes, minutes and meters in the order of their
// keys. Pods are ordered where they are used.
func (in PowerInput) canonical() PowerInput {
	in.Nodes, in.Meters = slices.Clone(in.Nodes), slices.Clone(in.Meters)
	slices.SortStableFunc(in.Nodes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name), a.From.Compare(b.From))
	})
	byTime := func(a, b NodeMinute) int { return a.Time.Compare(b.Time) }
	for i := range in.Nodes {
		if rows := in.Nodes[i].Minutes; !slices.IsSortedFunc(rows, byTime) {
			rows = slices.Clone(rows)
			slices.SortStableFunc(rows, byTime)
			in.Nodes[i].Minutes = rows
		}
	}
	slices.SortStableFunc(in.Meters, func(a, b Meter) int { return cmp.Compare(a.Name, b.Name) })
	return in
}

// check looks for contradictions in a canonical input.
func (in PowerInput) check() error {
	w := in.Window
	if !w.From.Before(w.To) || !w.From.Equal(w.From.Truncate(schema.Minute)) || !w.To.Equal(w.To.Truncate(schema.Minute)) {
		return fmt.Errorf("window %s is no whole minutes: %w", w, ErrInput)
	}
	for i, node := range in.Nodes {
		if i > 0 && in.Nodes[i-1].overlaps(node) {
			return fmt.Errorf("node %s/%s stands twice at one time: %w", node.Cluster, node.Name, ErrInput)
		}
		if err := node.check(); err != nil {
			return fmt.Errorf("node %s/%s: %w", node.Cluster, node.Name, err)
		}
	}
	for i, m := range in.Meters {
		if i > 0 && in.Meters[i-1].Name == m.Name {
			return fmt.Errorf("meter %s stands twice: %w", m.Name, ErrInput)
		}
		if err := m.check(); err != nil {
			return err
		}
		for _, other := range m.Others {
			for _, own := range other.Meters {
				if own.part() || len(own.Others) > 0 {
					return fmt.Errorf("meter %s of box %s counts not that box alone: %w", own.Name, other.Name, ErrInput)
				}
				if err := own.check(); err != nil {
					return err
				}
			}
		}
		if m.part() && len(m.Others) > 0 {
			return fmt.Errorf("meter %s counts a node and other boxes: %w", m.Name, ErrInput)
		}
	}
	return nil
}

// overlaps says whether the entry before it, in canonical order, is of the same
// node and still valid when this one begins.
func (n Node) overlaps(next Node) bool {
	return n.Cluster == next.Cluster && n.Name == next.Name && (n.To.IsZero() || n.To.After(next.From))
}

func (n Node) check() error {
	if err := CheckCurve(n.Hardware.Curve); err != nil {
		return err
	}
	for i, row := range n.Minutes {
		if !row.Time.Equal(row.Time.Truncate(schema.Minute)) {
			return fmt.Errorf("row at %s is no minute: %w", row.Time.Format(time.RFC3339Nano), ErrInput)
		}
		if i > 0 && row.Time.Equal(n.Minutes[i-1].Time) {
			return fmt.Errorf("two rows at %s: %w", row.Time.Format(time.RFC3339), ErrInput)
		}
	}
	return nil
}
