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

// Completeness is one table of one cluster in one quarter: which windows must
// exist and which have been received.
type Completeness struct {
	Table     string    `json:"table"`
	Quarter   time.Time `json:"quarter"`
	Expected  int       `json:"expected"` // windows; 0 for tables of events
	Received  int       `json:"received"`
	Rows      int64     `json:"rows"`
	Revisions int64     `json:"revisions"` // of all its windows; equals Received where none was revised
	Coverage  int64     `json:"coverage"`  // 1/1000, the mean of the received windows
	Overlaps  int64     `json:"overlaps"`  // windows that came again from a store with another id
	Newest    time.Time `json:"newest,omitzero"`
	Missing   []Gap     `json:"missing,omitempty"`
}

// Gap is a stretch of windows that were not received, and why.
type Gap struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Reason string    `json:"reason"`
}

// Completeness compares what was received of a cluster with what must exist,
// for each table that is pulled and each quarter that the window touches. From
// the cluster's beginning (its first received window or its validFrom,
// whichever is earlier; failing both, when it was added) to its validTo or the
// window's end, each minute must have a window in each table of minutes.
// Tables of events (object, run) have a window only where something happened.
func (r *Registry) Completeness(ctx context.Context, cluster string, w schema.Window) ([]Completeness, error) {
	tx, err := r.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one view of all tables
	if err != nil {
		return nil, fmt.Errorf("completeness of %s: %w", cluster, err)
	}
	defer func() { _ = tx.Rollback() }()
	alive, err := r.lifetime(ctx, tx, cluster)
	if err != nil {
		return nil, fmt.Errorf("completeness of %s: %w", cluster, err)
	}
	states, err := clusterStates(ctx, tx, cluster)
	if err != nil {
		return nil, err
	}
	var result []Completeness
	for _, table := range schema.Pulled {
		c := counting{table: table, alive: alive, states: states, window: w}
		if c.last, _, err = extent(ctx, tx, cluster, table.Name); err != nil {
			return nil, err
		}
		quarters, err := c.count(ctx, tx, cluster)
		if err != nil {
			return nil, fmt.Errorf("completeness of %s: %w", cluster, err)
		}
		result = append(result, quarters...)
	}
	return result, nil
}

// lifetime is when a cluster's windows must exist; a zero To is open.
func (r *Registry) lifetime(ctx context.Context, q queryer, cluster string) (schema.Window, error) {
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
	for _, table := range schema.Pulled {
		if table.DB != schema.MinuteDB {
			continue
		}
		extent, ok, err := extent(ctx, q, cluster, table.Name)
		if err != nil {
			return schema.Window{}, err
		}
		if ok {
			earlier(extent.From)
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

// counting is one table's comparison.
type counting struct {
	table  schema.Table
	alive  schema.Window
	last   schema.Window // received so far
	states []ClusterState
	window schema.Window
}

func (c counting) count(ctx context.Context, q queryer, cluster string) ([]Completeness, error) {
	quarters := make(map[int64]Completeness)
	err := each(ctx, q, func(scan func(...any) error) error {
		var k Completeness
		var quarter, newest int64
		err := scan(&quarter, &k.Received, &k.Revisions, &k.Rows, &k.Coverage, &k.Overlaps, &newest)
		k.Newest = moment(newest)
		quarters[quarter] = k
		return err
	}, `SELECT quarter, count(*), sum(revision), sum(rows), sum(coverage) / count(*), sum(overlaps), max(received_at) FROM ledger
		WHERE cluster = ? AND tbl = ? AND window_from >= ? AND window_from < ? GROUP BY quarter`,
		cluster, c.table.Name, nanos(c.window.From), nanos(c.window.To))
	if err != nil {
		return nil, err
	}
	var result []Completeness
	for _, w := range c.within(quarters).Split(schema.Quarter) {
		k := quarters[nanos(quarterOf(w.From))]
		k.Table, k.Quarter = c.table.Name, quarterOf(w.From)
		due := c.expected(w)
		if k.Expected = len(due); k.Received < k.Expected || w.Contains(c.alive.To) { // some may stand after the end
			var received map[int64]bool
			if k.Received > 0 {
				if received, err = windows(ctx, q, cluster, c.table.Name, w); err != nil {
					return nil, err
				}
			}
			c.missing(&k, due, received)
		}
		if k.Expected > 0 || k.Received > 0 {
			result = append(result, k)
		}
	}
	return result, nil
}

// within is the part of the window that can have something to say: where the
// cluster was alive, and from the first to the last quarter with rows.
func (c counting) within(quarters map[int64]Completeness) schema.Window {
	part := c.window
	first, last := c.alive.From, c.alive.To
	for start := range quarters {
		if from := moment(start); first.IsZero() || from.Before(first) {
			first = from
		}
		if to := moment(start).Add(schema.Quarter); !last.IsZero() && to.After(last) {
			last = to
		}
	}
	if first.IsZero() {
		return schema.Window{}
	}
	if start := quarterOf(first); start.After(part.From) {
		part.From = start
	}
	if !last.IsZero() && last.Before(part.To) {
		part.To = last
	}
	return part
}

// windows are the starts of the windows in w that were received.
func windows(ctx context.Context, q queryer, cluster, table string, w schema.Window) (map[int64]bool, error) {
	received := make(map[int64]bool)
	err := each(ctx, q, func(scan func(...any) error) error {
		var from int64
		err := scan(&from)
		received[from] = true
		return err
	}, "SELECT window_from FROM ledger WHERE cluster = ? AND tbl = ? AND window_from >= ? AND window_from < ?",
		cluster, table, nanos(w.From), nanos(w.To))
	return received, err
}

// expected are the starts of the windows that must exist in the part w of a
// quarter.
func (c counting) expected(w schema.Window) []time.Time {
	if c.table.DB != schema.MinuteDB || c.alive.From.IsZero() {
		return nil
	}
	first := w.From.Truncate(c.table.Grain)
	if first.Before(w.From) {
		first = first.Add(c.table.Grain)
	}
	var due []time.Time
	for at := first; at.Before(w.To); at = at.Add(c.table.Grain) {
		if at.Add(c.table.Grain).After(c.alive.From) && (c.alive.To.IsZero() || at.Before(c.alive.To)) {
			due = append(due, at)
		}
	}
	return due
}

// missing joins the windows that are due and were not received to gaps.
func (c counting) missing(k *Completeness, due []time.Time, received map[int64]bool) {
	for _, at := range due {
		if received[nanos(at)] {
			continue
		}
		next := at.Add(c.table.Grain)
		if n := len(k.Missing); n > 0 && k.Missing[n-1].To.Equal(at) {
			k.Missing[n-1].To = next
			continue
		}
		k.Missing = append(k.Missing, Gap{From: at, To: next})
	}
	for i := range k.Missing {
		k.Missing[i].Reason = c.reason(k.Missing[i])
	}
}

// reason says why a gap is there, by the state of the link in its time.
func (c counting) reason(g Gap) string {
	for i := len(c.states) - 1; i >= 0; i-- {
		s := c.states[i]
		ended := i+1 < len(c.states) && !c.states[i+1].Since.After(g.From)
		if s.State == StateOK || ended || !s.Since.Before(g.To) {
			continue
		}
		text := fmt.Sprintf("not received: follower %s since %s", s.State, s.Since.Format(time.RFC3339))
		if i+1 < len(c.states) {
			text += " until " + c.states[i+1].Since.Format(time.RFC3339)
		}
		if s.Message != "" {
			text += ": " + s.Message
		}
		return text
	}
	switch {
	case c.last.From.IsZero():
		return "not received: nothing has come of this table yet"
	case !g.To.After(c.last.From):
		return "not received: before the first window that the follower settled"
	case !g.From.Before(c.last.To):
		return "not received yet: the follower's newest window ends at " + c.last.To.Format(time.RFC3339)
	}
	return "not received: the follower's journal does not name it"
}
