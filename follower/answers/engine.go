// Package answers answers a customer's questions about his own cluster from the
// follower's store: what its meter settled (usage), what its watch saw end
// (runs), and what the leader pushed (energy, cost). The questions and the rows
// are those of the leader's API (internal/usage).
//
// It guarantees that a caller gets rows of those namespaces alone that his
// Sight lets him see, and rows of nodes and of what no pod carries only with
// the whole cluster; an answer names what it covers. Each answer says as of when
// it is, by table, and what nobody has told is unknown, never zero. Nothing of
// it needs the leader.
//
// Sums are int64 sums of the database, added further with overflow checks, over
// minutes for usage and energy. Cost is stored by quarters of an hour: an answer
// holds the quarters that begin in its window, so that windows beside one
// another never count one twice.
package answers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Config bounds the answers. Zero values are the defaults.
type Config struct {
	Cluster    string // whose follower this is
	PageRows   int    // rows on a page where the question names no limit; 0 = 1000
	MaxRows    int    // rows that an answer may have on all pages; 0 = 50,000
	Namespaces int    // namespaces that are looked at for a caller who may not see all; 0 = 256
}

func (c Config) withDefaults() Config {
	if c.PageRows <= 0 {
		c.PageRows = 1000
	}
	if c.MaxRows <= 0 {
		c.MaxRows = 50_000
	}
	if c.Namespaces <= 0 {
		c.Namespaces = 256
	}
	return c
}

// Store opens the follower's databases: *influxsync.Server.
type Store interface {
	Database(name string) *influxsync.Database
}

// Names turns a stored name into the one that the cluster's people know, where
// the follower stores keyed pseudonyms; other names are returned as they are.
type Names interface {
	Resolve(stored string) string
}

// Plain are names that are stored as they are.
type Plain struct{}

// Resolve returns the name.
func (Plain) Resolve(stored string) string { return stored }

// Engine answers questions. It is safe for concurrent use.
type Engine struct {
	config  Config
	store   Store
	names   Names
	settled func() time.Time
	clock   clock.Clock

	revisions Revisions
	days      days
}

// New makes an engine. settled is the end of the newest settled minute, the
// zero time before the first. Without revisions nothing is remembered.
func New(config Config, store Store, names Names, settled func() time.Time, revisions Revisions, clk clock.Clock) *Engine {
	return &Engine{config: config.withDefaults(), store: store, names: names, settled: settled, revisions: revisions, clock: clk}
}

// AsOf is up to when each part of an answer is known; null before the first.
type AsOf struct {
	Settled *time.Time `json:"settled"` // usage: end of the newest settled minute
	Energy  *time.Time `json:"energy"`  // end of the newest minute of energy that the leader pushed
	Cost    *time.Time `json:"cost"`    // end of the newest quarter of cost that the leader pushed
}

// Covers says of which namespaces an answer is.
type Covers struct {
	Cluster    bool     `json:"cluster"`    // all of them, the nodes, and what no pod carries
	Namespaces []string `json:"namespaces"` // else these
}

// Marks are what every answer says of itself beside the leader's form of it.
type Marks struct {
	AsOf   AsOf     `json:"asOf"`
	Covers Covers   `json:"covers"`
	Notes  []string `json:"notes"` // in words: what is not in the answer, and why
}

// UsageAnswer is a page of usage, energy and cost.
type UsageAnswer struct {
	usage.Answer
	Marks
}

// Usage answers a question about usage, with the energy and cost that were
// pushed. Errors: *usage.InputError, *ForbiddenError, usage.ErrOverflow, what
// the sight and the store say.
func (e *Engine) Usage(ctx context.Context, request usage.Request, sight Sight) (UsageAnswer, error) {
	t, err := e.tally(ctx, request, sight, parts{usage: true, energy: true, cost: true})
	if err != nil {
		return UsageAnswer{}, err
	}
	answer, err := t.answer()
	return UsageAnswer{Answer: answer, Marks: t.marks()}, err
}

// usable are the keys that a follower has facts for.
var usable = []usage.Key{usage.Cluster, usage.Box, usage.Node, usage.Namespace, usage.Workload, usage.Pod, usage.Container,
	usage.Claim, usage.StorageClass, usage.Storage}

func check(request usage.Request) error {
	if err := request.Check(); err != nil {
		return err
	}
	if request.Completeness {
		return usage.Wrong("completeness", "true", "the leader's API knows it; here asOf and coverage say what is missing")
	}
	for _, k := range keysOf(request) {
		if _, isLabel := k.LabelName(); !isLabel && !slices.Contains(usable, k) {
			return usage.Wrong("key", string(k), "the cluster itself does not know it; use one or more of "+usage.KeyList(usable)+", or label:NAME")
		}
	}
	return nil
}

// keysOf are the keys that a question asks for or filters by.
func keysOf(request usage.Request) []usage.Key {
	keys := slices.Clone(request.Aggregate)
	for _, c := range request.Filter {
		keys = append(keys, c.Key)
	}
	return keys
}

// window reads the question's window, which ends at the newest settled minute.
func (e *Engine) window(request usage.Request) (schema.Window, time.Time, error) {
	end := e.settled()
	if end.IsZero() {
		end = e.clock.Now().UTC().Truncate(schema.Minute)
	}
	text := request.Window
	if text == "" {
		text = "1h"
	}
	w, err := usage.ParseWindow(text, end)
	if err != nil {
		return w, end, err
	}
	if steps := w.Length() / max(request.Step, schema.Minute); request.Step > 0 && steps > time.Duration(e.config.MaxRows) {
		return w, end, usage.Wrong("step", request.Step.String(),
			fmt.Sprintf("the window has more than %d of them: take a longer step or a shorter window", e.config.MaxRows))
	}
	return w, end, nil
}

// AsOf is up to when each table is known.
func (e *Engine) AsOf(ctx context.Context) (AsOf, error) {
	var all AsOf
	if settled := e.settled(); !settled.IsZero() {
		all.Settled = &settled
	}
	for _, of := range []struct {
		table schema.Table
		field string
		into  **time.Time
	}{{schema.EnergyMinute, schema.EnergyActive, &all.Energy}, {schema.CostQuarter, schema.CostNanos, &all.Cost}} {
		newest := influxsync.Query{Select: []string{of.field}, Aggregate: "last", From: of.table.Name,
			Window: schema.Window{From: time.Unix(0, 0), To: e.clock.Now().Add(24 * time.Hour)}}
		err := e.store.Database(schema.ResultsDB).Query(ctx, newest, func(p influxsync.Point) error {
			end := p.Time.Add(of.table.Grain)
			*of.into = &end
			return nil
		})
		if err != nil {
			return AsOf{}, fmt.Errorf("look up the newest %s: %w", of.table.Name, err)
		}
	}
	if all.Settled != nil && all.Cost != nil && all.Cost.After(*all.Settled) {
		all.Cost = all.Settled // the running quarter holds its settled minutes
	}
	return all, nil
}

// open is from when on an answer may still change: from the newest quarter on,
// or the end of what the leader pushed.
func (a AsOf) open() time.Time {
	var from time.Time
	for _, t := range []*time.Time{a.Settled, a.Energy, a.Cost} {
		if t != nil && (from.IsZero() || t.Before(from)) {
			from = *t
		}
	}
	return from.Truncate(schema.Quarter)
}

// stored are the distinct values of the tag namespace in the tables, resolved:
// name → stored values.
func (e *Engine) stored(ctx context.Context, tables []schema.Table) (map[string][]string, error) {
	found := make(map[string][]string)
	for _, table := range tables {
		db := table.DB
		if table.Name == schema.EnergyMinute.Name || table.Name == schema.CostQuarter.Name {
			db = schema.ResultsDB
		}
		statement := fmt.Sprintf("SHOW TAG VALUES FROM %q WITH KEY = %q", table.Name, schema.Namespace)
		err := e.store.Database(db).Select(ctx, statement, func(p influxsync.Point) error {
			value, _ := p.Field("value")
			name := e.names.Resolve(value.Str())
			if !strings.HasPrefix(name, "__") && !slices.Contains(found[name], value.Str()) {
				found[name] = append(found[name], value.Str())
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list namespaces of %s: %w", table.Name, err)
		}
	}
	return found, nil
}
