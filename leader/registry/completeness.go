package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// Grains of a Completeness.
const (
	GrainQuarter = "quarter"
	GrainDay     = "day" // a UTC day that has settled and was folded
)

// settleTime is how old a window must be before it counts as missing: the
// follower has settled it, and a tick later it is here.
const settleTime = schema.SettleDeadline + time.Minute

// Completeness is one table of one cluster in one quarter or day: what must
// exist, and what has come of it. Expected, Received, Audited and Rated count
// node-windows: a window counts once for each node that had rows in it, or must
// have had, and once where there was no node at all. Of a table of events
// nothing is expected, and each window counts once.
type Completeness struct {
	Table      string    `json:"table"`
	Quarter    time.Time `json:"quarter"` // its start, of a day the day's
	Grain      string    `json:"grain"`
	Expected   int       `json:"expected"`
	ExpectedBy string    `json:"expectedBy,omitempty"` // who says which nodes there were: ByWatch, ByFleet, BySeen
	Received   int       `json:"received"`
	Audited    int       `json:"audited"` // by an audit since it was received
	Rated      int       `json:"rated"`   // its quarter's cost is computed and nothing of it is due
	Windows    int       `json:"windows"` // that came
	Rows       int64     `json:"rows"`
	Revisions  int64     `json:"revisions"` // of all its windows; equals Windows where none was revised
	Coverage   int64     `json:"coverage"`  // 1/1000, the mean of the received windows
	Refused    int64     `json:"refused"`   // rows that the centre's store did not take
	Extra      int64     `json:"extra"`     // rows that only the centre has
	// Unexplained are those of Extra that no earlier era can have left there:
	// they may be usage that is counted twice.
	Unexplained int64     `json:"unexplained"`
	Overlaps    int64     `json:"overlaps"` // windows that came again from a store with another id
	Newest      time.Time `json:"newest,omitzero"`
	Missing     []Gap     `json:"missing,omitempty"`
}

// Completeness compares what was received of a cluster with what must exist,
// for each table that is pulled and each quarter that the window touches; days
// that were folded are one part each. From the cluster's beginning (its first
// received window or its validFrom, whichever is earlier; failing both, when it
// was added) to its validTo or the window's end, each minute that is old enough
// must have a window in each table of minutes, with rows of each node that there
// was by the cluster's own Node objects, by the described fleet where it tells
// of none, else by the windows around it. A node that sent rows was there,
// whoever knows of it. Tables of events (object, run) have a window only where
// something happened.
func (r *Registry) Completeness(ctx context.Context, cluster string, w schema.Window) ([]Completeness, error) {
	return r.completeness(ctx, cluster, w, true)
}

// Arrivals is Completeness without Rated, which is of every quarter of the window.
func (r *Registry) Arrivals(ctx context.Context, cluster string, w schema.Window) ([]Completeness, error) {
	return r.completeness(ctx, cluster, w, false)
}

func (r *Registry) completeness(ctx context.Context, cluster string, w schema.Window, rated bool) ([]Completeness, error) {
	objects, err := r.current(ctx) // before the transaction: it takes a connection of its own
	if err != nil {
		return nil, err
	}
	var boxes []string
	if rated {
		if boxes, err = r.boxesOf(ctx, cluster, w); err != nil {
			return nil, err
		}
	}
	tx, err := r.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one view of all tables
	if err != nil {
		return nil, fmt.Errorf("completeness of %s: %w", cluster, err)
	}
	defer func() { _ = tx.Rollback() }()
	c := comparison{q: tx, filling: r.fillingOf(cluster), cluster: cluster, window: w, settled: r.clock.Now().Add(-settleTime), uniform: make(map[span]nodeSet)}
	if err := r.prepare(ctx, &c, objects, boxes, rated); err != nil {
		return nil, fmt.Errorf("completeness of %s: %w", cluster, err)
	}
	var result []Completeness
	for _, table := range schema.Pulled {
		parts, err := c.compare(ctx, table)
		if err != nil {
			return nil, fmt.Errorf("completeness of %s %s: %w", cluster, table.Name, err)
		}
		result = append(result, parts...)
	}
	return result, nil
}

// prepare reads what all tables of a cluster have in common.
func (r *Registry) prepare(ctx context.Context, c *comparison, objects []fleet.Object, boxes []string, rated bool) error {
	var err error
	if c.extents, err = extents(ctx, c.q, "value, ?2", pulled, c.cluster); err != nil {
		return err
	}
	if err := c.read(ctx); err != nil {
		return err
	}
	if c.alive, err = lifetime(ctx, c.q, c.cluster, c.extents); err != nil {
		return err
	}
	if c.link, err = clusterStates(ctx, c.q, c.cluster); err != nil {
		return err
	}
	if rated {
		if c.rated, err = ratedQuarters(ctx, c.q, c.cluster, boxes, c.window); err != nil {
			return err
		}
	}
	c.expected, c.numbers, err = r.expectation(ctx, c.q, objects, c.cluster, c.window)
	return err
}

// lifetime is when a cluster's windows must exist; a zero To is open. extents are what
// was received of each table.
func lifetime(ctx context.Context, q queryer, cluster string, extents map[string]schema.Window) (schema.Window, error) {
	var from, to, recorded sql.NullInt64
	err := q.QueryRowContext(ctx, `SELECT min(valid_from), max(valid_to), (SELECT min(recorded_at) FROM object WHERE kind = ?1 AND name = ?2)
		FROM object WHERE kind = ?1 AND name = ?2 AND superseded_at IS NULL`, fleet.KindCluster, cluster).Scan(&from, &to, &recorded)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return schema.Window{}, err
	}
	var alive schema.Window
	earlier := func(t time.Time) {
		if alive.From.IsZero() || t.Before(alive.From) {
			alive.From = t
		}
	}
	if from.Valid && from.Int64 != always {
		earlier(moment(from.Int64))
	}
	for _, table := range minuteTables {
		if known := extents[table.Name]; !known.From.IsZero() {
			earlier(known.From)
		}
	}
	if alive.From.IsZero() && recorded.Valid {
		alive.From = moment(recorded.Int64)
	}
	if to.Valid && to.Int64 != forever {
		alive.To = moment(to.Int64)
	}
	return alive, nil
}
