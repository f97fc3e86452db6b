// Package pull copies a cluster's settled windows into the centre, table by
// table, by the follower's journal.
//
// It guarantees that the mark, the ledger and the work that the windows make
// due are one transaction, made after the centre has confirmed the rows, and
// that rows which name another cluster are kept apart. It decides nothing about
// when to pull.
package pull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"golang.org/x/sync/errgroup"
)

// entriesAtOnce is how many journal entries one step follows: four hours of
// minutes, so that progress shows while a backlog is copied.
const entriesAtOnce = 240

// ErrQuarantineFull is a table that is not pulled because too many of its rows
// were refused by the centre's store: they are safe at their source until
// somebody has replayed or discarded those that are here.
var ErrQuarantineFull = errors.New("quarantine is full")

// tablesAtOnce bounds the tables of one cluster that are copied side by side.
const tablesAtOnce = 3

// Puller copies windows.
type Puller struct {
	registry *registry.Registry
	centre   *influxsync.Server
	options  Options
}

// New makes a puller into the centre's databases minute and facts.
func New(reg *registry.Registry, centre *influxsync.Server) *Puller {
	return NewWith(reg, centre, Options{})
}

// Result is what one pull brought.
type Result struct {
	Windows     int // confirmed, over all tables
	Rows        int
	Quarantined int
	Eras        []string // tables that began a new era
}

func (r *Result) add(o Result) {
	r.Windows += o.Windows
	r.Rows += o.Rows
	r.Quarantined += o.Quarantined
	r.Eras = append(r.Eras, o.Eras...)
}

// Pull follows the journals of all tables to their ends. A table that fails does
// not hold up the others; what was confirmed before stays.
func (p *Puller) Pull(ctx context.Context, cluster string, follower *influxsync.Server) (Result, error) {
	var group errgroup.Group
	group.SetLimit(tablesAtOnce)
	results := make([]Result, len(p.options.Tables))
	failures := make([]error, len(p.options.Tables))
	for i, table := range p.options.Tables {
		group.Go(func() error {
			results[i], failures[i] = p.table(ctx, cluster, table, follower)
			return nil
		})
	}
	_ = group.Wait() // the tables' errors are in failures
	var total Result
	for _, result := range results {
		total.add(result)
	}
	return total, errors.Join(failures...)
}

func (p *Puller) table(ctx context.Context, cluster string, table schema.Table, follower *influxsync.Server) (Result, error) {
	var total Result
	if err := p.pulled(cluster, table); err != nil {
		return total, err
	}
	for {
		room, err := p.registry.QuarantineRoom(ctx, cluster, table.Name)
		if err != nil {
			return total, err
		}
		if room <= 0 {
			return total, fmt.Errorf("pull %s of %s: %w", table.Name, cluster, ErrQuarantineFull)
		}
		mark, err := p.registry.Mark(ctx, cluster, table.Name)
		if err != nil {
			return total, err
		}
		synced, err := p.options.Sync(ctx, p.request(cluster, table, follower, mark))
		if err != nil {
			return total, err
		}
		if len(synced.Windows) == 0 && synced.Mark == mark {
			return total, nil
		}
		if err := p.confirm(ctx, cluster, table, synced, p.registry.Received); err != nil {
			return total, err
		}
		total.Windows += len(synced.Windows)
		total.Rows += synced.Rows
		total.Quarantined += synced.ForeignRows
		if synced.NewEra {
			total.Eras = append(total.Eras, table.Name)
		}
		if !synced.More {
			return total, nil
		}
	}
}

func (p *Puller) request(cluster string, table schema.Table, follower *influxsync.Server, mark influxsync.Mark) influxsync.SyncRequest {
	request := influxsync.SyncRequest{Source: follower.Database(table.DB), Sink: p.centre.Database(table.DB),
		Table: table, Cluster: cluster, Mark: mark, Limit: entriesAtOnce}
	if slices.Contains(table.Tags, schema.Node) {
		request.CountBy = schema.Node // the ledger says which nodes a window came of
	}
	if table.Name == schema.NodeMinute.Name {
		request.CountIf = read
	}
	return request
}

// read says of a node's row whether the node was read: in the window, or after it,
// so that what it used was spread over the window too. A node that nobody reached
// has a row, with zeros: it does not count. Nor is anybody late who did not read a
// node in the minute in which it joined or left.
func read(field func(name string) int64) bool {
	alive := field(schema.Uptime)
	return field(schema.Coverage) > 0 || field(schema.Interpolated) > 0 || alive > 0 && alive < schema.Minute.Milliseconds()
}

// ErrPushed is a table that the follower does not write: a leader gave it what
// stands there, and would count its own results as what was metered.
var ErrPushed = errors.New("only what the follower settled is pulled, never what was pushed")

// pulled refuses every table but those that a follower writes itself.
func (p *Puller) pulled(cluster string, table schema.Table) error {
	own := func(o schema.Table) bool { return o.Name == table.Name && o.DB == table.DB }
	if table.DB == schema.ResultsDB || !slices.ContainsFunc(p.options.Tables, own) {
		return fmt.Errorf("pull %s.%s of %s: %w", table.DB, table.Name, cluster, ErrPushed)
	}
	return nil
}

// Again copies windows of one table once more, as the newest entries of the
// follower's journal have them, and records them without moving the mark.
func (p *Puller) Again(ctx context.Context, cluster string, table schema.Table, follower *influxsync.Server, windows []schema.Window) error {
	if err := p.pulled(cluster, table); err != nil {
		return err
	}
	mark, err := p.registry.Mark(ctx, cluster, table.Name)
	if err != nil {
		return err
	}
	copied, err := influxsync.CopyWindows(ctx, p.request(cluster, table, follower, mark), windows)
	if err != nil {
		return err
	}
	return p.confirm(ctx, cluster, table, copied, p.registry.Repaired)
}

// recorder is Received or Repaired of a registry.
type recorder func(ctx context.Context, cluster, table string, receipt registry.Receipt, due []registry.Due) error

// confirm records what the centre holds now.
func (p *Puller) confirm(ctx context.Context, cluster string, table schema.Table, synced influxsync.SyncResult, record recorder) error {
	if len(synced.Foreign) > 0 {
		reason := fmt.Sprintf("the row names another cluster than %s, whose follower it came from", cluster)
		if err := p.registry.Quarantine(ctx, cluster, table.Name, synced.Foreign, reason); err != nil {
			return err
		}
	}
	windows := make([]schema.Window, len(synced.Windows))
	for i, w := range synced.Windows {
		windows[i] = w.Window
	}
	due, err := p.Arrived(ctx, cluster, table, windows)
	if err != nil {
		return err
	}
	return record(ctx, cluster, table.Name, registry.Receipt{
		Mark: synced.Mark, Windows: synced.Windows, Refused: synced.Refused, NewEra: synced.NewEra,
	}, due)
}

// Arrived tells what rows of the windows make due that have just come into the
// centre's store, by whatever way, and puts objects among them into the
// registry.
func (p *Puller) Arrived(ctx context.Context, cluster string, table schema.Table, windows []schema.Window) ([]registry.Due, error) {
	if table.Name == schema.Object.Name {
		return nil, p.keepObjects(ctx, cluster, windows)
	}
	return p.due(ctx, cluster, table, windows)
}

// keepObjects puts the objects of the windows into the registry.
func (p *Puller) keepObjects(ctx context.Context, cluster string, windows []schema.Window) error {
	var rows []influxsync.Point
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}
	for _, window := range windows {
		err := p.centre.Database(schema.FactsDB).TimeQuery(ctx, schema.Object.Name, window, where, func(row influxsync.Point) error {
			rows = append(rows, row)
			return nil
		})
		if err != nil {
			return fmt.Errorf("read objects of %s: %w", cluster, err)
		}
	}
	return p.registry.PutObjects(ctx, rows)
}

// due is what the windows make due: the power of the boxes that the cluster's
// nodes stand in, and the cluster's sums.
func (p *Puller) due(ctx context.Context, cluster string, table schema.Table, windows []schema.Window) ([]registry.Due, error) {
	volumes := table.Name == schema.VolumeMinute.Name // no power is shared out by them
	if !volumes && table.Name != schema.PodMinute.Name && table.Name != schema.NodeMinute.Name {
		return nil, nil
	}
	var quarters []time.Time
	for _, window := range windows {
		quarters = append(quarters, schema.WindowAt(window.From, schema.Quarter).From)
	}
	slices.SortFunc(quarters, time.Time.Compare)
	var due []registry.Due
	for _, quarter := range slices.CompactFunc(quarters, time.Time.Equal) {
		var scopes []string
		if !volumes {
			var err error
			if scopes, err = p.scopes(ctx, cluster, schema.WindowAt(quarter, schema.Quarter)); err != nil {
				return nil, err
			}
		}
		for _, scope := range scopes {
			due = append(due, registry.Due{Processor: registry.ProcessorPower, Scope: scope, Quarter: quarter, Reason: "usage of " + cluster})
		}
		due = append(due, registry.Due{Processor: registry.ProcessorUsage, Scope: cluster, Quarter: quarter, Reason: "usage"})
	}
	return due, nil
}

// scopes are the boxes in which the cluster's nodes stood at some time of the
// quarter, and its nodes while they stood in none.
func (p *Puller) scopes(ctx context.Context, cluster string, quarter schema.Window) ([]string, error) {
	cuts, err := p.registry.Cuts(ctx, quarter)
	if err != nil {
		return nil, err
	}
	var scopes []string
	var snapshots []*fleet.Fleet
	for _, at := range append(cuts, quarter.From) {
		snapshot, err := p.registry.Fleet(ctx, at)
		if err != nil {
			return nil, err
		}
		snapshots = append(snapshots, snapshot)
		for _, box := range snapshot.BoxesOfCluster(cluster) {
			scopes = append(scopes, snapshot.MeteredWith(box.Name)...)
		}
	}
	query := influxsync.Query{Select: []string{schema.Uptime}, Aggregate: "count", From: schema.NodeMinute.Name,
		Group: []string{schema.Node}, Window: quarter, Where: []influxsync.Condition{{Tag: schema.Cluster, Value: cluster}}}
	err = p.centre.Database(schema.MinuteDB).Query(ctx, query, func(row influxsync.Point) error {
		name := row.Tag(schema.Node)
		loose := func(f *fleet.Fleet) bool {
			node, _ := f.Node(cluster, name)
			return node.Box == ""
		}
		if slices.ContainsFunc(snapshots, loose) {
			scopes = append(scopes, registry.LooseScope(cluster, name))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("nodes of %s: %w", cluster, err)
	}
	slices.Sort(scopes)
	return slices.Compact(scopes), nil
}
