// Package audit proves that the centre holds what the ledger says, and that the
// ledger is what the followers' journals say.
//
// It computes rows and digest of each window anew from the centre's rows, a day
// of a table at a time, and compares them with the ledger; then the ledger with
// the follower's journal, if that can be reached. While it looks at a day of a
// table, the cluster is not pulled. Asked to repair, it copies the windows that
// are wrong once more from the follower and looks again. It deletes nothing:
// rows that only the centre has are reported. It never moves a mark.
package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// ErrTable is a table that no leader pulls.
var ErrTable = errors.New("no such table")

// day is what is looked at in one piece.
const day = 24 * time.Hour

// Copier copies windows of a cluster's table once more: *pull.Puller.
type Copier interface {
	Again(ctx context.Context, cluster string, table schema.Table, follower *influxsync.Server, windows []schema.Window) error
}

// Gate keeps a cluster from being pulled: *manager.Manager.
type Gate interface {
	Alone(ctx context.Context, cluster string, do func(context.Context) error) error
}

// Parts are what an audit stands on.
type Parts struct {
	Registry *registry.Registry
	Centre   *influxsync.Server
	Copier   Copier
	Gate     Gate
	// Follower is a cluster's store, or why it cannot be reached.
	Follower func(ctx context.Context, cluster string) (*influxsync.Server, error)
}

// Auditor audits. It is safe for concurrent use.
type Auditor struct {
	parts Parts
	clock clock.Clock
}

// New makes an auditor. It does no I/O.
func New(parts Parts, clk clock.Clock) *Auditor { return &Auditor{parts: parts, clock: clk} }

// Request says what to audit.
type Request struct {
	Cluster string
	Window  schema.Window // of the windows' beginnings
	Table   string        // "" is all that are pulled
	Repair  bool          // copy again what is wrong
}

// Audit looks at a cluster's windows. What does not agree is in the report;
// an error is of the registry or of the centre's store, or ErrTable.
func (a *Auditor) Audit(ctx context.Context, request Request) (Report, error) {
	report := Report{Cluster: request.Cluster, From: request.Window.From, To: request.Window.To, At: a.clock.Now(), Tables: []Table{}}
	tables := schema.Pulled
	if request.Table != "" {
		at := slices.IndexFunc(tables, func(t schema.Table) bool { return t.Name == request.Table })
		if at < 0 {
			return report, fmt.Errorf("audit table %q: %w", request.Table, ErrTable)
		}
		tables = tables[at : at+1]
	}
	for _, table := range tables {
		seen, err := a.table(ctx, request, table)
		if err != nil {
			return report, fmt.Errorf("audit %s of %s: %w", table.Name, request.Cluster, err)
		}
		report.Tables = append(report.Tables, seen)
	}
	return report, nil
}

func (a *Auditor) table(ctx context.Context, request Request, table schema.Table) (Table, error) {
	seen := Table{Table: table.Name, Findings: []Finding{}}
	window, err := a.there(ctx, request, table)
	if err != nil {
		return seen, err
	}
	gone, err := a.gone(ctx, request.Cluster, table, window)
	if err != nil {
		return seen, err
	}
	for _, part := range window.Split(day) {
		if gone[part.From.Truncate(day)] {
			seen.Archived++
			continue
		}
		err := a.parts.Gate.Alone(ctx, request.Cluster, func(ctx context.Context) error {
			return a.day(ctx, request, table, part, &seen)
		})
		if err != nil {
			return seen, err
		}
	}
	return seen, nil
}

// gone are the days whose rows of a table are in the archive alone: they were
// compared with the ledger when they were archived.
func (a *Auditor) gone(ctx context.Context, cluster string, table schema.Table, w schema.Window) (map[time.Time]bool, error) {
	if table.DB != schema.MinuteDB {
		return nil, nil
	}
	days, err := a.parts.Registry.Archived(ctx, cluster, schema.Window{From: w.From.Truncate(day), To: w.To})
	gone := make(map[time.Time]bool)
	for _, d := range days {
		gone[d.Day] = d.Gone
	}
	return gone, err
}

// there is the part of the window in which there can be anything: each day costs
// the follower a reading of its journal.
func (a *Auditor) there(ctx context.Context, request Request, table schema.Table) (schema.Window, error) {
	window := request.Window
	received, any, err := a.parts.Registry.Extent(ctx, request.Cluster, table.Name)
	if err != nil {
		return window, err
	}
	last := a.clock.Now()
	if received.To.After(last) { // the follower's clock is ahead
		last = received.To
	}
	if window.To.After(last) {
		window.To = last
	}
	if first := received.From.Add(-day); any && window.From.Before(first) { // what the ledger lacks is near to what it has
		window.From = first
	}
	if !window.From.Before(window.To) {
		window.From = window.To
	}
	return window, nil
}

// day looks at one day of a table, mends it, and looks again.
func (a *Auditor) day(ctx context.Context, request Request, table schema.Table, window schema.Window, seen *Table) error {
	p := &part{Parts: a.parts, cluster: request.Cluster, table: table, window: window, began: a.clock.Now()}
	findings, err := p.look(ctx)
	if err != nil {
		return err
	}
	if request.Repair {
		if mend := mendable(findings); len(mend) > 0 {
			before := findings
			seen.Repair = append(seen.Repair, p.mend(ctx, mend)...)
			p.began = a.clock.Now()
			if findings, err = p.look(ctx); err != nil {
				return err
			}
			findings = append(repaired(before, findings), findings...)
			sortFindings(findings)
		}
	}
	wrong := make(map[time.Time]bool)
	for _, f := range findings {
		if f.Wrong() && !f.From.IsZero() {
			wrong[f.From] = true
		}
	}
	for _, e := range p.ledger {
		seen.Windows++
		seen.Rows += e.Rows
		if !wrong[e.Window.From] {
			seen.OK++
		}
	}
	if p.unreachable != nil {
		seen.Source = p.unreachable.Error()
	}
	seen.add(findings)
	return a.parts.Registry.MarkAudited(ctx, request.Cluster, table.Name, p.proven(wrong), p.began)
}

// mendable are the windows of findings that a copy may mend.
func mendable(findings []Finding) []schema.Window {
	var windows []schema.Window
	for _, f := range findings {
		if w := (schema.Window{From: f.From, To: f.To}); f.Kind.mendable() && !slices.Contains(windows, w) {
			windows = append(windows, w)
		}
	}
	return windows
}

// repaired are the findings of before that are not among those of after.
func repaired(before, after []Finding) []Finding {
	var gone []Finding
	for _, f := range before {
		same := func(o Finding) bool { return o.Kind == f.Kind && o.From.Equal(f.From) && o.To.Equal(f.To) }
		if f.Kind.mendable() && !slices.ContainsFunc(after, same) {
			f.Repaired = true
			gone = append(gone, f)
		}
	}
	return gone
}

func sortFindings(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int { return a.From.Compare(b.From) })
}

// mend copies windows once more, and says of which it could not and why. Where
// several can't be copied together, it is found out which.
func (p *part) mend(ctx context.Context, windows []schema.Window) []string {
	switch {
	case p.unreachable != nil:
		return []string{"not repaired: " + p.unreachable.Error()}
	case p.journal.store != p.mark.Store || p.mark.Hash != "" && !p.journal.marked:
		return []string{"not repaired: the follower's journal does not go on from what was pulled; the next pull begins an era"}
	}
	err := p.Copier.Again(ctx, p.cluster, p.table, p.follower, windows)
	switch {
	case err == nil:
		return nil
	case len(windows) == 1 || influxsync.ClassOf(err) != "" || ctx.Err() != nil:
		return []string{fmt.Sprintf("%s: not repaired: %v", schema.Window{From: windows[0].From, To: windows[len(windows)-1].To}, err)}
	}
	half := len(windows) / 2
	return append(p.mend(ctx, windows[:half]), p.mend(ctx, windows[half:])...)
}
