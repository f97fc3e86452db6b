package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/processors"
)

// Cell is what somebody used in one place and one step, in stored units, without a
// price.
type Cell struct {
	From, To                   time.Time
	Customer, Project, User    string // schema.Unassigned where no rule says
	Namespace                  string
	Hardware                   string
	Provider, Region           string
	Quantities                 processors.Quantities
	Uptime, Covered            int64 // ms of pods' time alive, and of that with readings
	EnergyMeasured             int64 // mJ of the energy that closed meter intervals cover
	EnergyIntegrated           int64 // mJ of that which rests on meters' watts
	EnergyActive, EnergyIdle   int64 // mJ of the energy; the rest is overhead
	Heat                       int64 // mJ of the energy that became heat; 0 where that was not computed
	CarbonMicrograms, CarbonOf int64 // location-based CO2e, and of how much energy (mJ) it is
}

// cellKeys are what cells are by.
var cellKeys = []Key{Customer, Project, User, Namespace, Hardware, Provider, Region}

// Cells are what was used in a cluster in a window, by step (0 is the whole
// window; else whole quarters), ordered by time and key. It fails where rows per
// pod are needed, for rules by label, and have been deleted (ErrExpired).
func (e *Engine) Cells(ctx context.Context, cluster string, w schema.Window, step time.Duration) ([]Cell, error) {
	question := Request{Aggregate: cellKeys, Step: step, Filter: []Condition{{Key: Cluster, Values: []string{cluster}}}}
	table, err := e.tally(ctx, question, w)
	if err != nil {
		return nil, err
	}
	if table.need.podRows {
		if err := e.kept(ctx, question, w, table); err != nil {
			return nil, fmt.Errorf("cells of %s in %s: %w", cluster, w, err)
		}
	}
	carbon, err := e.figuresOf(ctx, question, usage.AboutCarbon, w)
	if err != nil {
		return nil, err
	}
	cells := make([]Cell, 0, len(table.rowsByID))
	for _, row := range table.rowsByID {
		cell, err := row.cell()
		if err != nil {
			return nil, fmt.Errorf("cells of %s: %w", cluster, err)
		}
		of := carbon[rowID(row.Window.From, row.Key, cellKeys)]
		cell.CarbonMicrograms, cell.CarbonOf, cell.Heat = of[usage.CarbonLocation], of[usage.CarbonLocationEnergy], of[usage.Heat]
		cells = append(cells, cell)
	}
	slices.SortFunc(cells, func(a, b Cell) int {
		if c := a.From.Compare(b.From); c != 0 {
			return c
		}
		return slices.Compare(a.key(), b.key())
	})
	return cells, nil
}

func (c Cell) key() []string {
	return []string{c.Customer, c.Project, c.User, c.Namespace, c.Hardware, c.Provider, c.Region}
}

func (row *tallyRow) cell() (Cell, error) {
	quantities, err := quantitiesOf(&row.Sums, row.Named)
	if err != nil {
		return Cell{}, err
	}
	for resource, quantity := range quantities {
		if quantity == 0 {
			delete(quantities, resource)
		}
	}
	value := func(k Key) string { return row.Key[string(k)] }
	s := row.Sums
	return Cell{From: row.Window.From.UTC(), To: row.Window.To.UTC(), Customer: value(Customer), Project: value(Project), User: value(User),
		Namespace: value(Namespace), Hardware: value(Hardware), Provider: value(Provider), Region: value(Region), Quantities: quantities,
		Uptime: s[usage.Uptime], Covered: 1000 * s[usage.Coverage], EnergyMeasured: s[usage.EnergyMeasured], EnergyIntegrated: s[usage.EnergyIntegrated],
		EnergyActive: s[usage.EnergyActive], EnergyIdle: s[usage.EnergyIdle]}, nil
}

// ErrExpired are rows per pod that have been deleted, where only they can say whose
// something was.
var ErrExpired = fmt.Errorf("the rows per pod of that time have been deleted, and rules by label need them: name namespaces in the rules of that time")

// kept compares the pods' time in the rows per pod with that of the quarters, which
// are kept for ever: what is missing has been deleted, and must not count as not
// used.
func (e *Engine) kept(ctx context.Context, question Request, w schema.Window, table *tally) error {
	var inPods, inQuarters int64
	for _, row := range table.rowsByID {
		inPods += row.Sums[usage.Uptime]
	}
	question.Aggregate = []Key{Cluster}
	all, err := e.figuresOf(ctx, question, usage.AboutEnergy, w)
	if err != nil {
		return err
	}
	for _, sums := range all {
		inQuarters += sums[usage.Uptime]
	}
	if inPods < inQuarters {
		return ErrExpired
	}
	return nil
}

// Arrived is the completeness of a cluster in a window, and its gaps.
func (e *Engine) Arrived(ctx context.Context, cluster string, w schema.Window) (ClusterCompleteness, []Gap, error) {
	if Scoped(ctx) {
		return ClusterCompleteness{}, nil, fmt.Errorf("completeness of a cluster: %w", ErrScope)
	}
	all, gaps, err := e.completenessOf(ctx, []string{cluster}, w)
	if err != nil || len(all) == 0 {
		return ClusterCompleteness{Cluster: cluster, Complete: true}, gaps, err
	}
	return all[0], gaps, nil
}

// SettledOf is the end of the newest minute that has arrived of a cluster; the zero
// time before the first.
func (e *Engine) SettledOf(ctx context.Context, cluster string) (time.Time, error) {
	if Scoped(ctx) {
		return time.Time{}, fmt.Errorf("end of a cluster: %w", ErrScope)
	}
	return e.settledMinute(ctx, cluster)
}

// PodCells are what the pods of a cluster used in a window, by pod, where the rows
// per pod are there; of those names where pods is not empty.
func (e *Engine) PodCells(ctx context.Context, cluster string, pods []string, w schema.Window, step time.Duration) ([]PodCell, error) {
	var filter []Condition
	if len(pods) > 0 {
		filter = []Condition{{Key: Pod, Values: pods}}
	}
	cells, err := e.podCells(ctx, cluster, []Key{Pod}, filter, w, step, false)
	if err != nil {
		return nil, fmt.Errorf("pods of %s: %w", cluster, err)
	}
	return cells, nil
}

// NodePods are what the pods of one node used in a window, by pod and workload,
// where the rows per pod are there.
func (e *Engine) NodePods(ctx context.Context, cluster, node string, w schema.Window, step time.Duration) ([]PodCell, error) {
	cells, err := e.podCells(ctx, cluster, []Key{Pod, Workload}, []Condition{{Key: Node, Values: []string{node}}}, w, step, false)
	if err != nil {
		return nil, fmt.Errorf("pods of node %s of %s: %w", node, cluster, err)
	}
	return cells, nil
}

// NodeWorkloads are what the workloads of one node used in a window, whose Pod is "";
// the quarters, which are kept for ever, have it. It fails where rows per pod are
// needed, for rules by label, and have been deleted (ErrExpired).
func (e *Engine) NodeWorkloads(ctx context.Context, cluster, node string, w schema.Window, step time.Duration) ([]PodCell, error) {
	cells, err := e.podCells(ctx, cluster, []Key{Workload}, []Condition{{Key: Node, Values: []string{node}}}, w, step, true)
	if err != nil {
		return nil, fmt.Errorf("workloads of node %s of %s: %w", node, cluster, err)
	}
	return cells, nil
}

// podCells are cells by more keys. whole makes rows per pod that have been deleted
// an error.
func (e *Engine) podCells(ctx context.Context, cluster string, by []Key, filter []Condition, w schema.Window, step time.Duration, whole bool) ([]PodCell, error) {
	question := Request{Aggregate: append(slices.Clip(by), cellKeys...), Step: step, Filter: append([]Condition{{Key: Cluster, Values: []string{cluster}}}, filter...)}
	table, err := e.tally(ctx, question, w)
	if err != nil {
		return nil, err
	}
	if whole && table.need.podRows {
		if err := e.kept(ctx, question, w, table); err != nil {
			return nil, err
		}
	}
	cells := make([]PodCell, 0, len(table.rowsByID))
	for _, row := range table.rowsByID {
		cell, err := row.cell()
		if err != nil {
			return nil, err
		}
		cells = append(cells, PodCell{Pod: row.Key[string(Pod)], Workload: row.Key[string(Workload)], Cell: cell})
	}
	slices.SortFunc(cells, func(a, b PodCell) int {
		return cmp.Or(strings.Compare(a.Pod, b.Pod), strings.Compare(a.Workload, b.Workload), a.From.Compare(b.From), slices.Compare(a.key(), b.key()))
	})
	return cells, nil
}

// PodCell is what one pod used, or one workload. Workload is KIND/NAME, and "" where
// it was not asked for.
type PodCell struct {
	Pod, Workload string
	Cell
}
