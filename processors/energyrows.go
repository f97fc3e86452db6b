package processors

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// RowKey is what identifies a row of the table energy.
type RowKey struct {
	Time                               time.Time
	Cluster, Node, Namespace, Pod, UID string
	Box, WorkloadKind, Workload        string
}

// Key is the row's key.
func (r EnergyRow) Key() RowKey {
	return RowKey{Time: r.Time.UTC(), Cluster: r.Cluster, Node: r.Node, Namespace: r.Namespace, Pod: r.Pod, UID: r.UID,
		Box: r.Box, WorkloadKind: r.WorkloadKind, Workload: r.Workload}
}

// compareRows orders by key: the keys are many and mostly differ early.
func compareRows(a, b *EnergyRow) int {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c
	}
	for _, pair := range [...][2]*string{{&a.Cluster, &b.Cluster}, {&a.Node, &b.Node}, {&a.Namespace, &b.Namespace}, {&a.Pod, &b.Pod}, {&a.UID, &b.UID},
		{&a.Box, &b.Box}, {&a.WorkloadKind, &b.WorkloadKind}, {&a.Workload, &b.Workload}} {
		if c := strings.Compare(*pair[0], *pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

// sortedEnergy is the rows in the order of their keys.
func sortedEnergy(rows []EnergyRow) []EnergyRow {
	inOrder := true
	for i := 1; i < len(rows) && inOrder; i++ {
		inOrder = compareRows(&rows[i-1], &rows[i]) <= 0
	}
	if inOrder {
		return rows
	}
	order := make([]*EnergyRow, len(rows)) // a row is large: it is moved once
	for i := range rows {
		order[i] = &rows[i]
	}
	slices.SortStableFunc(order, compareRows)
	sorted := make([]EnergyRow, len(rows))
	for i, row := range order {
		sorted[i] = *row
	}
	return sorted
}

func checkWindow(w schema.Window) error {
	if !w.From.Before(w.To) || !w.From.Equal(w.From.Truncate(schema.Minute)) || !w.To.Equal(w.To.Truncate(schema.Minute)) {
		return fmt.Errorf("window %s is no whole minutes: %w", w, ErrInput)
	}
	return nil
}

// checkRows looks for contradictions in sorted rows.
func checkRows(rows []EnergyRow, w schema.Window) error {
	for i, row := range rows {
		switch {
		case !w.Contains(row.Time) || !row.Time.Equal(row.Time.Truncate(schema.Minute)):
			return fmt.Errorf("row at %s is no minute of %s: %w", row.Time.Format(time.RFC3339Nano), w, ErrInput)
		case row.Active < 0 || row.Idle < 0 || row.Overhead < 0:
			return fmt.Errorf("row %v has energy below 0: %w", row.Key(), ErrInput)
		case i > 0 && compareRows(&rows[i-1], &rows[i]) == 0:
			return fmt.Errorf("row %v stands twice: %w", row.Key(), ErrInput)
		}
	}
	return nil
}

// eachMinute calls f with each minute's rows, their energies and the sum, mJ.
func eachMinute(rows []EnergyRow, f func(at time.Time, rows []EnergyRow, weights []int64, energy int64) error) error {
	for first := 0; first < len(rows); {
		last := first
		var energy int64
		var weights []int64
		for ; last < len(rows) && rows[last].Time.Equal(rows[first].Time); last++ {
			total, err := Sum(rows[last].Active, rows[last].Idle, rows[last].Overhead)
			if err == nil {
				energy, err = Sum(energy, total)
			}
			if err != nil {
				return err
			}
			weights = append(weights, total)
		}
		if err := f(rows[first].Time.UTC(), rows[first:last], weights, energy); err != nil {
			return err
		}
		first = last
	}
	return nil
}

// carry rounds a sum of fractions of one denominator down, as a whole: what one
// term leaves over goes into the next.
type carry struct{ remainder int64 }

// mulDiv is the whole part of a·b/c with what was left over.
func (l *carry) mulDiv(a, b, c int64) int64 {
	quotient, remainder := mulDivRem(a, b, c)
	if remainder >= c-l.remainder {
		l.remainder = remainder - (c - l.remainder)
		return quotient + 1
	}
	l.remainder += remainder
	return quotient
}
