// Package quarantine writes rows again that the centre's store refused, when
// what was the matter has been mended.
//
// A row leaves the quarantine only after the store has given it back, in one
// transaction with the ledger's count and the work that it makes due. While rows
// of a cluster are written, the cluster is not pulled: a newer revision of their
// window can't come in between and be overwritten. A row that is refused again
// stays, with what is the matter now. It decides nothing about when.
package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

var (
	// ErrForeign is a row that names another cluster.
	ErrForeign = errors.New("a row that names another cluster cannot be replayed: mend the cluster's name in the follower's configuration, or discard it")
	// ErrGone is a row that is not there, or not to be replayed any more.
	ErrGone = errors.New("no row to replay")
)

// atOnce is how many rows are written and recorded together.
const atOnce = 1000

// Arrivals tells what rows make due that have just come: *pull.Puller.
type Arrivals interface {
	Arrived(ctx context.Context, cluster string, table schema.Table, windows []schema.Window) ([]registry.Due, error)
}

// Gate keeps a cluster from being pulled: *manager.Manager.
type Gate interface {
	Alone(ctx context.Context, cluster string, do func(context.Context) error) error
}

// Replayer replays. It is safe for concurrent use.
type Replayer struct {
	registry *registry.Registry
	centre   *influxsync.Server
	arrivals Arrivals
	gate     Gate
}

// New makes a replayer into the centre's databases.
func New(reg *registry.Registry, centre *influxsync.Server, arrivals Arrivals, gate Gate) *Replayer {
	return &Replayer{registry: reg, centre: centre, arrivals: arrivals, gate: gate}
}

// Outcome is what came of a replay.
type Outcome struct {
	Accepted int64                      `json:"accepted"` // rows that the store holds now
	Refused  map[influxsync.Class]int64 `json:"refused"`  // rows that it refused again, by what is the matter now
}

// Replay writes the refused rows that the filter selects. Errors:
// registry.ErrNoFilter, ErrForeign, ErrGone, those of the store (see
// influxsync.ClassOf). After one, the rows that the outcome counts are done, and
// the others are where they were.
func (r *Replayer) Replay(ctx context.Context, filter registry.QuarantineFilter) (Outcome, error) {
	outcome := Outcome{Refused: make(map[influxsync.Class]int64)}
	if err := filter.Validate(); err != nil {
		return outcome, fmt.Errorf("replay: %w", err)
	}
	if filter.Kind == registry.Foreign {
		return outcome, fmt.Errorf("replay: %w", ErrForeign)
	}
	if err := r.check(ctx, filter); err != nil {
		return outcome, fmt.Errorf("replay: %w", err)
	}
	filter.Kind = registry.Refused
	counts, err := r.registry.QuarantineCounts(ctx, filter)
	if err != nil {
		return outcome, fmt.Errorf("replay: %w", err)
	}
	tried := make(map[int64]bool)
	for _, c := range counts {
		filter.Cluster, filter.Table, filter.Class = c.Cluster, c.Table, c.Class
		err := r.gate.Alone(ctx, c.Cluster, func(ctx context.Context) error { return r.table(ctx, filter, tried, &outcome) })
		if err != nil {
			return outcome, fmt.Errorf("replay %s of %s: %w", c.Table, c.Cluster, err)
		}
	}
	return outcome, nil
}

// check looks at rows that were named one by one.
func (r *Replayer) check(ctx context.Context, filter registry.QuarantineFilter) error {
	if len(filter.IDs) == 0 {
		return nil
	}
	rows, err := r.registry.Quarantined(ctx, filter, 0, len(filter.IDs))
	if err != nil {
		return err
	}
	for _, row := range rows {
		switch {
		case row.Kind == registry.Foreign:
			return fmt.Errorf("row %d: %w", row.ID, ErrForeign)
		case !row.Discarded.IsZero():
			return fmt.Errorf("row %d was discarded: %w", row.ID, ErrGone)
		case !row.Superseded.IsZero():
			return fmt.Errorf("row %d: its window came again from another store or in another era, which has the newer value: %w", row.ID, ErrGone)
		}
	}
	if missing := filter.Missing(rows); len(missing) > 0 {
		return fmt.Errorf("%s: %w", Absent(missing), ErrGone)
	}
	return nil
}

// Absent says which rows are not there; of many, the first.
func Absent(ids []int64) string {
	const most = 20
	more := ""
	if len(ids) > most {
		more = fmt.Sprintf(" and %d more", len(ids)-most)
		ids = ids[:most]
	}
	return fmt.Sprintf("no rows %v%s, or they do not meet the rest of the filter", ids, more)
}

// table replays the rows of one class of one cluster's table.
func (r *Replayer) table(ctx context.Context, filter registry.QuarantineFilter, tried map[int64]bool, outcome *Outcome) error {
	var after int64
	for {
		rows, err := r.registry.Replayable(ctx, filter, after, atOnce)
		if err != nil || len(rows) == 0 {
			return err
		}
		after = rows[len(rows)-1].ID
		rows = slices.DeleteFunc(rows, func(row registry.Quarantined) bool { return tried[row.ID] })
		for _, row := range rows {
			tried[row.ID] = true
		}
		if err := r.batch(ctx, filter.Cluster, filter.Table, rows, outcome); err != nil {
			return err
		}
	}
}

func (r *Replayer) batch(ctx context.Context, cluster, name string, rows []registry.Quarantined, outcome *Outcome) error {
	at := slices.IndexFunc(schema.Pulled, func(t schema.Table) bool { return t.Name == name })
	if at < 0 {
		return fmt.Errorf("no table of that name is pulled")
	}
	table := schema.Pulled[at]
	lines := make([]string, len(rows))
	for i, row := range rows {
		lines[i] = row.Line
	}
	db := r.centre.Database(table.DB)
	refusals, err := db.WriteLines(ctx, lines)
	if err != nil {
		return err
	}
	replay := registry.Replay{Cluster: cluster, Table: name}
	refused := make(map[int]bool)
	for _, refusal := range refusals {
		row := rows[refusal.Index]
		row.Class, row.Reason = refusal.Class, refusal.Reason
		replay.Refused, refused[refusal.Index] = append(replay.Refused, row), true
	}
	for i, row := range rows {
		if !refused[i] {
			replay.Accepted = append(replay.Accepted, row)
		}
	}
	windows := windowsOf(replay.Accepted)
	if err := confirm(ctx, db, cluster, name, windows, replay.Accepted); err != nil {
		return err
	}
	due, err := r.arrivals.Arrived(ctx, cluster, table, windows)
	if err != nil {
		return err
	}
	if err := r.registry.Replayed(ctx, replay, due); err != nil {
		return err
	}
	outcome.Accepted += int64(len(replay.Accepted))
	for _, row := range replay.Refused {
		outcome.Refused[row.Class]++
	}
	return nil
}

// confirm reads the rows back.
func confirm(ctx context.Context, db *influxsync.Database, cluster, table string, windows []schema.Window, rows []registry.Quarantined) error {
	missing := make(map[uint64]bool)
	for _, row := range rows {
		missing[row.Hash] = true
	}
	for _, window := range windows {
		where := []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}
		err := db.TimeQuery(ctx, table, window, where, func(p influxsync.Point) error {
			delete(missing, p.Hash())
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the store took %d rows and does not return %d of them: %w", len(rows), len(missing), influxsync.ErrMismatch)
	}
	return nil
}

// windowsOf are the windows of the rows, each once.
func windowsOf(rows []registry.Quarantined) []schema.Window {
	var windows []schema.Window
	known := make(map[schema.Window]bool)
	for _, row := range rows {
		w := schema.Window{From: row.From, To: row.To}
		if !known[w] {
			known[w], windows = true, append(windows, w)
		}
	}
	return windows
}
