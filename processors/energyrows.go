package processors

import (
	"cmp"
	"fmt"
	"slices"
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

func compareKeys(a, b RowKey) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Node, b.Node),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.UID, b.UID), cmp.Compare(a.Box, b.Box),
		cmp.Compare(a.WorkloadKind, b.WorkloadKind), cmp.Compare(a.Workload, b.Workload))
}

func compareRows(a, b EnergyRow) int { return compareKeys(a.Key(), b.Key()) }

// sortedRows is the rows in the order of their keys.
func sortedRows(rows []EnergyRow) []EnergyRow {
	if slices.IsSortedFunc(rows, compareRows) {
		return rows
	}
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, compareRows)
	return rows
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
		case i > 0 && compareRows(rows[i-1], row) == 0:
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
