package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/reading"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a meter is told.
type Config struct {
	Cluster        string        // immutable id; a tag of every minute row
	Lane           string        // name of the range of windows below; "" is the live lane
	Interval       time.Duration // between two reads of a node
	SettleDeadline time.Duration // after its end a window settles with what is there
	FactsDeadline  time.Duration // after its end a row's missing facts settle as "unknown"
	// SharedRoot says that nodes with one boot id read their host's root group, and
	// not one of their own.
	SharedRoot bool
	// From and To are the windows that this meter settles. The zero From is the
	// minute of the first reading, the zero To is never. The first values are
	// kept in the store under the lane's name and win over later ones, so that
	// two lanes of one store never claim the same window.
	From, To time.Time
}

// Validate lists all that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Cluster == "" {
		errs = append(errs, errors.New("meter: cluster is empty"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"interval", c.Interval}, {"settle deadline", c.SettleDeadline}, {"facts deadline", c.FactsDeadline}} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("meter: %s %v is not positive", d.name, d.value))
		}
	}
	if !c.From.Equal(c.From.Truncate(schema.Minute)) || !c.To.Equal(c.To.Truncate(schema.Minute)) {
		errs = append(errs, fmt.Errorf("meter: lane [%v, %v) is not cut at minutes", c.From, c.To))
	}
	return errors.Join(errs...)
}

// Store is a database of rows. A nil error of Write means that all rows are
// durable; after an error any of them may be.
type Store interface {
	Write(ctx context.Context, points []influxsync.Point) error
	// Rows hands out the rows of a table in a window, in no certain order; of
	// one node, or of all where node is "".
	Rows(ctx context.Context, table, node string, w schema.Window, each func(influxsync.Point) error) error
	// Last hands out the newest row before a moment of each series of a table;
	// of one node, or of all where node is "".
	Last(ctx context.Context, table, node string, before time.Time, each func(influxsync.Point) error) error
}

// Journal is the record of one table's settled windows; *influxsync.Journal is
// one.
type Journal interface {
	// Append adds entries in order, durable at return, and fills in what it
	// alone knows: revision, chain, time.
	Append(ctx context.Context, entries ...influxsync.Entry) ([]influxsync.Entry, error)
	// Latest is the newest entry of a window.
	Latest(w schema.Window) (influxsync.Entry, bool)
}

// Watch is what the API server, or the host, tells of pods and nodes: those
// that live, and those that ended and may still have rows to come.
type Watch interface {
	Nodes() []reading.NodeInfo
	Pods() []reading.PodInfo
}

// Tagger knows a node's facts from the seed, valid at a moment.
type Tagger interface {
	FactsAt(node string, at time.Time) (reading.Facts, bool)
}

// Deps are what a meter works with. Journals has one for each of the tables
// node, pod and container, by the table's name.
type Deps struct {
	Clock    clock.Clock
	Raw      Store
	Minute   Store
	Journals map[string]Journal
	Watch    Watch
	Tagger   Tagger
}

// tables are what the meter writes, in the order of their journal entries.
var tables = []schema.Table{schema.NodeMinute, schema.PodMinute, schema.ContainerMinute}

// ErrNotRestored is what Add and Settle answer before Restore was done.
var ErrNotRestored = errors.New("meter: not restored")

// Meter turns readings into settled minutes. Its methods may be called from
// several goroutines; they run one at a time.
type Meter struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	met  *metrics

	mu sync.Mutex
	state
}

// state is the cache: Restore builds it from the stores.
type state struct {
	restored, stale bool
	nodes           map[string]*node
	hosts           map[string][]*node          // by boot id: several are containers on one host
	from, to, mark  int64                       // Unix ns; from 0: no reading yet, to 0: open
	started         int64                       // when it was restored: deadlines count from here
	unsure          int64                       // windows before it may hold rows of an attempt that failed
	dirty           map[int64]map[string]string // settled windows to revise: node → reason
	waiting         map[int64]map[string]missing
	unsaved         []influxsync.Point // identities, lifetimes, unseen shares: durable before the next minute row
	pending         *batch
	why             string
}

// New checks the configuration and does no I/O. Metrics carry the lane as a label.
func New(cfg Config, deps Deps, log *slog.Logger, reg prometheus.Registerer) (*Meter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for _, table := range tables {
		if deps.Journals[table.Name] == nil {
			return nil, fmt.Errorf("meter: no journal for table %s", table.Name)
		}
	}
	met, err := newMetrics(reg, cfg.Lane)
	if err != nil {
		return nil, fmt.Errorf("meter: register metrics: %w", err)
	}
	return &Meter{cfg: cfg, deps: deps, log: log, met: met}, nil
}
