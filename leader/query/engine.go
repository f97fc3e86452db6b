package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Config bounds the answers.
type Config struct {
	PageRows int           // rows on a page where the question names no limit; 0 = 1000
	MaxRows  int           // rows that an answer may have on all pages; 0 = 200,000
	MaxLag   time.Duration // a cluster that is further behind does not hold back relative windows; 0 = 15 min
}

func (c Config) withDefaults() Config {
	if c.PageRows <= 0 {
		c.PageRows = 1000
	}
	if c.MaxRows <= 0 {
		c.MaxRows = 200_000
	}
	if c.MaxLag <= 0 {
		c.MaxLag = 15 * time.Minute
	}
	return c
}

// Reader answers the statements of the engine: *influxsync.Database, or one that has
// older rows from elsewhere.
type Reader interface {
	Query(ctx context.Context, q influxsync.Query, each func(influxsync.Point) error) error
}

// Stores are the centre's databases.
type Stores struct {
	Minute, Quarter Reader
}

// Engine answers questions. It is safe for concurrent use.
type Engine struct {
	config   Config
	stores   Stores
	registry *registry.Registry
	clock    clock.Clock
	priced   map[string][]slice // by their price lists; nil where nothing is kept
}

// New makes an engine.
func New(config Config, stores Stores, books *registry.Registry, clk clock.Clock) *Engine {
	return &Engine{config: config.withDefaults(), stores: stores, registry: books, clock: clk}
}

// Usage answers a question about usage, energy and cost. Errors: *InputError,
// ErrOverflow, and what the stores say.
func (e *Engine) Usage(ctx context.Context, request Request) (Answer, error) {
	request.About = usage.AboutUsage
	_, answer, err := e.answer(ctx, request)
	return answer, err
}

// answer is the page that was asked for, and what it was cut out of.
func (e *Engine) answer(ctx context.Context, request Request) (*tally, Answer, error) {
	if err := errors.Join(request.Check(), scopesOf(ctx).allows(request)); err != nil {
		return nil, Answer{}, err
	}
	clusters, settled, err := e.settled(ctx, request.Filter)
	if err != nil {
		return nil, Answer{}, err
	}
	if request.Window == "" {
		request.Window = "1h"
	}
	w, err := usage.ParseWindow(request.Window, settled)
	if err != nil {
		return nil, Answer{}, err
	}
	if steps := w.Length() / max(request.Step, schema.Minute); request.Step > 0 && steps > time.Duration(e.config.MaxRows) {
		return nil, Answer{}, usage.Wrong("step", request.Step.String(),
			fmt.Sprintf("the window has more than %d of them: take a longer step or a shorter window", e.config.MaxRows))
	}
	table, err := e.tally(ctx, request, w)
	if err != nil {
		return nil, Answer{}, err
	}
	rows, next, total, err := table.page()
	if err != nil {
		return nil, Answer{}, err
	}
	answer := Answer{Answer: usage.Answer{From: w.From, To: w.To, Settled: settled, StepSeconds: int64(request.Step / time.Second),
		Aggregate: request.Aggregate, Total: total, Rows: rows, Next: next, Clusters: clusters, Provisional: table.provisional(), NotApplied: table.notApplied()}}
	if answer.Aggregate == nil {
		answer.Aggregate = []Key{}
	}
	answer.Clusters = slices.DeleteFunc(clusters, func(c ClusterSettled) bool { return !table.tells(c.Cluster) })
	if request.Completeness {
		whole := slices.DeleteFunc(slices.Clone(answer.Clusters), func(c ClusterSettled) bool { return !table.scopes.whole(c.Cluster, fleetsOf(table.parts)...) })
		if answer.Incomplete, err = e.incomplete(ctx, whole, w); err != nil {
			return nil, Answer{}, err
		}
	}
	return table, answer, nil
}

// incomplete are those of the clusters of which something is missing.
func (e *Engine) incomplete(ctx context.Context, clusters []ClusterSettled, w schema.Window) ([]ClusterCompleteness, error) {
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Cluster
	}
	all, _, err := e.completenessOf(ctx, names, w)
	return slices.DeleteFunc(all, func(c ClusterCompleteness) bool { return c.Complete }), err
}

// Settled is where relative windows of the whole fleet end.
func (e *Engine) Settled(ctx context.Context) (time.Time, error) {
	_, end, err := e.settled(ctx, nil)
	return end, err
}

// settled is how far each selected cluster's data reach and where relative
// windows end: the oldest of these ends, without the clusters that are behind
// the newest by more than MaxLag. A cluster whose data lie in the future by more
// than that has a wrong clock and moves nobody else's windows.
func (e *Engine) settled(ctx context.Context, filter []Condition) ([]ClusterSettled, time.Time, error) {
	now := e.clock.Now()
	snapshot, err := e.registry.Fleet(ctx, now)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read fleet: %w", err)
	}
	all := []ClusterSettled{}
	var names []string
	for _, c := range snapshot.Clusters() {
		if scopesOf(ctx).reads(c.Name, snapshot) && usage.KeepsAll(filter, Cluster, c.Name) && usage.KeepsAll(filter, Provider, c.Provider) && usage.KeepsAll(filter, Region, c.Region) {
			names = append(names, c.Name)
		}
	}
	ends, err := e.settledMinutes(ctx, names)
	if err != nil {
		return nil, time.Time{}, err
	}
	var newest time.Time
	for _, name := range names {
		entry := ClusterSettled{Cluster: name}
		if end := ends[name]; !end.IsZero() {
			entry.Settled = &end
			if end.After(newest) && !end.After(now.Add(e.config.MaxLag)) {
				newest = end
			}
		}
		all = append(all, entry)
	}
	if newest.IsZero() {
		return all, now.Truncate(schema.Minute), nil
	}
	end := newest
	for _, c := range all {
		if c.Settled != nil && c.Settled.Before(end) && newest.Sub(*c.Settled) <= e.config.MaxLag {
			end = *c.Settled
		}
	}
	return all, end, nil
}
